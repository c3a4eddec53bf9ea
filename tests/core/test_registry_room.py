"""Each rule of the registry about memory, one test: what may stay, what has to go, in which order, and why."""

from __future__ import annotations

import threading

import pytest

from pipelines.core.errors import InvalidInput, ModelBusy, ModelTooLarge
from pipelines.core.specs import AdapterUse
from tests.core.fakes import (
    MB,
    Clock,
    FakeLoader,
    Worker,
    adapter_card,
    make_registry,
    model_card,
    resident,
    until,
    use,
)


def test_too_large_for_the_whole_budget_fails_at_once_and_evicts_nothing() -> None:
    registry, _ = make_registry(model_card("a"), model_card("huge", 31))
    use(registry, "a")
    with pytest.raises(ModelTooLarge) as caught:
        use(registry, "huge")
    assert caught.value.params == {"id": "huge", "need_mb": 31, "budget_mb": 30}
    assert resident(registry) == {"a"}


def test_the_least_recently_used_goes_first_and_the_log_says_why() -> None:
    registry, loader = make_registry()
    for id in "abca":
        use(registry, id)
    use(registry, "d")
    assert resident(registry) == {"a", "c", "d"}
    (event,) = registry.evictions()
    assert (event.id, event.kind, event.size, event.reason, event.wanted_by) == ("b", "model", 10 * MB, "room", "d")
    assert loader.count("free", "b") == 1 and loader.alive == 30 * MB


def test_adapters_go_before_bases_even_when_used_later() -> None:
    registry, loader = make_registry(model_card("a"), model_card("b", 19), budget_mb=30)
    use(registry, "a", "a1")
    use(registry, "b")
    assert resident(registry) == {"a", "a1", "b"}
    registry.set_budget(29 * MB)
    assert resident(registry) == {"a", "b"}
    assert loader.count("detach", "a1") == 1 and loader.count("free", "a") == 0


def test_no_more_leaves_than_is_needed() -> None:
    registry, _ = make_registry(model_card("small", 2), model_card("large", 20), model_card("new", 20))
    use(registry, "small")
    use(registry, "large")
    use(registry, "new")
    assert resident(registry) == {"small", "new"}


def test_nothing_is_evicted_unless_that_is_enough() -> None:
    registry, _ = make_registry(model_card("a"), model_card("b"), model_card("c", 25))
    use(registry, "a")
    with registry.lease("b"), pytest.raises(ModelBusy) as caught:
        use(registry, "c", timeout=0.05)
    assert caught.value.params["id"] == "c" and caught.value.params["seconds"] < 1
    assert resident(registry) == {"a", "b"} and registry.evictions() == ()


def test_what_the_request_wants_itself_is_not_evicted_for_it() -> None:
    registry, _ = make_registry(model_card("a", 28), adapters=[adapter_card(f"a{n}", "a", 1) for n in range(4)])
    use(registry, "a", "a0")
    use(registry, "a", "a1")
    use(registry, "a", "a0", "a2")
    assert resident(registry) == {"a", "a0", "a2"}


def test_a_leased_model_is_never_evicted() -> None:
    registry, _ = make_registry(budget_mb=10)
    with registry.lease("a") as lease:
        with pytest.raises(ModelBusy):
            use(registry, "b", timeout=0)
        assert not lease.model.freed
    use(registry, "b")
    assert resident(registry) == {"b"}


def test_pins_hold_a_model_and_an_adapter_with_its_base() -> None:
    registry, _ = make_registry(budget_mb=21)
    use(registry, "a")
    registry.pin("a")
    use(registry, "b", "b1")
    with pytest.raises(ModelBusy):
        registry.pin("b1")
        use(registry, "c", timeout=0)
    registry.pin("b1", False)
    use(registry, "c")
    assert resident(registry) == {"a", "c"}


def test_only_what_is_resident_can_be_pinned_or_unloaded() -> None:
    registry, _ = make_registry()
    for act in (registry.pin, registry.unload):
        with pytest.raises(InvalidInput, match="not_resident"):
            act("a")


