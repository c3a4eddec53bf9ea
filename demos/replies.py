"""Short answers made without a framework: refusals of the middleware and small pages, in the visitor's language."""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from demos.text import say
from demos.visitor import language_of
from pipelines.core.errors import DemoError, InvalidInput

log = logging.getLogger(__name__)

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


def error_body(code: str, message: str, kind: str = "invalid_request_error") -> dict[str, Any]:
    """The error object of every REST door, which is OpenAI's."""
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def explain(error: DemoError, lang: str) -> str:
    """The message in a language; of invalid input everything that is wrong with it, a line each."""
    wrong = error.violations if isinstance(error, InvalidInput) else ((error.code, error.params),)
    return "\n".join(say(code, lang, **params) for code, params in wrong)


def unexpected(error: BaseException, lang: str) -> str:
    """A message that tells nothing of the program; the log has the rest under its reference."""
    return explain(expected(error), lang)


def expected(error: BaseException) -> DemoError:
    """The error itself if a person may see it, else one that tells only where to look in the log."""
    if isinstance(error, DemoError):
        return error
    reference = secrets.token_hex(4)
    log.error("unexpected, reference %s", reference, exc_info=error)
    return DemoError("unexpected", reference=reference)


async def refuse(scope: Mapping[str, Any], send: Send, status: int, code: str, **params: Any) -> None:
    """Answer with an error object."""
    body = json.dumps(error_body(code, say(code, language_of(scope), **params)), ensure_ascii=False).encode()
    await reply(send, status, body, "application/json")


async def reply(send: Send, status: int, body: bytes, kind: str, headers: tuple[tuple[bytes, bytes], ...] = ()) -> None:
    """Answer with these bytes and close the exchange."""
    own = [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode()), *headers]
    await send({"type": "http.response.start", "status": status, "headers": own})
    await send({"type": "http.response.body", "body": body})
