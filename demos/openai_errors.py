"""Errors as OpenAI's objects and status codes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, TypeVar

from fastapi import Request
from starlette.responses import JSONResponse, Response

from demos.replies import error_body, explain
from demos.visitor import language_of
from pipelines.core.errors import DemoError, InvalidInput, TooMany, UnknownModel

T = TypeVar("T")
_NAMES = {  # our parameter -> OpenAI's
    "max_new_tokens": "max_tokens",
    "text": "input",
}


def error_of(error: DemoError, lang: str) -> tuple[int, dict[str, Any]]:
    """(status, error object). What is wrong with a request is 400 here, as OpenAI has it."""
    status = 400 if error.status == 422 else error.status
    kind = "server_error"
    if isinstance(error, InvalidInput):
        kind = "invalid_request_error"
    elif isinstance(error, TooMany):
        kind = "rate_limit_error"
    code = "model_not_found" if isinstance(error, UnknownModel) else error.code
    body = error_body(code, explain(error, lang), kind)
    name = error.params.get("name")
    body["error"]["param"] = "model" if isinstance(error, UnknownModel) else _NAMES.get(str(name), name)
    return status, body


def answering(
    handler: Callable[[T, Request], Awaitable[Response]],
) -> Callable[[T, Request], Awaitable[Response]]:
    """The handler, its DemoErrors as answers."""

    @wraps(handler)
    async def answered(self: T, request: Request) -> Response:
        try:
            return await handler(self, request)
        except DemoError as error:
            status, body = error_of(error, language_of(request))
            headers = {"retry-after": "5"} if status in (429, 503) else None
            return JSONResponse(body, status, headers=headers)

    return answered
