"""Classification figures against values worked out by hand, and the reading of labelled rows."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipelines import metrics
from pipelines.core.errors import InvalidInput

TRUTH = ["a", "a", "a", "b", "b", "c"]
GUESS = ["a", "a", "b", "b", "c", "c"]


def test_confusion_counts_truth_by_prediction() -> None:
    labels, counts = metrics.confusion(TRUTH, GUESS)
    assert labels == ("a", "b", "c")
    assert counts.tolist() == [[2, 1, 0], [0, 1, 1], [0, 0, 1]]


def test_figures_match_values_worked_out_by_hand() -> None:
    figures = metrics.classification_figures(TRUTH, GUESS, [0.9] * 6)
    assert figures["accuracy"] == figures["micro_f1"] == pytest.approx(4 / 6)
    assert figures["macro_f1"] == pytest.approx((4 / 5 + 1 / 2 + 2 / 3) / 3)
    assert figures["uar"] == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)
    assert figures["ece"] == pytest.approx(0.9 - 4 / 6)
    assert figures["baseline"] == 0.5
    assert figures["n"] == 6


def test_a_class_only_ever_guessed_lowers_macro_f1_but_not_uar() -> None:
    _, counts = metrics.confusion(["a", "a"], ["a", "x"])
    assert metrics.macro_f1(counts) == pytest.approx((2 / 3 + 0) / 2)
    assert metrics.uar(counts) == 0.5


def test_ece_weighs_each_bin_by_its_rows() -> None:
    sure = [1.0, 1.0, 1.0, 0.5]
    assert metrics.ece(sure, [True, True, False, False], bins=10) == pytest.approx(0.75 * (1 / 3) + 0.25 * 0.5)
    assert metrics.ece([1.0, 0.0], [True, False]) == 0.0


def test_always_guessing_the_commonest_label_scores_the_baseline() -> None:
    truth = ["joy"] * 7 + ["fear"] * 3
    assert metrics.classification_figures(truth, ["joy"] * 10, [0.7] * 10)["accuracy"] == metrics.baseline(truth)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("rows.csv", 'text,label\n我很高兴,joy\n"so, sad",sadness\n'),
        ("rows.jsonl", '{"text": "我很高兴", "label": "joy"}\n\n{"text": "so, sad", "label": "sadness"}\n'),
    ],
)
def test_csv_and_json_lines_give_the_same_rows(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8-sig")
    assert metrics.read_rows(tmp_path / name) == [
        {"text": "我很高兴", "label": "joy"},
        {"text": "so, sad", "label": "sadness"},
    ]


@pytest.mark.parametrize(
    ("content", "code"),
    [(b"", "no_rows"), (b'{"a": 1}\n{oops', "row_not_json"), (b"[1]", "row_not_json"), (b"\xff", "unreadable_rows")],
)
def test_bad_files_are_named(tmp_path: Path, content: bytes, code: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    with pytest.raises(InvalidInput) as caught:
        metrics.read_rows(path)
    assert caught.value.code == code
