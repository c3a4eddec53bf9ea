"""One text read aloud, phrase by phrase: what is heard at once, and what is kept. Knows no registry and no family."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from pipelines import joins, reading, voices
from pipelines.core.errors import Cancelled, DemoError, InvalidInput, TimedOut
from pipelines.core.streaming import Job, Preview, Progress
from pipelines.core.tasks import seed_or_fresh
from pipelines.joins import Seam
from pipelines.pitch import HOP, pitch
from pipelines.reading import Phrase
from pipelines.speakers.recording import Recording
from pipelines.speakers.results import Result, Sentence, Word
from pipelines.spectrogram import log_mel
from pipelines.tones import Syllable, Toned, lens

MADE_BY = ("model", "voice", "speed", "pause", "volume", "overrides", "seed")  # settings kept in the file
_NOTED = 2_000  # characters of the text kept there, too


class Lens:
    """Pitch, tones and seams of phrases as they come."""

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self.hertz: list[np.ndarray] = []
        self.tones: list[Toned] = []
        self.seams: list[Seam] = []
        self._last: tuple[np.ndarray, np.ndarray] | None = None

    def look(self, samples: np.ndarray, sentence: Sentence) -> None:
        """At one phrase, whose samples begin at `sentence.start`."""
        hertz, hop = pitch(samples, self.rate)
        gap = round(sentence.start / HOP) - sum(map(len, self.hertz))
        self.hertz += [np.zeros(max(0, gap), np.float32), hertz]
        shifted = [
            Syllable(each.text, each.tone, each.start - sentence.start, each.end - sentence.start)
            for each in syllables(sentence)
        ]
        self.tones += [_moved(each, sentence.start) for each in lens(hertz, hop, shifted)]
        if self._last is not None:
            left, before = self._last
            ends = (_voiced(before[::-1]), _voiced(hertz))
            self.seams.append(joins.seam(left, samples, self.rate, at=sentence.start, pitches=ends))
        self._last = samples, hertz

    def pitch(self) -> np.ndarray:
        return np.concatenate([np.zeros(0, np.float32), *self.hertz])


class Recital:
    """The loop: read a phrase, speak it, let it be heard, write it down."""

    def __init__(self, voice: voices.Voice, lease: Any, params: Any, job: Job, overrides: Mapping[int, str]) -> None:
        self.voice = voice
        self.lease = lease
        self.params = params
        self.job = job
        self.overrides = overrides
        self.seed = seed_or_fresh(params.seed)
        self.sentences: list[Sentence] = []
        self.stages: dict[str, float] = {}
        self.recording = Recording(voice.rate)
        self.lens = Lens(voice.rate) if params.lens else None
        self.first_audio = 0.0
        self.pause = 0.0  # seconds the last phrase asks for after it

    def run(self) -> Result:
        """Until the text ends or a stop, which keeps what is spoken."""
        self.started = time.perf_counter()
        with self.recording:
            for number, phrase in enumerate(self._read()):
                if self.job.stop:
                    break
                try:
                    spoken = self.say(phrase, number)
                except (Cancelled, TimedOut):
                    break
                if len(spoken.samples):
                    self.add(phrase, spoken.samples, spoken.phonemes, spoken.times)
            return self.result()

    def _read(self) -> Iterator[Phrase]:
        """The phrases, each read when its turn comes, the time that takes counted."""
        phrases = self.voice.phrases(self.params.text, self.overrides)
        while True:
            started = time.perf_counter()
            phrase = next(phrases, None)
            self._count("phonemes", time.perf_counter() - started)
            if phrase is None:
                return
            yield phrase

    def say(self, phrase: Phrase, number: int) -> voices.Spoken:
        """A phrase with a seed of its own: what is said before does not change how it sounds."""
        done = phrase.units[-1].end if phrase.units else 0
        self.job.emit(Progress("run", done, len(self.params.text) if done else 0, phrase.text))
        manner = voices.Manner(self.params.voice, self.params.speed, self.seed + number, self.job.stop)
        spoken = self.voice.say(phrase, manner)
        for stage, seconds in spoken.stages:
            self._count(stage, seconds)
        if not np.isfinite(spoken.samples).all():
            raise DemoError("broken_sound", id=self.lease.spec.id)
        return spoken

    def add(self, phrase: Phrase, samples: np.ndarray, phonemes: str, times: voices.Times) -> None:
        """Let a phrase be heard, after the pause the one before it asks for."""
        samples = joins.softened(samples, self.voice.rate)
        samples *= np.float32(self.params.volume)
        self.keep(phrase, samples, phonemes, times)

    def keep(self, phrase: Phrase, samples: np.ndarray, phonemes: str, times: voices.Times) -> None:
        """The same for samples that are as they should be heard."""
        rate = self.voice.rate
        silence = np.zeros(round(self.pause * rate) if self.recording.length else 0, np.float32)
        self.pause = phrase.pause * self.params.pause / voices.SENTENCE
        start = self.recording.seconds + len(silence) / rate
        heard = self.recording.add(np.concatenate([silence, samples]))
        placed = times or ((-start, -start),) * len(phrase.units)
        words = tuple(Word(unit, start + a, start + b) for unit, (a, b) in zip(phrase.units, placed, strict=True))
        sentence = Sentence(phrase.text, phonemes, start, self.recording.seconds, phrase.said, words)
        self.sentences.append(sentence)
        self.first_audio = self.first_audio or time.perf_counter() - self.started
        self.job.emit(Preview("audio", (rate, heard), len(self.sentences)))
        if self.lens:
            started = time.perf_counter()
            self.lens.look(samples, sentence)
            self._count("lens", time.perf_counter() - started)

    def result(self) -> Result:
        """What is spoken so far; raises InvalidInput where the text held nothing to say."""
        if not self.recording.length and not self.job.stop:
            raise InvalidInput("nothing_to_say")
        spoken = time.perf_counter() - self.started - self.stages.get("lens", 0.0)
        mel, hop = log_mel(self.recording.samples(), self.voice.rate)
        seconds = self.recording.seconds
        settings = settings_of(self.params, self.lease.spec.id, self.seed)
        return Result(
            wav=self.recording.wav(settings),
            rate=self.voice.rate,
            seconds=seconds,
            rtf=spoken / seconds if seconds else 0.0,
            sentences=tuple(self.sentences),
            stages=tuple(self.stages.items()),
            mel=mel,
            mel_hop=hop,
            stopped=bool(self.job.stop),
            made=self.lease.made(seed=self.seed, seconds=spoken),
            language=reading.language_of(self.params.text),
            normalised=" ".join(sentence.said for sentence in self.sentences),
            settings=settings,
            first_audio=self.first_audio,
            clipped=self.recording.clipped / max(1, self.recording.length),
            pitch=self.lens.pitch() if self.lens else np.zeros(0, np.float32),
            pitch_hop=HOP,
            tones=tuple(self.lens.tones) if self.lens else (),
            seams=tuple(self.lens.seams) if self.lens else (),
        )

    def _count(self, stage: str, seconds: float) -> None:
        self.stages[stage] = self.stages.get(stage, 0.0) + seconds


def settings_of(params: Any, model: str, seed: int) -> str:
    """The settings that made a sound, as JSON: what its file carries."""
    known = {"model": model, "seed": seed}
    settings = {name: known.get(name, getattr(params, name)) for name in MADE_BY}
    return json.dumps({"text": params.text[:_NOTED], **settings}, ensure_ascii=False)


def syllables(sentence: Sentence) -> list[Syllable]:
    """The Chinese syllables of a phrase with the tones they should have; those of one figure share its time evenly."""
    found = []
    for word in sentence.words:
        tones = re.findall(r"[a-zü:êv]+([1-5])", word.unit.reading)
        texts = [word.unit.text] if len(tones) == 1 else re.findall("[㐀-鿿〇]", word.unit.said)
        step = (word.end - word.start) / max(1, len(tones))
        found += [
            Syllable(text, int(tone), word.start + n * step, word.start + (n + 1) * step)
            for n, (text, tone) in enumerate(zip(texts, tones, strict=False))
        ]
    return found


def _moved(toned: Toned, by: float) -> Toned:
    times = tuple(round(at + by, 3) for at in toned.times)
    return Toned(
        toned.text, toned.tone, toned.start + by, toned.end + by, toned.heard, toned.wrong, times, toned.measured,
        toned.expected,
    )  # fmt: skip


def _voiced(hertz: np.ndarray) -> float:
    """The pitch a voice begins with: the median of its first five readings."""
    found = hertz[hertz > 0][:5]
    return float(np.median(found)) if len(found) else 0.0
