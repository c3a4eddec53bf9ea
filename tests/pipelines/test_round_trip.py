"""What was said against what was heard."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines import reading
from pipelines.round_trip import Trip, align, compare


def trip(said: str, heard: str, language: str) -> Trip:
    return compare([unit for phrase in reading.read(said).phrases for unit in phrase.units], heard, language)


@pytest.mark.parametrize(
    ("said", "heard", "language", "errors", "count"),
    [
        ("Dr. Smith paid $3.50.", "doctor smith paid three dollars and fifty cents", "en", 0, 8),
        ("It's 23 degrees.", "It's twenty-three degrees.", "en", 0, 4),
        ("the cat sat down", "the hat sat", "en", 2, 4),
        ("会议在3点开始。", "会议在三点开始", "zh", 0, 7),
        ("我用Python写程序", "我用python写成序", "zh", 1, 6),
        ("他买书", "他卖书了", "zh", 2, 3),
        ("你好", "", "zh", 2, 2),
    ],
)
def test_errors_are_counted_after_both_texts_are_put_into_words(
    said: str, heard: str, language: str, errors: int, count: int
) -> None:
    found = trip(said, heard, language)
    assert (found.errors, found.count) == (errors, count) and found.rate == errors / count and found.heard == heard


def test_steps_and_places_name_what_was_wrong() -> None:
    found = trip("他买书。", "他卖书了", "zh")
    assert [(step.kind, step.said, step.heard) for step in found.steps] == [
        ("same", "他", "他"),
        ("wrong", "买", "卖"),
        ("same", "书", "书"),
        ("extra", "", "了"),
    ]
    assert found.wrong == ((1, 2),)


def test_a_figure_misheard_is_one_place() -> None:
    found = trip("Call 911 now.", "call nine eleven now", "en")
    assert found.wrong == ((5, 8),) and found.errors >= 1


@given(st.lists(st.sampled_from("abc"), max_size=8), st.lists(st.sampled_from("abc"), max_size=8))
def test_an_alignment_spells_both_sides_and_is_symmetric(a: list[str], b: list[str]) -> None:
    steps = align(a, b)
    assert [step.said for step in steps if step.said] == a and [step.heard for step in steps if step.heard] == b
    errors = sum(step.kind != "same" for step in steps)
    assert errors == sum(step.kind != "same" for step in align(b, a)) <= max(len(a), len(b))
    assert errors >= abs(len(a) - len(b)) and (errors == 0) == (a == b)
