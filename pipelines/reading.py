"""How a text is read aloud: figures and signs in words, each word's sounds, each character's pinyin, every one of which
can be chosen otherwise. Knows Chinese and English, no voice.

A text is read phrase by phrase (`phrases`), so that the first can be spoken while the rest is unread; `read` reads it
all. Places are those of the text as it was given.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from types import MappingProxyType
from typing import Any

from pipelines.core.errors import InvalidInput
from pipelines.readers import chinese, chinese_rules, pinyin
from pipelines.readers import english as en
from pipelines.readers.phrases import Token, breaths, has_han, has_latin, pause, sentences, tokens
from pipelines.readers.spans import HAN, Span, plain

LONGEST = 12.0  # seconds of a phrase
FIRST = 3.0  # seconds after which the first phrase of a text ends at the next mark: it is what a listener waits for
_MOST = 6  # readings to choose from: those after are of old books
_NONE: Mapping[int, str] = MappingProxyType({})
_ATOM = re.compile(rf"[{HAN}]|[^\W\d_{HAN}]+(?:['’.\-][^\W\d_{HAN}]+)*\.?|[,;:]")
_MARKS = {
    "、": ",", "，": ",", ",": ",", "。": ".", "．": ".", ".": ".", "！": "!", "!": "!", "？": "?", "?": "?", "：": ":",
    ":": ":", "；": ";", ";": ";", "—": "—", "–": "—", "…": "…", "》": "”", "」": "”", "』": "”", "】": "”", "”": "”",
    "）": ")", ")": ")", "]": ")",
}  # fmt: skip
_OPENING = {"《": "“", "「": "“", "『": "“", "【": "“", "“": "“", "（": "(", "(": "(", "[": "("}


@dataclass(frozen=True, slots=True)
class Unit:
    """One Chinese character, one English word, or one figure or sign said in words; text stands at [start:end].

    `said`: in words. `reading`: pinyin with tone numbers as it is said beside its neighbours (a third tone before a
    third is a second), or phonemes of English. `underlying`: the pinyin by itself. `options`: what else can be chosen;
    for a figure these are other words. `phonemes`: the sounds of `underlying`, for the voices learnt from such: they
    know how tones change. `before` and `after`: space and marks around it, as the voices know them.
    """

    text: str
    start: int
    end: int
    said: str
    reading: str
    options: tuple[str, ...]
    phonemes: str
    underlying: str = ""
    before: str = ""
    after: str = ""


@dataclass(frozen=True, slots=True)
class Phrase:
    """What is said in one breath; `pause`: seconds after it, `said`: the text in words."""

    units: tuple[Unit, ...]
    text: str
    pause: float
    said: str


@dataclass(frozen=True, slots=True)
class Reading:
    text: str
    normalised: str
    language: str
    phrases: tuple[Phrase, ...]


def read(text: str, language: str = "auto", overrides: Mapping[int, str] = _NONE, **more: Any) -> Reading:
    """The whole text; `more` as for phrases()."""
    found = tuple(phrases(text, language, overrides, **more))
    parts, end = "", 0
    for phrase in found:
        start = text.index(phrase.text, end)
        parts += (" " if text[end:start].isspace() and parts else "") + phrase.said
        end = start + len(phrase.text)
    return Reading(text, parts, language_of(text) if language == "auto" else language, found)


def phrases(
    text: str,
    language: str = "auto",
    overrides: Mapping[int, str] = _NONE,
    *,
    english: Any = None,
    longest: float = LONGEST,
    first: float = FIRST,
) -> Iterator[Phrase]:
    """Phrase after phrase, each read when it is asked for.

    `language` ("en", "zh", "auto") says how figures without words around them are read. `overrides`: the place where a
    unit starts to its reading: pinyin for a character, phonemes for a word, words for a figure. `english`: a
    hibari.g2p.G2P, by default one that this process shares. Raises InvalidInput for an override that cannot be.
    """
    clean = plain(text)
    speller = _Speller(english)
    default = language_of(clean) if language == "auto" else language
    _within(overrides, len(text))
    limit = first
    for start, end in sentences(clean):
        row = _tokens(clean, start, end, language, default)
        chosen = _placed(row, overrides, start, end, text)
        for piece in breaths([_chosen(token, chosen) for token in row], longest, limit):
            if phrase := _phrase(text, piece, chosen, speller):
                yield phrase
                limit = longest


def phonemes(part: Reading | Phrase | Unit, family: str = "kokoro") -> str:
    """The sounds of a part as a family of voices takes them: "kokoro", or "hibari", which speaks no Chinese."""
    if isinstance(part, Reading):
        return " ".join(filter(None, (phonemes(phrase, family) for phrase in part.phrases)))
    units = part.units if isinstance(part, Phrase) else (part,)
    spoken = [unit for unit in units if family != "hibari" or not has_han(unit.said)]
    return "".join(unit.before + unit.phonemes + unit.after for unit in spoken).strip()


def language_of(text: str) -> str:
    """Chinese ("zh") where there are Chinese characters, and no more English words than those; else "en"."""
    characters = len(re.findall(f"[{HAN}]", text))
    return "zh" if characters and characters >= len(re.findall(rf"[A-Za-z][^\s{HAN}]*", text)) else "en"


def needs_english(text: str) -> bool:
    """Whether there are words in it that are not Chinese, once figures and units are written out."""
    clean = plain(text)
    default = language_of(clean)
    rows = (_tokens(clean, start, end, "auto", default) for start, end in sentences(clean))
    return any(has_latin(token.said) for row in rows for token in row if token.kind != "mark")


class _Speller:
    """English words to phonemes, by a dictionary that is opened when the first word comes."""

    def __init__(self, g2p: Any) -> None:
        self.g2p = g2p
        self.spell = en.speller(g2p)

    def variants(self, text: str) -> tuple[str, ...]:
        return en.variants(text, self.g2p)


@dataclass(slots=True)
class _Atom:
    """A character, a word or a mark inside a token, and how it is read."""

    owner: int
    text: str
    fixed: str = ""
    spelt: bool = False
    mark: str = ""
    reading: str = ""
    underlying: str = ""
    phonemes: str = ""
    first: bool = True


def _tokens(clean: str, start: int, end: int, language: str, default: str) -> list[Token]:
    """Figures are read in the language of the words around them; those without words as `default` says."""
    sentence = clean[start:end]
    worded = "zh" if language == "zh" else language_of(sentence)
    if (worded if has_han(sentence) else default) == "zh":
        spans = chinese_rules.spans(sentence)
        rest = "".join(_outside(sentence, spans))
        if has_han(sentence) or not has_latin(rest):  # units of measure are no English
            return tokens(clean, start, end, spans)
    return tokens(clean, start, end, _english_spans(sentence))


def _outside(text: str, spans: Sequence[Span]) -> Iterator[str]:
    at = 0
    for span in spans:
        yield text[at : span.start]
        at = span.end
    yield text[at:]


def _english_spans(sentence: str) -> list[Span]:
    from pipelines.readers import english_rules

    return english_rules.spans(sentence)


def _within(overrides: Mapping[int, str], length: int) -> None:
    for place in overrides:
        if not 0 <= place < length:
            raise InvalidInput("reading_place", place=place)


def _placed(row: Sequence[Token], overrides: Mapping[int, str], start: int, end: int, text: str) -> dict[int, str]:
    """The overrides of one sentence, checked and in one form."""
    units = {token.start: token for token in row if token.kind != "mark"}
    chosen = {}
    for place, wanted in overrides.items():
        if start <= place < end:
            if place not in units:
                raise InvalidInput("reading_place", place=place)
            chosen[place] = _valid(units[place], wanted, text)
    return chosen


def _valid(token: Token, wanted: str, text: str) -> str:
    wanted = wanted.strip()
    if token.kind == "han":
        reading = pinyin.canonical(wanted)
    elif token.kind == "word":
        reading = wanted if len(wanted) < 80 and en.pronounceable(wanted) else ""
    else:
        reading = wanted if len(wanted) < 200 and re.fullmatch(r"(?:[^\W\d_]|[ ,.'’\-])+", wanted) else ""
    if not reading:
        raise InvalidInput("reading_unknown", reading=wanted[:40], text=text[token.start : token.end][:40])
    return reading


def _chosen(token: Token, chosen: Mapping[int, str]) -> Token:
    """A figure with the words that were chosen for it, which is then no longer one of the other ways."""
    if token.kind != "span" or token.start not in chosen:
        return token
    words = chosen[token.start]
    return replace(token, said=words, others=tuple(w for w in (token.said, *token.others) if w != words))


def _phrase(text: str, piece: Sequence[Token], chosen: Mapping[int, str], speller: _Speller) -> Phrase | None:
    atoms = _atoms(piece, chosen)
    _read_chinese(piece, atoms)
    _read_english(atoms, speller)
    units = _units(text, piece, atoms, speller)
    if not units:
        return None
    start, end = piece[0].start, piece[-1].end
    return Phrase(tuple(units), text[start:end], pause(text, end), _said(text, piece))


def _atoms(piece: Sequence[Token], chosen: Mapping[int, str]) -> list[_Atom]:
    atoms: list[_Atom] = []
    for n, token in enumerate(piece):
        if token.kind == "mark":
            mark = _MARKS.get(token.said, "")
            if atoms and mark:
                atoms[-1].mark += mark
        elif token.kind == "span":
            atoms += [_Atom(n, part, spelt=len(part) == 1 and part.isupper()) for part in _ATOM.findall(token.said)]
        else:
            atoms.append(_Atom(n, token.said, fixed=chosen.get(token.start, "")))
    return [atom for atom in _folded(atoms) if has_han(atom.text) or has_latin(atom.text)]


def _folded(atoms: list[_Atom]) -> list[_Atom]:
    """Commas inside what a figure is said as belong to the word before them."""
    folded: list[_Atom] = []
    for atom in atoms:
        if atom.text in ",;:" and folded:
            folded[-1].mark = atom.text + atom.mark
        else:
            folded.append(atom)
    return folded


def _read_chinese(piece: Sequence[Token], atoms: Sequence[_Atom]) -> None:
    """Stretches of characters without a mark or another script between."""
    stretch = 0
    keys = []
    for before, atom in zip([None, *atoms], atoms, strict=False):
        apart = before is None or before.mark or has_han(before.text) != has_han(atom.text)
        stretch += bool(apart or _marked(piece, before.owner if before else 0, atom.owner))
        keys.append(stretch)
    for _, group in groupby(zip(keys, atoms, strict=True), key=lambda pair: pair[0]):
        run = [atom for _, atom in group]
        if has_han(run[0].text):
            fixed = {at: atom.fixed for at, atom in enumerate(run) if atom.fixed}
            found = chinese.syllables("".join(atom.text for atom in run), fixed)
            for atom, syllable in zip(run, found, strict=True):
                atom.reading, atom.underlying, atom.first = syllable.said, syllable.underlying, syllable.first
                atom.phonemes = pinyin.sound(syllable.underlying) if syllable.underlying else ""


def _marked(piece: Sequence[Token], start: int, end: int) -> bool:
    return any(token.kind == "mark" and token.said not in "-·" for token in piece[start + 1 : end])


def _read_english(atoms: Sequence[_Atom], speller: _Speller) -> None:
    for han, group in groupby(atoms, key=lambda atom: has_han(atom.text)):
        if not han:
            run = list(group)
            found = speller.spell([en.Word(atom.text, atom.mark[:1], atom.fixed, atom.spelt) for atom in run])
            for atom, sounds in zip(run, found, strict=True):
                atom.phonemes = atom.reading = sounds


def _units(text: str, piece: Sequence[Token], atoms: Sequence[_Atom], speller: _Speller) -> list[Unit]:
    owned = {owner: list(group) for owner, group in groupby(atoms, key=lambda atom: atom.owner)}
    units: list[Unit] = []
    opening = ""
    for n, token in enumerate(piece):
        if token.kind == "mark":
            opening, units = _punctuated(text, token, opening, units)
        elif any(atom.phonemes for atom in owned.get(n, ())):
            units.append(_unit(text, token, owned[n], opening, speller))
            opening = ""
    return units


def _punctuated(text: str, token: Token, opening: str, units: list[Unit]) -> tuple[str, list[Unit]]:
    """A mark that opens goes before the next unit, another after the last one; the same twice counts once."""
    mark = _MARKS.get(token.said, "")
    if token.said == '"':
        opens = token.start == 0 or text[token.start - 1].isspace()
        mark = "" if opens else "”"
        opening += "“" if opens else ""
    opening += _OPENING.get(token.said, "")
    if mark and units and not units[-1].after.endswith(mark):
        units = [*units[:-1], replace(units[-1], after=units[-1].after + mark)]
    return opening, units


def _unit(text: str, token: Token, atoms: Sequence[_Atom], opening: str, speller: _Speller) -> Unit:
    sounds = ""
    for atom in atoms:
        space = " " if sounds and (atom.first or not has_han(atom.text)) else ""
        inner = atom.mark if atom is not atoms[-1] else ""
        sounds += space + atom.phonemes + inner
    reading = " ".join(atom.reading for atom in atoms if atom.reading)
    underlying = " ".join(atom.underlying for atom in atoms if atom.underlying)
    return Unit(
        text=text[token.start : token.end],
        start=token.start,
        end=token.end,
        said=token.said,
        reading=reading,
        options=_options(token, reading, underlying, speller),
        phonemes=sounds,
        underlying=underlying,
        before=(" " if atoms[0].first or opening else "") + opening,
    )


def _options(token: Token, reading: str, underlying: str, speller: _Speller) -> tuple[str, ...]:
    if token.kind == "span":
        return token.others
    known = _readings(token.said) if token.kind == "han" else speller.variants(token.said)
    return tuple(option for option in known if option not in (reading, underlying))[:_MOST]


_readings = functools.lru_cache(4096)(chinese.readings)


def _said(text: str, piece: Sequence[Token]) -> str:
    """The piece in words: a space where there was one, and between words of Latin letters."""
    parts = ""
    for before, token in zip([None, *piece], piece, strict=False):
        if before and parts and _apart(before, token, parts[-1]):
            parts += " "
        parts += text[token.start : token.end] if token.kind == "mark" else token.said
    return parts


def _apart(before: Token, token: Token, last: str) -> bool:
    first = token.said[:1]
    if has_han(last) or has_han(first):
        return token.start > before.end and not (has_han(last) and has_han(first))
    return token.start > before.end or ("span" in (before.kind, token.kind) and last.isalnum() and first.isalnum())
