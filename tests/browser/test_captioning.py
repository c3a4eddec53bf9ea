"""The captioning tab with the starter model: three families, a mechanism in each that one can look into, many files."""

from __future__ import annotations

import csv
import io
import re
import zipfile
from pathlib import Path

import pytest
from playwright.sync_api import Locator, expect

from demos.captioning import EXAMPLES
from demos.look import SAMPLES
from tests.browser.conftest import ARTIFACTS, SIZES, Open, Opened
from tests.browser.test_flows import width
from tests.browser.test_pages import violations

FAMILIES = ("template", "retrieval", "neural")
DONE = {"en-US": "Done", "zh-CN": "完成"}
LOCALES = list(DONE)


def describe(opened: Opened, sample: int = 0, locale: str = "en-US") -> None:
    """Describe one of the sample pictures and wait for the cards."""
    opened.page.locator("#captioning-samples button").nth(sample).click()
    opened.page.locator("#captioning-image img").wait_for(state="visible")
    opened.page.evaluate("document.querySelectorAll('.family').forEach(card => { card.dataset.old = 'yes' })")
    opened.page.locator("#captioning-run").click()
    opened.page.locator(".family:not([data-old])").first.wait_for(state="visible")
    opened.until("#captioning-status", DONE[locale])


def card(opened: Opened, family: str) -> Locator:
    return opened.page.locator(f'.family[data-family="{family}"]')


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("locale", LOCALES)
@pytest.mark.parametrize("size", list(SIZES))
def test_three_families_stand_side_by_side(open_page: Open, size: str, locale: str, scheme: str) -> None:
    with open_page(size, locale, scheme, path="/?tab=captioning") as opened:
        describe(opened, locale=locale)
        places = [card(opened, family).bounding_box() for family in FAMILIES]
        tops = {round(place["y"]) for place in places if place}
        assert len(tops) == (1 if size == "desktop" else len(FAMILIES))
        for family in FAMILIES:
            said = card(opened, family).locator(".said").inner_text()
            assert bool(re.search("[\u4e00-\u9fff]", said)) == (locale == "zh-CN"), said
            assert re.fullmatch(r"\d\.\d{3}", card(opened, family).locator('[data-figure="clip"] dd').inner_text())
        assert opened.page.locator(".neighbours img").first.evaluate("image => image.naturalWidth") == 128
        opened.page.screenshot(path=ARTIFACTS / f"captioning-families-{size}-{locale}-{scheme}.png", full_page=True)
        assert width(opened) == SIZES[size]["width"]
        assert violations(opened) + opened.foreign + opened.errors == []


@pytest.mark.parametrize(("locale", "heading"), [("en-US", "Colour"), ("zh-CN", "颜色")])
def test_a_word_of_the_sentence_shows_its_candidates(open_page: Open, locale: str, heading: str) -> None:
    with open_page(locale=locale, path="/?tab=captioning") as opened:
        describe(opened, locale=locale)
        template = card(opened, "template")
        panel = template.locator(".panel").locator("visible=true")
        expect(panel).to_have_count(1)
        slots = template.locator(".panel h4").all_text_contents()
        word = template.locator(".said label").nth(slots.index(heading))
        word.click()
        expect(panel.locator("h4")).to_have_text(heading)
        assert panel.locator("li").first.inner_text().split("\n")[0] == word.inner_text()
        opened.page.keyboard.press("ArrowRight")
        expect(panel).to_have_count(1)
        expect(panel.locator("h4")).not_to_have_text(heading)


def test_another_word_changes_the_map(open_page: Open) -> None:
    with open_page(path="/?tab=captioning") as opened:
        for sample in range(len(EXAMPLES)):
            describe(opened, sample)
            words = card(opened, "neural").locator(".picks > label")
            if words.count() > 1:
                break
        seen = card(opened, "neural").locator(".seen").locator("visible=true")
        expect(seen).to_have_count(1)
        picture, first = seen.locator("img").first, seen.locator("img.heat").get_attribute("src")
        assert picture.evaluate("image => image.complete && image.naturalWidth > 0")
        words.nth(1).click()
        expect(seen).to_have_count(1)
        assert seen.locator("img.heat").get_attribute("src") != first
        assert words.nth(1).inner_text() in str(seen.locator("img.heat").get_attribute("alt"))


def test_the_tree_is_drawn_scrolls_in_its_own_box_and_can_be_read(open_page: Open) -> None:
    with open_page("phone", path="/?tab=captioning") as opened:
        describe(opened)
        tree = opened.page.locator("section.tree")
        assert tree.locator("svg .best text").first.is_visible() and tree.locator("svg .pruned").count() > 0
        box = tree.locator(".scroll").first
        assert box.evaluate("box => box.clientWidth < innerWidth && box.scrollWidth >= box.clientWidth")
        tree.locator("summary").click()
        expect(tree.locator("tbody tr").first).to_be_visible()
        assert tree.locator("tbody tr").count() == tree.locator("svg rect").count()


