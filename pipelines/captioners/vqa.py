"""The accuracy of an answer about a picture, as people answered it. Knows text only.

Antol et al. 2015, "VQA: Visual Question Answering", section 4.1, as its official evaluation computes it: every answer
is set aside in turn, and three of the others must agree. Compared without punctuation, case and articles, numbers as
digits, contractions with their apostrophe. The official program takes people's answers as already in that form; here
both sides are brought into it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

ENOUGH = 3  # people who must agree

_MARKS = ';/[]"{}()=+\\_-><@`,?!'
_ARTICLES = {"a", "an", "the"}
_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
_NUMBERS = {"none": "0", **{word: str(number) for number, word in enumerate(_DIGITS)}}
_CONTRACTIONS = """
ain't aren't can't couldn't didn't doesn't don't hadn't hasn't haven't isn't mightn't mustn't needn't oughtn't shan't
shouldn't wasn't weren't won't wouldn't could've might've must've should've they've we've who've would've you've he's
how's that's there's what's when's where's who's why's someone's something's they're there're what're why're you're it'd
there'd they'd where'd who'd you'd it'll that'll they'll what'll who'll you'll ma'am o'clock y'all
"""  # those that are no other word without their apostrophe, as "we'll" would be
_APOSTROPHES = {word.replace("'", ""): word for word in _CONTRACTIONS.split()}


def vqa_accuracy(answer: str, answers: Sequence[str]) -> float:
    """How far `answers` (at least one, usually ten) bear the answer out, in [0, 1].

    With ENOUGH answers or fewer none can be set aside: then it is the share of those that agree.
    """
    said, given = normal(answer), [normal(one) for one in answers]
    same = given.count(said)
    if len(given) <= ENOUGH:
        return same / len(given)
    agreeing, other = min(max(same - 1, 0) / ENOUGH, 1.0), min(same / ENOUGH, 1.0)  # which kind is set aside
    return (same * agreeing + (len(given) - same) * other) / len(given)


def normal(answer: str) -> str:
    """As it is compared."""
    text = " ".join(answer.split())
    has_thousands = re.search(r"\d,\d", text) is not None
    bare = text
    for mark in _MARKS:
        glued = has_thousands or f"{mark} " in text or f" {mark}" in text
        bare = bare.replace(mark, "" if glued else " ")
    said = (_NUMBERS.get(word, word) for word in re.sub(r"\.(?!\d)", "", bare).lower().split())
    return " ".join(_APOSTROPHES.get(word, word) for word in said if word not in _ARTICLES)
