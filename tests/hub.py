"""A model hub on 127.0.0.1 with the Hub's real routes, so that the real client is tested, faults included.

Serves folders. The commit of a repository is the SHA-1 of its content. Knows nothing of models.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

LFS_SUFFIXES = (".safetensors", ".onnx", ".bin", ".gguf")
CHUNK = 64 * 1024


@dataclass
class Fault:
    """What goes wrong with requests for files (or "api" calls) matching `only`, for the first `times` of them."""

    status: int = 0  # answer with this status and `error_code`
    error_code: str = ""  # the Hub's X-Error-Code: GatedRepo, RepoNotFound, RevisionNotFound
    hang: bool = False  # accept the request and say nothing
    truncate: int = -1  # close the connection after so many bytes of the body
    drip: float = 0.0  # seconds between single bytes of the body
    slow: float = 0.0  # seconds between 64 KiB pieces of the body
    flip: int = -1  # invert the byte at this offset
    only: str = "*"
    times: int = 1_000_000

    def take(self, target: str) -> bool:
        """Whether it strikes this target now."""
        if self.times <= 0 or not fnmatch.fnmatch(target, self.only):
            return False
        self.times -= 1
        return True


@dataclass
class Repo:
    """A served folder, and what is wrong with it."""

    folder: Path
    faults: list[Fault] = field(default_factory=list)

    def files(self) -> dict[str, Path]:
        paths = (path for path in sorted(self.folder.rglob("*")) if path.is_file())
        return {path.relative_to(self.folder).as_posix(): path for path in paths}

    def commit(self) -> str:
        digest = hashlib.sha1()
        for name, path in self.files().items():
            digest.update(name.encode() + b"\0" + path.read_bytes())
        return digest.hexdigest()


class LoopbackHub:
    """`add()` folders, point `Settings(hub_endpoint=hub.url)` at it, look at `requests`; a context manager."""

    def __init__(self) -> None:
        self.requests: list[str] = []  # "METHOD path", in order
        self.tokens: list[str] = []  # Authorization headers, in order
        self.ranges: list[str] = []  # the Range headers received
        self.repos: dict[str, Repo] = {}
        self.closing = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def add(self, name: str, folder: Path) -> str:
        """Serve a folder as repository "org/name"; its commit."""
        self.repos[name] = Repo(folder)
        return self.repos[name].commit()

    def break_(self, name: str, **fault: Any) -> Fault:
        """Add a fault to a repository; see Fault."""
        self.repos[name].faults.append(Fault(**fault))
        return self.repos[name].faults[-1]

    def mend(self, name: str) -> None:
        self.repos[name].faults.clear()

    def gets(self, pattern: str = "*") -> int:
        """How many GETs of files matching the pattern arrived."""
        return sum(fnmatch.fnmatch(request, f"GET */resolve/{pattern}") for request in self.requests)

    def close(self) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> LoopbackHub:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _handler(hub: LoopbackHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            return None

        def do_GET(self) -> None:
            self._answer(body=True)

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def _answer(self, *, body: bool) -> None:
            path = unquote(urlsplit(self.path).path)
            hub.requests.append(f"{self.command} {path}")
            hub.tokens.append(self.headers.get("Authorization", ""))
            if self.headers.get("Range"):
                hub.ranges.append(self.headers["Range"])
            try:
                _route(hub, self, path, body)
            except (BrokenPipeError, ConnectionResetError):
                self.close_connection = True

    return Handler


def _route(hub: LoopbackHub, request: BaseHTTPRequestHandler, path: str, body: bool) -> None:
    parts = path.strip("/").split("/")
    api = parts[:2] == ["api", "models"]
    org, name, *rest = parts[2:] if api else parts
    repo = hub.repos.get(f"{org}/{name}")
    if repo is None:
        return _refuse(request, 404, "RepoNotFound")
    route, revision, *inside = rest or ["info", "main"]
    target = "api" if api else "/".join(inside)
    fault = next((fault for fault in repo.faults if fault.take(target)), Fault(times=0))
    if fault.hang:
        hub.closing.wait(60)
        request.close_connection = True
        return None
    if fault.status:
        return _refuse(request, fault.status, fault.error_code)
    if revision not in ("main", repo.commit()) and rest:
        return _refuse(request, 404, "RevisionNotFound")
    if api:
        listing = _tree(repo) if route == "tree" else _info(f"{org}/{name}", repo)
        return _json(request, listing, body)
    if target not in repo.files():
        return _refuse(request, 404, "EntryNotFound")
    return _file(hub, request, repo, target, fault, body)


def _refuse(request: BaseHTTPRequestHandler, status: int, error_code: str) -> None:
    text = b"{}"
    request.send_response(status)
    if error_code:
        request.send_header("X-Error-Code", error_code)
    if status == 429:
        request.send_header("Retry-After", "7")
    request.send_header("Content-Length", str(len(text)))
    request.end_headers()
    if request.command != "HEAD":
        request.wfile.write(text)


def _json(request: BaseHTTPRequestHandler, value: Any, body: bool) -> None:
    text = json.dumps(value).encode()
    request.send_response(200)
    request.send_header("Content-Type", "application/json")
    request.send_header("Content-Length", str(len(text)))
    request.end_headers()
    if body:
        request.wfile.write(text)


def _identity(path: Path) -> tuple[str, str, int]:
    """Git blob id, SHA-256 if it is stored as LFS ("" otherwise), size."""
    data = path.read_bytes()
    blob = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
    return blob, hashlib.sha256(data).hexdigest() if path.suffix in LFS_SUFFIXES else "", len(data)


def _info(name: str, repo: Repo) -> dict[str, Any]:
    siblings = []
    for file, path in repo.files().items():
        blob, sha, size = _identity(path)
        entry: dict[str, Any] = {"rfilename": file, "size": size, "blobId": blob}
        if sha:
            entry["lfs"] = {"sha256": sha, "size": size, "pointerSize": 130}
        siblings.append(entry)
    return {"_id": name, "id": name, "modelId": name, "sha": repo.commit(), "siblings": siblings, "tags": []}


def _tree(repo: Repo) -> list[dict[str, Any]]:
    entries = []
    for file, path in repo.files().items():
        blob, sha, size = _identity(path)
        entry: dict[str, Any] = {"type": "file", "oid": blob, "size": size, "path": file}
        if sha:
            entry["lfs"] = {"oid": sha, "size": size, "pointerSize": 130}
        entries.append(entry)
    return entries


def _file(hub: LoopbackHub, request: BaseHTTPRequestHandler, repo: Repo, name: str, fault: Fault, body: bool) -> None:
    path = repo.files()[name]
    blob, sha, size = _identity(path)
    start = _range_start(request.headers.get("Range", ""))
    data = bytearray(path.read_bytes())
    if fault.flip >= 0:
        data[fault.flip] ^= 0xFF
    request.send_response(206 if start else 200)
    if start:
        request.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
    request.send_header("ETag", f'"{sha or blob}"')
    if sha:
        request.send_header("X-Linked-Etag", f'"{sha}"')
        request.send_header("X-Linked-Size", str(size))
    request.send_header("X-Repo-Commit", repo.commit())
    request.send_header("Accept-Ranges", "bytes")
    request.send_header("Content-Length", str(size - start))
    request.end_headers()
    if body:
        _send(hub, request, bytes(data[start:]), fault)


def _range_start(header: str) -> int:
    return int(header.removeprefix("bytes=").partition("-")[0]) if header.startswith("bytes=") else 0


def _send(hub: LoopbackHub, request: BaseHTTPRequestHandler, data: bytes, fault: Fault) -> None:
    for piece in _pieces(data, fault):
        request.wfile.write(piece)
        if hub.closing.wait(fault.drip or fault.slow):
            break
    if fault.truncate >= 0:
        request.close_connection = True


def _pieces(data: bytes, fault: Fault) -> Iterator[bytes]:
    data = data[: fault.truncate] if fault.truncate >= 0 else data
    step = 1 if fault.drip else CHUNK
    for start in range(0, len(data), step):
        yield data[start : start + step]
