"""Log-mel spectrograms and time stretching of plain samples. Knows arrays only: no model, no file."""

from __future__ import annotations

import numpy as np
import scipy.fft

FLOOR_DB = -80.0
MAX_FRAMES = 2_000  # columns of a picture nobody needs more of: beyond it the hop grows


def log_mel(samples: np.ndarray, rate: int, n_mels: int = 80, n_fft: int = 1024) -> tuple[np.ndarray, float]:
    """((n_mels, frames) float32 in dB under the peak, at least FLOOR_DB; seconds between frames).

    Power of a Hann-windowed short-time Fourier transform, summed by triangular filters that are equally spaced in
    mel(f) = 2595 log10(1 + f / 700) (O'Shaughnessy, Speech Communication, 1987), then 10 log10. `samples` may be int16
    and lie on the disk: only what the frames need is read.
    """
    power, hop = _power(samples, rate, n_fft)
    from scipy import sparse  # a fifth of a second, which only a spectrogram waits for

    filters = sparse.csr_array(mel_filters(rate, n_mels, n_fft).astype(np.float32))
    return _decibels(filters @ power.T), hop  # mostly zeros: no need to wake the threads of a matrix library


def log_linear(samples: np.ndarray, rate: int, n_fft: int = 1024) -> tuple[np.ndarray, float]:
    """The same without filters: (n_fft // 2 + 1, frames), evenly from 0 Hz to half the rate."""
    power, hop = _power(samples, rate, n_fft)
    return _decibels(power.T), hop


def _power(samples: np.ndarray, rate: int, n_fft: int) -> tuple[np.ndarray, float]:
    """Power [frames, bins] around every `hop`-th sample, and that hop in seconds."""
    hop = max(rate // 80, -(-len(samples) // MAX_FRAMES))
    starts = range(-(n_fft // 2), len(samples) - n_fft // 2 + 1, hop) if len(samples) else range(0)
    frames = np.zeros((len(starts), n_fft), np.float32)
    for row, at in enumerate(starts):
        low, high = max(at, 0), min(at + n_fft, len(samples))
        frames[row, low - at : high - at] = samples[low:high]
    if samples.dtype.kind == "i":
        frames /= 32768
    spectrum = scipy.fft.rfft(frames * np.hanning(n_fft + 1)[:-1].astype(np.float32), axis=1)  # stays in 32 bits
    return spectrum.real**2 + spectrum.imag**2, hop / rate


def _decibels(power: np.ndarray) -> np.ndarray:
    if not power.shape[1]:
        return power.astype(np.float32)
    decibels = 10 * np.log10(np.maximum(power, 1e-10))
    return np.maximum(decibels - decibels.max(), FLOOR_DB).astype(np.float32)


def mel_filters(rate: int, n_mels: int, n_fft: int) -> np.ndarray:
    """(n_mels, n_fft // 2 + 1) triangles of height 1 from 0 Hz to half the rate."""
    top = 2595 * np.log10(1 + rate / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, n_mels + 2) / 2595) - 1)
    bins = np.linspace(0, rate / 2, n_fft // 2 + 1)
    rising = (bins - edges[:-2, None]) / (edges[1:-1] - edges[:-2])[:, None]
    falling = (edges[2:, None] - bins) / (edges[2:] - edges[1:-1])[:, None]
    return np.maximum(0, np.minimum(rising, falling))


def stretch(samples: np.ndarray, rate: int, speed: float) -> np.ndarray:
    """The same voice `speed` times as fast, at the same pitch.

    WSOLA (Verhelst and Roelands, ICASSP 1993): windows laid over each other at a fixed step, each taken from where
    the input, near the stretched position, looks most like the natural continuation of the last one.
    """
    step = rate // 50
    reach = step // 2
    if speed == 1 or len(samples) < 4 * step:
        return samples
    window = np.hanning(2 * step + 1)[:-1]
    padded = np.pad(samples, (reach, 3 * step + reach))
    count = max(1, round(len(samples) / speed / step))
    out = np.zeros((count + 1) * step)
    taken = reach
    for i in range(count):
        wanted = reach + int(i * step * speed)
        if i:
            natural = padded[taken + step : taken + 2 * step]
            near = padded[wanted - reach : wanted + reach + step]
            taken = wanted - reach + int(np.argmax(np.correlate(near, natural, "valid")))
        else:
            taken = wanted
        out[i * step : (i + 2) * step] += window * padded[taken : taken + 2 * step]
    return out[: round(len(samples) / speed)].astype(np.float32)
