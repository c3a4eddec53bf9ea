"""The tone lens: the pitch each Mandarin syllable should have had beside the pitch it had. Knows no text and no voice.

A syllable's pitch is taken to approach a target, a straight line that belongs to its tone, from wherever it began, the
distance shrinking exponentially: the model of Xu and Wang (Speech Communication 33, 2001) in the first-order form. It
begins where the syllable before it ended, so what is carried over is not held against it. The tone whose curve lies
nearest is the one heard.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# tone: height of the target at the syllable's start and end, semitones from the middle of the voice's range,
# for a range as wide as SPREAD: 55, 35, 21(4), 51 on Chao's scale of five
TARGETS = {1: (3.0, 3.0), 2: (-3.0, 3.0), 3: (-4.5, -4.5), 4: (4.0, -3.0)}
RISING_END = (-7.0, 1.0)  # the third tone before a pause may rise again
SPREAD = 3.0  # standard deviation, in semitones, of such a voice's pitch
APPROACH = 40.0  # per second: most of the way in 50 ms
HEIGHT = 0.35  # weight of how high a curve lies, which a phrase's intonation moves, against its shape
MARGIN = 1.8  # square semitones by which another tone must lie nearer before the expected one is called wrong
CARRIED = 0.15  # seconds: a syllable that far back still pulls
LEAST = 4  # voiced readings a syllable needs to be judged


@dataclass(frozen=True, slots=True)
class Syllable:
    """What was to be said: `tone` 1 to 4, or 5 for the neutral one, after sandhi; seconds in the sound."""

    text: str
    tone: int
    start: float
    end: float


@dataclass(frozen=True, slots=True)
class Toned:
    """What was heard: `heard` is the nearest tone (0: too little voice to say; the neutral tone is not judged).

    `measured` and `expected` are semitones from the middle of the voice's pitch at `times`, seconds in the sound.
    """

    text: str
    tone: int
    start: float
    end: float
    heard: int
    wrong: bool
    times: tuple[float, ...]
    measured: tuple[float, ...]
    expected: tuple[float, ...]


def lens(hertz: np.ndarray, hop: float, syllables: Sequence[Syllable]) -> tuple[Toned, ...]:
    """Judge the syllables of one phrase by its pitch, as pipelines.pitch gives it."""
    times = np.arange(len(hertz)) * hop
    voiced = hertz > 0
    if voiced.sum() < LEAST:
        return tuple(_unheard(each) for each in syllables)
    height = 12 * np.log2(np.where(voiced, hertz, 1.0))
    middle = float(np.median(height[voiced]))
    fall = _declination(times[voiced], height[voiced] - middle)
    level = height - middle - fall(times)
    scale = float(np.clip(level[voiced].std() / SPREAD, 0.5, 2.0))
    return tuple(_judged(each, times[voiced], level[voiced], (scale, fall)) for each in syllables)


def _declination(times: np.ndarray, height: np.ndarray) -> np.poly1d:
    """The line a phrase's pitch sinks along; one that rises, or is too short to tell, counts as level."""
    if times[-1] - times[0] < 1.0:
        return np.poly1d([float(np.median(height))])
    slope, start = np.polyfit(times, height, 1)
    return np.poly1d([slope, start]) if slope < 0 else np.poly1d([float(np.median(height))])


def _judged(syllable: Syllable, times: np.ndarray, level: np.ndarray, manner: tuple[float, np.poly1d]) -> Toned:
    """One syllable against the voiced readings of its phrase."""
    inside = (times >= syllable.start) & (times <= syllable.end)
    if inside.sum() < LEAST:
        return _unheard(syllable)
    scale, fall = manner
    at, heard = times[inside], level[inside]
    before = level[(times < syllable.start) & (times > syllable.start - CARRIED)]
    began = float(np.median(before[-3:])) if len(before) else None
    curves = {tone: _nearest(at, heard, syllable, [(a * scale, b * scale) for a, b in _targets(tone)], began)
              for tone in TARGETS}  # fmt: skip
    far = {tone: _distance(heard, curve) for tone, curve in curves.items()}
    nearest = min(far, key=lambda tone: far[tone])
    judged = syllable.tone in far
    return Toned(
        syllable.text,
        syllable.tone,
        syllable.start,
        syllable.end,
        heard=nearest if judged else 0,
        wrong=judged and far[syllable.tone] ** 2 - far[nearest] ** 2 > MARGIN,
        times=_plain(at),
        measured=_plain(heard + fall(at)),
        expected=_plain(curves[syllable.tone] + fall(at)) if judged else (),
    )


def _targets(tone: int) -> list[tuple[float, float]]:
    return [TARGETS[tone], *([RISING_END] if tone == 3 else [])]


def _nearest(
    at: np.ndarray, heard: np.ndarray, syllable: Syllable, targets: list[tuple[float, float]], began: float | None
) -> np.ndarray:
    drawn = (_curve(at - syllable.start, syllable.end - syllable.start, target, began) for target in targets)
    return min(drawn, key=lambda curve: _distance(heard, curve))


def _curve(since: np.ndarray, length: float, target: tuple[float, float], began: float | None) -> np.ndarray:
    """Semitones `since` the start of a syllable of `length` seconds whose pitch comes from `began`, if anywhere."""
    line = target[0] + (target[1] - target[0]) * since / length
    return line if began is None else line + (began - target[0]) * np.exp(-APPROACH * since)


def _distance(heard: np.ndarray, expected: np.ndarray) -> float:
    """Semitones between two curves, their mean heights counting less than their shapes."""
    rest = heard - expected
    return float(np.sqrt(rest.var() + HEIGHT * rest.mean() ** 2))


def _unheard(syllable: Syllable) -> Toned:
    return Toned(
        syllable.text, syllable.tone, syllable.start, syllable.end, 0, False, times=(), measured=(), expected=()
    )


def _plain(values: np.ndarray) -> tuple[float, ...]:
    return tuple(round(float(value), 3) for value in values)
