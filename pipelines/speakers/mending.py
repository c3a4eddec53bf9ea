"""A text already spoken, read otherwise in a place or two: only those are spoken again and joined in. Knows no page."""

from __future__ import annotations

import io
import json
import time
import wave
from typing import Any

import numpy as np

from pipelines import joins, voices
from pipelines.reading import Phrase, Unit
from pipelines.speakers.recital import Recital, settings_of
from pipelines.speakers.results import Result, Sentence

_SCALE = np.float32(1 / 32767)


class Mending(Recital):
    """A recital that takes from an earlier one, of the same text and settings, all that stays as it was."""

    def __init__(self, before: Result, voice: voices.Voice, lease: Any, *more: Any) -> None:
        super().__init__(voice, lease, *more)
        self.before = before
        self.seed = int(before.made.seed or 0)

    def possible(self) -> bool:
        """Whether nothing but readings differs, and the text is cut into the same phrases."""
        now = json.loads(settings_of(self.params, self.lease.spec.id, self.seed))
        then = json.loads(self.before.settings)
        if {**now, "overrides": ""} != {**then, "overrides": ""} or self.before.stopped:
            return False
        phrases = self.phrases = tuple(self.voice.phrases(self.params.text, self.overrides))
        spoken = [phrase.text for phrase in phrases if phrase.units]
        return spoken == [sentence.text for sentence in self.before.sentences if sentence.words]

    def run(self) -> Result:
        self.started = time.perf_counter()
        with wave.open(io.BytesIO(self.before.wav)) as file:
            sound = np.frombuffer(file.readframes(file.getnframes()), "<i2")
        with self.recording:
            for number, (phrase, old) in enumerate(zip(self.phrases, self.before.sentences, strict=True)):
                self._take(phrase, old, sound, number)
            return self.result()

    def _take(self, phrase: Phrase, old: Sentence, sound: np.ndarray, number: int) -> None:
        rate = self.voice.rate
        samples = sound[round(old.start * rate) : round(old.end * rate)] * _SCALE
        times = tuple((word.start - old.start, word.end - old.start) for word in old.words)
        changed = _changed([word.unit for word in old.words], phrase.units)
        if changed is None:
            return self.keep(phrase, samples, old.phonemes, times)
        spoken = self.say(phrase, number)
        volume = np.float32(self.params.volume)
        first, last = changed
        span = (round(times[first][0] * rate), round(times[last][1] * rate))
        part = (round(spoken.times[first][0] * rate), round(spoken.times[last][1] * rate))
        mended, (start, end) = joins.spliced(samples, span, spoken.samples * volume, part, rate)
        stretched = (end - start) / max(1, part[1] - part[0])
        inside = tuple(
            tuple((start / rate) + (at - part[0] / rate) * stretched for at in spoken.times[n])
            for n in range(first, last + 1)
        )
        later = (end - span[1]) / rate
        after = tuple((a + later, b + later) for a, b in times[last + 1 :])
        self.keep(phrase, mended, spoken.phonemes, (*times[:first], *inside, *after))  # type: ignore[arg-type]


def _changed(old: list[Unit], new: tuple[Unit, ...]) -> tuple[int, int] | None:
    """The first and the last unit that sound otherwise, or None."""
    differ = [n for n, (a, b) in enumerate(zip(old, new, strict=True)) if a.phonemes != b.phonemes]
    return (differ[0], differ[-1]) if differ else None
