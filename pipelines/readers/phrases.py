"""Where a text is cut: sentences, and pieces of a sentence that are said in one breath. Knows places, no sounds."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipelines.readers.spans import HAN, Span

_LONGEST_WORD = 40  # letters; what is longer is no word and is cut
_LETTER = r"A-Za-zÀ-ÖØ-öø-ɏ"
_STOP = re.compile(r"""[。！？!?…．.]+["”’」』）)\]]*|\n""")
_SHORT = re.compile(
    r"(?:\b(?:Dr|Mr|Mrs|Ms|St|Mt|Ft|Prof|Gen|Gov|Sen|Rep|Capt|Lt|Col|Sgt|Rev|Hon|No|Nos|vs|Fig|Vol|Ch|pp|p|approx|cf"
    r"|Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec|e\.g|i\.e|[A-Z])\.)$"
)
_WORD = re.compile(rf"[{HAN}]|[{_LETTER}]+(?:['’\-][{_LETTER}]+)*|\S")
_HAN = re.compile(f"[{HAN}]")
_LATIN = re.compile(f"[{_LETTER}]")
_CLAUSE = set("，,、;；:：—。！？!?…")
_CLOSING = set('"”’」』）)]》】')
_PAUSES = {"、": 0.1, "，": 0.15, ",": 0.15, "—": 0.2, "；": 0.25, ";": 0.25, "：": 0.25, ":": 0.25}
_SENTENCE = 0.4
_PARAGRAPH = 0.7


@dataclass(frozen=True, slots=True)
class Token:
    """text[start:end]; `kind` is han (one character), word (Latin letters), span (said otherwise), or mark."""

    start: int
    end: int
    said: str
    kind: str
    others: tuple[str, ...] = ()


def has_han(text: str) -> bool:
    return _HAN.search(text) is not None


def has_latin(text: str) -> bool:
    return _LATIN.search(text) is not None


def sentences(text: str) -> Iterator[tuple[int, int]]:
    """Places (start, end) of the sentences, one after the other without a gap."""
    start = 0
    for match in _STOP.finditer(text):
        if _ends(text, match):
            yield start, match.end()
            start = match.end()
    if start < len(text):
        yield start, len(text)


def _ends(text: str, match: re.Match[str]) -> bool:
    """A full stop ends no sentence inside a number, after a title, or before a small letter."""
    mark = match[0].rstrip('"”’」』）)]')
    if mark.strip("!?.．"):
        return True
    following = text[match.end() : match.end() + 40]
    if following and not (following[0].isspace() or _HAN.match(following[0]) or following[0] in "“「《"):
        return False
    if mark not in (".", "．"):
        return True
    before = text[max(0, match.start() - 12) : match.start() + 1]
    return not following.lstrip()[:1].islower() and not _SHORT.search(before)


def tokens(text: str, start: int, end: int, spans: Sequence[Span]) -> list[Token]:
    """What stands in text[start:end]; the places of `spans` count from `start`."""
    found, at = [], start
    for span in spans:
        found += _words(text, at, start + span.start)
        found.append(Token(start + span.start, start + span.end, span.said, "span", span.others))
        at = start + span.end
    return [*found, *_words(text, at, end)]


def _words(text: str, start: int, end: int) -> list[Token]:
    found = []
    for match in _WORD.finditer(text, start, end):
        kind = "han" if _HAN.match(match[0]) else "word" if _LATIN.match(match[0]) else "mark"
        for at in range(match.start(), match.end(), _LONGEST_WORD):
            stop = min(at + _LONGEST_WORD, match.end())
            found.append(Token(at, stop, text[at:stop], kind))
    return found


def breaths(row: Sequence[Token], longest: float, first: float) -> Iterator[list[Token]]:
    """The tokens of a sentence in pieces of at most about `longest` seconds, cut at marks where there are any; the
    first piece is cut at the first mark after `first` seconds."""
    piece: list[Token] = []
    seconds, limit = 0.0, first
    for clause in _clauses(row, longest):
        length = sum(map(_seconds, clause))
        if piece and seconds + length > limit:
            yield piece
            piece, seconds, limit = [], 0.0, longest
        piece += clause
        seconds += length
    if piece:
        yield piece


def _clauses(row: Sequence[Token], longest: float) -> Iterator[list[Token]]:
    """Up to a mark and what closes it; a clause that is too long all the same is cut between words."""
    clause: list[Token] = []
    seconds = 0.0
    for n, token in enumerate(row):
        clause.append(token)
        seconds += _seconds(token)
        following = row[n + 1].said if n + 1 < len(row) else ""
        ended = token.kind == "mark" and following not in _CLAUSE | _CLOSING
        closed = token.said in _CLAUSE or (token.said in _CLOSING and len(clause) > 1 and clause[-2].said in _CLAUSE)
        if (ended and closed) or seconds > longest:
            yield clause
            clause, seconds = [], 0.0
    if clause:
        yield clause


def _seconds(token: Token) -> float:
    """About how long it takes to say."""
    if token.kind == "mark":
        return 0.1 if token.said in _CLAUSE else 0.0
    characters = len(_HAN.findall(token.said))
    return 0.22 * characters + 0.07 * (len(token.said) - characters)


def pause(text: str, end: int) -> float:
    """Seconds of silence after a piece that ends at `end`: by the mark it ends with, longer where a paragraph ends."""
    if "\n" in text[end : end + 2] or text[max(0, end - 1) : end] == "\n":
        return _PARAGRAPH
    mark = text[:end].rstrip()[-8:].rstrip('"”’」』）)]》】')[-1:]
    return _PAUSES.get(mark, _SENTENCE if mark and mark in "。！？!?…．." else 0.0)
