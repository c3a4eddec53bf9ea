"""Speech from text, sentence by sentence: each is heard as soon as it is spoken, and shown with its phonemes.

Knows sentences, pauses and what is shown of them; the families of voices are in voices.py.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from pipelines import media, speech_text, voices
from pipelines.core.errors import DemoError, InvalidInput
from pipelines.core.params import knob, model_knob, seed_knob
from pipelines.core.registry import Registry
from pipelines.core.specs import Made, ModelSpec
from pipelines.core.streaming import Job, Preview, Progress
from pipelines.core.tasks import seed_or_fresh
from pipelines.metrics import read_rows
from pipelines.spectrogram import log_mel


@dataclass(frozen=True, slots=True)
class Params:
    text: str = knob(lines=4)
    voice: str = knob("", max_length=80)
    speed: float = knob(1.0, low=0.5, high=2.0, step=0.05)
    pause: float = knob(0.2, low=0.0, high=2.0, step=0.05, advanced=True)
    seed: int = seed_knob()
    model: str = model_knob()


@dataclass(frozen=True, slots=True)
class Sentence:
    """One spoken sentence; `start` and `end` are seconds in the sound, `phonemes` is "" where the voice has none."""

    text: str
    phonemes: str
    start: float
    end: float


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """`wav` is 16-bit mono; `rtf` seconds of computing per second of sound; `mel` (80, frames) float32 in dB under
    the peak, `mel_hop` seconds apart; `stages` names where the time went."""

    wav: bytes
    rate: int
    seconds: float
    rtf: float
    sentences: tuple[Sentence, ...]
    stages: tuple[tuple[str, float], ...]
    mel: np.ndarray
    mel_hop: float
    stopped: bool
    made: Made


class Speaker:
    """Reads a text aloud."""

    task: ClassVar[str] = "speech"
    Params: ClassVar[type] = Params
    Result: ClassVar[type] = Result

    def __init__(self, registry: Registry, *, lease_seconds: float) -> None:
        self.registry = registry
        self.lease_seconds = lease_seconds

    def run(self, params: Params, job: Job) -> Result:
        """Emits Preview("audio", (rate, int16 samples), n) per sentence; a stop ends it with what is spoken so far."""
        spec = self.registry.catalog.for_task(self.task, params.model)
        self._check_language(spec, params.text)
        wanted = [spec.id, *voices.helpers(spec, params.text)]
        with self.registry.lease_many(
            *((id, ()) for id in wanted), timeout=self.lease_seconds, stop=job.stop, progress=job.emit
        ) as (
            lease,
            *parts,
        ):
            kind = spec.options.get("cls", spec.loader)
            voice = voices.family(kind)(lease.model, tuple(part.model for part in parts))
            return _Reading(voice, lease, params, job).run()

    def evaluate(self, path: Path, job: Job, **options: Any) -> dict[str, float]:
        """Speed over JSONL rows {"text"}: seconds per row and seconds of computing per second of sound."""
        texts = _read_texts(path)
        spoken = computed = 0.0
        started = time.perf_counter()
        for done, text in enumerate(texts):
            job.check()
            job.emit(Progress("evaluate", done, len(texts)))
            result = self.run(Params(text=text, **{"seed": 0, **options}), Job(job.stop))
            spoken += result.seconds
            computed += result.made.seconds
        seconds = time.perf_counter() - started
        return {"n": len(texts), "seconds_per_item": seconds / len(texts), "rtf": computed / spoken}

    def _check_language(self, spec: ModelSpec, text: str) -> None:
        if language := speech_text.unsupported(text, spec.languages):
            able = (s.id for s in self.registry.catalog.models(self.task) if {language, "multi"} & set(s.languages))
            known = ", ".join(able) or "–"
            raise InvalidInput("language_unsupported", language=language, id=spec.id, known=known)


class _Reading:
    """One text being read aloud."""

    def __init__(self, voice: voices.Voice, lease: Any, params: Params, job: Job) -> None:
        self.voice = voice
        self.lease = lease
        self.params = params
        self.job = job
        self.seed = seed_or_fresh(params.seed)
        self.parts: list[np.ndarray] = []
        self.sentences: list[Sentence] = []
        self.stages: dict[str, float] = {}
        self.length = 0  # samples so far

    def run(self) -> Result:
        started = time.perf_counter()
        pieces = self.voice.sentences(self.params.text)
        for number, piece in enumerate(pieces):
            if self.job.stop:
                break
            self.job.emit(Progress("run", number, len(pieces), piece))
            # a seed of its own for each sentence: what is said before does not change how it sounds
            manner = voices.Manner(self.params.voice, self.params.speed, self.seed + number, self.job.stop)
            self._add(piece, self.voice.say(piece, manner))
        if not self.length and not self.job.stop:
            raise InvalidInput("nothing_to_say")
        return self._result(started)

    def _add(self, piece: str, spoken: voices.Spoken) -> None:
        for stage, seconds in spoken.stages:
            self.stages[stage] = self.stages.get(stage, 0.0) + seconds
        if not len(spoken.samples):
            return
        if not np.isfinite(spoken.samples).all():
            raise DemoError("broken_sound", id=self.lease.spec.id)
        pause = np.zeros(round(self.params.pause * self.voice.rate) if self.parts else 0, np.float32)
        samples = np.concatenate([pause, spoken.samples])
        start, self.length = self.length + len(pause), self.length + len(samples)
        rate = self.voice.rate
        self.sentences.append(Sentence(piece, spoken.phonemes, start / rate, self.length / rate))
        self.parts.append(samples)
        self.job.emit(Preview("audio", (rate, np.frombuffer(media.pcm16(samples), "<i2")), len(self.sentences)))

    def _result(self, started: float) -> Result:
        samples = np.concatenate([np.zeros(0, np.float32), *self.parts])
        spoken = time.perf_counter() - started
        mel, hop = log_mel(samples, self.voice.rate)
        seconds = len(samples) / self.voice.rate
        return Result(
            wav=media.encode_wav(samples, self.voice.rate),
            rate=self.voice.rate,
            seconds=seconds,
            rtf=spoken / seconds if seconds else 0.0,
            sentences=tuple(self.sentences),
            stages=tuple(self.stages.items()),
            mel=mel,
            mel_hop=hop,
            stopped=bool(self.job.stop),
            made=self.lease.made(seed=self.seed, seconds=spoken),
        )


def _read_texts(path: Path) -> list[str]:
    rows = read_rows(path)
    for at, row in enumerate(rows, 1):
        if not row.get("text", "").strip():
            raise InvalidInput("bad_row", line=at, need="text")
    return [row["text"] for row in rows]
