"""What every request must pass, on a small app without Gradio; and Gradio's routes against the list of open doors."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route
from starlette.testclient import TestClient

from demos import middleware, visitor
from demos.doors import is_open
from demos.middleware import guard, is_known, is_loopback
from pipelines.core.settings import Settings

ROUTES = Path(__file__).with_name("routes.txt")


async def page(request: Request) -> Response:
    return HTMLResponse("<html><head><title>x</title></head></html>")


async def echo(request: Request) -> Response:
    body = await request.body()
    headers = {key: value for key, value in request.headers.items() if key.startswith("x-")}
    return JSONResponse({"who": visitor.visitor_of(request), "bytes": len(body), "headers": headers})


def client(tmp_path: Path, *, space: bool = False, **changes: object) -> TestClient:
    app = Starlette(routes=[Route("/", page), Route("/{path:path}", echo, methods=["GET", "POST"])])
    settings = dataclasses.replace(Settings.read({}), **changes)
    guarded = guard(app, settings, space=space, uploads=tmp_path)
    base = "https://x.hf.space" if space else "http://localhost"
    return TestClient(guarded, base_url=base)


@pytest.mark.parametrize(
    ("host", "known"),
    [
        ("localhost", True),
        ("localhost:7860", True),
        ("127.0.0.1:7860", True),
        ("192.168.1.20", True),
        ("[::1]:7860", True),
        ("lab.example.org", True),
        ("a.school.example", True),
        ("evil.example", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example", False),
        ("school.example.evil", False),
        ("", False),
    ],
)
def test_hosts(host: str, known: bool) -> None:
    assert is_known(host, ("lab.example.org", "*.school.example")) is known


@pytest.mark.parametrize("host", ["evil.example", "[::", "a b"])
def test_an_unknown_host_is_refused_before_the_app(tmp_path: Path, host: str) -> None:
    assert client(tmp_path).get("/healthz", headers={"host": host}).status_code == 421


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost:9999", "http://localhost.evil.io"])
def test_another_sites_request_is_refused(tmp_path: Path, method: str, origin: str) -> None:
    answer = client(tmp_path).request(method, "/gradio_api/upload", headers={"origin": origin})
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "origin_not_allowed"
    assert "access-control-allow-origin" not in answer.headers


def test_our_own_page_and_programs_may_post(tmp_path: Path) -> None:
    app = client(tmp_path)
    assert app.post("/gradio_api/upload", headers={"origin": "http://localhost"}).status_code == 200
    assert app.post("/gradio_api/upload").status_code == 200
    assert app.post("/gradio_api/upload", headers={"sec-fetch-site": "cross-site"}).status_code == 403


def test_forwarding_headers_do_not_reach_the_app(tmp_path: Path) -> None:
    sent = {"x-forwarded-host": "evil.example", "x-gradio-server": "http://evil.example", "x-forwarded-for": "1.2.3.4"}
    assert client(tmp_path).get("/healthz", headers=sent).json()["headers"] == {}


def test_on_a_space_the_proxy_says_who_asks(tmp_path: Path) -> None:
    app = client(tmp_path, space=True, allowed_hosts=("x.hf.space",))
    answer = app.get("/healthz", headers={"x-forwarded-for": "6.6.6.6, 10.1.2.3"})
    assert answer.json()["who"] == "at:10.1.2.3"
    assert "SameSite=None; Secure; Partitioned" in app.get("/").headers["set-cookie"]


def test_a_browser_keeps_its_name_and_cannot_choose_it(tmp_path: Path) -> None:
    app = client(tmp_path)
    cookie = app.get("/").headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=Lax" in cookie
    name = app.get("/healthz").json()["who"]
    assert name == app.get("/healthz").json()["who"] and not name.startswith("at:")
    forged = client(tmp_path).get("/healthz", headers={"cookie": f"{visitor.VISITOR_COOKIE}={name}.{'0' * 32}"})
    assert forged.json()["who"] == "at:testclient"


def test_a_large_body_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(middleware, "MAX_BODY", 1_000)
    app = client(tmp_path)
    assert app.post("/v1/embeddings", content=b"x" * 1_000).json()["bytes"] == 1_000
    assert app.post("/v1/embeddings", content=b"x" * 1_001).status_code == 413
    chunked = app.post("/v1/embeddings", content=(b"x" * 500 for _ in range(3)))
    assert chunked.status_code == 413
    assert chunked.json()["error"]["code"] == "body_too_large"


def test_uploads_stop_before_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(middleware, "FREE_DISK", 1 << 60)
    app = client(tmp_path)
    assert app.post("/gradio_api/upload", content=b"x").status_code == 507
    assert app.post("/v1/embeddings", content=b"x").status_code == 200


def test_every_answer_carries_the_headers(tmp_path: Path) -> None:
    app = client(tmp_path)
    for answer in (app.get("/"), app.get("/no/such"), app.get("/", headers={"host": "evil.example"})):
        assert answer.headers["x-content-type-options"] == "nosniff"
        policy = answer.headers["content-security-policy"]
        assert "img-src 'self' data: blob:" in policy and "form-action 'self'" in policy
        assert "http:" not in policy.replace("https:", "")


def test_the_language_script_comes_first_in_the_page(tmp_path: Path) -> None:
    text = client(tmp_path).get("/").text
    assert text.startswith("<html><head><script>") and "synesthesia-lang" in text and "navigator" in text


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/file=http://127.0.0.1/x",
        "/gradio_api/file=https://example.org/x.png",
        "/gradio_api/file=/https:/example.org",
        "/gradio_api/file=ftp://example.org/x",
        "/gradio_api/proxy=http://127.0.0.1/",
        "/monitoring",
        "/monitoring/summary",
        "/gradio_api/dev/reload",
        "/gradio_api/runs",
        "/login",
        "/docs",
        "/openapi.json",
    ],
)
def test_side_doors_are_shut(tmp_path: Path, path: str) -> None:
    assert client(tmp_path).get(path).status_code == 404


def test_gradio_has_no_route_that_nobody_judged() -> None:
    """After an update of Gradio: judge the new routes, then write what this test prints into routes.txt."""
    found = "\n".join(sorted({f"{state(method, path)} {method} {path}" for method, path in gradio_routes()}))
    assert found == ROUTES.read_text(encoding="utf-8").strip()


def state(method: str, path: str) -> str:
    filled = path.replace("{path_or_url:path}", "/tmp/x").replace("{segment_id}.{ext}", "1.ts").replace("{run}", "0")
    for name in ("{path:path}", "{url_path:path}", "{api_name}", "{event_id}", "{session_hash}", "{size}"):
        filled = filled.replace(name, "7")
    return "open" if is_open(method, filled.replace("{component_id}", "7")) else "shut"


def gradio_routes() -> list[tuple[str, str]]:
    import gradio as gr
    from gradio.routes import App

    with gr.Blocks() as demo:
        gr.Textbox()
    demo.config = demo.get_config_file()
    routes = _flat(App.create_app(demo).routes)
    return [(method, path) for path, methods in routes for method in methods]


def _flat(routes: list) -> list[tuple[str, set[str]]]:
    found: list[tuple[str, set[str]]] = []
    for route in routes:
        inner = getattr(route, "original_router", None)
        if inner is not None:
            found += _flat(inner.routes)
        elif hasattr(route, "methods"):
            found.append((route.path, route.methods or set()))
    return found


@pytest.fixture
def locked(tmp_path: Path) -> Callable[[], TestClient]:
    return lambda: client(tmp_path, pin="2468", host="0.0.0.0")


def test_a_class_needs_its_pin(locked: Callable[[], TestClient]) -> None:
    app = locked()
    assert "PIN" in app.get("/").text and "<title>x</title>" not in app.get("/").text
    assert app.post("/v1/embeddings").status_code == 401
    assert app.post("/pin", data={"pin": "1111"}).status_code == 403
    assert app.post("/pin", data={"pin": "2468"}).status_code == 200  # after the redirect
    assert "<title>x</title>" in app.get("/").text


def test_programs_send_the_pin_as_a_bearer_token(locked: Callable[[], TestClient]) -> None:
    assert locked().post("/v1/embeddings", headers={"authorization": "Bearer 2468"}).status_code == 200
    assert locked().get("/healthz").status_code == 200


def test_guessing_the_pin_is_slow(locked: Callable[[], TestClient]) -> None:
    app = locked()
    for guess in range(10):
        app.post("/pin", data={"pin": str(guess)})
    assert app.post("/pin", data={"pin": "2468"}).status_code == 403


def test_the_pin_page_speaks_chinese(locked: Callable[[], TestClient]) -> None:
    assert "课堂口令" in locked().get("/", headers={"accept-language": "zh-CN"}).text


def test_no_pin_is_asked_for_at_home(tmp_path: Path) -> None:
    assert client(tmp_path, pin="2468").post("/v1/embeddings").status_code == 200
    assert is_loopback("::1") and not is_loopback("0.0.0.0") and not is_loopback("example.org")
