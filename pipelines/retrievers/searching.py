"""One query over what there is: the best candidates, their scores, and the background they stand out from.

Candidates are a matrix in memory, or an index on disk; an item is named by its number. Plain numpy.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from pipelines.retrievers.asking import penalty
from pipelines.retrievers.collections import Collection

SAMPLE = 4_096  # rows that stand for the background of a large collection


@dataclass(frozen=True, slots=True)
class Found:
    """The best, best first: items [k], their unit rows [k, d] and scores [k]; the scores of everything, or of a
    sample of it; what searched, and for how long.
    """

    items: np.ndarray
    rows: np.ndarray
    scores: np.ndarray
    background: np.ndarray
    backend: str
    milliseconds: float


class Candidates(Protocol):
    """What a query is compared with."""

    def __len__(self) -> int: ...

    def search(self, query: np.ndarray, unwanted: np.ndarray, k: int) -> Found:
        """The `k` best for a unit direction [d], less what the unwanted directions [m, d] take away."""

    def some(self, limit: int) -> tuple[np.ndarray, np.ndarray]:
        """Items [n] and their rows [n, d]: all, or as many as `limit`, evenly spread."""


class Scan:
    """Unit rows [n, d] in memory and the item each stands for [n]: all are compared."""

    def __init__(self, rows: np.ndarray, items: np.ndarray) -> None:
        self.rows = rows
        self.items = items

    def __len__(self) -> int:
        return len(self.items)

    def search(self, query: np.ndarray, unwanted: np.ndarray, k: int) -> Found:
        began = time.perf_counter()
        every = self.rows @ query
        if len(unwanted):
            every = every - penalty(self.rows, query, unwanted)
        best = np.argsort(-every, kind="stable")[:k]
        spent = 1e3 * (time.perf_counter() - began)
        return Found(self.items[best], self.rows[best], every[best], every, "exact", spent)

    def some(self, limit: int) -> tuple[np.ndarray, np.ndarray]:
        at = spread(len(self), limit)
        return self.items[at], self.rows[at]


class Indexed:
    """A stored collection's pictures in the vectors of one model; items are its ids."""

    def __init__(self, collection: Collection, model: str) -> None:
        self._collection = collection
        self._model = model

    def __len__(self) -> int:
        return len(self._collection)

    def search(self, query: np.ndarray, unwanted: np.ndarray, k: int) -> Found:
        """An index knows inner products only, so with unwanted things its rows are scanned."""
        with self._collection.index(self._model) as index:
            if len(unwanted):
                return Scan(index.rows, index.ids).search(query, unwanted, k)
            began = time.perf_counter()
            scores, ids = (row[0] for row in index.search(query[None], min(k, len(index))))
            spent = 1e3 * (time.perf_counter() - began)
            every, found = index.rows, ids >= 0
            order = np.argsort(index.ids)
            at = order[np.searchsorted(index.ids, ids[found], sorter=order)]
            background = every[spread(len(index), SAMPLE)] @ query
            return Found(ids[found], every[at], scores[found], background, index.kind, spent)

    def some(self, limit: int) -> tuple[np.ndarray, np.ndarray]:
        with self._collection.index(self._model) as index:
            at = spread(len(index), limit)
            return index.ids[at], index.rows[at]


def spread(count: int, limit: int) -> np.ndarray:
    """At most `limit` of the numbers below `count`, evenly spread; 0: all."""
    if not limit or count <= limit:
        return np.arange(count)
    return np.linspace(0, count - 1, limit).astype(np.int64)
