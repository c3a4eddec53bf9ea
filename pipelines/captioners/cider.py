"""CIDEr-D: how close a caption is to its references, rare n-grams weighing more. Knows words only.

Vedantam et al. 2015, "CIDEr: Consensus-based Image Description Evaluation", in the variant that captioning papers
report: clipped counts, a penalty on the difference in length (sigma 6), times 10. A caption of fewer than four words
cannot reach 10, for it has no longer n-grams: two words that are right come to 5.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pipelines.captioners.ngrams import LONGEST, Gram, grams, words

_SIGMA = 6.0
_SCALE = 10.0

Vector = dict[Gram, float]


@dataclass(frozen=True, slots=True)
class Rarity:
    """In how many of `size` documents each n-gram occurs: what a match is worth."""

    documents: Mapping[Gram, int]
    size: int

    @classmethod
    def of(cls, captions: Iterable[str]) -> Rarity:
        """Every caption a document of its own: where there is no corpus of references, as for a single picture."""
        return cls.of_references([caption] for caption in captions)

    @classmethod
    def of_references(cls, references: Iterable[Sequence[str]]) -> Rarity:
        """All references of a picture together are one document, as in the paper."""
        sizes = range(1, LONGEST + 1)
        documents = [{gram for text in many for n in sizes for gram in grams(words(text), n)} for many in references]
        return cls(Counter(gram for document in documents for gram in document), len(documents))

    def worth(self, gram: Gram) -> float:
        """The inverse document frequency, natural logarithm; an n-gram of no document counts as if of one."""
        return math.log(max(1, self.size) / max(1, self.documents.get(gram, 0)))


def cider(said: Sequence[str], references: Sequence[Sequence[str]], rarity: Rarity) -> float:
    """Of one caption, in [0, 10]: the mean over its references (at least one), all as words."""
    ours = _vectors(said, rarity)
    return _SCALE * sum(_alike(ours, said, reference, rarity) for reference in references) / len(references)


def _alike(ours: list[Vector], said: Sequence[str], reference: Sequence[str], rarity: Rarity) -> float:
    penalty = math.exp(-((len(said) - len(reference)) ** 2) / (2 * _SIGMA**2))
    pairs = zip(ours, _vectors(reference, rarity), strict=True)
    return penalty * sum(_cosine(left, right) for left, right in pairs) / LONGEST


def _vectors(said: Sequence[str], rarity: Rarity) -> list[Vector]:
    """For n from 1: the count of each n-gram times its worth."""
    return [{gram: n * rarity.worth(gram) for gram, n in grams(said, size).items()} for size in range(1, LONGEST + 1)]


def _cosine(left: Vector, right: Vector) -> float:
    """Of the two, where saying an n-gram more often than the reference wins nothing."""
    lengths = math.hypot(*left.values()) * math.hypot(*right.values())
    if not lengths:
        return 0.0
    return sum(min(weight, right[gram]) * right[gram] for gram, weight in left.items() if gram in right) / lengths
