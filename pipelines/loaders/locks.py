"""A lock between processes that a stop signal can interrupt."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from pipelines.core.streaming import Stop

_POLL = 0.2


@contextmanager
def locked(path: Path, stop: Stop) -> Iterator[None]:
    """Hold the lock file at `path`; raises Cancelled or TimedOut if told to stop while waiting for it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    while True:
        stop.check()
        try:
            lock.acquire(timeout=_POLL)
            break
        except Timeout:
            continue
    try:
        yield
    finally:
        lock.release()
