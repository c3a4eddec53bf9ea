"""The classroom PIN: one page that asks for it, one cookie that remembers it, `Authorization: Bearer` for programs."""

from __future__ import annotations

import hmac
import html
import time
from collections import deque
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import parse_qs

from demos import visitor
from demos.replies import refuse, reply
from demos.text import say

PIN_COOKIE = "synesthesia-pin"
PATH = "/pin"
FREE = ("/healthz",)
TRIES = 10  # wrong ones per address and minute
_LONGEST = 1_000  # bytes of the form
_ADDRESSES = 10_000

PAGE = """<!doctype html><html lang="{lang}"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1"><title>{title}</title><style>
body{{font:16px system-ui,sans-serif;display:grid;place-items:center;min-height:90vh;margin:0;color-scheme:light dark}}
form{{display:grid;gap:12px;padding:24px;max-width:320px}}
input,button{{font:inherit;padding:12px;border:1px solid;border-radius:8px;min-height:44px}}
</style></head><body><form method="post" action="/pin"><h1>{title}</h1><label for="pin">{ask}</label>
<input id="pin" name="pin" type="password" inputmode="numeric" autocomplete="off" required autofocus>
<button>{enter}</button><p role="alert">{wrong}</p></form></body></html>"""


class PinGate:
    """Lets in who has shown the PIN; ten wrong tries a minute and address."""

    def __init__(
        self, app: Callable[..., Awaitable[None]], pin: str, signer: visitor.Signer, *, embedded: bool
    ) -> None:
        self.app = app
        self.pin = pin
        self.signer = signer
        self.embedded = embedded
        self.wrong: dict[str, deque[float]] = {}

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["path"] in FREE or self._has_cookie(scope):
            return await self.app(scope, receive, send)
        bearer = visitor.header(scope, "authorization").removeprefix("Bearer ")
        if scope["path"] == PATH and scope["method"] == "POST":
            return await self._try(scope, receive, send)
        if bearer and self._is_right(scope, bearer):
            return await self.app(scope, receive, send)
        if scope["path"] == "/":
            return await self._ask(scope, send, 200)
        await refuse(scope, send, 401, "pin_needed")

    def _has_cookie(self, scope: MutableMapping[str, Any]) -> bool:
        return self.signer.read(visitor.cookies_of(scope).get(PIN_COOKIE, "")) == "pin"

    def _is_right(self, scope: MutableMapping[str, Any], given: str) -> bool:
        now = time.monotonic()
        if len(self.wrong) > _ADDRESSES:
            self.wrong.clear()
        tries = self.wrong.setdefault(visitor.address_of(scope), deque(maxlen=TRIES))
        if len(tries) == TRIES and now - tries[0] < 60:
            return False
        right = hmac.compare_digest(given.encode(), self.pin.encode())
        if not right:
            tries.append(now)
        return right

    async def _try(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        body = b""
        more = True
        while more and len(body) < _LONGEST:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        given = parse_qs(body.decode("utf-8", "replace")).get("pin", [""])[0]
        if not self._is_right(scope, given):
            return await self._ask(scope, send, 403, wrong=True)
        line = visitor.cookie(PIN_COOKIE, self.signer.sign("pin"), embedded=self.embedded, seconds=43_200)
        await reply(send, 303, b"", "text/plain", ((b"location", b"/"), (b"set-cookie", line.encode())))

    async def _ask(self, scope: MutableMapping[str, Any], send: Any, status: int, *, wrong: bool = False) -> None:
        lang = visitor.language_of(scope)
        words = {key: html.escape(say(f"pin_{key}", lang)) for key in ("title", "ask", "enter")}
        page = PAGE.format(lang=lang, wrong=html.escape(say("pin_wrong", lang)) if wrong else "", **words)
        await reply(send, status, page.encode(), "text/html; charset=utf-8")
