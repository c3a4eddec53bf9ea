"""Where the page meets the house: one job per click, its events as updates, its errors as words in one's language.

Knows streams and errors, not what a tab shows: a View turns each event into updates of components.
"""

from __future__ import annotations

import html
import logging
import os
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from typing import Any, Protocol

import gradio as gr

from demos.bridge import Bridge
from demos.replies import explain, unexpected
from demos.text import lang_of
from demos.visitor import visitor_of
from pipelines.core.errors import Cancelled, DemoError
from pipelines.core.streaming import Done, Event, Job, Progress
from pipelines.house import House

log = logging.getLogger(__name__)

PACE = 0.1  # seconds between two updates of the page
Updates = dict[Any, Any]  # component -> value or gr.update()
Work = Callable[[dict[str, Any], str, Job], Any]  # (what was asked, visitor, job) -> result

_FOREIGN = re.compile(
    r"<(?=/?(?:img|picture|source|form|input|button|textarea|select|video|audio|iframe|object|embed|svg|math|style"
    r"|link|meta|base|script)\b)",
    re.IGNORECASE,
)
JOINER = "\u2060"  # word joiner: invisible, and no tag or picture begins with it


class View(Protocol):
    """What one run shows. Made for each run; all three return updates."""

    def start(self) -> Updates: ...

    def after(self, event: Event) -> Updates: ...

    def done(self, result: Any) -> Updates: ...


class Frame(Protocol):
    """What every tab shows of a run: status line, buttons, result line."""

    def busy(self, lang: str) -> Updates: ...

    def told(self, progress: Progress, lang: str) -> Updates: ...

    def ended(self, result: Any, lang: str, seconds: float) -> Updates: ...

    def failed(self, message: str, *, wrong: bool) -> Updates: ...


def plain_markdown(text: str) -> str:
    """Model text as Markdown that loads nothing and asks for nothing: pictures and form tags become visible text."""
    return _FOREIGN.sub("<" + JOINER, text).replace("![", f"!{JOINER}[")


def toast(message: str) -> gr.Error:
    return gr.Error(html.escape(message).replace("\n", "<br>"), print_exception=False)


class Edge:
    """Runs tasks of one house for the page."""

    def __init__(self, house: House) -> None:
        self.house = house
        self._bridge = Bridge(house)

    def handler(
        self,
        task: str,
        raw: Callable[..., dict[str, Any]],
        view: Callable[..., View],
        frame: Frame,
        *,
        work: Work | None = None,
    ) -> Callable[..., AsyncIterator[Updates]]:
        """An event listener: `raw(*values)` makes the params of the values of the components, `view(raw, lang)` what
        is shown; `work` is done in the place of the task's own run. The generator is closed when the page is; that
        stops the job.
        """

        async def run(request: gr.Request, *values: Any) -> AsyncIterator[Updates]:
            lang = lang_of(request)
            pages = Pages(frame, lang)
            yield frame.busy(lang)
            try:
                given = raw(*values)
                if updates := pages.begin(view(given, lang)):
                    yield updates
                stream = await self._stream(task, given, visitor_of(request), work)
                async with aclosing(self._bridge.events(stream)) as events:
                    async for event in events:
                        if updates := pages.after(event):
                            yield updates
            except Cancelled as error:
                yield {**pages.rest(), **frame.failed(explain(error, lang), wrong=False)}
            except Exception as error:  # noqa: BLE001 - the one place where any error becomes words
                message = worded(error, lang)
                yield {**pages.rest(), **frame.failed(message, wrong=True)}
                raise toast(message) from None

        return run

    async def _stream(self, task: str, raw: dict[str, Any], visitor: str, work: Work | None) -> Any:
        if work is not None:
            return await self._bridge.start(task, lambda job: work(raw, visitor, job), visitor)
        if on_zero_gpu():
            return _elsewhere(self.house)(task, raw, visitor)
        return await self._bridge.stream(task, raw, visitor)

    def stopper(self, task: str) -> Callable[[gr.Request], None]:
        """Stops the visitor's own jobs of the task."""

        def stop(request: gr.Request) -> None:
            self.house.stop(visitor_of(request), task)

        return stop

    def guarded(self, act: Callable[..., Any]) -> Callable[..., Any]:
        """`act(request, lang, *values)` for a quick listener, with errors as toasts."""

        def call(request: gr.Request, *values: Any) -> Any:
            lang = lang_of(request)
            try:
                return act(request, lang, *values)
            except Exception as error:  # noqa: BLE001 - as above
                raise toast(worded(error, lang)) from None

        return call


def worded(error: BaseException, lang: str) -> str:
    """What a person is told; of an unexpected error only a reference to the log."""
    return explain(error, lang) if isinstance(error, DemoError) else unexpected(error, lang)


@contextmanager
def told_to_programs(lang: str) -> Iterator[None]:
    """Errors of an API endpoint as plain text with their code."""
    try:
        yield
    except Exception as error:  # noqa: BLE001 - as above
        code = error.code if isinstance(error, DemoError) else "unexpected"
        raise gr.Error(f"{worded(error, lang)} [{code}]", print_exception=False) from None


class Pages:
    """Gathers updates, so that the page is redrawn at most every PACE seconds and nothing is lost."""

    def __init__(self, frame: Frame, lang: str) -> None:
        self._frame = frame
        self._lang = lang
        self._kept: Updates = {}
        self._stage = ""
        self._started = self._last = time.monotonic()

    def begin(self, view: View) -> Updates:
        self._view = view
        return view.start()

    def after(self, event: Event | None) -> Updates:
        """The updates due after this event (None: a silent second), or {} while it is too early."""
        due = event is None or time.monotonic() - self._last >= PACE
        if isinstance(event, Progress):
            self._kept |= self._frame.told(event, self._lang)
            due = due or event.stage != self._stage
            self._stage = event.stage
        elif isinstance(event, Done):
            self._kept |= self._view.done(event.result)
            self._kept |= self._frame.ended(event.result, self._lang, time.monotonic() - self._started)
            due = True
        elif event is not None:
            self._kept |= self._view.after(event)
        return self.rest() if due else {}

    def rest(self) -> Updates:
        """Everything not yet shown."""
        kept, self._kept = self._kept, {}
        self._last = time.monotonic()
        return kept


# -- ZeroGPU ----------------------------------------------------------------------------------------


def on_zero_gpu() -> bool:
    return bool(os.environ.get("SPACES_ZERO_GPU"))


def _elsewhere(house: House) -> Callable[..., Iterator[Event]]:
    """The job in the process that ZeroGPU lends a GPU to: a plain generator of picklable events."""
    import spaces

    def compute(task: str, raw: Mapping[str, Any], visitor: str) -> Iterator[Event]:
        with house.stream(task, raw, visitor) as events:
            yield from events

    return spaces.GPU(compute)
