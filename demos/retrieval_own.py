"""The section in which a folder, an archive or some files become a collection of one's own that can be searched.

A visitor's own last an hour after their last use; what the person at the machine keeps is there for everybody.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from demos import cards
from demos.edge import Edge, Updates
from demos.errands import Errand, Shown
from demos.models import may_steer
from demos.replies import explain
from demos.retrieval_pictures import picture_address
from demos.text import label, say
from demos.visitor import visitor_of
from demos.widgets import QUICK
from pipelines.core.errors import InvalidInput
from pipelines.core.streaming import Job
from pipelines.gallery import Gallery
from pipelines.house import LOCAL, House
from pipelines.retrieval import SHIPPED
from pipelines.retrievers.collections import HOST

SHOWN = 48  # pictures of a collection that are drawn


def taken(house: House, raw: dict[str, Any], visitor: str, job: Job) -> Any:
    """The files added to the collection; the host's own is the host's to fill, and only the host may name a path."""
    if raw["path"] and not raw["host"]:
        raise InvalidInput("folder_local_only")
    files = [*raw["files"], *([raw["path"]] if raw["path"] else [])]
    if not files:
        raise InvalidInput("no_pictures")
    if raw["name"].startswith(HOST) and raw["host"]:
        job.visitor = LOCAL
    return house.pipeline("retrieval").add(raw["name"], files, job, model=raw["model"])


def asked(name: str, files: Any, folder: Any, path: str, keep: bool, model: str) -> dict[str, Any]:
    """What the widgets say; a folder of the machine can only be kept."""
    named = Path(path.strip()).expanduser() if path.strip() else None
    found = [Path(file) for file in [*(files or ()), *(folder or ())]]
    return {"name": HOST + name.strip() if keep or named else name, "files": found, "path": named, "model": model}


def told(report: Any, lang: str) -> str:
    """What became of the files; those that could not be used with the reason."""
    words = say(
        "retrieval_report", lang, added=f"{report.added:,}", known=f"{report.known:,}", broken=len(report.broken)
    )
    if not report.broken:
        return cards.hint(words)
    rows = [
        [cards.escape(one.name), cards.escape(explain(InvalidInput(one.code, **one.params), lang))]
        for one in report.broken
    ]
    return cards.hint(words) + cards.table([say(f"retrieval_broken_{key}", lang) for key in ("file", "reason")], rows)


def shown_name(name: str, lang: str) -> str:
    """How a collection is called: the host's without their mark, with a word for it."""
    if name == SHIPPED:
        return say("retrieval_shipped", lang, number=f"{len(Gallery.shipped()):,}")
    own = name.removeprefix(HOST)
    return own if own == name else say("retrieval_kept", lang, name=own)


def pictures(collection: Any, lang: str) -> str:
    """The first pictures of a collection with the names of their files."""
    items = collection.items()
    drawn = "".join(
        f'<li><figure><img src="{picture_address(collection.picture(item.id))}" alt="{cards.escape(item.name)}"'
        f' loading="lazy"><figcaption><span>{cards.escape(item.name)}</span></figcaption></figure></li>'
        for item in items[:SHOWN]
    )
    more = len(items) - SHOWN
    words = say("retrieval_more", lang, number=f"{more:,}") if more > 0 else ""
    return f'<ol class="hits small">{drawn}</ol>{cards.hint(words) if words else ""}'


