"""The process as a host sees it: what it imports, where it listens, how it ends."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from demos.server import ENVIRONMENT, for_space, private_paths, with_pin
from pipelines.core.settings import Settings
from tests.demos.conftest import Running

# Serves, and tells on request which modules it has imported.
TELLING = """
import sys, json, pathlib, threading, time
from demos.cli import main
def tell():
    while not pathlib.Path(sys.argv[-1] + ".ask").exists():
        time.sleep(0.05)
    pathlib.Path(sys.argv[-1]).write_text(json.dumps(sorted(sys.modules)))
threading.Thread(target=tell, daemon=True).start()
sys.exit(main(sys.argv[1:-1]))
"""
LONG = {
    "model": "default",
    "messages": [{"role": "user", "content": "Tell me a very long story."}],
    "max_tokens": 1024,
    "temperature": 1.5,
    "stream": True,
}


class Process:
    """app.py serving in a process of its own."""

    def __init__(self, settings: Settings, told: Path, **env: str) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        self.told = told
        variables = {"SYNESTHESIA_CACHE": str(settings.cache), "SYNESTHESIA_OFFLINE": "1", "TMPDIR": str(told.parent)}
        command = [sys.executable, "-c", TELLING, "--port", str(port), "--device", "cpu", str(told)]
        everything = {**os.environ, **variables, "PYTHONPATH": _path(settings), **env}
        everything.pop("GRADIO_TEMP_DIR", None)
        self.process = subprocess.Popen(command, cwd=settings.root, env=everything, stderr=subprocess.PIPE)

    def wait(self) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            try:
                if httpx.get(f"{self.url}/healthz").status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.1)
        raise AssertionError("the server did not start")

    def modules(self) -> set[str]:
        self.told.with_name(self.told.name + ".ask").touch()
        deadline = time.monotonic() + 10
        while not self.told.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.2)
        return set(json.loads(self.told.read_text()))


def _path(settings: Settings) -> str:
    return os.pathsep.join([str(settings.root), os.environ.get("PYTHONPATH", "")])


@pytest.fixture
def process(settings: Settings, tmp_path: Path) -> Iterator[Process]:
    started = Process(settings, tmp_path / "modules.json", SYNESTHESIA_DRAIN_SECONDS="1")
    started.wait()
    yield started
    started.process.kill()
    started.process.wait(10)


def test_the_page_comes_without_any_model_library(process: Process) -> None:
    assert httpx.get(process.url, timeout=30).status_code == 200
    loaded = process.modules()
    assert "gradio" in loaded
    assert not loaded & {"torch", "transformers", "diffusers", "onnxruntime", "open_clip", "peft", "hibari"}


def test_sigterm_ends_an_idle_server_at_once(process: Process, tmp_path: Path) -> None:
    started = time.monotonic()
    process.process.send_signal(signal.SIGTERM)
    assert process.process.wait(15) == 0
    assert time.monotonic() - started < 6
    assert not list(tmp_path.glob("synesthesia-*"))  # its own files are gone


def test_sigterm_lets_a_stream_end_properly(process: Process) -> None:
    lines: list[str] = []
    speaking = threading.Event()

    def read() -> None:
        with httpx.stream("POST", f"{process.url}/v1/chat/completions", json=LONG, timeout=120) as answer:
            for line in answer.iter_lines():
                lines.append(line)
                if len(lines) > 6:
                    speaking.set()

    reader = threading.Thread(target=read)
    reader.start()
    assert speaking.wait(110)
    process.process.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    assert httpx.get(f"{process.url}/healthz").status_code == 503
    refused = httpx.post(f"{process.url}/v1/audio/speech", json={"input": "hi"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "draining")
    assert process.process.wait(20) == 0
    reader.join(10)
    said = [line for line in lines if line]
    assert said[-1] == "data: [DONE]"
    assert json.loads(said[-2].removeprefix("data: "))["choices"][0]["finish_reason"] == "length"


def test_a_space_listens_where_its_proxy_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SPACE_ID", "GRADIO_SERVER_NAME", "GRADIO_SERVER_PORT"):
        monkeypatch.delenv(name, raising=False)
    assert for_space(Settings.read({})).host == "127.0.0.1"
    monkeypatch.setenv("SPACE_ID", "a/b")
    assert (for_space(Settings.read({})).host, for_space(Settings.read({})).port) == ("0.0.0.0", 7860)
    monkeypatch.setenv("GRADIO_SERVER_NAME", "127.0.0.1")
    monkeypatch.setenv("GRADIO_SERVER_PORT", "9000")
    assert (for_space(Settings.read({})).host, for_space(Settings.read({})).port) == ("127.0.0.1", 9000)


def test_only_the_samples_may_be_published(settings: Settings) -> None:
    names = {Path(path).name for path in private_paths(settings.root)}
    assert {"app.py", "demos", "pipelines", ".git"} <= names and "assets" not in names


def test_gradio_tells_nobody_and_remembers_nothing(server: Running) -> None:
    assert ENVIRONMENT["GRADIO_ANALYTICS_ENABLED"] == os.environ["GRADIO_ANALYTICS_ENABLED"] == "False"
    config = httpx.get(f"{server.url}/config").json()
    assert config["analytics_enabled"] is False
    assert not config.get("run_history")
    assert httpx.get(f"{server.url}/gradio_api/runs").status_code == 404


def test_metrics_count_jobs_and_bytes(server: Running) -> None:
    httpx.post(f"{server.url}/v1/audio/speech", json={"input": "Hi.", "response_format": "wav"}, timeout=60)
    text = httpx.get(f"{server.url}/metrics").text
    assert 'synesthesia_jobs_total{outcome="ok",task="speech"}' in text
    assert 'synesthesia_resident_bytes{id="hibari-heart",kind="model"}' in text
    assert "synesthesia_budget_bytes 3.1" in text


def test_nothing_outside_the_doors_answers(server: Running) -> None:
    for path in ("/docs", "/openapi.json", "/monitoring", "/gradio_api/runs", "/gradio_api/proxy=http://x/"):
        assert httpx.get(f"{server.url}{path}").status_code == 404
    hostile = {"host": "evil.example"}
    assert httpx.get(f"{server.url}/v1/models", headers=hostile).status_code == 421
    assert httpx.get(f"{server.url}/config", headers={"origin": "http://evil.example"}).status_code == 403


@pytest.mark.parametrize(
    ("host", "pin", "made"), [("127.0.0.1", "", False), ("0.0.0.0", "", True), ("::", "77", False)]
)
def test_who_lets_other_machines_in_has_a_pin(settings: Settings, host: str, pin: str, made: bool) -> None:
    checked = with_pin(dataclasses.replace(settings, host=host, pin=pin))
    assert (len(checked.pin) == 6) if made else checked.pin == pin
