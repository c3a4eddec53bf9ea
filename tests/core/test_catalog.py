"""Cards are checked at start: whatever is wrong with one is said with the file and the key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pipelines.core.catalog import Catalog, CatalogError
from pipelines.core.errors import InvalidInput, UnknownModel
from pipelines.core.specs import TASKS, AdapterSpec
from pipelines.house import CATALOG, LOADERS
from tests.core.fakes import adapter_card, model_card

PARTNERS = {"vocoder", "reranker", "english"}  # options that name another card

CARD = """
task = "speech"
loader = "fake"
source = "hf:org/name"
size_mb = 10
license = "mit"
tier = "laptop"
parameters_m = 1.5
languages = ["en"]
title = { en = "A voice", zh = "声音" }
"""
ADAPTER = """
base = "voice"
source = "dir:assets/weights/x"
size_mb = 1.5
license = "mit"
title = { en = "An accent", zh = "口音" }
"""


def write(folder: Path, models: dict[str, str], adapters: dict[str, str] | None = None) -> Path:
    for kind, cards in (("models", models), ("adapters", adapters or {})):
        (folder / kind).mkdir()
        for id, text in cards.items():
            (folder / kind / f"{id}.toml").write_text(text, encoding="utf-8")
    return folder


def test_a_card_is_read_with_its_file_name_as_id(tmp_path: Path) -> None:
    catalog = Catalog.read(write(tmp_path, {"voice": CARD}, {"accent": ADAPTER}))
    voice, accent = catalog.model("voice"), catalog.adapter("accent")
    assert (voice.id, voice.size, voice.languages) == ("voice", 10 * 2**20, ("en",))
    assert (accent.base, accent.weight, accent.size) == ("voice", 1.0, 3 * 2**19)
    with pytest.raises(TypeError):
        voice.title["en"] = "changed"  # type: ignore[index]


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (("", "colour = 1\n"), "colour"),
        (("", 'id = "other"\n'), "id"),
        (('license = "mit"\n', ""), "license"),
        (('task = "speech"', 'task = "cooking"'), "task"),
        (('tier = "laptop"', 'tier = "huge"'), "tier"),
        (('"hf:org/name"', '"http://org/name"'), "source"),
        (("size_mb = 10", "size_mb = 0"), "size_mb"),
        (("size_mb = 10", 'size_mb = "10"'), "size_mb"),
        (("size_mb = 10", "size_mb = true"), "size_mb"),
        (('["en"]', "[]"), "languages"),
        (('["en"]', '"en"'), "languages"),
        ((', zh = "声音"', ""), "title"),
        (("", 'revision = "main"\n'), "revision"),
        (("", f'revision = "{"g" * 40}"\n'), "revision"),
        (("", 'note = { en = "slow" }\n'), "note"),
        (("", "scores = { wer = 0.1 }\n"), "scores_command"),
        (("", 'sha256 = { "a.safetensors" = "abc" }\n'), "sha256"),
        (("", "task = 5 = 6\n"), "line"),
    ],
)
def test_a_wrong_card_is_refused_naming_file_and_key(tmp_path: Path, change: tuple[str, str], key: str) -> None:
    text = CARD.replace(*change, 1) if change[0] else change[1] + CARD
    assert text != CARD
    with pytest.raises(CatalogError, match=rf"^models/voice\.toml: .*{key}"):
        Catalog.read(write(tmp_path, {"voice": text}))


@pytest.mark.parametrize(
    ("change", "key"),
    [
        (('base = "voice"', 'base = "nobody"'), "base"),
        (("", "weight = 2.5\n"), "weight"),
        (("", 'owner = "ann"\n'), "owner"),
        (("size_mb = 1.5", ""), "size_mb"),
    ],
)
def test_a_wrong_adapter_card_is_refused_likewise(tmp_path: Path, change: tuple[str, str], key: str) -> None:
    text = ADAPTER.replace(*change, 1) if change[0] else change[1] + ADAPTER
    with pytest.raises(CatalogError, match=rf"^adapters/accent\.toml: .*{key}"):
        Catalog.read(write(tmp_path, {"voice": CARD}, {"accent": text}))


def test_a_card_in_another_encoding_is_named(tmp_path: Path) -> None:
    folder = write(tmp_path, {"voice": CARD})
    (folder / "models" / "voice.toml").write_bytes(CARD.encode("gb18030"))
    with pytest.raises(CatalogError, match="models/voice.toml"):
        Catalog.read(folder)


def test_a_task_has_one_default_and_both_files_are_named_otherwise(tmp_path: Path) -> None:
    text = "default = true\n" + CARD
    with pytest.raises(CatalogError, match=r"models/alto\.toml, models/bass\.toml: default"):
        Catalog.read(write(tmp_path, {"alto": text, "bass": text}))


def test_a_model_and_an_adapter_never_share_a_name(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match=r"adapters/voice\.toml: id"):
        Catalog.read(write(tmp_path, {"voice": CARD}, {"voice": ADAPTER}))


def test_an_unknown_name_lists_the_known_ones() -> None:
    catalog = Catalog([model_card("a"), model_card("b")], [adapter_card("a1", "a")])
    with pytest.raises(UnknownModel) as caught:
        catalog.model("x" * 1000)
    assert caught.value.params == {"id": "x" * 80, "known": "a, b"}
    with pytest.raises(UnknownModel) as caught:
        catalog.adapter("x")
    assert caught.value.params["known"] == "a1"


def test_another_visitors_upload_is_as_unknown_as_none() -> None:
    catalog = Catalog([model_card("a")])
    catalog.add_adapter(AdapterSpec("mine", "a", "dir:x", {"en": "x", "zh": "x"}, "own", 1, owner="ann"))
    assert catalog.adapter("mine", "ann").id == "mine"
    assert catalog.adapters("a", "bob") == () and [a.id for a in catalog.adapters("a", "ann")] == ["mine"]
    with pytest.raises(UnknownModel) as caught:
        catalog.adapter("mine", "bob")
    assert "mine" not in caught.value.params["known"]
    catalog.remove_adapter("mine")
    with pytest.raises(UnknownModel):
        catalog.adapter("mine", "ann")


def test_an_added_adapter_needs_a_base_that_exists() -> None:
    with pytest.raises(UnknownModel):
        Catalog([model_card("a")]).add_adapter(adapter_card("x", "nobody"))


def test_a_task_gets_its_default_and_only_models_that_serve_it() -> None:
    cards: list[Any] = [
        model_card("big", 90, tier="gpu"),
        model_card("small", 10, also=("reasoning",)),
        model_card("chosen", 50, default=True),
        model_card("vocoder", 1, part=True),
        model_card("other", 5, task="speech"),
    ]
    catalog = Catalog(cards)
    assert [spec.id for spec in catalog.models("captioning")] == ["chosen", "small", "big"]
    assert catalog.for_task("captioning").id == "chosen" and catalog.for_task("reasoning").id == "small"
    for id in ("other", "vocoder"):
        with pytest.raises(InvalidInput, match="wrong_task"):
            catalog.for_task("captioning", id)
    with pytest.raises(UnknownModel, match="no_model_for_task"):
        catalog.default("emotion")


@pytest.fixture(scope="module")
def house_catalog() -> Catalog:
    return Catalog.read(CATALOG)


@pytest.mark.parametrize("path", sorted(CATALOG.glob("*/*.toml")), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_card_of_the_catalogue_is_sound(house_catalog: Catalog, path: Path) -> None:
    spec: Any = house_catalog.model(path.stem) if path.parent.name == "models" else house_catalog.adapter(path.stem)
    if path.parent.name == "adapters":
        assert house_catalog.model(spec.base)
    else:
        assert spec.loader in LOADERS
        assert all(house_catalog.model(spec.options[key]) for key in PARTNERS & set(spec.options))
    if spec.source.startswith("hf:") and not spec.revision:
        assert spec.note, "a card without a commit says so"
    if spec.note:
        assert any("\u4e00" <= letter <= "\u9fff" for letter in spec.note["zh"])


@pytest.mark.parametrize("task", TASKS)
def test_every_task_has_models_and_one_that_knows_chinese(house_catalog: Catalog, task: str) -> None:
    cards = house_catalog.models(task)
    assert any({"zh", "multi"} & set(card.languages) for card in cards)
