"""More than ten thousand random steps: the budget holds, leases and pins are kept, nobody waits for ever."""

from __future__ import annotations

import random
import threading
from collections import Counter
from contextlib import ExitStack, suppress
from typing import Any

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pipelines.core.errors import InvalidInput, ModelBusy, ModelTooLarge
from pipelines.core.registry import Lease, Registry
from pipelines.core.specs import AdapterUse
from tests.core.fakes import MB, Clock, FakeLoader, Worker, adapter_card, make_registry, model_card

SIZES = {"a": 5, "b": 8, "c": 13, "d": 21, "e": 3}
CARDS = tuple(model_card(id, size) for id, size in SIZES.items())
ADAPTERS = [adapter_card(f"{id}{n}", id, n) for id in SIZES for n in (1, 2, 4)]
IDS = [*SIZES, *(adapter.id for adapter in ADAPTERS)]

wishes = st.tuples(st.sampled_from(sorted(SIZES)), st.sets(st.sampled_from([1, 2, 4]), max_size=2))


def wanted(model: str, numbers: Any) -> tuple[str, tuple[AdapterUse, ...]]:
    return model, tuple(AdapterUse(f"{model}{n}", n / 2) for n in sorted(numbers))


class RegistryMachine(RuleBasedStateMachine):
    """One thread does whatever comes to mind and compares the registry's books with the loader's bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.registry, self.loader = make_registry(
            *CARDS, adapters=ADAPTERS, budget_mb=40, idle_seconds=100, clock=self.clock
        )
        self.stacks: list[tuple[ExitStack, tuple[Lease, ...]]] = []
        self.pinned: set[str] = set()

    def views(self) -> dict[str, Any]:
        return {view.id: view for view in self.registry.status()}

    @rule(wishes=st.lists(wishes, min_size=1, max_size=2, unique_by=lambda wish: wish[0]), exclusive=st.booleans())
    def lease(self, wishes: list[Any], exclusive: bool) -> None:
        want = tuple(wanted(model, numbers if exclusive else ()) for model, numbers in wishes)
        before, held = self.views(), len(self.registry.evictions())
        stack = ExitStack()
        try:
            leases = stack.enter_context(self.registry.lease_many(*want, timeout=0, exclusive=exclusive))
        except ModelTooLarge as error:
            assert error.params["need_mb"] > self.registry.budget // MB
        except ModelBusy:
            assert self.views().keys() == before.keys() and len(self.registry.evictions()) == held
            assert self.rightly_refused(want, exclusive)
        else:
            self.stacks.append((stack, leases))

    def rightly_refused(self, want: Any, exclusive: bool) -> bool:
        """True if a wanted model is in use, or what must stay leaves too little room for all that is wanted."""
        views = self.views()
        for held in (lease for _, leases in self.stacks for lease in leases):
            if held.spec.id in {id for id, _ in want} and (exclusive or held.adapters or self.is_exclusive(held)):
                return True
        ids = {id for id, uses in want} | {use.id for _, uses in want for use in uses}
        leased = {view.id for view in views.values() if view.leases}
        stays = {id for id in views if id in leased or id in self.pinned or views[id].base in leased}
        stays |= {views[id].base for id in stays if views[id].base}
        spec = {card.id: card for card in (*CARDS, *ADAPTERS)}
        return sum(spec[id].size for id in stays | ids) > self.registry.budget

    def is_exclusive(self, lease: Lease) -> bool:
        return lease._record is not None and lease._record.exclusive

    @precondition(lambda self: self.stacks)
    @rule(which=st.integers(0, 99))
    def release(self, which: int) -> None:
        stack, leases = self.stacks.pop(which % len(self.stacks))
        assert all(lease.model.active == lease.adapters and not lease.model.freed for lease in leases)
        stack.close()

    @rule(id=st.sampled_from(IDS), pinned=st.booleans())
    def pin(self, id: str, pinned: bool) -> None:
        if id in self.views():
            self.registry.pin(id, pinned)
            (self.pinned.add if pinned else self.pinned.discard)(id)

    @rule(id=st.sampled_from(IDS))
    def unload(self, id: str) -> None:
        views = self.views()
        used = id in views and (views[id].leases or (views[id].base and views[views[id].base].leases))
        try:
            self.registry.unload(id)
        except InvalidInput as error:
            assert error.code == ("in_use" if used else "not_resident")
            assert used or id not in views
        else:
            assert not used
            self.pinned -= {id, *(view.id for view in views.values() if view.base == id)}

    @rule(budget_mb=st.integers(5, 60))
    def set_budget(self, budget_mb: int) -> None:
        self.registry.set_budget(budget_mb * MB)

    @rule(seconds=st.sampled_from([1, 50, 101]))
    def wait(self, seconds: int) -> None:
        self.clock.now += seconds
        self.registry.sweep()

    @invariant()
    def books_agree_with_bytes(self) -> None:
        assert self.registry.used == self.loader.alive == sum(view.size for view in self.registry.status())

    @invariant()
    def over_budget_only_by_what_may_not_go(self) -> None:
        if self.registry.used > self.registry.budget:
            views = self.views()
            for view in views.values():
                base = views[view.base] if view.base else view
                adapters_pinned = any(v.pinned for v in views.values() if v.base == view.id)
                assert base.leases or view.pinned or adapters_pinned

    @invariant()
    def leases_and_pins_are_kept(self) -> None:
        views = self.views()
        assert self.pinned <= set(views) and all(views[id].pinned for id in self.pinned)
        leases = Counter(lease.spec.id for _, leases in self.stacks for lease in leases)
        assert {id: view.leases for id, view in views.items() if view.leases and not view.base} == leases
        assert not any(lease.model.freed for _, leases in self.stacks for lease in leases)
        assert self.registry.waiting == 0

    def teardown(self) -> None:
        for stack, _ in self.stacks:
            stack.close()
        self.registry.close()
        assert self.loader.alive == self.registry.used == 0


RegistryMachine.TestCase.settings = settings(
    max_examples=100, stateful_step_count=100, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
)
TestRegistryMachine = RegistryMachine.TestCase


class WatchedLoader(FakeLoader):
    """Also remembers the most bytes that were ever alive, and that nothing is built while something else is."""

    def __init__(self) -> None:
        super().__init__()
        self.most = 0
        self.clashes = 0
        self.inside = threading.Lock()

    def _call(self, name: str, id: str) -> None:
        self.calls.append((name, id))

    def load(self, *args: Any) -> Any:
        return self.alone(super().load, *args)

    def attach(self, *args: Any) -> Any:
        return self.alone(super().attach, *args)

    def detach(self, *args: Any) -> Any:
        return self.alone(super().detach, *args)

    def free(self, *args: Any) -> Any:
        return self.alone(super().free, *args)

    def alone(self, work: Any, *args: Any) -> Any:
        if not self.inside.acquire(blocking=False):
            self.clashes += 1
            self.inside.acquire()
        try:
            return work(*args)
        finally:
            self.most = max(self.most, self.alive)
            self.inside.release()


class Crowd:
    """Visitors in threads of their own. `users` counts who is inside which model, to catch a broken promise."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.users: Counter[str] = Counter()
        self.lock = threading.Lock()
        self.steps = 0

    def visit(self, seed: int, steps: int) -> None:
        draw = random.Random(seed)
        for _ in range(steps):
            draw.choices((self.use, self.pin_for_a_moment, self.unload, self.squeeze), (12, 1, 1, 1))[0](draw)
            with self.lock:
                self.steps += 1

    def use(self, draw: random.Random) -> None:
        exclusive = draw.random() < 0.7
        models = draw.sample(["a", "b", "c", "e"], draw.choice((1, 1, 2)))
        want = [wanted(id, draw.sample((1, 2, 4), draw.choice((0, 1, 2))) if exclusive else ()) for id in models]
        with self.registry.lease_many(*want, timeout=30, exclusive=exclusive) as leases:
            with self.lock:
                self.users.update(models)
                alone = all(self.users[id] == 1 for id in models)
            assert alone or not exclusive
            assert all(lease.model.active == lease.adapters and not lease.model.freed for lease in leases)
            with self.lock:
                self.users.subtract(models)

    def pin_for_a_moment(self, draw: random.Random) -> None:
        id = draw.choice(IDS)
        with suppress(InvalidInput):  # not resident just now
            self.registry.pin(id)
            self.registry.pin(id, False)

    def unload(self, draw: random.Random) -> None:
        with suppress(InvalidInput):  # in use, or not resident just now
            self.registry.unload(draw.choice(IDS))

    def squeeze(self, draw: random.Random) -> None:
        self.registry.set_budget(draw.randint(35, 45) * MB)


def test_a_crowd_of_threads_keeps_the_rules_and_loses_nobody() -> None:
    loader = WatchedLoader()
    registry, _ = make_registry(*CARDS, adapters=ADAPTERS, budget_mb=45, loader=loader)
    crowd = Crowd(registry)
    for worker in [Worker(lambda seed=seed: crowd.visit(seed, 1300)) for seed in range(8)]:
        worker.join_for(60)
    assert crowd.steps == 8 * 1300
    assert registry.waiting == 0 and not any(crowd.users.values())
    assert loader.most <= 45 * MB and loader.clashes == 0
    registry.close()
    assert loader.alive == registry.used == 0
