"""Device slots, handed out round robin over visitors. A slot is free only when the work in it has really ended.

Knows nothing of what the work is.
"""

from __future__ import annotations

import threading
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pipelines.core.streaming import Stop


class Slots:
    """`count` jobs compute at once, at most `per_visitor` of one visitor; the next slot goes to the visitor who has
    waited longest since having had one."""

    def __init__(self, count: int, per_visitor: int = 1) -> None:
        self._free = count
        self._per_visitor = per_visitor
        self._changed = threading.Condition()
        self._queues: OrderedDict[str, deque[object]] = OrderedDict()  # order of visitors = order of turns
        self._running: Counter[str] = Counter()

    @contextmanager
    def slot(self, visitor: str, stop: Stop, waiting: Callable[[int], None] | None = None) -> Iterator[None]:
        """Hold a slot; `waiting(place)` is told the place in the queue (1 = next). Raises Cancelled, TimedOut."""
        self._take(visitor, stop, waiting)
        try:
            yield
        finally:
            with self._changed:
                self._free += 1
                self._running[visitor] -= 1
                self._queues.move_to_end(visitor)  # whoever came meanwhile goes before its next job
                self._forget(visitor)
                self._changed.notify_all()

    def _take(self, visitor: str, stop: Stop, waiting: Callable[[int], None] | None) -> None:
        me = object()
        with self._changed:
            self._queues.setdefault(visitor, deque()).append(me)
        last_place = 0
        try:
            while True:
                with self._changed:
                    place = self._place(visitor, me)
                    if place == 1 and self._free:
                        self._free -= 1
                        self._running[visitor] += 1
                        self._queues.move_to_end(visitor)  # the next turn is somebody else's
                        return
                    if place == last_place:
                        self._changed.wait(0.1)
                stop.check()
                if waiting is not None and place != last_place:
                    waiting(place)
                last_place = place
        finally:
            with self._changed:
                self._queues[visitor].remove(me)
                self._forget(visitor)
                self._changed.notify_all()

    def _forget(self, visitor: str) -> None:
        """Keep no record of a visitor who neither waits nor computes."""
        if not self._running[visitor]:
            del self._running[visitor]
            if not self._queues.get(visitor, True):
                del self._queues[visitor]

    def _place(self, visitor: str, me: object) -> int:
        """1 for the job whose turn is next, counting one job of each visitor a round."""
        for place, job in enumerate(self._turns(), start=1):
            if job is me:
                return place
        return len(self._queues) + self._queues[visitor].index(me) + 1  # its visitor has all the slots one may have

    def _turns(self) -> Iterator[object]:
        able = [q for v, q in self._queues.items() if self._running[v] < self._per_visitor]
        for round in range(max((len(q) for q in able), default=0)):
            for queue in able:
                if round < len(queue):
                    yield queue[round]
