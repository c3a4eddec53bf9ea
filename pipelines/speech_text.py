"""Text for a voice: which language it is in, and the sentences it is spoken in. Knows no model."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

LONGEST = 200  # characters in one piece: what the smallest models speak well

_SCRIPTS = {
    "CJK": "zh",
    "HIRAGANA": "ja",
    "KATAKANA": "ja",
    "HANGUL": "ko",
    "CYRILLIC": "ru",
    "ARABIC": "ar",
    "HEBREW": "he",
    "DEVANAGARI": "hi",
    "THAI": "th",
}
_TITLE = r"(?<!\bDr\.)(?<!\bMr\.)(?<!\bMrs\.)(?<!\bMs\.)(?<!\bSt\.)(?<!\b[A-Z]\.)"
_END = re.compile(rf"""(?<=[。！？!?…])["”’」』）)\]]*\s*|(?<=\.){_TITLE}["”’)\]]*\s+|\s*\n\s*""")
_CLAUSE = re.compile(r"(?<=[，,、;；:：—])\s*")
_CONTROL = re.compile(r"<\|[^|<>]*\|>")


def unsupported(text: str, languages: Iterable[str]) -> str:
    """The language of the first letter these languages do not cover, or ""; "multi" covers all."""
    spoken = set(languages)
    if "multi" in spoken:
        return ""
    names = (unicodedata.name(char, "").split(" ")[0] for char in text if char.isalpha())
    foreign = (_SCRIPTS[name] for name in names if name in _SCRIPTS)
    return next((language for language in foreign if language not in spoken), "")


def sentences(text: str, longest: int = LONGEST) -> list[str]:
    """Sentences of Chinese, English or mixed text, each with something to say and at most `longest` characters."""
    return speakable(_split(_END, _CONTROL.sub(" ", text)), longest)


def speakable(pieces: Iterable[str], longest: int = LONGEST) -> list[str]:
    """The pieces that have something to say, those over `longest` characters cut."""
    short = (part for piece in pieces for part in ([piece] if len(piece) <= longest else _shorter(piece, longest)))
    return [part for part in short if any(char.isalnum() for char in part)]


def _split(pattern: re.Pattern[str], text: str) -> list[str]:
    edges = [0, *(match.end() for match in pattern.finditer(text)), len(text)]
    return [piece for a, b in zip(edges, edges[1:], strict=False) if (piece := text[a:b].strip())]


def _shorter(sentence: str, longest: int) -> list[str]:
    """Clauses joined up to `longest`; a clause without a pause in it is cut at a space, or anywhere."""
    joined = [""]
    for clause in _split(_CLAUSE, sentence):
        while len(clause) > longest:
            cut = clause.rfind(" ", 1, longest)
            cut = cut if cut > 0 else longest
            joined.append(clause[:cut].strip())
            clause = clause[cut:].strip()
        if joined[-1] and len(joined[-1]) + len(clause) < longest:
            joined[-1] += ("" if ord(joined[-1][-1]) > 0x2E80 else " ") + clause
        else:
            joined.append(clause)
    return [piece for piece in joined if piece]
