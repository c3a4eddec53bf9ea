"""Fetches a repository's files from a model hub: resumable, verified, cancelled within a second, never endless.

Addresses, headers and token are huggingface_hub's. The transport is ours, because its client can be given no
deadline, cannot be cancelled while it waits, and checks sizes but no hashes.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import shutil
import time
from collections.abc import Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import httpx2
from huggingface_hub import hf_hub_url
from huggingface_hub.utils import build_hf_headers

from pipelines.core.errors import DemoError, InvalidInput, ModelLoadFailed, Offline
from pipelines.core.registry import OnProgress
from pipelines.core.specs import AdapterSpec, ModelSpec
from pipelines.core.streaming import Progress, Stop
from pipelines.loaders.hub_files import Folders, RemoteFile, wanted
from pipelines.loaders.locks import locked

T = TypeVar("T")

_POLL = 0.1  # seconds between looks at the stop signal
_REPORT = 0.2  # seconds between progress events
_READ = 2**20


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a download may take. Seconds and bytes."""

    connect: float = 10.0
    stall: float = 12.0  # for an answer to begin, and in any such stretch of a transfer ...
    floor: int = 64 * 1024  # ... at least so many bytes arrive
    total: float = 4 * 3600.0
    retries: int = 3  # of a transfer cut short, as long as nothing new arrives
    reserve: int = 512 * 2**20  # of disk left free


class _CutShort(Exception):
    """The connection ended before the file did."""


class Hub:
    """One endpoint, and the folder that holds what came from it."""

    def __init__(self, endpoint: str, cache: Path, limits: Limits | None = None) -> None:
        self._endpoint = endpoint.rstrip("/")
        self._cache = cache
        self._limits = limits or Limits()

    def fetch(self, repo: str, spec: ModelSpec | AdapterSpec, *, stop: Stop, progress: OnProgress) -> Path:
        """A folder with the files the card needs, all verified. Raises ModelLoadFailed, Offline, Cancelled."""
        folders = Folders.of(self._cache, repo)
        transfer = _Transfer(self._endpoint, repo, self._limits, stop, progress)
        with _disk_errors(repo), locked(folders.root / ".lock", stop):
            return _run(transfer.snapshot(spec, folders), self._limits.total, stop, repo)


def _run(work: Coroutine[Any, Any, T], seconds: float, stop: Stop, repo: str) -> T:
    """Run to the end, to the stop signal or to the deadline; the connection is closed in every case.

    On a thread of its own, for the caller's may have an event loop running.
    """

    async def watch() -> T:
        task = asyncio.ensure_future(work)
        deadline = time.monotonic() + seconds
        while not task.done():
            await asyncio.wait({task}, timeout=_POLL)
            if not task.done() and (stop or time.monotonic() > deadline):
                task.cancel()
                await asyncio.wait({task})
                stop.check()
                raise ModelLoadFailed("hub_deadline", repo=repo, hours=round(seconds / 3600, 1))
        return task.result()

    with ThreadPoolExecutor(1, "hub") as thread:
        return thread.submit(asyncio.run, watch()).result()


