"""The captioning tab: a picture described by three families side by side, or asked about. Knows text and pictures,
no model."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote

import gradio as gr

from demos import cards
from demos.captioning_batch import add_batch
from demos.captioning_views import families, shipped_pictures
from demos.edge import Edge, Updates
from demos.runs import Run
from demos.tab import Built, Tab
from demos.text import label, lang_of, say
from demos.widgets import QUICK, Form, picture_samples
from pipelines.core.streaming import Event, TextDelta
from pipelines.house import House

EXAMPLES = ("koala", "popcorn", "zebra", "cat")  # three in a style kept from training, and a scene


class Caption:
    """What one run shows."""

    def __init__(self, parts: dict[str, Any], raw: dict[str, Any], lang: str) -> None:
        self.parts = parts
        self.image = address(raw.get("image"))
        self.lang = lang
        self.text = ""

    def start(self) -> Updates:
        return {self.parts["caption"]: "", self.parts["families"]: ""}

    def after(self, event: Event) -> Updates:
        if isinstance(event, TextDelta):
            self.text += event.text
        return {self.parts["caption"]: self.text}

    def done(self, result: Any) -> Updates:
        near = result.retrieved.neighbours if result.retrieved else ()
        pictures = shipped_pictures(one.id for one in near)
        return {
            self.parts["caption"]: result.caption,
            self.parts["families"]: families(result, self.image, self.lang, pictures),
        }


def address(image: Path | None) -> str:
    """Where the browser finds the picture it sent, which nobody here has opened; relative, for the app may be mounted
    anywhere."""
    return f"gradio_api/file={quote(str(image))}" if image else ""


def suited(house: House, model: str, lang: str) -> dict[str, Any]:
    """How to begin with a model: the starter model shows everything at once, the larger ones write one caption."""
    spec = house.catalog.for_task("captioning", model or "")
    starter = spec.tier == "starter"
    return {
        "family": "all" if starter else "neural",
        "decoding": "all" if starter else "greedy",
        "language": "zh" if lang == "zh" and "zh" in spec.languages else "auto",
        "caution": cards.warning(say("captioning_drawings", lang)) if starter else "",
    }


def build(edge: Edge) -> Built:
    form = Form(edge, "captioning")
    run = Run(form)
    with gr.Row(equal_height=False):
        with gr.Column(scale=1, min_width=320):
            form.field("image", height=300)
            picture_samples(EXAMPLES, form.component("image"), "captioning")
            caution = gr.HTML(elem_id="captioning-caution")
        with gr.Column(scale=1, min_width=320):
            form.field("family")
            form.field("language")
            with gr.Accordion(label("captioning_more"), open=False, elem_id="captioning-more"):
                form.field("references")
                form.field("question")
            run.buttons()
            run.lines()
            parts: dict[str, Any] = {
                "caption": gr.Textbox(label=label("captioning_caption"), lines=2, interactive=False, buttons=["copy"],
                                      elem_id="captioning-caption")
            }  # fmt: skip
    parts["families"] = gr.HTML(elem_id="captioning-families")
    run.made()
    with gr.Row(equal_height=False):
        with gr.Column(scale=1, min_width=320):
            models = form.models()
            form.rest()
        with gr.Column(scale=1, min_width=320):
            add_batch(form)
            run.copies()
    run.on([run.go.click], lambda raw, lang: Caption(parts, raw, lang), list(parts.values()))
    run.wire()
    begin = {name: form.component(name) for name in ("family", "decoding", "language")} | {"caution": caution}
    _follow(edge, models.picker, begin)

    def fresh(request: Any, lang: str) -> dict[Any, Any]:
        start = edge.house.default_model("captioning", lang)
        return models.fresh(request, lang) | _placed(begin, suited(edge.house, start, lang))

    return Built((models.picker, *models.outputs, *begin.values()), fresh)


def _follow(edge: Edge, picker: Any, begin: dict[str, Any]) -> None:
    """Another model brings its own way to begin; `input`, for opening the page is no choice of the visitor's."""

    def chosen(request: gr.Request, model: str) -> dict[Any, Any]:
        return _placed(begin, suited(edge.house, model, lang_of(request)))

    picker.input(chosen, [picker], list(begin.values()), api_name="captioning_begin", **QUICK)


def _placed(begin: dict[str, Any], values: dict[str, Any]) -> dict[Any, Any]:
    return {component: values[name] for name, component in begin.items()}


TAB = Tab("captioning", build)
