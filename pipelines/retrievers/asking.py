"""A query as a direction, and what negative words take away from its scores. Plain numpy.

Encoders do not read "without" (Alhamoud et al. 2025, "Vision-Language Models Do Not Understand Negation"), so what is
unwanted is asked for on its own and subtracted. Not as it is: "fruit" and "apple" share most of their direction, so a
plain difference (Rocchio 1971) takes the query away with the unwanted thing, and rewards whatever is most unlike it.
Here only that part of the unwanted direction counts that the query does not explain, and a candidate loses what it
shows of it beyond the middle of the gallery; one that shows less loses nothing. On the shipped gallery, with keywords
as queries and one of their captions unwanted, this kept more of what was wanted at the same number of unwanted
pictures than the plain difference, its positive part, and projecting the unwanted direction out of the query.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked with: names and unit rows [n, d] of text, picture and unwanted things; the direction of the
    first two together [d]; the rows of the unwanted [m, d].
    """

    names: tuple[str, ...]
    rows: np.ndarray
    query: np.ndarray
    unwanted: np.ndarray


def compose(
    said: Sequence[str], texts: np.ndarray | None, picture: np.ndarray | None, unwanted: Sequence[str], weight: float
) -> Asked:
    """From the rows `texts` of what was said (one or none) and of the unwanted things after it, and a picture's [1, d].

    `weight` in [0, 1] is the text's, where there is a picture as well.
    """
    own = [] if texts is None else [texts[: len(said)]]
    sides = [rows for rows in (*own, *([] if picture is None else [picture])) if len(rows)]
    names = [*(["text"] if said else []), *(["image"] if picture is not None else [])]
    query = blend(sides[0][0], sides[1][0], weight) if len(sides) > 1 else sides[0][0]
    against = np.empty((0, len(query)), np.float32) if texts is None else texts[len(said) :]
    names += [f"without: {thing}" for thing in unwanted]
    return Asked(tuple(names), np.concatenate([*sides, against]), query, against)


def blend(text: np.ndarray, picture: np.ndarray, weight: float) -> np.ndarray:
    """The unit direction between unit vectors [d]: the weighted mean, made a unit vector again."""
    total = weight * text + (1 - weight) * picture
    length = np.linalg.norm(total)
    return total / length if length else text


def penalty(rows: np.ndarray, query: np.ndarray, unwanted: np.ndarray) -> np.ndarray:
    """What each of n candidates `rows` [n, d] loses, [n], for unwanted directions [m, d] beside a unit `query` [d].

    Only the unwanted thing a candidate shows most of counts.
    """
    beside = unwanted - np.outer(unwanted @ query, query)
    shown = rows @ beside.T
    return np.maximum(shown - np.median(shown, axis=0), 0).max(axis=1)


def words(text: str) -> tuple[str, ...]:
    """The things in a list separated by commas, of either script."""
    parts = text.replace("，", ",").replace("、", ",").replace(";", ",").replace("；", ",").split(",")
    return tuple(dict.fromkeys(part.strip() for part in parts if part.strip()))
