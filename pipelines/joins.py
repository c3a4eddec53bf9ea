"""Where pieces of one voice meet: laid together without a click, and how far they are from meeting well.

Knows samples and hertz, no text and no voice.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipelines.spectrogram import log_mel

FADE = 0.012  # seconds over which one sound becomes another
REACH = 0.010  # seconds a cut may move to where the two fit best: a period of a low voice
EDGE = 0.004  # seconds a piece rises from silence and falls back
NEAR = 0.25  # seconds on either side of a seam whose voice is compared


@dataclass(frozen=True, slots=True)
class Seam:
    """`at` seconds in the sound. `click` is the step between the samples that meet (1 = full scale), `energy` in dB,
    `pitch` in semitones and `timbre` in dB: what the right side has more than the left. Pitch is 0 where a side has
    no voice; timbre is the root mean square over the mel bands of the two halves' mean spectra, level apart."""

    at: float
    click: float
    energy: float
    pitch: float
    timbre: float


def softened(samples: np.ndarray, rate: int) -> np.ndarray:
    """The piece with its ends drawn to zero, so that silence may stand on either side of it."""
    edge = min(round(EDGE * rate), len(samples) // 2)
    soft = samples.astype(np.float32)
    rising = np.linspace(0, 1, edge, endpoint=False, dtype=np.float32)
    soft[:edge] *= rising
    soft[len(soft) - edge :] *= rising[::-1]
    return soft


def seam(left: np.ndarray, right: np.ndarray, rate: int, *, at: float, pitches: tuple[float, float]) -> Seam:
    """How two pieces meet at `at`; `pitches` are the last hertz of the left voice and the first of the right, or 0."""
    near = round(NEAR * rate)
    a, b = left[-near:], right[:near]
    click = abs(float(right[0]) - float(left[-1])) if len(a) and len(b) else 0.0
    pitch = 12 * float(np.log2(pitches[1] / pitches[0])) if min(pitches) > 0 else 0.0
    return Seam(at, click, _level(b) - _level(a), pitch, _timbre(left, right, rate))


def _level(samples: np.ndarray) -> float:
    """Decibels of full scale, at least -60."""
    return 10 * float(np.log10(max(1e-6, float(np.mean(np.square(samples))) if len(samples) else 0.0)))


def _timbre(left: np.ndarray, right: np.ndarray, rate: int) -> float:
    spectra = [log_mel(side, rate, n_mels=24) for side in (left, right)]
    if not all(mel.shape[1] for mel, _ in spectra):
        return 0.0
    means = []
    for mel, _ in spectra:
        loud = mel.max(axis=0) > -30
        mean = mel[:, loud].mean(axis=1)
        means.append(mean - mean.mean())
    return float(np.sqrt(np.mean((means[0] - means[1]) ** 2)))


def spliced(
    old: np.ndarray, span: tuple[int, int], new: np.ndarray, part: tuple[int, int], rate: int
) -> tuple[np.ndarray, tuple[int, int]]:
    """`old` with samples `span` replaced by samples `part` of `new`, and where the new part lies in it.

    The cuts in `new` move by up to REACH to where its waveform runs most like the old one's; there one fades into the
    other. Samples further than FADE from the span stay as they were.
    """
    fade, reach = round(FADE * rate), round(REACH * rate)
    start = _fitting(old, span[0], new, part[0], fade, reach)
    end = _fitting(old, span[1], new, part[1], fade, reach)
    if end <= start:
        start, end = part
    head, tail = old[: span[0]], old[span[1] :]
    middle = new[start:end]
    out = np.concatenate([head, middle, tail]).astype(np.float32)
    _blend(out, len(head), head_source=(old, span[0]), tail_source=(new, start), fade=fade)
    _blend(out, len(head) + len(middle), head_source=(new, end), tail_source=(old, span[1]), fade=fade)
    return out, (len(head), len(head) + len(middle))


def _fitting(old: np.ndarray, at: int, new: np.ndarray, to: int, fade: int, reach: int) -> int:
    """The cut in `new` near `to` around which it looks most like `old` around `at`."""
    half = fade
    if at < half or at > len(old) - half or to < half + reach or to > len(new) - half - reach:
        return to
    wanted = old[at - half : at + half]
    near = new[to - half - reach : to + half + reach]
    windows = np.lib.stride_tricks.sliding_window_view(near, 2 * half)
    likeness = windows @ wanted / (np.linalg.norm(windows, axis=1) * np.linalg.norm(wanted) + 1e-6)
    return to - reach + int(np.argmax(likeness))


def _blend(
    out: np.ndarray, at: int, *, head_source: tuple[np.ndarray, int], tail_source: tuple[np.ndarray, int], fade: int
) -> None:
    """Cross-fade around `at`: what comes before goes on below what has begun. Shorter where a side has less."""
    (a, a_at), (b, b_at) = head_source, tail_source
    half = min(fade // 2, at, len(out) - at, a_at, len(a) - a_at, b_at, len(b) - b_at)
    if half < 1:
        return
    rising = (0.5 - 0.5 * np.cos(np.pi * (np.arange(2 * half) + 0.5) / (2 * half))).astype(np.float32)
    out[at - half : at + half] = a[a_at - half : a_at + half] * (1 - rising) + b[b_at - half : b_at + half] * rising
