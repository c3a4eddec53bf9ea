"""How well a model finds the pictures that belong to a text, and the text that belongs to a picture.

A text is relevant to every picture that bears it as its caption, case aside; a picture has one caption among the
distinct ones. Knows vectors, matchers and rows of files; not how models are leased.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from pipelines import media
from pipelines.core.errors import InvalidInput
from pipelines.core.params import knob
from pipelines.core.registry import Lease
from pipelines.core.streaming import Job
from pipelines.retrievers import reading
from pipelines.retrievers.places import distinct
from pipelines.retrievers.ranking import figures, rank
from pipelines.retrievers.results import Figures
from pipelines.retrievers.searching import spread

if TYPE_CHECKING:
    from PIL.Image import Image

    from pipelines.retrievers.matching import Judged

DEPTH = 20  # of the best by cosine are re-ranked
Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class How:
    """What is evaluated: by cosine alone, with the best DEPTH re-ranked by the joint reader, or both side by side."""

    method: str = knob("cosine", choices=("cosine", "fusion", "both"))
    language: str = knob("auto", choices=("auto", "en", "zh"))  # of the texts; auto: English
    limit: int = knob(0, low=0, high=10_000_000, step=1)  # pictures, evenly spread over the file; 0: all


OPTIONS = tuple(How.__dataclass_fields__)


@dataclass(frozen=True, slots=True)
class Pairing:
    """Which texts and pictures belong together, and which of them are asked with."""

    texts: tuple[str, ...]  # distinct
    pictures_of: tuple[tuple[int, ...], ...]  # of each text
    text_of: dict[int, int]  # of each picture that has one
    asked_texts: tuple[int, ...]
    asked_pictures: tuple[int, ...]

    @classmethod
    def of(cls, captions: Sequence[str], asked: Callable[[int], bool] = lambda _: True, limit: int = 0) -> Pairing:
        """From the caption of each picture, "" for none. `asked(picture)`: it and its text are asked with; `limit`
        queries each way, evenly spread (0: all). Raises InvalidInput if that leaves nothing.
        """
        groups = distinct(captions).values()
        texts = tuple(captions[first] for first, _ in groups)
        pictures_of = tuple(tuple(members) for _, members in groups)
        text_of = {picture: text for text, members in enumerate(pictures_of) for picture in members}
        asked_pictures = [picture for picture in sorted(text_of) if asked(picture)]
        asked_texts = sorted({text_of[picture] for picture in asked_pictures})
        if not asked_texts:
            raise InvalidInput("no_captions_here")
        return cls(texts, pictures_of, text_of, some(asked_texts, limit), some(asked_pictures, limit))


@dataclass(frozen=True, slots=True)
class Reranked:
    """Both directions with the best DEPTH re-ordered; the milliseconds a pair took, once each side had been read."""

    text_to_picture: Figures
    picture_to_text: Figures
    milliseconds: float


Judge = Callable[[Sequence[tuple[int, int]]], "Judged"]  # (text, picture) pairs, by number


def both_ways(pairing: Pairing, scores: np.ndarray) -> tuple[Figures, Figures]:
    """Text to picture and picture to text, from cosines [texts, pictures]."""
    return _figures(
        pairing,
        [rank(scores[text], pairing.pictures_of[text]) for text in pairing.asked_texts],
        [rank(scores[:, picture], [pairing.text_of[picture]]) for picture in pairing.asked_pictures],
        scores.shape,
    )


def reranked(pairing: Pairing, scores: np.ndarray, judge: Judge) -> Reranked:
    """The same after the best DEPTH of each query were judged; what lies deeper keeps its place."""
    of_text = {text: _best(scores[text]) for text in pairing.asked_texts}
    of_picture = {picture: _best(scores[:, picture]) for picture in pairing.asked_pictures}
    pairs = {(text, picture) for text, best in of_text.items() for picture in best}
    pairs |= {(text, picture) for picture, best in of_picture.items() for text in best}
    ordered = sorted(pairs)
    verdicts = judge(ordered)
    judged = dict(zip(ordered, verdicts.scores, strict=True))
    to_pictures = [
        rank(_lifted(scores[text], {p: judged[text, p] for p in best}), pairing.pictures_of[text])
        for text, best in of_text.items()
    ]
    to_texts = [
        rank(_lifted(scores[:, picture], {t: judged[t, picture] for t in best}), [pairing.text_of[picture]])
        for picture, best in of_picture.items()
    ]
    return Reranked(*_figures(pairing, to_pictures, to_texts, scores.shape), 1e3 * verdicts.seconds / len(pairs))


def evaluate(base: Lease, judge: Lease | None, path: Path, how: How, job: Job) -> dict[str, float]:
    """Over a file of captioned pictures: every picture is in the gallery, with or without a caption of the language.

    `judge`: the joint reader, unless the method is cosine. Names: t2p_ and p2t_ (cosine), fusion_t2p_ … (re-ranked),
    chance_t2p_ … (a random order). Raises InvalidInput for a bad line or no caption in the language.
    """
    from pipelines.picture_rows import open_picture
    from pipelines.picture_rows import read as read_rows

    rows, language = some(read_rows(path), how.limit), "zh" if how.language == "zh" else "en"
    pairing = Pairing.of([row.caption(language) for row in rows])
    began = time.perf_counter()
    with media.Decoder() as decoder:
        seen = reading.pictures(base, (open_picture(path, row, decoder) for row in rows), len(rows), job)
        scores = reading.texts(base, pairing.texts, job) @ seen.T
        ways = dict(zip(("t2p", "p2t"), both_ways(pairing, scores), strict=True))
        seconds = time.perf_counter() - began
        found = {
            "n": float(len(rows)),
            "n_texts": float(len(pairing.texts)),
            "n_captioned": float(len(pairing.text_of)),
        }
        if how.method != "fusion":
            found |= flat("t2p", ways["t2p"]) | flat("p2t", ways["p2t"])
        if judge is not None:
            read = reader(base, judge, pairing.texts, lambda at: open_picture(path, rows[at], decoder), job)
            judged = reranked(pairing, scores, read)
            found |= flat("fusion_t2p", judged.text_to_picture) | flat("fusion_p2t", judged.picture_to_text)
            found["fusion_ms_per_pair"] = judged.milliseconds
    found |= {f"chance_{way}_{name}": value for way, of in ways.items() for name, value in of.chance.items()}
    return {**found, "seconds_per_item": seconds / len(rows)}


def flat(way: str, of: Figures) -> dict[str, float]:
    """Figures as flat numbers."""
    return {f"{way}_r@1": of.r1, f"{way}_r@5": of.r5, f"{way}_r@10": of.r10, f"{way}_mrr": of.mrr}


def reader(base: Lease, judge: Lease, texts: Sequence[str], picture: Callable[[int], Image], job: Job) -> Judge:
    """The joint reader over these texts and pictures, which pairs name by number."""
    from pipelines.retrievers import matching

    matcher = matching.MATCHERS[judge.spec.options["cls"]]
    sides = matching.Sides(base.model, judge.model)
    return lambda pairs: matching.judge(matcher, sides, texts, picture, pairs, job)


def _figures(
    pairing: Pairing, to_pictures: Sequence[int], to_texts: Sequence[int], shape: tuple[int, ...]
) -> tuple[Figures, Figures]:
    texts, pictures = shape
    relevant = [len(pairing.pictures_of[text]) for text in pairing.asked_texts]
    return figures(to_pictures, relevant, pictures), figures(to_texts, [1] * len(to_texts), texts)


def _best(scores: np.ndarray) -> list[int]:
    return np.argsort(-scores, kind="stable")[:DEPTH].tolist()


def _lifted(scores: np.ndarray, judged: dict[int, float]) -> np.ndarray:
    """The scores with the judged ones in the order of their verdicts, above all others: cosines end at 1."""
    lifted = scores.astype(np.float64)
    lifted[list(judged)] = 2 + np.array(list(judged.values()))
    return lifted


def some(rows: Sequence[Row], limit: int) -> tuple[Row, ...]:
    """At most `limit` of them, evenly spread; 0: all."""
    return tuple(rows[at] for at in spread(len(rows), limit))
