"""Nearest neighbours among unit vectors: one interface, exact below EXACT_UP_TO and quantized above.

Knows numbers only, neither pictures nor visitors. Not safe to use from several threads at once: its owner locks.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Protocol

import numpy as np

if TYPE_CHECKING:
    import faiss

EXACT_UP_TO = 20_000  # rows: an exact search of so many takes about a millisecond (python -m benchmarks.retrieval)
K_FACTOR = 20  # candidates looked at exactly for each one asked for …
CANDIDATES = 200  # … and at least so many
CODED_TOGETHER = 4  # dimensions to one code
SAMPLE = 20_000  # rows that the turn before coding is found from
GROWTH = 4  # the codebooks are trained anew when there are this many times the rows they were trained on
NOTHING = -1  # the id where fewer than k were found

Found = tuple[np.ndarray, np.ndarray]  # scores float32 [queries, k], ids int64 [queries, k], best first


class Index(Protocol):
    """What a backend has to give. Ids are the caller's, non-negative, each at most once; rows have length 1.

    A vector database on a server fits, too. With PostgreSQL and pgvector, for example: `add` is an INSERT of
    (id, embedding), `remove` a DELETE … WHERE id = ANY(…), `search` SELECT id, 1 - (embedding <=> query) … ORDER BY
    embedding <=> query LIMIT k, `ids` and `rows` a SELECT, `len` a COUNT; `save` has nothing to do, the rows are where
    they stay. Qdrant's upsert, delete, query_points and scroll do the same. `exact` is what the database promises.
    """

    kind: str  # a word the page can show
    exact: bool  # whether `search` cannot miss a neighbour
    dimension: int

    def __len__(self) -> int: ...

    @property
    def ids(self) -> np.ndarray:
        """Of all rows, in any order: int64 [n]."""

    @property
    def bytes(self) -> int:
        """Memory the rows take here."""

    @property
    def rows(self) -> np.ndarray:
        """The rows themselves, in the order of `ids`: float32 [n, dimension], for those who need all scores."""

    def add(self, ids: np.ndarray, rows: np.ndarray) -> None:
        """Take rows float32 [n, dimension] under ids [n] that are not there yet."""

    def remove(self, ids: np.ndarray) -> int:
        """Forget those; unknown ones are no error. How many went."""

    def search(self, queries: np.ndarray, k: int) -> Found:
        """The k rows of largest inner product with each of queries float32 [q, dimension]. Scores are always exact.

        Where there are fewer, NOTHING and -inf.
        """

    def save(self, path: Path) -> None:
        """Write what `load` reads."""


class Exact:
    """Every row is compared: one matrix product, which at these sizes is as fast as faiss.IndexFlatIP."""

    kind: ClassVar[str] = "exact"
    exact: ClassVar[bool] = True

    def __init__(self, dimension: int) -> None:
        self.dimension = dimension
        self._ids = np.empty(0, np.int64)
        self._rows = np.empty((0, dimension), np.float32)

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def ids(self) -> np.ndarray:
        return self._ids

    @property
    def bytes(self) -> int:
        return self._rows.nbytes + self._ids.nbytes

    @property
    def rows(self) -> np.ndarray:
        return self._rows

    def add(self, ids: np.ndarray, rows: np.ndarray) -> None:
        self._rows = np.concatenate([self._rows, rows.astype(np.float32, copy=False)])
        self._ids = np.concatenate([self._ids, np.asarray(ids, np.int64)])

    def remove(self, ids: np.ndarray) -> int:
        kept = ~np.isin(self._ids, ids)
        gone = len(kept) - int(kept.sum())
        self._ids, self._rows = self._ids[kept], self._rows[kept]
        return gone

    def search(self, queries: np.ndarray, k: int) -> Found:
        scores = queries @ self._rows.T
        return _padded(*_best(scores, self._ids, min(k, len(self))), k)

    def save(self, path: Path) -> None:
        _write(path, {"ids": self._ids, "rows": self._rows}, self.kind)


class Quantized:
    """Product quantization to 4 bits for each 4 dimensions, scanned in registers; the best candidates exactly.

    Jégou et al. 2011, "Product Quantization for Nearest Neighbor Search"; André et al. 2017, "Accelerated Nearest
    Neighbor Search with Quick ADC", as faiss does it, after a turn that spreads the variance (`_turn`). No graph: it
    is built in a second or two, and rows come and go.
    """

    kind: ClassVar[str] = "quantized"
    exact: ClassVar[bool] = False

    def __init__(self, dimension: int) -> None:
        if not fits(dimension):
            raise ValueError(f"{dimension} dimensions are not a multiple of 4")
        self.dimension = dimension
        self._ids = np.empty(0, np.int64)
        self._trained_on = 0
        self._index: faiss.IndexRefineFlat | None = None

    def __len__(self) -> int:
        return len(self._ids)

    @property
    def ids(self) -> np.ndarray:
        return self._ids

    @property
    def bytes(self) -> int:
        return len(self) * (self.dimension * 4 + self.dimension // 8) + self._ids.nbytes

    @property
    def rows(self) -> np.ndarray:
        if self._index is None:
            return np.empty((0, self.dimension), np.float32)
        return _parts(self._index)[1].reconstruct_n(0, len(self))  # type: ignore[no-any-return]

    def add(self, ids: np.ndarray, rows: np.ndarray) -> None:
        """Take rows; the first, and too many new ones, train the codebooks: that takes a second."""
        rows = np.ascontiguousarray(rows, np.float32)
        if self._index is None or len(self) + len(rows) > GROWTH * self._trained_on:
            if self._index is not None:
                rows, ids = np.concatenate([self.rows, rows]), np.concatenate([self._ids, ids])
            self._index, self._ids = _trained(self.dimension, rows), self._ids[:0]
            self._trained_on = len(rows)
        self._index.add(rows)
        self._ids = np.concatenate([self._ids, np.asarray(ids, np.int64)])

    def remove(self, ids: np.ndarray) -> int:
        gone = np.isin(self._ids, ids)
        if self._index is None or not gone.any():
            return 0
        turned, exact = _parts(self._index)
        for part in (turned, exact):  # both close the gaps in order, so that a place stays the same row in both
            part.remove_ids(np.flatnonzero(gone))
        _tidy_end(turned, exact)
        self._index.ntotal = exact.ntotal
        self._ids = self._ids[~gone]
        return int(gone.sum())

    def search(self, queries: np.ndarray, k: int) -> Found:
        import faiss

        if self._index is None:
            return _padded(*_best(np.empty((len(queries), 0), np.float32), self._ids, 0), k)
        wanted = faiss.IndexRefineSearchParameters(k_factor=max(K_FACTOR, CANDIDATES / k))
        scores, places = self._index.search(np.ascontiguousarray(queries, np.float32), k, params=wanted)
        missing = places < 0
        ids = np.where(missing, NOTHING, self._ids[places])
        return np.where(missing, -np.inf, scores).astype(np.float32), ids

    def save(self, path: Path) -> None:
        import faiss

        data = np.empty(0, np.uint8) if self._index is None else faiss.serialize_index(self._index)
        _write(path, {"ids": self._ids, "faiss": data, "trained_on": np.array(self._trained_on)}, self.kind)


def fits(dimension: int) -> bool:
    """Whether vectors of that many dimensions can be quantized."""
    return dimension % CODED_TOGETHER == 0


def suits(index: Index, count: int) -> bool:
    """Whether an index is still the kind that `make` would choose for so many rows."""
    return type(index) is _kind(index.dimension, count)


def make(dimension: int, count: int) -> Index:
    """An empty index of the kind that suits about `count` rows."""
    return _kind(dimension, count)(dimension)


def load(path: Path) -> Index:
    """What `save` wrote. Raises OSError or ValueError where the file is not whole."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            arrays, kind = {name: file.get_tensor(name) for name in file.keys()}, file.metadata()["kind"]  # noqa: SIM118
    except SafetensorError as e:
        raise ValueError(path.name) from e
    if kind == Exact.kind:
        exact = Exact(arrays["rows"].shape[1])
        exact.add(arrays["ids"], arrays["rows"])
        return exact
    import faiss

    made = faiss.deserialize_index(arrays["faiss"])
    quantized = Quantized(made.d)
    quantized._index, quantized._ids = made, arrays["ids"]
    quantized._trained_on = int(arrays["trained_on"])
    return quantized


