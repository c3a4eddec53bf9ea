"""What is in memory, who uses it, and what goes when room is needed.

Callers see `lease()`; everything else follows from it: one load however many ask, first come first served, nothing
evicted that is in use, nothing evicted unless that makes enough room, adapters before bases, least recently used
first. Knows no framework: a Loader builds and frees, a Fetch brings files.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from pipelines.core.catalog import Catalog
from pipelines.core.errors import (
    AdapterMismatch,
    DemoError,
    InvalidInput,
    ModelBusy,
    ModelLoadFailed,
    ModelTooLarge,
    OutOfMemory,
)
from pipelines.core.specs import AdapterSpec, AdapterUse, Made, ModelSpec
from pipelines.core.streaming import Progress, Stop

log = logging.getLogger(__name__)

# accelerate, PEFT and transformers patch nn.Module process-wide while they build (house §3.1), so every
# construction and every adapter attachment of the process is done under this one lock.
_CONSTRUCTION = threading.Lock()

_NO_STOP = Stop()
_POLL = 0.1  # seconds between looks at a waiter's stop signal
_LOG_LENGTH = 200

Wanted = tuple[str, tuple[AdapterUse, ...]]
OnProgress = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class Attachment:
    """What attaching an adapter did: its measured bytes, and `how`: "hot swap" or "add/remove"."""

    size: int
    how: str


class Loader(Protocol):
    """One library family. Every call comes with the model leased exclusively or known to nobody else."""

    def load(self, spec: ModelSpec, folder: Path, device: str) -> Any:
        """Build the model from local files."""

    def measure(self, model: Any) -> int:
        """Bytes of weights and buffers the loaded model holds."""

    def check(self, model: Any, spec: AdapterSpec, folder: Path) -> None:
        """Raise AdapterMismatch, before anything moves, if the files do not fit this model."""

    def attach(self, model: Any, spec: AdapterSpec, folder: Path) -> Attachment:
        """Make the adapter resident, inactive."""

    def activate(self, model: Any, uses: tuple[AdapterUse, ...]) -> None:
        """Let exactly these resident adapters act, at these weights; none: the exact base."""

    def detach(self, model: Any, id: str) -> None:
        """Drop a resident adapter and its bytes."""

    def free(self, model: Any) -> None:
        """Give back all the model's memory."""


class Fetch(Protocol):
    """Brings the files a card names into a local folder; may download."""

    def __call__(self, spec: ModelSpec | AdapterSpec, *, stop: Stop, progress: OnProgress) -> Path: ...


@dataclass(slots=True)
class _Adapter:
    spec: AdapterSpec
    size: int
    how: str = ""
    ready: bool = False
    leases: int = 0
    pinned: bool = False
    hits: int = 0
    last_used: float = 0.0


@dataclass(slots=True)
class _Record:
    spec: ModelSpec
    size: int
    device: str
    model: Any = None
    ready: bool = False
    measured: bool = False
    leases: int = 0
    exclusive: bool = False
    pinned: bool = False
    hits: int = 0
    last_used: float = 0.0
    load_seconds: float = 0.0
    progress: Progress | None = None
    adapters: dict[str, _Adapter] = field(default_factory=dict)

    @property
    def total(self) -> int:
        return self.size + sum(adapter.size for adapter in self.adapters.values())

    @property
    def idle(self) -> bool:
        """May be evicted: nobody uses it, nobody is loading it, and no pin holds it or an adapter of it."""
        return self.ready and not (self.leases or self.pinned or any(a.pinned for a in self.adapters.values()))


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
    """Why something left memory. `reason`: room | idle | asked | budget | oversize; `wanted_by`: who needed the room."""

    time: float
    id: str
    kind: Literal["model", "adapter"]
    size: int
    reason: str
    wanted_by: str = ""