class _Transfer:
    """One fetch of one repository."""

    def __init__(self, endpoint: str, repo: str, limits: Limits, stop: Stop, progress: OnProgress) -> None:
        self._endpoint = endpoint
        self._repo = repo
        self._limits = limits
        self._stop = stop
        self._progress = progress
        self._done = 0
        self._total = 0
        self._reported = 0.0

    async def snapshot(self, spec: ModelSpec | AdapterSpec, folders: Folders) -> Path:
        timeout = httpx2.Timeout(self._limits.stall, connect=self._limits.connect)
        visitors = isinstance(spec, AdapterSpec) and bool(spec.owner)  # a repository we did not choose: no token for it
        token = False if visitors else None
        headers = {**build_hf_headers(token=token, library_name="synesthesia"), "Accept-Encoding": "identity"}
        async with httpx2.AsyncClient(headers=headers, timeout=timeout, follow_redirects=True) as client:
            commit, listing = await self._list(client, spec.revision, folders)
            files = wanted(listing, spec, self._repo)
            if visitors and sum(file.size for file in files) > spec.size:
                size = _mb(sum(file.size for file in files))
                raise InvalidInput("upload_too_large", size_mb=size, limit_mb=_mb(spec.size))
            lacking = folders.lacking(commit, files)
            self._total = sum(file.size for file in lacking)
            self._check_disk(folders, lacking)
            for file in lacking:
                await self._file(client, commit, file, folders, spec.sha256)
        return folders.snapshot(commit)

    async def _list(
        self, client: httpx2.AsyncClient, revision: str, folders: Folders
    ) -> tuple[str, tuple[RemoteFile, ...]]:
        """The commit of the revision and its files; asked for once per commit."""
        commit = folders.commit(revision)
        if commit and (known := folders.listing(commit)):
            return commit, known
        at = quote(revision or "main", safe="")
        url = f"{self._endpoint}/api/models/{self._repo}/revision/{at}"
        try:
            response = await client.get(url, params={"blobs": "true"})
        except httpx2.TransportError as error:
            raise self._unreachable(error) from error
        self._check_status(response)
        commit, listing = _parse_listing(response, self._repo)
        folders.remember(revision, commit, listing)
        return commit, listing

    async def _file(
        self, client: httpx2.AsyncClient, commit: str, file: RemoteFile, folders: Folders, known: Mapping[str, str]
    ) -> None:
        """Bring one file, resuming what an earlier attempt left, verify it, then move it into the snapshot."""
        part = folders.partial(file)
        part.parent.mkdir(parents=True, exist_ok=True)
        base, attempts = self._done, self._limits.retries
        while (have := _size(part)) < file.size or not part.exists():
            try:
                await self._body(client, commit, file, part, base)
            except _CutShort as error:
                attempts = self._limits.retries if _size(part) > have else attempts - 1
                if attempts <= 0:
                    raise ModelLoadFailed("hub_interrupted", repo=self._repo, file=file.path) from error
        self._report(file, base + file.size, last=True)
        if not self._verified(part, file, known):
            part.unlink()
            raise ModelLoadFailed("hash_mismatch", repo=self._repo, file=file.path)
        target = folders.snapshot(commit) / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        part.replace(target)
        self._done = base + file.size

    async def _body(self, client: httpx2.AsyncClient, commit: str, file: RemoteFile, part: Path, base: int) -> None:
        have = _size(part)
        url = hf_hub_url(self._repo, file.path, revision=commit, endpoint=self._endpoint)
        headers = {"Range": f"bytes={have}-"} if have else {}
        pace = _Pace(self._limits)
        try:
            async with client.stream("GET", url, headers=headers) as response:
                self._check_status(response)
                have = have if response.status_code == 206 else 0
                with part.open("ab" if have else "wb") as sink:
                    async for chunk in response.aiter_raw():
                        sink.write(chunk)
                        have += len(chunk)
                        self._report(file, base + have)
                        if have < file.size and not pace.keeps(len(chunk)):
                            raise ModelLoadFailed("hub_stalled", repo=self._repo, file=file.path)
        except (httpx2.ConnectError, httpx2.ConnectTimeout) as error:
            raise self._unreachable(error) from error
        except httpx2.ReadTimeout as error:
            raise ModelLoadFailed("hub_stalled", repo=self._repo, file=file.path) from error
        except httpx2.TransportError as error:
            raise _CutShort from error
        if have != file.size:
            if have > file.size:
                part.unlink()
            raise _CutShort

    def _report(self, file: RemoteFile, done: int, *, last: bool = False) -> None:
        now = time.monotonic()
        if last or now - self._reported > _REPORT:
            self._reported = now
            self._progress(Progress("download", done, self._total, file.path))

    def _check_disk(self, folders: Folders, lacking: list[RemoteFile]) -> None:
        missing = sum(max(0, file.size - _size(folders.partial(file))) for file in lacking)
        free = shutil.disk_usage(folders.root).free
        if missing and missing + self._limits.reserve > free:
            raise ModelLoadFailed("disk_full", repo=self._repo, need_mb=_mb(missing), free_mb=_mb(free))

    def _verified(self, path: Path, file: RemoteFile, known: Mapping[str, str]) -> bool:
        """Git's own hash or the LFS hash of the listing, and the card's where it names one."""
        sha256 = hashlib.sha256()
        blob = hashlib.sha1(b"blob %d\0" % file.size, usedforsecurity=False)
        with path.open("rb") as source:
            while piece := source.read(_READ):
                self._stop.check()
                sha256.update(piece)
                blob.update(b"" if file.sha256 else piece)
        listed = sha256.hexdigest() == file.sha256 if file.sha256 else blob.hexdigest() == file.blob
        return listed and known.get(file.path, sha256.hexdigest()) == sha256.hexdigest()

    def _check_status(self, response: httpx2.Response) -> None:
        status, why = response.status_code, response.headers.get("X-Error-Code", "")
        if status < 400:
            return
        if why == "GatedRepo" or status == 403:
            raise ModelLoadFailed("hub_gated", repo=self._repo)
        if why == "RevisionNotFound":
            raise ModelLoadFailed("hub_no_revision", repo=self._repo)
        if status == 404 or why == "RepoNotFound":
            raise ModelLoadFailed("hub_not_found", repo=self._repo)
        if status == 401:
            raise ModelLoadFailed("hub_unauthorized", repo=self._repo)
        if status == 429:
            raise ModelLoadFailed("hub_rate_limited", repo=self._repo)
        raise ModelLoadFailed("hub_failed", repo=self._repo, status=status)

    def _unreachable(self, error: httpx2.TransportError) -> DemoError:
        if isinstance(error, httpx2.TimeoutException):
            return Offline("hub_timeout", repo=self._repo)
        return Offline("hub_unreachable", repo=self._repo)


class _Pace:
    """Notices a transfer that goes on, but so slowly that it will never end."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._since = time.monotonic()
        self._bytes = 0

    def keeps(self, size: int) -> bool:
        self._bytes += size
        now = time.monotonic()
        if now - self._since < self._limits.stall:
            return True
        enough = self._bytes >= self._limits.floor
        self._since, self._bytes = now, 0
        return enough


class _disk_errors:  # noqa: N801 - used as a statement, like contextlib's own
    """A disk that fills up while writing is said so."""

    def __init__(self, repo: str) -> None:
        self._repo = repo

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ModelLoadFailed("disk_filled", repo=self._repo) from error


def _parse_listing(response: httpx2.Response, repo: str) -> tuple[str, tuple[RemoteFile, ...]]:
    try:
        info = response.json()
        files = tuple(
            RemoteFile(s["rfilename"], s["size"], s["blobId"], (s.get("lfs") or {}).get("sha256", ""))
            for s in info["siblings"]
        )
        return info["sha"], files
    except (ValueError, KeyError, TypeError) as error:
        raise ModelLoadFailed("hub_not_a_hub", repo=repo) from error


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _mb(size: int) -> int:
    return max(1, round(size / 2**20))