def _kind(dimension: int, count: int) -> type[Exact | Quantized]:
    return Quantized if count > EXACT_UP_TO and fits(dimension) else Exact


def _trained(dimension: int, rows: np.ndarray) -> faiss.IndexRefineFlat:
    import faiss

    parts = dimension // CODED_TOGETHER
    turn = faiss.LinearTransform(dimension, dimension, False)
    faiss.copy_array_to_vector(_turn(rows[:: 1 + len(rows) // SAMPLE], parts).ravel(), turn.A)
    turn.is_trained = True
    codes = faiss.IndexPQFastScan(dimension, parts, 4, faiss.METRIC_INNER_PRODUCT)
    index = faiss.IndexRefineFlat(faiss.IndexPreTransform(turn, codes))
    index.train(rows)
    return index


def _turn(rows: np.ndarray, parts: int) -> np.ndarray:
    """A rotation [d, d] after which each of the parts has about the same product of variances.

    Learnt vectors fill few of their dimensions, and 4 bits are best spent evenly: Ge et al. 2013, "Optimized Product
    Quantization", the solution for normally distributed data.
    """
    dimension = rows.shape[1]
    variances, axes = np.linalg.eigh(rows.T @ rows / len(rows))
    sizes = np.log(np.maximum(variances, 1e-12)) - np.log(1e-12)
    chosen: list[list[int]] = [[] for _ in range(parts)]
    for axis in range(dimension - 1, -1, -1):  # the widest first, each to the part that has least so far
        open_parts = [part for part in chosen if len(part) < dimension // parts]
        min(open_parts, key=lambda part: sum(sizes[each] for each in part)).append(axis)
    return np.ascontiguousarray(axes[:, [axis for part in chosen for axis in part]].T, np.float32)


def _parts(index: faiss.IndexRefineFlat) -> tuple[faiss.IndexPreTransform, faiss.IndexFlat]:
    import faiss

    return faiss.downcast_index(index.base_index), faiss.downcast_index(index.refine_index)


def _tidy_end(turned: faiss.IndexPreTransform, exact: faiss.IndexFlat) -> None:
    """Write the last, half-filled block of codes anew: faiss 1.15 leaves removed rows' bits there, and the next rows
    added would be mixed with them."""
    import faiss

    codes = faiss.downcast_index(turned.index)
    rows = codes.ntotal
    whole = rows - rows % codes.bbs
    codes.codes.resize(whole * codes.M2 // 2)
    codes.ntotal = turned.ntotal = whole
    if rows > whole:
        turned.add(exact.reconstruct_n(whole, rows - whole))


def _best(scores: np.ndarray, ids: np.ndarray, k: int) -> Found:
    """The k best columns of each row, in order."""
    if k < scores.shape[1]:
        places = np.argpartition(scores, -k, axis=1)[:, -k:] if k else np.empty((len(scores), 0), np.int64)
        scores, ids = np.take_along_axis(scores, places, axis=1), ids[places]
    else:
        ids = np.broadcast_to(ids, scores.shape)
    order = np.argsort(-scores, axis=1, kind="stable")
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(ids, order, axis=1)


def _padded(scores: np.ndarray, ids: np.ndarray, k: int) -> Found:
    short = ((0, 0), (0, k - scores.shape[1]))
    return np.pad(scores, short, constant_values=-np.inf), np.pad(ids, short, constant_values=NOTHING)


def _write(path: Path, arrays: dict[str, np.ndarray], kind: str) -> None:
    """The file is there whole or not at all."""
    from safetensors.numpy import save_file

    part = path.with_name(f".{path.name}.new")
    save_file(arrays, part, metadata={"kind": kind})
    part.replace(path)
