"""Who may use which model when. Callers see `lease()`; everything else follows from it.

One load however many ask, first come first served, nothing evicted that is in use, nothing evicted unless that makes
enough room, adapters before bases, least recently used first. Knows no framework: loading.py says what a loader is,
turns.py keeps the queue, residents.py the books. Nothing slow is done under the registry's lock: no load, no fetch,
no free.
"""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import count

from pipelines.core.catalog import Catalog
from pipelines.core.errors import AdapterMismatch, Cancelled, DemoError, InvalidInput, ModelBusy, TimedOut
from pipelines.core.loading import Attachment, Fetch, Loader, OnProgress, Workshop, readable_errors
from pipelines.core.residents import Adapter, Entry, Eviction, Leaving, Record, RecordView, Residents
from pipelines.core.specs import AdapterSpec, AdapterUse, Made
from pipelines.core.streaming import Progress, Stop
from pipelines.core.turns import UNCOUNTED, Held, Ticket, Turns, Wanted

__all__ = ["Attachment", "Eviction", "Fetch", "Lease", "Loader", "OnProgress", "RecordView", "Registry", "Wanted"]

_POLL = 0.1  # seconds between looks at a waiter's stop signal


class Lease:
    """The right to use a loaded model until `release()`, which any thread may call, any number of times."""

    def __init__(self, registry: Registry, record: Record, uses: tuple[AdapterUse, ...], cold: bool) -> None:
        self._registry = registry
        self._record: Record | None = record
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
        self._registry._release(self)


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
        self._workshop = Workshop(loaders, fetch, device)
        self._clock = clock
        self._changed = threading.Condition()  # guards all that follows
        self._residents = Residents(budget, clock)
        self._turns = Turns(catalog, self._residents, device)
        self._numbers = count()
        self._freeing = 0  # bytes off the books that are not yet given back

    # -- asking ---------------------------------------------------------------------------------

    @contextmanager
    def lease(
        self,
        id: str,
        adapters: Iterable[AdapterUse] = (),
        timeout: float = 60.0,
        *,
        exclusive: bool = True,
        stop: Stop | None = None,
        progress: OnProgress | None = None,
    ) -> Iterator[Lease]:
        """Use a model with adapters; loads what is missing. Raises UnknownModel, AdapterMismatch, ModelTooLarge,
        ModelBusy (after `timeout` seconds of waiting; loading does not count), ModelLoadFailed, Offline, Cancelled.
        """
        wanted = (id, tuple(adapters))
        with self.lease_many(wanted, timeout=timeout, exclusive=exclusive, stop=stop, progress=progress) as leases:
            yield leases[0]

    @contextmanager
    def lease_many(
        self,
        *wanted: Wanted,
        timeout: float = 60.0,
        exclusive: bool = True,
        stop: Stop | None = None,
        progress: OnProgress | None = None,
    ) -> Iterator[tuple[Lease, ...]]:
        """Use several models at once: all or none, so that nobody holds one while waiting for another."""
        self._verify(wanted, exclusive)
        ticket = Ticket(wanted, exclusive, timeout, next(self._numbers))
        leases = self._obtain(ticket, Stop() if stop is None else stop, progress or _silent)
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
        return self._residents.budget

    def set_budget(self, budget: int) -> None:
        """Change the budget in bytes. Idle entries go at once until it holds; those in use go when released."""
        with self._changed:
            self._residents.budget = budget
            leaving = self._strike(self._residents.surplus(), "budget")
            self._changed.notify_all()
        self._free(leaving)

    def pin(self, id: str, pinned: bool = True) -> None:
        """Keep a resident model or adapter whatever else needs the room. Raises InvalidInput if not resident."""
        with self._changed:
            entry = self._residents.records.get(id) or self._residents.adapter(id)
            if entry is None or not entry.ready:
                raise InvalidInput("not_resident", id=id)
            entry.pinned = pinned
            leaving = self._strike(self._residents.surplus(), "budget")
            self._changed.notify_all()
        self._free(leaving)

    def unload(self, id: str) -> None:
        """Drop a resident model or adapter now. Raises InvalidInput if it is in use, loading or not resident."""
        with self._changed:
            records = self._residents.records.values()
            found: list[Entry] = [(r, r.adapters.get(id)) for r in records if id == r.spec.id or id in r.adapters]
            if not found:
                raise InvalidInput("not_resident", id=id)
            if not found[0][0].still:
                raise InvalidInput("in_use", id=id)
            leaving = self._strike(found, "asked")
        self._free(leaving)

    def sweep(self) -> None:
        """Unload what nobody used for `idle_seconds`. Called now and then by the house."""
        if not self.idle_seconds:
            return
        with self._changed:
            limit = self._clock() - self.idle_seconds
            leaving = self._strike([(r, a) for r, a in self._residents.idle() if (a or r).last_used < limit], "idle")
        self._free(leaving)

    def close(self) -> None:
        """Free everything that is not in use."""
        with self._changed:
            still: list[Entry] = [(record, None) for record in self._residents.records.values() if record.still]
            leaving = self._strike(still, "asked")
        self._free(leaving)

    # -- looking --------------------------------------------------------------------------------

    def status(self) -> tuple[RecordView, ...]:
        """Everything resident or loading, most recently used first, each base before its adapters."""
        with self._changed:
            return self._residents.views()

    @property
    def used(self) -> int:
        """Bytes held or reserved."""
        with self._changed:
            return self._residents.used

    @property
    def waiting(self) -> int:
        """Requests waiting for memory or for a model in use."""
        return len(self._turns.waiting)

    def evictions(self) -> tuple[Eviction, ...]:
        """What left memory and why, newest first."""
        with self._changed:
            return self._residents.evictions()

    # -- waiting for a turn ---------------------------------------------------------------------

    def _verify(self, wanted: tuple[Wanted, ...], exclusive: bool) -> None:
        if len({id for id, _ in wanted}) < len(wanted):
            raise InvalidInput("model_twice")
        for id, uses in wanted:
            spec = self.catalog.model(id)
            if uses and not exclusive:
                raise ValueError("a model with adapters is leased exclusively: its active adapters are model-wide")
            if len({use.id for use in uses}) < len(uses):
                raise InvalidInput("adapter_twice", name=id)
            for use in uses:
                adapter = self.catalog.adapter(use.id)
                if adapter.base != id:
                    raise AdapterMismatch("wrong_base", id=use.id, base=adapter.base, model=spec.id)

    def _obtain(self, ticket: Ticket, stop: Stop, progress: OnProgress) -> tuple[Lease, ...]:
        try:
            while True:
                held, leaving = self._take_turn(ticket, stop, progress)
                leases = self._fill(ticket, held, leaving, stop, progress)
                if leases is not None:
                    return leases
        finally:
            with self._changed:
                self._turns.leave(ticket)
                self._changed.notify_all()

    def _take_turn(self, ticket: Ticket, stop: Stop, progress: OnProgress) -> tuple[list[Held], list[Leaving]]:
        """Wait for the ticket's turn, then hold everything it wants: ready entries leased, missing ones reserved.

        Also returns what has left to make room, which is to be freed before anything is loaded.
        """
        shown: Progress | None = None
        while True:
            stop.check()
            with self._changed:
                self._turns.enter(ticket)
                if ticket.error is not None:
                    raise copy.copy(ticket.error) from ticket.error  # several waiters may be raising it
                blocked, chosen = self._turns.decide(ticket, self._freeing)
                if not blocked:
                    leaving = self._strike(chosen, "room", ticket.wanted[0][0])
                    held = self._turns.hold(ticket)
                    self._changed.notify_all()
                    return held, leaving
                if ticket.waited >= ticket.timeout and blocked not in UNCOUNTED:
                    raise ModelBusy("model_busy", id=ticket.wanted[0][0], seconds=round(ticket.waited, 1))
                if shown is not None:
                    began = time.monotonic()
                    self._changed.wait(_POLL)
                    ticket.waited += time.monotonic() - began if blocked not in UNCOUNTED else 0.0
                notice = self._turns.notice(ticket)
            if notice != shown:
                progress(notice)
                shown = notice

    # -- loading what is held -------------------------------------------------------------------

    def _fill(
        self, ticket: Ticket, held: list[Held], leaving: list[Leaving], stop: Stop, progress: OnProgress
    ) -> tuple[Lease, ...] | None:
        """Load and attach what is missing; None if the measured sizes need another turn."""
        cold: list[Entry] = []
        try:
            self._free(leaving)
            fits = self._load_missing(held, cold, stop, progress)
            for record, uses in held if fits else ():
                if uses:  # without them it is the exact base already: _let_go() sees to that
                    self._workshop.activate(record.spec, record.model, uses)
        except BaseException:
            self._let_go(held)
            raise
        if not fits:
            self._let_go(held, too_large=cold, again=ticket)
            return None
        warmed = {record.spec.id for record, _ in cold}
        return tuple(Lease(self, record, uses, record.spec.id in warmed) for record, uses in held)

    def _load_missing(self, held: list[Held], cold: list[Entry], stop: Stop, progress: OnProgress) -> bool:
        """Load and attach one after the other, noting each in `cold`; False once the budget does not hold."""
        for record, uses in held:
            if not record.ready:
                with self._shared_errors(record.spec.id):
                    self._load(record, stop, progress)
                cold.append((record, None))
                if not self._fits(record.spec.id):
                    return False
            for adapter in [record.adapters[use.id] for use in uses]:
                if not adapter.ready:
                    with self._shared_errors(adapter.spec.id):
                        self._attach(record, adapter, stop, progress)
                    cold.append((record, adapter))
                    if not self._fits(adapter.spec.id):
                        return False
        return True

    def _load(self, record: Record, stop: Stop, progress: OnProgress) -> None:
        started = time.monotonic()

        def report(event: Progress) -> None:
            record.progress = event
            progress(event)

        model, size = self._workshop.build(record.spec, stop, report)
        with self._changed:
            record.model, record.ready, record.progress = model, True, None
            record.load_seconds = time.monotonic() - started
            self._residents.set_size(record, size)
            self._changed.notify_all()

    def _attach(self, record: Record, adapter: Adapter, stop: Stop, progress: OnProgress) -> None:
        attachment = self._workshop.attach(record.spec, record.model, adapter.spec, stop, progress)
        with self._changed:
            adapter.ready, adapter.how = True, attachment.how
            self._residents.set_size(adapter, attachment.size)
            self._changed.notify_all()

    def _fits(self, id: str) -> bool:
        """After measuring: within the budget, if need be by evicting idle entries."""
        with self._changed:
            chosen = self._residents.room(0, {})
            leaving = self._strike(chosen or [], "oversize", id)
        self._free(leaving)
        return chosen is not None

    @contextmanager
    def _shared_errors(self, id: str) -> Iterator[None]:
        """Those who wait for this very load get its error, too; a cancelled load they may try for themselves."""
        try:
            with readable_errors(id):
                yield
        except (Cancelled, TimedOut):
            raise
        except DemoError as error:
            with self._changed:
                self._turns.fail(id, error)
            raise

    # -- letting go -----------------------------------------------------------------------------

    def _release(self, lease: Lease) -> None:
        with self._changed:  # two threads may release the same lease
            record, lease._record = lease._record, None
        if record is not None:
            lease.model = None
            self._let_go([(record, lease.adapters)])

    def _let_go(self, held: list[Held], *, too_large: Iterable[Entry] = (), again: Ticket | None = None) -> None:
        """End a hold: no record stays of what did not load, and the next user finds the exact base.

        `too_large`, just loaded, leaves again; `again` keeps its place in the queue.
        """
        calm = [not uses or not record.ready or self._workshop.calm(record.spec, record.model) for record, uses in held]
        with self._changed:
            now = self._clock()
            for record, uses in held:
                for use in uses:
                    record.adapters[use.id].leases -= 1
                    record.adapters[use.id].last_used = now
                    if not record.adapters[use.id].ready:
                        del record.adapters[use.id]
                record.leases -= 1
                record.last_used = now
                if not record.ready:
                    del self._residents.records[record.spec.id]
            leaving = self._strike([(r, None) for (r, _), ok in zip(held, calm, strict=True) if not ok], "broken")
            unused = [(r, a) for r, a in too_large if (r.still and not a.pinned if a else r.idle)]
            leaving += self._strike(unused, "oversize")
            leaving += self._strike(self._residents.surplus(), "budget")
            if again is not None:
                self._turns.enter(again)
            self._changed.notify_all()
        self._free(leaving)

    def _strike(self, entries: list[Entry], reason: str, wanted_by: str = "") -> list[Leaving]:
        """Take entries off the books; `_free()` must follow, outside the lock."""
        leaving = self._residents.take_out(entries, reason, wanted_by)
        self._freeing += sum(each.size for each in leaving)
        return leaving

    def _free(self, leaving: list[Leaving]) -> None:
        """Give the bytes back, which is slow."""
        while leaving:
            for each in leaving:
                try:
                    self._workshop.free(each.record.spec, each.model, each.adapter)
                finally:
                    with self._changed:
                        self._freeing -= each.size
                        each.record.detaching -= bool(each.adapter)
                        self._changed.notify_all()
            with self._changed:  # a base whose adapter has just gone is idle only now
                leaving = self._strike(self._residents.surplus(), "budget")


def _silent(_: Progress) -> None:
    return None
