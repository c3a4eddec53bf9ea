"""Which files a request may name: those that came through the upload route, and nothing else.

Gradio looks only after launch(), which a mounted app never sees, and fetches addresses it is given: so it is asked
for both here, before Gradio reads the body.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from demos.layer import Layer, Message, Receive, Scope, Send
from demos.replies import refuse
from pipelines.core.errors import InvalidInput

CALLS = re.compile(r"/gradio_api/(queue/join|call/.+|stream/.+)", re.DOTALL)
_DEPTH = 64


def uploaded(value: Any, name: str) -> Path:
    """The file of a FileData that came through the upload route; raises InvalidInput for any other path or address."""
    path = value.get("path") if isinstance(value, dict) else getattr(value, "path", None)
    if not isinstance(path, str) or not is_upload(path):
        raise InvalidInput("not_an_upload", name=name)
    return Path(path).resolve()


def is_upload(path: str) -> bool:
    """True for an existing file inside Gradio's folder."""
    if "\0" in path or len(path) > 4_096:
        return False
    folder = Path(os.environ["GRADIO_TEMP_DIR"]).resolve()
    found = Path(path).resolve()
    return found.is_relative_to(folder) and found.is_file()


class UploadsOnly(Layer):
    """Refuses a call whose JSON names any other file."""

    async def http(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "POST" or not CALLS.fullmatch(scope["path"]):
            return await self.app(scope, receive, send)
        body, broken_off = await _read(receive)
        if broken_off is not None:
            return await self.app(scope, _replay(b"", receive, broken_off), send)
        try:
            wrong = next((path for path in _paths(json.loads(body)) if not is_upload(path)), None)
        except (ValueError, RecursionError):
            return await refuse(scope, send, 400, "not_json")
        if wrong is not None:
            return await refuse(scope, send, 422, "not_an_upload", name="path")
        await self.app(scope, _replay(body, receive), send)


def _paths(value: Any, depth: int = 0) -> Iterator[str]:
    """The path of everything Gradio would take for a file."""
    if depth > _DEPTH:
        raise ValueError("too deep")
    if isinstance(value, dict):
        meta = value.get("meta")
        if isinstance(meta, dict) and meta.get("_type") == "gradio.FileData" and isinstance(value.get("path"), str):
            yield value["path"]
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _paths(item, depth + 1)


async def _read(receive: Receive) -> tuple[bytes, Message | None]:
    """(the body, None), or what came in its place."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return b"", message
        body += message.get("body", b"")
        if not message.get("more_body", False):
            return bytes(body), None


def _replay(body: bytes, receive: Receive, instead: Message | None = None) -> Receive:
    """Receive what was read already, then go on."""
    held: list[Message] = [instead or {"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return held.pop() if held else await receive()

    return again
