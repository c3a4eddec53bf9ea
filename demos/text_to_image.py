"""The picture tab: a picture appearing step by step out of noise. Knows pictures and seeds, no model."""

from __future__ import annotations

from typing import Any

import gradio as gr

from demos import cards
from demos.edge import Edge, Updates
from demos.rest import save
from demos.runs import Run
from demos.tab import Built, Tab
from demos.text import label, say
from demos.widgets import Form, samples
from pipelines.core.streaming import Event, Preview

EXAMPLES = (
    "a lighthouse on a cliff at sunset, watercolour",
    "a small robot reading a book in a garden, soft light",
    "水墨画：雨中的江南小桥",
    "a hand with exactly five fingers holding a pencil",
)


class Drawing:
    """What one run shows: the picture as it forms, then the finished ones."""

    def __init__(self, parts: dict[str, Any], lang: str) -> None:
        self.parts = parts
        self.lang = lang

    def start(self) -> Updates:
        return {self.parts["live"]: gr.update(value=None, visible=True), self.parts["blank"]: ""}

    def after(self, event: Event) -> Updates:
        return {self.parts["live"]: event.value} if isinstance(event, Preview) else {}

    def done(self, result: Any) -> Updates:
        pictures = [
            (save(png, "png")["path"], say("made_seed", self.lang, seed=seed))
            for png, seed in zip(result.images, result.seeds, strict=True)
        ]
        blank = cards.warning(say("text_to_image_blank", self.lang)) if any(result.blanked) else ""
        return {
            self.parts["gallery"]: pictures,
            self.parts["live"]: gr.update(value=None, visible=False),
            self.parts["blank"]: blank,
        }


def build(edge: Edge) -> Built:
    form = Form(edge, "text_to_image")
    run = Run(form)
    with gr.Row(equal_height=False):
        with gr.Column(scale=1, min_width=320):
            prompt = form.field("prompt")
            run.buttons()
            run.lines()
            samples([(text,) for text in EXAMPLES], [prompt], "text_to_image")
        with gr.Column(scale=1, min_width=320):
            parts = {
                "live": gr.Image(
                    label=label("text_to_image_live"),
                    interactive=False,
                    visible=False,
                    buttons=[],
                    alt_text=label("text_to_image_live"),
                    elem_id="text_to_image-live",
                ),  # fmt: skip
                "gallery": gr.Gallery(
                    label=label("text_to_image_gallery"),
                    columns=2,
                    interactive=False,
                    height=420,
                    object_fit="contain",
                    buttons=["download", "fullscreen"],
                    elem_id="text_to_image-gallery",
                ),  # fmt: skip
                "blank": gr.HTML(elem_id="text_to_image-blank"),
            }
            run.made()
            run.copies()
            models = form.models()
            form.rest()
    run.on([run.go.click, prompt.submit], lambda raw, lang: Drawing(parts, lang), list(parts.values()))
    run.wire()
    return Built((models.picker, *models.outputs), models.fresh)


TAB = Tab("text_to_image", build)
