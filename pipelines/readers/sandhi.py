"""How tones change beside one another in Mandarin: third tones, 一, 不. Knows syllables and the words they make up.

The rules are those of the textbooks (Duanmu, The Phonology of Standard Chinese, ch. 11): third tones change inside a
word first, then where short words meet.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

_FIGURES = set("零〇一二三四五六七八九十百千万亿两幺点")
_UNITS = _FIGURES - set("百千万亿点")
_ORDINAL = set("第初周期")  # 第一, 初一, 周一
_NAMED = set("月号楼班")  # the first of a series: 一月, 一楼
_DETERMINERS = set("有这那每另某哪任再又")
_FOOT = 3  # syllables of short words that are said in one breath


def changed(chars: str, syllables: Sequence[str], words: Sequence[int], fixed: frozenset[int]) -> list[str]:
    """The syllables of a stretch without a pause as they are said: `words` are the lengths of its words, the places
    in `fixed` stay as they are."""
    said = list(syllables)
    starts = {0, *accumulate(words)}
    for at, (char, syllable) in enumerate(zip(chars, syllables, strict=True)):
        if at in fixed:
            continue
        if char == "一" and syllable == "yi1":
            said[at] = "yi" + _one(chars, said, at, starts)
        elif char == "不" and syllable == "bu4":
            said[at] = "bu" + _not(chars, said, at)
    for foot in _feet(said, words):
        _third(said, foot, fixed)
    return said


def _one(chars: str, said: Sequence[str], at: int, starts: set[int]) -> str:
    before, after = chars[at - 1 : at] if at else "", chars[at + 1 : at + 2]
    if not after or before in _ORDINAL or before in _FIGURES:
        return "1"
    decimal = after == "点" and chars[at + 2 : at + 3] in _FIGURES
    dated = before == "月" and after == "日"
    if decimal or dated or after in _UNITS or after in _NAMED:
        return "1"
    if before == after:
        return "5"  # 看一看
    ends_word = at not in starts and (at + 1 in starts)
    if ends_word and before not in _DETERMINERS:
        return "1"  # 统一, 唯一
    return "2" if said[at + 1][-1] == "4" or after == "个" else "4"


def _not(chars: str, said: Sequence[str], at: int) -> str:
    before, after = chars[at - 1 : at] if at else "", chars[at + 1 : at + 2]
    if after and before == after:
        return "5"  # 好不好
    return "2" if after and said[at + 1][-1] == "4" else "4"


def _feet(said: Sequence[str], words: Sequence[int]) -> list[list[tuple[int, int]]]:
    """Words (start, end) in groups: short ones that meet in two third tones go together."""
    feet: list[list[tuple[int, int]]] = []
    start = 0
    for length in words:
        word = (start, start + length)
        start += length
        together = feet and word[1] - feet[-1][0][0] <= _FOOT
        if together and said[word[0] - 1][-1] == "3" and said[word[0]][-1] == "3":
            feet[-1].append(word)
        else:
            feet.append([word])
    return feet


def _third(said: list[str], foot: list[tuple[int, int]], fixed: frozenset[int]) -> None:
    """Of two third tones the first rises; of three, 2 + 1 syllables are 2 2 3, and 1 + 2 are 3 2 3."""
    start, end = foot[0][0], foot[-1][1]
    tones = [syllable[-1] for syllable in said[start:end]]
    one_first = tones == ["3"] * 3 and foot[0][1] - start == 1
    for at in range(start, end - 1):
        if tones[at - start] == "3" == tones[at - start + 1] and at not in fixed and not (one_first and at == start):
            said[at] = said[at][:-1] + "2"