class Own:
    """The section; `wire` when the search's choice of collections is there."""

    def __init__(self, edge: Edge) -> None:
        self.edge = edge
        self.house = edge.house
        self.errand = Errand(edge, "retrieval", "own")
        gr.Markdown(label("retrieval_own_help"))
        gr.HTML(f'<div class="notice warn">{cards.both("retrieval_photos")}</div>')
        with gr.Row(equal_height=False):
            with gr.Column(scale=1, min_width=300):
                self._adding()
            with gr.Column(scale=1, min_width=300):
                self._looking()

    def _adding(self) -> None:
        self.name = gr.Textbox(label=label("retrieval_own_name"), max_lines=1, elem_id="retrieval-own-name")
        self.files = gr.File(
            label=label("retrieval_own_files"), file_count="multiple", file_types=["image", ".zip"], type="filepath",
            height=150, elem_id="retrieval-own-files",
        )  # fmt: skip
        with gr.Accordion(label("retrieval_own_folder"), open=False):
            self.folder = gr.File(
                label=label("retrieval_own_folder"), file_count="directory", type="filepath", height=150,
                elem_id="retrieval-own-folder",
            )  # fmt: skip
        with gr.Group(visible=False) as self.host:
            self.path = gr.Textbox(
                label=label("retrieval_own_path"), info=label("retrieval_own_path_info"), max_lines=1,
                elem_id="retrieval-own-path",
            )  # fmt: skip
            self.keep = gr.Checkbox(False, label=label("retrieval_own_keep"), elem_id="retrieval-own-keeps")
        self.errand.buttons()
        self.report = gr.HTML(elem_id="retrieval-own-report")
        self.errand.made()

    def _looking(self) -> None:
        self.chosen = gr.Dropdown(
            [], label=label("retrieval_own_chosen"), elem_id="retrieval-own-chosen", filterable=False
        )
        with gr.Row(elem_classes="buttons"):
            self.search = gr.Button(label("retrieval_own_search"), elem_id="retrieval-own-search")
            self.delete = gr.Button(label("retrieval_own_delete"), variant="stop", elem_id="retrieval-own-delete")
        self.pictures = gr.HTML(elem_id="retrieval-own-pictures")
        with gr.Accordion(label("retrieval_own_remove"), open=False, elem_id="retrieval-own-out"):
            self.gone = gr.Dropdown(
                [], multiselect=True, label=label("retrieval_own_which"), elem_id="retrieval-own-which"
            )
            self.remove = gr.Button(label("retrieval_own_remove"), elem_id="retrieval-own-remove")

    def wire(self, model: Any, collection: Any, parts: gr.Tabs) -> None:
        """`collection` is the search's choice, `parts` the sections' bar; the first of them is the search."""
        self.collection = collection
        added = self.errand.on(
            [self.errand.go.click],
            asked,
            partial(taken, self.house),
            lambda raw, lang: Shown(lambda report: {self.report: told(report, lang)}),
            inputs=[self.name, self.files, self.folder, self.path, self.keep, model],
            outputs=[self.report],
        )
        adding = [self.name, self.path, self.keep]
        for event, act, inputs, name in (
            (added.success, self._added, adding, "own_added"),
            (self.chosen.input, self._chosen, [self.chosen], "own_chosen"),
            (self.remove.click, self._remove, [self.chosen, self.gone], "own_remove"),
            (self.delete.click, self._delete, [self.chosen], "own_delete"),
        ):
            event(self.edge.guarded(act), inputs, self.outputs, api_name=f"retrieval_{name}", **QUICK)
        self.search.click(
            self.edge.guarded(self._search),
            [self.chosen],
            [parts, collection],
            api_name="retrieval_own_search",
            **QUICK,
        )

    @property
    def outputs(self) -> list[Any]:
        return [self.chosen, self.pictures, self.gone, self.collection]

    @property
    def opened(self) -> list[Any]:
        """What is filled in when the page opens."""
        return [*self.outputs, self.name, self.host]

    def fresh(self, request: Any, lang: str) -> Updates:
        updates = self._state(request, lang, "", SHIPPED)
        return updates | {
            self.name: say("retrieval_own_first", lang),
            self.host: gr.update(visible=may_steer(request)),
        }

    # -- what the buttons do --------------------------------------------------------------------------

    def _added(self, request: Any, lang: str, name: str, path: str, keep: bool) -> Updates:
        """What was added to is looked at, and chosen for the search."""
        name = asked(name, None, None, path, keep, "")["name"].strip()
        return self._state(request, lang, name, name)

    def _chosen(self, request: Any, lang: str, name: str) -> Updates:
        return self._state(request, lang, name, None)

    def _remove(self, request: Any, lang: str, name: str, ids: Sequence[int]) -> Updates:
        self._check(name)
        if not ids:
            raise InvalidInput("nothing_picked")
        self.house.collections.open(owner(request, name), name).remove(ids)
        return self._state(request, lang, name, None)

    def _delete(self, request: Any, lang: str, name: str) -> Updates:
        self._check(name)
        self.house.collections.delete(owner(request, name), name)
        return self._state(request, lang, "", SHIPPED)

    def _search(self, request: Any, lang: str, name: str) -> list[Any]:
        self._check(name)
        return [gr.Tabs(selected="search"), name]

    def _check(self, name: str | None) -> None:
        if not name:
            raise InvalidInput("no_collection")

    def _state(self, request: Any, lang: str, name: str | None, searched: str | None) -> Updates:
        """The collections there are, one of them looked at; `searched` None leaves the search's choice as it is."""
        known = self.house.collections.list(visitor_of(request))
        names = [one.name for one in known]
        name = name if name in names else next(iter(names), None)
        items = [(one.name, one.id) for one in self._opened(request, name).items()] if name else []
        said = [(f"{shown_name(one.name, lang)} · {one.pictures:,}", one.name) for one in known]
        choices = [(shown_name(SHIPPED, lang), SHIPPED), *said]
        chosen = {} if searched is None else {"value": searched if searched in names else SHIPPED}
        return {
            self.chosen: gr.update(choices=said, value=name),
            self.pictures: pictures(self._opened(request, name), lang)
            if name
            else cards.hint(say("retrieval_own_none", lang)),
            self.gone: gr.update(choices=items, value=[]),
            self.collection: gr.update(choices=choices, **chosen),
        }

    def _opened(self, request: Any, name: str) -> Any:
        return self.house.collections.open(visitor_of(request), name)


def owner(request: Any, name: str | None) -> str:
    """As whom a collection is changed: the person at the machine owns the host's."""
    if (name or "").startswith(HOST) and may_steer(request):
        return LOCAL
    return visitor_of(request)
