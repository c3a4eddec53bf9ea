"""Which addresses of the app are open. Gradio brings more routes than the page needs; what is not listed is 404.

A test holds the inventory of Gradio's routes against this list, so that a new one is a decision, not a surprise.
"""

from __future__ import annotations

import re

GET = ("GET", "HEAD")

_OPEN = (  # (methods, what the path must match in full)
    (GET, r"/|/config/?|/theme\.css|/favicon\.ico|/robots\.txt|/manifest\.json|/pwa_icon(/\d+)?"),
    (GET, r"/(static|assets|svelte)/.*"),
    (GET, r"/gradio_api/(info|openapi\.json|app_id|login_check|startup-events|theme\.css|upload_progress)/?"),
    (GET, r"/gradio_api/(queue/data|queue/status|heartbeat/[\w-]+)"),
    (GET, r"/gradio_api/call/(v2/)?\w+/[\w-]+"),
    (GET, r"/gradio_api/stream/[\w-]+/[\w-]+/\d+/[\w.-]+"),
    (GET, r"/gradio_api/file=(?!/*\w{2,}:/).+"),
    (("POST",), r"/gradio_api/(upload|cancel|reset|queue/join)/?"),
    (("POST",), r"/gradio_api/call/(v2/)?\w+/?"),
    (("POST",), r"/gradio_api/stream/[\w-]+(/close)?"),
    (GET, r"/healthz|/metrics|/v1/models(/[\w.:+-]+)?"),
    (("POST",), r"/v1/(chat/completions|embeddings|images/generations|audio/speech)"),
    (("POST",), r"/pin"),
)
_PATTERNS = tuple((methods, re.compile(pattern, re.DOTALL)) for methods, pattern in _OPEN)
MCP = "/mcp"  # a door of its own, shut unless asked for


def is_open(method: str, path: str, *, mcp: bool = False) -> bool:
    """True if a request may go on to the app; `path` is the decoded path."""
    if path == MCP:
        return mcp
    return any(method in methods and pattern.fullmatch(path) for methods, pattern in _PATTERNS)
