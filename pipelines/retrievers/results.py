"""What retrieval gives back, in plain values: hits, matrices, figures. Imports no framework."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.core.specs import Made

Rows = tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True)
class Hit:
    """One picture or caption found, of a gallery sent along or of a collection."""

    index: int  # in what was searched; for a caption, of the first picture that bears it
    id: str  # the collection's own; "" for a picture sent along
    caption: str  # in the language asked for, else in the one there is; "" where there is none
    score: float  # cosine in [-1, 1], less what the negative words take away
    rerank_score: float | None  # the joint reader's probability that the two belong together; None: not asked
    rank_before: int  # its place by `score` alone; 1 is the best
    kept: bool  # above the cut-off


@dataclass(frozen=True, slots=True)
class Cutoff:
    """Where the hits end for this query. See retrievers/cutoff.py for the rule.

    `reason`: "gap" (the largest drop in the scores), "floor" (the scores sink into those of the rest), "none" (not
    asked for, or too few to tell). `mean` and `spread` are of the background: this query's scores with everything.
    """

    value: float
    reason: str
    kept: int
    mean: float = 0.0
    spread: float = 0.0


@dataclass(frozen=True, slots=True)
class Timing:
    """What searching cost, the model's reading of the query left out."""

    backend: str  # exact, or the kind of index
    vectors: int
    search_ms: float
    rerank_ms_per_pair: float  # opening and reading the pictures included; 0 where nothing was re-ranked


@dataclass(frozen=True, slots=True)
class Result:
    """`hits` best first; `similarity` one row of cosines with the hits, in their order, for each of `queries`."""

    hits: tuple[Hit, ...]
    queries: tuple[str, ...]  # text, image, and a "without: word" for each negative word
    similarity: Rows
    dimension: int
    reranker: str  # model id, "" where none was asked for
    cutoff: Cutoff
    timing: Timing
    made: Made


@dataclass(frozen=True, slots=True)
class Duel:
    """The same pairs judged both ways, [texts][pictures]: cosines in [-1, 1], probabilities in [0, 1].

    Milliseconds are per pair, once each side has been read by the model.
    """

    texts: tuple[str, ...]
    cosine: Rows
    fusion: Rows
    cosine_ms: float
    fusion_ms: float
    reranker: str
    made: Made


@dataclass(frozen=True, slots=True)
class Classified:
    """Zero-shot probabilities of the labels, over all templates and with each template alone; each row sums to 1."""

    labels: tuple[str, ...]
    probabilities: tuple[float, ...]
    templates: tuple[str, ...]
    per_template: Rows  # [templates][labels]
    made: Made


@dataclass(frozen=True, slots=True)
class Point:
    """A picture or a caption on the map; `x` along the direction of the greatest spread, `y` along the second."""

    x: float
    y: float
    kind: str  # picture | caption
    id: str
    caption: str


@dataclass(frozen=True, slots=True)
class Map:
    """The joint space in a plane. `gap` is the distance of the two kinds' means in the whole space (Liang et al. 2022,
    "Mind the Gap"), 0 where there is one kind only; `explained` the share of the variance the plane shows.
    """

    points: tuple[Point, ...]
    gap: float
    explained: float
    made: Made


@dataclass(frozen=True, slots=True)
class Figures:
    """Recall at 1, 5 and 10 and mean reciprocal rank of `queries` over `candidates`; `chance`: the same figures of a
    random order, computed exactly, by the same names (r@1, r@5, r@10, mrr).
    """

    r1: float
    r5: float
    r10: float
    mrr: float
    queries: int
    candidates: int
    chance: dict[str, float]


@dataclass(frozen=True, slots=True)
class Recalls:
    """How well a model finds the gallery's own pairs, in both directions; the re-ranked figures where asked for."""

    text_to_picture: Figures
    picture_to_text: Figures
    reranked_text_to_picture: Figures | None
    reranked_picture_to_text: Figures | None
    reranker: str
    ms_per_pair: float  # of re-ranking, once each side has been read
    made: Made
