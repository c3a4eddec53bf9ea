"""The retrieval tab: pictures found by words, by a picture or by both, captions by a picture, and how that is done.

The search comes first; the two ways of it, the map, one's own labels and one's own pictures have sections of their own.
Knows files and scores, no model.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.utils import get_upload_folder

from demos import cards
from demos.edge import Edge, Updates
from demos.errands import Shown
from demos.retrieval_labels import Labels
from demos.retrieval_map import MapSection
from demos.retrieval_own import Own
from demos.retrieval_pictures import Address, files_of, owned, shipped
from demos.retrieval_two_ways import TwoWays
from demos.retrieval_views import browse, cutoff, facts, hits, lines
from demos.runs import Run
from demos.tab import Built, Tab
from demos.text import label, say
from demos.visitor import visitor_of
from demos.widgets import PRIVATE, QUICK, Form, samples
from pipelines.gallery import Gallery
from pipelines.house import House
from pipelines.retrieval import SHIPPED

EXAMPLES = ("a red car", "something to eat", "a sad face", "夜晚的城市", "乐器", "下雨")
PICTURES = ("twemoji/1F426", "openclipart/recreation/music/electric_guitar_andrea__01r", "noto/2614", "fxemoji/1F34E")
REFINED = ("without", "wanted", "language", "top_k", "cutoff", "depth")


def found(parts: dict[str, Any], address: Address, lang: str, result: Any) -> Updates:
    """What one search shows."""
    moves = lines(result, address, lang)
    heading = f"<h3>{cards.escape(say('retrieval_moves', lang))}</h3>" if moves else ""
    return {
        parts["hits"]: hits(result, address, lang),
        parts["cutoff"]: cutoff(result, lang),
        parts["lines"]: heading + moves,
        parts["facts"]: facts(result, lang),
    }


def addresses(house: House, collection: str, visitor: str) -> Address:
    """Where the pictures of a collection are."""
    return shipped if collection == SHIPPED else owned(house.collections.open(visitor, collection))


class Search:
    """The first section: what to look for on the left, what was found on the right."""

    def __init__(self, form: Form) -> None:
        self.form = form
        self.run = Run(form)
        with gr.Row(equal_height=False):
            with gr.Column(scale=2, min_width=300):
                self._asking()
            with gr.Column(scale=3, min_width=320):
                self.parts = {
                    name: gr.HTML(elem_id=f"retrieval-{name}") for name in ("hits", "cutoff", "lines", "facts")
                }
                self.run.made()
                self.run.copies()

    def _asking(self) -> None:
        form = self.form
        self.query = form.field("query", lines=1, max_lines=3)
        self.collection = gr.Dropdown(
            [SHIPPED], value=SHIPPED, label=label("retrieval_collection"), filterable=False,
            elem_id="retrieval-collection",
        )  # fmt: skip
        form.add("collection", self.collection, take=lambda name: name or SHIPPED)
        form.field("rerank")
        self.run.buttons()
        self.run.lines()
        samples([(text,) for text in EXAMPLES], [self.query], "retrieval")
        with gr.Accordion(label("retrieval_by_picture"), open=False, elem_id="retrieval-by-picture"):
            self.image = form.field("image", height=220)
            gr.HTML(cards.both("retrieval_photos"), elem_classes="caption")
            self._offered()
            form.field("weight")
        with gr.Accordion(label("retrieval_refine"), open=False, elem_id="retrieval-refine"):
            for name in REFINED:
                form.field(name)

    def _offered(self) -> None:
        """Pictures of the gallery to search by."""
        self.samples = gr.Gallery(
            show_label=False, columns=4, fit_columns=False, height=110, interactive=False, allow_preview=False,
            object_fit="contain", buttons=[], elem_id="retrieval-samples", elem_classes="samples",
        )  # fmt: skip

        def take(event: gr.SelectData) -> str:
            return files_of(PICTURES, Path(get_upload_folder()))[event.index]

        self.samples.select(take, None, [self.image], api_name="retrieval_sample", **QUICK)

    def wire(self) -> None:
        """To be called when every field is there. Whose collection it is only the request can say."""
        run, edge = self.run, self.form.edge

        async def search(request: gr.Request, *values: Any) -> AsyncIterator[Updates]:
            def view(raw: dict[str, Any], lang: str) -> Shown:
                address = addresses(edge.house, raw["collection"], visitor_of(request))
                return Shown(lambda result: found(self.parts, address, lang, result))

            handler = edge.handler(form.task, form.raw, view, run)
            async with aclosing(handler(request, *values)) as updates:
                async for update in updates:
                    yield update

        form = self.form
        gr.on(
            [run.go.click, self.query.submit],
            search,
            form.inputs,
            [*self.parts.values(), run.status, run.go, run.halt, run.result, run.seed, run.keep, form.notice],
            api_name="retrieval_run",
            concurrency_id=form.task,
            concurrency_limit=None,  # the house decides who computes
            trigger_mode="once",
            **PRIVATE,
        )
        run.wire()

    @property
    def outputs(self) -> list[Any]:
        return [self.parts["hits"], self.samples]

    def fresh(self, lang: str, folder: Path) -> Updates:
        """Something to look at before the first search."""
        return {
            self.parts["hits"]: browse(Gallery.shipped(), lang),
            self.samples: gr.update(value=files_of(PICTURES, folder)),
        }


def build(edge: Edge) -> Built:
    form = Form(edge, "retrieval")
    with gr.Tabs(elem_id="retrieval-sections", overflow_behavior="wrap") as bar:
        with gr.Tab(label("retrieval_section_search"), id="search"):
            search = Search(form)
        with gr.Tab(label("retrieval_section_two_ways"), id="two_ways"):
            two_ways = TwoWays(edge)
        with gr.Tab(label("retrieval_section_map"), id="map"):
            plane = MapSection(edge)
        with gr.Tab(label("retrieval_section_labels"), id="labels"):
            labels = Labels(edge)
        with gr.Tab(label("retrieval_section_own"), id="own"):
            own = Own(edge)
    models = form.models()
    search.wire()
    for section in (two_ways, labels):
        section.wire(models.picker)
    plane.wire(models.picker, search.collection, two_ways.language)
    own.wire(models.picker, search.collection, bar)

    def fresh(request: Any, lang: str) -> Updates:
        folder = Path(get_upload_folder())
        updates = models.fresh(request, lang) | own.fresh(request, lang)
        for section in (search, two_ways, labels):
            updates |= section.fresh(lang, folder)
        return updates

    outputs = [models.picker, *models.outputs, *own.opened]
    return Built((*outputs, *(one for section in (search, two_ways, labels) for one in section.outputs)), fresh)


TAB = Tab("retrieval", build)
