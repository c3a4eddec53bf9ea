"""Figures in Chinese text written out as they are read: years, dates, times, money, shares, units, telephone numbers.

Knows characters only, no sounds. Call `written_out`.
"""

from __future__ import annotations

import re
from collections.abc import Callable

DIGITS = "零一二三四五六七八九"
_PLACES = ("", "十", "百", "千")
_GROUPS = ("", "万", "亿")
_LONGEST = 12  # figures of a number; more are read one by one
_FULL_WIDTH = {0xFF01 + n: 0x21 + n for n in range(94) if chr(0x21 + n).isalnum() or chr(0x21 + n) in "%.-:/"}
_MONEY = {"¥": "元", "￥": "元", "$": "美元", "€": "欧元", "£": "英镑"}
_UNITS = {
    "km/h": "公里每小时", "m/s": "米每秒", "km": "公里", "cm": "厘米", "mm": "毫米", "kg": "公斤", "mg": "毫克",
    "ml": "毫升", "mL": "毫升", "m": "米", "g": "克", "L": "升", "GB": "吉字节", "MB": "兆字节", "Hz": "赫兹",
    "kHz": "千赫兹", "kW": "千瓦", "W": "瓦", "V": "伏", "m²": "平方米", "㎡": "平方米",
}  # fmt: skip
_COUNTED = "个只条张块瓶杯份本辆台匹头位天年周层次倍点名种家件座颗双句篇部首斤米吨克升秒元岁万亿千"
_COUNTED_WORDS = "小时|分钟|公里|公斤|厘米|毫米|毫升|平方米|美元"
_NUMBER = r"[0-9]+(?:\.[0-9]+)?"


def written_out(text: str) -> str:
    """The text without a figure left in it."""
    text = text.translate(_FULL_WIDTH)
    for pattern, written in _RULES:
        text = pattern.sub(written, text)
    return text


def cardinal(digits: str) -> str:
    """A whole number in words: "10050" is 一万零五十. Leading zeros count for nothing."""
    digits = digits.lstrip("0")
    if not digits:
        return DIGITS[0]
    if len(digits) > _LONGEST:
        return one_by_one(digits)
    words, gap = "", False
    for place, digit in zip(range(len(digits) - 1, -1, -1), digits, strict=True):
        if digit == "0":
            gap = bool(words)
        else:
            words += (DIGITS[0] if gap else "") + DIGITS[int(digit)] + _PLACES[place % 4]
            gap = False
        if place % 4 == 0:
            group = digits[: len(digits) - place][-4:]
            words += _GROUPS[place // 4] if group.strip("0") else ""
            gap = False
    return words[1:] if words.startswith("一十") else words


def one_by_one(digits: str) -> str:
    """Each figure by its name."""
    return "".join(DIGITS[int(digit)] for digit in digits)


def _number(text: str, before: str = "") -> str:
    """A number with or without a fraction; the lone 2 of a count is 两 where `before` is what it counts."""
    whole, _, fraction = text.partition(".")
    if text == "2" and before and re.match(rf"[{_COUNTED}]|{_COUNTED_WORDS}", before):
        return "两"
    return cardinal(whole) + ("点" + one_by_one(fraction) if fraction else "")


def _date(match: re.Match[str]) -> str:
    year, month, day = match.groups()
    return f"{one_by_one(year)}年{cardinal(month)}月{cardinal(day)}日"


def _time(match: re.Match[str]) -> str:
    hour, minute, second = match.groups()
    words = _number(str(int(hour)), "点") + "点"
    if int(minute) or second:
        words += (DIGITS[0] if minute[0] == "0" and minute != "00" else "") + cardinal(minute) + "分"
    return words + (cardinal(second) + "秒" if second else "")


def _telephone(match: re.Match[str]) -> str:
    return one_by_one(match[0].replace("-", "")).replace("一", "幺")


def _money(match: re.Match[str]) -> str:
    unit = _MONEY[match[1]]
    return _number(match[2], match[3] or unit) + (match[3] or "") + unit


def _degrees(match: re.Match[str]) -> str:
    return ("零下" if match[1] else "") + _number(match[2]) + "摄氏度"


def _share(match: re.Match[str]) -> str:
    return ("百" if match[3] == "%" else "千") + "分之" + ("负" if match[1] else "") + _number(match[2])


def _unit(match: re.Match[str]) -> str:
    unit = _UNITS[match[2]]
    return _number(match[1], unit) + unit


def _plain(match: re.Match[str]) -> str:
    """The second of a series is 第二; two of a thing are 两."""
    ordinal = match.string[: match.start()].endswith("第")
    after = "" if ordinal else match.string[match.end() :].lstrip()[:3]
    return ("负" if match[1] else "") + _number(match[2], after)


def _rule(pattern: str, written: Callable[[re.Match[str]], str]) -> tuple[re.Pattern[str], Callable[..., str]]:
    return re.compile(pattern, re.ASCII), written


_UNIT = "|".join(sorted(map(re.escape, _UNITS), key=len, reverse=True))
_MINUS = r"(?:(?<![A-Za-z0-9)])([-−]))?"
_RULES = (  # in this order: what is special before what is plain
    _rule(r"(?<![0-9])[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])", lambda match: match[0].replace(",", "")),
    _rule(r"(?<![0-9])([12][0-9]{3})[-/.](0?[1-9]|1[0-2])[-/.]([0-2]?[0-9]|3[01])(?![0-9])", _date),
    _rule(r"(?<![0-9])(?!1000)(?:1[0-9]|2[01])[0-9]{2}(?=\s*年)", lambda match: one_by_one(match[0])),
    _rule(r"(?<=[:：][0-9]{2})\s*[-–~～]\s*(?=[0-9]{1,2}[:：][0-9]{2})", lambda match: "到"),
    _rule(r"(?<![0-9])([01]?[0-9]|2[0-4])[:：]([0-5][0-9])(?:[:：]([0-5][0-9]))?(?![0-9])", _time),
    _rule(r"([0-9]+)[:：]([0-9]+)", lambda match: f"{cardinal(match[1])}比{cardinal(match[2])}"),
    _rule(r"(?<![0-9])(?:1[3-9][0-9]{9}|0[0-9]{2,3}-[0-9]{7,8})(?![0-9])", _telephone),
    _rule(rf"{_MINUS}({_NUMBER})\s*(?:℃|°C)", _degrees),
    _rule(rf"{_MINUS}({_NUMBER})\s*([%‰])", _share),
    _rule(rf"([¥￥$€£])\s*({_NUMBER})([万亿])?", _money),
    _rule(r"([0-9]+)/([0-9]+)", lambda match: f"{cardinal(match[2])}分之{cardinal(match[1])}"),
    _rule(rf"(?<![A-Za-z0-9])({_NUMBER})[-–~～](?={_NUMBER}(?![0-9-]))", lambda match: f"{_number(match[1])}到"),
    _rule(rf"(?<![A-Za-z])({_NUMBER})\s*({_UNIT})(?![A-Za-z])", _unit),
    _rule(r"[0-9]+(?:\.[0-9]+){2,}", lambda match: "点".join(map(cardinal, match[0].split(".")))),
    _rule(r"(?<![0-9.])0[0-9]+(?![0-9.])", lambda match: one_by_one(match[0])),
    _rule(rf"{_MINUS}({_NUMBER})", _plain),
)
