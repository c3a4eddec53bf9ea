"""Beam search as a tree, drawn from its nodes: a column a step, what was kept, what was pruned, which path won.

An SVG for the eye and the same as a table for everybody else. Knows nodes and words, no model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from demos import cards
from demos.captioning_parts import readable
from demos.text import say

HIGH, PITCH = 38, 48  # a box, and from one box to the next, in pixels
GAP = 34  # between two columns: room for the lines
EDGE = 8  # around the whole
NARROW, WIDE = 54, 168  # columns
LONGEST = 18  # characters of a token shown
LOOKS = {"kept": "○", "pruned": "✕", "ended": "■"}


@dataclass(frozen=True, slots=True)
class Box:
    """Where a node stands, in pixels."""

    x: int
    y: int
    width: int

    @property
    def enter(self) -> tuple[int, int]:
        return self.x, self.y + HIGH // 2

    @property
    def leave(self) -> tuple[int, int]:
        return self.x + self.width, self.y + HIGH // 2


def beam_tree(nodes: Sequence[Any], lang: str) -> str:
    """The tree with its legend; "" for none."""
    if not nodes:
        return ""
    boxes, width, height = place(nodes, lang)
    lines = "".join(_line(node, boxes) for node in sorted(nodes, key=lambda node: node.best))
    drawn = "".join(_box(node, boxes[node.id], lang) for node in nodes)
    label = cards.escape(_told(nodes, lang))
    svg = (
        f'<svg class="beams" role="img" aria-label="{label}" width="{width}" height="{height}"'
        f' viewBox="0 0 {width} {height}">{lines}{drawn}</svg>'
    )
    title = cards.escape(say("captioning_tree", lang))
    return (
        f'<section class="tree" aria-labelledby="captioning-tree"><h3 id="captioning-tree">{title}</h3>'
        f"{cards.hint(say('captioning_tree_help', lang))}{_legend(lang)}"
        f'<div class="scroll" tabindex="0" role="region" aria-label="{title}">{svg}</div>'
        f"<details class='fold'><summary>{cards.escape(say('captioning_tree_table', lang))}</summary>"
        f"{_table(nodes, lang)}</details></section>"
    )


def place(nodes: Sequence[Any], lang: str) -> tuple[Mapping[int, Box], int, int]:
    """A box for each node's id, and the width and height of all: children stand in the order of their parents, so
    that no two lines cross."""
    columns: dict[int, list[Any]] = {}
    for node in nodes:
        columns.setdefault(node.step, []).append(node)
    rows: dict[int, int] = {-1: 0}
    boxes: dict[int, Box] = {}
    x = EDGE
    for step in sorted(columns):
        column = sorted(columns[step], key=lambda node: (rows.get(node.parent, 0), -node.score))
        width = min(WIDE, max(NARROW, *(_width(_shown(node.token, lang)) for node in column)))
        for row, node in enumerate(column):
            rows[node.id] = row
            boxes[node.id] = Box(x, EDGE + row * PITCH, width)
        x += width + GAP
    tallest = max(len(column) for column in columns.values())
    return boxes, x - GAP + EDGE, 2 * EDGE + (tallest - 1) * PITCH + HIGH


def _shown(token: str, lang: str) -> str:
    """A token as a word in a box."""
    word = readable(token, lang).strip() or "␣"
    return word if len(word) <= LONGEST else word[: LONGEST - 1] + "…"


def _width(text: str) -> int:
    """Pixels, near enough: a Chinese character is as wide as two Latin letters."""
    return 22 + sum(15 if ord(character) > 0x2E80 else 8 for character in text)


def _line(node: Any, boxes: Mapping[int, Box]) -> str:
    """From the parent to the node."""
    if node.parent not in boxes:
        return ""
    (x1, y1), (x2, y2) = boxes[node.parent].leave, boxes[node.id].enter
    middle = (x1 + x2) // 2
    return f'<path class="{_class(node)}" d="M{x1} {y1}C{middle} {y1} {middle} {y2} {x2} {y2}"/>'


def _box(node: Any, box: Box, lang: str) -> str:
    middle = box.x + box.width // 2
    state = say(f"captioning_state_{node.state}", lang)
    title = say("captioning_node", lang, logprob=f"{node.logprob:.2f}", score=f"{node.score:.2f}", state=state)
    return (
        f'<g class="{_class(node)}"><title>{cards.escape(f"{_shown(node.token, lang)}: {title}")}</title>'
        f'<rect x="{box.x}" y="{box.y}" width="{box.width}" height="{HIGH}" rx="8"/>'
        f'<text x="{middle}" y="{box.y + 17}">{cards.escape(_shown(node.token, lang))}</text>'
        f'<text class="figure" x="{middle}" y="{box.y + 31}">{LOOKS.get(node.state, "")} {node.logprob:.2f}</text></g>'
    )


def _class(node: Any) -> str:
    return " ".join(["node", node.state if node.state in LOOKS else "kept", *(["best"] if node.best else [])])


def _legend(lang: str) -> str:
    marks = "".join(
        f'<li class="{state}"><b>{look}</b> {cards.escape(say(f"captioning_state_{state}", lang))}</li>'
        for state, look in LOOKS.items()
    )
    best = cards.escape(say("captioning_state_best", lang))
    return f'<ul class="legend"><li class="best"><b>{best}</b></li>{marks}</ul>'


def _told(nodes: Sequence[Any], lang: str) -> str:
    """The drawing in a sentence."""
    states = Counter(node.state for node in nodes)
    path = "".join(
        readable(node.token, lang) for node in sorted(nodes, key=lambda node: node.step) if node.best
    ).strip()
    return say(
        "captioning_tree_told", lang, kept=states["kept"], pruned=states["pruned"], ended=states["ended"], path=path
    )


def _table(nodes: Sequence[Any], lang: str) -> str:
    """Every node with the words up to it, step by step, likeliest first."""
    known = {node.id: node for node in nodes}
    rows = [
        [
            str(node.step + 1),
            cards.escape(_words(node, known, lang)),
            f"{node.logprob:.2f}",
            f"{node.score:.2f}",
            cards.escape(say(f"captioning_state_{'best' if node.best else node.state}", lang)),
        ]
        for node in sorted(nodes, key=lambda node: (node.step, -node.score))
    ]
    heads = [say(f"captioning_head_{key}", lang) for key in ("step", "words", "logprob", "score", "state")]
    return cards.table(heads, rows, "wide")


def _words(node: Any, known: Mapping[int, Any], lang: str) -> str:
    """The text from the root to a node."""
    tokens = []
    while node is not None:
        tokens.append(readable(node.token, lang))
        node = known.get(node.parent)
    return "".join(reversed(tokens)).strip()
