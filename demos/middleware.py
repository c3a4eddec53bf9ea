"""What every request passes before the app: hosts, origins, doors, sizes, identity, headers. Pure ASGI, knows no tab.

Gradio's own CORS check lets a foreign page's request run and only hides the answer; here it is refused before that.
"""

from __future__ import annotations

import asyncio
import ipaddress
import shutil
from pathlib import Path
from urllib.parse import urlsplit

from starlette.requests import ClientDisconnect

from demos import head, visitor
from demos.doors import is_open
from demos.layer import App, Layer, Message, Receive, Scope, Send
from demos.pin import PinGate
from demos.replies import refuse
from demos.uploads import UploadsOnly
from pipelines.core.settings import Settings

MAX_BODY = 25 << 20  # bytes of one request
MAX_UPLOADS = 200 << 20  # of one upload of many files, each of which Gradio caps
FREE_DISK = 2 << 30  # left untouched by uploads
STALL = 15.0  # seconds a client may let us wait for the next piece of a body
UPLOAD = "/gradio_api/upload"
READING = ("GET", "HEAD", "OPTIONS")
FORWARDING = (b"forwarded", b"x-real-ip", b"x-gradio-server")

CSP = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:",  # Gradio's page has inline scripts and js= events
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data: blob:",
        "media-src 'self' data: blob:",
        "font-src 'self' data:",
        "connect-src 'self' data: blob:",
        "worker-src 'self' blob:",
        "frame-src 'self' blob:",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
        "frame-ancestors 'self' https://huggingface.co https://*.hf.space",
    )
)
HEADERS = (
    (b"content-security-policy", CSP.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(self), microphone=(self), geolocation=(), payment=(), usb=()"),
    (b"cross-origin-opener-policy", b"same-origin-allow-popups"),
)


def guard(app: App, settings: Settings, *, space: bool, uploads: Path) -> App:
    """The app behind every check, outermost first: headers, host, forwarding, origin, door, name, size, PIN, files.

    `space`: behind Hugging Face's proxy, inside its frame. `uploads`: the folder whose disk must not fill up.
    """
    signer = visitor.Signer()
    inner: App = head.EarlyScript(UploadsOnly(app))
    if settings.pin and not is_loopback(settings.host):
        inner = PinGate(inner, settings.pin, signer, embedded=space)
    inner = BodyCap(inner, uploads)
    inner = Name(inner, signer, embedded=space)
    inner = Doors(inner, mcp=settings.mcp)
    inner = SameOrigin(inner, settings.allowed_hosts)
    if not space:
        inner = NoForwarding(inner)
    inner = KnownHost(inner, settings.allowed_hosts)
    return SafeHeaders(inner)


def is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def is_known(host: str, allowed: tuple[str, ...]) -> bool:
    """True for localhost, any IP literal and the hosts allowed by name ("*.example.org" for those under it).

    A page elsewhere can make its own name point here (DNS rebinding), but it cannot make a number be its name.
    """
    name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
    if name == "localhost" or name in allowed:
        return True
    if any(pattern.startswith("*.") and name.endswith(pattern[1:]) for pattern in allowed):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class SafeHeaders(Layer):
    """Tells the browser what a page of ours may load, and that a file is what its type says."""

    async def http(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def dressed(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *HEADERS]
            await send(message)

        await self.app(scope, receive, dressed)


class KnownHost(Layer):
    """Refuses a Host that is not ours."""

    def __init__(self, app: App, allowed: tuple[str, ...]) -> None:
        super().__init__(app)
        self.allowed = allowed

    async def http(self, scope: Scope, receive: Receive, send: Send) -> None:
        hosts = [value.decode("latin-1") for key, value in scope["headers"] if key == b"host"]
        if len(hosts) == 1 and _is_known_or_odd(hosts[0], self.allowed):
            return await self.app(scope, receive, send)
        await refuse(scope, send, 421, "host_not_allowed")


def _is_known_or_odd(host: str, allowed: tuple[str, ...]) -> bool:
    try:
        return is_known(host, allowed)
    except ValueError:  # not a host at all, such as "[::"
        return False


class NoForwarding(Layer):
    """Drops headers by which a client could tell us another address of ours or of its own; no proxy is trusted."""

    async def http(self, scope: Scope, receive: Receive, send: Send) -> None:
        kept = [(k, v) for k, v in scope["headers"] if not k.startswith(b"x-forwarded-") and k not in FORWARDING]
        await self.app({**scope, "headers": kept}, receive, send)


class SameOrigin(Layer):
    """Refuses what another site's page asks for, reading included: Gradio would let some of them read the answer."""

    def __init__(self, app: App, allowed: tuple[str, ...]) -> None:
        super().__init__(app)
        self.allowed = allowed

    async def http(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._is_ours(scope):
            return await self.app(scope, receive, send)
        await refuse(scope, send, 403, "origin_not_allowed")

    def _is_ours(self, scope: Scope) -> bool:
        origin = visitor.header(scope, "origin")
        if not origin:
            cross = visitor.header(scope, "sec-fetch-site") == "cross-site"
            return not cross or scope["method"] in READING
        try:
            host = urlsplit(origin).netloc.lower()
        except ValueError:
            return False
        return bool(host) and (host == visitor.header(scope, "host").lower() or host in self.allowed)


class Doors(Layer):
    """Opens the listed routes only."""

    def __init__(self, app: App, *, mcp: bool) -> None:
        super().__init__(app)
        self.mcp = mcp

    async def http(self, scope: Scope, receive: Receive, send: Send) -> None:
        if is_open(scope["method"], scope["path"], mcp=self.mcp):
            return await self.app(scope, receive, send)
        await refuse(scope, send, 404, "no_such_page")


class Name(Layer):
    """Gives a browser a signed name when it opens the page; whoever shows none is known by address."""

    def __init__(self, app: App, signer: visitor.Signer, *, embedded: bool) -> None:
        super().__init__(app)
        self.signer = signer
        self.embedded = embedded

    async def http(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.embedded and (via := visitor.header(scope, "x-forwarded-for")):
            scope = {**scope, "client": (via.split(",")[-1].strip(), 0)}  # the last one is the proxy's own word
        known = self.signer.read(visitor.cookies_of(scope).get(visitor.VISITOR_COOKIE, ""))
        if known:
            visitor.remember_visitor(scope, known)
        if known or scope["path"] != "/":
            return await self.app(scope, receive, send)
        line = visitor.cookie(visitor.VISITOR_COOKIE, self.signer.new(), embedded=self.embedded).encode()

        async def named(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), (b"set-cookie", line)]
            await send(message)

        await self.app(scope, receive, named)


class BodyCap(Layer):
    """Ends a request whose body is too large, too slow, or would fill the disk."""

    def __init__(self, app: App, uploads: Path) -> None:
        super().__init__(app)
        self.uploads = uploads

    async def http(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] in READING:
            return await self.app(scope, receive, send)
        upload = scope["path"].rstrip("/") == UPLOAD
        cap = MAX_UPLOADS if upload else MAX_BODY
        length = visitor.header(scope, "content-length")
        if length and (not length.isdigit() or int(length) > cap):
            return await refuse(scope, send, 413, "body_too_large", limit=cap >> 20)
        if upload and shutil.disk_usage(self.uploads).free < FREE_DISK:
            return await refuse(scope, send, 507, "upload_disk_full")
        body = _Body(receive, cap)
        answered = False

        async def answer(message: Message) -> None:
            nonlocal answered
            if not body.refused or answered:
                answered = True
                await send(message)

        try:
            await self.app(scope, body.receive, answer)
        except ClientDisconnect:  # expected, for it was we who broke off
            if not body.refused:
                raise
        if body.refused and not answered:
            status, code = body.refused
            await refuse(scope, send, status, code, limit=cap >> 20)


class _Body:
    """A request's body, counted; breaks off like a client that went away, and says why in `refused`."""

    def __init__(self, receive: Receive, cap: int) -> None:
        self._receive = receive
        self._left = cap
        self._ended = False
        self.refused: tuple[int, str] | None = None

    async def receive(self) -> Message:
        if self._ended:
            return await self._receive()
        try:
            message = await asyncio.wait_for(self._receive(), STALL)
        except TimeoutError:
            return self._break_off(408, "body_too_slow")
        if message["type"] == "http.request":
            self._left -= len(message.get("body", b""))
            self._ended = not message.get("more_body", False)
        if self._left < 0:
            return self._break_off(413, "body_too_large")
        return message

    def _break_off(self, status: int, code: str) -> Message:
        self.refused = (status, code)
        return {"type": "http.disconnect"}
