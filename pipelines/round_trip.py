"""The round trip: what was to be said against what the ears heard, character by character or word by word.

Word error rate for English, character error rate for Chinese: substitutions, deletions and insertions of the cheapest
alignment over the length of what was to be said. Knows no voice and no ears.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from pipelines import reading
from pipelines.reading import Unit

KINDS = ("same", "wrong", "missing", "extra")


@dataclass(frozen=True, slots=True)
class Heard:
    """One step of the alignment: `kind` is one of KINDS; `said` "" where nothing was, `heard` "" where nothing was."""

    kind: str
    said: str
    heard: str


@dataclass(frozen=True, slots=True)
class Trip:
    """`rate` is the WER ("en") or CER ("zh"), errors over `count`; `steps` in reading order spell both texts.

    `wrong` are the places (start, end) of the text's units that were not heard as they should have been.
    """

    heard: str
    language: str
    rate: float
    errors: int
    count: int
    steps: tuple[Heard, ...]
    wrong: tuple[tuple[int, int], ...]


def compare(units: Sequence[Unit], heard: str, language: str) -> Trip:
    """What the ears wrote is put into words by the same rules as the text: they write 三 or 3 as they like."""
    read = reading.read(heard, language).phrases if heard.strip() else ()
    wanted = [(token, unit) for unit in units for token in tokens(unit)]
    got = [token for phrase in read for unit in phrase.units for token in tokens(unit)]
    steps = align([token for token, _ in wanted], got)
    errors = sum(step.kind != "same" for step in steps)
    said = (step for step in steps if step.kind != "extra")
    missed = [unit for step, (_, unit) in zip(said, wanted, strict=True) if step.kind != "same"]
    wrong = tuple(dict.fromkeys((unit.start, unit.end) for unit in missed))
    return Trip(heard, language, errors / max(1, len(wanted)), errors, len(wanted), steps, wrong)


def tokens(unit: Unit) -> list[str]:
    """What is counted: English words without case, Chinese characters one by one."""
    return re.findall(r"[^\W\d_㐀-鿿]+(?:['’][^\W\d_㐀-鿿]+)*|[㐀-鿿〇]", unit.said.lower().replace("’", "'"))


def align(wanted: Sequence[str], got: Sequence[str]) -> tuple[Heard, ...]:
    """The cheapest way from one to the other, each step costing 1 but for equal ones (Levenshtein)."""
    costs = [list(range(len(got) + 1))]
    for at, token in enumerate(wanted, 1):
        above, row = costs[-1], [at]
        for to, other in enumerate(got, 1):
            row.append(min(above[to] + 1, row[-1] + 1, above[to - 1] + (token != other)))
        costs.append(row)
    return tuple(_path(costs, wanted, got))


def _path(costs: list[list[int]], wanted: Sequence[str], got: Sequence[str]) -> list[Heard]:
    steps, at, to = [], len(wanted), len(got)
    while at or to:
        if at and to and costs[at][to] == costs[at - 1][to - 1] + (wanted[at - 1] != got[to - 1]):
            at, to = at - 1, to - 1
            steps.append(Heard("same" if wanted[at] == got[to] else "wrong", wanted[at], got[to]))
        elif at and costs[at][to] == costs[at - 1][to] + 1:
            at -= 1
            steps.append(Heard("missing", wanted[at], ""))
        else:
            to -= 1
            steps.append(Heard("extra", "", got[to]))
    return steps[::-1]
