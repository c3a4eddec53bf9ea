"""Numbers in Chinese words. Knows no text around them but the word that is counted."""

from __future__ import annotations

import re

DIGITS = "零一二三四五六七八九"
_PLACES = ("", "十", "百", "千")
_GROUPS = ("", "万", "亿")
_LONGEST = 12  # figures of a number; more are read one by one
_COUNTED = (
    "个只条张块瓶杯份本辆台匹头位天年周层次倍点名种家件座颗双句篇部首斤米吨克升秒元岁万亿千场盒把根支枝袋碗间棵朵"
    "株群对套顿门道幅架艘列封滴片粒包串口毛角分寸尺步声遍趟回声招"
)
_COUNTED_WORDS = "小时|分钟|公里|公斤|厘米|毫米|毫升|平方米|平方公里|立方米|美元|欧元|英镑|港元|日元|星期|百|摄氏度"
NUMBER = r"(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?"


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
    words = words[1:] if words.startswith("一十") else words
    return re.sub("^二(?=[千万亿])", "两", words)


def one_by_one(digits: str, one: str = "一") -> str:
    """Each figure by its name; telephone numbers say 幺 for a one."""
    return "".join(one if digit == "1" else DIGITS[int(digit)] for digit in digits if digit.isdigit())


def number(text: str, counted: str = "") -> str:
    """A number with or without commas and a fraction; the lone 2 of a count is 两 where `counted` is what it counts."""
    whole, _, fraction = text.replace(",", "").partition(".")
    if whole == "2" and not fraction and re.match(rf"[{_COUNTED}]|{_COUNTED_WORDS}", counted):
        return "两"
    return cardinal(whole) + ("点" + one_by_one(fraction) if fraction else "")
