"""The section that sets the common space beside fusion: one query's places both ways, every text against every picture
as two matrices, and how often the gallery's own pairs find each other.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from demos import cards
from demos.edge import Edge, Updates
from demos.errands import Errand, Shown
from demos.retrieval_pictures import file_address, files_of, shipped
from demos.retrieval_views import facts, lines
from demos.text import label, say
from pipelines import media
from pipelines.core.errors import InvalidInput
from pipelines.core.streaming import Job
from pipelines.house import House

LINES = 12  # hits whose places are shown
SIDE = 8  # texts, and pictures, of the page's matrix
TEXTS = {  # with PICTURES: pairs that are easily taken for one another
    "en": ("red apple", "green apple", "red heart", "blue heart", "black cat", "dog"),
    "zh": ("红苹果", "青苹果", "红心", "蓝心", "黑猫", "狗"),
}
PICTURES = (
    "fxemoji/1F34E", "noto/1F34F", "fxemoji/2764", "fluent-3d/1F499", "fluent-3d/1F408-200D-2B1B", "fluent-flat/1F415",
)  # fmt: skip
QUERY = {"en": "a red heart", "zh": "红心"}
TURN, FAINT, STRONG = 0.6, 0.58, 0.7  # shares of the range: where white letters begin, the tones around that
FINEST = 1e-9  # probabilities beyond are taken for this
FIGURES = (("R@1", "r1", "r@1"), ("R@5", "r5", "r@5"), ("R@10", "r10", "r@10"), ("MRR", "mrr", "mrr"))


# -- what is computed --------------------------------------------------------------------------------


def ranks(house: House, raw: dict[str, Any], visitor: str, job: Job) -> Any:
    """One search with re-ranking."""
    asked = {"query": raw["query"], "rerank": True, "depth": 20, "top_k": LINES, "model": raw["model"]}
    return house.pipeline("retrieval").run(house.params("retrieval", asked, visitor), job)


def duel(house: House, raw: dict[str, Any], visitor: str, job: Job) -> Any:
    """Every text with every picture; the pictures come as files."""
    texts = [line.strip() for line in raw["texts"].splitlines() if line.strip()]
    for name, side in (("texts", texts), ("pictures", raw["pictures"])):
        if len(side) > SIDE:
            raise InvalidInput("too_many_lines", name=name, count=len(side), limit=SIDE)
    pictures = [media.decode("image", Path(path)) for path in raw["pictures"]]
    return house.pipeline("retrieval").duel(texts, pictures, job, model=raw["model"])


def recalls(house: House, raw: dict[str, Any], visitor: str, job: Job) -> Any:
    """The gallery's own pairs, both ways."""
    return house.pipeline("retrieval").recalls(
        job, model=raw["model"], rerank=raw["rerank"], language=raw["language"], unseen=raw["unseen"]
    )


# -- what is shown -----------------------------------------------------------------------------------


def matrices(made: Any, addresses: Sequence[str], lang: str) -> str:
    """The two matrices side by side, what each cost, and how many texts each gave their own picture."""
    common = matrix(made.texts, addresses, made.cosine, say("retrieval_common", lang), lang)
    odds = [[log_odds(share) for share in row] for row in made.fusion]
    fusion = matrix(made.texts, addresses, odds, say("retrieval_fusion_odds", lang), lang)
    cost = say(
        "retrieval_duel_cost",
        lang,
        pairs=len(made.texts) * len(addresses),
        cosine=f"{made.cosine_ms:.4f}",
        fusion=f"{made.fusion_ms:.2f}",
    )
    return (
        f'<div class="duel"><div>{common}</div><div>{fusion}</div></div>'
        f"{cards.hint(say('retrieval_duel_marks', lang))}{cards.hint(cost)}"
    )


def log_odds(share: float) -> float:
    """The logit of a probability: there a joint reader's verdicts lie apart which near 0 and 1 look the same."""
    share = min(max(share, FINEST), 1 - FINEST)
    return math.log(share / (1 - share))


