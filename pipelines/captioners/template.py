"""The template family: slots are filled one by one, and a sentence is made of them.

After Kulkarni et al. 2011 ("Baby Talk"). What the picture shows and which group it belongs to are found by zero-shot
classification with the starter model's towers (Radford et al. 2021); colour, pieces and shading are measured, for the
towers are trained to see the same thing in every style and so cannot tell styles apart. Words, prompts and the tables
of colours and styles are in template.toml.
"""

from __future__ import annotations

import string
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageColor

from pipelines.captioners import pixels
from pipelines.captioners.plan import Slot, Template
from pipelines.captioners.starter import Starter
from pipelines.retrievers.zero_shot import probabilities

SHOWN = 8  # candidates of a slot
COUNTS = ("one", "two", "three")  # more are "several"

Labels = Mapping[str, Mapping[str, Any]]


def describe(seen: Starter, image: Image.Image, language: str) -> Template:
    """The picture that `seen` is of, as a sentence in "en" or "zh"."""
    view = pixels.view(image)
    things = _things(seen, language)
    slots = (
        _slot("object", things.labels, things.shares, "zero-shot"),
        _category(seen, things, language),
        _colour(view, language),
        _count(image, language),
        _style(view, language),
    )
    return fill(_words()["sentence"][language], slots)


def fill(sentence: str, slots: Sequence[Slot]) -> Template:
    """Put the slots' words where the sentence has their names in braces."""
    words = {slot.name: slot.word for slot in slots}
    pieces = [
        piece
        for text, name, _, _ in string.Formatter().parse(sentence)
        for piece in ((text, ""), (words.get(name or "", ""), name or ""))
        if piece[0]
    ]
    return Template("".join(text for text, _ in pieces), tuple(pieces), tuple(slots))


# -- zero-shot -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Things:
    """What the picture may show: labels [n], their probabilities [n], and the number of each one's category, or -1."""

    labels: Sequence[str]
    shares: np.ndarray
    groups: np.ndarray


def _things(seen: Starter, language: str) -> _Things:
    """The gallery's captions are the labels: each once, however it is written."""
    kind = f"captions_{language}"
    numbers, first = seen.gallery.numbers(kind), {}
    for row, number in enumerate(numbers):
        first.setdefault(seen.gallery.items[number].caption(language).casefold(), row)
    rows = list(first.values())
    items = [seen.gallery.items[number] for number in numbers[rows]]
    shares, _ = probabilities(seen.picture, seen.rows(kind)[rows][None], seen.scale)
    places = {key: at for at, key in enumerate(_words()["category"])}
    groups = np.array([places.get(item.category, -1) for item in items])
    return _Things([item.caption(language) for item in items], shares, groups)


def _category(seen: Starter, things: _Things, language: str) -> Slot:
    """Half by the categories' own prompts, half by those of the likely things: 47 % of the gallery's emoji are right
    with the prompts alone, 56 % with both (each picture's own caption left out), 17 % by saying "people".
    """
    groups: Labels = _words()["category"]
    prompts = [group[f"prompts_{language}"] for group in groups.values()]
    rows = seen.texts([text for texts in zip(*prompts, strict=True) for text in texts])
    shares, _ = probabilities(seen.picture, rows.reshape(-1, len(groups), rows.shape[-1]), seen.scale)
    known = things.groups >= 0
    if known.any():
        of_things = np.bincount(things.groups[known], things.shares[known], len(groups))
        shares = (shares + of_things / of_things.sum()) / 2
    return _slot("category", [group[language] for group in groups.values()], shares, "zero-shot")


# -- measured --------------------------------------------------------------------------------------


def _colour(view: pixels.View, language: str) -> Slot:
    names, prototypes = _prototypes()
    shares = np.bincount(names, pixels.colours(view, prototypes))
    return _slot("colour", [colour[language] for colour in _words()["colour"].values()], shares, "measured")


def _count(image: Image.Image, language: str) -> Slot:
    votes = pixels.pieces(image)
    labels: Labels = _words()["count"]
    shares = {COUNTS[n] if n < len(COUNTS) else "several": 0.0 for n in range(len(COUNTS) + 1)}
    for number, times in votes.items():
        shares[COUNTS[number - 1] if number <= len(COUNTS) else "several"] += times / votes.total()
    if not votes:
        shares = {"unknown": 1.0}
    return _slot("count", [labels[key][language] for key in shares], np.array(list(shares.values())), "measured")


def _style(view: pixels.View, language: str) -> Slot:
    """Gaussian naive Bayes over what is measured, every style as likely beforehand."""
    styles: Labels = _words()["style"]
    mean, spread = (np.array([style[key] for style in styles.values()]) for key in ("mean", "spread"))
    fit = -(((pixels.shading(view) - mean) / spread) ** 2 / 2 + np.log(spread)).sum(axis=1)
    shares = np.exp(fit - fit.max())
    return _slot("style", [style[language] for style in styles.values()], shares / shares.sum(), "measured")


def _slot(name: str, words: Sequence[str], shares: np.ndarray, source: str) -> Slot:
    order = np.argsort(-shares, kind="stable")[:SHOWN]
    candidates = tuple((words[at], float(shares[at])) for at in order if shares[at] > 0)
    return Slot(name, candidates[0][0], candidates, source)


@cache
def _words() -> dict[str, Any]:
    return tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))


@cache
def _prototypes() -> tuple[np.ndarray, np.ndarray]:
    """Every web colour of the table: the number of its name [n], and where it lies in Lab [n, 3]."""
    near = [(at, text) for at, colour in enumerate(_words()["colour"].values()) for text in colour["near"]]
    return np.array([at for at, _ in near]), pixels.lab(np.array([ImageColor.getrgb(text) for _, text in near]))