def test_idle_models_leave_after_their_time_and_pinned_ones_stay() -> None:
    clock = Clock()
    registry, _ = make_registry(idle_seconds=60, clock=clock)
    use(registry, "a", "a1")
    registry.preload(["b"])
    clock.now += 50
    use(registry, "a")
    clock.now += 20
    registry.sweep()
    assert resident(registry) == {"a", "b"}
    clock.now += 60
    registry.sweep()
    assert resident(registry) == {"b"}
    assert [(event.id, event.reason) for event in registry.evictions()] == [("a", "idle"), ("a1", "idle")]


def test_without_an_idle_time_nothing_is_swept() -> None:
    clock = Clock()
    registry, _ = make_registry(idle_seconds=0, clock=clock)
    use(registry, "a")
    clock.now += 1e9
    registry.sweep()
    assert resident(registry) == {"a"}


def test_unloading_frees_the_bytes_and_a_reload_makes_no_second_copy() -> None:
    registry, loader = make_registry()
    for _ in range(3):
        use(registry, "a", "a1")
        registry.unload("a1")
        assert (registry.used, loader.alive) == (10 * MB, 10 * MB)
        use(registry, "a", "a1")
        registry.unload("a")
        assert (registry.used, loader.alive) == (0, 0)
    assert {event.reason for event in registry.evictions()} == {"asked"}


def test_what_is_in_use_cannot_be_unloaded() -> None:
    registry, _ = make_registry()
    use(registry, "a", "a2")
    with registry.lease("a", [AdapterUse("a1")]):
        for id in ("a", "a1", "a2"):
            with pytest.raises(InvalidInput, match="in_use"):
                registry.unload(id)
    assert resident(registry) == {"a", "a1", "a2"}


def test_a_smaller_budget_takes_the_idle_at_once_and_the_leased_when_released() -> None:
    registry, loader = make_registry()
    use(registry, "a")
    with registry.lease("b") as lease:
        registry.set_budget(5 * MB)
        assert resident(registry) == {"b"} and not lease.model.freed
        with pytest.raises(ModelTooLarge):
            use(registry, "a")
    assert resident(registry) == set() and loader.alive == 0
    assert [event.reason for event in registry.evictions()] == ["budget", "budget"]


def test_a_base_kept_by_a_pinned_adapter_goes_with_it_once_the_budget_is_squeezed() -> None:
    registry, loader = make_registry()
    use(registry, "a", "a1")
    registry.pin("a1")
    registry.set_budget(5 * MB)
    assert resident(registry) == {"a", "a1"}
    registry.unload("a1")
    assert resident(registry) == set() and loader.alive == 0


def test_a_larger_budget_lets_the_waiting_in() -> None:
    registry, _ = make_registry(budget_mb=10)
    with registry.lease("a"):
        worker = Worker(lambda: use(registry, "b"))
        until(lambda: registry.waiting == 1)
        registry.set_budget(20 * MB)
        worker.join_for()


def test_a_resident_model_is_lent_even_while_the_budget_is_squeezed_under_others() -> None:
    registry, _ = make_registry(model_card("a", 5), model_card("b", 20))
    with registry.lease("a", exclusive=False), registry.lease("b"):
        registry.set_budget(21 * MB)
        use(registry, "a", exclusive=False, timeout=0)


def test_the_measured_size_replaces_the_estimate_also_for_the_next_time() -> None:
    registry, _ = make_registry(loader=FakeLoader(sizes={"a": 12 * MB, "a1": 3 * MB}))
    use(registry, "a", "a1")
    assert registry.used == 15 * MB
    registry.unload("a")
    registry.set_budget(14 * MB)
    with pytest.raises(ModelTooLarge) as caught:
        use(registry, "a", "a1")
    assert caught.value.params["need_mb"] == 15


def test_a_model_larger_than_its_card_said_evicts_the_idle_if_that_is_enough() -> None:
    registry, loader = make_registry(loader=FakeLoader(sizes={"c": 15 * MB}))
    for id in "abc":
        use(registry, id)
    assert resident(registry) == {"b", "c"} and loader.alive == registry.used == 25 * MB
    assert registry.evictions()[0].reason == "oversize"


