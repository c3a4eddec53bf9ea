"""Recall at K and mean reciprocal rank, and what a random order would give, exactly. Plain numpy."""

from __future__ import annotations

from collections.abc import Sequence
from math import comb

import numpy as np

from pipelines.retrievers.results import Figures

CUTS = (1, 5, 10)


def rank(scores: np.ndarray, relevant: Sequence[int]) -> int:
    """The place of the first relevant one among scores [n]; 1 is the best.

    A tie counts against it, so that a model which answers the same for all gains nothing.
    """
    best = scores[list(relevant)].max()
    wrong = np.ones(len(scores), dtype=bool)
    wrong[list(relevant)] = False
    return 1 + int((scores[wrong] >= best).sum())


def figures(ranks: Sequence[int], relevant: Sequence[int], candidates: int) -> Figures:
    """Over queries with these ranks of the first of so many relevant ones."""
    recalls = [float(np.mean([rank <= cut for rank in ranks])) for cut in CUTS]
    reciprocal = float(np.mean([1 / rank for rank in ranks]))
    return Figures(*recalls, reciprocal, len(ranks), candidates, chance(relevant, candidates))


def chance(relevant: Sequence[int], candidates: int) -> dict[str, float]:
    """What a random order of `candidates` gives queries with so many relevant ones each: r@1, r@5, r@10, mrr.

    The first relevant of r lies behind k others with probability C(n - k, r) / C(n, r) (hypergeometric).
    """
    counts = {number: relevant.count(number) for number in set(relevant)}
    totals = dict.fromkeys([*(f"r@{cut}" for cut in CUTS), "mrr"], 0.0)
    for number, queries in counts.items():
        behind = [_behind(k, number, candidates) for k in range(candidates - number + 2)]
        for cut in CUTS:
            totals[f"r@{cut}"] += queries * (1 - (behind[cut] if cut < len(behind) else 0.0))
        totals["mrr"] += queries * sum((behind[k - 1] - behind[k]) / k for k in range(1, len(behind)))
    return {name: total / len(relevant) for name, total in totals.items()}


def _behind(k: int, relevant: int, candidates: int) -> float:
    """The probability that none of the relevant ones is among the first k."""
    return comb(candidates - k, relevant) / comb(candidates, relevant) if candidates - k >= relevant else 0.0
