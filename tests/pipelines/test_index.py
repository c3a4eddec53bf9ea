"""Indices of vectors: exact and quantized answer alike, rows come and go, files come back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from pipelines.retrievers import index as indices
from pipelines.retrievers.index import NOTHING, Exact, Index, Quantized, load, make, suits

D = 32


def rows(number: int, seed: int = 0) -> np.ndarray:
    """Unit rows that fill an eighth of the dimensions and a little of the others, as learnt ones do."""
    random = np.random.default_rng(seed)
    made = np.tanh(random.normal(size=(number, D // 4)) @ np.random.default_rng(9).normal(size=(D // 4, D)))
    made += 0.1 * random.normal(size=(number, D))
    return (made / np.linalg.norm(made, axis=1, keepdims=True)).astype(np.float32)


def brute(vectors: np.ndarray, ids: np.ndarray, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    scores = queries @ vectors.T
    order = np.argsort(-scores, axis=1)[:, :k]
    return np.take_along_axis(scores, order, axis=1), ids[order]


def recall(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(found, wanted, strict=True)]))


@pytest.fixture(params=[Exact, Quantized])
def index(request: pytest.FixtureRequest) -> Index:
    made: Index = request.param(D)
    return made


def test_finds_what_comparing_all_finds(index: Index) -> None:
    vectors, ids, queries = rows(3000), np.arange(3000) * 7, rows(50, seed=1)
    index.add(ids, vectors)
    scores, found = index.search(queries, 10)
    wanted_scores, wanted = brute(vectors, ids, queries, 10)
    assert recall(found, wanted) >= (1.0 if index.exact else 0.98)
    assert np.abs(scores[:, 0] - wanted_scores[:, 0]).max() < 1e-5
    assert (np.diff(scores, axis=1) <= 0).all()


def test_rows_come_and_go(index: Index) -> None:
    """Scores stay exact: a row whose place got mixed up in either part would be found with another's score."""
    vectors, ids, queries = rows(2000), np.arange(2000) + 10, rows(20, seed=1)
    index.add(ids[:1200], vectors[:1200])
    gone = np.concatenate([ids[5:1000:3], [99_999]])
    assert index.remove(gone) == len(gone) - 1
    index.add(ids[1200:], vectors[1200:])
    kept = ~np.isin(ids, gone)
    assert len(index) == kept.sum() and set(index.ids) == set(ids[kept])
    assert np.array_equal(index.rows, vectors[index.ids - 10])
    scores, found = index.search(queries, 5)
    assert recall(found, brute(vectors[kept], ids[kept], queries, 5)[1]) >= (1.0 if index.exact else 0.95)
    own = np.einsum("qd,qkd->qk", queries, vectors[found - 10])
    assert np.abs(own - scores).max() < 1e-5


def test_a_saved_index_comes_back_and_goes_on(index: Index, tmp_path: Path) -> None:
    index.add(np.arange(500), rows(500))
    index.save(tmp_path / "index")
    back = load(tmp_path / "index")
    assert (back.kind, back.dimension, len(back)) == (index.kind, D, 500)
    back.remove(np.arange(100))
    back.add(np.arange(900, 950), rows(50, seed=3))
    assert back.search(rows(50, seed=3), 1)[1][:, 0].tolist() == list(range(900, 950))
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


@pytest.mark.parametrize("gone", [1, 31, 32, 33, 400])
def test_rows_added_after_a_removal_are_found(index: Index, gone: int) -> None:
    """faiss leaves bits of removed rows behind in the last block of codes."""
    index.add(np.arange(700), rows(700))
    index.remove(np.arange(gone))
    index.add(np.arange(900, 950), rows(50, seed=3))
    assert index.search(rows(50, seed=3), 1)[1][:, 0].tolist() == list(range(900, 950))
    assert index.search(rows(700)[gone:], 1)[1][:, 0].tolist() == list(range(gone, 700))


def test_more_asked_for_than_there_is(index: Index) -> None:
    assert index.search(rows(2), 3)[1].tolist() == [[NOTHING] * 3] * 2
    index.add(np.arange(40), rows(40))
    scores, ids = index.search(rows(1), 50)
    assert sorted(ids[0, :40]) == list(range(40))
    assert set(ids[0, 40:]) == {NOTHING} and np.isneginf(scores[0, 40:]).all()


def test_an_index_emptied_can_be_filled_again(index: Index) -> None:
    index.add(np.arange(100), rows(100))
    assert index.remove(np.arange(100)) == 100 and len(index) == 0
    index.add(np.arange(100), rows(100))
    assert index.search(rows(100)[7:8], 1)[1].item() == 7


def test_codebooks_follow_what_comes_later() -> None:
    """Trained on one corner, then four times as many rows from everywhere."""
    corner, rest = rows(400), rows(4000, seed=5)
    corner[:, 4:] *= 0.01
    corner /= np.linalg.norm(corner, axis=1, keepdims=True)
    index, ids = Quantized(D), np.arange(4400)
    index.add(ids[:400], corner)
    index.add(ids[400:], rest)
    everything, queries = np.concatenate([corner, rest]), rows(50, seed=6)
    assert recall(index.search(queries, 10)[1], brute(everything, ids, queries, 10)[1]) >= 0.98


def test_the_kind_follows_the_number_of_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(indices, "EXACT_UP_TO", 100)
    assert [make(D, count).kind for count in (0, 100, 101)] == ["exact", "exact", "quantized"]
    assert make(30, 101).kind == "exact"  # cannot be cut into fours
    assert suits(make(D, 50), 100) and not suits(make(D, 50), 101)
    with pytest.raises(ValueError, match="multiple of 4"):
        Quantized(30)


def test_a_file_cut_short_is_refused(tmp_path: Path) -> None:
    index = Exact(D)
    index.add(np.arange(50), rows(50))
    index.save(tmp_path / "index")
    whole = (tmp_path / "index").read_bytes()
    (tmp_path / "index").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="index"):
        load(tmp_path / "index")
