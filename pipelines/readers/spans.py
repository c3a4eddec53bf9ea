"""Stretches of a text that are said otherwise than they are written. Knows rules as patterns, no language."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

HAN = "〇㐀-䶿一-鿿豈-﫿"
_FULL_WIDTH = {0xFF01 + n: 0x21 + n for n in range(94) if chr(0x21 + n).isalnum() or chr(0x21 + n) in "%.-:/+=@#$&~<>"}
_CONTROL = re.compile(r"<\|[^|<>]*\|>")

Said = str | tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Span:
    """text[start:end] is said as `said`; `others` are other ways of saying it, all in words."""

    start: int
    end: int
    said: str
    others: tuple[str, ...] = ()


class Rule(NamedTuple):
    """What `say` makes of a match: words, words and other words for it, or "" where the rule does not hold."""

    pattern: re.Pattern[str]
    say: Callable[[re.Match[str]], Said]


def rule(pattern: str, say: Callable[[re.Match[str]], Said]) -> Rule:
    return Rule(re.compile(pattern, re.ASCII), say)


def plain(text: str) -> str:
    """Full-width figures and letters as ASCII, control tokens of language models as spaces; not a place is moved."""
    return _CONTROL.sub(lambda match: " " * len(match[0]), text.translate(_FULL_WIDTH))


def claim(text: str, rules: Iterable[Rule]) -> list[Span]:
    """The stretches the rules take, in order of place; an earlier rule goes before a later one, none overlap."""
    taken = bytearray(len(text))
    spans = []
    for pattern, say in rules:
        at = 0
        while match := pattern.search(text, at):
            start, end = match.span()
            said = "" if start == end or any(taken[start:end]) else say(match)
            at = end if said else start + 1
            if said:
                first, *others = (said,) if isinstance(said, str) else said
                start += len(match[0]) - len(match[0].lstrip())
                stop = start + len(match[0].strip())
                spans.append(Span(start, stop, first, tuple(other for other in others if other != first)))
                taken[start:end] = b"\1" * (end - start)
    return sorted(spans, key=lambda span: span.start)


def applied(text: str, spans: Iterable[Span]) -> str:
    """The text with each span as it is said."""
    parts, at = [], 0
    for span in spans:
        parts += [text[at : span.start], span.said]
        at = span.end
    return "".join([*parts, text[at:]])


def roman(letters: str) -> int:
    """The value of a Roman numeral in capitals, 0 for what is none."""
    if not re.fullmatch(r"(?=.)M{0,3}(CM|CD|D?C{0,3})(XC|XL|L?X{0,3})(IX|IV|V?I{0,3})", letters):
        return 0
    values = [{"I": 1, "V": 5, "X": 10, "L": 50, "C": 100, "D": 500, "M": 1000}[letter] for letter in letters]
    return sum(-a if a < b else a for a, b in zip(values, [*values[1:], 0], strict=True))
