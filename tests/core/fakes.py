"""Cards, a loader and a registry of nothing but numbers: every rule of the registry can be tried in milliseconds."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipelines.core.catalog import Catalog
from pipelines.core.registry import Attachment, Registry
from pipelines.core.specs import AdapterSpec, AdapterUse, ModelSpec
from pipelines.core.streaming import Stop

MB = 2**20


def model_card(id: str, size_mb: int = 10, **more: Any) -> ModelSpec:
    known = {"task": "captioning", "loader": "fake", "source": f"dir:{id}", "license": "mit", "tier": "starter"}
    title = {"en": id, "zh": id}
    return ModelSpec(id=id, size_mb=size_mb, title=title, parameters_m=1.0, languages=("en",), **(known | more))


def adapter_card(id: str, base: str, size_mb: float = 1) -> AdapterSpec:
    return AdapterSpec(id=id, base=base, source=f"dir:{id}", title={"en": id, "zh": id}, license="mit", size_mb=size_mb)


@dataclass(eq=False)
class FakeModel:
    id: str
    size: int
    resident: dict[str, int] = field(default_factory=dict)
    active: tuple[AdapterUse, ...] = ()
    freed: bool = False


@dataclass
class FakeLoader:
    """Holds numbers instead of weights. `sizes` are true sizes where the card is wrong, `errors` what fails."""

    sizes: dict[str, int] = field(default_factory=dict)
    errors: dict[str, BaseException] = field(default_factory=dict)
    calls: list[tuple[str, str]] = field(default_factory=list)
    gates: dict[str, threading.Event] = field(default_factory=dict)
    begun: threading.Event = field(default_factory=threading.Event)
    alive: int = 0  # bytes not given back

    def load(self, spec: ModelSpec, folder: Path, device: str) -> FakeModel:
        self._call("load", spec.id)
        model = FakeModel(spec.id, self.sizes.get(spec.id, spec.size))
        self.alive += model.size
        return model

    def measure(self, model: FakeModel) -> int:
        return model.size

    def check(self, model: FakeModel, spec: AdapterSpec, folder: Path) -> None:
        self._call("check", spec.id)

    def attach(self, model: FakeModel, spec: AdapterSpec, folder: Path) -> Attachment:
        self._call("attach", spec.id)
        model.resident[spec.id] = self.sizes.get(spec.id, spec.size)
        self.alive += model.resident[spec.id]
        return Attachment(model.resident[spec.id], "hot swap")

    def activate(self, model: FakeModel, uses: tuple[AdapterUse, ...]) -> None:
        assert not model.freed and all(use.id in model.resident for use in uses)
        self._call("activate" if uses else "calm", model.id)
        model.active = uses

    def detach(self, model: FakeModel, id: str) -> None:
        assert not model.freed and id not in {use.id for use in model.active}
        self._call("detach", id)
        self.alive -= model.resident.pop(id)

    def free(self, model: FakeModel) -> None:
        assert not model.freed and not model.active
        self._call("free", model.id)
        self.alive -= model.size + sum(model.resident.values())
        model.freed = True

    def count(self, call: str, id: str) -> int:
        return self.calls.count((call, id))

    def _call(self, name: str, id: str) -> None:
        self.calls.append((name, id))
        self.begun.set()
        for key in (id, f"{name} {id}"):
            if key in self.gates:
                assert self.gates[key].wait(5)
            if key in self.errors:
                raise self.errors[key]


class Clock:
    """Seconds that pass when told to; every look is a little later, so that "least recently used" has no ties."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        self.now += 0.001
        return self.now


def fetch_nothing(spec: ModelSpec | AdapterSpec, *, stop: Stop, progress: Callable[..., None]) -> Path:
    return Path(spec.source)


def make_registry(
    *models: ModelSpec,
    adapters: Iterable[AdapterSpec] = (),
    budget_mb: int = 30,
    loader: FakeLoader | None = None,
    fetch: Callable[..., Path] = fetch_nothing,
    **more: Any,
) -> tuple[Registry, FakeLoader]:
    """A registry over the cards given, or over models "a" … "d" of 10 MB, each with adapters "a1", "a2" … of 1 MB."""
    cards = models or tuple(model_card(id) for id in "abcd")
    catalog = Catalog(cards, adapters or [adapter_card(f"{m.id}{n}", m.id) for m in cards for n in (1, 2)])
    loader = loader or FakeLoader()
    more.setdefault("clock", Clock())
    return Registry(catalog, lambda _: loader, fetch, budget=budget_mb * MB, **more), loader


class Worker(threading.Thread):
    """A thread whose result or exception `join_for()` hands over; it fails if the thread does not end."""

    def __init__(self, work: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self._work = work
        self.result: Any = None
        self.error: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            self.result = self._work()
        except BaseException as error:  # noqa: BLE001 - looked at by the test
            self.error = error

    def join_for(self, seconds: float = 5) -> Any:
        self.join(seconds)
        assert not self.is_alive(), "lost: still waiting"
        if self.error is not None:
            raise self.error
        return self.result


def until(true: Callable[[], object], seconds: float = 5) -> None:
    """Wait until something has come about in another thread."""
    end = threading.Event()
    for _ in range(int(seconds * 1000)):
        if true():
            return
        end.wait(0.001)
    raise AssertionError("never came about")


def use(registry: Registry, id: str, *adapters: str, **more: Any) -> None:
    """Lease and release at once."""
    with registry.lease(id, [AdapterUse(adapter) for adapter in adapters], **more):
        pass


def resident(registry: Registry) -> set[str]:
    """Ids of what is in memory or being loaded."""
    return {view.id for view in registry.status()}
