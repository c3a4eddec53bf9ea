"""Claims about the starter voices: speed, first sound, what our path costs, long texts, and what ears make of them.

    python -m benchmarks.speech           # speed, first sound, overhead, a text of 20,000 characters
    python -m benchmarks.speech ears [n]  # WER and CER of every voice over n sentences of assets/sentences

Baseline of the same run: the same runtime called bare (hibari's own call; Kokoro's session on the same phonemes), the
two in turns. Speed is the real-time factor, seconds of computing per second of sound.
"""

from __future__ import annotations

import statistics
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.table import show
from pipelines import reading, voices
from pipelines.core.params import build
from pipelines.core.settings import Settings
from pipelines.core.streaming import Event, Job, Preview, Stop
from pipelines.house import House
from pipelines.speech import Params, Result, Speaker

ROOT = Path(__file__).resolve().parents[1]
ENGLISH = (
    "Good morning, everyone. The train to Boston leaves from platform nine at a quarter to eight. "
    "Please keep your bags with you at all times, and have your tickets ready."
)
CHINESE = "大家早上好，去上海的火车八点半出发。请看好自己的行李，准备好车票，我们马上就要上车了。"
MODELS = {"en": ("hibari-heart", ENGLISH), "zh": ("kokoro-zh", CHINESE)}
GOALS = {"en": ("0.02", "0.1 s"), "zh": ("0.45", "1.0 s")}
LONG = {"en": ENGLISH + " ", "zh": CHINESE}
CHARACTERS = 20_000


@dataclass(frozen=True, slots=True)
class Spoken:
    """Seconds of computing, of sound, until the first of it, and of what is computed about it afterwards."""

    computed: float
    seconds: float
    first: float
    picture: float = 0.0

    @property
    def rtf(self) -> float:
        return self.computed / self.seconds


def ours(speaker: Speaker, language: str) -> Spoken:
    model, text = MODELS[language]
    started = time.perf_counter()
    result = speaker.run(build(Params, {"text": text, "model": model, "seed": 0}), Job())
    whole = time.perf_counter() - started
    return Spoken(result.made.seconds, result.seconds, result.first_audio, whole - result.made.seconds)


def bare_english(model: Any) -> Spoken:
    """hibari's own stream of sentences."""
    started, first, seconds = time.perf_counter(), 0.0, 0.0
    for samples in model.stream(ENGLISH, seed=0):
        seconds += len(samples) / model.sample_rate
        first = first or time.perf_counter() - started
    return Spoken(time.perf_counter() - started, seconds, first)


def bare_chinese(model: Any) -> Spoken:
    """The session alone on the phonemes of the same phrases, which are made beforehand; sound as long as ours is."""
    phrases = list(voices.KokoroVoice(model, ()).phrases(CHINESE, {}))
    rows = [voices.spelt(phrase.units, "kokoro", model.vocabulary)[0] for phrase in phrases]
    started, first, seconds = time.perf_counter(), 0.0, 0.0
    for phonemes in rows:
        ids = [model.vocabulary[symbol] for symbol in phonemes]
        style = model.styles[model.voice][len(ids) - 1].reshape(1, -1)
        inputs = {"tokens": np.array([[0, *ids, 0]], np.int64), "style": style, "speed": np.ones(1, np.float32)}
        seconds += len(model.session.run(None, inputs)[0].reshape(-1)) / 24_000
        first = first or time.perf_counter() - started
    return Spoken(time.perf_counter() - started, seconds, first)


def speed(house: House, speaker: Speaker, repeats: int = 5) -> None:
    rows = []
    bare: dict[str, Callable[[Any], Spoken]] = {"en": bare_english, "zh": bare_chinese}
    for language, (id, _) in MODELS.items():
        pairs = []
        for _ in range(repeats + 1):
            one = ours(speaker, language)
            with house.registry.lease(id) as lease:
                pairs.append((one, bare[language](lease.model)))
        pairs = pairs[1:]
        middle = statistics.median
        cost = middle(a.computed / b.computed for a, b in pairs) - 1
        rows.append([
            language, id, f"{middle(a.rtf for a, _ in pairs):.4f}", f"{middle(b.rtf for _, b in pairs):.4f}",
            f"{cost:+.1%}", f"{middle(a.picture for a, _ in pairs) * 1000:.0f} ms",
            f"{middle(a.first for a, _ in pairs):.3f} s", f"{GOALS[language][0]}, {GOALS[language][1]}",
        ])  # fmt: skip
    show(["language", "model", "rtf", "bare rtf", "our cost", "spectrogram", "first sound", "goals (rtf, first)"], rows)
    print("goal of our cost, until the last phrase is heard: at most +5%")


def long_text(speaker: Speaker, language: str, most: float = 120.0) -> None:
    """A text of 20,000 characters, stopped after `most` seconds of computing if it is not done."""
    reading.read("好。Hello.")
    text = (LONG[language] * (CHARACTERS // len(LONG[language]) + 1))[:CHARACTERS]
    params = build(Params, {"text": text, "model": MODELS[language][0], "seed": 0})
    process, stop, memory = psutil.Process(), Stop(), []
    asked: list[float] = []

    def emit(event: Event) -> None:
        if isinstance(event, Preview):
            memory.append(process.memory_info().rss / 2**20)

    def end() -> None:
        asked.append(time.perf_counter())
        stop.set()

    timer = threading.Timer(most, end)
    timer.start()
    result: Result = speaker.run(params, Job(stop, emit))
    ended = time.perf_counter()
    timer.cancel()
    half = len(memory) // 2
    grown = statistics.median(memory[half:]) - statistics.median(memory[5:half] or memory)
    stopped = f"{ended - asked[0]:.2f} s after the stop" if asked else "to its end"
    print(
        f"{language}: {len(result.sentences)} phrases, {result.seconds:.0f} s of sound, first after "
        f"{result.first_audio:.2f} s, {stopped}; second half takes {grown:+.1f} MB more than the first"
    )


def by_ears(speaker: Speaker, limit: int) -> None:
    rows = []
    for language, (id, _) in MODELS.items():
        data = ROOT / "assets" / "sentences" / f"{language}.jsonl"
        for voice in voices.names(speaker.registry.catalog.model(id)):
            found = speaker.evaluate(data, Job(), limit=limit, model=id, voice=voice)
            rate = found.get("wer", found.get("cer", float("nan")))
            tones = f"{found['tones_right']:.2f}" if "tones_right" in found else "–"
            rows.append([
                id, voice, f"{found['n']:.0f}", f"{rate:.3f}", f"{found['rtf']:.3f}", f"{found['first_audio']:.2f} s",
                f"{found['clipped']:.5f}", f"{found.get('seam_click', 0):.4f}", tones,
            ])  # fmt: skip
    show(["model", "voice", "n", "wer/cer", "rtf", "first", "clipped", "seam click", "tones right"], rows)
    print("goals: wer <= 0.08, cer <= 0.15")


def main(what: str = "speed", limit: str = "100") -> None:
    house = House(Settings.read(offline=True))
    speaker = house.pipeline("speech")
    assert isinstance(speaker, Speaker)
    try:
        if what == "ears":
            by_ears(speaker, int(limit))
        else:
            speed(house, speaker)
            for language in MODELS:
                long_text(speaker, language)
    finally:
        house.close()


if __name__ == "__main__":
    main(*sys.argv[1:3])
