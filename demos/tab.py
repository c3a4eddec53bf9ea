"""The page: a header, one tab after the other, and what is filled in when it opens.

A tab that cannot be built shows why; the others live.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr

from demos import TABS, cards
from demos.edge import Edge
from demos.rest import add_endpoints
from demos.text import label, lang_of, messages, say
from pipelines.core.errors import DemoError
from pipelines.house import House

log = logging.getLogger(__name__)

TITLE = "Synesthesia · 通感"
Fresh = Callable[[Any, str], dict[Any, Any]]  # (request, language) -> updates


@dataclass(frozen=True, slots=True)
class Built:
    """A tab on the page: `outputs` are filled by `fresh(request, lang)` when the page opens."""

    outputs: tuple[Any, ...] = ()
    fresh: Fresh | None = None


@dataclass(frozen=True, slots=True)
class Tab:
    """What a tab's module declares; its title and first sentence are `title` and `intro` in its locale file."""

    id: str
    build: Callable[[Edge], Built]


def build_demo(house: House, tabs: tuple[str, ...] = TABS) -> gr.Blocks:
    """The whole page over a house; launch it, or mount it."""
    edge = Edge(house)
    with gr.Blocks(title=TITLE, analytics_enabled=False) as demo:
        gr.HTML(header(), elem_id="header")
        with gr.Tabs(elem_id="tabs", overflow_behavior="wrap") as bar:
            built = [_build(name, edge) for name in tabs]
        gr.HTML(footer(), elem_id="footer")
        add_endpoints(house)
        _on_opening(demo, bar, built, tabs, house)
    return demo


def _build(name: str, edge: Edge) -> Built:
    title = f"{name}_title"
    with gr.Tab(label(title) if title in messages() else name, id=name, elem_id=f"tab-{name}"):
        try:
            tab: Tab = importlib.import_module(f"demos.{name}").TAB
            with gr.Column(elem_classes="tab"):
                gr.Markdown(label(f"{name}_intro"), elem_classes="intro")
                return tab.build(edge)
        except Exception as error:  # noqa: BLE001 - a broken tab must not take the others down
            log.exception("tab %s", name)
            gr.HTML(broken(error))
            return Built()


def broken(error: Exception) -> str:
    """The card in the place of a tab that could not be built, in both languages: the log has the rest."""
    code = error.code if isinstance(error, DemoError) else type(error).__name__
    both = "".join(
        f'<p lang="{tag}">{cards.escape(say("tab_broken", lang, kind=code))}</p>'
        for lang, tag in (("en", "en"), ("zh", "zh-CN"))
    )
    return f'<div class="notice error" role="alert">{both}</div>'


def header() -> str:
    return (
        f'<header><div><h1>Synesthesia <span lang="zh">通感</span></h1><p>{cards.both("tagline")}</p></div>'
        '<nav aria-label="Language · 语言">'
        '<a href="?lang=en" lang="en" data-pick="en">EN</a><a href="?lang=zh-CN" lang="zh-CN" data-pick="zh">中文</a>'
        "</nav></header>"
    )


def footer() -> str:
    return f'<footer><p>{cards.both("privacy")} <a href="?view=api">{cards.both("api_link")}</a></p></footer>'


def _on_opening(demo: gr.Blocks, bar: gr.Tabs, built: list[Built], tabs: tuple[str, ...], house: House) -> None:
    """Fill in what depends on the language, the visitor and the moment; open the tab the address names."""

    def opening(request: gr.Request) -> dict[Any, Any]:
        lang = lang_of(request)
        updates: dict[Any, Any] = {}
        wanted = request.query_params.get("tab")
        if wanted in tabs:
            updates[bar] = gr.Tabs(selected=wanted)
        for tab in built:
            if tab.fresh is not None:
                updates |= tab.fresh(request, lang)
        return updates

    outputs = [bar, *(output for tab in built for output in tab.outputs)]
    demo.load(opening, None, outputs, api_name="opening", api_visibility="private", show_progress="hidden")
