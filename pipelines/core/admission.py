"""Who may ask for how much at once: one running and two queued jobs per visitor, a cap over all, a door to close.

The same for every door, because every door goes through House. Knows visitors by a name only.
"""

from __future__ import annotations

import threading
from collections import Counter
from types import TracebackType

from pipelines.core.errors import Draining, TooMany
from pipelines.core.streaming import Stop


class Ticket:
    """A visitor's right to one job, from asking until the work has ended. `release()` may come twice."""

    def __init__(self, admission: Admission, visitor: str, stop: Stop, job: str) -> None:
        self.visitor = visitor
        self.stop = stop
        self.job = job
        self._admission = admission

    def release(self) -> None:
        self._admission._release(self)

    def __enter__(self) -> Ticket:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.release()


class Admission:
    """Counts jobs per visitor and in all, and can stop them."""

    def __init__(self, *, per_visitor: int, in_all: int) -> None:
        self._per_visitor = per_visitor
        self._in_all = in_all
        self._lock = threading.Lock()
        self._tickets: list[Ticket] = []
        self._empty = threading.Condition(self._lock)
        self._draining = False

    def enter(self, visitor: str, stop: Stop, job: str = "") -> Ticket:
        """Take one more job; raises TooMany or Draining at once, before anything is computed."""
        with self._lock:
            if self._draining:
                raise Draining("draining")
            if sum(t.visitor == visitor for t in self._tickets) >= self._per_visitor:
                raise TooMany("too_many_jobs", limit=self._per_visitor)
            if len(self._tickets) >= self._in_all:
                raise TooMany("house_full", limit=self._in_all)
            ticket = Ticket(self, visitor, stop, job)
            self._tickets.append(ticket)
            return ticket

    def stop(self, visitor: str, job: str | None = None) -> int:
        """Ask a visitor's jobs (or those named `job`) to stop; how many were asked."""
        with self._lock:
            chosen = [t for t in self._tickets if t.visitor == visitor and job in (None, t.job)]
        for ticket in chosen:
            ticket.stop.set()
        return len(chosen)

    def drain(self, seconds: float) -> bool:
        """Take no new jobs; wait for those there are, stop what is left after `seconds`. True if none had to be."""
        with self._empty:
            self._draining = True
            if self._empty.wait_for(lambda: not self._tickets, timeout=seconds):
                return True
            left = list(self._tickets)
        for ticket in left:
            ticket.stop.set()
        with self._empty:
            self._empty.wait_for(lambda: not self._tickets, timeout=5)
        return False

    @property
    def draining(self) -> bool:
        return self._draining

    def counts(self) -> Counter[str]:
        """Jobs per visitor."""
        with self._lock:
            return Counter(ticket.visitor for ticket in self._tickets)

    def _release(self, ticket: Ticket) -> None:
        with self._empty:
            if ticket in self._tickets:
                self._tickets.remove(ticket)
            self._empty.notify_all()
