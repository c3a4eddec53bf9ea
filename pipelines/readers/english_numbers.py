"""Numbers in English words, as Americans say them. Knows no text around them."""

from __future__ import annotations

from hibari.g2p import numbers

NUMBER = r"(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?"
_LONGEST = 15  # figures of a number; more are read one by one
_PARTS = {2: "half", 4: "quarter"}


def cardinal(digits: str | int) -> str:
    """ "1050" is one thousand fifty."""
    digits = str(digits)
    if len(digits) > _LONGEST:
        return one_by_one(digits)
    return _bare(numbers.cardinal(int(digits)))


def ordinal(digits: str | int) -> str:
    """ "23" is twenty-third."""
    return _bare(numbers.ordinal(int(digits)))


def one_by_one(digits: str) -> str:
    """Each figure by its name."""
    return " ".join(numbers.ONES[int(digit)] for digit in digits if digit.isdigit())


def year(digits: str | int) -> str:
    """ "1905" is nineteen oh five, "2008" two thousand eight, "2026" twenty twenty-six."""
    return _bare(numbers.year(int(digits))).replace("oh-", "oh ")


def code(digits: str) -> str:
    """Figures in a name, two by two from the end: "380" is three eighty, "1080" ten eighty, "007" zero zero seven."""
    if digits[0] == "0" or len(digits) > 4:
        return one_by_one(digits)
    if len(digits) < 3:
        return cardinal(digits)
    head, tail = digits[:-2], digits[-2:]
    if tail == "00":
        return cardinal(head) + " hundred"
    return f"{cardinal(head)} {'oh ' if tail[0] == '0' else ''}{cardinal(tail)}"


def number(text: str) -> str:
    """A number with or without commas and a fraction."""
    whole, _, fraction = text.replace(",", "").partition(".")
    return cardinal(whole or "0") + (f" point {one_by_one(fraction)}" if fraction else "")


def fraction(above: str, below: str) -> str:
    """ "3", "4" is three quarters."""
    part = _PARTS.get(int(below)) or ordinal(below)
    if int(above) == 1:
        return f"one {part}"
    return f"{cardinal(above)} {'halves' if part == 'half' else part + 's'}"


def plural(words: str) -> str:
    """The plural of a number's name: nineties, twos."""
    return words[:-1] + "ies" if words.endswith("y") else words + ("es" if words.endswith("x") else "s")


def _bare(words: str) -> str:
    return words.replace(",", "").replace(" and ", " ")
