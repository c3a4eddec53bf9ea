"""The pitch of a voice over time. Knows NumPy and samples only: no words, no tones."""

from __future__ import annotations

import numpy as np

HOP = 0.01  # seconds between two readings
LOW, HIGH = 60.0, 500.0  # hertz: from a low man's voice to a high woman's
WINDOW = 0.025  # seconds compared with themselves a period later
UNVOICED = 0.35  # aperiodicity from which a frame has no pitch
SILENT_DB = -45.0  # under the loudest frame: nothing to hear a pitch in
CANDIDATES = 5  # periods considered in a frame
LEAP = 0.6  # cost of an octave between neighbouring frames, in units of aperiodicity
_BLOCK = 1_000  # frames computed at once: bounds the memory for long sounds
_RATE = 12_000  # hertz the sound is thinned to at most: twenty times the highest pitch


def pitch(samples: np.ndarray, rate: int) -> tuple[np.ndarray, float]:
    """(hertz [frames] float32, 0 where there is no voice; seconds between frames, the first at 0).

    The cumulative mean normalised difference of YIN (de Cheveigné and Kawahara, J. Acoust. Soc. Am. 111, 2002), its
    deepest valleys joined by the path with the smallest leaps.
    """
    step = max(1, rate // _RATE)
    thin = _thinned(samples, step)
    thin_rate = rate / step
    hop = max(1, round(HOP * thin_rate))
    count = -(-len(thin) // hop)
    if not count:
        return np.zeros(0, np.float32), hop / thin_rate
    window, longest, shortest = round(WINDOW * thin_rate), int(thin_rate / LOW) + 1, int(thin_rate / HIGH)
    padded = np.pad(thin, (window // 2, window + longest + hop))
    frames = np.lib.stride_tricks.sliding_window_view(padded, window + longest + 1)[::hop][:count]
    parts = [_valleys(frames[at : at + _BLOCK], window, shortest) for at in range(0, count, _BLOCK)]
    lags, depths, costs, power = (np.concatenate(each) for each in zip(*parts, strict=True))
    chosen = _smoothest(np.log2(lags), costs)
    rows = np.arange(count)
    loud = power > power.max() * 10 ** (SILENT_DB / 10)
    voiced = (depths[rows, chosen] < UNVOICED) & loud & (power > 1e-9)
    return np.where(voiced, thin_rate / lags[rows, chosen], 0).astype(np.float32), hop / thin_rate


def _thinned(samples: np.ndarray, step: int) -> np.ndarray:
    """Every `step`-th sample of the mean over as many: enough of a low-pass for what is far below the new rate."""
    length = len(samples) // step * step
    return samples[:length].reshape(-1, step).mean(axis=1, dtype=np.float64)


def _valleys(frames: np.ndarray, window: int, shortest: int) -> tuple[np.ndarray, ...]:
    """The best valleys of each frame: periods in samples, aperiodicity, cost, each [n, CANDIDATES]; and power [n]."""
    longest = frames.shape[1] - window
    size = 1 << (frames.shape[1] + window).bit_length()
    spectra = np.conj(np.fft.rfft(frames[:, :window], size)) * np.fft.rfft(frames, size)
    products = np.fft.irfft(spectra, size)[:, :longest]
    energy = np.cumsum(np.pad(frames**2, ((0, 0), (1, 0))), axis=1)
    energies = energy[:, window : window + longest] - energy[:, :longest]
    difference = np.maximum(energies[:, :1] + energies - 2 * products, 0)
    running = np.cumsum(difference[:, 1:], axis=1) / np.arange(1, longest)
    normal = np.ones_like(difference)
    normal[:, 1:] = difference[:, 1:] / np.maximum(running, 1e-12)
    return *_deepest(normal, shortest), energies[:, 0] / window


def _deepest(normal: np.ndarray, shortest: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    middle = normal[:, shortest : normal.shape[1] - 1]
    before, after = normal[:, shortest - 1 : -2], normal[:, shortest + 1 :]
    is_valley = (middle <= before) & (middle < after)
    # a longer period explains as much as a shorter one: all else equal the shorter is the pitch
    weighed = np.where(is_valley, middle + 0.1 * np.log2(np.arange(middle.shape[1]) / shortest + 1), 4.0)
    best = np.argpartition(weighed, CANDIDATES, axis=1)[:, :CANDIDATES]
    rows = np.arange(len(normal))[:, None]
    left, valley, right = before[rows, best], middle[rows, best], after[rows, best]
    curve = left - 2 * valley + right
    offset = np.where(curve > 1e-9, 0.5 * (left - right) / np.maximum(curve, 1e-9), 0.0)
    return (
        best + shortest + np.clip(offset, -0.5, 0.5),
        np.where(is_valley[rows, best], valley, 4.0),
        weighed[rows, best],
    )


def _smoothest(octaves: np.ndarray, costs: np.ndarray) -> np.ndarray:
    """The candidate of each frame on the cheapest path: its cost plus LEAP for each octave jumped."""
    cost = np.minimum(costs, UNVOICED + 0.4)  # an unvoiced frame binds its neighbours little
    total = cost[0]
    came = np.zeros(octaves.shape, np.int64)
    for at in range(1, len(octaves)):
        reached = total[:, None] + LEAP * np.abs(octaves[at - 1][:, None] - octaves[at][None, :])
        came[at] = reached.argmin(axis=0)
        total = reached[came[at], np.arange(octaves.shape[1])] + cost[at]
    path = np.empty(len(octaves), np.int64)
    path[-1] = total.argmin()
    for at in range(len(octaves) - 1, 0, -1):
        path[at - 1] = came[at, path[at]]
    return path
