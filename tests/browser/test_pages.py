"""Every tab, on a desktop and a phone, in both languages, light and dark: clean, and pictured for people to look at."""

from __future__ import annotations

from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe

from demos import TABS
from tests.browser.conftest import ARTIFACTS, SIZES, Open, Opened

# Gradio's own, which a page cannot change: (rule, what the node's HTML begins with).
ALLOWED = (
    ("aria-prohibited-attr", '<div aria-label="Empty value" class="empty'),  # the icon of an empty output
    ("nested-interactive", '<button class="icon-button'),  # "more files" above those already given
)


def violations(opened: Opened) -> list[str]:
    found: list[str] = []
    report: dict[str, Any] = Axe().run(opened.page).response
    for violation in report["violations"]:
        if violation["impact"] not in ("serious", "critical"):
            continue
        for node in violation["nodes"]:
            if not any(violation["id"] == rule and node["html"].startswith(start) for rule, start in ALLOWED):
                found.append(f"{violation['id']}: {node['html'][:160]} {node.get('failureSummary', '')[:200]}")
    return found


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("locale", ["en-US", "zh-CN"])
@pytest.mark.parametrize("size", ["desktop", "phone"])
def test_every_tab_is_clean(open_page: Open, size: str, locale: str, scheme: str) -> None:
    ARTIFACTS.mkdir(parents=True, exist_ok=True)
    wrong: list[str] = []
    with open_page(size, locale, scheme) as opened:
        for name in TABS:
            opened.tab(name)
            opened.page.wait_for_timeout(250)
            opened.page.screenshot(path=ARTIFACTS / f"{name}-{size}-{locale}-{scheme}.png", full_page=True)
            text = opened.text("body")
            if "__i18n__" in text:
                wrong.append(f"{name}: an untranslated key")
            if ("模型" in text) != (locale == "zh-CN"):
                wrong.append(f"{name}: the other language")
            width = opened.page.evaluate("Math.max(document.documentElement.scrollWidth, innerWidth)")
            if width > SIZES[size]["width"]:  # a phone zooms out rather than scroll
                wrong.append(f"{name}: {width} px wide")
            wrong += [f"{name}: {violation}" for violation in violations(opened)]
    assert wrong + opened.foreign + opened.errors == []


@pytest.mark.parametrize("name", [name for name in TABS if name != "models"])
def test_on_a_phone_what_one_presses_is_large_enough(open_page: Open, name: str) -> None:
    with open_page("phone", path=f"/?tab={name}") as opened:
        opened.page.locator(f"#{name}-run").wait_for(state="visible")
        for selector in (f"#{name}-run", f"#{name}-stop", "#header nav a >> nth=0", 'button[role="tab"] >> nth=0'):
            box = opened.page.locator(selector).first.bounding_box()
            assert box is not None and box["height"] >= 44 and box["width"] >= 44, (selector, box)


def test_a_link_opens_its_tab(open_page: Open) -> None:
    with open_page(path="/?tab=speech") as opened:
        opened.page.locator("#speech-run").wait_for(state="visible")


@pytest.mark.parametrize("name", ["captioning", "text_to_image", "retrieval", "emotion"])
@pytest.mark.parametrize(("locale", "word"), [("en-US", "offline"), ("zh-CN", "离线")])
def test_a_tab_whose_model_is_not_here_says_what_is_missing(open_page: Open, name: str, locale: str, word: str) -> None:
    with open_page(locale=locale, path=f"/?tab={name}") as opened:
        shown = opened.until(f"#tab-{name}", ".")
        if "not here yet" in shown or "尚未就绪" in shown:
            assert word in opened.text(f"#{name}-notice")


def test_the_button_changes_the_language_and_the_page_remembers(open_page: Open) -> None:
    with open_page() as opened:
        opened.page.locator('#header a[data-pick="zh"]').click()
        opened.page.wait_for_url("**lang=zh-CN*")
        opened.until("#reasoning-run", "发送")
        opened.page.goto(opened.page.url.split("?")[0])
        opened.until("#reasoning-run", "发送")
        opened.page.wait_for_function("document.querySelector('#reasoning-model input').value.includes('入门')")
        opened.page.locator('#header a[data-pick="en"]').click()
        opened.until("#reasoning-run", "Send")


def test_it_works_by_keyboard_alone(open_page: Open) -> None:
    with open_page() as opened:
        opened.page.locator("#reasoning-box textarea").focus()
        opened.page.keyboard.type("Hi", delay=10)
        opened.page.keyboard.press("Enter")
        opened.until("#reasoning-chat", "Hi")
        opened.until("#reasoning-status", "Done")
        focusable = opened.page.evaluate("document.querySelector('#header nav a').tabIndex")
        assert focusable == 0
