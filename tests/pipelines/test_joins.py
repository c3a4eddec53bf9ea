"""Joins are made without a click and measured in the units of what is heard."""

from __future__ import annotations

import numpy as np
import pytest

from pipelines.joins import FADE, seam, softened, spliced
from pipelines.voices import _trimmed
from tests.pipelines.test_tones import voice

RATE = 24_000


def buzz(hertz: float, seconds: float, start: float = 0.0) -> np.ndarray:
    """A voice of steady pitch that begins `start` seconds into its own course."""
    return voice(np.full(round((start + seconds) * RATE), hertz))[round(start * RATE) :]


def roughest(samples: np.ndarray) -> float:
    return float(np.abs(np.diff(samples, n=2)).max())


def test_a_piece_starts_and_ends_in_silence_and_is_itself_between() -> None:
    piece = buzz(150, 0.5)
    soft = softened(piece, RATE)
    assert soft[0] == 0 == soft[-1] and np.array_equal(soft[200:-200], piece[200:-200])
    assert not len(softened(piece[:0], RATE)) and len(softened(piece[:3], RATE)) == 3


@pytest.mark.parametrize("offset", [0.0, 0.0013, 0.0031])
def test_a_splice_has_no_click_and_touches_nothing_else(offset: float) -> None:
    old, new = buzz(140, 1.0), buzz(140, 1.2, start=offset)
    span, part = (8_000, 14_000), (9_000, 17_500)
    out, (start, end) = spliced(old, span, new, part, RATE)
    assert roughest(out) < 1.3 * max(roughest(old), roughest(new))
    assert start == span[0]
    fade = round(FADE * RATE)
    assert np.array_equal(out[: span[0] - fade], old[: span[0] - fade])
    assert np.array_equal(out[end + fade :], old[span[1] + fade :])
    assert abs((end - start) - (part[1] - part[0])) <= 2 * 0.010 * RATE and len(out) == len(old) - 6_000 + end - start


def test_a_bare_cut_clicks_where_a_splice_does_not() -> None:
    old, new = buzz(140, 1.0), buzz(140, 1.2, start=0.0021)
    bare = np.concatenate([old[:8_000], new[9_000:17_500], old[14_000:]])
    assert roughest(bare) > 1.5 * roughest(spliced(old, (8_000, 14_000), new, (9_000, 17_500), RATE)[0])


def test_a_splice_at_the_very_ends_is_possible() -> None:
    old, new = buzz(140, 0.5), buzz(200, 0.7)
    out, where = spliced(old, (0, len(old)), new, (0, len(new)), RATE)
    assert np.array_equal(out, new) and where == (0, len(new))


def test_a_seam_is_measured_in_decibels_and_semitones() -> None:
    left, right = buzz(150, 1.0), 0.5 * buzz(300, 1.0)
    found = seam(left, right, RATE, at=1.0, pitches=(150.0, 300.0))
    assert found.energy == pytest.approx(-6.02, abs=0.6) and found.pitch == pytest.approx(12)
    assert found.click == pytest.approx(abs(right[0] - left[-1])) and found.timbre > 2
    same = seam(left, left, RATE, at=1.0, pitches=(150.0, 0.0))
    assert abs(same.energy) < 0.3 and same.timbre < 0.5 and same.pitch == 0
    nothing = seam(left[:0], left, RATE, at=0.0, pitches=(0.0, 150.0))
    assert (nothing.click, nothing.pitch, nothing.timbre) == (0, 0, 0)


@pytest.mark.parametrize(("before", "after"), [(0.2, 0.3), (1.5, 0.2), (0.2, 1.5), (1.5, 1.5)])
def test_a_models_own_silence_is_taken_away_however_long(before: float, after: float) -> None:
    sound = buzz(150, 2.5)
    whole = np.concatenate([np.zeros(round(before * RATE)), sound, np.zeros(round(after * RATE))]).astype(np.float32)
    kept, start = _trimmed(whole, RATE)
    assert start == pytest.approx((before - 0.03) * RATE, abs=50) and len(kept) == pytest.approx(2.56 * RATE, abs=100)
    assert not len(_trimmed(np.zeros(3 * RATE, np.float32), RATE)[0])
