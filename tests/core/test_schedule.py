"""Device slots: fair between visitors, and free only when the work in them has ended."""

from __future__ import annotations

import threading
from collections import Counter

import pytest

from pipelines.core.errors import Cancelled, TimedOut
from pipelines.core.schedule import Slots
from pipelines.core.streaming import Stop
from tests.core.fakes import Worker, until


class Line:
    """Jobs that queue for slots one after the other; `order` tells who got one when."""

    def __init__(self, slots: Slots) -> None:
        self.slots = slots
        self.order: list[str] = []
        self.workers: list[Worker] = []

    def add(self, visitor: str, stop: Stop | None = None) -> Worker:
        places: list[int] = []
        worker = Worker(lambda: self.work(visitor, Stop() if stop is None else stop, places))
        until(lambda: places or not worker.is_alive())
        self.workers.append(worker)
        return worker

    def work(self, visitor: str, stop: Stop, places: list[int]) -> None:
        with self.slots.slot(visitor, stop, places.append):
            self.order.append(visitor)

    def finish(self) -> str:
        for worker in self.workers:
            worker.join_for()
        return "".join(self.order)


def test_visitors_take_turns_however_much_one_asks_for() -> None:
    slots = Slots(1)
    line = Line(slots)
    with slots.slot("x", Stop()):
        for visitor in "aaabbc":
            line.add(visitor)
    assert line.finish() == "abcaba"


def test_who_comes_while_another_computes_goes_before_its_next_job() -> None:
    slots = Slots(1)
    line = Line(slots)
    with slots.slot("a", Stop()):
        line.add("a")
        line.add("b")
    assert line.finish() == "ba"


def test_a_visitor_computes_one_job_at_a_time_even_if_slots_are_free() -> None:
    slots = Slots(2, per_visitor=1)
    line = Line(slots)
    with slots.slot("a", Stop()):
        line.add("a")
        line.add("b").join_for()
        assert line.order == ["b"]
    assert line.finish() == "ba"


def test_no_more_jobs_compute_than_there_are_slots() -> None:
    slots, lock = Slots(2, per_visitor=2), threading.Lock()
    now: Counter[str] = Counter()

    def work(visitor: str) -> None:
        for _ in range(20):
            with slots.slot(visitor, Stop()):
                with lock:
                    now[visitor] += 1
                    assert now.total() <= 2
                with lock:
                    now[visitor] -= 1

    for worker in [Worker(lambda visitor=visitor: work(visitor)) for visitor in "aabbcc"]:
        worker.join_for(20)


def test_a_stopped_job_keeps_its_slot_until_it_has_really_ended() -> None:
    slots, stop, end = Slots(1), Stop(), threading.Event()

    def stubborn() -> None:
        with slots.slot("a", stop):
            assert end.wait(5)

    first = Worker(stubborn)
    line = Line(slots)
    until(lambda: slots._free == 0)
    stop.set()
    second = line.add("b")
    second.join(0.1)
    assert line.order == []
    end.set()
    first.join_for()
    assert line.finish() == "b"


def test_a_waiting_job_that_is_stopped_leaves_the_queue_at_once() -> None:
    slots, stop = Slots(1), Stop()
    line = Line(slots)
    with slots.slot("x", Stop()):
        line.add("a", stop)
        line.add("b")
        stop.set()
        with pytest.raises(Cancelled):
            line.workers.pop(0).join_for()
    assert line.finish() == "b"


def test_a_deadline_ends_the_waiting() -> None:
    slots, stop = Slots(1), Stop(0.05)
    stop.start_clock()
    with slots.slot("x", Stop()), pytest.raises(TimedOut), slots.slot("a", stop):
        pass


def test_the_waiting_are_told_their_place_as_it_changes() -> None:
    slots = Slots(1)
    places: list[int] = []

    def ask() -> None:
        with slots.slot("b", Stop(), places.append):
            pass

    line = Line(slots)
    with slots.slot("x", Stop()):
        line.add("a")
        worker = Worker(ask)
        until(lambda: places == [2])
    worker.join_for()
    line.finish()
    assert places in ([2, 1], [2])


def test_an_error_of_the_work_frees_the_slot_and_nothing_is_remembered_of_a_visitor_who_left() -> None:
    slots = Slots(1)
    with pytest.raises(ZeroDivisionError), slots.slot("a", Stop()):
        1 / 0  # noqa: B018
    with slots.slot("b", Stop()):
        pass
    assert slots._free == 1 and not slots._queues and not slots._running
