"""Puts the language script into the page before any other: Gradio asks the browser for its language very early.

`?lang=` wins and is remembered, then what was remembered, then the browser. The page knows en, zh-CN and zh-TW.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from demos.visitor import LANG_COOKIE

Message = MutableMapping[str, Any]
_MARK = b"<head>"

SCRIPT = """<script>(() => {
const KEY = "LANG_COOKIE";
let asked = new URLSearchParams(location.search).get("lang"), kept = null;
try { kept = localStorage.getItem(KEY); } catch (e) {}
kept = kept || (document.cookie.match("(?:^|; )" + KEY + "=([^;]+)") || [])[1];
const tag = (asked || kept || navigator.language || "en").toLowerCase();
const lang = !tag.startsWith("zh") ? "en" : /tw|hk|mo|hant/.test(tag) ? "zh-TW" : "zh-CN";
if (asked) { try { localStorage.setItem(KEY, lang); } catch (e) {} }
document.cookie = KEY + "=" + lang + "; path=/; max-age=31536000; samesite=lax";
Object.defineProperty(navigator, "language", { get: () => lang, configurable: true });
Object.defineProperty(navigator, "languages", { get: () => [lang], configurable: true });
document.documentElement.lang = lang;
})();</script>""".replace("LANG_COOKIE", LANG_COOKIE)


class EarlyScript:
    """Inserts SCRIPT right after <head> of the page at "/"."""

    def __init__(self, app: Callable[..., Awaitable[None]]) -> None:
        self.app = app

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["path"] != "/":
            return await self.app(scope, receive, send)
        plain = [(key, value) for key, value in scope["headers"] if key != b"accept-encoding"]
        start: Message = {}
        body = bytearray()

        async def collect(message: Message) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
                return
            body.extend(message.get("body", b""))
            if not message.get("more_body", False):
                page = bytes(body).replace(_MARK, _MARK + SCRIPT.encode(), 1)
                kept = [(key, value) for key, value in start["headers"] if key.lower() != b"content-length"]
                if body:  # HEAD has none to measure
                    kept.append((b"content-length", str(len(page)).encode()))
                await send({**start, "headers": kept})
                await send({"type": "http.response.body", "body": page})

        await self.app({**scope, "headers": plain}, receive, collect)