def test_a_model_larger_than_its_card_said_leaves_again_if_others_need_theirs() -> None:
    registry, loader = make_registry(loader=FakeLoader(sizes={"c": 15 * MB}))
    use(registry, "b")
    with registry.lease("a"):
        registry.pin("b")
        with pytest.raises(ModelBusy):
            use(registry, "c", timeout=0)
        assert resident(registry) == {"a", "b"} and loader.alive == 20 * MB
    use(registry, "c")
    assert resident(registry) == {"b", "c"}


def test_a_model_larger_than_its_card_said_does_not_push_others_out_in_vain() -> None:
    cards = (model_card("a"), model_card("b", 5), model_card("c"))
    registry, _ = make_registry(*cards, loader=FakeLoader(sizes={"c": 28 * MB}))
    use(registry, "b")
    with registry.lease("a"), pytest.raises(ModelBusy):
        use(registry, "c", timeout=0)
    assert resident(registry) == {"a", "b"}
    assert [(event.id, event.reason) for event in registry.evictions()] == [("c", "oversize")]


def test_a_model_that_turns_out_too_large_for_everything_is_freed_and_refused() -> None:
    registry, loader = make_registry(loader=FakeLoader(sizes={"a": 99 * MB}))
    with pytest.raises(ModelTooLarge):
        use(registry, "a")
    assert (registry.used, loader.alive, loader.count("load", "a")) == (0, 0, 1)


def test_room_is_given_back_before_the_next_model_is_built() -> None:
    registry, loader = make_registry(budget_mb=10)
    use(registry, "a")
    use(registry, "b")
    assert loader.calls == [("load", "a"), ("free", "a"), ("load", "b")]


def test_a_slow_free_blocks_neither_the_status_nor_a_resident_model() -> None:
    registry, loader = make_registry(budget_mb=20)
    use(registry, "a")
    use(registry, "b")
    gate = loader.gates["free a"] = threading.Event()
    worker = Worker(lambda: use(registry, "c"))
    until(lambda: loader.count("free", "a"))
    use(registry, "b", timeout=0)
    assert "a" not in resident(registry)
    gate.set()
    worker.join_for()


def test_room_that_is_still_being_given_back_is_not_lent_out() -> None:
    registry, loader = make_registry(model_card("a", 20), model_card("b"), model_card("c"), budget_mb=20)
    use(registry, "a")
    gate = loader.gates["free a"] = threading.Event()
    first = Worker(lambda: use(registry, "b"))
    until(lambda: loader.count("free", "a"))
    second = Worker(lambda: use(registry, "c", timeout=0))
    until(lambda: registry.waiting == 1)
    assert resident(registry) == {"b"}
    gate.set()
    first.join_for()
    second.join_for()
    assert loader.calls[1:] == [("free", "a"), *sorted(loader.calls[2:])]


def test_nobody_uses_a_model_while_an_adapter_is_being_detached() -> None:
    registry, loader = make_registry()
    use(registry, "a", "a1")
    gate = loader.gates["detach a1"] = threading.Event()
    detaching = Worker(lambda: registry.unload("a1"))
    until(lambda: loader.count("detach", "a1"))
    user = Worker(lambda: use(registry, "a", "a2", timeout=0))
    until(lambda: registry.waiting == 1)
    with pytest.raises(InvalidInput, match="in_use"):
        registry.unload("a")
    gate.set()
    detaching.join_for()
    user.join_for()
    assert resident(registry) == {"a", "a2"}


def test_nothing_is_freed_while_another_model_is_built() -> None:
    registry, loader = make_registry()
    use(registry, "b")
    gate = loader.gates["a"] = threading.Event()
    loader.begun.clear()
    building = Worker(lambda: use(registry, "a"))
    until(loader.begun.is_set)
    freeing = Worker(lambda: registry.unload("b"))
    until(lambda: "b" not in resident(registry))
    freeing.join(0.05)
    assert loader.count("free", "b") == 0
    gate.set()
    building.join_for()
    freeing.join_for()
    assert loader.count("free", "b") == 1


def test_a_library_that_fails_to_free_does_not_harm_who_needed_the_room() -> None:
    registry, loader = make_registry(budget_mb=10)
    use(registry, "a")
    loader.errors["free a"] = RuntimeError("stuck")
    use(registry, "b")
    assert resident(registry) == {"b"}
