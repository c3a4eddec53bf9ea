"""Other work of a task than its run, each with buttons and lines of its own below the tab: a matrix, a map, files.

Knows buttons and a job's course, not what is done or shown.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any

import gradio as gr

from demos import cards
from demos.edge import Edge, Updates, View, Work
from demos.models import may_steer
from demos.text import label, say
from demos.widgets import PRIVATE, QUICK
from pipelines.core.streaming import Event, Progress

ViewOf = Callable[[dict[str, Any], str], View]


class Errand:
    """Primary button, Stop, status and result line of one piece of work; a Frame for the edge."""

    def __init__(self, edge: Edge, task: str, name: str) -> None:
        self.edge = edge
        self.task = task
        self.id = f"{task}-{name}"
        self.name = f"{task}_{name}"

    def buttons(self) -> None:
        """The primary button, Stop, and the status line below."""
        with gr.Row(elem_classes="buttons"):
            self.go = gr.Button(label(f"{self.name}_run"), variant="primary", elem_id=f"{self.id}-run")
            self.halt = gr.Button(label("stop"), variant="stop", interactive=False, elem_id=f"{self.id}-stop")
        self.status = gr.HTML(elem_id=f"{self.id}-status", elem_classes="status-line")

    def made(self) -> None:
        """The result line."""
        self.result = gr.HTML(elem_id=f"{self.id}-made")

    def on(
        self,
        triggers: Sequence[Any],
        raw: Callable[..., dict[str, Any]],
        work: Work,
        view: ViewOf,
        *,
        inputs: Sequence[Any],
        outputs: Sequence[Any],
    ) -> Any:
        """Do `work(raw, visitor, job)` on these triggers; in `raw`, "host" says whether the person at the machine asks.
        Returns the event.
        """

        async def listen(request: gr.Request, *values: Any) -> AsyncIterator[Updates]:
            asked = partial(_asked, raw, may_steer(request))
            handler = self.edge.handler(self.task, asked, view, self, work=work)
            async with aclosing(handler(request, *values)) as updates:
                async for update in updates:
                    yield update

        self.halt.click(self.edge.stopper(self.task), None, None, api_name=f"{self.name}_stop", **QUICK)
        return gr.on(
            list(triggers),
            listen,
            list(inputs),
            [*outputs, self.status, self.go, self.halt, self.result],
            api_name=self.name,
            concurrency_id=self.task,
            concurrency_limit=None,  # the house decides who computes
            trigger_mode="once",
            **PRIVATE,
        )

    # -- Frame --------------------------------------------------------------------------------------

    def busy(self, lang: str) -> Updates:
        return {
            self.status: cards.status(Progress("start"), lang),
            self.go: gr.update(interactive=False),
            self.halt: gr.update(interactive=True),
        }

    def told(self, progress: Progress, lang: str) -> Updates:
        return {self.status: cards.status(progress, lang)}

    def ended(self, result: Any, lang: str, seconds: float) -> Updates:
        made = getattr(result, "made", None)
        line = cards.made_line(self.edge.house, made, lang, seconds) if made else ""
        words = say("stopped_partly" if getattr(result, "stopped", False) else "done", lang)
        return {self.status: cards.said(words), self.result: line, **self._at_rest()}

    def failed(self, message: str, *, wrong: bool) -> Updates:
        return {self.status: cards.said(message, "error" if wrong else ""), **self._at_rest()}

    def _at_rest(self) -> Updates:
        return {self.go: gr.update(interactive=True), self.halt: gr.update(interactive=False)}


class Shown:
    """A View that only ends: `show(result)` makes the updates."""

    def __init__(self, show: Callable[[Any], Updates]) -> None:
        self.done = show

    def start(self) -> Updates:
        return {}

    def after(self, event: Event) -> Updates:
        return {}


def _asked(raw: Callable[..., dict[str, Any]], host: bool, *values: Any) -> dict[str, Any]:
    return {**raw(*values), "host": host}
