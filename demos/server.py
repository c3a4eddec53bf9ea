"""The web server: Gradio's page, its API and OpenAI's routes in one process, behind one set of checks.

Imports no model library; gradio only inside functions, after the environment is set.
"""

from __future__ import annotations

import dataclasses
import os
import secrets
import shutil
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from demos.bridge import Bridge
from demos.doors import MCP
from demos.metrics import CONTENT_TYPE, Metrics
from demos.middleware import guard, is_loopback
from demos.openai_api import routes
from demos.replies import error_body, unexpected
from demos.text import say
from demos.visitor import language, language_of
from pipelines.core.errors import DemoError
from pipelines.core.settings import MAX_UPLOAD_MB, Settings
from pipelines.house import House

SESSIONS = 200  # visitors whose state is kept
TEMPORARY = (600, 3_600)  # look every ten minutes, delete what is older than an hour (seconds)
CONNECTIONS = 512
CLOSING = 3  # seconds for connections to end once the jobs have

ENVIRONMENT = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "GRADIO_ANALYTICS_CACHE_FREQUENCY": "1000000",
    "GRADIO_RUN_HISTORY": "False",
    "GRADIO_SSR_MODE": "False",
    "GRADIO_MCP_SERVER": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
}


def on_space() -> bool:
    """True inside a Hugging Face Space, where a proxy stands before us."""
    return "SPACE_ID" in os.environ


def prepare_environment(folder: Path) -> None:
    """What gradio reads when imported: no analytics, and its files in `folder`."""
    os.environ.update(ENVIRONMENT)
    os.environ["GRADIO_TEMP_DIR"] = str(folder)
    os.environ["GRADIO_EXAMPLES_CACHE"] = str(folder / "examples")


def create_app(house: House, uploads: Path) -> FastAPI:
    """The whole app; `uploads` is the folder given to prepare_environment, which must have been called."""
    bridge = Bridge(house)
    mcp = _mcp(bridge) if house.settings.mcp else None
    lifespan = mcp.lifespan if mcp else None
    app = FastAPI(title="Synesthesia", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    metrics = Metrics(house)
    _add_health(app, house, metrics)
    app.include_router(routes(bridge))
    if mcp:
        app.router.routes.append(Route(MCP, mcp))
    _mount_page(app, house)
    app.add_middleware(guard, settings=house.settings, space=on_space(), uploads=uploads)
    return app


def _mcp(bridge: Bridge) -> Any:
    """The optional door; raises DemoError if its library is not there, or is of another generation."""
    try:
        from demos.mcp_api import Door
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] not in ("mcp", "mcp_types"):
            raise
        raise DemoError("mcp_not_installed") from None
    return Door(bridge)


def _add_health(app: FastAPI, house: House, metrics: Metrics) -> None:
    @app.get("/healthz")
    async def healthz() -> Response:
        draining = house.admission.draining
        return JSONResponse({"status": "draining" if draining else "ok"}, 503 if draining else 200)

    @app.get("/metrics")
    def metrics_page() -> Response:
        return Response(metrics.text(), media_type=CONTENT_TYPE)

    @app.exception_handler(Exception)
    async def answer_unexpected(request: Request, error: Exception) -> Response:
        text = unexpected(error, language_of(request))
        return JSONResponse(error_body("unexpected", text, "server_error"), 500)


def _mount_page(app: FastAPI, house: House) -> None:
    import gradio as gr

    from demos.look import THEME, css
    from demos.tab import build_demo
    from demos.text import i18n

    demo = build_demo(house)
    demo.queue(api_open=False, max_size=64)
    demo.delete_cache = TEMPORARY
    demo.state_session_capacity = SESSIONS
    root = house.settings.root
    gr.mount_gradio_app(
        app,
        demo,
        path="/",
        server_name=house.settings.host,
        server_port=house.settings.port,
        footer_links=["api", "settings"],
        run_history=False,
        allowed_paths=[str(root / "assets")],
        blocked_paths=private_paths(root),
        show_error=False,
        max_file_size=f"{MAX_UPLOAD_MB}mb",
        favicon_path=str(root / "assets" / "favicon.svg"),
        ssr_mode=False,
        enable_monitoring=False,
        i18n=i18n(),
        mcp_server=False,
        theme=THEME,
        css=css(),
    )
    demo.has_launched = True  # else Gradio lets any file of the machine be named as input and output
    page = app.routes[-1].app  # type: ignore[attr-defined]
    page.add_exception_handler(TypeError, _bad_call)


