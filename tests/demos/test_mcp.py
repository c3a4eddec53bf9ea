"""The optional door for programs that speak the Model Context Protocol, by its official client."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import soundfile
from mcp import Client
from mcp_types import CallToolResult, Tool

from demos.mcp_api import MANIFEST, Door, tools
from demos.rest import ENDPOINTS
from pipelines.core.errors import InvalidInput
from pipelines.core.params import knobs
from pipelines.core.settings import Settings
from pipelines.house import pipeline_class
from tests.demos.conftest import Running, running

HELLO = [{"role": "user", "content": "Say hello."}]
PING = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
JSON = {"accept": "application/json, text/event-stream", "content-type": "application/json"}
LONG = {"messages": HELLO, "max_new_tokens": 1024, "temperature": 2.0}


@pytest.fixture(scope="module")
def door(settings: Settings, server: Running) -> Iterator[Running]:
    """A second app, with the door; it shares Gradio's folder, which is the whole process's."""
    with running(dataclasses.replace(settings, mcp=True), server.folder) as found:
        yield found


@asynccontextmanager
async def client(door: Running, mode: str = "auto") -> AsyncIterator[Client]:
    async with Client(f"{door.url}/mcp", mode=mode) as made:
        yield made


def call(door: Running, name: str, mode: str = "auto", **arguments: Any) -> CallToolResult:
    async def go() -> CallToolResult:
        async with client(door, mode) as made:
            return await made.call_tool(name, arguments)

    return asyncio.run(go())


def listed(door: Running, mode: str = "auto") -> list[Tool]:
    async def go() -> list[Tool]:
        async with client(door, mode) as made:
            return (await made.list_tools()).tools

    return asyncio.run(go())


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_the_tools_are_those_decided_on(door: Running, mode: str) -> None:
    found = listed(door, mode)
    assert tuple(tool.name for tool in found) == MANIFEST
    assert all(tool.description and not tool.description.startswith("mcp_") for tool in found)


@pytest.mark.parametrize("task", ENDPOINTS)
def test_a_tool_takes_its_tasks_knobs(task: str) -> None:
    for lang in ("en", "zh"):
        schema = next(tool for tool in tools(lang) if tool.name == ENDPOINTS[task]).input_schema
        assert list(schema["properties"]) == [knob.name for knob in knobs(pipeline_class(task).Params)]
        assert all(each["description"] for each in schema["properties"].values())
        assert all("items" in each for each in schema["properties"].values() if each["type"] == "array")


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_chat_answers_as_the_api_does(door: Running, mode: str) -> None:
    body = {"model": "default", "messages": HELLO, "max_tokens": 12, "temperature": 0.2, "top_p": 0.95, "seed": 7}
    answer = httpx.post(f"{door.url}/v1/chat/completions", json=body, timeout=120).json()
    result = call(door, "chat", mode, messages=HELLO, max_new_tokens=12, seed=7)
    assert not result.is_error
    assert json.loads(result.content[0].text)["text"] == answer["choices"][0]["message"]["content"]


def test_speech_comes_back_as_sound(door: Running, tmp_path: Path) -> None:
    result = call(door, "speak", text="Good morning.", seed=7)
    told, sound = json.loads(result.content[0].text), result.content[1]
    assert told["wav"] == {"content": 1} and sound.mime_type == "audio/wav" and told["mel"] is None
    (tmp_path / "a.wav").write_bytes(base64.b64decode(sound.data))
    samples, rate = soundfile.read(tmp_path / "a.wav")
    assert rate == told["rate"] and abs(len(samples) / rate - told["seconds"]) < 0.01


def test_models_says_what_can_be_used(door: Running) -> None:
    rows = {row["id"]: row for row in json.loads(call(door, "models").content[0].text)["models"]}
    assert rows["smollm2-135m"]["missing"] is None


@pytest.mark.parametrize(
    ("name", "arguments", "code"),
    [
        ("chat", {"messages": []}, "empty"),
        ("chat", {"messages": HELLO, "max_new_tokens": 10**9}, "out_of_range"),
        ("speak", {"text": "hi", "path": "/etc/passwd"}, "unknown_parameter"),
        ("caption", {"image": "/etc/passwd"}, "not_base64"),
        ("caption", {"image": "http://127.0.0.1:1/x.png"}, "not_base64"),
        ("caption", {"image": base64.b64encode(b"no picture").decode()}, "not_an_image"),
        ("stop", {}, "unsupported_value"),
        ("opening", {}, "unsupported_value"),
    ],
)
def test_what_is_wrong_is_said(door: Running, name: str, arguments: dict[str, Any], code: str) -> None:
    result = call(door, name, **arguments)
    assert result.is_error and result.content[0].text.endswith(f"[{code}]")
    assert "Traceback" not in result.content[0].text and str(door.folder) not in result.content[0].text


def test_an_unexpected_error_tells_nothing(door: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ValueError("secret-of-the-host")

    monkeypatch.setattr(door.house, "stream", broken)
    result = call(door, "chat", messages=HELLO)
    assert result.is_error and result.content[0].text.endswith("[unexpected]")
    assert "secret-of-the-host" not in result.content[0].text


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_a_caller_who_leaves_stops_the_job(door: Running, mode: str) -> None:
    async def leave() -> None:
        async with client(door, mode) as made:
            task = asyncio.ensure_future(made.call_tool("chat", LONG))
            while not door.house.admission.counts():
                await asyncio.sleep(0.05)
            task.cancel()
            await asyncio.wait([task])

    asyncio.run(asyncio.wait_for(leave(), 60))
    deadline = time.monotonic() + 10
    while door.house.admission.counts() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not door.house.admission.counts()


def test_progress_names_each_stage_once(door: Running) -> None:
    told: list[tuple[float, str | None]] = []

    async def tell(progress: float, total: float | None, message: str | None) -> None:
        told.append((progress, message))

    async def go() -> None:
        async with client(door) as made:
            await made.call_tool("speak", {"text": "Hi.", "seed": 7}, progress_callback=tell)

    asyncio.run(go())
    assert [number for number, _ in told] == list(range(1, len(told) + 1)) and all(text for _, text in told)


def test_callers_have_a_visitors_limits(door: Running) -> None:
    async def go() -> list[CallToolResult]:
        async with client(door) as made:
            short = {**LONG, "max_new_tokens": 16}
            return await asyncio.gather(*(made.call_tool("chat", short) for _ in range(6)))

    results = asyncio.run(go())
    assert sum(not result.is_error for result in results) == 3  # one running, two waiting
    assert door.house.admission.counts() == {}


def test_a_caller_is_known_by_address_and_not_by_what_it_says(door: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def noted(task: str, raw: dict[str, Any], visitor: str) -> None:
        seen.append(visitor)
        raise InvalidInput("empty", name=task)

    monkeypatch.setattr(door.house, "stream", noted)
    asked = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "chat", "arguments": {}}}
    for headers in ({}, {"x-forwarded-for": "10.9.9.9"}, {"x-gradio-server": "http://10.9.9.9"}):
        assert httpx.post(f"{door.url}/mcp", json=asked, headers={**JSON, **headers}).status_code == 200
    assert seen == ["at:127.0.0.1"] * 3


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"host": "evil.example"}, 421),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"content-type": "text/plain"}, 400),
        ({"x-forwarded-host": "evil.example"}, 200),
    ],
)
def test_foreign_pages_are_refused(door: Running, headers: dict[str, str], status: int) -> None:
    answer = httpx.post(f"{door.url}/mcp", json=PING, headers={**JSON, **headers})
    assert answer.status_code == status and "evil.example" not in answer.text


def test_the_class_pin_is_asked_for(settings: Settings, server: Running) -> None:
    opened = dataclasses.replace(settings, mcp=True, host="0.0.0.0", pin="471103")
    with running(opened, server.folder) as found:
        for headers, status in (({}, 401), ({"authorization": "Bearer 471103"}, 200)):
            assert httpx.post(f"{found.url}/mcp", json=PING, headers={**JSON, **headers}).status_code == status


def test_nothing_else_of_the_protocol_is_open(door: Running) -> None:
    assert httpx.get(f"{door.url}/mcp", headers=JSON).status_code == 405
    for path in ("/mcp/", "/mcp/sse", "/gradio_api/mcp", "/gradio_api/mcp/", "/gradio_api/mcp/schema"):
        assert httpx.post(f"{door.url}{path}", json=PING, headers=JSON).status_code == 404


def test_it_is_off_unless_asked_for(server: Running) -> None:
    assert Settings.read({}).mcp is False and Settings.read({"SYNESTHESIA_MCP": "1"}).mcp is True
    assert httpx.post(f"{server.url}/mcp", json=PING, headers=JSON).status_code == 404


def test_a_tool_nobody_decided_on_keeps_it_from_starting(monkeypatch: pytest.MonkeyPatch, door: Running) -> None:
    monkeypatch.setattr("demos.mcp_api._TASKS", {"shell": "reasoning"})
    monkeypatch.setattr("demos.mcp_api.say", lambda key, lang: key)
    with pytest.raises(RuntimeError, match="shell"):
        Door(door.house)  # type: ignore[arg-type]


@pytest.mark.parametrize("module", ["mcp", "mcp_types"])
def test_without_the_package_it_says_what_to_install(settings: Settings, module: str) -> None:
    code = f"import sys; sys.modules[{module!r}] = None; from demos.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "--mcp", "--port", "0", "--lang", "en"]
    done = subprocess.run(command, cwd=settings.root, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "pip install -r requirements-mcp.txt" in done.stderr and "Traceback" not in done.stderr
