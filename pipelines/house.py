"""The composition root, and the one way in: settings -> catalogue -> registry -> pipelines.

Every door (page, REST, OpenAI routes, command line, tests) calls `House.stream` or `House.run`; what they allow,
limit and refuse is therefore the same.
"""

from __future__ import annotations

import importlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines import media
from pipelines.core import params as declared
from pipelines.core.admission import Admission
from pipelines.core.catalog import Catalog
from pipelines.core.errors import DemoError, InvalidInput, UnknownModel
from pipelines.core.registry import Loader, Registry
from pipelines.core.schedule import Slots
from pipelines.core.settings import Settings
from pipelines.core.specs import AdapterUse
from pipelines.core.streaming import Done, Job, Progress, Stop, Stream
from pipelines.core.tasks import Pipeline
from pipelines.loaders.sources import Sources

if TYPE_CHECKING:
    from pipelines.retrievers.collections import Collections

log = logging.getLogger(__name__)

LOADERS = {
    "transformers": "pipelines.loaders.transformers:TransformersLoader",
    "diffusers": "pipelines.loaders.diffusers:DiffusersLoader",
    "open_clip": "pipelines.loaders.open_clip:OpenClipLoader",
    "onnx": "pipelines.loaders.onnx:OnnxLoader",
    "torch": "pipelines.loaders.torch:TorchLoader",
    "hibari": "pipelines.loaders.hibari:HibariLoader",
    "kokoro": "pipelines.loaders.kokoro:KokoroLoader",
    "whisper": "pipelines.loaders.whisper:WhisperLoader",
}

PIPELINES = {
    "captioning": "pipelines.captioning:Captioner",
    "text_to_image": "pipelines.text_to_image:Painter",
    "retrieval": "pipelines.retrieval:Retriever",
    "speech": "pipelines.speech:Speaker",
    "emotion": "pipelines.emotion:EmotionReader",
    "reasoning": "pipelines.reasoning:Reasoner",
}

CATALOG = Path(__file__).parent / "catalog"
LOCAL = "local"  # the visitor at the command line


@cache
def loader(name: str) -> Loader:
    """The loader of a library family; the library is imported here, on first use."""
    return _named(LOADERS[name])()


def pipeline_class(task: str) -> type[Pipeline]:
    """The class of a task; raises UnknownModel for a task there is not. Imports no framework."""
    if task not in PIPELINES:
        raise UnknownModel("unknown_task", id=task[:80], known=", ".join(PIPELINES))
    return _named(PIPELINES[task])


def _named(path: str) -> Any:
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


