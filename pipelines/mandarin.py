"""Mandarin text to the phonemes of Kokoro: figures written out, cut into words, each word's pinyin as IPA with a tone.

The sounds and arrows are those Kokoro v1.0 was trained on, without tone sandhi, which it has learnt. Knows no model.
Importing this imports no library; a Mandarin does (jieba's dictionary: a second and 70 MB; pypinyin: 40 MB).
"""

from __future__ import annotations

import re
from collections.abc import Callable

from pipelines.mandarin_numbers import written_out

_INITIALS = {
    "": "", "b": "p", "p": "pʰ", "m": "m", "f": "f", "d": "t", "t": "tʰ", "n": "n", "l": "l", "g": "k", "k": "kʰ",
    "h": "x", "j": "ʨ", "q": "ʨʰ", "x": "ɕ", "zh": "ꭧ", "ch": "ꭧʰ", "sh": "ʂ", "r": "ɻ", "z": "ʦ", "c": "ʦʰ", "s": "s",
}  # fmt: skip
_FINALS = {  # the tone stands where the 0 is
    "a": "a0", "ai": "ai0", "an": "a0n", "ang": "a0ŋ", "ao": "au0", "e": "ɤ0", "ei": "ei0", "en": "ə0n", "eng": "ə0ŋ",
    "er": "ɚ0", "i": "i0", "ia": "ja0", "ian": "jɛ0n", "iang": "ja0ŋ", "iao": "jau0", "ie": "je0", "in": "i0n",
    "ing": "i0ŋ", "io": "jɔ0", "iong": "jʊ0ŋ", "iou": "jou0", "ong": "ʊ0ŋ", "ou": "ou0", "u": "u0", "ua": "wa0",
    "uai": "wai0", "uan": "wa0n", "uang": "wa0ŋ", "uei": "wei0", "uen": "wə0n", "ueng": "wə0ŋ", "uo": "wo0", "o": "wo0",
    "v": "y0", "ve": "ɥe0", "van": "ɥɛ0n", "vn": "y0n", "ê": "ɛ0", "m": "m0", "n": "n0", "ng": "ŋ0",
}  # fmt: skip
_TONES = {"1": "→", "2": "↗", "3": "↓", "4": "↘", "5": ""}
_BUZZING = {"zh", "ch", "sh", "r", "z", "c", "s"}  # after these, i is a buzz
_MARKS = str.maketrans({
    "、": ", ", "，": ", ", "。": ". ", "．": ". ", "！": "! ", "：": ": ", "；": "; ", "？": "? ", "《": " “",
    "》": "” ", "「": " “", "」": "” ", "【": " “", "】": "” ", "（": " (", "）": ") ", "‘": " ", "’": "'",
})  # fmt: skip
# words pypinyin reads wrongly, in letters that sound right: 长 of length, the particles 地 and 得
_ALIKE = {"地": "的", "得": "的", "长": "肠", **{f"{degree}长": f"{degree}肠" for degree in "很多最更太不较"}}
# 只 counts animals after a figure, which the traditional letter says; "only" it means before these verbs
_COUNTING = re.compile("(?<=[一二三四五六七八九十百千万两几])只(?![是有能要会好怕剩用需得想])")
_HAN = "〇㐀-䶿一-鿿豈-﫿"
_PIECES = re.compile(rf"[{_HAN}]+|[A-Za-z](?:[A-Za-z' -]*[A-Za-z])?|[^{_HAN}A-Za-z]+")


class Mandarin:
    """A reader of Chinese text, with English words in it if there is somebody to read those."""

    def __init__(self) -> None:
        import jieba

        self._words = jieba.Tokenizer()
        # not initialize(): it would unmarshal a cache from the shared /tmp
        self._words.FREQ, self._words.total = self._words.gen_pfdict(self._words.get_dict_file())
        self._words.initialized = True
        _syllables("好")  # pypinyin reads its dictionaries on first use

    @property
    def dictionary(self) -> dict[str, int]:
        """How often each word occurs; most of what this object holds."""
        return self._words.FREQ

    def phonemes(self, text: str, english: Callable[[str], str]) -> str:
        """Words with spaces between, punctuation as Kokoro knows it; `english` turns Latin words into phonemes."""
        pieces = (self._read(piece, english) for piece in _PIECES.findall(_prepared(text)))
        spaced = re.sub(r"\s+", " ", "".join(pieces)).strip()
        return re.sub(r" (?=[,.!?;:”)])", "", spaced)

    def _read(self, piece: str, english: Callable[[str], str]) -> str:
        if piece[0].isascii() and piece[0].isalpha():
            return f" {english(piece)} "
        if not re.match(f"[{_HAN}]", piece):
            return piece
        return " ".join(_syllables(_ALIKE.get(word, word)) for word in self._words.cut(piece))


def has_latin(text: str) -> bool:
    """Whether there are words in it that are not Chinese, once figures and units are written out."""
    return re.search("[A-Za-z]", _prepared(text)) is not None


def _prepared(text: str) -> str:
    """Figures are read in Chinese, unless there is English only."""
    chinese = re.search(f"[{_HAN}]", text) or not re.search("[A-Za-z]", text)
    return _COUNTING.sub("隻", written_out(text) if chinese else text).translate(_MARKS)


def _syllables(word: str) -> str:
    """The phonemes of one Chinese word, its readings chosen by the word; a character nobody knows is left out."""
    from pypinyin import Style, lazy_pinyin

    def spelt(style: Style) -> list[str]:
        return lazy_pinyin(word, style=style, neutral_tone_with_five=True, errors="ignore")

    parts = zip(spelt(Style.INITIALS), spelt(Style.FINALS_TONE3), spelt(Style.TONE3), strict=True)
    return "".join(_sound(initial, final or whole) for initial, final, whole in parts)  # 嗯, "n2", has no final


def _sound(initial: str, toned: str) -> str:
    final, tone = (toned[:-1], toned[-1]) if toned[-1:].isdigit() else (toned, "5")
    if final == "i" and initial in _BUZZING:
        sound = "ɨ0"
    elif final == "o" and not initial:
        sound = "ɔ0"
    else:
        sound = _FINALS.get(final, "")
    return _INITIALS.get(initial, "") + sound.replace("0", _TONES[tone])
