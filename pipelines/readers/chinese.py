"""Chinese characters to pinyin: cut into words, each word's reading looked up, a lone character's chosen by what
stands around it (polyphones.toml), tones changed beside one another. Knows no figures and no sounds.

Importing this imports no library; the first reading does (jieba's dictionary: a second and 70 MB; pypinyin: 40 MB).
"""

from __future__ import annotations

import functools
import re
import threading
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

from pipelines.readers import sandhi

_TABLE = Path(__file__).with_name("polyphones.toml")
_OPENING = threading.Lock()
_FAR = 12  # characters around one that may decide how it is read
_RETROFLEX_NOT_AFTER = "女婴幼孤胎少健孙侄宠弃育托患男小生血鹤普"  # 女儿 is two syllables, 花儿 is one
_RETROFLEX_NOT_BEFORE = "子童女科时媳歌孙戏郎皇"


@dataclass(frozen=True, slots=True)
class Syllable:
    """`said` after tones have changed, `underlying` before; `first`: a word begins here."""

    said: str
    underlying: str
    first: bool


@dataclass(frozen=True, slots=True)
class _Choice:
    """The reading of a character that stands between text that matches `before` (at its end) and `after`."""

    reading: str
    before: re.Pattern[str]
    after: re.Pattern[str]


class Dictionary:
    """Words and their readings. Use dictionary(), there is one for the process."""

    def __init__(self) -> None:
        import jieba
        from pypinyin.constants import PHRASES_DICT, PINYIN_DICT

        table = tomllib.loads(_TABLE.read_text(encoding="utf-8"))
        self.words: Mapping[str, list[str]] = {word: reading.split() for word, reading in table["words"].items()}
        self.choices = {char: [_choice(*rule) for rule in rules] for char, rules in table["chars"].items()}
        self.phrases = PHRASES_DICT
        self.chars = PINYIN_DICT
        self.cutter: Any = jieba.Tokenizer()
        # not initialize(): it would unmarshal a cache from the shared /tmp
        self.cutter.FREQ, self.cutter.total = self.cutter.gen_pfdict(self.cutter.get_dict_file())
        self.cutter.initialized = True
        for word in self.words:
            if not self.cutter.FREQ.get(word):
                self.cutter.add_word(word)

    def cut(self, run: str) -> list[str]:
        """The words of a stretch of characters."""
        return list(self.cutter.cut(run))

    def word(self, run: str, start: int, end: int) -> list[str]:
        """The readings of the characters of the word run[start:end]."""
        word = run[start:end]
        if word in self.words:
            return self.words[word]
        known = len(word) > 1 and word in self.phrases
        whole = self._looked_up(word)
        if known:
            return whole
        spots = range(start, end)
        return [self._lone(run, at) or reading for at, reading in zip(spots, whole, strict=True)]

    def _looked_up(self, word: str) -> list[str]:
        from pypinyin import Style, lazy_pinyin

        found = lazy_pinyin(word, style=Style.TONE3, neutral_tone_with_five=True, errors=list)
        return [reading if reading[-1:].isdigit() else "" for reading in found]

    def _lone(self, run: str, at: int) -> str:
        """What polyphones.toml says of this character in this place, or ""."""
        before, after = run[max(0, at - _FAR) : at], run[at + 1 : at + 1 + _FAR]
        choices = self.choices.get(run[at], ())
        return next((c.reading for c in choices if c.before.search(before) and c.after.match(after)), "")


def _choice(reading: str, before: str = "", after: str = "") -> _Choice:
    return _Choice(reading, re.compile(f"(?:{before})$"), re.compile(f"(?:{after})"))


@functools.cache
def _opened() -> Dictionary:
    return Dictionary()


def dictionary() -> Dictionary:
    """The dictionary of this process, read on first use."""
    with _OPENING:
        return _opened()


def syllables(run: str, fixed: Mapping[int, str] | None = None) -> list[Syllable]:
    """A syllable for each character of a stretch without a pause; `fixed` readings are said as they stand."""
    fixed = fixed or {}
    book = dictionary()
    words, start = [], 0
    underlying: list[str] = []
    for word in book.cut(run):
        words.append(len(word))
        underlying += book.word(run, start, start + len(word))
        start += len(word)
    underlying = [fixed.get(at, reading) for at, reading in enumerate(_neutral(run, underlying, words))]
    said = _said(run, underlying, words, frozenset(fixed))
    starts = {0, *accumulate(words)}
    return [Syllable(a, b, at in starts) for at, (a, b) in enumerate(zip(said, underlying, strict=True))]


def readings(char: str) -> tuple[str, ...]:
    """All readings a character has, the most common first."""
    from pypinyin import Style, pinyin

    book = dictionary()
    found = pinyin(char, style=Style.TONE3, heteronym=True, neutral_tone_with_five=True, errors="ignore")
    known = [choice.reading for choice in book.choices.get(char, ())]
    return tuple(dict.fromkeys([*(found[0] if found else []), *known]))


def _said(run: str, underlying: Sequence[str], words: Sequence[int], fixed: frozenset[int]) -> list[str]:
    spoken = [reading or "a5" for reading in underlying]  # a character nobody knows changes no tone
    changed = sandhi.changed(run, spoken, words, fixed)
    return [said if reading else "" for said, reading in zip(changed, underlying, strict=True)]


def _neutral(run: str, readings: Sequence[str], words: Sequence[int]) -> list[str]:
    """With the syllables that lose their tone: 看看, 妈妈, 们, 里 after a noun, 儿 that only colours a word."""
    given = list(readings)
    for at, char in enumerate(run):
        if (char, given[at]) in _CHANGED:
            given[at] = _CHANGED[char, given[at]]
        elif char == "儿" and _colours(run, at):
            given[at] = "r5"
        elif char == "们" and at:
            given[at] = "men5"
        elif char in "一不" and 0 < at < len(run) - 1 and run[at - 1] == run[at + 1]:
            given[at + 1] = given[at - 1]  # 数一数, 行不行
    start = 0
    for length in words:
        if length == 2 and run[start] == run[start + 1] and run[start] in _DOUBLED:
            given[start + 1] = given[start][:-1] + "5"
        start += length
    return given


_CHANGED = {("一", "yi2"): "yi1", ("一", "yi4"): "yi1", ("不", "bu2"): "bu4"}  # word lists give some as they are said
_DOUBLED = set("爸妈爷奶哥姐弟妹叔伯舅姑婶公婆宝娃太谢看听说想试问走坐等歇聊谈猜尝算读写学练转摸闻笑逛跳玩用管")


def _colours(run: str, at: int) -> bool:
    if at == 0 or run[at + 1 : at + 2] and run[at + 1] in _RETROFLEX_NOT_BEFORE:
        return False
    return run[at - 1] not in _RETROFLEX_NOT_AFTER