async def _bad_call(request: Request, error: Exception) -> Response:
    """Gradio's answer to a parameter its endpoint does not have, or lacks, is an exception."""
    if not request.url.path.startswith("/gradio_api/call/"):
        raise error
    return JSONResponse(error_body("bad_call", say("bad_call", language_of(request))), 422)


def private_paths(root: Path) -> list[str]:
    """Everything of the program but its samples, so that no handler can publish it by mistake."""
    return [str(path) for path in sorted(root.iterdir()) if path.name != "assets"]


class DrainingServer(uvicorn.Server):
    """On SIGTERM or Ctrl-C: no new jobs, those running end (or are stopped in time), then the connections; exit 0."""

    def __init__(self, config: uvicorn.Config, house: House) -> None:
        super().__init__(config)
        self._house = house
        self._draining = False

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Say where the page is, once it is there."""
        await super().startup(sockets)
        if self.started:
            host, port = self.config.host, self.config.port
            host = "localhost" if host in ("127.0.0.1", "0.0.0.0", "::") else host
            lang = language(os.environ.get("LANG", ""))
            sys.stderr.write(say("serving", lang, url=f"http://{host}:{port}/") + "\n")
            if (pin := self._house.settings.pin) and not is_loopback(self.config.host):
                sys.stderr.write(say("serving_pin", lang, pin=pin) + "\n")

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """The first signal drains, the second ends at once."""
        if self._draining:
            self.should_exit = self.force_exit = True
            return
        self._draining = True
        threading.Thread(target=self._drain, name="drain", daemon=True).start()

    def _drain(self) -> None:
        try:
            self._house.close()
        finally:
            self.should_exit = True


def make_server(app: FastAPI, settings: Settings, house: House) -> DrainingServer:
    """A server with limits; proxies' headers are judged by the middleware, not here."""
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_level="warning",
        limit_concurrency=CONNECTIONS,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=CLOSING,
        proxy_headers=False,
        server_header=False,
        ws="none",
    )
    return DrainingServer(config, house)


def serve(settings: Settings) -> int:
    """Serve until told to stop; returns the exit code."""
    settings = with_pin(for_space(settings))
    folder = Path(tempfile.mkdtemp(prefix="synesthesia-"))
    prepare_environment(folder)
    tempfile.tempdir = str(folder)
    here = folder / "empty"  # Gradio may publish files of the working directory
    here.mkdir()
    os.chdir(here)
    try:
        house = House(settings)
        server = make_server(create_app(house, folder), settings, house)
        threading.Thread(target=_preload, args=(house,), name="preload", daemon=True).start()
        threading.Thread(target=_tidy, args=(house,), name="tidy", daemon=True).start()
        server.run()
        return 0 if server.started else 1
    finally:
        os.chdir(settings.root)
        shutil.rmtree(folder, ignore_errors=True)


def for_space(settings: Settings) -> Settings:
    """The address Gradio's own variables ask for; on a Space the one its proxy looks at."""
    host = os.environ.get("GRADIO_SERVER_NAME") or ("0.0.0.0" if on_space() else settings.host)
    port = int(os.environ.get("GRADIO_SERVER_PORT") or settings.port)
    return dataclasses.replace(settings, host=host, port=port)


def with_pin(settings: Settings) -> Settings:
    """A PIN of six digits where other machines come in and the host chose none; a Space is public by intention."""
    if settings.pin or on_space() or is_loopback(settings.host):
        return settings
    return dataclasses.replace(settings, pin=f"{secrets.randbelow(10**6):06d}")


def _preload(house: House) -> None:
    if house.settings.preload:
        house.registry.preload(house.settings.preload)


def _tidy(house: House) -> None:
    """The page says that uploads are not kept for longer than an hour."""
    from pipelines.uploads import forget_old

    while not house.admission.draining:
        forget_old(house)
        time.sleep(TEMPORARY[0])
