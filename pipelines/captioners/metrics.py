"""BLEU-4 and ROUGE-L for captions with several references. Knows text only.

Words are lower-cased runs of letters and digits, every Chinese character its own word, punctuation dropped: the
figures differ a little from those of pycocoevalcap, which splits words with a Java tokenizer.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

_WORD = re.compile(r"[\u3400-\u9fff]|[^\W_\u3400-\u9fff]+(?:'[^\W_]+)?")
_BETA = 1.2  # recall counts more, as in the COCO caption evaluation


def words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def bleu4(captions: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Corpus BLEU-4 in [0, 1]: clipped n-gram precision, closest reference length, no smoothing.

    Papineni et al. 2002, "BLEU: a Method for Automatic Evaluation of Machine Translation".
    """
    matched, total, length, target = [0] * 4, [0] * 4, 0, 0
    for caption, many in zip(captions, references, strict=True):
        said, refs = words(caption), [words(reference) for reference in many]
        length += len(said)
        target += min((abs(len(ref) - len(said)), len(ref)) for ref in refs)[1]
        for n in range(1, 5):
            counts = _ngrams(said, n)
            most: Counter[tuple[str, ...]] = Counter()
            for ref in refs:
                most |= _ngrams(ref, n)
            matched[n - 1] += sum((counts & most).values())
            total[n - 1] += sum(counts.values())
    if not all(matched):
        return 0.0
    precision = sum(math.log(m / t) for m, t in zip(matched, total, strict=True)) / 4
    return math.exp(precision + min(0.0, 1 - target / length))


def rouge_l(captions: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Mean ROUGE-L in [0, 1]: F of the longest common subsequence, best recall and precision over the references.

    Lin 2004, "ROUGE: A Package for Automatic Evaluation of Summaries".
    """
    pairs = zip(captions, references, strict=True)
    scores = [_rouge(words(caption), [words(reference) for reference in many]) for caption, many in pairs]
    return sum(scores) / len(scores) if scores else 0.0


def _ngrams(said: list[str], n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(said[i : i + n]) for i in range(len(said) - n + 1))


def _rouge(said: list[str], refs: list[list[str]]) -> float:
    shared = [(_common(said, ref), len(ref)) for ref in refs if ref]
    if not said or not any(count for count, _ in shared):
        return 0.0
    precision = max(count / len(said) for count, _ in shared)
    recall = max(count / length for count, length in shared)
    return (1 + _BETA**2) * precision * recall / (recall + _BETA**2 * precision)


def _common(a: list[str], b: list[str]) -> int:
    """Length of the longest common subsequence."""
    row = [0] * (len(b) + 1)
    for x in a:
        before = row[:]
        for j, y in enumerate(b):
            row[j + 1] = before[j] + 1 if x == y else max(before[j + 1], row[j])
    return row[-1]