class House:
    """Everything one process serves. `close()` when done."""

    def __init__(self, settings: Settings, *, catalog: Catalog | None = None, registry: Registry | None = None) -> None:
        self.settings = settings
        self.catalog = catalog or Catalog.read(CATALOG)
        self.sources = Sources(settings)
        self.admission = Admission(
            per_visitor=settings.running_per_visitor + settings.queued_per_visitor, in_all=settings.queued_in_all
        )
        self.slots = Slots(settings.device_slots, settings.running_per_visitor)
        self.observers: list[Callable[[str, str, float], None]] = []  # told (task, "ok" or error code, seconds)
        self._given = registry
        self._made: Registry | None = None
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._warming = threading.Lock()
        self._warm = False

    @property
    def registry(self) -> Registry:
        """Made on first use: finding out about the device imports torch, which the page does not wait for."""
        with self._lock:
            if self._given is not None:
                return self._given
            if self._made is None:
                from pipelines.loaders.devices import choose_device, default_budget

                device = choose_device(self.settings.device)
                budget = self.settings.budget_mb * 2**20 or default_budget(device)
                self._made = Registry(
                    self.catalog,
                    loader,
                    self.sources.fetch,
                    budget=budget,
                    device=device,
                    idle_seconds=self.settings.idle_seconds,
                )
                threading.Thread(target=self._sweep, args=(self._made,), name="sweep", daemon=True).start()
            return self._made

    @property
    def registry_if_made(self) -> Registry | None:
        """The registry once anything was asked of it: for those who only look."""
        return self._given or self._made

    @cached_property
    def collections(self) -> Collections:
        """The pictures visitors keep here to be searched."""
        from pipelines.retrievers.collections import Collections

        return Collections.of(self.settings, LOCAL)

    def warm(self) -> None:
        """Start looking for the device and importing the chat model's library: called when somebody opens the page,
        so that the first question waits for neither. Returns at once; the second call does nothing."""
        with self._warming:
            if self._warm:
                return
            self._warm = True
        threading.Thread(target=self._warm_up, name="warm", daemon=True).start()

    def pipeline(self, task: str) -> Pipeline:
        more = {"collections": self.collections} if task == "retrieval" else {}
        return pipeline_class(task)(self.registry, lease_seconds=self.settings.lease_seconds, **more)

    def default_model(self, task: str, language: str = "") -> str:
        """The task's default if it can be used here, else the first that can; else the default, which then says why.

        With a language, a starter model that speaks it goes before.
        """
        default = self.catalog.default(task)
        usable = [s for s in (default, *self.catalog.models(task)) if self.sources.missing(s) is None]
        fluent = [s for s in usable if s.tier == "starter" and language in s.languages]
        return next((spec.id for spec in [*fluent, *usable]), default.id)

    def params(self, task: str, raw: Mapping[str, Any], visitor: str = LOCAL) -> Any:
        """Checked Params from what a door received; raises InvalidInput, UnknownModel."""
        cls = pipeline_class(task).Params
        given = {**raw, "model": raw.get("model") or self.default_model(task)}
        params = declared.build(cls, given, media.decode)
        model = self.catalog.for_task(task, params.model)
        for use in getattr(params, "adapters", ()):
            self._check_adapter(use, model.id, visitor)
        return params

    def stream(self, task: str, raw: Mapping[str, Any], visitor: str = LOCAL, stop: Stop | None = None) -> Stream:
        """Start a job and iterate its events. Refusals (bad input, too many jobs) are raised here, at once."""

        def prepare() -> Callable[[Job], Any]:
            params = self.params(task, raw, visitor)
            return lambda job: self.pipeline(task).run(params, job)

        return self.start(task, prepare, visitor, stop)

    def start(
        self, task: str, prepare: Callable[[], Callable[[Job], Any]], visitor: str = LOCAL, stop: Stop | None = None
    ) -> Stream:
        """Any work of a task under the same limits: `prepare()` checks the input and returns what is to be done."""
        stop = Stop(self.settings.job_seconds) if stop is None else stop
        ticket = self.admission.enter(visitor, stop, task)
        try:
            compute = prepare()
        except BaseException:
            ticket.release()
            raise

        def work(job: Job) -> Any:
            with ticket, self.slots.slot(visitor, stop, lambda place: job.emit(Progress("queue", place))):
                stop.start_clock()
                job.visitor = visitor
                with self._observed(task):
                    return compute(job)

        return Stream(work, stop)

    def run(self, task: str, raw: Mapping[str, Any], visitor: str = LOCAL, stop: Stop | None = None) -> Any:
        """A job's Result."""
        with self.stream(task, raw, visitor, stop) as events:
            for event in events:
                if isinstance(event, Done):
                    return event.result
        raise DemoError("cancelled")

    def stop(self, visitor: str, task: str | None = None) -> int:
        """Stop a visitor's jobs (of a task); how many were asked to."""
        return self.admission.stop(visitor, task)

    def close(self) -> None:
        """Take no more jobs, let those running end within `drain_seconds`, free the models."""
        self._closed.set()
        self.admission.drain(self.settings.drain_seconds)
        if self._made is not None:
            self._made.close()

    @contextmanager
    def _observed(self, task: str) -> Iterator[None]:
        started, outcome = time.perf_counter(), "unexpected"
        try:
            yield
            outcome = "ok"
        except DemoError as error:
            outcome = error.code
            raise
        finally:
            for observe in self.observers:
                observe(task, outcome, time.perf_counter() - started)

    def _check_adapter(self, use: AdapterUse, model: str, visitor: str) -> None:
        adapter = self.catalog.adapter(use.id, visitor)
        if adapter.base != model:
            raise InvalidInput("wrong_base", id=use.id, base=adapter.base, model=model)

    def _warm_up(self) -> None:
        try:
            registry = self.registry
            loader(registry.catalog.model(self.default_model("reasoning")).loader)
        except DemoError as error:  # the first request will say so to whoever asks
            log.warning("not warmed up: %s", error)

    def _sweep(self, registry: Registry) -> None:
        while not self._closed.wait(15):
            registry.sweep()
            self.collections.forget_old()
