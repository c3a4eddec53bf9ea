"""English words to the phonemes that hibari and Kokoro know, by hibari's dictionary and rules. Knows no figures."""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

_OPENING = threading.Lock()
SOUNDS = frozenset("AIOQSTWYabdefhijklmnopstuvwzæðŋɐɑɒɔəɚɛɜɡɪɹɾʃʊʌʒʔʤʧθᵊᵻˈˌː ")
_VOWELS = frozenset("AIOQWYaeiouæɐɑɒɔəɚɛɜɪʊʌᵊᵻ")


@dataclass(frozen=True, slots=True)
class Word:
    """A word to pronounce; `mark`: the punctuation after it, `fixed`: its phonemes if they are given, `spelt`: letter
    by letter."""

    text: str
    mark: str = ""
    fixed: str = ""
    spelt: bool = False


Speller = Callable[[Sequence[Word]], list[str]]


@functools.cache
def _opened() -> Any:
    from hibari.g2p import G2P

    return G2P()


def dictionary() -> Any:
    """The American hibari.g2p.G2P of this process, read on first use (half a second and 105 MB)."""
    with _OPENING:
        return _opened()


def speller(g2p: Any = None) -> Speller:
    """Words in a row to the phonemes of each; the neighbours decide how "the", "to" and "read" sound."""
    return lambda words: _spelt(dictionary() if g2p is None else g2p, words)


def variants(text: str, g2p: Any = None) -> tuple[str, ...]:
    """The pronunciations the dictionary has for a word, and its letters' names for a short one."""
    g2p = dictionary() if g2p is None else g2p
    found: list[str] = []
    for spelling in (text, text.lower()):
        for book in (g2p.lexicon.golds, g2p.lexicon.silvers):
            entry = book.get(spelling)
            found += entry.values() if isinstance(entry, dict) else [entry] if entry else []
    found += _WEAK.get(text.lower(), ())
    if 1 < len(text) < 6 and text.isupper() and text.isalpha():
        found.append(_letters(g2p, text))
    return tuple(dict.fromkeys(_shown(phonemes) for phonemes in found if phonemes))


def pronounceable(phonemes: str) -> bool:
    """Whether these are phonemes of the alphabet, a vowel among them."""
    return SOUNDS.issuperset(phonemes) and bool(_VOWELS.intersection(phonemes))


_WEAK = {"the": ("ðə", "ði"), "a": ("ɐ", "ˈA"), "to": ("tə", "tʊ", "tˈu"), "of": ("ʌv", "əv"), "and": ("ænd", "ənd")}


def _letters(g2p: Any, text: str) -> str:
    return g2p.lexicon.get_NNP(text)[0] or ""


def _shown(phonemes: str) -> str:
    """As the voices were trained: a flapped t is T, a glottal stop t (hibari does the same)."""
    return phonemes.replace("ɾ", "T").replace("ʔ", "t")


def _spelt(g2p: Any, words: Sequence[Word]) -> list[str]:
    """The whole row goes through the dictionary at once; its tokens are given back to the words they stand in."""
    text, places = _line(g2p, words)
    tokens = g2p.phonemize_tokens(g2p.tokenize(text))
    found: list[str] = [""] * len(words)
    at = 0
    for token in tokens:
        owner = next((n for n, (start, end) in enumerate(places) if start <= at < end), None)
        if owner is not None and token.phonemes and any(sound not in _MARKS for sound in token.phonemes):
            found[owner] += token.phonemes
        at += len(token.text) + len(token.whitespace)
    return [word.fixed or _shown(phonemes).strip() for word, phonemes in zip(words, found, strict=True)]


_MARKS = frozenset(';:,.!?—…"“”() ')


def _line(g2p: Any, words: Sequence[Word]) -> tuple[str, list[tuple[int, int]]]:
    """The words as one line with given phonemes written in hibari's way, and where each word stands in its tokens."""
    parts, places, at = [], [], 0
    for word in words:
        text = re.sub(r"[\[\]()\s]", "", word.text)
        fixed = word.fixed or (_letters(g2p, text) if word.spelt else "")
        parts.append((f"[{text}](/{fixed}/)" if fixed and text else text) + word.mark)
        places.append((at, at + len(text)))
        at += len(text) + len(word.mark) + 1
    return " ".join(parts), places
