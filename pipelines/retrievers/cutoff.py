"""Where the hits of one query end: what stands out from the query's own background is kept, up to the largest drop.

A cosine means nothing by itself (0.25 is a good match for one model and one query, chance for another), but a query
is compared with the whole gallery, nearly all of which does not match it. Those scores are the background. Its middle
and spread are taken by median and median absolute deviation, which a few matches do not move. The best of n scores of
pure background lies near `sqrt(2 ln n)` spreads above the middle (the universal threshold of Donoho & Johnstone 1994,
Biometrika 81:425): the floor. Above it, the list ends at the largest drop between neighbours, if that is at least one
spread wide (the expected drop between extremes of a background is a quarter of that).

Knows numbers only.
"""

from __future__ import annotations

import numpy as np

from pipelines.retrievers.results import Cutoff

FEW = 8  # fewer scores than this are no background
FLAT = 1e-6  # differences below this are rounding
SAME = 0.999  # a cosine with oneself, stored in half precision
NORMAL = 1.4826  # standard deviations per median absolute deviation, for a normal distribution


def keep_all(scores: np.ndarray) -> Cutoff:
    """No cut-off: every one of the scores [n] is kept."""
    return Cutoff(float(scores.min(initial=0.0)), "none", len(scores))


def adaptive(scores: np.ndarray, background: np.ndarray) -> Cutoff:
    """The cut-off of hits with `scores` [k], best first, by the query's scores [n] with everything (or a sample)."""
    if len(background) < FEW:
        return _of_few(scores)
    mean, spread = middle(background)
    if spread < FLAT or not len(scores):
        return keep_all(scores)
    floor = mean + spread * float(np.sqrt(2 * np.log(len(background))))
    kept = int((scores >= floor).sum())
    drops = -np.diff(np.append(scores[:kept], scores[kept : kept + 1]))
    drops[: int((scores >= SAME).sum())] = 0  # a picture asked with finds itself: that drop says nothing
    if len(drops) and drops.max() >= spread:
        kept = int(drops.argmax()) + 1
        return Cutoff(float(scores[kept - 1 : kept + 1].mean()), "gap", kept, mean, spread)
    return Cutoff(floor, "floor", kept, mean, spread)


def middle(background: np.ndarray) -> tuple[float, float]:
    """Median, and the standard deviation a normal distribution of the same median deviation would have."""
    median = float(np.median(background))
    spread = NORMAL * float(np.median(np.abs(background - median)))
    return median, spread or float(background.std())


def _of_few(scores: np.ndarray) -> Cutoff:
    """Too few to know a background: cut only at a drop of at least two thirds of the whole range."""
    drops = -np.diff(scores)
    if len(drops) < 2 or drops.max() < FLAT or drops.max() < 2 / 3 * (scores[0] - scores[-1]):
        return keep_all(scores)
    kept = int(drops.argmax()) + 1
    return Cutoff(float(scores[kept - 1 : kept + 1].mean()), "gap", kept)
