"""Between the event loop and a job: nothing is lost, nothing leaks, whoever leaves stops the work."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from demos import bridge
from demos.bridge import Bridge
from demos.replies import explain
from pipelines.core.errors import Cancelled, DemoError, TooMany
from pipelines.core.streaming import Done, Job, Progress, Stream, TextDelta


def made(work: Callable[[Job], Any]) -> tuple[Bridge, list[Stream]]:
    streams: list[Stream] = []

    def start(*_: Any) -> Stream:
        streams.append(Stream(work))
        return streams[-1]

    return Bridge(SimpleNamespace(stream=start, start=start)), streams  # type: ignore[arg-type]


async def read(door: Bridge, gone: Any = None) -> list[Any]:
    return [event async for event in door.events(await door.stream("speech", {}, "me"), gone)]


def test_events_come_in_order() -> None:
    def work(job: Job) -> int:
        job.emit(Progress("run"))
        job.emit(TextDelta("a"))
        return 3

    assert asyncio.run(read(made(work)[0])) == [Progress("run"), TextDelta("a"), Done(3)]


def test_a_silent_job_lets_its_reader_look_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bridge, "TICK", 0.02)
    events = asyncio.run(read(made(lambda job: job.stop.wait(0.2))[0]))
    assert None in events and events[-1] == Done(False)


def test_a_client_that_went_away_stops_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bridge, "TICK", 0.02)
    door, streams = made(lambda job: job.stop.wait(30))

    async def gone() -> bool:
        return True

    assert asyncio.run(read(door, gone)) == []
    assert streams[0].join(5)


def test_a_cancelled_reader_stops_the_job() -> None:
    door, streams = made(lambda job: job.stop.wait(30))

    async def main() -> None:
        reading = asyncio.create_task(read(door))
        await asyncio.sleep(0.1)
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)

    asyncio.run(main())
    assert streams[0].join(5)


def test_what_a_library_says_stays_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    def work(job: Job) -> None:
        raise RuntimeError("/home/me/secret at 0xdeadbeef")

    with pytest.raises(DemoError) as caught:
        asyncio.run(read(made(work)[0]))
    message = explain(caught.value, "en")
    assert caught.value.code == "unexpected" and caught.value.params["reference"] in message
    assert "secret" not in message and "secret" in caplog.text


def test_a_jobs_own_error_passes() -> None:
    def work(job: Job) -> None:
        raise TooMany("house_full", limit=1)

    with pytest.raises(TooMany):
        asyncio.run(read(made(work)[0]))


def test_a_stopped_job_without_a_result_is_cancelled() -> None:
    door, _ = made(lambda job: job.stop.wait(30))

    async def main() -> None:
        stream = await door.stream("speech", {}, "me")
        stream.close()
        await door.result(stream)

    with pytest.raises(Cancelled):
        asyncio.run(main())
