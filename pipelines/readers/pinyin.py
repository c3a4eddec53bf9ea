"""Pinyin syllables: checked, put into one form, and turned into the sounds Kokoro v1.0 was trained on."""

from __future__ import annotations

import functools
import re

_INITIALS = {
    "": "", "b": "p", "p": "pʰ", "m": "m", "f": "f", "d": "t", "t": "tʰ", "n": "n", "l": "l", "g": "k", "k": "kʰ",
    "h": "x", "j": "ʨ", "q": "ʨʰ", "x": "ɕ", "zh": "ꭧ", "ch": "ꭧʰ", "sh": "ʂ", "r": "ɻ", "z": "ʦ", "c": "ʦʰ", "s": "s",
}  # fmt: skip
_FINALS = {  # the tone stands where the 0 is
    "a": "a0", "ai": "ai0", "an": "a0n", "ang": "a0ŋ", "ao": "au0", "e": "ɤ0", "ei": "ei0", "en": "ə0n", "eng": "ə0ŋ",
    "er": "ɚ0", "i": "i0", "ia": "ja0", "ian": "jɛ0n", "iang": "ja0ŋ", "iao": "jau0", "ie": "je0", "in": "i0n",
    "ing": "i0ŋ", "io": "jɔ0", "iong": "jʊ0ŋ", "iou": "jou0", "ong": "ʊ0ŋ", "ou": "ou0", "u": "u0", "ua": "wa0",
    "uai": "wai0", "uan": "wa0n", "uang": "wa0ŋ", "uei": "wei0", "uen": "wə0n", "ueng": "wə0ŋ", "uo": "wo0", "o": "wo0",
    "v": "y0", "ve": "ɥe0", "van": "ɥɛ0n", "vn": "y0n", "ê": "ɛ0",
}  # fmt: skip
_ALONE = {"r": "ɚ0", "m": "m0", "n": "n0", "ng": "ŋ0", "hm": "xm0", "hng": "xŋ0", "yo": "jɔ0", "o": "ɔ0"}
_TONES = {"1": "→", "2": "↗", "3": "↓", "4": "↘", "5": ""}
_BUZZING = {"zh", "ch", "sh", "r", "z", "c", "s"}  # after these, i is a buzz


def canonical(syllable: str) -> str:
    """A syllable as "lv4": tone marks, ü and a missing neutral tone are put so; "" for what is no syllable."""
    from pypinyin.contrib.tone_convert import to_tone3

    text = syllable.strip().lower().replace("u:", "v")
    if not re.fullmatch(r"[^\W\d_]{1,6}[1-5]?", text):
        return ""
    text = text if text[-1].isdigit() else str(to_tone3(text, neutral_tone_with_five=True))
    text = text.replace("ü", "v")
    return text if re.fullmatch("[a-zê]{1,6}[1-5]", text) and sound(text) else ""


@functools.lru_cache(4096)
def sound(syllable: str) -> str:
    """The phonemes of a syllable like "zhong4"; "" for what is none."""
    from pypinyin.contrib.tone_convert import to_finals, to_initials

    base, tone = syllable[:-1], syllable[-1]
    initial, final = str(to_initials(syllable)), str(to_finals(syllable))
    if base in _ALONE:
        sounds = _ALONE[base]
    elif final == "i" and initial in _BUZZING:
        sounds = _INITIALS[initial] + "ɨ0"
    elif initial not in _INITIALS or final not in _FINALS or not _spells(base, initial, final):
        return ""
    else:
        sounds = _INITIALS[initial] + _FINALS[final]
    return sounds.replace("0", _TONES.get(tone, ""))


def _spells(base: str, initial: str, final: str) -> bool:
    """Whether the parts make up the syllable: the library leaves out letters it cannot place."""
    return base.startswith(initial) and len(base) <= len(initial) + len(final) + 1


def spelt(syllables: str) -> str:
    """The phonemes of syllables with spaces between."""
    return "".join(sound(syllable) for syllable in syllables.split())
