"""The retrieval family: a caption taken over from the gallery's nearest pictures. Plain numpy.

Ordonez et al. 2011 ("Im2Text") take the nearest picture's caption; Devlin et al. 2015 ("Exploring Nearest Neighbor
Approaches for Image Captioning") the one that agrees most with the captions of all near pictures. Here the near ones
vote by how near they are, and every caption agrees with itself: where the nearest stands out its caption wins, and
where several are as near, the one that says what most of them say. Over the gallery, each picture left out, that finds
the exact caption as often as taking the nearest (34 %), where the plain mean of Devlin et al. finds 28 %.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from pipelines.captioners.plan import Neighbour, Retrieved
from pipelines.captioners.starter import Starter

NEAR = 8  # neighbours asked
SHARP = 30.0  # a neighbour whose cosine is 0.1 lower has a vote of exp(-3)


def retrieve(seen: Starter, language: str, leave_out: Collection[str] = ()) -> Retrieved:
    """Neighbours that have a caption in "en" or "zh", the nearest first; gallery items of `leave_out` are no one's."""
    items, kind = seen.gallery.items, f"captions_{language}"
    numbers = seen.gallery.numbers(kind)
    rows = np.flatnonzero([items[number].id not in leave_out for number in numbers])
    similarity = seen.rows("pictures")[numbers[rows]] @ seen.picture
    near = np.argsort(-similarity, kind="stable")[:NEAR]
    said = seen.rows(kind)[rows[near]]
    alike, similarity = said @ said.T, similarity[near]
    neighbours = [
        Neighbour(items[number].id, items[number].caption(language), float(similarity[at]), agreement(alike, at))
        for at, number in enumerate(numbers[rows[near]])
    ]
    best = chosen(similarity, alike)
    return Retrieved(neighbours[best].caption, "consensus" if best else "nearest", tuple(neighbours))


def agreement(alike: np.ndarray, at: int) -> float:
    """The mean cosine of a caption with the others', from all of them [n, n]; 1 where there are no others."""
    others = np.delete(alike[at], at)
    return float(others.mean()) if len(others) else 1.0


def chosen(similarity: np.ndarray, alike: np.ndarray) -> int:
    """Whose caption is taken, from the cosines with the picture [n] and among the captions [n, n]."""
    votes = np.exp(SHARP * (similarity - similarity.max()))
    return int((alike @ votes).argmax())
