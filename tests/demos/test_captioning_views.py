"""The captioning tab's cards from hand-made results: what is shown, that it is escaped, and that it fits together."""

from __future__ import annotations

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from demos import captioning, captioning_tree
from demos.captioning_neural import heat, spaced
from demos.captioning_parts import PANELS, lit, readable, sentence
from demos.captioning_views import families, shipped_pictures, why
from demos.look import css
from pipelines.captioners.metrics import Compared, Span
from pipelines.captioners.plan import (
    Candidate,
    Decoded,
    FamilyScore,
    Neighbour,
    Neural,
    Node,
    Retrieved,
    Slot,
    Template,
    WordAttention,
)
from pipelines.captioning import Result
from pipelines.core.specs import Made
from pipelines.core.streaming import TextDelta
from pipelines.gallery import Gallery
from tests.tiny.gallery import gallery

MADE = Made("model", "", (), 7, "cpu", 1.0)
BAD = '<img src=x onerror="alert(1)">'
CELLS = ((0.1, 0.2), (0.6, 0.1))
TREE = (
    Node(0, -1, " red", -0.1, -0.1, 0, "kept", True),
    Node(1, -1, " a", -2.0, -2.0, 0, "kept", False),
    Node(2, 0, " apple", -0.2, -0.15, 1, "kept", True),
    Node(3, 1, " pear", -3.0, -2.5, 1, "pruned", False),
    Node(4, 2, "</s>", -0.1, -0.13, 2, "ended", True),
)


def result(**changes: Any) -> Result:
    """All three families, on "red apple"; changes replace fields."""
    best = Candidate("red apple", -0.4, ((" red", -0.1), (" apple", -0.2), ("</s>", -0.1)))
    ways = (
        Decoded("greedy", (best,)),
        Decoded("beam", (best, Candidate("a pear", -5.0, ()))),
        Decoded("nucleus", (best,)),
    )
    slots = (
        Slot("object", "apple", (("apple", 0.75), ("pear", 0.25)), "zero-shot"),
        Slot("colour", "red", (("red", 0.9), ("green", 0.1)), "measured"),
    )
    seen = (WordAttention("red", CELLS), WordAttention("apple", ((0.4, 0.4), (0.1, 0.1))))
    near = (Neighbour("noise/0", "tomato", 0.9, 0.3), Neighbour("noise/1", "an apple", 0.88, 0.7))
    fields = {
        "caption": "red apple",
        "logprob": -0.4,
        "tokens": best.tokens,
        "alternatives": (),
        "decoding": "all",
        "stopped": False,
        "made": MADE,
        "neural": Neural(ways, TREE, seen),
        "template": Template("red apple.", (("red", "colour"), (" ", ""), ("apple", "object"), (".", "")), slots),
        "retrieved": Retrieved("an apple", "consensus", near),
        "scores": (
            FamilyScore("neural", "red apple", 0.9, None),
            FamilyScore("retrieval", "an apple", 0.7, None),
            FamilyScore("template", "red apple.", 0.8, None),
        ),
    }
    return Result(**fields | changes)


def shown(made: Result, lang: str = "en") -> str:
    return families(made, "gradio_api/file=/x/a.png", lang, lambda id: f"data:{id}")


