"""What the gallery is made of: who is in, who is not, and that it is always the same."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest

from pipelines.gallery import Gallery
from tests.tiny import serving
from training import gallery
from training.picto.records import Record

SOURCES = {"noto": "Noto Emoji", "twemoji": "Twemoji", "fluent-3d": "Fluent Emoji", "openmoji": "OpenMoji 17, colour"}
CLIP_ART = "Open Clip Art Library 0.18"


def record(concept: str, style: str, licence: str = "MIT", **more: object) -> Record:
    name = f"{style}/{concept.replace(' ', '-')}"
    about = {"id": name, "file": f"{name}.webp", "shard": "all.tar", "source": SOURCES.get(style, CLIP_ART)}
    words = {
        "caption_en": concept,
        "caption_zh": "词",
        "keywords_en": ["word"],
        "keywords_zh": [],
        "category": "things",
    }
    return about | words | {"concept": concept, "style": style, "licence": licence} | more


def emoji(number: int) -> list[Record]:
    licences = {"openmoji": "CC-BY-SA-4.0", "twemoji": "CC-BY-4.0"}
    return [record(f"concept {at}", style, licences.get(style, "MIT")) for at in range(number) for style in SOURCES]


def clip_art(number: int, category: str = "food", zh: str | None = None) -> list[Record]:
    return [
        record(f"{category} {at}", "clipart", "public-domain", category=category, caption_zh=zh, author="Ann <a@b.org>")
        for at in range(number)
    ]


def test_each_emoji_concept_once_in_styles_that_come_out_even() -> None:
    chosen = gallery.choose(emoji(90), [])
    assert len(chosen) == len({each["concept"] for each in chosen}) == 90
    counts = [sum(each["style"] == style for each in chosen) for style in ("noto", "twemoji", "fluent-3d")]
    assert max(counts) - min(counts) <= 1


def test_share_alike_pictures_do_not_ship_and_unseen_ones_all_do() -> None:
    chosen = gallery.choose(emoji(30), [record("unseen", style) for style in ("noto", "twemoji", "fluent-3d")])
    assert {each["style"] for each in chosen} == {"noto", "twemoji", "fluent-3d"}
    assert [each["style"] for each in chosen if each["unseen"]] == ["fluent-3d", "noto", "twemoji"]


def test_the_rest_is_filled_from_each_category_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gallery, "TOTAL", 20)
    train = [*clip_art(8, "named", "词"), *clip_art(50, "computer"), *clip_art(5, "food"), *clip_art(4, "tools")]
    chosen = [each["category"] for each in gallery.choose(train, [])]
    assert [chosen.count(name) for name in ("named", "computer", "food", "tools")] == [8, 4, 4, 4]


def test_what_is_packed_is_read_back_and_the_bytes_are_always_the_same(tmp_path: Path) -> None:
    train = [*emoji(3), *clip_art(3)]
    (tmp_path / "images").mkdir()
    with tarfile.open(tmp_path / "images" / "all.tar", "w") as tar:
        for number, each in enumerate(train):
            out = io.BytesIO()
            serving.picture(number).save(out, "WEBP", lossless=True)
            info = tarfile.TarInfo(each["file"])
            info.size = out.tell()
            tar.addfile(info, io.BytesIO(out.getvalue()))
    for name in ("a", "b"):
        gallery.pack(tmp_path, gallery.choose(train, []), tmp_path / name)
    first = {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()}
    assert first == {path.name: path.read_bytes() for path in (tmp_path / "b").iterdir()}
    packed = Gallery.read(tmp_path / "a")
    files = {each["id"]: number for number, each in enumerate(train)}
    for index, item in enumerate(packed.items):
        assert packed.picture(index).tobytes() == serving.picture(files[item.id]).tobytes()
    assert {item.author for item in packed.items if item.style == "clipart"} == {"Ann"}
    assert json.loads(first["gallery.jsonl"].splitlines()[0])["file"].endswith(".webp")


@pytest.mark.parametrize(
    ("author", "name"),
    [
        ("Ann Lee", "Ann Lee"),
        ("Ann Lee (a@b.org)", "Ann Lee"),
        ("Ann - a@b.org", "Ann"),
        ("ann <a@b.org>", "ann"),
        ("ann@b.org", "ann"),
        ("mailto:ann@b.org", "ann"),
    ],
)
def test_addresses_are_left_out(author: str, name: str) -> None:
    assert gallery.without_address(author) == name
