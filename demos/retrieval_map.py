"""The section that draws the joint space in a plane: pictures and captions as points, and the gap between the two.

Points are placed by per cent over a box of fixed shape, so that they and their words keep their size on a phone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from demos import cards
from demos.edge import Edge
from demos.errands import Errand, Shown
from demos.text import label, say
from pipelines.core.streaming import Job
from pipelines.house import House

SHOWN = 400  # points of each kind: more are a blur
REACHED = 12  # of each kind that the keyboard stops at
TIED = 24  # captions drawn with a line to their picture
SHAPE = 1.25  # width of the box to its height, as in the style sheet
FREE = 0.05  # of the box on each side
KINDS = ("picture", "caption")


def mapped(house: House, raw: dict[str, Any], visitor: str, job: Job) -> Any:
    """The map of a collection."""
    return house.pipeline("retrieval").map(raw["collection"], job, model=raw["model"], language=raw["language"])


def drawn(made: Any, lang: str) -> str:
    """The map with its legend, and what it says in words."""
    plane = Plane.of(made.points)
    kinds = {kind: [point for point in made.points if point.kind == kind] for kind in KINDS}
    shown = [spread(points, SHOWN) for points in kinds.values()]
    points = "".join(_point(point, plane, reached) for some in shown for point, reached in _with_stops(some))
    middles = {kind: _middle(points) for kind, points in kinds.items() if points}
    marks = "".join(_mark(kind, plane.at(*place), lang) for kind, place in middles.items())
    lines = "".join(plane.line(*ends, "tie") for ends in _ties(*shown))
    if len(middles) == 2:
        lines += plane.line(*middles["picture"], *middles["caption"], "gap")
        marks += _gap(made, plane, middles, lang)
    words = said(made, kinds, lang)
    return (
        f'<div class="map" role="group" aria-label="{cards.escape(words)}">'
        f'<svg viewBox="0 0 100 100" preserveAspectRatio="none" aria-hidden="true">{lines}</svg>{points}{marks}</div>'
        f"{_legend(kinds, lang)}{cards.hint(words)}"
    )


def said(made: Any, kinds: dict[str, Sequence[Any]], lang: str) -> str:
    """What the map shows, as a sentence."""
    key = "retrieval_map_says" if kinds["caption"] else "retrieval_map_says_pictures"
    numbers = {f"{kind}s": f"{len(points):,}" for kind, points in kinds.items()}
    return say(key, lang, gap=f"{made.gap:.2f}", explained=cards.percent(made.explained), **numbers)


def spread(points: Sequence[Any], limit: int) -> Sequence[Any]:
    """At most `limit` of the points, evenly taken."""
    return points[:: max(1, -(-len(points) // limit))]


@dataclass(frozen=True, slots=True)
class Plane:
    """Where a point of the plane lies in the box: one scale for both axes, everything inside."""

    x: float  # of the middle
    y: float
    scale: float  # per cent of the width for one unit

    @classmethod
    def of(cls, points: Sequence[Any]) -> Plane:
        across, up = [point.x for point in points], [point.y for point in points]
        widest = max(max(across) - min(across), (max(up) - min(up)) * SHAPE) or 1.0
        return cls((max(across) + min(across)) / 2, (max(up) + min(up)) / 2, 100 * (1 - 2 * FREE) / widest)

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Per cent from the left and from the top."""
        return 50 + self.scale * (x - self.x), 50 - self.scale * SHAPE * (y - self.y)

    def line(self, x: float, y: float, to_x: float, to_y: float, kind: str) -> str:
        (left, top), (right, bottom) = self.at(x, y), self.at(to_x, to_y)
        return f'<path class="{kind}" d="M{left:.2f} {top:.2f}L{right:.2f} {bottom:.2f}"/>'


def _with_stops(points: Sequence[Any]) -> Iterator[tuple[Any, bool]]:
    """Each point, and whether the keyboard stops there; all can be pointed at or touched."""
    step = max(1, len(points) // REACHED)
    return ((point, at % step == 0) for at, point in enumerate(points))


def _point(point: Any, plane: Plane, reached: bool) -> str:
    """The words stand to the side where there is room."""
    left, top = plane.at(point.x, point.y)
    words = cards.escape(point.caption or point.id)
    side = " left" if left > 60 else ""
    return (
        f'<i class="{point.kind}{side}" style="{_place(left, top)}" tabindex="{0 if reached else -1}" role="img"'
        f' aria-label="{words}"></i>'
    )


def _place(left: float, top: float) -> str:
    return f"left:{left:.2f}%;top:{top:.2f}%"


def _middle(points: Sequence[Any]) -> tuple[float, float]:
    return sum(point.x for point in points) / len(points), sum(point.y for point in points) / len(points)


def _mark(kind: str, place: tuple[float, float], lang: str) -> str:
    return (
        f'<b class="{kind}" style="{_place(*place)}" title="{cards.escape(say(f"retrieval_middle_{kind}", lang))}"></b>'
    )


def _gap(made: Any, plane: Plane, middles: dict[str, tuple[float, float]], lang: str) -> str:
    """The gap's number, beside the middle of its line."""
    (left, top), (right, bottom) = (plane.at(*place) for place in middles.values())
    words = cards.escape(say("retrieval_gap", lang, gap=f"{made.gap:.2f}"))
    return f'<span class="gap" style="{_place((left + right) / 2, (top + bottom) / 2)}">{words}</span>'


def _ties(pictures: Sequence[Any], captions: Sequence[Any]) -> Iterator[tuple[float, float, float, float]]:
    """Ends of a few lines from a picture to the caption it bears."""
    of_id = {point.id: point for point in pictures}
    pairs = [(of_id[point.id], point) for point in captions if point.id in of_id]
    return ((picture.x, picture.y, point.x, point.y) for picture, point in spread(pairs, TIED))


def _legend(kinds: dict[str, Sequence[Any]], lang: str) -> str:
    items = "".join(
        f'<li><i class="{kind}"></i>{cards.escape(say(f"retrieval_kind_{kind}", lang))}</li>'
        for kind, points in kinds.items()
        if points
    )
    return f'<ul class="map-legend">{items}</ul>'


class MapSection:
    """The section; `wire` when the picker of models and the choice of collections are there."""

    def __init__(self, edge: Edge) -> None:
        self.house = edge.house
        self.errand = Errand(edge, "retrieval", "map")
        gr.Markdown(label("retrieval_map_help"))
        self.errand.buttons()
        self.shown = gr.HTML(elem_id="retrieval-map-shown")
        self.errand.made()

    def wire(self, model: Any, collection: Any, language: Any) -> None:
        """The map is of the collection chosen for the search, with captions in its language."""
        self.errand.on(
            [self.errand.go.click],
            lambda id, name, spoken: {"model": id, "collection": name, "language": spoken},
            partial(mapped, self.house),
            lambda raw, lang: Shown(lambda made: {self.shown: drawn(made, lang)}),
            inputs=[model, collection, language],
            outputs=[self.shown],
        )
