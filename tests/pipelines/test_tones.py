"""Pitch and tones of sounds whose pitch is known."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines import tones
from pipelines.pitch import pitch
from pipelines.tones import Syllable, Toned, lens

RATE = 24_000
MIDDLE = {"man": 110.0, "woman": 220.0}


def voice(hertz: np.ndarray, rate: int = RATE) -> np.ndarray:
    """A buzz of twelve harmonics at these frequencies, one a sample, with a little noise; 0 is silence."""
    phase = 2 * np.pi * np.cumsum(hertz) / rate
    buzz = sum(np.cos(k * phase) / k for k in range(1, 13)) * 0.1 * (hertz > 0)
    return (buzz + np.random.default_rng(1).normal(0, 0.001, len(hertz))).astype(np.float32)


def spoken(said: list[int], middle: float, sink: float = 2.0) -> np.ndarray:
    """Hertz of syllables of 0.25 s said with these tones, gaps of 30 ms between, sinking `sink` semitones a second."""
    ends = {1: (3, 3), 2: (-2, 3), 3: (-4, -5), 4: (4, -4)}
    parts = []
    for tone in said:
        a, b = ends[tone]
        parts += [np.linspace(a, b, RATE // 4 - RATE * 3 // 100), np.full(RATE * 3 // 100, np.nan)]
    semitones = np.concatenate(parts) - sink * np.arange(len(said) * (RATE // 4)) / RATE
    return np.nan_to_num(middle * 2 ** (semitones / 12))


def judged(said: list[int], expected: list[int], middle: float) -> tuple[Toned, ...]:
    syllables = [Syllable("字", tone, at * 0.25, at * 0.25 + 0.25) for at, tone in enumerate(expected)]
    return lens(*pitch(voice(spoken(said, middle)), RATE), syllables)


@pytest.mark.parametrize("rate", [16_000, 24_000, 44_100])
@pytest.mark.parametrize(("low", "high"), [(80, 130), (180, 320), (420, 250)])
def test_a_gliding_pitch_is_followed_within_two_percent(low: int, high: int, rate: int) -> None:
    true = np.linspace(low, high, 2 * rate)
    hertz, hop = pitch(voice(true, rate), rate)
    inside = slice(5, len(hertz) - 5)
    wanted = np.interp(np.arange(len(hertz)) * hop, np.arange(2 * rate) / rate, true)
    assert (hertz[inside] > 0).mean() > 0.97
    error = np.abs(hertz / wanted - 1)[inside][hertz[inside] > 0]
    assert np.median(error) < 0.005 and error.max() < 0.03


def test_silence_and_noise_have_no_pitch() -> None:
    noise = np.random.default_rng(2).normal(0, 0.1, RATE).astype(np.float32)
    assert (pitch(noise, RATE)[0] > 0).mean() < 0.1
    assert not pitch(np.zeros(RATE, np.float32), RATE)[0].any()
    assert len(pitch(np.zeros(0, np.float32), RATE)[0]) == 0


def test_a_gap_in_the_voice_is_a_gap_in_the_pitch() -> None:
    hertz = np.concatenate([np.full(RATE // 2, 150.0), np.zeros(RATE // 2), np.full(RATE // 2, 200.0)])
    found, hop = pitch(voice(hertz), RATE)
    at = np.arange(len(found)) * hop
    assert not found[(at > 0.55) & (at < 0.95)].any() and (found[(at > 1.05) & (at < 1.45)] > 190).all()


@pytest.mark.parametrize("middle", MIDDLE.values(), ids=MIDDLE)
def test_each_tone_is_heard_as_itself_beside_any_other(middle: float) -> None:
    pairs = [1, 1, 2, 2, 3, 4, 4, 1, 3, 2, 4, 3, 1, 4, 2, 1]
    found = judged(pairs, pairs, middle)
    right = sum(each.heard == each.tone for each in found)
    assert right >= len(pairs) - 1 and not any(each.wrong for each in found)


@pytest.mark.parametrize("middle", MIDDLE.values(), ids=MIDDLE)
@pytest.mark.parametrize("said", [1, 2, 3, 4])
def test_a_wrong_tone_is_marked_and_its_neighbours_are_not(said: int, middle: float) -> None:
    around = [1, 4, 3, 2]
    for wanted in {1, 2, 3, 4} - {said}:
        found = judged([*around, said, *around], [*around, wanted, *around], middle)
        assert [each.wrong for each in found] == [False] * 4 + [True] + [False] * 4, (said, wanted)


def test_the_expected_curve_goes_where_the_tone_goes() -> None:
    found = judged([1, 4, 3, 2], [1, 4, 3, 4], MIDDLE["woman"])[3]
    assert found.wrong and len(found.times) == len(found.measured) == len(found.expected) >= tones.LEAST
    assert found.measured[-1] - found.measured[0] > 3 and found.expected[-1] < found.expected[4] - 2


def test_the_neutral_tone_is_not_judged_and_a_whisper_cannot_be() -> None:
    found = judged([1, 4], [5, 4], MIDDLE["man"])
    assert not found[0].wrong and found[0].heard == 0 and found[0].measured and not found[0].expected
    silent = lens(np.zeros(100, np.float32), 0.01, [Syllable("好", 3, 0.0, 0.5)])
    assert silent == (Toned("好", 3, 0.0, 0.5, 0, False, (), (), ()),)
