"""What the registry asks of the outside: loaders that build and free models, a fetch that brings their files.

Also the one lock under which models are built, and the one place where library errors become readable. Knows no
framework and no budget.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pipelines.core.errors import DemoError, ModelLoadFailed, OutOfMemory
from pipelines.core.specs import AdapterSpec, AdapterUse, ModelSpec
from pipelines.core.streaming import Progress, Stop

log = logging.getLogger(__name__)

# accelerate, PEFT and transformers patch nn.Module process-wide while they build, so a layer made in another thread
# at that moment lands on "meta": every load, attach, detach and free of the process is done under this one lock.
_CONSTRUCTION = threading.Lock()
_POLL = 0.1  # seconds between looks at the stop signal

OnProgress = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class Attachment:
    """What attaching an adapter did: its measured bytes, and `how`: "hot swap" or "add/remove"."""

    size: int
    how: str


class Loader(Protocol):
    """One library family. Every call comes with the model leased exclusively or known to nobody else.

    `load` and `attach` do all or nothing: what raises leaves no bytes behind.
    """

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


@contextmanager
def constructing(stop: Stop | None = None) -> Iterator[None]:
    """Hold the construction lock; raises Cancelled or TimedOut if told to stop while waiting for it."""
    while not _CONSTRUCTION.acquire(timeout=_POLL):
        if stop is not None:
            stop.check()
    try:
        if stop is not None:
            stop.check()
        yield
    finally:
        _CONSTRUCTION.release()


@contextmanager
def readable_errors(id: str) -> Iterator[None]:
    """The one place where whatever a library raises while loading becomes an error a person can read."""
    try:
        yield
    except DemoError:
        raise
    except MemoryError as error:
        raise OutOfMemory("out_of_memory", id=id) from error
    except Exception as error:  # noqa: BLE001 - the registry's load wrapper (house §5)
        if type(error).__name__ == "OutOfMemoryError":  # torch's, which is not imported here
            raise OutOfMemory("out_of_memory", id=id) from error
        log.exception("loading %s failed", id)
        raise ModelLoadFailed("load_failed", id=id, kind=type(error).__name__) from error
