"""Rows of a file that names pictures with their captions, and the pictures themselves. Knows no model.

A row is {"image": path beside the file, "caption_en": …, "caption_zh": …|null, "keywords_en": […]}; in a large
collection "shard" and "file" stand for "image": the tar (in `images/` beside the file, or beside it) and the member.
"""

from __future__ import annotations

import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines import media
from pipelines.core.errors import InvalidInput
from pipelines.metrics import read_records

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True, slots=True)
class PictureRow:
    """One picture; "" and () for what the file does not say. `image`: its path, or its name within `shard`."""

    id: str
    image: str
    shard: str = ""
    caption_en: str = ""
    caption_zh: str = ""
    keywords_en: tuple[str, ...] = ()
    keywords_zh: tuple[str, ...] = ()
    concept: str = ""
    style: str = ""
    category: str = ""

    def caption(self, language: str) -> str:
        """In "zh", or else in English; "" where there is none."""
        return self.caption_zh if language == "zh" else self.caption_en


def read(path: Path) -> list[PictureRow]:
    """Every row has a caption and a picture that is there; raises InvalidInput with the line of the first without."""
    rows = []
    for line, record in read_records(path):
        found = row(path, line, record)
        if not found.caption_en and not found.caption_zh:
            raise InvalidInput("bad_row", line=line, need="image, caption_en")
        rows.append(found)
    return rows


def row(path: Path, line: int, record: Mapping[str, Any]) -> PictureRow:
    """One row of the file, with or without captions; raises InvalidInput with the line."""
    shard = _string(record, "shard", line)
    image = _string(record, "file" if shard else "image", line)
    if not image:
        raise InvalidInput("bad_row", line=line, need="image, caption_en")
    if not _is_there(path, image, shard):
        raise InvalidInput("row_without_picture", line=line, name=f"{shard}: {image}" if shard else image)
    return PictureRow(
        id=_string(record, "id", line) or image,
        image=image,
        shard=shard,
        caption_en=_string(record, "caption_en", line),
        caption_zh=_string(record, "caption_zh", line),
        keywords_en=strings(record, "keywords_en", line),
        keywords_zh=strings(record, "keywords_zh", line),
        concept=_string(record, "concept", line),
        style=_string(record, "style", line),
        category=_string(record, "category", line),
    )


def open_picture(path: Path, row: PictureRow, decoder: media.Decoder | None = None) -> Image:
    """The picture of a row of the file at `path`, in RGB; raises InvalidInput for a broken one.

    `decoder`: for many rows one after the other, the same each time.
    """
    source = _member(path, row) if row.shard else path.parent / row.image
    found: Image = decoder.decode(source) if decoder else media.decode("image", source)
    return found


def strings(record: Mapping[str, Any], name: str, line: int) -> tuple[str, ...]:
    """A list of texts; left out or null, none. Raises InvalidInput for anything else."""
    value = record.get(name)
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise InvalidInput("bad_row", line=line, need=f"{name} = [text, …]")
    return tuple(value)


def _string(record: Mapping[str, Any], name: str, line: int) -> str:
    value = record.get(name)
    if value is not None and not isinstance(value, str):
        raise InvalidInput("bad_row", line=line, need=f"{name} = text")
    return (value or "").strip()


def _is_there(path: Path, image: str, shard: str) -> bool:
    if not shard:
        return (path.parent / image).is_file()
    tar = _tar(path, shard)
    return tar is not None and image in _members(tar, tar.stat().st_mtime_ns)


def _tar(path: Path, shard: str) -> Path | None:
    places = (path.parent / "images" / shard, path.parent / shard)
    return next((place for place in places if place.is_file()), None)


def _member(path: Path, row: PictureRow) -> bytes:
    """Read at its place: nothing is unpacked."""
    tar = _tar(path, row.shard)
    if tar is None:
        raise InvalidInput("no_such_file", name=row.shard[:80])
    offset, size = _members(tar, tar.stat().st_mtime_ns)[row.image]
    with tar.open("rb") as file:
        file.seek(offset)
        return file.read(size)


@lru_cache(maxsize=32)
def _members(tar: Path, changed: int) -> Mapping[str, tuple[int, int]]:
    """Where each file lies in an uncompressed tar: (offset, bytes). `changed` makes a new file a new key."""
    try:
        with tarfile.open(tar, "r:") as archive:
            return {member.name: (member.offset_data, member.size) for member in archive if member.isfile()}
    except (tarfile.TarError, OSError) as error:
        raise InvalidInput("unreadable_shard", name=tar.name[:80]) from error
