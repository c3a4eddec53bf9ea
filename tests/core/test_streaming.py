"""A job on a thread of its own: events, errors, stopping, and a reader who goes away."""

from __future__ import annotations

import contextvars
import threading
import time
from typing import Any

import pytest

from pipelines.core.errors import Cancelled, ModelBusy, TimedOut
from pipelines.core.streaming import Done, Job, Preview, Progress, Stop, Stream, TextDelta
from tests.core.fakes import Worker, until

who: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="nobody")


def test_events_come_in_order_and_the_result_last() -> None:
    def work(job: Job) -> int:
        job.emit(TextDelta("a"))
        job.emit(TextDelta("b"))
        return 7

    assert list(Stream(work)) == [TextDelta("a"), TextDelta("b"), Done(7)]


def test_the_work_has_a_thread_of_its_own_and_the_readers_context() -> None:
    who.set("ann")
    stream = Stream(lambda job: (threading.current_thread(), who.get()))
    (done,) = stream
    assert isinstance(done, Done) and done.result[0] is not threading.current_thread()
    assert done.result[1] == "ann"


def test_a_stream_may_be_stepped_from_many_threads() -> None:
    stream = Stream(lambda job: [job.emit(Progress("run", n)) for n in range(5)])
    seen = [Worker(lambda: next(stream)).join_for() for _ in range(5)]
    assert [event.done for event in seen] == [0, 1, 2, 3, 4]


def test_an_error_reaches_the_reader_after_the_events_before_it() -> None:
    def work(job: Job) -> None:
        job.emit(TextDelta("a"))
        raise ModelBusy("model_busy", id="m", seconds=1)

    stream = Stream(work)
    assert next(stream) == TextDelta("a")
    with pytest.raises(ModelBusy):
        next(stream)
    assert list(stream) == []


def test_closing_sets_the_jobs_own_stop_and_no_other() -> None:
    ended = threading.Event()

    def work(job: Job) -> None:
        job.stop.wait(5)
        ended.set()
        job.check()

    first, second = Stream(work), Stream(lambda job: job.stop.wait(0.2))
    first.close()
    assert first.join(5) and ended.is_set()
    assert [event.result for event in second] == [False]
    assert not second.stop


def test_leaving_the_block_closes_the_stream() -> None:
    with Stream(lambda job: job.stop.wait(5)) as stream:
        pass
    assert stream.stop and stream.join(5)


def test_a_reader_who_is_waiting_is_let_go_by_a_close_from_elsewhere() -> None:
    release = threading.Event()
    stream = Stream(lambda job: release.wait(5))
    reader = Worker(lambda: list(stream))
    reader.join(0.05)
    stream.close()
    assert reader.join_for() == []
    release.set()
    assert stream.join(5)


def test_the_queue_is_bounded_and_the_work_waits_for_the_reader() -> None:
    emitted: list[int] = []

    def work(job: Job) -> None:
        for n in range(10):
            job.emit(Progress("run", n))
            emitted.append(n)

    stream = Stream(work, capacity=3)
    until(lambda: len(emitted) == 3)
    assert not stream.join(0.15) and len(emitted) == 3
    assert len(list(stream)) == 11


def test_a_closed_stream_does_not_hold_up_the_work() -> None:
    stream = Stream(lambda job: [job.emit(TextDelta("x")) for _ in range(100)], capacity=1)
    stream.close()
    assert stream.join(5)


def test_a_reader_who_stalls_holds_up_a_stopped_job_no_longer() -> None:
    left = threading.Event()

    def work(job: Job) -> str:
        for n in range(5):
            job.emit(Progress("run", n))
        left.set()
        return "partial"

    stream = Stream(work, capacity=1)
    assert not left.wait(0.15)
    stream.stop.set()
    assert left.wait(5)
    assert list(stream)[-1] == Done("partial"), "what was made until then still arrives"


def test_a_deadline_counts_from_the_start_of_the_clock() -> None:
    stop = Stop(0.05)
    time.sleep(0.06)
    assert not stop
    stop.start_clock()
    assert stop.wait(5) is True
    with pytest.raises(TimedOut) as caught:
        stop.check()
    assert caught.value.params == {"seconds": 0.05}


def test_a_stop_asked_for_is_cancelled_even_past_the_deadline() -> None:
    stop = Stop(0)
    stop.start_clock()
    stop.set()
    with pytest.raises(Cancelled):
        stop.check()


def test_a_stop_wakes_who_sleeps() -> None:
    stop = Stop()
    sleeper = Worker(lambda: stop.wait(5))
    stop.set()
    assert sleeper.join_for() is True


def test_a_job_without_a_listener_may_still_emit() -> None:
    seen: list[Any] = []
    Job().emit(Preview("image", None))
    Job(emit=seen.append).emit(Preview("image", None, 3))
    assert seen == [Preview("image", None, 3)]
