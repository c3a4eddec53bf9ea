"""OpenAI's own client, unchanged, against the running app."""

from __future__ import annotations

import asyncio
import io
import time
from types import SimpleNamespace

import httpx
import openai
import pytest
import soundfile

from demos.openai_chat import Answer, chat_request, chunks
from demos.openai_request import size_of, texts_of, with_model
from pipelines.core.errors import InvalidInput
from pipelines.core.streaming import Done, Stop, TextDelta
from tests.demos.conftest import Running

HELLO = [{"role": "user", "content": "Say hello."}]


@pytest.fixture
def client(server: Running) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


def test_models_are_those_of_the_catalogue(server: Running, client: openai.OpenAI) -> None:
    ids = {model.id for model in client.models.list()}
    assert ids == {spec.id for spec in server.house.catalog.models() if not spec.part}
    assert client.models.retrieve("smollm2-135m").model_extra["available"] is True


def test_chat_answers_with_usage(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="smollm2-135m", messages=HELLO, max_tokens=6, temperature=0)
    assert answer.choices[0].message.content
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 6
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 6


def test_chat_streams_the_same_text(client: openai.OpenAI) -> None:
    asked = {"model": "smollm2-135m", "messages": HELLO, "max_tokens": 12, "seed": 7}
    whole = client.chat.completions.create(**asked)
    parts = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    assert "".join(p.choices[0].delta.content or "" for p in parts if p.choices) == whole.choices[0].message.content
    assert len(parts) > 5
    assert parts[-2].choices[0].finish_reason == whole.choices[0].finish_reason
    assert parts[-1].usage == whole.usage


def test_content_may_come_in_parts(client: openai.OpenAI) -> None:
    parts = [{"role": "user", "content": [{"type": "text", "text": "Say "}, {"type": "text", "text": "hello."}]}]
    asked = {"model": "default", "max_tokens": 4, "temperature": 0}
    one = client.chat.completions.create(messages=HELLO, **asked)
    assert client.chat.completions.create(messages=parts, **asked).choices[0].message == one.choices[0].message


def test_embeddings_are_unit_vectors_in_both_encodings(client: openai.OpenAI) -> None:
    packed = client.embeddings.create(model="smollm2-135m", input=["a cat", "a dog"])
    floats = client.embeddings.create(model="smollm2-135m", input=["a cat", "a dog"], encoding_format="float")
    assert [item.index for item in packed.data] == [0, 1]
    for one, other in zip(packed.data, floats.data, strict=True):
        assert one.embedding == pytest.approx(other.embedding, abs=1e-6)
        assert sum(x * x for x in one.embedding) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("format", ["mp3", "wav", "flac", "opus"])
def test_speech_is_a_readable_file(client: openai.OpenAI, format: str) -> None:
    made = client.audio.speech.create(model="default", voice="alloy", input="Good morning.", response_format=format)
    samples, rate = soundfile.read(io.BytesIO(made.content))
    assert 0.3 < len(samples) / rate < 5
    assert abs(samples).max() > 0.02


@pytest.mark.parametrize(
    ("asked", "status", "code", "param"),
    [
        ({"model": "nope", "messages": HELLO}, 404, "model_not_found", "model"),
        ({"messages": HELLO, "n": 2}, 400, "unsupported_value", "n"),
        ({"messages": HELLO, "tools": [{}]}, 400, "unsupported_value", "tools"),
        ({"messages": HELLO, "temperature": 9}, 400, "out_of_range", "temperature"),
        ({"messages": HELLO, "max_tokens": 10**6}, 400, "out_of_range", "max_tokens"),
        ({"messages": HELLO, "stop": list("abcde")}, 400, "unsupported_value", "stop"),
        ({"messages": []}, 400, "empty", "messages"),
        ({"messages": "hi"}, 400, "wrong_type", "messages"),
        ({"messages": [{"role": "robot", "content": "x"}]}, 400, "wrong_type", "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://127.0.0.1"}}]}]},
         400, "unsupported_value", "messages"),
    ],
)  # fmt: skip
def test_bad_requests_are_openai_errors(server: Running, asked: dict, status: int, code: str, param: str) -> None:
    answer = httpx.post(f"{server.url}/v1/chat/completions", json={"model": "default", **asked}, timeout=60)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (status, code, param)
    assert error["message"]


