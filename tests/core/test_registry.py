"""Each rule of the registry about loads, turns and stops, one test. The loader holds numbers for weights."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from pipelines.core.errors import (
    AdapterMismatch,
    Cancelled,
    ModelBusy,
    ModelLoadFailed,
    ModelTooLarge,
    OutOfMemory,
    TimedOut,
)
from pipelines.core.specs import AdapterUse
from pipelines.core.streaming import Progress, Stop
from tests.core.fakes import (
    MB,
    FakeLoader,
    Worker,
    make_registry,
    model_card,
    resident,
    until,
    use,
)

# -- one load ------------------------------------------------------------------------------------


def test_a_hundred_first_requests_make_one_load() -> None:
    registry, loader = make_registry()
    gate = loader.gates["a"] = threading.Event()
    seen: list[object] = []

    def ask() -> None:
        with registry.lease("a", exclusive=False) as lease:
            seen.append(lease.model)

    workers = [Worker(ask) for _ in range(100)]
    until(lambda: registry.waiting == 99)
    gate.set()
    for worker in workers:
        worker.join_for()
    assert loader.count("load", "a") == 1
    assert len(seen) == 100 and len(set(map(id, seen))) == 1


def test_a_failed_load_is_tried_once_told_to_all_who_wait_and_leaves_no_record() -> None:
    registry, loader = make_registry()
    gate = loader.gates["a"] = threading.Event()
    loader.errors["a"] = ValueError("torn file")
    workers = [Worker(lambda: use(registry, "a")) for _ in range(10)]
    until(lambda: registry.waiting == 9)
    gate.set()
    for worker in workers:
        with pytest.raises(ModelLoadFailed) as caught:
            worker.join_for()
        assert (caught.value.code, caught.value.params["kind"]) == ("load_failed", "ValueError")
    assert loader.count("load", "a") == 1
    assert registry.status() == () and registry.used == 0
    del loader.errors["a"]
    use(registry, "a")
    assert loader.count("load", "a") == 2


def test_an_error_is_told_only_to_those_who_wait_for_what_failed() -> None:
    registry, loader = make_registry()
    gate = loader.gates["a"] = threading.Event()
    loader.errors["a"] = ValueError()

    def ask_both() -> None:
        with registry.lease_many(("a", ()), ("b", ())):
            raise AssertionError("a cannot be loaded")

    both = Worker(ask_both)
    until(lambda: loader.begun.is_set())
    b = Worker(lambda: use(registry, "b"))
    until(lambda: registry.waiting == 1)
    gate.set()
    with pytest.raises(ModelLoadFailed):
        both.join_for()
    b.join_for()
    assert resident(registry) == {"b"}


def test_a_broken_adapter_is_tried_once_and_leaves_the_base_as_it_was() -> None:
    registry, loader = make_registry()
    use(registry, "a")
    gate = loader.gates["attach a1"] = threading.Event()
    loader.errors["attach a1"] = AdapterMismatch("adapter_shape", id="a1")
    workers = [Worker(lambda: use(registry, "a", "a1")) for _ in range(5)]
    until(lambda: registry.waiting == 4)
    gate.set()
    for worker in workers:
        with pytest.raises(AdapterMismatch):
            worker.join_for()
    assert loader.count("attach", "a1") == 1
    assert resident(registry) == {"a"} and registry.used == 10 * MB


@pytest.mark.parametrize("kind", [MemoryError, type("OutOfMemoryError", (RuntimeError,), {})])
def test_running_out_of_memory_while_loading_is_said_as_such(kind: type[Exception]) -> None:
    registry, _ = make_registry(loader=FakeLoader(errors={"a": kind("no room")}))
    with pytest.raises(OutOfMemory):
        use(registry, "a")
    assert registry.used == 0


def test_who_waits_for_a_load_sees_how_far_it_has_come() -> None:
    half = Progress("download", 1, 2)
    go = threading.Event()

    def fetch(spec: Any, *, stop: Stop, progress: Any) -> Path:
        progress(half)
        assert go.wait(5)
        return Path()

    registry, _ = make_registry(fetch=fetch)
    first = Worker(lambda: use(registry, "a"))
    until(lambda: registry.status() and registry.status()[0].progress == half)
    seen: list[Progress] = []
    second = Worker(lambda: use(registry, "a", progress=seen.append))
    until(lambda: half in seen)
    go.set()
    first.join_for()
    second.join_for()


# -- turns ---------------------------------------------------------------------------------------


def test_waiting_is_first_come_first_served() -> None:
    registry, _ = make_registry()
    order: list[int] = []

    def ask(number: int) -> None:
        with registry.lease("a"):
            order.append(number)

    with registry.lease("a"):
        workers = []
        for number in range(8):
            workers.append(Worker(lambda number=number: ask(number)))
            until(lambda number=number: registry.waiting == number + 1)
    for worker in workers:
        worker.join_for()
    assert order == list(range(8))


def test_a_small_request_does_not_overtake_a_large_one_that_waits_for_memory() -> None:
    registry, _ = make_registry(model_card("a"), model_card("large", 25), model_card("small", 5))
    order: list[str] = []

    def ask(id: str) -> None:
        with registry.lease(id):
            order.append(id)

    with registry.lease("a"):
        large = Worker(lambda: ask("large"))
        until(lambda: registry.waiting == 1)
        small = Worker(lambda: ask("small"))
        until(lambda: registry.waiting == 2)
    large.join_for()
    small.join_for()
    assert order == ["large", "small"]


def test_who_waits_for_a_busy_model_does_not_hold_up_other_models() -> None:
    registry, _ = make_registry()
    with registry.lease("a"):
        worker = Worker(lambda: use(registry, "a"))
        until(lambda: registry.waiting == 1)
        use(registry, "b", timeout=0)
    worker.join_for()


def test_readers_do_not_starve_one_who_wants_the_model_alone() -> None:
    registry, _ = make_registry()
    with registry.lease("a", exclusive=False):
        alone = Worker(lambda: use(registry, "a"))
        until(lambda: registry.waiting == 1)
        with pytest.raises(ModelBusy):
            use(registry, "a", exclusive=False, timeout=0)
    alone.join_for()


def test_readers_share_a_model_and_an_exclusive_lease_does_not() -> None:
    registry, _ = make_registry()
    with registry.lease("a", exclusive=False), registry.lease("a", exclusive=False, timeout=0):
        with pytest.raises(ModelBusy):
            use(registry, "a", timeout=0)
        assert registry.status()[0].leases == 2
    with registry.lease("a"), pytest.raises(ModelBusy):
        use(registry, "a", exclusive=False, timeout=0)


def test_time_spent_waiting_for_a_load_does_not_count() -> None:
    registry, loader = make_registry()
    gate = loader.gates["a"] = threading.Event()
    done = threading.Event()

    def ask_first() -> None:
        with registry.lease("a"):
            assert done.wait(5)

    first = Worker(ask_first)
    until(loader.begun.is_set)
    second = Worker(lambda: use(registry, "a", timeout=0.2))
    second.join(0.3)
    gate.set()
    until(lambda: registry.status()[0].state == "ready")
    second.join(0.05)
    assert second.is_alive()
    done.set()
    first.join_for()
    second.join_for()


def test_several_models_are_leased_all_or_none() -> None:
    registry, _ = make_registry()
    with registry.lease("b"):
        with pytest.raises(ModelBusy), registry.lease_many(("a", ()), ("b", ()), timeout=0):
            pass
        use(registry, "a", timeout=0)
    with registry.lease_many(("a", (AdapterUse("a1"),)), ("b", ())) as (a, b):
        assert (a.spec.id, b.spec.id) == ("a", "b")
        assert a.model.active == (AdapterUse("a1"),)


def test_asking_for_the_same_two_in_both_orders_does_not_deadlock() -> None:
    registry, _ = make_registry(budget_mb=20)

    def ask(ids: str) -> None:
        for _ in range(30):
            with registry.lease_many(*((id, ()) for id in ids)):
                pass

    for worker in [Worker(lambda ids=ids: ask(ids)) for ids in ("ab", "ba", "bc", "ca")]:
        worker.join_for(10)


def test_a_set_larger_than_the_budget_fails_at_once() -> None:
    registry, _ = make_registry(budget_mb=15)
    with pytest.raises(ModelTooLarge), registry.lease_many(("a", ()), ("b", ())):
        pass


# -- stopping ------------------------------------------------------------------------------------


def test_a_stop_ends_the_waiting_and_leaves_no_trace_in_the_queue() -> None:
    registry, _ = make_registry()
    stop = Stop()
    with registry.lease("a"):
        worker = Worker(lambda: use(registry, "a", stop=stop))
        until(lambda: registry.waiting == 1)
        stop.set()
        with pytest.raises(Cancelled):
            worker.join_for()
        assert registry.waiting == 0


def test_a_stop_ends_a_download_and_the_next_who_waits_takes_over() -> None:
    fetching = threading.Event()

    def fetch(spec: Any, *, stop: Stop, progress: Any) -> Path:
        fetching.set()
        while stop is impatient:
            stop.check()
            stop.wait(0.01)
        return Path()

    registry, loader = make_registry(fetch=fetch)
    impatient = Stop()
    first = Worker(lambda: use(registry, "a", stop=impatient))
    until(fetching.is_set)
    second = Worker(lambda: use(registry, "a"))
    until(lambda: registry.waiting == 1)
    impatient.set()
    with pytest.raises(Cancelled):
        first.join_for()
    second.join_for()
    assert loader.count("load", "a") == 1


def test_a_stop_ends_the_wait_for_somebody_elses_construction() -> None:
    registry, loader = make_registry()
    gate = loader.gates["a"] = threading.Event()
    first = Worker(lambda: use(registry, "a"))
    until(lambda: loader.begun.is_set())
    stop = Stop()
    second = Worker(lambda: use(registry, "b", stop=stop))
    until(lambda: "b" in resident(registry))
    stop.set()
    with pytest.raises(Cancelled):
        second.join_for()
    assert resident(registry) == {"a"} and loader.count("load", "b") == 0
    gate.set()
    first.join_for()


def test_a_deadline_that_passes_while_loading_is_not_told_to_others() -> None:
    def fetch(spec: Any, *, stop: Stop, progress: Any) -> Path:
        while stop is hurried:
            stop.check()
            stop.wait(0.01)
        return Path()

    registry, _ = make_registry(fetch=fetch)
    hurried = Stop(0.15)
    hurried.start_clock()
    first = Worker(lambda: use(registry, "a", stop=hurried))
    until(lambda: resident(registry))
    second = Worker(lambda: use(registry, "a"))
    with pytest.raises(TimedOut):
        first.join_for()
    second.join_for()
