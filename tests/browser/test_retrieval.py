"""Searching as people do it, with the starter model and the gallery that ships: each section, in both languages."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from playwright.sync_api import TimeoutError as PlaywrightTimeout
from playwright.sync_api import expect

from demos.look import SAMPLES
from demos.retrieval_two_ways import PICTURES
from tests.browser.conftest import ARTIFACTS, SIZES, Open, Opened
from tests.browser.test_pages import violations

SECTIONS = ("search", "two_ways", "map", "labels", "own")
DONE = "Done|完成"
LOCALES = ("en-US", "zh-CN")
OURS = [SAMPLES / f"{name}.jpg" for name in ("boat", "cat", "car", "house")]


def section(opened: Opened, name: str) -> None:
    bar = opened.page.locator("#retrieval-sections > .tab-wrapper button[role=tab]").locator("visible=true")
    bar.nth(SECTIONS.index(name)).click()


def ended(opened: Opened, name: str, seconds: float = 120) -> None:
    """Wait for the end of what a button began; the page is as wide as its window and asked nobody else for anything."""
    opened.page.wait_for_function(
        "name => document.querySelector(`#${name}-stop`).disabled && !document.querySelector(`#${name}-run`).disabled"
        " && document.querySelector(`#${name}-status`).innerText.trim()",
        arg=name,
        timeout=seconds * 1000,
    )
    assert opened.page.evaluate("Math.max(document.documentElement.scrollWidth, innerWidth)") == opened.page.evaluate(
        "innerWidth"
    )
    assert opened.foreign + opened.errors == []


def run(opened: Opened, name: str) -> None:
    """Press the button of a piece of work and wait until it is done."""
    opened.page.locator(f"#{name}-run").click()
    opened.until(f"#{name}-status", f"{DONE}|Error|error", seconds=120)
    ended(opened, name)
    opened.until(f"#{name}-status", DONE, seconds=30)


def search(opened: Opened, query: str) -> None:
    """Search and wait for other hits than before."""
    opened.page.locator("#retrieval-query textarea").fill(query)
    before = opened.page.locator("#retrieval-hits").inner_html()
    for _ in range(3):  # a click while the last search is still being closed counts as a double click: it is ignored
        run(opened, "retrieval")
        try:
            opened.page.wait_for_function(
                "was => document.querySelector('#retrieval-hits').innerHTML != was", arg=before, timeout=20_000
            )
        except PlaywrightTimeout:
            continue
        return ended(opened, "retrieval")
    raise AssertionError("the hits stay as they were")


def picture(opened: Opened, name: str) -> None:
    opened.page.wait_for_timeout(400)
    locale = opened.page.evaluate("document.documentElement.lang")
    opened.page.screenshot(path=ARTIFACTS / f"retrieval-{name}-{locale}.png", full_page=True)


def add_own(opened: Opened, files: Sequence[Path]) -> None:
    """Make a collection of these files; it is then chosen for the search."""
    section(opened, "own")
    opened.page.locator("#retrieval-own-files input[type=file]").set_input_files(list(files))
    opened.page.wait_for_function(
        "count => document.querySelectorAll('#retrieval-own-files tr').length >= count", arg=len(files)
    )
    run(opened, "retrieval-own")
    opened.page.locator("#retrieval-own-pictures img").first.wait_for(state="visible")


def captions(opened: Opened) -> list[str]:
    return opened.page.locator("#retrieval-hits figcaption span").all_inner_texts()


@pytest.mark.parametrize(("locale", "query", "word"), [("en-US", "a red car", "car"), ("zh-CN", "红色的汽车", "车")])
def test_words_find_pictures_of_the_gallery(open_page: Open, locale: str, query: str, word: str) -> None:
    with open_page(locale=locale, path="/?tab=retrieval") as opened:
        opened.page.locator("#retrieval-hits img").nth(11).wait_for(state="visible")  # something to look at before
        search(opened, query)
        assert len(captions(opened)) == 10 and sum(word in caption for caption in captions(opened)) >= 2
        assert opened.page.locator("#retrieval-hits img").evaluate_all(
            "images => images.every(image => image.complete && image.naturalWidth > 0)"
        )
        assert opened.page.locator("#retrieval-cutoff .bars i").count() == 10
        assert ("cut-off" if locale == "en-US" else "截止") in opened.text("#retrieval-cutoff")
        opened.until("#retrieval-facts", r"2,?\d00.*256")
        picture(opened, "search")


@pytest.mark.parametrize("locale", LOCALES)
def test_re_ranking_shows_who_moved(open_page: Open, locale: str) -> None:
    with open_page(locale=locale, path="/?tab=retrieval") as opened:
        opened.page.locator("#retrieval-rerank input").check()
        search(opened, "a red heart" if locale == "en-US" else "红心")
        assert opened.page.locator("#retrieval-lines svg path").count() == 10
        assert opened.page.locator("#retrieval-lines li").count() == 20
        assert opened.page.locator("#retrieval-lines em").count() == 10
        picture(opened, "reranked")


@pytest.mark.parametrize("locale", LOCALES)
def test_the_two_ways_are_set_side_by_side(open_page: Open, locale: str) -> None:
    with open_page(locale=locale, path="/?tab=retrieval") as opened:
        section(opened, "two_ways")
        run(opened, "retrieval-ranks")
        assert opened.page.locator("#retrieval-ranks-lines svg path").count() == 12
        run(opened, "retrieval-duel")
        side = len(PICTURES)
        tables = opened.page.locator("#retrieval-duel-matrices table.heat")
        assert [tables.nth(at).locator("tbody td").count() for at in range(tables.count())] == [side**2] * 2
        for kind in ("of-row", "of-column"):
            assert opened.page.locator(f"#retrieval-duel-matrices td.{kind}").count() >= 2 * side
        assert ("ms a pair" if locale == "en-US" else "毫秒") in opened.text("#retrieval-duel-matrices")
        run(opened, "retrieval-recalls")
        figures = opened.text("#retrieval-recalls-figures")
        assert all(name in figures for name in ("R@1", "R@5", "R@10", "MRR", "2,700"))
        assert ("by chance" if locale == "en-US" else "随机") in figures
        picture(opened, "two-ways")


@pytest.mark.parametrize("locale", LOCALES)
def test_the_map_shows_the_gap_and_names_its_points(open_page: Open, locale: str) -> None:
    with open_page(locale=locale, path="/?tab=retrieval") as opened:
        section(opened, "map")
        run(opened, "retrieval-map")
        opened.until("#retrieval-map-shown span.gap", r"(gap|间隙) \d\.\d\d")
        assert opened.page.locator("#retrieval-map-shown path.gap").count() == 1
        for kind in ("picture", "caption"):
            assert opened.page.locator(f"#retrieval-map-shown .map i.{kind}").count() > 100
        point = opened.page.locator('#retrieval-map-shown .map i[tabindex="0"]').nth(3)
        point.focus()
        shown = point.evaluate("point => getComputedStyle(point, '::after').content")
        assert shown == f'"{point.get_attribute("aria-label")}"'
        picture(opened, "map")


@pytest.mark.parametrize(
    ("locale", "labels", "refusal"), [("en-US", "apple\ncar\nface", "label"), ("zh-CN", "苹果\n汽车\n脸", "标签")]
)
def test_ones_own_labels_are_weighed(open_page: Open, locale: str, labels: str, refusal: str) -> None:
    with open_page(locale=locale, path="/?tab=retrieval") as opened:
        section(opened, "labels")
        opened.page.locator("#retrieval-labels-image img").wait_for(state="visible")
        opened.page.locator("#retrieval-labels-labels textarea").fill(labels)
        run(opened, "retrieval-labels")
        best, *_ = labels.split("\n")
        opened.until("#retrieval-labels-scores h2", best)
        assert opened.page.locator("#retrieval-labels-scores .bar, #retrieval-labels-scores dl").count() >= 3
        assert opened.page.locator("#retrieval-labels-alone tbody tr").count() == 3
        picture(opened, "labels")
        opened.page.locator("#retrieval-labels-labels textarea").fill(best)
        opened.page.locator("#retrieval-labels-run").click()
        opened.until("#retrieval-labels-status .status.error", refusal)


@pytest.mark.parametrize(("locale", "reason"), [("en-US", "not a picture"), ("zh-CN", "图片")])
def test_ones_own_pictures_become_a_collection_of_ones_own(
    open_page: Open, locale: str, reason: str, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture at all")
    with open_page(locale=locale, path="/?tab=retrieval") as opened, open_page(locale=locale) as other:
        add_own(opened, [*OURS, broken])
        opened.until("#retrieval-own-report", f"4.*0.*1.*broken.png.*{reason}")
        picture(opened, "own")
        opened.page.locator("#retrieval-own-search").click()
        search(opened, "a car")
        assert sorted(captions(opened)) == sorted(path.name for path in OURS)
        opened.until("#retrieval-facts", "4")
        picture(opened, "own-search")
        other.tab("retrieval")
        section(other, "own")
        assert other.page.locator("#retrieval-own-pictures img").count() == 0


def test_pictures_can_be_taken_out_again_and_the_collection_deleted(open_page: Open) -> None:
    with open_page(path="/?tab=retrieval") as opened:
        add_own(opened, OURS[:2])
        opened.page.locator("#retrieval-own-out button").first.click()
        opened.page.locator("#retrieval-own-which input").click()
        opened.page.get_by_role("option", name="boat.jpg").click()
        opened.page.keyboard.press("Escape")
        opened.page.locator("#retrieval-own-remove").click()
        expect(opened.page.locator("#retrieval-own-pictures img")).to_have_count(1, timeout=30_000)
        run(opened, "retrieval-own")  # the same files again: one is there, the other comes back
        opened.until("#retrieval-own-report", "1 added, 1 were there")
        opened.page.locator("#retrieval-own-delete").click()
        opened.until("#retrieval-own-pictures", "No collection yet", seconds=30)
        section(opened, "search")
        assert "Gallery of the app" in opened.page.locator("#retrieval-collection input").input_value()


def test_a_picture_finds_captions_and_negative_words_take_away(open_page: Open) -> None:
    with open_page(path="/?tab=retrieval") as opened:
        search(opened, "fruit")
        peaches = sum("peach" in caption for caption in captions(opened))
        opened.page.locator("#retrieval-refine button").first.click()
        opened.page.wait_for_timeout(500)  # what is typed into a field while it unfolds may be lost
        opened.page.locator("#retrieval-without textarea").fill("peach")
        search(opened, "fruit")
        assert sum("peach" in caption for caption in captions(opened)) < peaches
        opened.page.locator("#retrieval-without textarea").fill("")
        opened.page.locator("#retrieval-by-picture button").first.click()
        opened.page.locator("#retrieval-samples button").first.click()
        opened.page.locator("#retrieval-image img").wait_for(state="visible")
        opened.page.locator("#retrieval-wanted input[value=captions]").check()
        search(opened, "")
        assert len({caption.casefold() for caption in captions(opened)}) == len(captions(opened)) == 10
        picture(opened, "captions")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_section_is_accessible_with_its_results(open_page: Open, scheme: str) -> None:
    with open_page(scheme=scheme, path="/?tab=retrieval") as opened:
        opened.page.locator("#retrieval-rerank input").check()
        search(opened, "a red heart")
        wrong = violations(opened)
        for name, work in (("two_ways", "duel"), ("map", "map"), ("labels", "labels")):
            section(opened, name)
            run(opened, f"retrieval-{work}")
            opened.page.wait_for_timeout(500)  # until the buttons have their colours again
            wrong += violations(opened)
        section(opened, "own")
        opened.page.locator("#retrieval-own-run").wait_for(state="visible")
        assert wrong + violations(opened) == []


def test_what_was_found_fits_on_a_phone(open_page: Open) -> None:
    with open_page("phone", locale="zh-CN", scheme="dark", path="/?tab=retrieval") as opened:
        opened.page.locator("#retrieval-rerank input").check()
        search(opened, "红色的汽车")
        section(opened, "two_ways")
        run(opened, "retrieval-duel")
        assert opened.page.evaluate("innerWidth") == SIZES["phone"]["width"]
        picture(opened, "phone")
        box = opened.page.locator("#retrieval-sections button[role=tab]").first.bounding_box()
        assert box is not None and box["height"] >= 44
