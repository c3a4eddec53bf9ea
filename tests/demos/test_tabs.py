"""The page is built whole, and a tab that breaks does not take the others down."""

from __future__ import annotations

import types
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from demos import TABS
from demos.tab import Tab, build_demo
from pipelines.core.settings import Settings
from pipelines.house import House

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    return House(replace(Settings.read({}), cache=tmp_path_factory.mktemp("cache"), offline=True))


@pytest.fixture(scope="module")
def config(house: House) -> dict[str, Any]:
    return build_demo(house).config


def texts(config: dict[str, Any], kind: str) -> list[str]:
    return [str(c["props"].get("value")) for c in config["components"] if c["type"] == kind]


def test_every_tab_is_there_in_order(config: dict[str, Any]) -> None:
    tabs = [c["props"]["id"] for c in config["components"] if c["type"] == "tabitem" and c["props"].get("id")]
    assert tuple(name for name in tabs if name in TABS) == TABS
    assert not [text for text in texts(config, "html") if 'role="alert"' in text]


def test_building_the_page_makes_no_registry_and_imports_no_torch(house: House) -> None:
    assert house.registry_if_made is None


def test_the_page_has_one_heading_of_the_first_rank(config: dict[str, Any]) -> None:
    assert sum(text.count("<h1") for text in texts(config, "html")) == 1


def test_the_pages_own_listeners_are_private_and_named(config: dict[str, Any]) -> None:
    names = [d["api_name"] for d in config["dependencies"] if d["api_visibility"] == "private"]
    assert len(names) == len(set(names)) > 30
    public = {d["api_name"] for d in config["dependencies"] if d["api_visibility"] != "private"}
    assert public == {"caption", "generate", "search", "speak", "emotion", "chat", "stop", "models"}


def test_every_listener_goes_through_the_queue(config: dict[str, Any]) -> None:
    assert [d["api_name"] for d in config["dependencies"] if d["queue"] is False] == []


def test_pictures_and_sounds_are_handed_on_as_files(house: House) -> None:
    blocks = build_demo(house).blocks.values()
    inputs = [b for b in blocks if type(b).__name__ in ("Image", "Audio") and b.interactive is not False]
    assert len(inputs) >= 4
    assert {block.type for block in inputs} == {"filepath"}
    payload = types.SimpleNamespace(path="/somewhere/bomb.png", url="data:image/png;base64,AAAA", root=[])
    assert {block.preprocess(payload) for block in inputs} == {"/somewhere/bomb.png"}


def test_a_broken_tab_shows_why_and_the_others_live(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    def build(edge: Any) -> None:
        raise RuntimeError("<b>bad</b>")

    monkeypatch.setattr("demos.speech.TAB", Tab("speech", build))
    page = build_demo(house, ("speech", "models")).config
    card = next(text for text in texts(page, "html") if 'role="alert"' in text)
    assert "RuntimeError" in card and "<b>bad" not in card
    assert any(c["props"].get("elem_id") == "models-bar" for c in page["components"])


def test_each_tab_has_its_module_its_words_and_its_place() -> None:
    for name in TABS:
        assert (ROOT / "demos" / f"{name}.py").is_file()
        assert (ROOT / "demos" / "locales" / f"{name}.toml").is_file()


def test_sample_files_are_small_and_there() -> None:
    files = [path for path in (ROOT / "assets").rglob("*") if path.is_file() and path.suffix in (".jpg", ".css")]
    assert files and all(path.stat().st_size < 60_000 for path in files)
