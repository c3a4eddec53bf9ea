"""Who asks, and in which language: a signed cookie, else the client's address. Limits hang on this name.

Works on anything with a Starlette scope behind it: an ASGI scope, a Request, Gradio's own Request.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Mapping
from typing import Any

VISITOR_COOKIE = "synesthesia-visitor"
LANG_COOKIE = "synesthesia-lang"
LANGUAGES = ("en", "zh")
_KEY = "synesthesia.visitor"  # where the middleware leaves the name in the scope
_YEAR = 31_536_000


class Signer:
    """Names that only this process can have given out: the key is drawn at start and kept nowhere."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)

    def sign(self, name: str) -> str:
        return f"{name}.{self._mac(name)}"

    def read(self, token: str) -> str:
        """The name in a token, or "" if it is not ours."""
        name, _, mac = token.rpartition(".")
        return name if name and hmac.compare_digest(mac.encode(), self._mac(name).encode()) else ""

    def new(self) -> str:
        """A fresh signed name."""
        return self.sign(secrets.token_urlsafe(12))

    def _mac(self, name: str) -> str:
        return hmac.new(self._key, name.encode(), hashlib.sha256).hexdigest()[:32]


def remember_visitor(scope: Any, name: str) -> None:
    scope[_KEY] = name


def visitor_of(request: Any) -> str:
    """The visitor's name for House: what the middleware found out, else the address; "local" without a request."""
    scope = scope_of(request)
    if scope is None:
        return "local"
    return scope.get(_KEY) or address_of(scope)


def address_of(scope: Mapping[str, Any]) -> str:
    client = scope.get("client")
    return f"at:{client[0]}" if client else "local"


def cookies_of(scope: Mapping[str, Any]) -> dict[str, str]:
    """Cookies by name; of two with one name the first counts."""
    found: dict[str, str] = {}
    for part in header(scope, "cookie").split(";"):
        name, _, value = part.strip().partition("=")
        found.setdefault(name, value)
    return found


def header(scope: Mapping[str, Any], name: str) -> str:
    """A request header's first value, or ""."""
    wanted = name.encode()
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == wanted), "")


def language_of(request: Any) -> str:
    """ "en" or "zh": the remembered choice, else what the browser prefers."""
    scope = scope_of(request)
    if scope is None:
        return "en"
    wanted = cookies_of(scope).get(LANG_COOKIE) or header(scope, "accept-language")
    return language(wanted)


def language(tag: str) -> str:
    """The nearest language there is to a tag such as zh-CN, zh_TW.UTF-8 or en."""
    return "zh" if tag.strip().lower().startswith("zh") else "en"


def cookie(name: str, value: str, *, embedded: bool, seconds: int = _YEAR) -> str:
    """A Set-Cookie value no script can read. `embedded`: the page lives in another site's frame (a Space)."""
    site = "SameSite=None; Secure; Partitioned" if embedded else "SameSite=Lax"
    return f"{name}={value}; Path=/; Max-Age={seconds}; HttpOnly; {site}"


def scope_of(request: Any) -> Mapping[str, Any] | None:
    if isinstance(request, Mapping):
        return request
    inner = getattr(request, "request", None) or request  # Gradio's Request wraps Starlette's
    scope = getattr(inner, "scope", None)
    return scope if isinstance(scope, Mapping) else None
