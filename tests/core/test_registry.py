"""Each rule of the registry about loads, turns, stops and leases, one test. The loader holds numbers for weights."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from pipelines.core.errors import (
    AdapterMismatch,
    Cancelled,
    InvalidInput,
    ModelBusy,
    ModelLoadFailed,
    ModelTooLarge,
    OutOfMemory,
    TimedOut,
    UnknownModel,
)
from pipelines.core.specs import AdapterUse
from pipelines.core.streaming import Progress, Stop
from tests.core.fakes import (
    MB,
    FakeLoader,
    Worker,
    adapter_card,
    fetch_nothing,
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


# -- leases --------------------------------------------------------------------------------------


def test_a_lease_may_be_released_twice_and_from_many_threads() -> None:
    registry, _ = make_registry()
    with registry.lease("a", exclusive=False), registry.lease("a", exclusive=False) as lease:
        for worker in [Worker(lease.release) for _ in range(20)]:
            worker.join_for()
        assert registry.status()[0].leases == 1
    assert registry.status()[0].leases == 0


def test_a_lease_entered_in_one_thread_may_be_left_in_another() -> None:
    registry, _ = make_registry()
    stack = ExitStack()
    Worker(lambda: stack.enter_context(registry.lease("a"))).join_for()
    assert registry.status()[0].leases == 1
    Worker(stack.close).join_for()
    use(registry, "a", timeout=0)


def test_an_error_of_the_work_releases_the_lease() -> None:
    registry, _ = make_registry()
    with pytest.raises(ZeroDivisionError), registry.lease("a"):
        1 / 0  # noqa: B018
    use(registry, "a", timeout=0)


def test_adapters_act_during_the_lease_only() -> None:
    registry, loader = make_registry()
    with registry.lease("a", [AdapterUse("a1", 0.5), AdapterUse("a2", -1)]) as lease:
        model = lease.model
        assert model.active == (AdapterUse("a1", 0.5), AdapterUse("a2", -1))
    assert model.active == () and lease.model is None
    with registry.lease("a") as lease:
        assert lease.model.active == () and set(lease.model.resident) == {"a1", "a2"}


def test_a_failed_activation_leaves_the_base_calm_and_free() -> None:
    registry, loader = make_registry()
    loader.errors["activate a"] = RuntimeError("halfway")
    with pytest.raises(ModelLoadFailed):
        use(registry, "a", "a1")
    assert loader.calls[-1] == ("calm", "a")
    del loader.errors["activate a"]
    use(registry, "a", "a1", timeout=0)


def test_a_model_whose_adapters_cannot_be_switched_off_is_dropped() -> None:
    registry, loader = make_registry()
    loader.errors["calm a"] = RuntimeError("stuck")
    with registry.lease("a", [AdapterUse("a1")]) as lease:
        lease.model.active = ()  # so that the fake lets it be freed
    assert resident(registry) == set() and registry.evictions()[0].reason == "broken"
    del loader.errors["calm a"]
    use(registry, "a")
    assert loader.count("load", "a") == 2


def test_a_lease_says_whether_it_was_cold_and_what_made_the_result() -> None:
    registry, _ = make_registry()
    for cold, adapters in ((True, ()), (False, ()), (True, (AdapterUse("a1"),)), (False, (AdapterUse("a1"),))):
        with registry.lease("a", adapters) as lease:
            made = lease.made(seed=7, seconds=1.5)
            assert (made.cold, made.adapters, made.model, made.seed) == (cold, adapters, "a", 7)


def test_requests_that_make_no_sense_are_refused_before_anything_is_loaded() -> None:
    registry, loader = make_registry()
    for error, id, adapters in (
        (UnknownModel, "nobody", ()),
        (UnknownModel, "a", ("nobody",)),
        (AdapterMismatch, "a", ("b1",)),
        (InvalidInput, "a", ("a1", "a1")),
    ):
        with pytest.raises(error):
            use(registry, id, *adapters)
    with pytest.raises(InvalidInput, match="model_twice"), registry.lease_many(("a", ()), ("a", ())):
        pass
    with pytest.raises(ValueError, match="exclusively"):
        use(registry, "a", "a1", exclusive=False)
    assert loader.calls == [] and registry.waiting == 0


# -- looking -------------------------------------------------------------------------------------


def test_the_status_shows_each_base_before_its_adapters_most_recently_used_first() -> None:
    registry, _ = make_registry()
    use(registry, "a", "a1")
    use(registry, "b")
    use(registry, "a", "a2")
    views = registry.status()
    assert [(v.id, v.kind, v.base) for v in views] == [
        ("a", "model", ""),
        ("a2", "adapter", "a"),
        ("a1", "adapter", "a"),
        ("b", "model", ""),
    ]
    assert [v.hits for v in views] == [1, 0, 0, 0] and views[1].how == "hot swap" and views[0].measured


def test_a_loading_model_is_shown_with_its_reserved_bytes() -> None:
    registry, loader = make_registry()
    gate = loader.gates["a"] = threading.Event()
    worker = Worker(lambda: use(registry, "a"))
    until(lambda: loader.begun.is_set())
    (view,) = registry.status()
    assert (view.state, view.size, view.measured, view.leases) == ("loading", 10 * MB, False, 1)
    assert registry.used == 10 * MB
    gate.set()
    worker.join_for()


def test_preload_pins_and_close_frees_what_is_not_in_use() -> None:
    registry, loader = make_registry()
    registry.preload(["a", "b"])
    assert all(view.pinned for view in registry.status())
    with registry.lease("b"):
        registry.close()
        assert resident(registry) == {"b"}
    registry.close()
    assert loader.alive == 0


def test_an_added_adapter_can_be_used_at_once() -> None:
    registry, _ = make_registry()
    registry.add_adapter(adapter_card("mine", "a"))
    use(registry, "a", "mine")
    assert "mine" in resident(registry)
    assert fetch_nothing(registry.catalog.adapter("mine"), stop=Stop(), progress=print) == Path("dir:mine")