def test_errors_come_in_the_language_asked_for(server: Running) -> None:
    body = {"model": "nope", "messages": HELLO}
    answer = httpx.post(f"{server.url}/v1/chat/completions", json=body, headers={"accept-language": "zh-CN"})
    assert any("\u4e00" <= letter <= "\u9fff" for letter in answer.json()["error"]["message"])


def test_a_fourth_job_of_one_visitor_is_too_many(server: Running) -> None:
    tickets = [server.house.admission.enter("at:127.0.0.1", Stop()) for _ in range(3)]
    try:
        answer = httpx.post(f"{server.url}/v1/audio/speech", json={"input": "hi"})
    finally:
        for ticket in tickets:
            ticket.release()
    assert answer.status_code == 429 and "retry-after" in answer.headers
    assert answer.json()["error"]["type"] == "rate_limit_error"


def test_a_client_that_leaves_stops_its_job(server: Running) -> None:
    long = {"model": "default", "messages": HELLO, "max_tokens": 1024, "temperature": 2.0, "stream": True}
    with httpx.stream("POST", f"{server.url}/v1/chat/completions", json=long, timeout=60) as answer:
        next(answer.iter_lines())
        assert sum(server.house.admission.counts().values()) == 1
    deadline = time.monotonic() + 10
    while server.house.admission.counts() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not server.house.admission.counts()


def test_a_client_that_leaves_an_unstreamed_request_stops_its_job(server: Running) -> None:
    long = {"model": "default", "messages": HELLO, "max_tokens": 1024, "temperature": 2.0}
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{server.url}/v1/chat/completions", json=long, timeout=1.5)
    deadline = time.monotonic() + 10
    while server.house.admission.counts() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not server.house.admission.counts()


# -- without a server -------------------------------------------------------------------------------


def told(pieces: list[str], stops: tuple[str, ...]) -> tuple[str, Answer, Stop]:
    async def events():
        for piece in pieces:
            yield TextDelta(piece)
        yield Done(SimpleNamespace(finish_reason="length", prompt_tokens=1, completion_tokens=2))

    async def read() -> str:
        return "".join([text async for text in chunks(events(), answer, stop)])

    answer, stop = Answer("id", "m", stops), Stop()
    return asyncio.run(read()), answer, stop


@pytest.mark.parametrize(
    ("pieces", "stops", "text", "cut"),
    [
        (["one ", "two"], (), "one two", False),
        (["one", " EN", "D two"], (" END",), "one", True),
        (["one", " EN", "ough"], (" END",), "one ENough", False),
        (["one EN"], ("END",), "one EN", False),
        (["a", "b", "c"], ("c", "b"), "a", True),
    ],
)
def test_a_stop_string_ends_the_answer_before_it(pieces: list, stops: tuple, text: str, cut: bool) -> None:
    shown, answer, stop = told(pieces, stops)
    assert shown == answer.text == text
    assert (answer.cut, bool(stop)) == (cut, cut)
    assert answer.finish == ("stop" if cut else "length")


def test_a_model_may_name_its_adapters() -> None:
    assert with_model({"model": "base+fox:0.8+owl"}) == {"model": "base", "adapters": ["fox:0.8", "owl"]}
    assert with_model({"model": "default+fox"}) == {"model": "", "adapters": ["fox"]}
    assert with_model({}) == {"model": ""}


def test_sizes_and_inputs_are_read_strictly() -> None:
    assert size_of("512x256") == (512, 256) and size_of("auto") == (0, 0)
    assert texts_of("a") == ["a"]
    for bad in ("512", "axb", "99999999x99999999"):
        with pytest.raises(InvalidInput):
            size_of(bad)
    for bad in ([], [1], [[1, 2]], "", ["a"] * 65, None):
        with pytest.raises(InvalidInput):
            texts_of(bad)


def test_a_developers_message_is_a_system_message() -> None:
    body = {"messages": [{"role": "developer", "content": "Be brief."}], "max_completion_tokens": 3}
    assert chat_request(body).raw["messages"][0]["role"] == "system"
    assert chat_request(body).raw["max_new_tokens"] == 3
