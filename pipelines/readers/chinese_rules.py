"""Figures, signs and short forms in Chinese text, each with how it is read. Knows characters only, no sounds."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from pipelines.readers import addresses
from pipelines.readers.chinese_numbers import NUMBER, cardinal, number, one_by_one
from pipelines.readers.spans import HAN, Rule, Said, Span, applied, claim, plain, roman, rule

_TABLES = tomllib.loads(Path(__file__).with_name("chinese.toml").read_text(encoding="utf-8"))
_MONEY: dict[str, str] = _TABLES["money"]
_UNITS: dict[str, str] = _TABLES["units"]
_SIGNS: dict[str, str] = _TABLES["signs"]
_SCALES: dict[str, str] = _TABLES["degrees"]
_ROMAN = {chr(0x2160 + n): cardinal(str(n + 1)) for n in range(12)}
_CIRCLED = {chr(0x2460 + n): cardinal(str(n + 1)) for n in range(20)}
_DASH = "[-–—~～−]"
_EMERGENCY = "110|112|114|119|120|122|911|12306|12315|12345|12348|10086|10010|10000"


def written_out(text: str) -> str:
    """The text without a figure left in it."""
    text = plain(text)
    return applied(text, claim(text, RULES))


def spans(text: str) -> list[Span]:
    """What of a text is not said as it is written; `text` as spans.plain() gives it."""
    return claim(text, RULES)


def _both(whole: str, counted: str = "") -> Said:
    """A whole number as a number, or figure by figure."""
    said = number(whole, counted)
    return (said, one_by_one(whole)) if "." not in whole else said


def _date(match: re.Match[str]) -> str:
    year, month, day = match.groups()
    return f"{one_by_one(year)}年{cardinal(month)}月{cardinal(day)}日"


def _time(match: re.Match[str]) -> str:
    hour, minute, second, half = match.groups()
    words = number(str(int(hour)), "点") + "点"
    if int(minute) or second:
        words += ("零" if minute[0] == "0" and minute != "00" else "") + cardinal(minute) + "分"
    words += cardinal(second) + "秒" if second else ""
    return {"a": "上午", "p": "下午"}.get((half or "")[:1].lower(), "") + words


def _telephone(match: re.Match[str]) -> Said:
    return ("加" if match[0].startswith("+") else "") + one_by_one(match[0], "幺")


def _money(match: re.Match[str]) -> str:
    unit = _MONEY[match[1]]
    return number(match[2], match[3] or unit) + (match[3] or "") + unit


def _money_after(match: re.Match[str]) -> str:
    return number(match[1], match[2] or _MONEY[match[3]]) + (match[2] or "") + _MONEY[match[3]]


def _degrees(match: re.Match[str]) -> str:
    scale = _SCALES.get(match[3], "度")
    return ("零下" if match[1] else "") + number(match[2], scale) + scale


def _degree_range(match: re.Match[str]) -> str:
    first = ("零下" if match[1] else "") + number(match[2])
    last = ("零下" if match[3] else "零上" if match[1] else "") + number(match[4])
    return f"{first}到{last}{_SCALES.get(match[5], '度')}"


def _share(match: re.Match[str]) -> str:
    return ("百" if match[3] == "%" else "千") + "分之" + ("负" if match[1] else "") + number(match[2])


def _unit(match: re.Match[str]) -> str:
    unit = _UNITS[match[2]]
    return number(match[1], unit) + unit + (f"每{_UNITS[match[3]]}" if match[3] else "")


def _fraction(match: re.Match[str]) -> str:
    whole = f"{cardinal(match[1])}又" if match[1] else ""
    return f"{whole}{cardinal(match[3])}分之{cardinal(match[2])}"


def _plain(match: re.Match[str]) -> Said:
    """The second of a series is 第二; two of a thing are 两."""
    ordinal = match.string[: match.start()].endswith("第")
    after = "" if ordinal else match.string[match.end() :].lstrip()[:4]
    if after[:1] == "点" and after[1:2].isdigit():
        after = ""
    said = _both(match[2], after)
    first, *others = (said,) if isinstance(said, str) else said
    sign = "负" if match[1] else ""
    return sign + first, *(sign + other for other in others)


def _numeral(match: re.Match[str]) -> str:
    value = roman(match[0])
    return cardinal(str(value)) if value else ""


def _address(match: re.Match[str]) -> str:
    return addresses.say(match[0], addresses.CHINESE, one_by_one)


def _score(match: re.Match[str]) -> str:
    return f"{cardinal(match[1])}比{cardinal(match[2])}"


_UNIT = "|".join(sorted(map(re.escape, _UNITS), key=len, reverse=True))
_COIN = "|".join(sorted(map(re.escape, _MONEY), key=len, reverse=True))
_CODE = "|".join(code for code in _MONEY if code.isalpha())
_MINUS = r"(?:(?<![A-Za-z0-9)])([-−]))?"
_CLOCK = (
    r"(?<![0-9])([01]?[0-9]|2[0-4])[:：]([0-5][0-9])(?:[:：]([0-5][0-9]))?(?:\s?([AaPp]\.?[Mm])(?![A-Za-z]))?(?![0-9])"
)
_YEAR = r"(?<![0-9.])(?!1000)(?:1[0-9]|2[01])[0-9]{2}"

RULES: tuple[Rule, ...] = (  # in this order: what is special before what is plain
    rule(addresses.EMAIL, _address),
    rule(addresses.WEB, _address),
    rule(addresses.FILE, _address),
    rule(r"(?<![0-9.])[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?![0-9.])", lambda m: "点".join(map(one_by_one, m[0].split(".")))),
    rule(r"(?<![0-9])([12][0-9]{3})[-/.](0?[1-9]|1[0-2])[-/.](3[01]|[12][0-9]|0?[1-9])(?![0-9])", _date),
    rule(
        rf"{_YEAR}(?=\s*年)|{_YEAR}(?=\s*(?:{_DASH}|至|到)\s*[12][0-9]{{3}}\s*年)",
        lambda m: (one_by_one(m[0]), cardinal(m[0])),
    ),
    rule(r"(?<![0-9])['’]?[6-9][0-9](?=年(?![代前后来间内历里以]))", lambda m: one_by_one(m[0])),
    rule(r"(?<![0-9])[0-9]0(?=后(?![0-9天日年个]))", lambda m: one_by_one(m[0])),
    rule(r"(?:(?<=比分)|(?<=比分是)|(?<=比分为)|(?<=以))\s*([0-9]{1,3})\s?[-:：]\s?([0-9]{1,3})(?![0-9])", _score),
    rule(_CLOCK, _time),
    rule(r"([0-9]+)[:：]([0-9]+)", _score),
    rule(r"\+[0-9]{1,3}[- ]?1[3-9][0-9](?:[- ]?[0-9]{4}){2}(?![0-9])", _telephone),
    rule(r"(?<![0-9])(?:1[3-9][0-9](?:[- ]?[0-9]{4}){2}|[(（]?0[0-9]{2,3}[)）-][0-9]{7,8})(?![0-9])", _telephone),
    rule(r"(?<![0-9-])[48]00-?[0-9]{3}-?[0-9]{4}(?![0-9])", _telephone),
    rule(r"(?<![0-9A-Za-z-])[0-9]+(?:-[0-9]+){2,}(?![0-9A-Za-z])", _telephone),
    rule(rf"(?:(?<=拨打)|(?<=电话)|(?<=拨)|(?<=热线)|(?<=打))\s?(?:{_EMERGENCY})(?![0-9.])", _telephone),
    rule(rf"(?<![0-9])(?:{_EMERGENCY})(?=电话|热线|报警|急救)", _telephone),
    rule(rf"{_MINUS}({NUMBER})\s?{_DASH}\s?([-−]?)({NUMBER})\s*(℃|℉|°C|°F|°)(?![A-Za-z])", _degree_range),
    rule(rf"(?<![0-9])({NUMBER})\s?{_DASH}\s?({NUMBER})\s?%", lambda m: f"百分之{number(m[1])}到{number(m[2])}"),
    rule(r"(?<=[0-9])\s?[-−]\s?(?=[0-9.]+\s?=)", lambda m: "减"),
    rule(rf"(?<=[0-9%‰℃°年月日号点时分万亿元])\s?{_DASH}\s?(?=[¥￥$€£]?-?[0-9])", lambda m: "到"),
    rule(rf"{_MINUS}({NUMBER})\s*(℃|℉|°C|°F|°)(?![A-Za-z])", _degrees),
    rule(rf"{_MINUS}({NUMBER})\s*([%‰])", _share),
    rule(rf"({_COIN})\s*({NUMBER})\s?([万亿百千])?", _money),
    rule(rf"(?<![A-Za-z0-9.])({NUMBER})\s?([万亿百千])?\s?({_CODE})(?![A-Za-z])", _money_after),
    rule(r"(?<![0-9./])(?:([0-9]+)\s)?([0-9]+)/([0-9]+)(?![0-9/])", _fraction),
    rule(rf"(?<![A-Za-z0-9.])({NUMBER})\s?({_UNIT})(?:/({_UNIT}))?(?![A-Za-z0-9])", _unit),
    rule(r"(?<=[0-9])\s?[x*]\s?(?=[0-9])", lambda m: "乘"),
    rule(r"[0-9]+(?:\.[0-9]+){2,}", lambda m: "点".join(map(cardinal, m[0].split(".")))),
    rule(r"(?<![0-9.,])0[0-9]+(?![0-9.])", lambda m: one_by_one(m[0])),
    rule(r"(?<=[A-Za-z])[0-9]{3,}(?![0-9.])", lambda m: (one_by_one(m[0]), cardinal(m[0]))),
    rule(
        r"(?<![0-9.])[0-9]{3,4}(?=室|房|教室|宿舍|航班|次列车|路公交|路车)",
        lambda m: (one_by_one(m[0], "幺"), cardinal(m[0])),
    ),
    rule(rf"(?:(?<=[{HAN}])|(?<=[{HAN}] ))[IVX]{{2,}}(?![A-Za-z])", _numeral),
    rule(r"(?<![A-Za-z])[IVX]+(?=[型期级类章卷世部])", _numeral),
    rule(rf"[{''.join(_ROMAN)}]", lambda m: _ROMAN[m[0]]),
    rule(rf"[{''.join(_CIRCLED)}]", lambda m: _CIRCLED[m[0]]),
    rule(r"(?i:No)\.\s?(?=[0-9])", lambda m: "第"),
    rule(rf"{_MINUS}({NUMBER})", _plain),
    rule(r"(?<=[0-9A-Za-z)）])\s?[<>]\s?(?=[0-9A-Za-z(（-])", lambda m: "小于" if "<" in m[0] else "大于"),
    rule(f"[{''.join(map(re.escape, _SIGNS))}]", lambda m: _SIGNS[m[0]]),
)
