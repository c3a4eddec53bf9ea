"""The captioning tab: a picture described or asked about, word by word. Knows text and pictures, no model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from demos import cards
from demos.edge import Edge, Updates
from demos.runs import Run
from demos.tab import Built, Tab
from demos.text import label, say
from demos.widgets import Form, picture_samples
from pipelines.core.streaming import Event, TextDelta

EXAMPLES = ("cat", "boat", "car", "city")


class Caption:
    """What one run shows."""

    def __init__(self, parts: dict[str, Any], lang: str) -> None:
        self.parts = parts
        self.lang = lang
        self.text = ""

    def start(self) -> Updates:
        return {self.parts["caption"]: "", self.parts["tokens"]: "", self.parts["others"]: ""}

    def after(self, event: Event) -> Updates:
        if isinstance(event, TextDelta):
            self.text += event.text
        return {self.parts["caption"]: self.text}

    def done(self, result: Any) -> Updates:
        tokens = cards.shaded(spaced(result.tokens))
        return {
            self.parts["caption"]: result.caption,
            self.parts["tokens"]: cards.hint(say("captioning_tokens_help", self.lang)) + tokens if tokens else "",
            self.parts["others"]: other_captions(result, self.lang),
        }


def spaced(tokens: Sequence[tuple[str, float]]) -> list[tuple[str, float]]:
    """Word pieces as one reads them: "##" glues a piece to the last, and the others stand apart. Tokens that bring
    their own spaces stay as they are."""
    if any(text[:1].isspace() for text, _ in tokens):
        return list(tokens)
    return [(text.removeprefix("##") if text.startswith("##") else f" {text}", logprob) for text, logprob in tokens]


def other_captions(result: Any, lang: str) -> str:
    """The other beams with their log-probability, likeliest first."""
    if not result.alternatives:
        return ""
    rows = [[cards.escape(other.text), f"{other.logprob:.2f}"] for other in result.alternatives]
    heads = [say("captioning_other", lang), say("captioning_logprob", lang)]
    return cards.table(heads, rows)


def build(edge: Edge) -> Built:
    form = Form(edge, "captioning")
    run = Run(form)
    with gr.Row(equal_height=False):
        with gr.Column(scale=1, min_width=320):
            image = form.field("image", height=300)
            form.field("question")
            run.buttons()
            run.lines()
            picture_samples(EXAMPLES, image, "captioning")
        with gr.Column(scale=1, min_width=320):
            parts = {
                "caption": gr.Textbox(
                    label=label("captioning_caption"),
                    lines=3,
                    interactive=False,
                    buttons=["copy"],
                    elem_id="captioning-caption",
                ),  # fmt: skip
                "tokens": gr.HTML(elem_id="captioning-tokens"),
                "others": gr.HTML(elem_id="captioning-others"),
            }
            run.made()
            run.copies()
            models = form.models()
            form.rest()
    run.on([run.go.click], lambda raw, lang: Caption(parts, lang), list(parts.values()))
    run.wire()
    return Built((models.picker, *models.outputs), models.fresh)


TAB = Tab("captioning", build)
