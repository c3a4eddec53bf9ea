"""What the retrieval tab makes of results, without a model: escaped, in one's language, and true to the numbers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from demos import retrieval_map, retrieval_own
from demos.retrieval_labels import per_template
from demos.retrieval_pictures import file_address, files_of, owned, shipped
from demos.retrieval_two_ways import PICTURES, TEXTS, figures, log_odds, matrices, shade
from demos.retrieval_views import browse, cutoff, facts, hits, lines, probability
from pipelines.core.errors import InvalidInput
from pipelines.core.specs import Made
from pipelines.core.streaming import Job
from pipelines.gallery import Gallery
from pipelines.retrieval import Classified, Cutoff, Duel, Figures, Hit, Map, Point, Recalls, Result, Timing
from pipelines.retrievers.collections import HOST, Broken, Report

MADE = Made("model", "", (), None, "cpu", 1.0)
BAD = "<img src=x>&"


def hit(index: int, score: float, rerank: float | None = None, before: int = 0, *, kept: bool = True) -> Hit:
    return Hit(index, str(index), f"{BAD}{index}", score, rerank, before or index + 1, kept)


def result(*found: Hit, end: Cutoff | None = None, timing: Timing | None = None) -> Result:
    end = end or Cutoff(0.35, "gap", 2, 0.1, 0.05)
    timing = timing or Timing("exact", 2_700, 0.43, 0.0)
    return Result(found, ("text",), (tuple(one.score for one in found),), 256, "", end, timing, MADE)


def address(one: Any) -> str:
    return f"picture-{one.index}"


def places(html: str, pattern: str) -> list[str]:
    return re.findall(pattern, html)


def test_hits_come_in_order_and_the_line_lies_where_the_cut_off_does() -> None:
    shown = hits(result(hit(7, 0.5), hit(3, 0.4), hit(5, 0.2, kept=False)), address, "en")
    assert places(shown, r'src="([^"]+)"|class="(cut)"') == [
        ("picture-7", ""), ("picture-3", ""), ("", "cut"), ("picture-5", "")
    ]  # fmt: skip
    assert "<img src=x>" not in shown and "0.350" in shown
    assert places(shown, r"<b>(\d)</b>") == ["1", "2", "3"]
    assert shown.index("class=below") > shown.index("cut-off")


@pytest.mark.parametrize(
    "found",
    [
        pytest.param((hit(0, 0.2, 0.9, 3, kept=False), hit(1, 0.5, 0.4, 1)), id="re-ranked out of its order"),
        pytest.param((hit(0, 0.5), hit(1, 0.4)), id="all kept"),
    ],
)
def test_no_line_where_it_would_lie(found: tuple[Hit, ...]) -> None:
    assert 'class="cut"' not in hits(result(*found), address, "en")


def test_a_picture_without_a_caption_has_a_number_for_a_name() -> None:
    shown = hits(result(Hit(4, "", "", 0.5, None, 1, True)), address, "zh")
    assert 'alt="图片 5"' in shown


@pytest.mark.parametrize(("lang", "words"), [("en", "fall further"), ("zh", "落差最大")])
def test_the_cut_off_is_drawn_at_its_height_with_its_reason(lang: str, words: str) -> None:
    shown = cutoff(result(hit(0, 0.6), hit(1, 0.5), hit(2, 0.2, kept=False)), lang)
    assert words in shown and "2" in shown
    heights = [float(height) for height in places(shown, r'height:([\d.]+)%" title')]
    (line,) = (float(bottom) for bottom in places(shown, r'class="line" style="bottom:([\d.]+)%'))
    assert heights == sorted(heights, reverse=True)
    assert heights[1] > line > heights[2]
    assert len(places(shown, 'class="below"')) == 1


def test_without_a_cut_off_nothing_is_drawn() -> None:
    shown = cutoff(result(hit(0, 0.6), end=Cutoff(0.6, "none", 1)), "en")
    assert "chart" not in shown and "No cut-off" in shown


@pytest.mark.parametrize(("lang", "words"), [("en", "Nothing stands out"), ("zh", "没有突出的结果")])
def test_where_nothing_reaches_the_cut_off_that_is_said(lang: str, words: str) -> None:
    found = result(hit(0, 0.3, kept=False), end=Cutoff(0.7, "floor", 0, 0.1, 0.1))
    assert words in cutoff(found, lang) and "0.700" in cutoff(found, lang)
    assert hits(found, address, "en").index("nothing reaches it") < hits(found, address, "en").index("<b>1")


@pytest.mark.parametrize(("share", "said"), [(0.5, "50.0%"), (0.99987, "99.987%"), (0.0001, "0.010%")])
def test_probabilities_are_finer_where_they_crowd(share: float, said: str) -> None:
    assert probability(share) == said


def test_how_it_was_searched_is_said() -> None:
    timing = Timing("quantized", 123_456, 0.25, 3.25)
    shown = facts(result(hit(0, 0.6), timing=timing), "en")
    assert "product quantization" in shown and "123,456" in shown and "0.25 ms" in shown and "3.2 ms a pair" in shown
    assert "pgvector" in facts(result(timing=Timing("pgvector", 1, 0.1, 0.0)), "en")


def test_lines_lead_from_each_place_to_where_it_went() -> None:
    """Before 1, 2, 9; after: the ninth first, then the first, then the second."""
    found = (hit(0, 0.3, 0.9, 9), hit(1, 0.5, 0.5, 1), hit(2, 0.4, 0.1, 3))
    shown = lines(result(*found), address, "en")
    assert places(shown, r'<path class="(\w+)" d="M0 (\d+) C50 \d+ 50 \d+ 100 (\d+)"') == [
        ("sinks", "22", "66"), ("stays", "66", "110"), ("rises", "110", "22")
    ]  # fmt: skip
    assert places(shown, r"<li><b>(\d+)</b>") == ["1", "3", "9", "1", "2", "3"]
    assert "▲8" in shown and "▼1" in shown and "up by 8" in shown and "90.0%" in shown
    assert "<img src=x>" not in shown


def test_nothing_moves_without_re_ranking() -> None:
    assert lines(result(hit(0, 0.3), hit(1, 0.2)), address, "en") == ""


def test_both_matrices_have_their_numbers_and_mark_the_best() -> None:
    made = Duel((BAD, "dog"), ((0.3, 0.1), (0.2, 0.25)), ((0.9, 0.2), (0.95, 0.1)), 0.0001, 4.5, "judge", MADE)
    shown = matrices(made, ["a", "b"], "en")
    assert shown.count('<table class="heat"') == 2 and "<img src=x>" not in shown
    _, common, fusion = shown.split('<table class="heat"')
    assert f"{log_odds(0.9):.2f}" == "2.20" and "2.20" in fusion
    cells = r'<td class="([\w -]*)" style="--heat:([\d.]+)"'
    assert places(common, cells) == [
        ("of-row of-column", "1.00"),
        ("", "0.00"),
        ("", "0.48"),
        ("of-row of-column", "0.81"),
    ]
    assert [kinds for kinds, _ in places(fusion, cells)] == ["of-row", "of-column", "of-row of-column", ""]
    assert "4 pairs" in shown and "4.50 ms" in shown


def test_no_cell_has_a_tone_on_which_letters_cannot_be_read() -> None:
    tones = [shade(step / 100) for step in range(101)]
    assert tones == sorted(tones) and (tones[0], tones[-1]) == (0, 1)
    assert not [tone for tone in tones if 0.58 < tone < 0.7]


def test_the_duel_begins_with_pictures_of_the_gallery_and_their_captions() -> None:
    known = {item.id: item for item in Gallery.shipped().items}
    for number, id in enumerate(PICTURES):
        assert TEXTS["en"][number] == known[id].caption_en and TEXTS["zh"][number] == known[id].caption_zh


def recalled(r1: float, queries: int = 10) -> Figures:
    chance = {"r@1": 0.01, "r@5": 0.05, "r@10": 0.1, "mrr": 0.029}
    return Figures(r1, 0.7, 0.8, 0.6, queries, 2_700, chance)


def test_figures_are_shown_for_each_direction_and_method_beside_chance() -> None:
    shown = figures(Recalls(recalled(0.5), recalled(0.4), recalled(0.6), recalled(0.45), "judge", 2.0, MADE), "en")
    firsts = places(shown, r"<td>([\d.]+%)</td><td>70.0%|<td>(1.0%)</td><td>5.0%")
    assert [a or b for a, b in firsts] == ["50.0%", "60.0%", "1.0%", "40.0%", "45.0%", "1.0%"]
    assert "2,700" in shown and "2.0 ms a pair" in shown
    alone = figures(Recalls(recalled(0.5), recalled(0.4), None, None, "", 0.0, MADE), "zh")
    assert alone.count("<tr>") == 5 and "融合" not in alone


def drawn_map(lang: str = "en") -> str:
    points = [Point(-1.0, 0.5 * at, "picture", str(at), BAD) for at in range(5)]
    points += [Point(1.0, 0.5 * at, "caption", str(at), "cat") for at in range(5)]
    return retrieval_map.drawn(Map(tuple(points), 0.82, 0.31, MADE), lang)


def test_the_map_draws_both_kinds_inside_its_box_with_the_gap_between_them() -> None:
    shown = drawn_map()
    spots = places(shown, r'<i class="(\w+)[^"]*" style="left:([\d.]+)%;top:([\d.]+)%"')
    assert [kind for kind, *_ in spots] == ["picture"] * 5 + ["caption"] * 5
    assert all(0 <= float(left) <= 100 and 0 <= float(top) <= 100 for _, left, top in spots)
    assert {float(left) < 50 for kind, left, _ in spots if kind == "picture"} == {True}
    assert "gap 0.82" in shown and "31.0%" in shown and len(places(shown, 'class="tie"')) == 5
    assert 'aria-label="cat"' in shown and "<img src=x>" not in shown
    assert "间隙 0.82" in drawn_map("zh")


def test_one_scale_serves_both_axes() -> None:
    plane = retrieval_map.Plane.of([Point(0, 0, "picture", "", ""), Point(4, 1, "picture", "", "")])
    (left, top), (right, bottom) = plane.at(0, 0), plane.at(4, 1)
    assert (right - left) / (top - bottom) == pytest.approx(4 / retrieval_map.SHAPE)
    assert (left, right) == pytest.approx((5, 95))


def test_a_map_without_captions_or_of_one_point_says_so() -> None:
    shown = retrieval_map.drawn(Map((Point(0, 0, "picture", "1", "a.jpg"),), 0.0, 1.0, MADE), "en")
    assert "without captions" in shown and 'class="gap"' not in shown


def test_a_large_map_is_thinned_and_the_keyboard_stops_at_few_points() -> None:
    points = tuple(Point(at, at % 7, "picture", str(at), "x") for at in range(1_000))
    shown = retrieval_map.drawn(Map(points, 0.0, 0.5, MADE), "en")
    assert shown.count("<i class=") - 1 <= retrieval_map.SHOWN  # one is the legend's
    assert 10 <= shown.count('tabindex="0"') <= 14


def test_each_template_alone_has_its_favourite() -> None:
    made = Classified(("cat", BAD), (0.5, 0.5), ("{}", "a {}!"), ((0.8, 0.2), (0.1, 0.9)), MADE)
    shown = per_template(made, "en")
    assert "80.0%" in shown and "90.0%" in shown and "a &lt;img src=x&gt;&amp;!" in shown
    assert per_template(Classified(("a", "b"), (0.5, 0.5), ("{}",), ((0.5, 0.5),), MADE), "en") == ""


def test_files_that_were_not_taken_are_listed_with_the_reason() -> None:
    report = Report(3, 1, (Broken("<b>.jpg", "zip_locked", {}), Broken("big.png", "file_too_large", {"limit": 20})))
    shown = retrieval_own.told(report, "en")
    assert "3 added, 1 were there already, 2 could not" in shown
    assert "&lt;b&gt;.jpg" in shown and "encrypted" in shown and "20" in shown
    assert "加密" in retrieval_own.told(report, "zh")


def test_the_hosts_collections_are_called_without_their_mark() -> None:
    assert retrieval_own.shown_name(HOST + "trip", "en") == "trip (kept here for everybody)"
    assert retrieval_own.shown_name("trip", "en") == "trip"
    assert "自带图库" in retrieval_own.shown_name("shipped", "zh")


@pytest.mark.parametrize(
    ("path", "keep", "name"),
    [("", False, "trip"), ("", True, "host:trip"), (" /pictures ", False, "host:trip")],
)
def test_what_is_kept_is_the_hosts(path: str, keep: bool, name: str) -> None:
    found = retrieval_own.asked("trip", ["a.jpg"], None, path, keep, "m")
    assert found["name"] == name
    assert found["files"] == [Path("a.jpg")] and found["path"] == (Path("/pictures") if path else None)


class Adding:
    """Stands for a house: takes note of what is added, and as whom."""

    def __init__(self) -> None:
        self.added: list[tuple[str, list[Path], str]] = []

    def pipeline(self, task: str) -> Adding:
        return self

    def add(self, name: str, files: list[Path], job: Job, model: str) -> None:
        self.added.append((name, files, job.visitor))


def test_only_the_host_may_name_a_path_and_fill_what_is_kept() -> None:
    house, job = Adding(), Job()
    job.visitor = "somebody"
    kept = retrieval_own.asked("trip", None, None, "/pictures", False, "")
    with pytest.raises(InvalidInput, match="folder_local_only"):
        retrieval_own.taken(house, {**kept, "host": False}, "somebody", job)  # type: ignore[arg-type]
    own = retrieval_own.asked("trip", ["a.jpg"], None, "", True, "")
    retrieval_own.taken(house, {**own, "host": False}, "somebody", job)  # type: ignore[arg-type]
    retrieval_own.taken(house, {**kept, "host": True}, "somebody", job)  # type: ignore[arg-type]
    assert house.added == [
        ("host:trip", [Path("a.jpg")], "somebody"),  # whom the collection then refuses
        ("host:trip", [Path("/pictures")], "local"),
    ]
    with pytest.raises(InvalidInput, match="no_pictures"):
        retrieval_own.taken(house, {**own, "files": [], "host": False}, "somebody", job)  # type: ignore[arg-type]


def test_addresses_carry_the_gallerys_pictures_and_ones_own() -> None:
    assert shipped(hit(0, 1.0)).startswith("data:image/webp;base64,UklGR")
    assert file_address("/tmp/a b.png") == "gradio_api/file=/tmp/a%20b.png"

    class Kept:
        def picture(self, id: int) -> Image.Image:
            assert id == 3
            return Image.new("RGB", (8, 8))

    assert owned(Kept())(hit(3, 1.0)).startswith("data:image/webp;base64,UklGR")


def test_pictures_of_the_gallery_become_files_once(tmp_path: Path) -> None:
    (path,) = files_of(["noto/1F34F", "no such"], tmp_path)
    assert Path(path).read_bytes()[8:12] == b"WEBP"
    Path(path).write_bytes(b"kept")
    assert files_of(["noto/1F34F"], tmp_path) == [path] and Path(path).read_bytes() == b"kept"


def test_before_a_search_some_of_the_gallery_is_shown() -> None:
    shown = browse(Gallery.shipped(), "zh")
    assert shown.count("<figure>") == 12 and f"{len(Gallery.shipped()):,}" in shown
