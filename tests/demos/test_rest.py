"""The typed endpoints: their schema, their results, their progress, their stop."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Iterator

import httpx
import numpy as np
import pytest
import soundfile
from gradio_client import Client

from demos.plain import plain
from demos.rest import ENDPOINTS
from pipelines.core.params import knobs
from pipelines.house import pipeline_class
from tests.demos.conftest import Running

HELLO = [{"role": "user", "content": "Say hello."}]


@pytest.fixture(scope="module")
def client(server: Running) -> Iterator[Client]:
    made = Client(server.url, verbose=False)
    yield made
    made.close()


@pytest.mark.parametrize("task", ENDPOINTS)
def test_an_endpoint_takes_its_tasks_knobs(server: Running, task: str) -> None:
    info = httpx.get(f"{server.url}/gradio_api/info").json()["named_endpoints"][f"/{ENDPOINTS[task]}"]
    declared = knobs(pipeline_class(task).Params)
    assert [p["parameter_name"] for p in info["parameters"]] == [*(knob.name for knob in declared), "lang"]
    for knob, parameter in zip(declared, info["parameters"], strict=False):
        assert parameter["type"].get("enum", []) == list(knob.choices)


def test_only_the_declared_endpoints_are_public(server: Running) -> None:
    named = httpx.get(f"{server.url}/gradio_api/info").json()["named_endpoints"]
    assert set(named) == {f"/{name}" for name in (*ENDPOINTS.values(), "stop", "models")}


def test_openapi_describes_them(server: Running) -> None:
    text = httpx.get(f"{server.url}/gradio_api/openapi.json").text
    assert all(f"/{name}" in text for name in ENDPOINTS.values())


def test_speech_comes_back_as_files(client: Client) -> None:
    result = client.predict(text="Good morning.", seed=7, api_name="/speak")
    samples, rate = soundfile.read(result["wav"])
    assert rate == result["rate"] and abs(len(samples) / rate - result["seconds"]) < 0.01
    assert np.load(result["mel"]).shape[0] == 80
    assert result["made"]["model"] == "hibari-heart"


def test_chat_tells_how_it_goes_and_ends_with_the_result(client: Client) -> None:
    job = client.submit(messages=HELLO, max_new_tokens=16, seed=7, api_name="/chat")
    told = list(job)
    assert told[-1]["completion_tokens"] == 16
    assert any(set(state) == {"text"} for state in told[:-1])
    assert all(told[-1]["text"].startswith(state.get("text", "").strip()) for state in told[:-1])


def test_models_says_what_is_there_and_in_memory(client: Client) -> None:
    client.predict(text="Hi.", api_name="/speak")
    found = client.predict(api_name="/models")
    rows = {row["id"]: row for row in found["models"]}
    assert rows["smollm2-135m"]["missing"] is None
    assert any(row["missing"] == "offline_not_cached" for row in rows.values())
    assert "hibari-heart" in {entry["id"] for entry in found["resident"]}


def test_stop_ends_ones_own_job(server: Running, client: Client) -> None:
    job = client.submit(messages=HELLO, max_new_tokens=1024, temperature=2.0, api_name="/chat")
    deadline = time.monotonic() + 30
    while not any("text" in state for state in job.outputs()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert client.predict(task="chat", api_name="/stop") == {"stopped": 1}
    assert job.result(timeout=30)["stopped"] is True
    assert not server.house.admission.counts()


def test_results_become_json() -> None:
    @dataclasses.dataclass
    class Inner:
        values: tuple[float, ...]

    @dataclasses.dataclass
    class Outer:
        inner: Inner
        image: bytes
        table: np.ndarray
        number: np.float32

    made = Outer(Inner((1.0, float("nan"))), b"\x89PNG...", np.zeros(3), np.float32(2))
    value = plain(made, lambda data, ending: ending)
    assert value == {"inner": {"values": [1.0, None]}, "image": "png", "table": "npy", "number": 2.0}


def test_nobody_stops_anothers_job(server: Running) -> None:
    one, other = httpx.Client(base_url=server.url, timeout=60), httpx.Client(base_url=server.url, timeout=60)
    assert one.get("/").cookies and other.get("/").cookies
    long = {"model": "default", "messages": HELLO, "max_tokens": 1024, "temperature": 2.0, "seed": 1, "stream": True}
    with one.stream("POST", "/v1/chat/completions", json=long) as answer:
        next(answer.iter_lines())
        assert stop_all(other) == 0
        assert stop_all(one) == 1


def stop_all(client: httpx.Client) -> int:
    event = client.post("/gradio_api/call/v2/stop", json={}).json()["event_id"]
    lines = client.get(f"/gradio_api/call/stop/{event}").text.strip().splitlines()
    return json.loads(lines[-1].removeprefix("data: "))[0]["stopped"]
