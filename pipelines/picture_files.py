"""Many pictures at once, as people have them: files, zip archives and, for the host, folders. Names and bytes, unread.

Nothing is unpacked to disk, so no name in an archive can point anywhere. How much one archive may make us read is
limited before and while reading. What the bytes are is for `media` to find out.
"""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pipelines.core.errors import InvalidInput
from pipelines.core.settings import MAX_UPLOAD_MB

MAX_BYTES = MAX_UPLOAD_MB << 20  # of one picture
MAX_RATIO = 100  # inflated to packed, of a member larger than RATIO_FROM
RATIO_FROM = 2**20
MAX_LISTING = 4 * 2**20  # bytes of an archive's table of contents: some 50,000 members
MAX_INFLATED = 2 * 2**30  # bytes that reading one archive may give in all
JUNK = {"__MACOSX", "Thumbs.db", "desktop.ini"}

_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_END, _END_SIZE, _END_64 = b"PK\x05\x06", 22, b"PK\x06\x07"
_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}  # others may ask for any amount of memory


@dataclass(frozen=True, slots=True)
class Source:
    """One file. `name` is for showing only; `read()` gives at most MAX_BYTES + 1 bytes, or raises InvalidInput."""

    name: str
    read: Callable[[], bytes]


def sources(paths: Sequence[Path], *, folders: bool) -> list[Source]:
    """Everything in the files, archives and, where `folders`, folders named; hidden files are passed over.

    An archive that cannot be opened is one Source whose reading fails. Raises InvalidInput for a folder otherwise.
    """
    found: list[Source] = []
    for path in paths:
        if path.is_dir():
            if not folders:
                raise InvalidInput("folder_local_only")
            found += [source for file in _walk(path) for source in _file(file)]
        else:
            found += _file(path)
    return found


def _walk(folder: Path) -> Iterator[Path]:
    for place, inner, names in os.walk(folder):
        inner[:] = sorted(name for name in inner if _wanted(name))
        yield from (Path(place, name) for name in sorted(names) if _wanted(name))


def _wanted(name: str) -> bool:
    return not name.startswith(".") and name not in JUNK


def _file(path: Path) -> list[Source]:
    try:
        with path.open("rb") as file:
            packed = file.read(4) in _ZIP
        return _members(path) if packed else [Source(_shown(path.name), lambda: _read(path))]
    except OSError:
        return [_failing(path.name, "no_such_file", name=_shown(path.name))]


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except OSError:
        raise InvalidInput("no_such_file", name=_shown(path.name)) from None


def _members(path: Path) -> list[Source]:
    size = _listing_size(path)
    if size is None:
        return [_failing(path.name, "zip_broken")]
    if size > MAX_LISTING:
        return [_failing(path.name, "zip_too_large")]
    try:
        archive = _Archive(path)
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return [_failing(path.name, "zip_broken")]
    return [
        Source(_shown(info.filename), lambda info=info: archive.read(info))  # type: ignore[misc]
        for info in archive.zip.infolist()
        if not info.is_dir() and all(_wanted(part) for part in _parts(info.filename))
    ]


def _parts(name: str) -> list[str]:
    """Folders and file of a member's name, whichever way its slashes lean; without steps upwards."""
    return [part for part in PurePosixPath(name.replace("\\", "/")).parts if part != ".."]


def _listing_size(path: Path) -> int | None:
    """Bytes of the table of contents, found as `zipfile` finds it; None without one. The 64-bit format, which no
    archive of an allowed size needs, counts as too large: its table may hide behind a small one."""
    with path.open("rb") as file:
        length = file.seek(0, os.SEEK_END)
        file.seek(max(0, length - _END_SIZE - 2**16))
        tail = file.read()
    at = len(tail) - _END_SIZE
    if at < 0 or not (tail[at:].startswith(_END) and tail.endswith(b"\0\0")):
        at = tail.rfind(_END)
    if at < 0 or at + _END_SIZE > len(tail):
        return None
    if tail[: max(at, 0)][-20:].startswith(_END_64):
        return MAX_LISTING + 1
    (size,) = struct.unpack_from("<L", tail, at + 12)
    return int(size)


class _Archive:
    """Reads members of one archive and keeps count; the file is closed with the last Source that needs it."""

    def __init__(self, path: Path) -> None:
        self.zip = zipfile.ZipFile(path)
        self.left = MAX_INFLATED

    def read(self, info: zipfile.ZipInfo) -> bytes:
        if info.file_size > MAX_BYTES:
            raise InvalidInput("file_too_large", limit=MAX_UPLOAD_MB)
        if info.flag_bits & 1 or info.compress_type not in _METHODS:
            raise InvalidInput("zip_locked")
        if info.file_size > max(RATIO_FROM, MAX_RATIO * info.compress_size) or self.left <= 0:
            raise InvalidInput("zip_bomb")
        try:
            with self.zip.open(info) as member:
                data = member.read(MAX_BYTES + 1)
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError, struct.error):
            raise InvalidInput("zip_broken") from None
        self.left -= len(data)
        return data


def _failing(file: str, code: str, **params: str) -> Source:
    def fail() -> bytes:
        raise InvalidInput(code, **params)

    return Source(_shown(file), fail)


def _shown(name: str) -> str:
    """The last part of a name, without what cannot be printed."""
    last = (_parts(name) or [""])[-1]
    return "".join(c for c in last if c.isprintable())[:120] or "?"
