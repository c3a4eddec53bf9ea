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


class Workshop:
    """Everything slow: fetching, building, changing and freeing. Called without the registry's lock."""

    def __init__(self, loaders: Callable[[str], Loader], fetch: Fetch, device: str) -> None:
        self._loaders = loaders
        self._fetch = fetch
        self._device = device

    def build(self, spec: ModelSpec, stop: Stop, progress: OnProgress) -> tuple[Any, int]:
        """The model and its bytes; whatever may go wrong is raised as it comes."""
        folder = self._fetch(spec, stop=stop, progress=progress)
        loader = self._loaders(spec.loader)
        progress(Progress("load", detail=spec.id))
        with constructing(stop):
            model = loader.load(spec, folder, self._device)
        return model, loader.measure(model)

    def attach(self, base: ModelSpec, model: Any, spec: AdapterSpec, stop: Stop, progress: OnProgress) -> Attachment:
        """Make an adapter resident on a model held exclusively."""
        folder = self._fetch(spec, stop=stop, progress=progress)
        loader = self._loaders(base.loader)
        loader.check(model, spec, folder)
        progress(Progress("attach", detail=spec.id))
        with constructing(stop):
            return loader.attach(model, spec, folder)

    def activate(self, base: ModelSpec, model: Any, uses: tuple[AdapterUse, ...]) -> None:
        """Let exactly these adapters act; raises DemoError."""
        with readable_errors(base.id):
            self._loaders(base.loader).activate(model, uses)

    def calm(self, base: ModelSpec, model: Any) -> bool:
        """Switch all adapters off; False if that failed, and the model is not to be trusted any more."""
        try:
            self.activate(base, model, ())
        except DemoError as error:
            log.warning("the adapters of %s could not be switched off: %s", base.id, error)
            return False
        return True

    def free(self, base: ModelSpec, model: Any, adapter: str = "") -> None:
        """Give back a model, or an adapter of it. A failure is logged: who needed the room is not to blame for it."""
        try:
            with readable_errors(base.id), constructing():
                loader = self._loaders(base.loader)
                if adapter:
                    loader.detach(model, adapter)
                else:
                    loader.free(model)
        except DemoError as error:
            log.warning("%s was not freed: %s", adapter or base.id, error)
