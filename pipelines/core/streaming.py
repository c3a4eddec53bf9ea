"""What a running job says (events), how it is told to stop, and the thread it runs on.

A generator stepped by a web framework hops from thread to thread, so a job must not live in one: here it runs
on a thread of its own behind a bounded queue, with the caller's context variables, and closing the stream sets
that job's own stop signal. Knows nothing of models.
"""

from __future__ import annotations

import contextvars
import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pipelines.core.errors import Cancelled, TimedOut


@dataclass(frozen=True, slots=True)
class TextDelta:
    """The next piece of text, in reading order."""

    text: str


@dataclass(frozen=True, slots=True)
class Thought:
    """One step of reasoning. `parent` is the id of the thought it grew from, or ""."""

    id: str
    text: str
    parent: str = ""
    state: str = "open"
    score: float | None = None


@dataclass(frozen=True, slots=True)
class Preview:
    """A partial result worth showing: a picture, a piece of sound, a row; `kind` says which."""

    kind: str
    value: Any
    step: int = 0


@dataclass(frozen=True, slots=True)
class Progress:
    """Where the job is. `stage` is a key of locales (queue, download, load, run …); `total` 0 means unknown."""

    stage: str
    done: float = 0.0
    total: float = 0.0
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Done:
    """The last event of every stream that ended well."""

    result: Any


Event = TextDelta | Thought | Preview | Progress | Done


class Stop:
    """A job's own stop signal: set by its visitor, by shutdown, or by its deadline. Safe from any thread."""

    def __init__(self, seconds: float | None = None) -> None:
        self._event = threading.Event()
        self._seconds = seconds
        self._deadline: float | None = None

    def start_clock(self) -> None:
        """Count the job's seconds from now: time in the queue is not the job's."""
        if self._seconds is not None:
            self._deadline = time.monotonic() + self._seconds

    def set(self) -> None:
        self._event.set()

    @property
    def timed_out(self) -> bool:
        return self._deadline is not None and time.monotonic() >= self._deadline

    def __bool__(self) -> bool:
        """True once the work should end: poll this in step callbacks and StoppingCriteria."""
        return self._event.is_set() or self.timed_out

    def check(self) -> None:
        """Raise Cancelled or TimedOut once the work should end."""
        if self._event.is_set():
            raise Cancelled("cancelled")
        if self.timed_out:
            raise TimedOut("timed_out", seconds=self._seconds)

    def wait(self, seconds: float) -> bool:
        """Sleep at most that long; True as soon as the work should end."""
        if self._deadline is not None:
            seconds = max(0.0, min(seconds, self._deadline - time.monotonic()))
        return self._event.wait(seconds) or self.timed_out


class Job:
    """What a pipeline is given beside its params: a way to say how it goes, and to learn that it should end.

    Libraries report by callback (a denoising step, a downloaded chunk), so events are emitted, not yielded.
    """

    def __init__(self, stop: Stop | None = None, emit: Callable[[Event], None] | None = None) -> None:
        self.stop = Stop() if stop is None else stop
        self.visitor = "local"  # whose it is; the house says otherwise for those it serves
        self._emit = emit

    def emit(self, event: Event) -> None:
        if self._emit is not None:
            self._emit(event)

    def check(self) -> None:
        """Raise Cancelled or TimedOut once the work should end."""
        self.stop.check()


@dataclass(frozen=True, slots=True)
class _End:
    error: BaseException | None


class Stream:
    """Iterate what `work(job)` emits, and then Done(what it returns). The work has a thread of its own.

    `close()` asks it to stop and does not wait; `join()` waits for the work itself. An exception of the work is
    raised to the reader after the events before it.
    """

    def __init__(self, work: Callable[[Job], Any], stop: Stop | None = None, *, capacity: int = 64) -> None:
        self.stop = Stop() if stop is None else stop
        self._queue: queue.Queue[Event | _End] = queue.Queue(capacity)
        self._closed = threading.Event()
        self._ended = False
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._work, work), name="job", daemon=True)
        self._thread.start()

    def _work(self, work: Callable[[Job], Any]) -> None:
        error: BaseException | None = None
        try:
            self._put(Done(work(Job(self.stop, self._emit))))
        except BaseException as caught:  # noqa: BLE001 - handed to the reader, whatever it is
            error = caught
        self._put(_End(error))

    def _emit(self, event: Event) -> None:
        """Wait for a slow reader, but once stopped no more: a reader who stalls must not keep the device busy."""
        while not self._closed.is_set():
            try:
                return self._queue.put(event, timeout=0.1)
            except queue.Full:
                if self.stop:
                    return

    def _put(self, item: Done | _End) -> None:
        while not self._closed.is_set():
            try:
                return self._queue.put(item, timeout=0.1)
            except queue.Full:
                continue

    def __iter__(self) -> Iterator[Event]:
        return self

    def __next__(self) -> Event:
        while not (self._ended or self._closed.is_set()):
            try:
                item = self._queue.get(timeout=0.1)
            except queue.Empty:
                continue
            if not isinstance(item, _End):
                return item
            self._ended = True
            if item.error is not None:
                raise item.error
        raise StopIteration

    def close(self) -> None:
        """Ask the work to stop; further reading ends. Safe to call twice and from any thread."""
        self.stop.set()
        self._closed.set()

    def join(self, timeout: float | None = None) -> bool:
        """Wait until the work has ended; True if it has."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
