"""A caption as words and n-grams, for the figures. Knows text only.

Words are lower-cased runs of letters and digits, every Chinese character its own word, punctuation dropped: the
figures can differ a little from those of pycocoevalcap, which splits words with the Penn Treebank tokenizer.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

LONGEST = 4  # words in an n-gram: BLEU-4 and CIDEr go no further

_WORD = re.compile(r"[\u3400-\u9fff]|[^\W_\u3400-\u9fff]+(?:['’][^\W_]+)?")

Gram = tuple[str, ...]


def words(text: str) -> list[str]:
    return [word for word, _, _ in placed(text)]


def placed(text: str) -> list[tuple[str, int, int]]:
    """The words with the first and the last-but-one character of each: (word, start, end)."""
    return [(found[0].lower().replace("’", "'"), found.start(), found.end()) for found in _WORD.finditer(text)]


def grams(said: Sequence[str], n: int) -> Counter[Gram]:
    """How often each run of n words occurs."""
    return Counter(tuple(said[i : i + n]) for i in range(len(said) - n + 1))


def most(references: Sequence[Sequence[str]], n: int) -> Counter[Gram]:
    """How often each run of n words occurs in the reference that has it most often."""
    found: Counter[Gram] = Counter()
    for reference in references:
        found |= grams(reference, n)
    return found
