"""The speech tab: a text read aloud, with its waveform, spectrogram and phonemes. Knows pictures, not voices."""

from __future__ import annotations

from typing import Any

import gradio as gr
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from demos import cards
from demos.edge import Edge, Updates
from demos.rest import save
from demos.runs import Run
from demos.tab import Built, Tab
from demos.text import label, say
from demos.widgets import Form, samples
from pipelines.core.streaming import Event

EXAMPLES = (
    "Hello! I am a voice made of numbers. How do I sound to you?",
    "The quick brown fox jumps over the lazy dog. It does so every single day.",
    "Dr. Smith paid $3.50 for 2 tickets at 10:45. Was that too much?",
    "你好，很高兴认识你。",
)
WIDTH, HEIGHT = 960, 320  # of the spectrogram, in pixels
LEFT, BOTTOM = 64, 40  # room for the axes


class Reading:
    """What one run shows."""

    def __init__(self, parts: dict[str, Any], lang: str) -> None:
        self.parts = parts
        self.lang = lang

    def start(self) -> Updates:
        return {}

    def after(self, event: Event) -> Updates:
        return {}

    def done(self, result: Any) -> Updates:
        picture = spectrogram(result.mel, result.mel_hop, result.rate)
        return {
            self.parts["sound"]: save(result.wav, "wav")["path"],
            self.parts["caption"]: cards.hint(say("speech_mel", self.lang)),
            self.parts["mel"]: gr.update(value=picture, visible=True),
            self.parts["sentences"]: sentence_table(result.sentences, self.lang),
            self.parts["facts"]: facts(result, self.lang),
        }


def facts(result: Any, lang: str) -> str:
    """Seconds of sound, real-time factor, and where the time went."""
    stages = " · ".join(
        f"{cards.escape(say(f'speech_stage_{name}', lang))} {seconds:.2f} s" for name, seconds in result.stages
    )
    words = say("speech_facts", lang, seconds=f"{result.seconds:.2f}", rtf=f"{result.rtf:.2f}", rate=result.rate)
    return f'<p class="made">{cards.escape(words)}</p>' + (f'<p class="made">{stages}</p>' if stages else "")


def sentence_table(sentences: Any, lang: str) -> str:
    """Each sentence with its time and its phonemes."""
    rows = [[f"{s.start:.2f}–{s.end:.2f}", cards.escape(s.text), cards.escape(s.phonemes) or "–"] for s in sentences]
    return cards.table([say(f"speech_head_{key}", lang) for key in HEADS], rows)


HEADS = ("time", "sentence", "phonemes")


def spectrogram(mel: np.ndarray, hop: float, rate: int) -> Image.Image:
    """A picture of (80, frames) decibels with seconds to the right and hertz upwards, both in round numbers."""
    picture = Image.new("RGB", (WIDTH, HEIGHT), "white")
    inner = (WIDTH - LEFT - 12, HEIGHT - BOTTOM - 12)
    if mel.shape[1]:
        picture.paste(_heat(mel).resize(inner, Image.Resampling.BILINEAR), (LEFT, 12))
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(16)
    draw.rectangle((LEFT, 12, LEFT + inner[0], 12 + inner[1]), outline="#334155")
    _seconds_axis(draw, font, mel.shape[1] * hop, inner)
    _hertz_axis(draw, font, rate / 2, inner)
    return picture


def _heat(mel: np.ndarray) -> Image.Image:
    """Dark blue to yellow, over the range the sound has; low frequencies at the bottom."""
    low = float(mel.min())
    share = (mel[::-1] - low) / (float(mel.max()) - low or 1.0)
    stops = np.array([(13, 8, 60), (106, 23, 110), (200, 62, 80), (249, 142, 9), (252, 255, 164)], np.float32)
    at = share * (len(stops) - 1)
    below = np.clip(at.astype(int), 0, len(stops) - 2)
    part = (at - below)[..., None]
    return Image.fromarray((stops[below] * (1 - part) + stops[below + 1] * part).astype(np.uint8))


def _seconds_axis(draw: ImageDraw.ImageDraw, font: Any, seconds: float, inner: tuple[int, int]) -> None:
    step = next((s for s in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60) if seconds / s <= 10), 120)
    y = 12 + inner[1]
    for number in range(int(seconds / step) + 1):
        x = LEFT + inner[0] * (number * step / seconds if seconds else 0)
        draw.line((x, y, x, y + 6), fill="#334155")
        draw.text((x, y + 8), f"{number * step:g} s", fill="#334155", font=font, anchor="ma")


def _hertz_axis(draw: ImageDraw.ImageDraw, font: Any, top: float, inner: tuple[int, int]) -> None:
    for hertz in (200, 500, 1000, 2000, 4000, 8000):
        if hertz > top:
            break
        y = 12 + inner[1] * (1 - np.log10(1 + hertz / 700) / np.log10(1 + top / 700))
        draw.line((LEFT - 6, y, LEFT, y), fill="#334155")
        draw.text((LEFT - 9, y), f"{hertz} Hz" if hertz < 1000 else f"{hertz // 1000} kHz", fill="#334155",
                  font=font, anchor="rm")  # fmt: skip


def build(edge: Edge) -> Built:
    form = Form(edge, "speech")
    run = Run(form)
    with gr.Row(equal_height=False):
        with gr.Column(scale=1, min_width=320):
            text = form.field("text")
            run.buttons()
            run.lines()
            samples([(example,) for example in EXAMPLES], [text], "speech")
        with gr.Column(scale=1, min_width=320):
            parts = {
                "sound": gr.Audio(
                    label=label("speech_sound"),
                    interactive=False,
                    type="filepath",
                    format=None,
                    elem_id="speech-sound",
                    buttons=["download"],
                ),  # fmt: skip
                "facts": gr.HTML(elem_id="speech-facts"),
                "caption": gr.HTML(elem_id="speech-mel-caption"),
                "mel": gr.Image(
                    show_label=False,
                    interactive=False,
                    format="png",
                    elem_id="speech-mel",
                    visible=False,
                    alt_text=label("speech_mel"),
                    buttons=["download", "fullscreen"],
                ),  # fmt: skip
                "sentences": gr.HTML(elem_id="speech-sentences"),
            }
            run.made()
            run.copies()
            models = form.models()
            form.rest()
    run.on([run.go.click], lambda raw, lang: Reading(parts, lang), list(parts.values()))
    run.wire()
    return Built((models.picker, *models.outputs), models.fresh)


TAB = Tab("speech", build)