def matrix(
    rows: Sequence[str], columns: Sequence[str], values: Sequence[Sequence[float]], caption: str, lang: str
) -> str:
    """A heat map of [rows][columns] with its numbers: `rows` are texts, `columns` addresses of pictures. The best of a
    row and of a column are marked.
    """
    heat = Heat.of(values)
    head = "".join(
        f'<th scope="col"><img src="{cards.escape(address)}" alt="{cards.escape(_numbered(at, lang))}"></th>'
        for at, address in enumerate(columns, 1)
    )
    body = "".join(
        f'<tr><th scope="row">{cards.escape(text)}</th>'
        + "".join(heat.cell(value, max(row), column, lang) for column, value in enumerate(row))
        + "</tr>"
        for text, row in zip(rows, values, strict=True)
    )
    return (
        f'<h4>{cards.escape(caption)}</h4><div class="scroll" tabindex="0">'
        f'<table class="heat" aria-label="{cards.escape(caption)}" style="--columns:{len(columns)}">'
        f"<thead><tr><td></td>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _numbered(number: int, lang: str) -> str:
    return say("retrieval_picture", lang, number=number)


@dataclass(frozen=True, slots=True)
class Heat:
    """What a cell's colour and marks are measured by."""

    low: float
    width: float
    best_of_column: tuple[float, ...]

    @classmethod
    def of(cls, values: Sequence[Sequence[float]]) -> Heat:
        flat = [value for row in values for value in row]
        columns = tuple(max(column) for column in zip(*values, strict=True))
        return cls(min(flat), (max(flat) - min(flat)) or 1.0, columns)

    def cell(self, value: float, best_of_row: float, column: int, lang: str) -> str:
        """A number over its colour; marks for the best of its row and of its column."""
        best = {"of-row": value == best_of_row, "of-column": value == self.best_of_column[column]}
        kinds = [kind for kind, holds in best.items() if holds]
        words = "; ".join(say(f"retrieval_best_{kind.replace('-', '_')}", lang) for kind in kinds)
        marks = "".join(mark for mark, holds in zip("▸▾", best.values(), strict=True) if holds)
        heat = shade((value - self.low) / self.width)
        strong = ' data-strong=""' if heat >= STRONG else ""
        return (
            f'<td class="{" ".join(kinds)}" style="--heat:{heat:.2f}" title="{cards.escape(words)}"{strong}>'
            f'<i aria-hidden="true">{marks}</i>{value:.2f}</td>'
        )


def shade(share: float) -> float:
    """How strong a colour is, without the tones on which neither dark nor white letters can be read (WCAG AA)."""
    return share * FAINT / TURN if share < TURN else STRONG + (share - TURN) * (1 - STRONG) / (1 - TURN)


def figures(made: Any, lang: str) -> str:
    """R@1, R@5, R@10 and MRR of each direction and method, and of chance."""
    ways = (
        ("text_to_picture", made.text_to_picture, made.reranked_text_to_picture),
        ("picture_to_text", made.picture_to_text, made.reranked_picture_to_text),
    )
    rows = []
    for way, common, fusion in ways:
        about = say(f"retrieval_{way}", lang, queries=f"{common.queries:,}", candidates=f"{common.candidates:,}")
        rows.append([cards.escape(about), cards.escape(say("retrieval_common", lang)), *_of(common)])
        if fusion is not None:
            rows.append(["", cards.escape(say("retrieval_fusion", lang)), *_of(fusion)])
        chance = [cards.percent(common.chance[name]) for *_, name in FIGURES[:3]] + [f"{common.chance['mrr']:.3f}"]
        rows.append(["", cards.escape(say("retrieval_chance", lang)), *chance])
    heads = [say(f"retrieval_recall_{key}", lang) for key in ("direction", "method")] + [name for name, *_ in FIGURES]
    cost = ""
    if made.ms_per_pair:
        cost = cards.hint(say("retrieval_recall_cost", lang, milliseconds=f"{made.ms_per_pair:.1f}"))
    return cards.table(heads, rows, "recalls") + cards.hint(say("retrieval_recall_help", lang)) + cost


def _of(figures: Any) -> list[str]:
    shares = [cards.percent(getattr(figures, name)) for _, name, _ in FIGURES[:3]]
    return [*shares, f"{figures.mrr:.3f}"]


# -- the section -------------------------------------------------------------------------------------


class TwoWays:
    """Three pieces of work below each other. `wire` when the model picker is there."""

    def __init__(self, edge: Edge) -> None:
        self.house = edge.house
        gr.Markdown(label("retrieval_two_ways_help"))
        self._ranks(Errand(edge, "retrieval", "ranks"))
        self._duel(Errand(edge, "retrieval", "duel"))
        self._recalls(Errand(edge, "retrieval", "recalls"))

    def _ranks(self, errand: Errand) -> None:
        gr.Markdown(label("retrieval_ranks_heading"))
        self.ranks = errand
        self.query = gr.Textbox(label=label("retrieval_query"), elem_id="retrieval-ranks-query", max_lines=1)
        errand.buttons()
        self.lines = gr.HTML(elem_id="retrieval-ranks-lines")
        errand.made()

    def _duel(self, errand: Errand) -> None:
        gr.Markdown(label("retrieval_duel_heading"))
        self.duel = errand
        with gr.Row(equal_height=False):
            self.texts = gr.Textbox(
                label=label("retrieval_duel_texts"),
                lines=SIDE,
                max_lines=SIDE,
                min_width=260,
                elem_id="retrieval-duel-texts",
            )
            self.pictures = gr.Gallery(
                label=label("retrieval_duel_pictures"), type="filepath", sources=["upload"], file_types=["image"],
                interactive=True, columns=4, height=330, object_fit="contain", min_width=260, buttons=[],
                elem_id="retrieval-duel-pictures",
            )  # fmt: skip
            # Gradio must not open them: that is media's.
            self.pictures.preprocess = lambda payload: [item.image.path for item in payload.root] if payload else []
        errand.buttons()
        self.matrices = gr.HTML(elem_id="retrieval-duel-matrices")
        errand.made()

    def _recalls(self, errand: Errand) -> None:
        gr.Markdown(label("retrieval_recalls_heading"))
        self.recalls = errand
        choices = [(label(f"choice_{lang}"), lang) for lang in ("en", "zh")]
        self.language = gr.Radio(
            choices, value="en", label=label("retrieval_language"), elem_id="retrieval-recalls-language"
        )
        self.unseen = gr.Checkbox(False, label=label("retrieval_unseen"), elem_id="retrieval-recalls-unseen")
        self.rerank = gr.Checkbox(
            False,
            label=label("retrieval_rerank"),
            info=label("retrieval_recalls_wait"),
            elem_id="retrieval-recalls-rerank",
        )
        errand.buttons()
        self.figures = gr.HTML(elem_id="retrieval-recalls-figures")
        errand.made()

    def wire(self, model: Any) -> None:
        """`model` is the picker's component."""
        house = self.house
        self.ranks.on(
            [self.ranks.go.click, self.query.submit],
            lambda query, id: {"query": query, "model": id},
            partial(ranks, house),
            lambda raw, lang: Shown(partial(self._show_ranks, lang)),
            inputs=[self.query, model],
            outputs=[self.lines],
        )
        self.duel.on(
            [self.duel.go.click],
            lambda texts, pictures, id: {"texts": texts, "pictures": pictures or [], "model": id},
            partial(duel, house),
            lambda raw, lang: Shown(partial(self._show_duel, raw["pictures"], lang)),
            inputs=[self.texts, self.pictures, model],
            outputs=[self.matrices],
        )
        self.recalls.on(
            [self.recalls.go.click],
            lambda *values: dict(zip(("language", "unseen", "rerank", "model"), values, strict=True)),
            partial(recalls, house),
            lambda raw, lang: Shown(lambda made: {self.figures: figures(made, lang)}),
            inputs=[self.language, self.unseen, self.rerank, model],
            outputs=[self.figures],
        )  # fmt: skip

    @property
    def outputs(self) -> list[Any]:
        return [self.query, self.texts, self.pictures, self.language]

    def fresh(self, lang: str, folder: Path) -> Updates:
        """A finished example, in the page's language."""
        return {
            self.query: QUERY[lang],
            self.texts: "\n".join(TEXTS[lang]),
            self.pictures: files_of(PICTURES, folder),  # a gr.update would make the component anew, preprocess too
            self.language: lang,
        }

    def _show_ranks(self, lang: str, result: Any) -> Updates:
        return {self.lines: lines(result, shipped, lang) + facts(result, lang)}

    def _show_duel(self, pictures: Sequence[str], lang: str, made: Any) -> Updates:
        return {self.matrices: matrices(made, [file_address(path) for path in pictures], lang)}
