"""The emotion tab: what a text, an aspect, a face or a voice shows, each channel with all its scores and a caution."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import gradio as gr

from demos import cards
from demos.edge import Edge, Updates
from demos.runs import Run
from demos.tab import Built, Tab
from demos.text import label, messages, say
from demos.widgets import Form, picture_samples, samples
from pipelines.core.streaming import Event

EXAMPLES = (
    ("I can't believe we won! Thank you all so much.", ""),
    ("The food was wonderful, but we waited an hour for it.", "service"),
    ("Oh great, another Monday.", ""),
    ("今天终于见到了多年未见的老朋友。", ""),
)
CHANNELS = ("text", "aspect", "image", "audio")
PICTURES = ("smile", "sad")
TOP = 28  # labels shown: all of the largest classifier here
STRONGEST = 0.6  # opacity behind the word that mattered most: more would hide the word


class Readings:
    """What one run shows: a list of scores per channel, the words that mattered, and whether the channels agree."""

    def __init__(self, parts: dict[str, Any], raw: dict[str, Any], lang: str) -> None:
        self.parts = parts
        self.text = raw.get("text", "").strip()
        self.lang = lang

    def start(self) -> Updates:
        return {}

    def after(self, event: Event) -> Updates:
        return {}

    def done(self, result: Any) -> Updates:
        updates: Updates = {self.parts[name]: gr.update(visible=False) for name in CHANNELS}
        for channel in result.channels:
            scores = {feeling(name, self.lang): score for name, score in channel.scores}
            title = say(f"emotion_channel_{channel.input}", self.lang)
            updates[self.parts[channel.input]] = gr.update(value=scores, label=title, visible=True)
        evidence = next((c.evidence for c in result.channels if c.evidence), ())
        words = list(highlighted(self.text, evidence))
        updates[self.parts["evidence"]] = gr.update(value=words, visible=bool(words))
        updates[self.parts["verdict"]] = verdict(result, self.lang)
        return updates


def feeling(name: str, lang: str) -> str:
    """A model's label as people read it; one without a translation stays as it is."""
    key = f"emotion_label_{name.strip().lower()}"
    return say(key, lang) if key in messages() else name


def highlighted(text: str, evidence: Any) -> Iterator[tuple[str, float | None]]:
    """The text in pieces, each piece of evidence with its weight scaled so that the strongest is STRONGEST."""
    strongest = max((abs(word.delta) for word in evidence), default=0.0)
    at = 0
    for word in evidence:
        if word.start > at:
            yield text[at : word.start], None
        yield text[word.start : word.end], STRONGEST * word.delta / strongest if strongest else None
        at = word.end
    if evidence and at < len(text):
        yield text[at:], None


def verdict(result: Any, lang: str) -> str:
    """Who read what, how sure, and whether the channels agree."""
    lines = []
    for channel in result.channels:
        sure = say("emotion_sure" if channel.sure else "emotion_unsure", lang)
        title = say(f"emotion_channel_{channel.input}", lang)
        lines.append(f"{title}: {feeling(channel.top, lang)} – {sure} ({channel.model})")
        if channel.cut:
            lines.append(say("emotion_cut", lang))
    if result.agreement is not None:
        lines.append(say("emotion_agree" if result.agreement else "emotion_disagree", lang))
    return "".join(cards.hint(line) for line in lines)


def build(edge: Edge) -> Built:
    form = Form(edge, "emotion")
    run = Run(form)
    with gr.Row(equal_height=False):
        with gr.Column(scale=1, min_width=320):
            text = form.field("text")
            aspect = form.field("aspect")
            with gr.Row():
                image = form.field("image", height=220, min_width=200)
                form.field("audio", min_width=200)
            run.buttons()
            run.lines()
            _examples(text, aspect, image)
        with gr.Column(scale=1, min_width=320):
            gr.HTML(f'<div class="notice warn">{cards.both("emotion_caution")}</div>', elem_id="emotion-caution")
            parts: dict[str, Any] = {
                name: gr.Label(num_top_classes=TOP, visible=name == "text", elem_id=f"emotion-{name}-scores",
                               label=label(f"emotion_channel_{name}"), buttons=[])
                for name in CHANNELS
            }  # fmt: skip
            parts["evidence"] = gr.HighlightedText(
                label=label("emotion_evidence"), visible=False, interactive=False, show_legend=False,
                elem_id="emotion-evidence",
            )  # fmt: skip
            parts["verdict"] = gr.HTML(elem_id="emotion-verdict")
            run.made()
            run.copies()
            models = form.models()
            form.rest()
    run.on([run.go.click], lambda raw, lang: Readings(parts, raw, lang), list(parts.values()))
    run.wire()
    return Built((models.picker, *models.outputs), models.fresh)


def _examples(text: Any, aspect: Any, image: Any) -> None:
    samples(EXAMPLES, [text, aspect], "emotion")
    picture_samples(PICTURES, image, "emotion")
    gr.HTML(cards.both("emotion_faces"), elem_classes="caption")


TAB = Tab("emotion", build)
