"""Figures, signs and short forms in English text, each with how it is read. Knows words only, no sounds."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from pathlib import Path

from hibari.g2p.normalize import ABBREV, MONTHS, ROMAN_CARDINAL, ROMAN_ORDINAL, TITLES, UNITS

from pipelines.readers import addresses
from pipelines.readers.english_numbers import (
    NUMBER,
    cardinal,
    code,
    fraction,
    number,
    one_by_one,
    ordinal,
    plural,
    year,
)
from pipelines.readers.spans import Rule, Said, Span, claim, roman, rule

_TABLES = tomllib.loads(Path(__file__).with_name("english.toml").read_text(encoding="utf-8"))
_TITLES: dict[str, str] = {**TITLES, **_TABLES["titles"]}
_SHORT: dict[str, str] = {short: words for short, words in ABBREV.items() if short.rstrip(".") not in _TITLES}
_SHORT |= _TABLES["short"]
_UNITS: dict[str, list[str]] = {**UNITS, **_TABLES["units"]}
_MONEY: dict[str, list[str]] = _TABLES["money"]
_BIG: dict[str, str] = _TABLES["scales"]
_SIGNS: dict[str, str] = _TABLES["signs"]
_KINGS = set(ROMAN_ORDINAL)


def spans(text: str) -> list[Span]:
    """What of a text is not said as it is written; `text` as spans.plain() gives it."""
    return claim(text, RULES)


def _time(match: re.Match[str]) -> str:
    hour, minute, second, half = match.groups()
    words = cardinal(hour)
    if int(minute):
        words += (" oh " if minute[0] == "0" else " ") + cardinal(minute)
    elif not half:
        words += " o'clock" if int(hour) <= 12 else " hundred"
    if second:
        words += f" and {cardinal(second)} second" + ("" if int(second) == 1 else "s")
    return words + _half(half)


def _half(half: str | None) -> str:
    return f" {half[0].lower()}.m." if half else ""


def _dated(month: int, day: str, years: str | None) -> str:
    if not 1 <= month <= 12 or not 1 <= int(day) <= 31:
        return ""
    return f"{list(MONTHS.values())[month - 1]} {ordinal(day)}" + (f", {year(years)}" if years else "")


def _american(match: re.Match[str]) -> str:
    first, second, years = match.groups()
    years = years if len(years) == 4 else ("19" if int(years) > 30 else "20") + years
    day_first = int(first) > 12
    return _dated(int(second if day_first else first), first if day_first else second, years)


def _month_day(match: re.Match[str]) -> str:
    return _dated(_month(match[1]), match[2], match[3])


def _day_month(match: re.Match[str]) -> str:
    the, day, month, years = match.groups()
    if not 1 <= int(day) <= 31:
        return ""
    return f"the {ordinal(day)} of {MONTHS[month.lower()[:3]]}" + (f" {year(years)}" if years else "")


def _month(name: str) -> int:
    return list(MONTHS).index(name.lower()[:3]) + 1


def _decade(match: re.Match[str]) -> str:
    digits = match[1]
    return plural(year(digits) if len(digits) == 4 else cardinal(digits))


def _phone(match: re.Match[str]) -> str:
    plus = "plus " if match[0].startswith("+") else ""
    return plus + ", ".join(one_by_one(group) for group in re.findall("[0-9]+", match[0]))


def _money(match: re.Match[str]) -> str:
    return _amount(match[2], match[3], _MONEY[match[1]])


def _money_after(match: re.Match[str]) -> str:
    return _amount(match[1], match[2], _MONEY[match[3]])


def _amount(amount: str, big: str | None, names: list[str]) -> str:
    one, many, cent, cents = names
    whole, _, part = amount.replace(",", "").partition(".")
    if big:
        return f"{number(amount)} {_BIG.get(big, big)} {many}"
    if part and len(part) != 2:
        return f"{number(amount)} {many}"
    said = [f"{cardinal(whole)} {one if int(whole) == 1 else many}"] if int(whole) or not part.strip("0") else []
    if part.strip("0"):
        said.append(f"{cardinal(part)} {cent if int(part) == 1 else cents}")
    return " and ".join(said)


def _money_range(match: re.Match[str]) -> str:
    scale = f" {_BIG.get(match[4], match[4])}" if match[4] else ""
    return f"{number(match[2])} to {number(match[3])}{scale} {_MONEY[match[1]][1]}"


def _unit(match: re.Match[str]) -> str:
    minus, amount, symbol = match.groups()
    one, many = _UNITS[symbol]
    return ("minus " if minus else "") + f"{number(amount)} {one if amount == '1' else many}"


def _unit_range(match: re.Match[str]) -> str:
    return f"{number(match[1])} to {number(match[2])} {_UNITS[match[3]][1]}"


def _feet(match: re.Match[str]) -> str:
    return f"{cardinal(match[1])} foot {cardinal(match[2])}"


def _range(match: re.Match[str]) -> str:
    first, last = match[1], match[2]
    years = all(len(digits) == 4 and "1100" < digits < "2100" for digits in (first, last))
    return f"{year(first)} to {year(last)}" if years else f"{number(first)} to {number(last)}"


def _fraction(match: re.Match[str]) -> str:
    whole, above, below = match.groups()
    if int(below) == 0:
        return ""
    if not whole and int(above) >= int(below):
        return f"{cardinal(above)} slash {cardinal(below)}"
    part = fraction(above, below)
    return f"{cardinal(whole)} and {part.replace('one half', 'a half')}" if whole else part


def _numeral(match: re.Match[str]) -> str:
    value = roman(match[2])
    if not value:
        return ""
    return f"{match[1]} the {ordinal(value)}" if match[1] in _KINGS else f"{match[1]} {cardinal(value)}"


def _short(match: re.Match[str]) -> str:
    return _SHORT[match[0]]


def _named(match: re.Match[str]) -> str:
    """A name made of letters and figures, each kind by itself; short capitals by their letters."""
    parts = re.findall(r"[A-Za-z]+|[0-9]+", match[0])
    if not any(part.isdigit() for part in parts):
        return ""
    return " ".join(code(part) if part.isdigit() else _letters(part) for part in parts)


def _letters(part: str) -> str:
    return " ".join(part) if len(part) == 1 or (part.isupper() and len(part) < 4) else part


def _integer(match: re.Match[str]) -> Said:
    """Four figures are a year where they can be one, and no plural follows that they would count."""
    minus, digits = match.groups()
    sign = "minus " if minus else ""
    ways = [cardinal(digits)] if digits[0] != "0" or digits == "0" else []
    if len(digits) == 4 and "1100" <= digits < "2100" and not minus:
        counted = re.match(r"\s+(?:[a-z]+s|people|men|women|children)\b", match.string[match.end() :])
        since = re.search(
            r"\b(?:in|since|by|until|year|before|after|from|to|early|late|mid)\s$", match.string[: match.start()]
        )
        ways.insert(0 if since or not counted and digits >= "1500" else 1, year(digits))
    ways.append(one_by_one(digits))
    return tuple(sign + way for way in dict.fromkeys(ways))


def _alternatives(names: Iterable[str]) -> str:
    return "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))


_MONTH = _alternatives([*MONTHS.values(), *(month.capitalize() for month in MONTHS), "Sept"])
_UNIT, _COIN = _alternatives(_UNITS), _alternatives(_MONEY)
_CODES = _alternatives(name for name in _MONEY if name.isalpha())
_SCALE = r"hundred|thousand|million|billion|trillion|bn\b|[kKmMbB]\b"
_N = rf"(?<![A-Za-z0-9.,])({NUMBER})"
_MINUS = r"(?:(?<![A-Za-z0-9)\]])([-−]))?"
_DASH = r"\s?[-–—~]\s?"
_HALF = r"(?:\s?([AaPp]\.[Mm]\.|[AaPp][Mm]\b))"

RULES: tuple[Rule, ...] = (  # in this order: what is special before what is plain
    rule(addresses.EMAIL, lambda m: addresses.say(m[0], addresses.ENGLISH, one_by_one)),
    rule(addresses.WEB, lambda m: addresses.say(m[0], addresses.ENGLISH, one_by_one)),
    rule(addresses.FILE, lambda m: addresses.say(m[0], addresses.ENGLISH, one_by_one)),
    rule(r"(?<!\w)@([A-Za-z_][A-Za-z0-9_]*)", lambda m: "at " + addresses.say(m[1], addresses.ENGLISH, one_by_one)),
    rule(r"(?<!\w)#([A-Za-z]\w*)", lambda m: "hashtag " + addresses.say(m[1], addresses.ENGLISH, one_by_one)),
    rule(
        r"(?<![0-9.])[0-9]{1,3}(?:\.[0-9]{1,3}){3}(?![0-9.])", lambda m: " dot ".join(map(one_by_one, m[0].split(".")))
    ),
    rule(rf"(?<![0-9:])([0-9]|1[0-9]|2[0-4]):([0-5][0-9])(?::([0-5][0-9]))?{_HALF}?(?![0-9:])", _time),
    rule(r"(?<![0-9:])(0[0-9]):([0-5][0-9])(?::([0-5][0-9]))?" + _HALF + "?(?![0-9:])", _time),
    rule(rf"(?<![0-9:.])([1-9]|1[0-2]){_HALF}(?![A-Za-z])", lambda m: cardinal(m[1]) + _half(m[2])),
    rule(r"(?<![0-9])([12][0-9]{3})[-/]([0-9]{1,2})[-/]([0-9]{1,2})(?![0-9])", lambda m: _dated(int(m[2]), m[3], m[1])),
    rule(r"(?<![0-9/])([0-9]{1,2})/([0-9]{1,2})/([0-9]{4}|[0-9]{2})(?![0-9/])", _american),
    rule(rf"\b({_MONTH})\.? ([0-9]{{1,2}})(?:st|nd|rd|th)?(?![0-9:%]|-[0-9])(?:,? ([0-9]{{4}}))?(?![0-9])", _month_day),
    rule(rf"\b(the )?([0-9]{{1,2}})(?:st|nd|rd|th)? (?:of )?({_MONTH})\b\.?(?:,? ([0-9]{{4}})(?![0-9]))?", _day_month),
    rule(
        rf"\b({_MONTH})\.? ([0-9]{{1,2}}){_DASH}([0-9]{{1,2}})(?![0-9])",
        lambda m: f"{_dated(_month(m[1]), m[2], None)} to {ordinal(m[3])}",
    ),
    rule(
        rf"\b({_alternatives(m.capitalize() for m in MONTHS if m != 'may')})\.(?= [0-9])",
        lambda m: MONTHS[m[1].lower()],
    ),
    rule(r"(?<![0-9A-Za-z])['’]?((?:1[0-9]|20)?[0-9]0)(?:s|'s|’s)\b", _decade),
    rule(r"(?<![0-9.])\+?[0-9]{1,3}[-. ]\(?[0-9]{3}\)?[-. ][0-9]{3}[-. ][0-9]{4}(?![0-9])", _phone),
    rule(r"(?<![0-9.-])(?:\([0-9]{3}\) ?|[0-9]{3}[-. ])?[0-9]{3}[-.][0-9]{4}(?![0-9-])", _phone),
    rule(r"(?<![0-9A-Za-z-])[0-9]+(?:-[0-9]+){2,}(?![0-9A-Za-z])", _phone),
    rule(rf"({_COIN})\s?({NUMBER}){_DASH}(?:{_COIN})?({NUMBER})(?:\s?({_SCALE}))?(?![0-9])", _money_range),
    rule(rf"(?<![A-Za-z])({_COIN})\s?({NUMBER})(?:\s?({_SCALE}))?", _money),
    rule(rf"{_N}(?:\s?({_SCALE}))?\s({_CODES})\b", _money_after),
    rule(rf"{_N}\s?¢", lambda m: f"{number(m[1])} cent" + ("" if m[1] == "1" else "s")),
    rule(rf"{_N}{_DASH}({NUMBER})\s?%", lambda m: f"{number(m[1])} to {number(m[2])} percent"),
    rule(rf"{_MINUS}{_N}\s?%", lambda m: ("minus " if m[1] else "") + number(m[2]) + " percent"),
    rule(r"\b24/7\b", lambda m: "twenty-four seven"),
    rule(r"(?<![0-9.])([0-9]{1,2})['′]([0-9]{1,2})(?:[\"″]|'')", _feet),
    rule(rf"{_N}{_DASH}({NUMBER})\s?({_UNIT})(?![A-Za-z0-9])", _unit_range),
    rule(rf"{_MINUS}{_N}\s?({_UNIT})(?![A-Za-z0-9'’])(?<! in)", _unit),
    rule(r"(?<![0-9./])(?:([0-9]+) )?([0-9]+)/([0-9]+)(?![0-9/])", _fraction),
    rule(
        r"(?<![0-9.])([0-9]+)([½¼¾⅓⅔])", lambda m: f"{cardinal(m[1])} and {_SIGNS[m[2]].replace('one half', 'a half')}"
    ),
    rule(r"(?<![0-9.])([0-9]+):([0-9]+)(?![0-9])", lambda m: f"{cardinal(m[1])} to {cardinal(m[2])}"),
    rule(r"(?<![A-Za-z0-9])([0-9]{1,3}(?:,[0-9]{3})*)(?:st|nd|rd|th)\b", lambda m: ordinal(m[1].replace(",", ""))),
    rule(rf"\b({_alternatives([*ROMAN_CARDINAL, *ROMAN_ORDINAL])}) ([IVXLC]+)\b(?!['’.]\w)", _numeral),
    rule(r"\b(?:No|Nos)\. ?(?=[0-9])", lambda m: "number"),
    rule(r"(?<![\w&])#(?=[0-9])", lambda m: "number"),
    rule(rf"\b({_alternatives(_TITLES)})\.? (?=[A-Z])(?<=[. ])", lambda m: _TITLES[m[1]]),
    rule(rf"(?<![\w.])(?:{_alternatives(_SHORT)})(?![\w])", _short),
    rule(
        r"(?<![0-9.])v?[0-9]+(?:\.[0-9]+){2,}(?![0-9])",
        lambda m: ("version " if m[0][0] == "v" else "") + " point ".join(map(cardinal, m[0].lstrip("v").split("."))),
    ),
    rule(r"(?<=[0-9])\s?[-−]\s?(?=[0-9.]+\s?=)", lambda m: "minus"),
    rule(r"(?<=[0-9])\s?[x*]\s?(?=[0-9])", lambda m: "times"),
    rule(rf"(?<![A-Za-z0-9.-])({NUMBER}){_DASH}({NUMBER})(?![0-9A-Za-z-])", _range),
    rule(r"\b911\b", lambda m: one_by_one(m[0])),
    rule(rf"(?<![A-Za-z0-9.,])({NUMBER})(k|(?<=[0-9]{{2}})K|[mMbB]|bn)\b", lambda m: f"{number(m[1])} {_BIG[m[2]]}"),
    rule(r"(?<![A-Za-z0-9.])(?:[A-Za-z]+-?[0-9]+|[0-9]+-?[A-Za-z]+)(?:-?[A-Za-z0-9]+)*(?![A-Za-z0-9])", _named),
    rule(rf"{_MINUS}(?<![0-9.])(?<![0-9],)([0-9]+)(?![0-9]|,[0-9]{{3}}|\.[0-9])", _integer),
    rule(rf"{_MINUS}({NUMBER}|\.[0-9]+)", lambda m: ("minus " if m[1] else "") + number(m[2])),
    rule(r"~(?=\s?[0-9])", lambda m: "about"),
    rule(
        r"(?<=[0-9A-Za-z)])\s?[<>]\s?(?=[0-9A-Za-z(-])", lambda m: "is less than" if "<" in m[0] else "is greater than"
    ),
    rule(f"[{''.join(map(re.escape, _SIGNS))}]", lambda m: _SIGNS[m[0]]),
)
