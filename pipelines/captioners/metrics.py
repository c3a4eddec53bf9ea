"""Figures of captions against references: over a corpus, and of one caption with the words that counted.

BLEU: Papineni et al. 2002, corpus BLEU with clipped n-gram precision and the closest reference length, no smoothing
(so 0 for a caption of fewer than n words). ROUGE-L: Lin 2004. METEOR and CIDEr-D: meteor.py and cider.py. CLIP-score:
Hessel et al. 2021. All but CLIP-score and CIDEr are in [0, 1]. Checked against pycocoevalcap and the METEOR program.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipelines.captioners.cider import Rarity, cider
from pipelines.captioners.meteor import Matched, match, stemmer
from pipelines.captioners.ngrams import LONGEST, Gram, grams, most, placed, words

__all__ = ["Compared", "Rarity", "Span", "clip_score", "compare", "figures"]

_BETA = 1.2  # of ROUGE-L: recall counts more, as in the COCO caption evaluation
_CLIP = 2.5

Words = Sequence[str]


@dataclass(frozen=True, slots=True)
class Span:
    """A run of `n` words of the caption that a reference has too: its characters from `start` up to `end`."""

    start: int
    end: int
    n: int


@dataclass(frozen=True, slots=True)
class Compared:
    """One caption against its references. `matched`: the longest runs, in order, no two of them overlapping."""

    bleu1: float
    bleu2: float
    bleu3: float
    bleu4: float
    meteor: float  # exact and stem modules only
    rouge_l: float
    cider: float
    matched: tuple[Span, ...]


def figures(captions: Sequence[str], references: Sequence[Sequence[str]]) -> dict[str, float]:
    """bleu1 to bleu4, meteor, rouge_l and cider over a corpus, each caption with one reference or more.

    CIDEr's rarity is that of these references; over a single picture, where nothing is rare, it is 0.
    """
    rarity = Rarity.of_references(references)
    pairs = [(words(said), [words(text) for text in many]) for said, many in zip(captions, references, strict=True)]
    return _figures(pairs, rarity)


def compare(caption: str, references: Sequence[str], rarity: Rarity) -> Compared:
    """One caption against its references (at least one)."""
    refs = [words(reference) for reference in references]
    return Compared(**_figures([(words(caption), refs)], rarity), matched=_matched(caption, refs))


def clip_score(cosine: float) -> float:
    """From the cosine of picture and caption: 0 for unrelated ones, about 0.8 for good ones under CLIP."""
    return _CLIP * max(cosine, 0.0)


def _figures(pairs: Sequence[tuple[Words, Sequence[Words]]], rarity: Rarity) -> dict[str, float]:
    bleu = dict(zip(("bleu1", "bleu2", "bleu3", "bleu4"), _bleu(pairs), strict=True))
    stem = stemmer()
    meteor = sum((match(said, refs, stem) for said, refs in pairs), Matched()).score
    rouge = sum(_rouge(said, refs) for said, refs in pairs) / len(pairs)
    return {
        **bleu,
        "meteor": meteor,
        "rouge_l": rouge,
        "cider": sum(cider(said, refs, rarity) for said, refs in pairs) / len(pairs),
    }


def _bleu(pairs: Sequence[tuple[Words, Sequence[Words]]]) -> Iterator[float]:
    """BLEU-1 to BLEU-4."""
    length = sum(len(said) for said, _ in pairs)
    target = sum(min((abs(len(ref) - len(said)), len(ref)) for ref in refs)[1] for said, refs in pairs)
    brevity = min(0.0, 1 - target / length) if length else 0.0
    logarithm = 0.0
    for n in range(1, LONGEST + 1):
        shared = sum((grams(said, n) & most(refs, n)).total() for said, refs in pairs)
        said = sum(max(0, len(said) - n + 1) for said, _ in pairs)
        logarithm += math.log(shared / said) if shared else -math.inf
        yield math.exp(logarithm / n + brevity)


def _rouge(said: Words, refs: Sequence[Words]) -> float:
    """F of the longest common subsequence, best recall and precision over the references."""
    shared = [(_common(said, ref), len(ref)) for ref in refs if ref]
    if not any(count for count, _ in shared):
        return 0.0
    precision = max(count / len(said) for count, _ in shared)
    recall = max(count / length for count, length in shared)
    return (1 + _BETA**2) * precision * recall / (recall + _BETA**2 * precision)


def _common(a: Words, b: Words) -> int:
    """Length of the longest common subsequence."""
    row = [0] * (len(b) + 1)
    for x in a:
        before = row[:]
        for j, y in enumerate(b):
            row[j + 1] = before[j] + 1 if x == y else max(before[j + 1], row[j])
    return row[-1]


def _matched(caption: str, refs: Sequence[Words]) -> tuple[Span, ...]:
    """The longest runs first, as long as no word is lit more often than a reference has it: the words in all are
    those that BLEU-1 counts.
    """
    said = placed(caption)
    left: Counter[Gram] = most(refs, 1)
    free = [True] * len(said)
    spans = []
    for start, n in _runs([word for word, _, _ in said], refs):
        run = Counter((word,) for word, _, _ in said[start : start + n])
        if all(free[start : start + n]) and run <= left:
            left -= run
            free[start : start + n] = [False] * n
            spans.append(Span(said[start][1], said[start + n - 1][2], n))
    return tuple(sorted(spans, key=lambda span: span.start))


def _runs(said: Words, refs: Sequence[Words]) -> Iterator[tuple[int, int]]:
    """Where n words of the caption stand in a reference as well: (first word, n), the longest first."""
    for n in range(min(len(said), max(map(len, refs))), 0, -1):
        known = most(refs, n)
        yield from ((start, n) for start in range(len(said) - n + 1) if tuple(said[start : start + n]) in known)
