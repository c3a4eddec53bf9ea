"""The tabs whose models come from the hub: the whole way from a click to a result, with tiny models in their place.

The words and pictures are noise; that they arrive, where they should and with their figures, is what is tested.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pipelines.core.settings import Settings
from tests.browser.conftest import ARTIFACTS, SIZES, Open, Opened
from tests.browser.test_retrieval import OURS, add_own
from tests.demos.conftest import Running, running
from tests.hub import LoopbackHub
from tests.tiny import captioning, emotion, reasoning, retrieval, text_to_image
from tests.tiny.adapters import lora_for
from tests.tiny.serving import CATALOG, serve, unpinned

BASE = "qwen25-05b-instruct"
MODELS = ("blip-base", "lcm-dreamshaper-v7", "siglip2-base", "goemotions-multilingual", BASE)
BUILDERS = {
    **captioning.BUILDERS, **text_to_image.BUILDERS, **retrieval.BUILDERS, **emotion.BUILDERS, **reasoning.BUILDERS,
}  # fmt: skip

# Tiny models are too quick for looking now and then.
WATCH = """() => new MutationObserver(() => {
    window.previewed ||= document.querySelector("#text_to_image-live img") !== null
}).observe(document.body, {subtree: true, childList: true})"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("full")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Running]:
    """The app with the full catalogue over a hub on this machine, which it takes for the real one."""
    before = {name: value for name, value in os.environ.items() if name.startswith("GRADIO_")}
    with LoopbackHub() as hub:
        serve(hub, folder, BUILDERS, *(CATALOG.model(id) for id in MODELS))
        made = Settings.read({})
        settings = replace(made, cache=folder / "cache", hub_endpoint=hub.url, device="cpu", budget_mb=100_000)
        with running(settings, folder / "gradio", unpinned()) as found:
            yield found
    os.environ.update(before)


def finished(opened: Opened, task: str, model: str) -> str:
    """Wait for the end of a run; the result line. The page is pictured, without an error or a foreign request."""
    opened.until(f"#{task}-status", "Done")
    line = opened.until(f"#{task}-made", f"{model}.*computing", seconds=2)
    assert opened.page.locator(f"#{task}-run").is_enabled() and opened.page.locator(f"#{task}-stop").is_disabled()
    opened.page.wait_for_timeout(400)
    size = "phone" if (opened.page.viewport_size or {})["width"] < 600 else "desktop"
    opened.page.screenshot(path=ARTIFACTS / f"{task}-result-{size}.png", full_page=True)
    assert opened.page.evaluate("Math.max(document.documentElement.scrollWidth, innerWidth)") == SIZES[size]["width"]
    assert opened.foreign + opened.errors == []
    return line


@pytest.mark.parametrize("size", list(SIZES))
def test_a_picture_is_captioned(open_page: Open, size: str) -> None:
    with open_page(size, path="/?tab=captioning") as opened:
        choose(opened, "#captioning-model", "BLIP base")
        opened.page.locator("#captioning-samples button").first.click()
        opened.page.locator("#captioning-image img").wait_for(state="visible")
        opened.page.locator("#captioning-run").click()
        finished(opened, "captioning", "BLIP base")
        assert opened.page.locator("#captioning-caption textarea").input_value().strip()
        opened.until("#captioning-families", "less sure")


@pytest.mark.parametrize("size", list(SIZES))
def test_a_picture_is_drawn(open_page: Open, size: str) -> None:
    with open_page(size, path="/?tab=text_to_image") as opened:
        opened.page.locator("#text_to_image-prompt textarea").fill("a red boat")
        opened.page.get_by_text("More settings").locator("visible=true").click()
        for name, value in (("steps", "40"), ("width", "64"), ("height", "64")):
            number = opened.page.locator(f"#text_to_image-{name} input[type=number]")
            number.fill(value)
            number.blur()
        opened.page.evaluate(WATCH)
        opened.page.locator("#text_to_image-run").click()
        opened.page.wait_for_function("!document.querySelector('#text_to_image-stop').disabled")
        line = finished(opened, "text_to_image", "LCM")
        assert opened.page.evaluate("window.previewed")
        assert "seed" in line
        picture = opened.page.locator("#text_to_image-gallery img").first
        assert picture.evaluate("image => image.complete && image.naturalWidth > 0")


@pytest.mark.parametrize("size", list(SIZES))
def test_pictures_are_found_by_words(open_page: Open, size: str) -> None:
    with open_page(size, path="/?tab=retrieval") as opened:
        choose(opened, "#retrieval-model", "SigLIP 2 base")
        add_own(opened, OURS)
        opened.page.locator("#retrieval-own-search").click()
        opened.page.locator("#retrieval-query textarea").fill("a red car")
        opened.page.locator("#retrieval-run").click()
        finished(opened, "retrieval", "SigLIP 2 base")
        assert opened.page.locator("#retrieval-hits img").count() == len(OURS)
        opened.until("#retrieval-hits", r"boat\.jpg.*-?0\.\d{3}")


@pytest.mark.parametrize("size", list(SIZES))
def test_feelings_are_read_from_a_text(open_page: Open, size: str) -> None:
    with open_page(size, path="/?tab=emotion") as opened:
        opened.page.locator("#emotion-text textarea").fill("the cat ran home")
        opened.page.locator("#emotion-run").click()
        finished(opened, "emotion", "GoEmotions")
        assert opened.page.locator("#emotion-text-scores dl, #emotion-text-scores button").count() > 1
        opened.until("#emotion-evidence", "cat")


def choose(opened: Opened, selector: str, name: str) -> None:
    opened.page.locator(f"{selector} input").click()
    opened.page.get_by_role("option", name=name).first.click()


def test_an_uploaded_adapter_keeps_its_weight_and_is_its_owners_alone(open_page: Open, folder: Path) -> None:
    lora = lora_for(folder / "repositories" / BASE, folder / "lora")
    files = [lora / "adapter_model.safetensors", lora / "adapter_config.json"]
    with open_page() as owner, open_page() as other:
        for opened in (owner, other):
            choose(opened, "#reasoning-model", "Qwen2.5 0.5B")
            opened.page.locator("#reasoning-adapters button").first.click()
        owner.page.get_by_text("Bring your own").first.click()
        owner.page.locator("#reasoning-adapter-files input[type=file]").set_input_files(files)
        owner.page.wait_for_function("document.querySelectorAll('#reasoning-adapter-files tr').length >= 2")
        owner.page.locator("#reasoning-adapter-add").click()
        owner.page.locator("#reasoning-weight-0 input[type=number]").fill("0.5")
        owner.page.locator("#reasoning-weight-0 input[type=number]").blur()
        owner.page.locator("#reasoning-box textarea").fill("the cat")
        owner.page.locator("#reasoning-run").click()
        assert "× 0.5" in finished(owner, "reasoning", "Qwen2.5")
        choose(owner, "#reasoning-adapter-picker", "XSum")
        owner.page.locator("#reasoning-weight-1").wait_for(state="visible")
        assert owner.page.locator("#reasoning-weight-0 input[type=number]").input_value() == "0.5"
        other.page.locator("#reasoning-adapter-picker input").click()
        other.page.get_by_role("option").first.wait_for()
        theirs = other.page.get_by_role("option").all_inner_texts()
        owner.page.locator("#reasoning-adapter-picker input").click()
        owner.page.get_by_role("option").first.wait_for()
        chosen = owner.text("#reasoning-adapter-picker")
        assert theirs and "adapter" in chosen
        assert not any("adapter" in option for option in theirs)
