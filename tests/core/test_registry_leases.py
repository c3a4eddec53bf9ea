"""Each rule of the registry about leases and about looking at it, one test."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

from pipelines.core.errors import (
    AdapterMismatch,
    InvalidInput,
    ModelLoadFailed,
    UnknownModel,
)
from pipelines.core.specs import AdapterUse
from pipelines.core.streaming import Stop
from tests.core.fakes import (
    MB,
    Worker,
    adapter_card,
    fetch_nothing,
    make_registry,
    resident,
    until,
    use,
)

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
