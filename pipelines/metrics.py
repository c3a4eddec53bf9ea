"""Figures of a classifier over labelled rows, and the reading of such rows. Plain numpy; knows no model.

Accuracy, F1 and recall follow Sokolova & Lapalme 2009 (Information Processing & Management 45:427); a class that
occurs neither in the truth nor in the predictions counts for nothing. UAR, the unweighted average recall, is the
figure of the INTERSPEECH emotion challenges (Schuller et al. 2009). ECE is Naeini et al. 2015 with the ten or so equal
bins of Guo et al. 2017.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from pipelines.core.errors import InvalidInput

ECE_BINS = 15

Row = TypeVar("Row")


def confusion(truth: Sequence[str], predicted: Sequence[str]) -> tuple[tuple[str, ...], np.ndarray]:
    """Labels in alphabetical order and the counts [truth, predicted] over them."""
    labels = tuple(sorted({*truth, *predicted}))
    index = {label: i for i, label in enumerate(labels)}
    counts = np.zeros((len(labels), len(labels)), dtype=np.int64)
    for true, guess in zip(truth, predicted, strict=True):
        counts[index[true], index[guess]] += 1
    return labels, counts


def accuracy(counts: np.ndarray) -> float:
    """Share of the rows on the diagonal of a confusion matrix."""
    return float(np.trace(counts) / counts.sum())


def macro_f1(counts: np.ndarray) -> float:
    """The mean over classes of F1 = 2·TP / (truths + guesses)."""
    f1 = 2 * np.diag(counts) / (counts.sum(axis=0) + counts.sum(axis=1))
    return float(f1.mean())


def micro_f1(counts: np.ndarray) -> float:
    """F1 over all decisions together; with one label per row it equals the accuracy."""
    return float(2 * np.trace(counts) / (counts.sum(axis=0).sum() + counts.sum(axis=1).sum()))


def uar(counts: np.ndarray) -> float:
    """The mean recall over the classes that occur in the truth."""
    truths = counts.sum(axis=1)
    present = truths > 0
    return float((np.diag(counts)[present] / truths[present]).mean())


def ece(confidence: Sequence[float], correct: Sequence[bool], bins: int = ECE_BINS) -> float:
    """How far confidence in [0, 1] is from accuracy, over equal bins weighted by their rows; 0 is perfect."""
    sure, right = np.asarray(confidence, dtype=np.float64), np.asarray(correct, dtype=np.float64)
    place = np.clip(np.ceil(sure * bins).astype(int) - 1, 0, bins - 1)  # (0, 1/bins] is the first bin
    gaps = [abs(sure[place == b].sum() - right[place == b].sum()) for b in range(bins)]
    return float(sum(gaps) / len(sure))


def baseline(truth: Sequence[str]) -> float:
    """The accuracy of always saying the commonest label."""
    return max(Counter(truth).values()) / len(truth)


def classification_figures(
    truth: Sequence[str], predicted: Sequence[str], confidence: Sequence[float]
) -> dict[str, float]:
    """`n`, `accuracy`, `macro_f1`, `micro_f1`, `uar`, `ece` and `baseline` of one-label predictions."""
    _, counts = confusion(truth, predicted)
    right = [true == guess for true, guess in zip(truth, predicted, strict=True)]
    return {
        "n": float(len(truth)),
        "accuracy": accuracy(counts),
        "macro_f1": macro_f1(counts),
        "micro_f1": micro_f1(counts),
        "uar": uar(counts),
        "ece": ece(confidence, right),
        "baseline": baseline(truth),
    }


def read_rows(path: Path) -> list[dict[str, str]]:
    """Rows of a .csv file with a header, or of a JSON-lines file; raises InvalidInput naming the line."""
    if path.suffix.lower() != ".csv":
        return [
            {key: value if isinstance(value, str) else json.dumps(value) for key, value in record.items()}
            for _, record in read_records(path)
        ]
    table = csv.DictReader(_text(path).splitlines())
    return _some([{key: value or "" for key, value in row.items() if key} for row in table], path)


def read_records(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """The objects of a JSON-lines file as they are, each with the number of its line; raises InvalidInput naming it."""
    lines = enumerate(_text(path).split("\n"), 1)
    return _some([(at, _record(line, at)) for at, line in lines if line.strip()], path)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput("unreadable_rows", path=path.name) from error


def _some(rows: list[Row], path: Path) -> list[Row]:
    if not rows:
        raise InvalidInput("no_rows", path=path.name)
    return rows


def _record(line: str, at: int) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise InvalidInput("row_not_json", line=at) from error
    if not isinstance(record, dict):
        raise InvalidInput("row_not_json", line=at)
    return record