def text(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", html).split())


class Balance(HTMLParser):
    """Fails on a tag that closes what is not open."""

    VOID = ("img", "input")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_the_families_that_ran_stand_in_their_order_with_their_figures(lang: str) -> None:
    html = shown(result(), lang)
    assert re.findall(r'data-family="(\w+)"', html) == ["template", "retrieval", "neural"]
    assert re.findall(r'data-figure="clip"[^>]*><dt>CLIP-score</dt><dd>([\d.]+)', html) == ["0.800", "0.700", "0.900"]
    assert ("Template" in html) == (lang == "en") and ("模板法" in html) == (lang == "zh")
    balance = Balance()
    balance.feed(html)
    assert balance.open == []


def test_a_family_that_did_not_run_has_no_card() -> None:
    html = shown(result(template=None, retrieved=None, scores=()))
    assert re.findall(r'data-family="(\w+)"', html) == ["neural"] and "data-figure" not in html


def test_the_best_of_a_figure_stands_out_only_among_several() -> None:
    assert len(re.findall('class="best"><dt>CLIP', shown(result()))) == 1
    alone = result(template=None, retrieved=None, scores=(FamilyScore("neural", "red apple", 0.9, None),))
    assert 'class="best"><dt>CLIP' not in shown(alone)


def test_words_in_common_with_the_references_are_lit_and_scored() -> None:
    compared = Compared(1.0, 0.5, 0.0, 0.0, 0.4, 0.3, 2.5, (Span(0, 3, 1),))
    html = shown(result(scores=(FamilyScore("template", "red apple.", 0.8, compared),)))
    card = html[html.index('data-family="template"') : html.index('data-family="retrieval"')]
    assert '<mark title="1-gram">red</mark></label>' in card
    assert 'data-figure="bleu1"><dt>BLEU-1</dt><dd>1.000' in card and "<dd>2.500" in card
    assert "BLEU-1" not in html[html.index('data-family="neural"') :]


@pytest.mark.parametrize(
    ("spans", "start", "made"),
    [
        ((Span(2, 7, 2),), 0, "a <mark>&lt;red&gt;</mark> cat"),
        ((Span(2, 13, 3),), 2, "<mark>a &lt;red&gt; cat</mark>"),
        ((Span(0, 2, 1), Span(8, 11, 1)), 0, "<mark>a </mark>&lt;red&gt; <mark>cat</mark>"),
        ((Span(20, 25, 1),), 0, "a &lt;red&gt; cat"),
    ],
)
def test_lit_words_are_cut_at_the_pieces_edge(spans: tuple[Span, ...], start: int, made: str) -> None:
    assert re.sub(' title="[^"]*"', "", lit("a <red> cat", spans, start)) == made


def test_every_slot_of_the_sentence_is_a_radio_button_with_its_panel_of_candidates() -> None:
    html = shown(result())
    card = html[: html.index('data-family="retrieval"')]
    assert card.count('type="radio"') == 2 and card.count('class="panel"') == 2 and card.count(" checked") == 1
    panels = card.split('class="panel"')[1:]
    assert text(panels[0]).startswith("> Colour red 90.0% green 10.0% Measured")
    assert "What it shows apple 75.0% pear 25.0% By zero-shot" in text(panels[1])


def test_the_style_sheet_shows_the_panel_of_every_word_a_sentence_may_have() -> None:
    said, panels = sentence("slot", [(str(at), "panel") for at in range(PANELS + 3)], "words")
    assert said.count('type="radio"') == panels.count('class="panel"') == PANELS
    for number in range(1, PANELS + 1):
        assert f".said > label:nth-of-type({number}) > :checked) .panels > .panel:nth-of-type({number})" in css()


@pytest.mark.parametrize(("lang", "word"), [("en", "says best"), ("zh", "最一致")])
def test_the_neighbours_show_their_pictures_and_why_one_was_taken(lang: str, word: str) -> None:
    html = shown(result(), lang)
    assert 'src="data:noise/0"' in html and 'src="data:noise/1"' in html
    chosen = html[html.index('class="chosen"') :]
    assert "2. an apple" in text(chosen) and "0.88" in chosen
    assert word in html and "0.70" in why(result().retrieved, 1, lang)


def test_the_gallerys_pictures_are_found_by_their_ids(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = gallery(tmp_path)
    monkeypatch.setattr(Gallery, "shipped", staticmethod(lambda: kept))
    pictures = shipped_pictures(["noise/3", "gone"])
    assert base64.b64decode(pictures("noise/3").partition(",")[2]) == kept.data(3)
    assert pictures("gone") == ""


def test_every_way_of_choosing_words_shows_its_tokens_and_other_candidates() -> None:
    html = shown(result())
    assert re.findall(r'data-way="(\w+)"', html) == ["greedy", "beam", "nucleus"]
    assert "⟨end⟩" in html and "&lt;/s&gt;" not in html
    beam = html[html.index('data-way="beam"') : html.index('data-way="nucleus"')]
    assert "-5.00" in beam and "a pear" in beam and "-0.40" in beam


def test_a_word_is_chosen_to_see_where_the_decoder_looked() -> None:
    html = shown(result())
    maps = re.findall(r'class="heat" src="([^"]+)" alt="([^"]+)"', html)
    assert len(maps) == 2 and maps[0][0] != maps[1][0]
    assert "red" in maps[0][1] and "row 2, column 1 (60.0%)" in maps[0][1]
    assert html.count('src="gradio_api/file=/x/a.png"') == 2


def test_the_map_is_lightest_where_most_was_seen() -> None:
    picture = Image.open(io.BytesIO(base64.b64decode(heat(CELLS).partition(",")[2])))
    shade = picture.getchannel("A")
    assert picture.size == (2, 2) and shade.getpixel((0, 1)) == 0
    assert shade.getpixel((0, 0)) == shade.getpixel((1, 1)) > shade.getpixel((1, 0))
    assert heat(((0.0, 0.0), (0.0, 0.0))).startswith("data:image/png")


def test_a_model_without_places_shows_neither_attention_nor_tree() -> None:
    neural = Neural(result().neural.decoded, (), ())  # type: ignore[union-attr]
    html = shown(result(neural=neural))
    assert 'class="heat"' not in html and "<svg" not in html and 'data-way="beam"' in html


def test_a_run_stopped_before_the_first_word_is_shown() -> None:
    html = shown(result(caption="", neural=Neural((Decoded("greedy", ()),), (), ()), template=None, retrieved=None))
    assert 'data-way="greedy"' in html and '<p class="said"></p>' in html


def test_the_tree_draws_all_nodes_and_tells_them_in_words() -> None:
    html = captioning_tree.beam_tree(TREE, "en")
    assert html.count("<rect ") == 5 and html.count("<path ") == 3
    assert html.count('class="node kept best"') == 3 and html.count('class="node ended best"') == 2
    assert 'class="node pruned"' in html and "The winning path: red apple ⟨end⟩" in html
    rows = [text(row) for row in html.split("<tr>")[2:]]
    assert len(rows) == 5 and rows[-1].startswith("3 red apple ⟨end⟩ -0.10 -0.13 winning path")
    assert captioning_tree.beam_tree((), "en") == ""


def test_no_two_boxes_of_the_tree_overlap_and_all_are_inside() -> None:
    nodes = [Node(at, at - 4 if at > 3 else -1, "词" * (at % 7), -1.0, -at, at // 4, "kept", False) for at in range(40)]
    boxes, width, height = captioning_tree.place(nodes, "en")
    taken = {(x, y) for box in boxes.values() for x in range(box.x, box.x + box.width) for y in (box.y, box.y + 37)}
    assert len(taken) == 2 * sum(box.width for box in boxes.values())
    assert all(0 < x < width and 0 < y < height for x, y in taken)


def test_lines_of_the_tree_do_not_cross() -> None:
    boxes, _, _ = captioning_tree.place(TREE, "en")
    first, second = boxes[0].y < boxes[1].y, boxes[2].y < boxes[3].y
    assert first == second


@pytest.mark.parametrize("token", ["</s>", "[SEP]", "<|im_end|>", "<|endoftext|>", "<end_of_text>"])
def test_the_mark_that_ends_a_text_is_a_word(token: str) -> None:
    assert readable(token, "zh").strip() == "⟨完⟩" and readable("<en>", "zh") == "<en>"


def test_nothing_that_comes_from_a_model_or_a_person_is_taken_for_html() -> None:
    candidate = Candidate(BAD, -1.0, ((BAD, -1.0),))
    neural = Neural(
        (Decoded("beam", (candidate, candidate)),),
        (Node(0, -1, BAD, -1.0, -1.0, 0, "kept", True),),
        (WordAttention(BAD, CELLS),),
    )
    template = Template(BAD, ((BAD, "object"),), (Slot("object", BAD, ((BAD, 1.0),), "zero-shot"),))
    retrieved = Retrieved(BAD, "nearest", (Neighbour('"><u>', BAD, 0.9, 0.9),))
    compared = Compared(1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, (Span(0, len(BAD), 1),))
    made = replace(
        result(),
        neural=neural,
        template=template,
        retrieved=retrieved,
        scores=(FamilyScore("neural", BAD, 1, compared),),
    )
    html = families(made, 'x"onerror="alert(1)', "en", lambda id: id)
    assert "<img src=x" not in html and 'onerror="' not in html and '"><u>' not in html
    assert html.count("&lt;img src=x") >= 9


# -- the view of a run -----------------------------------------------------------------------------


def test_a_caption_grows_and_ends_with_the_cards() -> None:
    parts = {"caption": "caption", "families": "families"}
    view = captioning.Caption(parts, {"image": Path("/x/a b.png")}, "en")
    assert view.start() == {"caption": "", "families": ""}
    view.after(TextDelta("red "))
    assert view.after(TextDelta("apple")) == {"caption": "red apple"}
    ended = view.done(result(retrieved=None))
    assert ended["caption"] == "red apple" and 'src="gradio_api/file=/x/a%20b.png"' in ended["families"]


def test_word_pieces_are_put_together() -> None:
    assert spaced([("a", -1.0), ("##b", -2.0)]) == [(" a", -1.0), ("b", -2.0)]
    assert spaced([(" a", -1.0), ("b", -2.0)]) == [(" a", -1.0), ("b", -2.0)]
