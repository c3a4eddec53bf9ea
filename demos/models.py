"""The Models tab: what is in memory and why, what left it and why; the host may load, unload, pin and squeeze.

Looks through Registry.status(); steering is for whoever sits at the machine that serves.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing
from typing import Any

import gradio as gr

from demos import cards
from demos.bridge import Bridge
from demos.edge import Edge, toast, worded
from demos.middleware import is_loopback
from demos.tab import Built, Tab
from demos.text import label, lang_of, say
from demos.visitor import scope_of, visitor_of
from demos.widgets import PRIVATE, QUICK
from pipelines.core.errors import Cancelled, InvalidInput
from pipelines.core.registry import Eviction, RecordView, Registry
from pipelines.core.streaming import Job, Progress
from pipelines.house import House

SECONDS = 2.0  # between two looks
STEP = 10  # of the budget slider, MB
SHOWN = 30  # evictions
JOB = "models"
RESIDENT = ("name", "state", "size", "device", "leases", "pinned", "hits", "used")
GONE = ("when", "name", "size", "reason")


def may_steer(request: Any) -> bool:
    """True for the person at the machine itself: a connection from loopback, to a server without a proxy."""
    scope = scope_of(request)
    client = scope.get("client") if scope else None
    return bool(client) and is_loopback(client[0])


def memory_bar(registry: Registry | None, lang: str) -> str:
    """Used bytes of the budget, each resident model as a piece of the bar."""
    if registry is None:
        return cards.hint(say("models_nothing", lang))
    budget, used = registry.budget, registry.used
    whole = max(budget, used, 1)
    pieces = "".join(
        f'<span class="{view.kind}" style="width:{100 * view.size / whole:.2f}%"></span>' for view in registry.status()
    )
    words = say(
        "models_used", lang, used=cards.size(used), budget=cards.size(budget), device=registry.device,
        waiting=registry.waiting,
    )  # fmt: skip
    over = " over" if used > budget else ""
    return f'<p class="made">{cards.escape(words)}</p><div class="memory{over}" aria-hidden="true">{pieces}</div>'


def resident_table(views: Iterable[RecordView], house: House, lang: str) -> str:
    """One row per model or adapter in memory."""
    rows = [_row(view, house, lang) for view in views]
    return _table("models_head", RESIDENT, rows, say("models_empty", lang), lang)


def _row(view: RecordView, house: House, lang: str) -> list[str]:
    spec = house.catalog.model(view.id) if view.kind == "model" else None
    title = spec.title[lang] if spec else house.catalog.adapter(view.id).title[lang]
    name = f"<b>{cards.escape(title)}</b><br><code>{cards.escape(view.id)}</code>"
    if view.kind == "adapter":
        name = f'<span class="child">↳ {name}</span>'
    state = say(f"models_state_{view.state}", lang)
    if view.progress is not None and view.progress.total:
        state += f" {100 * view.progress.done / view.progress.total:.0f}%"
    elif view.load_seconds:
        state += f" · {say('models_loaded_in', lang, seconds=f'{view.load_seconds:.1f}')}"
    elif view.how:
        state += f" · {say('models_how_' + view.how.replace(' ', '_').replace('/', '_'), lang)}"
    size = cards.size(view.size) + ("" if view.measured else f" ({say('models_estimate', lang)})")
    pinned = say("models_pinned", lang) if view.pinned else "–"
    return [name, *map(cards.escape, (state, size, view.device, view.leases, pinned, view.hits, _ago(view, lang)))]


def _ago(view: RecordView, lang: str) -> str:
    return say("models_now", lang) if view.leases else since(time.time() - view.last_used, lang)


def since(seconds: float, lang: str) -> str:
    """How long ago, in the coarsest unit that says enough."""
    if seconds < 60:
        return say("models_seconds_ago", lang, number=max(0, round(seconds)))
    return say("models_minutes_ago", lang, number=round(seconds / 60))


def eviction_table(evictions: Iterable[Eviction], lang: str) -> str:
    """What left memory, newest first, with the reason in words."""
    rows = [
        [
            cards.escape(since(time.time() - gone.time, lang)),
            f"<code>{cards.escape(gone.id)}</code>",
            cards.size(gone.size),
            cards.escape(say(f"models_reason_{gone.reason}", lang, wanted_by=gone.wanted_by)),
        ]
        for gone in list(evictions)[:SHOWN]
    ]
    return _table("models_gone", GONE, rows, say("models_none_gone", lang), lang)


def _table(prefix: str, columns: tuple[str, ...], rows: list[list[str]], empty: str, lang: str) -> str:
    kind = "wide" if len(columns) > 4 else ""
    return cards.table([say(f"{prefix}_{key}", lang) for key in columns], rows, kind) if rows else cards.hint(empty)


class Panel:
    """The tab's components and what they do to one house's registry."""

    def __init__(self, edge: Edge) -> None:
        self.edge = edge
        self.house = edge.house
        self._bridge = Bridge(edge.house)

    def build(self) -> Built:
        self.bar = gr.HTML(elem_id="models-bar")
        gr.Markdown(label("models_resident_heading"))
        self.resident = gr.HTML(elem_id="models-resident")
        with gr.Column(elem_id="models-steering") as self.steering:
            self._steering()
        self.hint = gr.HTML(elem_id="models-hint")
        gr.Markdown(label("models_gone_heading"))
        self.gone = gr.HTML(elem_id="models-gone")
        self.timer = gr.Timer(SECONDS)
        self.views = [self.bar, self.resident, self.gone]
        self.shown = [*self.views, self.there, self.budget]
        self._wire()
        return Built((*self.shown, self.which, self.steering, self.hint), self.fresh)

    def _steering(self) -> None:
        with gr.Row(equal_height=False, elem_classes="steer"):
            self.which = gr.Dropdown([], label=label("models_which"), elem_id="models-which", scale=3, min_width=240)
            self.load = gr.Button(label("models_load"), variant="primary", elem_id="models-load", min_width=110)
            self.halt = gr.Button(label("stop"), elem_id="models-stop", min_width=110)
        self.status = gr.HTML(elem_id="models-status", elem_classes="status-line")
        with gr.Row(equal_height=False, elem_classes="steer"):
            self.there = gr.Dropdown([], label=label("models_there"), elem_id="models-there", scale=3, min_width=240)
            self.unload = gr.Button(label("models_unload"), elem_id="models-unload", min_width=110)
            self.pin = gr.Button(label("models_pin"), elem_id="models-pin", min_width=110)
            self.unpin = gr.Button(label("models_unpin"), elem_id="models-unpin", min_width=110)
        self.budget = gr.Slider(
            0, 1_000, 0, step=STEP, interactive=False, label=label("models_budget"), info=label("models_budget_info"),
            elem_id="models-budget",
        )  # fmt: skip

    def _wire(self) -> None:
        for event, act, name in (
            (self.timer.tick, self._look, "look"),
            (self.unload.click, self._unload, "unload"),
            (self.pin.click, self._pin, "pin"),
            (self.unpin.click, self._unpin, "unpin"),
            (self.budget.release, self._squeeze, "budget"),
        ):
            event(self.edge.guarded(act), self.shown[-2:], self.shown, api_name=f"models_{name}", **QUICK)
        self.load.click(
            self._load,
            [self.which],
            [self.status, *self.shown],
            api_name="models_load",
            trigger_mode="once",
            concurrency_id=JOB,
            concurrency_limit=None,
            **PRIVATE,
        )
        self.halt.click(self.edge.stopper(JOB), None, None, api_name="models_stop", **QUICK)

    # -- looking ------------------------------------------------------------------------------------

    def fresh(self, request: Any, lang: str) -> dict[Any, Any]:
        """The tab in the page's language, when it opens."""
        models = [spec for spec in self.house.catalog.models() if not spec.part]
        host = may_steer(request)
        return {
            **dict(zip(self.shown, self._look(request, lang, None, 0), strict=True)),
            self.which: gr.update(choices=[(cards.choice(self.house, s, lang), s.id) for s in models]),
            self.steering: gr.update(visible=host),
            self.hint: "" if host else cards.hint(say("models_host_hint", lang)),
        }

    def _tables(self, lang: str) -> list[str]:
        registry = self.house.registry_if_made
        views = registry.status() if registry else ()
        gone = registry.evictions() if registry else ()
        return [memory_bar(registry, lang), resident_table(views, self.house, lang), eviction_table(gone, lang)]

    def _choices(self, chosen: str | None) -> Any:
        registry = self.house.registry_if_made
        ids = [view.id for view in registry.status()] if registry else []
        return gr.update(choices=ids, value=chosen if chosen in ids else next(iter(ids), None))

    def _limits(self, shown: float) -> Any:
        """The budget slider as the registry has it, once there is one; then it is the host's."""
        registry = self.house.registry_if_made
        if registry is None or shown:
            return gr.skip()
        budget = -(-registry.budget // cards.MIB)
        return gr.update(minimum=STEP, maximum=budget, value=budget, interactive=True)

    def _look(self, request: Any, lang: str, chosen: str | None, budget: float) -> list[Any]:
        return [*self._tables(lang), self._choices(chosen), self._limits(budget)]

    # -- steering -----------------------------------------------------------------------------------

    def _unload(self, request: Any, lang: str, id: str | None, budget: float) -> list[Any]:
        self._steered(request, id).unload(str(id))
        return self._look(request, lang, None, budget)

    def _pin(self, request: Any, lang: str, id: str | None, budget: float) -> list[Any]:
        self._steered(request, id).pin(str(id))
        return self._look(request, lang, id, budget)

    def _unpin(self, request: Any, lang: str, id: str | None, budget: float) -> list[Any]:
        self._steered(request, id).pin(str(id), pinned=False)
        return self._look(request, lang, id, budget)

    def _squeeze(self, request: Any, lang: str, chosen: str | None, budget: float) -> list[Any]:
        self._steered(request, "budget").set_budget(int(budget) * cards.MIB)
        return self._look(request, lang, chosen, budget)

    def _steered(self, request: Any, id: str | None) -> Registry:
        if not may_steer(request):
            raise InvalidInput("host_only")
        if not id:
            raise InvalidInput("nothing_chosen")
        return self.house.registry

    async def _load(self, request: gr.Request, id: str | None) -> AsyncIterator[dict[Any, Any]]:
        lang = lang_of(request)
        yield {self.status: cards.status(Progress("start"), lang)}
        try:
            self._steered(request, id)
            stream = await self._bridge.start(JOB, lambda job: self._brought(str(id), job), visitor_of(request))
            async with aclosing(self._bridge.events(stream)) as events:
                async for event in events:
                    words = {self.status: cards.status(event, lang)} if isinstance(event, Progress) else {}
                    yield words | dict(zip(self.views, self._tables(lang), strict=True))
            yield {self.status: cards.said(say("done", lang)), self.there: self._choices(id)}
        except Cancelled as error:
            yield {self.status: cards.said(worded(error, lang))}
        except Exception as error:  # noqa: BLE001 - as in edge.py
            message = worded(error, lang)
            yield {self.status: cards.said(message, "error")}
            raise toast(message) from None

    def _brought(self, id: str, job: Job) -> None:
        with self.house.registry.lease(id, stop=job.stop, progress=job.emit):
            job.check()


def build(edge: Edge) -> Built:
    return Panel(edge).build()


TAB = Tab("models", build)
