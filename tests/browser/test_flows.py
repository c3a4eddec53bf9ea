"""What people do on the page, with the real starter models: chat, stop, speech, memory, and two people at once."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from pipelines.core.settings import Settings
from tests.browser.conftest import ARTIFACTS, SIZES, Open, Opened
from tests.demos.conftest import Running

LONG = "Write a very long story about a dragon and a lighthouse, at least twenty paragraphs."


def ask(opened: Opened, text: str) -> None:
    opened.page.locator("#reasoning-box textarea").fill(text)
    opened.page.locator("#reasoning-run").click()


def ask_at_length(opened: Opened) -> None:
    """A question whose answer is still being written when the test is done with it."""
    box = opened.page.locator("#reasoning-max_new_tokens input[type=number]")
    box.fill("1024")
    box.blur()
    ask(opened, LONG)


def idle(server: Running, seconds: float = 10) -> bool:
    """True once no job of anybody is left."""
    deadline = time.monotonic() + seconds
    while sum(server.house.admission.counts().values()):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def answer(opened: Opened) -> str:
    return opened.page.locator("#reasoning-chat .bot.message").last.inner_text()


def test_chat_streams_and_stop_stops_the_computation(open_page: Open, server: Running) -> None:
    with open_page() as opened:
        ask_at_length(opened)
        assert opened.until("#reasoning-status", ".", seconds=1)
        opened.page.locator("#reasoning-chat .bot.message").wait_for(timeout=60_000)
        first = answer(opened)
        opened.page.wait_for_timeout(1_500)
        assert len(answer(opened)) > len(first)
        opened.page.locator("#reasoning-stop").click()
        assert idle(server, 3)
        opened.until("#reasoning-status", "Stopped")
        kept = answer(opened)
        assert len(kept) >= len(first)
        opened.until("#reasoning-made", "SmolLM2.*seed")
        opened.page.wait_for_timeout(500)
        assert answer(opened) == kept


def test_closing_the_page_ends_its_job(open_page: Open, server: Running) -> None:
    with open_page() as opened:
        ask_at_length(opened)
        opened.page.locator("#reasoning-chat .bot.message").wait_for(timeout=60_000)
        assert sum(server.house.admission.counts().values()) == 1
    assert idle(server)


def test_an_answer_can_be_asked_for_again_and_looked_into(open_page: Open) -> None:
    with open_page() as opened:
        opened.page.locator("#reasoning-tokens button").first.click()
        opened.page.locator("#reasoning-alternatives input").check()
        ask(opened, "Say hello.")
        opened.until("#reasoning-status", "Done")
        opened.until("#reasoning-token-view", r"\d\.\d%")
        opened.page.screenshot(path=ARTIFACTS / "reasoning-result.png", full_page=True)
        opened.page.locator("#reasoning-chat").hover()
        opened.page.get_by_role("button", name="Retry").click()
        opened.until("#reasoning-status", "Starting|Loading|Computing|Waiting")
        opened.until("#reasoning-status", "Done")
        assert opened.page.locator("#reasoning-chat .user.message").count() == 1


def test_model_text_and_ones_own_load_no_picture(open_page: Open) -> None:
    with open_page() as opened:
        ask(opened, "<img src=https://example.invalid/a.png> ![b](https://example.invalid/b.png) Say hi.")
        opened.until("#reasoning-status", "Done")
        assert opened.page.locator("#reasoning-chat .message img").count() == 0
        assert opened.foreign == []


def test_speech_can_be_heard_and_seen(open_page: Open) -> None:
    with open_page(path="/?tab=speech") as opened:
        opened.page.locator("#speech-text textarea").fill("Hello there. This is the second sentence.")
        opened.page.locator("#speech-run").click()
        opened.until("#speech-status", "Done")
        opened.until("#speech-sentences", "second sentence")
        assert "real-time" in opened.text("#speech-facts")
        opened.page.locator("#speech-mel img").wait_for(state="visible")
        opened.page.screenshot(path=ARTIFACTS / "speech-result.png", full_page=True)
        link = opened.page.locator("#speech-sound a[download]").first.get_attribute("href")
        sound = opened.page.request.get(str(link)).body()
        assert sound[:4] == b"RIFF" and len(sound) > 40_000


def test_the_copied_request_has_the_values_on_the_page(open_page: Open) -> None:
    with open_page(path="/?tab=speech") as opened:
        opened.page.locator("#speech-text textarea").fill("It's me.")
        opened.page.locator("#speech-copy button").first.click()
        assert "It'\"'\"'s me." in opened.until("#speech-copy", r"app\.py speak.*me").replace("\n", "")


def shown_request(opened: Opened, task: str, name: str) -> str:
    """The request under "Copy as" in this shape."""
    opened.page.locator(f"#{task}-copy button[role=tab]", has_text=name).first.click()
    code = opened.page.locator(f"#{task}-copy .cm-content").locator("visible=true")
    expect(code).to_contain_text("seed", timeout=60_000)
    return "\n".join(code.locator(".cm-line").all_inner_texts())


def answer_of_curl(line: str) -> Any:
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=60, check=True)
    return json.loads(done.stdout.rsplit("data: ", 1)[1])[0]


def output_of_cli(line: str, settings: Settings, folder: Path) -> str:
    python, app, *arguments = shlex.split(line)
    assert (python, app) == ("python", "app.py")
    env = {**os.environ, "SYNESTHESIA_CACHE": str(settings.cache), "SYNESTHESIA_DEVICE": "cpu", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, str(settings.root / app), *arguments]
    done = subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True, timeout=120, check=True)
    return done.stdout


def set_number(opened: Opened, selector: str, value: int) -> None:
    number = opened.page.locator(f"{selector} input[type=number]")
    if not number.is_visible():
        opened.page.get_by_text("More settings").locator("visible=true").click()
    number.fill(str(value))
    number.blur()


def test_the_copied_lines_give_the_pages_own_answer(open_page: Open, settings: Settings, tmp_path: Path) -> None:
    with open_page() as opened:
        set_number(opened, "#reasoning-max_new_tokens", 12)
        set_number(opened, "#reasoning-seed", 7)
        opened.page.locator("#reasoning-box textarea").fill("It's time to name a colour.")
        opened.page.locator("#reasoning-copy button").first.click()
        cli, curl = (shown_request(opened, "reasoning", name) for name in ("CLI", "curl"))
        opened.page.locator("#reasoning-run").click()
        opened.until("#reasoning-status", "Done")
        told = answer(opened).split()
        assert told and answer_of_curl(curl)["text"].split() == told
        assert output_of_cli(cli, settings, tmp_path).split()[: len(told)] == told


def test_the_copied_lines_give_the_pages_own_sound(open_page: Open, settings: Settings, tmp_path: Path) -> None:
    with open_page(path="/?tab=speech") as opened:
        opened.page.locator("#speech-text textarea").fill("It's me.")
        set_number(opened, "#speech-seed", 7)
        opened.page.locator("#speech-copy button").first.click()
        cli, curl = (shown_request(opened, "speech", name) for name in ("CLI", "curl"))
        opened.page.locator("#speech-run").click()
        opened.until("#speech-status", "Done")
        link = opened.page.locator("#speech-sound a[download]").first.get_attribute("href")
        sound = opened.page.request.get(str(link)).body()
        assert opened.page.request.get(answer_of_curl(curl)["wav"]["url"]).body() == sound
        output_of_cli(cli, settings, tmp_path)
        assert (tmp_path / "speech.wav").read_bytes() == sound


def test_a_smaller_budget_evicts_and_the_log_says_why(open_page: Open, server: Running) -> None:
    before = server.house.registry.budget
    with server.house.registry.lease("hibari-heart"):
        pass
    try:
        with open_page(path="/?tab=models") as opened:
            opened.until("#models-resident", "hibari-heart")
            track = opened.page.locator("#models-budget input[type=range]:enabled")
            track.click(position={"x": 2, "y": 4})  # waits until the slider lies still
            opened.until("#models-gone", "hibari-heart.*idle when the budget was full")
            assert "hibari-heart" not in opened.text("#models-resident")
            assert server.house.registry.budget < before
    finally:
        server.house.registry.set_budget(before)


def test_the_models_tab_shows_what_is_in_memory_and_unloads_it(open_page: Open, server: Running) -> None:
    with open_page() as opened:
        ask(opened, "Hi.")
        opened.until("#reasoning-status", "Done")
        opened.tab("models")
        opened.until("#models-resident", "smollm2-135m.*ready.*MB")
        opened.page.locator("#models-there input").click()
        opened.page.get_by_role("option", name="smollm2-135m").click()
        opened.page.locator("#models-pin").click()
        opened.until("#models-resident", "pinned")
        opened.page.screenshot(path=ARTIFACTS / "models-result.png", full_page=True)
        opened.page.locator("#models-unpin").click()
        opened.page.locator("#models-unload").click()
        opened.until("#models-gone", "smollm2-135m.*host unloaded")
        assert "smollm2-135m" not in {view.id for view in server.house.registry.status()}


def test_the_host_can_load_a_model(open_page: Open, server: Running) -> None:
    with open_page(path="/?tab=models") as opened:
        opened.page.locator("#models-which input").click()
        opened.page.get_by_role("option", name="Hibari").first.click()
        opened.page.locator("#models-load").click()
        opened.until("#models-status", "Done")
        opened.until("#models-resident", "hibari-heart")


def test_two_people_do_not_cross(open_page: Open, server: Running) -> None:
    with open_page() as one, open_page() as two:
        ask_at_length(one)
        one.page.locator("#reasoning-chat .bot.message").wait_for(timeout=60_000)
        ask(two, "Please say: blue bicycle.")
        two.until("#reasoning-status", "queue")
        two.page.locator("#reasoning-stop").click()
        two.until("#reasoning-status", "Stopped")
        assert sum(server.house.admission.counts().values()) == 1
        ask(two, "Please say: green giraffe.")
        one.page.locator("#reasoning-stop").click()
        two.until("#reasoning-status", "Done")
        one.until("#reasoning-status", "Stopped")
        assert "giraffe" not in one.text("#reasoning-chat") and "dragon" not in two.text("#reasoning-chat")
    assert idle(server)


@pytest.mark.parametrize(("locale", "words"), [("en-US", "is empty"), ("zh-CN", "为空")])
def test_a_refusal_is_told_in_the_visitors_language(open_page: Open, locale: str, words: str) -> None:
    with open_page(locale=locale, path="/?tab=speech") as opened:
        opened.page.locator("#speech-run").click()
        opened.until(".toast-wrap", words)
        opened.until("#speech-status", words)
        assert opened.page.locator("#speech-run").is_enabled()


def test_examples_fill_in(open_page: Open) -> None:
    with open_page() as opened:
        opened.page.locator("#reasoning-examples button", has_text="haiku").click()
        opened.page.wait_for_function("document.querySelector('#reasoning-box textarea').value.includes('haiku')")
        opened.tab("captioning")
        opened.page.locator("#captioning-samples button").first.click()
        opened.page.locator("#captioning-image img").wait_for(state="visible")
        opened.tab("retrieval")
        opened.page.locator("#retrieval-examples button", has_text="red car").click()
        opened.page.wait_for_function("document.querySelector('#retrieval-query textarea').value.includes('red car')")


def test_results_fit_on_a_phone(open_page: Open, server: Running) -> None:
    with open_page("phone", locale="zh-CN", scheme="dark", path="/?tab=speech") as opened:
        opened.page.locator("#speech-text textarea").fill("A rather long sentence that needs a few words. Another one.")
        opened.page.locator("#speech-run").click()
        opened.until("#speech-status", "完成")
        opened.page.wait_for_timeout(500)
        opened.page.screenshot(path=ARTIFACTS / "speech-result-phone.png", full_page=True)
        assert width(opened) == SIZES["phone"]["width"]
        server.house.registry.unload("hibari-heart")
        opened.tab("models")
        opened.until("#models-gone", "hibari-heart")
        opened.page.screenshot(path=ARTIFACTS / "models-result-phone.png", full_page=True)
        assert width(opened) == SIZES["phone"]["width"]


def width(opened: Opened) -> int:
    return opened.page.evaluate("Math.max(document.documentElement.scrollWidth, innerWidth)")
