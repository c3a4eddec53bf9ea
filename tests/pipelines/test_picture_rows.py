"""Files that name pictures with captions: read by line, pictures from folders and tars."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from pathlib import Path

import pytest

from pipelines import media
from pipelines.core.errors import InvalidInput
from pipelines.picture_rows import PictureRow, open_picture, read
from tests.tiny import serving


def write(folder: Path, *records: object) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("\n".join(json.dumps(record, ensure_ascii=False) for record in records), encoding="utf-8")
    return path


def shard(path: Path, *seeds: int) -> Path:
    path.parent.mkdir(exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for seed in seeds:
            file = io.BytesIO()
            serving.picture(seed).save(file, "WEBP", lossless=True)
            member = tarfile.TarInfo(f"noise/{seed}.webp")
            member.size = file.tell()
            archive.addfile(member, io.BytesIO(file.getvalue()))
    return path


def test_a_row_of_a_folder_of_pictures(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    serving.picture(3).save(tmp_path / "sub" / "a.png")
    path = write(tmp_path, {"image": "sub/a.png", "caption_en": "red cat ", "caption_zh": None, "keywords_en": ["cat"]})
    (row,) = read(path)
    assert row == PictureRow("sub/a.png", "sub/a.png", caption_en="red cat", keywords_en=("cat",))
    assert (row.caption("en"), row.caption("zh")) == ("red cat", "")
    assert open_picture(path, row).tobytes() == serving.picture(3).tobytes()


@pytest.mark.parametrize("place", ["images/s.tar", "s.tar"])
def test_pictures_are_read_out_of_a_tar(tmp_path: Path, place: str) -> None:
    shard(tmp_path / place, 1, 2)
    record = {"id": "noise/2", "shard": "s.tar", "file": "noise/2.webp", "caption_en": "dog", "caption_zh": "狗"}
    about = {
        "concept": "dog",
        "style": "noise",
        "category": "tests",
        "keywords_zh": ["狗"],
        "captions": {"fr": "chien"},
    }
    path = write(tmp_path, record | about)
    (row,) = read(path)
    assert (row.id, row.concept, row.style, row.category) == ("noise/2", "dog", "noise", "tests")
    assert row.keywords_zh == ("狗",) and row.caption("zh") == "狗"
    with media.Decoder() as decoder:
        both = [open_picture(path, row), open_picture(path, row, decoder)]
    assert [picture.tobytes() for picture in both] == [serving.picture(2).tobytes()] * 2
    assert {file.name for file in tmp_path.rglob("*") if file.is_file()} == {"rows.jsonl", "s.tar"}  # nothing unpacked


def test_a_tar_that_changed_is_looked_through_again(tmp_path: Path) -> None:
    shard(tmp_path / "s.tar", 1)
    first = {"shard": "s.tar", "file": "noise/1.webp", "caption_en": "dog"}
    read(write(tmp_path, first))
    (tmp_path / "s.tar").unlink()
    shard(tmp_path / "s.tar", 7, 1)
    path = write(tmp_path, first, first | {"file": "noise/7.webp"})
    assert open_picture(path, read(path)[1]).tobytes() == serving.picture(7).tobytes()


@pytest.mark.parametrize(
    ("record", "code"),
    [
        ([], "row_not_json"),
        ({"caption_en": "a"}, "bad_row"),
        ({"image": "a.png"}, "bad_row"),
        ({"image": "a.png", "caption_en": " ", "caption_zh": None}, "bad_row"),
        ({"image": "a.png", "caption_en": 5}, "bad_row"),
        ({"image": "a.png", "caption_en": "a", "keywords_en": "a, b"}, "bad_row"),
        ({"image": "b.png", "caption_en": "a"}, "row_without_picture"),
        ({"shard": "s.tar", "caption_en": "a"}, "bad_row"),
        ({"shard": "s.tar", "file": "noise/9.webp", "caption_en": "a"}, "row_without_picture"),
        ({"shard": "none.tar", "file": "noise/1.webp", "caption_en": "a"}, "row_without_picture"),
    ],
)
def test_a_bad_line_is_named_before_any_work(tmp_path: Path, record: object, code: str) -> None:
    serving.picture(1).save(tmp_path / "a.png")
    shard(tmp_path / "s.tar", 1)
    path = write(tmp_path, {"image": "a.png", "caption_en": "fine"}, record)
    with pytest.raises(InvalidInput) as caught:
        read(path)
    assert (caught.value.code, caught.value.params["line"]) == (code, 2)


def test_a_compressed_tar_is_refused(tmp_path: Path) -> None:
    plain = shard(tmp_path / "plain.tar", 1)
    (tmp_path / "s.tar").write_bytes(gzip.compress(plain.read_bytes()))
    with pytest.raises(InvalidInput) as caught:
        read(write(tmp_path, {"shard": "s.tar", "file": "noise/1.webp", "caption_en": "a"}))
    assert caught.value.code == "unreadable_shard"


def test_a_broken_picture_is_an_error_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    path = write(tmp_path, {"image": "a.png", "caption_en": "a"})
    with pytest.raises(InvalidInput) as caught:
        open_picture(path, read(path)[0])
    assert caught.value.code == "not_an_image"
