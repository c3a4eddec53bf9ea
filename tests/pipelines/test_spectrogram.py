"""Spectrograms and stretching, against sounds whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.spectrogram import FLOOR_DB, MAX_FRAMES, log_linear, log_mel, mel_filters, stretch

RATE = 16_000


def tone(hertz: float, seconds: float = 1.0) -> np.ndarray:
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(int(RATE * seconds)) / RATE)).astype(np.float32)


def pitch(samples: np.ndarray) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(spectrum) * RATE / len(samples))


@pytest.mark.parametrize("hertz", [200, 1000, 5000])
def test_a_tone_lights_the_mel_band_that_holds_it(hertz: float) -> None:
    mel, hop = log_mel(tone(hertz), RATE)
    expected = 2595 * np.log10(1 + hertz / 700) / (2595 * np.log10(1 + RATE / 2 / 700)) * 81 - 1
    assert abs(int(mel[:, 40].argmax()) - expected) <= 1.5
    assert mel.dtype == np.float32 and mel.shape == (80, 81) and hop == pytest.approx(1 / 80)


def test_decibels_are_under_the_peak_and_above_the_floor() -> None:
    mel, _ = log_mel(np.concatenate([tone(440), np.zeros(RATE, np.float32)]), RATE)
    assert mel.max() == 0 and mel.min() == FLOOR_DB and (mel[:, 100:] == FLOOR_DB).all()


def test_a_tenth_of_the_amplitude_is_twenty_decibels_less() -> None:
    mel, _ = log_mel(np.concatenate([tone(440), 0.1 * tone(440)]), RATE)
    assert mel[:, 40].max() - mel[:, 120].max() == pytest.approx(20, abs=0.5)


def test_filters_overlap_so_that_no_frequency_is_lost() -> None:
    filters = mel_filters(RATE, 40, 1024)
    assert filters.shape == (40, 513) and filters.min() >= 0
    assert (filters.sum(0)[8:500] > 0.3).all()


def test_a_long_sound_keeps_a_picture_of_bounded_width() -> None:
    mel, hop = log_mel(np.zeros(RATE * 300, np.float32), RATE)
    assert mel.shape[1] <= MAX_FRAMES + 1 and hop == pytest.approx(300 / MAX_FRAMES, rel=0.01)


def test_nothing_has_no_frames() -> None:
    assert log_mel(np.zeros(0, np.float32), RATE)[0].shape == (80, 0)


@pytest.mark.parametrize("speed", [0.5, 0.8, 1.5, 2.0])
def test_stretching_changes_the_length_and_not_the_pitch(speed: float) -> None:
    sound = tone(220, 2.0)
    result = stretch(sound, RATE, speed)
    assert len(result) == round(len(sound) / speed)
    assert pitch(result) == pytest.approx(220, abs=3)
    middle = result[RATE // 4 : -RATE // 4]
    assert np.sqrt((middle**2).mean()) == pytest.approx(np.sqrt((sound**2).mean()), rel=0.1)


def test_speed_one_is_the_sound_itself() -> None:
    sound = tone(220)
    assert stretch(sound, RATE, 1.0) is sound


def test_whole_numbers_give_the_same_picture_as_fractions() -> None:
    sound = tone(440) + 0.01 * tone(3000)
    fine, coarse = log_mel(sound, RATE)[0], log_mel((sound * 32768).astype("<i2"), RATE)[0]
    assert np.abs(fine - coarse)[fine > -50].max() < 0.5


def test_without_filters_a_tone_lights_its_own_bin() -> None:
    picture, hop = log_linear(tone(1000), RATE)
    assert picture.shape == (513, 81) and int(picture[:, 40].argmax()) == 64 and hop == pytest.approx(1 / 80)
    assert log_linear(np.zeros(0, np.float32), RATE)[0].shape == (513, 0)