class Lease:
    """The right to use a loaded model until `release()`, which any thread may call, any number of times."""

    def __init__(self, registry: Registry, record: _Record, uses: tuple[AdapterUse, ...], cold: bool) -> None:
        self._registry = registry
        self._record: _Record | None = record
        self.model = record.model
        self.spec = record.spec
        self.device = record.device
        self.adapters = uses
        self.cold = cold

    def made(self, *, seed: int | None, seconds: float) -> Made:
        """The line under a result: what made it."""
        spec = self.spec
        return Made(spec.id, spec.revision, self.adapters, seed, self.device, seconds, self.cold, spec.tier)

    def release(self) -> None:
        record, self._record = self._record, None
        self.model = None
        if record is not None:
            self._registry._release(record, self.adapters)



@dataclass(slots=True, eq=False)
class _Ticket:
    wanted: tuple[Wanted, ...]
    exclusive: bool
    needs_memory: bool = False
    error: DemoError | None = None  # of the load it was waiting for

    def conflicts(self, other: _Ticket) -> bool:
        """True if `other`, asked later, must not overtake this one."""
        return self.needs_memory or bool({id for id, _ in self.wanted} & {id for id, _ in other.wanted})


class Registry:
    """One memory budget over every model and adapter of the process. All methods may be called from any thread."""

    def __init__(
        self,
        catalog: Catalog,
        loaders: Callable[[str], Loader],
        fetch: Fetch,
        *,
        budget: int,
        device: str = "cpu",
        idle_seconds: float = 0.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.catalog = catalog
        self.device = device
        self.idle_seconds = idle_seconds
        self._loaders = loaders
        self._fetch = fetch
        self._budget = budget
        self._clock = clock
        self._changed = threading.Condition()
        self._records: dict[str, _Record] = {}
        self._measured: dict[str, int] = {}
        self._waiting: list[_Ticket] = []
        self._evictions: deque[Eviction] = deque(maxlen=_LOG_LENGTH)

    # -- asking ---------------------------------------------------------------------------------

    @contextmanager
    def lease(
        self,
        id: str,
        adapters: Iterable[AdapterUse] = (),
        timeout: float = 60.0,
        *,
        exclusive: bool = True,
        stop: Stop = _NO_STOP,
        progress: OnProgress | None = None,
    ) -> Iterator[Lease]:
        """Use a model with adapters; loads what is missing. Raises UnknownModel, AdapterMismatch, ModelTooLarge,
        ModelBusy (after `timeout` seconds of waiting; loading does not count), ModelLoadFailed, Offline, Cancelled.
        """
        with self.lease_many(
            (id, tuple(adapters)), timeout=timeout, exclusive=exclusive, stop=stop, progress=progress
        ) as leases:
            yield leases[0]

    @contextmanager
    def lease_many(
        self,
        *wanted: Wanted,
        timeout: float = 60.0,
        exclusive: bool = True,
        stop: Stop = _NO_STOP,
        progress: OnProgress | None = None,
    ) -> Iterator[tuple[Lease, ...]]:
        """Use several models at once: all or none, so that nobody holds one while waiting for another."""
        self._verify(wanted, exclusive)
        ticket = _Ticket(wanted, exclusive)
        leases = self._obtain(ticket, timeout, stop, progress or _silent)
        try:
            yield leases
        finally:
            for lease in leases:
                lease.release()

    def preload(self, ids: Iterable[str], *, pin: bool = True, progress: OnProgress | None = None) -> None:
        """Load models before anybody asks (classrooms, ZeroGPU), and keep them."""
        for id in ids:
            with self.lease(id, progress=progress):
                if pin:
                    self.pin(id)

    def add_adapter(self, spec: AdapterSpec) -> None:
        """Make an adapter known: an upload, or one trained here. It is loaded when first asked for."""
        self.catalog.add_adapter(spec)

    # -- steering -------------------------------------------------------------------------------

    @property
    def budget(self) -> int:
        return self._budget

    def set_budget(self, budget: int) -> None:
        """Change the budget in bytes. Idle entries go at once until it holds; those in use go when released."""
        with self._changed:
            self._budget = budget
            self._shrink()
            self._changed.notify_all()

    def pin(self, id: str, pinned: bool = True) -> None:
        """Keep a resident model or adapter whatever else needs the room. Raises InvalidInput if not resident."""
        with self._changed:
            entry = self._records.get(id) or self._resident_adapter(id)
            if entry is None or not entry.ready:
                raise InvalidInput("not_resident", id=id)
            entry.pinned = pinned
            self._shrink()
            self._changed.notify_all()

    def unload(self, id: str) -> None:
        """Drop a resident model or adapter now. Raises InvalidInput if it is in use, loading or not resident."""
        with self._changed:
            record = self._records.get(id)
            if record is not None:
                if record.leases or not record.ready:
                    raise InvalidInput("in_use", id=id)
                self._evict(record, None, "asked")
            else:
                self._unload_adapter(id)
            self._changed.notify_all()

    def sweep(self) -> None:
        """Unload what nobody used for `idle_seconds`. Called now and then by the house."""
        if not self.idle_seconds:
            return
        with self._changed:
            limit = self._clock() - self.idle_seconds
            for record, adapter in self._idle_entries():
                if (adapter or record).last_used < limit:
                    self._evict(record, adapter, "idle")
            self._changed.notify_all()

    def close(self) -> None:
        """Free everything that is not in use."""
        with self._changed:
            for record in list(self._records.values()):
                if record.ready and not record.leases:
                    self._evict(record, None, "asked")

    # -- looking --------------------------------------------------------------------------------

    def status(self) -> tuple[RecordView, ...]:
        """Everything resident or loading, most recently used first, each base before its adapters."""
        with self._changed:
            views: list[RecordView] = []
            for record in sorted(self._records.values(), key=lambda r: -r.last_used):
                views.append(_view(record, None))
                views += [_view(record, a) for a in sorted(record.adapters.values(), key=lambda a: -a.last_used)]
            return tuple(views)

    @property
    def used(self) -> int:
        """Bytes held or reserved."""
        with self._changed:
            return self._used()

    @property
    def waiting(self) -> int:
        """Requests waiting for memory or for a model in use."""
        return len(self._waiting)

    def evictions(self) -> tuple[Eviction, ...]:
        """What left memory and why, newest first."""
        with self._changed:
            return tuple(reversed(self._evictions))

    # -- obtaining a lease ----------------------------------------------------------------------

    def _verify(self, wanted: tuple[Wanted, ...], exclusive: bool) -> None:
        if len({id for id, _ in wanted}) < len(wanted):
            raise InvalidInput("model_twice")
        for id, uses in wanted:
            spec = self.catalog.model(id)
            if uses and not exclusive:
                raise ValueError("a model with adapters is leased exclusively: its active adapters are model-wide")
            for use in uses:
                adapter = self.catalog.adapter(use.id)
                if adapter.base != id:
                    raise AdapterMismatch("wrong_base", id=use.id, base=adapter.base, model=spec.id)

    def _obtain(self, ticket: _Ticket, timeout: float, stop: Stop, progress: OnProgress) -> tuple[Lease, ...]:
        started = time.monotonic()
        with self._changed:
            self._waiting.append(ticket)
        try:
            while True:
                self._take_turn(ticket, started, timeout, stop, progress)
                leases = self._load_missing(ticket, stop, progress)
                if leases is not None:
                    return leases
        finally:
            with self._changed:
                if ticket in self._waiting:
                    self._waiting.remove(ticket)
                self._changed.notify_all()

    def _take_turn(
        self, ticket: _Ticket, started: float, timeout: float, stop: Stop, progress: OnProgress
    ) -> None:
        """Wait for the ticket's turn, then hold everything it wants: ready entries leased, missing ones reserved."""
        loading = 0.0  # waiting for somebody else's load of the same model is not waiting for room
        told = False
        while True:
            with self._changed:
                if ticket.error is not None:
                    raise ticket.error
                before = time.monotonic()
                blocked = self._blocked(ticket)
                if not blocked:
                    self._hold(ticket)
                    return
                self._changed.wait(_POLL)
                now = time.monotonic()
                loading += now - before if blocked == "loading" else 0.0
                waited = now - started - loading
                if waited > timeout:
                    raise ModelBusy("model_busy", id=ticket.wanted[0][0], seconds=round(waited, 1))
            stop.check()
            if not told:
                progress(Progress("wait"))
                told = True

    def _blocked(self, ticket: _Ticket) -> str:
        """Why the ticket cannot go ahead now: "turn", "busy", "loading", "memory", or "" if it can.

        Evicts what makes room, but only if that is enough. Raises ModelTooLarge.
        """
        missing = 0
        total = 0
        for id, uses in ticket.wanted:
            record = self._records.get(id)
            size = record.size if record else self._size_of(self.catalog.model(id))
            missing += 0 if record else size
            total += size
            for use in uses:
                resident = record.adapters.get(use.id) if record else None
                size = resident.size if resident else self._size_of(self.catalog.adapter(use.id))
                missing += 0 if resident else size
                total += size
        if total > self._budget:
            raise ModelTooLarge(
                "model_too_large", id=ticket.wanted[0][0], need_mb=_mb(total), budget_mb=_mb(self._budget)
            )
        earlier = self._waiting[: self._waiting.index(ticket)] if ticket in self._waiting else []
        for id, _ in ticket.wanted:
            record = self._records.get(id)
            if record and not record.ready:
                return "loading"
            if record and record.leases and (ticket.exclusive or record.exclusive):
                return "busy"
        if any(other.conflicts(ticket) for other in earlier):
            return "turn"
        ticket.needs_memory = not self._make_room(missing, ticket)
        return "memory" if ticket.needs_memory else ""

    def _hold(self, ticket: _Ticket) -> None:
        now = self._clock()
        for id, uses in ticket.wanted:
            record = self._records.get(id)
            if record is None:
                spec = self.catalog.model(id)
                record = self._records[id] = _Record(spec, self._size_of(spec), self.device)
            record.leases += 1
            record.exclusive = ticket.exclusive
            record.last_used = now
            record.hits += record.ready
            for use in uses:
                adapter = record.adapters.get(use.id)
                if adapter is None:
                    spec = self.catalog.adapter(use.id)
                    adapter = record.adapters[use.id] = _Adapter(spec, self._size_of(spec))
                adapter.leases += 1
                adapter.last_used = now
                adapter.hits += adapter.ready
        self._waiting.remove(ticket)
        self._changed.notify_all()

    def _load_missing(self, ticket: _Ticket, stop: Stop, progress: OnProgress) -> tuple[Lease, ...] | None:
        """Load and attach what the held ticket lacks; None if the measured size needs another turn."""
        held = [(self._records[id], uses) for id, uses in ticket.wanted]
        cold = {record.spec.id for record, uses in held if not self._complete(record, uses)}
        try:
            for record, uses in held:
                if not record.ready:
                    self._load(record, stop, progress)
                for use in uses:
                    if not record.adapters[use.id].ready:
                        self._attach(record, record.adapters[use.id], stop, progress)
            if not self._fits(held):
                self._let_go(held)
                with self._changed:
                    self._waiting.insert(0, ticket)
                return None
            for record, uses in held:
                if ticket.exclusive:
                    self._loaders(record.spec.loader).activate(record.model, uses)
        except BaseException as error:
            self._let_go(held, error)
            raise
        return tuple(Lease(self, record, uses, record.spec.id in cold) for record, uses in held)

    @staticmethod
    def _complete(record: _Record, uses: tuple[AdapterUse, ...]) -> bool:
        return record.ready and all(record.adapters[use.id].ready for use in uses)

    def _load(self, record: _Record, stop: Stop, progress: OnProgress) -> None:
        spec = record.spec
        started = time.monotonic()

        def report(event: Progress) -> None:
            record.progress = event
            progress(event)

        with _load_errors(spec.id):
            folder = self._fetch(spec, stop=stop, progress=report)
            stop.check()
            loader = self._loaders(spec.loader)
            report(Progress("load", detail=spec.id))
            with _CONSTRUCTION:
                stop.check()
                model = loader.load(spec, folder, self.device)
            size = loader.measure(model)
        with self._changed:
            record.model, record.ready, record.measured, record.progress = model, True, True, None
            record.size = self._measured[spec.id] = size
            record.load_seconds = time.monotonic() - started
            self._changed.notify_all()

    def _attach(self, record: _Record, adapter: _Adapter, stop: Stop, progress: OnProgress) -> None:
        spec = adapter.spec
        with _load_errors(spec.id):
            folder = self._fetch(spec, stop=stop, progress=progress)
            stop.check()
            loader = self._loaders(record.spec.loader)
            loader.check(record.model, spec, folder)
            progress(Progress("attach", detail=spec.id))
            with _CONSTRUCTION:
                attachment = loader.attach(record.model, spec, folder)
        with self._changed:
            adapter.ready, adapter.how = True, attachment.how
            adapter.size = self._measured[spec.id] = attachment.size
            self._changed.notify_all()

    def _fits(self, held: list[tuple[_Record, tuple[AdapterUse, ...]]]) -> bool:
        """After measuring: within the budget, if need be by evicting idle entries."""
        with self._changed:
            over = self._used() - self._budget
            return over <= 0 or self._evict_for(over, "oversize", held[0][0].spec.id)

    def _let_go(
        self, held: list[tuple[_Record, tuple[AdapterUse, ...]]], error: BaseException | None = None
    ) -> None:
        """Undo a hold: no record stays of what did not load, and what measured too large is freed."""
        with self._changed:
            for record, uses in held:
                record.leases -= 1
                for use in uses:
                    adapter = record.adapters[use.id]
                    adapter.leases -= 1
                    if not adapter.ready:
                        del record.adapters[use.id]
                if not record.ready:
                    del self._records[record.spec.id]
                    self._tell_waiters(record.spec.id, error)
            self._shrink("oversize")
            self._changed.notify_all()

    def _tell_waiters(self, id: str, error: BaseException | None) -> None:
        """Those who waited for this very load get its error; a cancelled load they may try for themselves."""
        if not isinstance(error, ModelLoadFailed | OutOfMemory):
            return
        for ticket in self._waiting:
            if any(id == wanted for wanted, _ in ticket.wanted):
                ticket.error = error

    def _release(self, record: _Record, uses: tuple[AdapterUse, ...]) -> None:
        if uses:  # still leased exclusively: the next user starts from the exact base
            self._loaders(record.spec.loader).activate(record.model, ())
        with self._changed:
            now = self._clock()
            record.leases -= 1
            record.last_used = now
            for use in uses:
                record.adapters[use.id].leases -= 1
                record.adapters[use.id].last_used = now
            self._shrink()
            self._changed.notify_all()

    # -- room -----------------------------------------------------------------------------------

    def _used(self) -> int:
        return sum(record.total for record in self._records.values())

    def _size_of(self, spec: ModelSpec | AdapterSpec) -> int:
        return self._measured.get(spec.id, spec.size)

    def _idle_entries(self) -> list[tuple[_Record, _Adapter | None]]:
        """What may go, in the order it would: idle adapters, then idle bases, least recently used first."""
        adapters = [
            (record, adapter)
            for record in self._records.values()
            if record.ready and not record.leases
            for adapter in record.adapters.values()
            if adapter.ready and not adapter.leases and not adapter.pinned
        ]
        adapters.sort(key=lambda pair: pair[1].last_used)
        bases = sorted((r for r in self._records.values() if r.idle), key=lambda r: r.last_used)
        return [*adapters, *((record, None) for record in bases)]

    def _make_room(self, missing: int, ticket: _Ticket) -> bool:
        needed = missing - (self._budget - self._used())
        return needed <= 0 or self._evict_for(needed, "room", ticket.wanted[0][0], ticket)

    def _evict_for(self, needed: int, reason: str, wanted_by: str, ticket: _Ticket | None = None) -> bool:
        """Evict the fewest idle entries that free `needed` bytes, sparing what the ticket wants; or nothing."""
        spared = {id: {use.id for use in uses} for id, uses in ticket.wanted} if ticket else {}
        chosen: list[tuple[_Record, _Adapter | None]] = []
        for record, adapter in self._idle_entries():
            name = record.spec.id
            if (name in spared and adapter is None) or (adapter and adapter.spec.id in spared.get(name, ())):
                continue
            chosen.append((record, adapter))
            if _freed(chosen) >= needed:
                break
        else:
            return False
        for entry in list(chosen):
            rest = [other for other in chosen if other is not entry]
            if _freed(rest) >= needed:
                chosen = rest
        gone = {record.spec.id for record, adapter in chosen if adapter is None}
        for record, adapter in chosen:
            if adapter is None or record.spec.id not in gone:
                self._evict(record, adapter, reason, wanted_by)
        return True

    def _shrink(self, reason: str = "budget") -> None:
        """After the budget fell, or a pin or lease ended: let idle entries go until the budget holds."""
        for record, adapter in self._idle_entries():
            if self._used() <= self._budget:
                return
            if record.spec.id in self._records:
                self._evict(record, adapter, reason)

    def _evict(self, record: _Record, adapter: _Adapter | None, reason: str, wanted_by: str = "") -> None:
        loader = self._loaders(record.spec.loader)
        if adapter is not None:
            if record.adapters.pop(adapter.spec.id, None) is None:
                return
            loader.detach(record.model, adapter.spec.id)
            event = Eviction(self._clock(), adapter.spec.id, "adapter", adapter.size, reason, wanted_by)
        else:
            if self._records.pop(record.spec.id, None) is None:
                return
            size = record.total
            model, record.model, record.ready = record.model, None, False
            loader.free(model)
            event = Eviction(self._clock(), record.spec.id, "model", size, reason, wanted_by)
        self._evictions.append(event)
        log.info("evicted %s %s (%d MiB): %s %s", event.kind, event.id, _mb(event.size), reason, wanted_by)

    def _resident_adapter(self, id: str) -> _Adapter | None:
        return next((r.adapters[id] for r in self._records.values() if id in r.adapters), None)

    def _unload_adapter(self, id: str) -> None:
        for record in self._records.values():
            adapter = record.adapters.get(id)
            if adapter is None:
                continue
            if adapter.leases or record.leases or not adapter.ready:
                raise InvalidInput("in_use", id=id)
            return self._evict(record, adapter, "asked")
        raise InvalidInput("not_resident", id=id)


@contextmanager
def _load_errors(id: str) -> Iterator[None]:
    """The one place where whatever a library raises while loading becomes an error a person can read."""
    try:
        yield
    except DemoError:
        raise
    except MemoryError as error:
        raise OutOfMemory("out_of_memory", id=id) from error
    except Exception as error:  # noqa: BLE001 - the registry's load wrapper (house §5)
        if type(error).__name__ == "OutOfMemoryError":
            raise OutOfMemory("out_of_memory", id=id) from error
        log.exception("loading %s failed", id)
        raise ModelLoadFailed("load_failed", id=id, kind=type(error).__name__) from error


def _freed(entries: list[tuple[_Record, _Adapter | None]]) -> int:
    """Bytes these evictions give back, counting an adapter once when its base goes too."""
    bases = {record.spec.id for record, adapter in entries if adapter is None}
    alone = sum(a.size for record, a in entries if a is not None and record.spec.id not in bases)
    return alone + sum(record.total for record, adapter in entries if adapter is None)


def _view(record: _Record, adapter: _Adapter | None) -> RecordView:
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


def _mb(size: int) -> int:
    return round(size / 2**20)


def _silent(_: Progress) -> None:
    return None

