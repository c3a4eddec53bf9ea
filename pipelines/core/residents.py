"""What is in memory, how large it is, and what goes when room is needed: bookkeeping only.

Takes no lock and calls no loader: the registry asks it under its own lock, and frees outside of it what it was told
has left.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pipelines.core.specs import AdapterSpec, ModelSpec
from pipelines.core.streaming import Progress

log = logging.getLogger(__name__)

_LOG_LENGTH = 200


@dataclass(slots=True, eq=False)
class Adapter:
    """An adapter of a resident model; `ready` once attached, before that its bytes are reserved."""

    spec: AdapterSpec
    size: int
    how: str = ""
    ready: bool = False
    leases: int = 0
    pinned: bool = False
    hits: int = 0
    last_used: float = 0.0


@dataclass(slots=True, eq=False)
class Record:
    """A model in memory; `ready` once loaded, before that its bytes are reserved."""

    spec: ModelSpec
    size: int
    device: str
    model: Any = None
    ready: bool = False
    leases: int = 0
    exclusive: bool = False
    detaching: int = 0  # adapters just leaving: nobody may use the model at that moment
    pinned: bool = False
    hits: int = 0
    last_used: float = 0.0
    load_seconds: float = 0.0
    progress: Progress | None = None
    adapters: dict[str, Adapter] = field(default_factory=dict)

    @property
    def total(self) -> int:
        return self.size + sum(adapter.size for adapter in self.adapters.values())

    @property
    def still(self) -> bool:
        """Nobody uses it, loads it or changes it."""
        return self.ready and not self.leases and not self.detaching

    @property
    def idle(self) -> bool:
        """May be evicted: nobody uses it, and no pin holds it or an adapter of it."""
        return self.still and not self.pinned and not any(a.pinned for a in self.adapters.values())


Entry = tuple[Record, Adapter | None]  # a model, or one adapter of it


@dataclass(frozen=True, slots=True)
class Leaving:
    """What has left the books and is now to be freed: a whole model, or one `adapter` of the model of `record`."""

    record: Record
    model: Any
    size: int
    adapter: str = ""


@dataclass(frozen=True, slots=True)
class RecordView:
    """One resident model or adapter, for people. Sizes in bytes, `last_used` in epoch seconds."""

    id: str
    kind: Literal["model", "adapter"]
    base: str
    state: Literal["loading", "ready"]
    size: int
    measured: bool
    device: str
    leases: int
    pinned: bool
    hits: int
    last_used: float
    load_seconds: float
    how: str
    progress: Progress | None


@dataclass(frozen=True, slots=True)
class Eviction:
    """Why something left memory. `reason`: room | idle | asked | budget | oversize | broken; `wanted_by`: who needed
    the room."""

    time: float
    id: str
    kind: Literal["model", "adapter"]
    size: int
    reason: str
    wanted_by: str = ""


class Residents:
    """The books of one memory budget, in bytes."""

    def __init__(self, budget: int, clock: Callable[[], float] = time.time) -> None:
        self.budget = budget
        self.records: dict[str, Record] = {}
        self.clock = clock
        self._measured: dict[str, int] = {}
        self._evictions: deque[Eviction] = deque(maxlen=_LOG_LENGTH)

    @property
    def used(self) -> int:
        """Bytes held or reserved."""
        return sum(record.total for record in self.records.values())

    def size_of(self, spec: ModelSpec | AdapterSpec) -> int:
        """As measured when it was last loaded, else as its card estimates."""
        return self._measured.get(spec.id, spec.size)

    def set_size(self, entry: Record | Adapter, size: int) -> None:
        """Replace the estimate by what was measured, now and for the next time."""
        entry.size = self._measured[entry.spec.id] = size

    def adapter(self, id: str) -> Adapter | None:
        return next((r.adapters[id] for r in self.records.values() if id in r.adapters), None)

    def idle(self) -> list[Entry]:
        """What may go, in the order it would: idle adapters, then idle bases, least recently used first."""
        adapters: list[Entry] = [
            (record, adapter)
            for record in self.records.values()
            if record.still
            for adapter in record.adapters.values()
            if not adapter.pinned
        ]
        bases: list[Entry] = [(record, None) for record in self.records.values() if record.idle]
        return [*sorted(adapters, key=_last_used), *sorted(bases, key=_last_used)]

    def room(self, needed: int, spared: Mapping[str, Collection[str]]) -> list[Entry] | None:
        """The fewest idle entries whose leaving makes `needed` bytes free; None if even all of them are not enough.

        `spared` are the models the room is for, each with the adapters to keep on it.
        """
        short = needed - (self.budget - self.used)
        chosen: list[Entry] = []
        for record, adapter in self.idle():
            if freed(chosen) >= short:
                break
            kept = spared.get(record.spec.id)
            if kept is None or (adapter is not None and adapter.spec.id not in kept):
                chosen.append((record, adapter))
        if freed(chosen) < short:
            return None
        for entry in list(chosen):
            rest = [other for other in chosen if other is not entry]
            if freed(rest) >= short:
                chosen = rest
        return chosen

    def surplus(self) -> list[Entry]:
        """Idle entries to let go until the budget holds; all of them if it cannot."""
        over = self.used - self.budget
        chosen: list[Entry] = []
        for entry in self.idle():
            if freed(chosen) >= over:
                break
            chosen.append(entry)
        return chosen

    def take_out(self, entries: list[Entry], reason: str, wanted_by: str = "") -> list[Leaving]:
        """Strike entries off the books and log why; an adapter goes with its base."""
        gone = {record.spec.id for record, adapter in entries if adapter is None}
        return [
            self._take_out(record, adapter, reason, wanted_by)
            for record, adapter in entries
            if adapter is None or record.spec.id not in gone
        ]

    def _take_out(self, record: Record, adapter: Adapter | None, reason: str, wanted_by: str) -> Leaving:
        name = record.spec.id if adapter is None else adapter.spec.id
        size = record.total if adapter is None else adapter.size
        event = Eviction(self.clock(), name, "adapter" if adapter else "model", size, reason, wanted_by)
        leaving = Leaving(record, record.model, size, name if adapter else "")
        if adapter is None:
            del self.records[name]
            record.model, record.ready = None, False
        else:
            del record.adapters[name]
            record.detaching += 1
        self._evictions.append(event)
        log.info("evicted %s %s (%d MiB): %s %s", event.kind, name, mib(size), reason, wanted_by)
        return leaving

    def views(self) -> tuple[RecordView, ...]:
        """Everything resident or loading, most recently used first, each base before its adapters."""
        found: list[RecordView] = []
        for record in sorted(self.records.values(), key=lambda r: -r.last_used):
            found.append(_view(record, None))
            found += [_view(record, a) for a in sorted(record.adapters.values(), key=lambda a: -a.last_used)]
        return tuple(found)

    def evictions(self) -> tuple[Eviction, ...]:
        """Newest first."""
        return tuple(reversed(self._evictions))


def freed(entries: list[Entry]) -> int:
    """Bytes these give back when they leave, counting an adapter once when its base goes too."""
    bases = {record.spec.id for record, adapter in entries if adapter is None}
    alone = sum(a.size for record, a in entries if a is not None and record.spec.id not in bases)
    return alone + sum(record.total for record, adapter in entries if adapter is None)


def mib(size: int) -> int:
    """Bytes in whole MiB, for people."""
    return round(size / 2**20)


def _last_used(entry: Entry) -> float:
    record, adapter = entry
    return (adapter or record).last_used


def _view(record: Record, adapter: Adapter | None) -> RecordView:
    entry = adapter or record
    return RecordView(
        id=entry.spec.id,
        kind="adapter" if adapter else "model",
        base=record.spec.id if adapter else "",
        state="ready" if entry.ready else "loading",
        size=entry.size,
        measured=entry.ready,
        device=record.device,
        leases=entry.leases,
        pinned=entry.pinned,
        hits=entry.hits,
        last_used=entry.last_used,
        load_seconds=record.load_seconds if not adapter else 0.0,
        how=adapter.how if adapter else "",
        progress=None if adapter else record.progress,
    )
