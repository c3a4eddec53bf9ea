"""Whose turn it is: the queue of requests for models, first come first served.

Bookkeeping only, under the registry's lock: waiting itself, loading and freeing are the registry's.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pipelines.core.catalog import Catalog
from pipelines.core.errors import DemoError, ModelTooLarge
from pipelines.core.residents import Adapter, Entry, Record, Residents, mib
from pipelines.core.specs import AdapterUse
from pipelines.core.streaming import Progress

Wanted = tuple[str, tuple[AdapterUse, ...]]
Held = tuple[Record, tuple[AdapterUse, ...]]

UNCOUNTED = ("loading", "freeing")  # waiting for these is not waiting for another visitor to finish


@dataclass(slots=True, eq=False)
class Ticket:
    """One request, from asking until its turn. `number` is its place in the order of asking."""

    wanted: tuple[Wanted, ...]
    exclusive: bool
    timeout: float
    number: int
    waited: float = 0.0  # seconds that count
    needs_memory: bool = False
    error: DemoError | None = None  # of the load it was waiting for
    ids: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        self.ids = frozenset(id for id, _ in self.wanted)

    def conflicts(self, other: Ticket) -> bool:
        """True if `other`, asked later, must not overtake this one."""
        return self.needs_memory or not self.ids.isdisjoint(other.ids)

    def wants(self, id: str) -> bool:
        """True for a model or an adapter it asks for."""
        return id in self.ids or any(use.id == id for _, uses in self.wanted for use in uses)


class Turns:
    """The tickets that wait, in the order of asking."""

    def __init__(self, catalog: Catalog, residents: Residents, device: str) -> None:
        self.waiting: list[Ticket] = []
        self._catalog = catalog
        self._residents = residents
        self._device = device

    def enter(self, ticket: Ticket) -> None:
        """Wait at the place its number gives it; nothing happens if it waits already."""
        if ticket not in self.waiting:
            self.waiting.append(ticket)
            self.waiting.sort(key=lambda waiting: waiting.number)

    def leave(self, ticket: Ticket) -> None:
        if ticket in self.waiting:
            self.waiting.remove(ticket)

    def fail(self, id: str, error: DemoError) -> None:
        """Every ticket that waits for this model or adapter shares the error of its load."""
        for ticket in self.waiting:
            if ticket.wants(id):
                ticket.error = error

    def decide(self, ticket: Ticket, freeing: int) -> tuple[str, list[Entry]]:
        """Why the ticket cannot go ahead now: "loading", "busy", "turn", "memory" or "freeing"; or "", and what has
        to leave first. `freeing` are bytes off the books that are not free yet. Raises ModelTooLarge.
        """
        ticket.needs_memory = False
        missing = self._missing(ticket)
        for record in self._records(ticket):
            if not record.ready:
                return "loading", []
            if record.leases and (ticket.exclusive or record.exclusive):
                return "busy", []
            if record.detaching:
                return "freeing", []
        earlier = self.waiting[: self.waiting.index(ticket)]
        if any(other.conflicts(ticket) for other in earlier):
            return "turn", []
        if not missing or missing + freeing <= self._residents.budget - self._residents.used:
            return "", []
        chosen = None if freeing else self._residents.room(missing, _spared(ticket))
        ticket.needs_memory = chosen is None
        return ("", chosen) if chosen is not None else ("freeing" if freeing else "memory", [])

    def hold(self, ticket: Ticket) -> list[Held]:
        """Lease what is ready and reserve what is missing, all at once; the ticket waits no more."""
        now = self._residents.clock()
        held = []
        for id, uses in ticket.wanted:
            record = self._residents.records.get(id)
            if record is None:
                spec = self._catalog.model(id)
                record = Record(spec, self._residents.size_of(spec), self._device)
                self._residents.records[id] = record
            record.exclusive = ticket.exclusive
            entries: list[Record | Adapter] = [record, *(self._reserved(record, use.id) for use in uses)]
            for entry in entries:
                entry.leases += 1
                entry.last_used = now
                entry.hits += entry.ready
            held.append((record, uses))
        self.leave(ticket)
        return held

    def notice(self, ticket: Ticket) -> Progress:
        """What to tell who waits: how far the load it waits for has come, if it does."""
        loading = (record.progress for record in self._records(ticket) if not record.ready)
        return next((progress for progress in loading if progress), Progress("wait"))

    def _reserved(self, record: Record, id: str) -> Adapter:
        if id not in record.adapters:
            spec = self._catalog.adapter(id)
            record.adapters[id] = Adapter(spec, self._residents.size_of(spec))
        return record.adapters[id]

    def _records(self, ticket: Ticket) -> list[Record]:
        return [self._residents.records[id] for id, _ in ticket.wanted if id in self._residents.records]

    def _missing(self, ticket: Ticket) -> int:
        """Bytes the ticket's models and adapters need beyond what is resident; raises ModelTooLarge."""
        missing = total = 0
        for id, uses in ticket.wanted:
            record = self._residents.records.get(id)
            wanted: list[tuple[Record | Adapter | None, int]]
            wanted = [(record, self._residents.size_of(self._catalog.model(id)))]
            for use in uses:
                adapter = record.adapters.get(use.id) if record else None
                wanted.append((adapter, self._residents.size_of(self._catalog.adapter(use.id))))
            missing += sum(size for entry, size in wanted if entry is None)
            total += sum(entry.size if entry else size for entry, size in wanted)
        budget = self._residents.budget
        if total > budget:
            raise ModelTooLarge("model_too_large", id=ticket.wanted[0][0], need_mb=mib(total), budget_mb=mib(budget))
        return missing


def _spared(ticket: Ticket) -> dict[str, set[str]]:
    """The models a ticket wants, each with the adapters it wants on it: not to be evicted for its own sake."""
    return {id: {use.id for use in uses} for id, uses in ticket.wanted}
