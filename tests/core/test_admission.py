"""Who may ask for how much at once, and how the door closes."""

from __future__ import annotations

import pytest

from pipelines.core.admission import Admission
from pipelines.core.errors import Draining, TooMany
from pipelines.core.streaming import Stop
from tests.core.fakes import Worker, until


def test_a_visitor_has_so_many_jobs_and_no_more_until_one_ends() -> None:
    admission = Admission(per_visitor=3, in_all=10)
    tickets = [admission.enter("ann", Stop()) for _ in range(3)]
    with pytest.raises(TooMany) as caught:
        admission.enter("ann", Stop())
    assert (caught.value.code, caught.value.params) == ("too_many_jobs", {"limit": 3})
    admission.enter("bob", Stop())
    tickets[0].release()
    admission.enter("ann", Stop())
    assert admission.counts() == {"ann": 3, "bob": 1}


def test_the_house_is_full_at_its_own_limit() -> None:
    admission = Admission(per_visitor=3, in_all=2)
    admission.enter("ann", Stop())
    admission.enter("bob", Stop())
    with pytest.raises(TooMany, match="house_full"):
        admission.enter("eve", Stop())


def test_releasing_twice_counts_once() -> None:
    admission = Admission(per_visitor=2, in_all=2)
    first, _ = admission.enter("ann", Stop()), admission.enter("ann", Stop())
    first.release()
    first.release()
    assert admission.counts() == {"ann": 1}


def test_an_error_of_the_work_gives_the_place_back() -> None:
    admission = Admission(per_visitor=1, in_all=1)
    with pytest.raises(ZeroDivisionError), admission.enter("ann", Stop()):
        1 / 0  # noqa: B018
    assert not admission.counts()


def test_stopping_reaches_the_visitors_own_jobs_of_that_name_only() -> None:
    admission = Admission(per_visitor=3, in_all=9)
    stops = {(who, job): Stop() for who in ("ann", "bob") for job in ("speech", "emotion")}
    for (who, job), stop in stops.items():
        admission.enter(who, stop, job)
    assert admission.stop("ann", "speech") == 1
    assert [key for key, stop in stops.items() if stop] == [("ann", "speech")]
    assert admission.stop("ann") == 2
    assert not stops["bob", "speech"] and not stops["bob", "emotion"]


def test_many_at_once_never_exceed_the_limit() -> None:
    admission = Admission(per_visitor=2, in_all=5)
    entered: list[int] = []

    def ask(visitor: int) -> None:
        for _ in range(50):
            try:
                with admission.enter(str(visitor % 4), Stop()):
                    counts = admission.counts()
                    assert max(counts.values()) <= 2 and counts.total() <= 5
                    entered.append(visitor)
            except TooMany:
                continue

    for worker in [Worker(lambda visitor=visitor: ask(visitor)) for visitor in range(8)]:
        worker.join_for()
    assert entered and not admission.counts()


def test_draining_refuses_new_jobs_and_waits_for_those_there_are() -> None:
    admission = Admission(per_visitor=3, in_all=9)
    stop = Stop()
    ticket = admission.enter("ann", stop)
    drain = Worker(lambda: admission.drain(5))
    until(lambda: admission.draining)
    with pytest.raises(Draining):
        admission.enter("bob", Stop())
    ticket.release()
    assert drain.join_for() is True and not stop


def test_draining_stops_what_does_not_end_by_itself() -> None:
    admission = Admission(per_visitor=3, in_all=9)
    stop = Stop()
    ticket = admission.enter("ann", stop)
    drain = Worker(lambda: admission.drain(0.05))
    until(lambda: bool(stop))
    assert drain.is_alive(), "waits for the work to notice"
    ticket.release()
    assert drain.join_for() is False