def test_a_caption_is_lit_where_it_agrees_with_ones_own(open_page: Open) -> None:
    with open_page(path="/?tab=captioning") as opened:
        describe(opened)
        said = card(opened, "retrieval").locator(".said").inner_text()
        opened.page.locator("#captioning-more button").first.click()
        opened.page.locator("#captioning-references textarea").fill(f"something else\n{said}")
        describe(opened)
        retrieval = card(opened, "retrieval")
        assert retrieval.locator('[data-figure="bleu1"] dd').inner_text().startswith("1.000")
        assert retrieval.locator('[data-figure="rouge_l"] dd').inner_text().startswith("1.000")
        assert "".join(retrieval.locator("mark").all_inner_texts()) == said


def test_a_larger_model_begins_with_one_caption_and_the_starter_model_warns_of_photographs(open_page: Open) -> None:
    with open_page(path="/?tab=captioning") as opened:
        opened.until("#captioning-caution", "photographs it is weak")
        assert opened.page.locator("#captioning-family input:checked").get_attribute("value") == "all"
        opened.page.locator("#captioning-model input").click()
        opened.page.get_by_role("option", name="BLIP base").click()
        expect(opened.page.locator('#captioning-family input[value="neural"]')).to_be_checked()
        expect(opened.page.locator("#captioning-caution")).to_be_hidden()


# -- many pictures ---------------------------------------------------------------------------------


def archive(folder: Path, count: int) -> Path:
    path = folder / "pictures.zip"
    with zipfile.ZipFile(path, "w") as file:
        for at in range(count):
            file.write(SAMPLES / f"{EXAMPLES[at % len(EXAMPLES)]}.jpg", f"inside/{at}.jpg")
    return path


def give(opened: Opened, *files: Path) -> None:
    opened.page.locator("#captioning-batch > button").click()
    opened.page.locator("#captioning-batch-files input[type=file]").set_input_files(files)
    opened.page.wait_for_function(
        "count => document.querySelectorAll('#captioning-batch-files tbody tr').length >= count", arg=len(files)
    )
    opened.page.locator("#captioning-batch-run").click()


def table(opened: Opened) -> list[dict[str, str]]:
    """The file one is offered, read as a spreadsheet would."""
    with opened.page.expect_download() as coming:
        opened.page.locator("#captioning-batch-csv").click()
    text = Path(coming.value.path()).read_text(encoding="utf-8-sig")
    return list(csv.DictReader(io.StringIO(text)))


@pytest.mark.parametrize(("locale", "refusal"), [("en-US", "not a picture"), ("zh-CN", "不是")])
def test_many_pictures_become_a_table(open_page: Open, tmp_path: Path, locale: str, refusal: str) -> None:
    name = f"{EXAMPLES[0]}.jpg"
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture at all")
    with open_page(locale=locale, path="/?tab=captioning") as opened:
        give(opened, SAMPLES / name, broken, archive(tmp_path, 2))
        opened.until("#captioning-batch-status", DONE[locale])
        shown = opened.until("#captioning-batch-rows", f"{name}.*broken.png.*0.jpg.*1.jpg")
        assert refusal in shown
        rows = {row["file"]: row for row in table(opened)}
        assert set(rows) == {name, "broken.png", "0.jpg", "1.jpg"}
        assert rows["broken.png"]["error"] == "not_an_image" and not rows["broken.png"]["neural"]
        assert rows["0.jpg"] == {**rows[name], "file": "0.jpg"}
        assert all(rows[name][f"{family}{end}"] for family in FAMILIES for end in ("", "_clip"))
        opened.page.screenshot(path=ARTIFACTS / f"captioning-batch-{locale}.png", full_page=True)
        assert width(opened) == SIZES["desktop"]["width"] and violations(opened) == []


def test_a_stop_leaves_what_was_described_so_far(open_page: Open, tmp_path: Path) -> None:
    with open_page(path="/?tab=captioning") as opened:
        give(opened, archive(tmp_path, 400))
        opened.until("#captioning-batch-status", r"Describing pictures · [1-9]")
        opened.page.locator("#captioning-batch-stop").click()
        opened.until("#captioning-batch-status", "Stopped", seconds=30)
        assert 1 <= len(table(opened)) < 400


def test_nothing_given_is_said_to_be_nothing(open_page: Open) -> None:
    with open_page(path="/?tab=captioning") as opened:
        opened.page.locator("#captioning-batch > button").click()
        opened.page.locator("#captioning-batch-run").click()
        opened.until("#captioning-batch-status", "no pictures")
        assert opened.page.locator("#captioning-batch-run").is_enabled()
