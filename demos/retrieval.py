"""The retrieval tab: one's own pictures found by words, by a picture or by both. Knows files and scores, no model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from demos import cards
from demos.edge import Edge, Updates
from demos.look import SAMPLES
from demos.runs import Run
from demos.tab import Built, Tab
from demos.text import label, say
from demos.widgets import QUICK, Form, samples
from pipelines.core.streaming import Event

EXAMPLES = ("a red car on a road", "something to eat", "夜晚的城市", "a picture without any animals")
GALLERY = ("boat", "cat", "car", "house", "apples", "city")


class Hits:
    """What one run shows: the gallery in order of its scores."""

    def __init__(self, parts: dict[str, Any], gallery: list[Path], lang: str) -> None:
        self.parts = parts
        self.gallery = gallery
        self.lang = lang

    def start(self) -> Updates:
        return {}

    def after(self, event: Event) -> Updates:
        return {}

    def done(self, result: Any) -> Updates:
        found = [(str(self.gallery[hit.index]), _caption(rank, hit)) for rank, hit in enumerate(result.hits, 1)]
        rows = [
            [str(rank), cards.escape(self.gallery[hit.index].name), f"{hit.score:.3f}", _share(hit.rerank_score)]
            for rank, hit in enumerate(result.hits, 1)
        ]
        shown = len(HEADS) if any(hit.rerank_score is not None for hit in result.hits) else len(HEADS) - 1
        heads = [say(f"retrieval_head_{key}", self.lang) for key in HEADS[:shown]]
        return {self.parts["hits"]: found, self.parts["scores"]: cards.table(heads, [row[:shown] for row in rows])}


HEADS = ("rank", "file", "cosine", "rerank")


def _caption(rank: int, hit: Any) -> str:
    reranked = "" if hit.rerank_score is None else f" → {hit.rerank_score:.3f}"
    return f"{rank} · {hit.score:.3f}{reranked}"


def _share(score: float | None) -> str:
    return "–" if score is None else f"{score:.3f}"


def sample_gallery() -> list[str]:
    """The pictures that come with the app."""
    return [str(SAMPLES / f"{name}.jpg") for name in GALLERY]


def build(edge: Edge) -> Built:
    form = Form(edge, "retrieval")
    run = Run(form)
    with gr.Row(equal_height=False):
        with gr.Column(scale=1, min_width=320):
            gallery = form.field("gallery", columns=4, height=220)
            take_ours = gr.Button(label("retrieval_samples"), size="md", elem_id="retrieval-samples")
            query = form.field("query")
            with gr.Accordion(label("retrieval_by_picture"), open=False):
                form.field("image", height=220)
            run.buttons()
            run.lines()
            samples([(text,) for text in EXAMPLES], [query], "retrieval")
        with gr.Column(scale=1, min_width=320):
            parts = {
                "hits": gr.Gallery(label=label("retrieval_hits"), columns=3, interactive=False, height=380,
                                   object_fit="contain", buttons=["fullscreen"], elem_id="retrieval-hits"),
                "scores": gr.HTML(elem_id="retrieval-scores"),
            }  # fmt: skip
            run.made()
            run.copies()
            models = form.models()
            form.rest()
    take_ours.click(sample_gallery, None, [gallery], api_name="retrieval_samples", **QUICK)
    run.on([run.go.click, query.submit], lambda raw, lang: Hits(parts, raw["gallery"], lang), list(parts.values()))
    run.wire()
    return Built((models.picker, *models.outputs), models.fresh)


TAB = Tab("retrieval", build)
