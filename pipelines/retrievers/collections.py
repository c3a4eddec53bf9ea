"""Pictures of one's own, kept on disk to be searched: thumbnails, and vectors of each model that has read them.

Each collection is one SQLite file, written a batch at a time: whoever is killed loses at most the batch in hand, and
the next time goes on from there. The index is derived from it and mended wherever the two differ.
Knows visitors by the name the doors give them; what a model is, it is told by an Embedder.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import sqlite3
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines import media
from pipelines.core.errors import DemoError, InvalidInput, TooMany
from pipelines.core.settings import Settings
from pipelines.core.streaming import Job, Progress
from pipelines.gallery import Embedder
from pipelines.loaders.locks import locked
from pipelines.picture_files import Source, sources
from pipelines.retrievers import index as indices
from pipelines.retrievers.index import Found, Index

if TYPE_CHECKING:
    from PIL.Image import Image

HOST = "host:"  # names of collections that are the host's, seen by all and kept
MAX_NAME = 60
MAX_COLLECTIONS = 8  # of one visitor
MAX_PICTURES = 2_000  # of one visitor's collection …
MAX_PICTURES_HOST = 200_000  # … and of one of the host's
KEPT = 3600.0  # seconds a visitor's collection lives after its last use
BATCH = 16  # pictures: what a kill can cost
THUMBNAIL = 256  # pixels of the longer side, as it is kept
READ = 512  # pixels of the longer side, as a model is given it when it is added
HELD = 16  # indices in memory
SAVED_AGAIN = 0.05  # an index file is written anew when so much of it is out of date

_SCHEMA = """
CREATE TABLE about (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE pictures (
    id INTEGER PRIMARY KEY AUTOINCREMENT, hash BLOB NOT NULL UNIQUE, name TEXT NOT NULL, thumbnail BLOB NOT NULL
);
CREATE TABLE vectors (
    model TEXT NOT NULL, picture INTEGER NOT NULL REFERENCES pictures ON DELETE CASCADE, vector BLOB NOT NULL,
    UNIQUE (model, picture)
);
CREATE INDEX vectors_picture ON vectors (picture);
"""


@dataclass(frozen=True, slots=True)
class Stored:
    """One picture of a collection. Ids are never given twice."""

    id: int
    name: str  # of its file


@dataclass(frozen=True, slots=True)
class Listed:
    """A collection as it is offered to a visitor, who may change it if `writable`."""

    name: str
    pictures: int
    size_mb: float
    writable: bool


@dataclass(frozen=True, slots=True)
class Broken:
    """A file that was not taken, and why: the code of an error and its params."""

    name: str
    code: str
    params: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Report:
    """What became of the files: pictures added, pictures that were there already, files that could not be used."""

    added: int
    known: int
    broken: tuple[Broken, ...]


@dataclass(slots=True)
class _Held:
    """An index in memory, and which state of the file it shows. Searching and changing take the lock."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    index: Index | None = None
    changes: int = -1
    unsaved: int = 0  # rows changed since it was written to disk


class Collections:
    """All collections below one folder. One for the whole process: it holds the indices that were used last."""

    def __init__(self, root: Path, *, host: str, shared: bool = False) -> None:
        self.root = root
        self.host = host  # the visitor who owns the machine: may name folders, and keeps what is added
        self.shared = shared  # whether every visitor may change the host's collections
        self._held: OrderedDict[tuple[Path, str], _Held] = OrderedDict()
        self._lock = threading.Lock()

    @classmethod
    def of(cls, settings: Settings, host: str) -> Collections:
        return cls(settings.cache / "collections", host=host, shared=settings.shared_collections)

    def create(self, visitor: str, name: str) -> Collection:
        """A collection, made if it is not there. Raises InvalidInput for a name it cannot have, TooMany."""
        name = _checked(name)
        folder, writable = self._folder(visitor, name), self._may_write(visitor, name)
        if not writable:
            raise InvalidInput("collection_read_only", name=name)
        if not (folder / "pictures.sqlite").is_file():
            owned = [path for path in folder.parent.glob("*/pictures.sqlite")]
            if not name.startswith(HOST) and visitor != self.host and len(owned) >= MAX_COLLECTIONS:
                raise TooMany("too_many_collections", limit=MAX_COLLECTIONS)
            _make(folder, name)
        return self.open(visitor, name)

    def open(self, visitor: str, name: str) -> Collection:
        """A collection that is there; raises InvalidInput, naming those there are."""
        folder = self._folder(visitor, name)
        if not (folder / "pictures.sqlite").is_file():
            known = ", ".join(listed.name for listed in self.list(visitor)) or "-"
            raise InvalidInput("unknown_collection", name=name[:MAX_NAME], known=known)
        _touch(folder)
        return Collection(self, name, folder, is_host=visitor == self.host, writable=self._may_write(visitor, name))

    def list(self, visitor: str) -> tuple[Listed, ...]:
        """The visitor's own by name, then the host's."""
        found = []
        for place in (self._place(visitor, ""), self._place(visitor, HOST)):
            here = [_listed(folder) for folder in place.glob("*") if (folder / "pictures.sqlite").is_file()]
            found += sorted(listed for listed in here if listed)
        return tuple(Listed(*listed, self._may_write(visitor, listed[0])) for listed in found)

    def delete(self, visitor: str, name: str) -> None:
        """Drop a collection with all that is derived from it."""
        if not self.open(visitor, name).writable:
            raise InvalidInput("collection_read_only", name=name)
        self._drop(self._folder(visitor, name))

    def forget_old(self, seconds: float = KEPT) -> int:
        """Drop visitors' collections that were last used longer ago; the host's stay. How many went."""
        limit, own, gone = time.time() - seconds, self._place(self.host, ""), 0
        for folder in [path for path in self.root.glob("visitors/*/*") if path.parent != own]:
            if folder.is_dir() and folder.stat().st_mtime < limit:
                self._drop(folder)
                gone += 1
        return gone

    def _place(self, visitor: str, name: str) -> Path:
        return self.root / "host" if name.startswith(HOST) else self.root / "visitors" / _hashed(visitor)

    def _folder(self, visitor: str, name: str) -> Path:
        return self._place(visitor, name) / _hashed(name)

    def _may_write(self, visitor: str, name: str) -> bool:
        return not name.startswith(HOST) or self.shared or visitor == self.host

    def _drop(self, folder: Path) -> None:
        with self._lock:
            for key in [key for key in self._held if key[0] == folder]:
                del self._held[key]
        shutil.rmtree(folder, ignore_errors=True)

    def hold(self, folder: Path, model: str) -> _Held:
        """The place in memory of a collection's index for a model."""
        with self._lock:
            held = self._held.setdefault((folder, model), _Held())
            self._held.move_to_end((folder, model))
            while len(self._held) > HELD:
                self._held.popitem(last=False)
            return held


class Collection:
    """One collection as one visitor may use it. Holds no file open; safe to use from many threads and processes."""

    def __init__(self, owner: Collections, name: str, folder: Path, *, is_host: bool, writable: bool) -> None:
        self.name = name
        self.folder = folder
        self.writable = writable
        self.limit = MAX_PICTURES_HOST if is_host or name.startswith(HOST) else MAX_PICTURES
        self._owner = owner
        self._is_host = is_host

    def __len__(self) -> int:
        return int(self._one("SELECT count(*) FROM pictures"))

    def items(self) -> tuple[Stored, ...]:
        """Every picture, in the order in which they came."""
        with self._open() as file:
            return tuple(Stored(*row) for row in file.execute("SELECT id, name FROM pictures ORDER BY id"))

    def picture(self, id: int) -> Image:
        """A picture as it is kept: RGB, at most THUMBNAIL pixels wide or high. Raises InvalidInput for one gone."""
        from PIL import Image

        data = self._one("SELECT thumbnail FROM pictures WHERE id = ?", int(id))
        if data is None:
            raise InvalidInput("picture_gone")
        return Image.open(io.BytesIO(data)).convert("RGB")

    def name_of(self, id: int) -> str:
        """The name of a picture's file; raises InvalidInput for one gone."""
        name = self._one("SELECT name FROM pictures WHERE id = ?", int(id))
        if name is None:
            raise InvalidInput("picture_gone")
        return str(name)

    def add(self, files: Sequence[Path], embedder: Embedder, job: Job) -> Report:
        """Take pictures from files, zip archives and (the host's only) folders, BATCH at a time.

        A file that is no picture is reported, not raised. What is there already is neither stored nor embedded
        again, so that adding the same files after a stop or a kill goes on where it was. Emits Progress("index", …);
        raises InvalidInput, Cancelled, and what embedding raises: then the batches before are kept.
        """
        self._check_writable()
        found = sources(files, folders=self._is_host)
        known, broken, added = 0, list[Broken](), 0
        with locked(self.folder / ".lock", job.stop), media.Decoder(side=READ) as decoder:
            self._complete(embedder, job)
            hashes = self._hashes()
            room = self.limit - len(hashes)
            for first in range(0, len(found), BATCH):
                job.check()
                fresh, again, refused = _news(found[first : first + BATCH], hashes)
                pictures, unread = _decoded(fresh[:room], decoder)
                full = [Broken(one.name, "collection_full", {"limit": self.limit}) for one in fresh[room:]]
                self._store(pictures, embedder)
                room, known, added = room - len(pictures), known + again, added + len(pictures)
                hashes.update(one.hash for one in pictures)
                broken += [*refused, *unread, *full]
                job.emit(Progress("index", min(first + BATCH, len(found)), len(found)))
        return Report(added, known, tuple(broken))

    def complete(self, embedder: Embedder, job: Job) -> int:
        """Have a model read the pictures it has not read yet, from what is kept of them; how many those were."""
        with locked(self.folder / ".lock", job.stop):
            return self._complete(embedder, job)

    def remove(self, ids: Iterable[int]) -> int:
        """Forget pictures and their vectors; how many went."""
        self._check_writable()
        with self._write() as file:
            return sum(file.execute("DELETE FROM pictures WHERE id = ?", (int(id),)).rowcount for id in ids)

    def search(self, model: str, queries: np.ndarray, k: int) -> Found:
        """The k nearest pictures to each of unit queries [q, d], by the vectors of that model key: (scores, ids)."""
        with self.index(model) as index:
            return index.search(queries, k)

    @contextmanager
    def index(self, model: str) -> Iterator[Index]:
        """The index of a model's vectors as they are now, for this thread alone until it is let go.

        Raises InvalidInput where the model has read none of the pictures: see `complete`.
        """
        held = self._owner.hold(self.folder, model)
        with held.lock:
            yield self._in_step(held, model)

    def _in_step(self, held: _Held, model: str) -> Index:
        with self._open() as file:
            changes = _changes(file)
            if held.index is not None and held.changes == changes:
                return held.index
            rows = file.execute("SELECT picture FROM vectors WHERE model = ? ORDER BY picture", (model,))
            ids = np.array([id for (id,) in rows], np.int64)
            if not len(ids):
                raise InvalidInput("collection_empty", name=self.name)
            path = self.folder / f"{_hashed(model)}.index"
            index, moved = _mended(held.index or _loaded(path), file, model, ids)
        held.index, held.changes, held.unsaved = index, changes, held.unsaved + moved
        if not index.exact and held.unsaved > SAVED_AGAIN * len(index):
            index.save(path)
            held.unsaved = 0
        return index

    def _complete(self, embedder: Embedder, job: Job) -> int:
        missing = "SELECT id FROM pictures WHERE id NOT IN (SELECT picture FROM vectors WHERE model = ?) ORDER BY id"
        with self._open() as file:
            ids = [id for (id,) in file.execute(missing, (embedder.key,))]
        for first in range(0, len(ids), BATCH):
            job.check()
            batch = ids[first : first + BATCH]
            rows = _vectors(embedder, [self.picture(id) for id in batch])
            with self._write() as file:
                _insert(file, embedder.key, batch, rows)
            job.emit(Progress("index", first + len(batch), len(ids)))
        return len(ids)

    def _store(self, pictures: Sequence[_New], embedder: Embedder) -> None:
        """One batch, whole or not at all."""
        if not pictures:
            return
        rows = _vectors(embedder, [one.picture for one in pictures])
        with self._write() as file:
            insert = "INSERT INTO pictures (hash, name, thumbnail) VALUES (?, ?, ?) RETURNING id"
            ids = [file.execute(insert, (one.hash, one.name, one.thumbnail)).fetchone()[0] for one in pictures]
            _insert(file, embedder.key, ids, rows)
        _touch(self.folder)

    def _hashes(self) -> set[bytes]:
        with self._open() as file:
            return {value for (value,) in file.execute("SELECT hash FROM pictures")}

    def _one(self, query: str, *values: object) -> Any:
        with self._open() as file:
            row = file.execute(query, values).fetchone()
            return row[0] if row else None

    def _check_writable(self) -> None:
        if not self.writable:
            raise InvalidInput("collection_read_only", name=self.name)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(_connect(self.folder)) as file:
                yield file
        except sqlite3.DatabaseError as error:
            if "full" in str(error):
                raise DemoError("upload_disk_full") from error
            if not self.folder.exists():
                raise InvalidInput("unknown_collection", name=self.name, known="-") from error
            raise InvalidInput("collection_broken", name=self.name) from error

    @contextmanager
    def _write(self) -> Iterator[sqlite3.Connection]:
        """One transaction, counted so that indices in memory notice."""
        with self._open() as file, file:
            file.execute("BEGIN IMMEDIATE")
            yield file
            file.execute("UPDATE about SET value = value + 1 WHERE key = 'changes'")


@dataclass(frozen=True, slots=True)
class _Fresh:
    """Bytes not seen before."""

    name: str
    hash: bytes
    data: bytes


@dataclass(frozen=True, slots=True)
class _New:
    """A picture ready to be embedded and kept."""

    name: str
    hash: bytes
    picture: Image
    thumbnail: bytes


def _news(batch: Sequence[Source], known: set[bytes]) -> tuple[list[_Fresh], int, list[Broken]]:
    """The files whose content is new, how many are not, and those that cannot be read."""
    fresh: dict[bytes, _Fresh] = {}
    again, broken = 0, []
    for source in batch:
        try:
            data = source.read()
        except InvalidInput as error:
            broken.append(Broken(source.name, error.code, error.params))
            continue
        key = hashlib.sha256(data).digest()
        if key in known or key in fresh:
            again += 1
        else:
            fresh[key] = _Fresh(source.name, key, data)
    return list(fresh.values()), again, broken


def _decoded(batch: Sequence[_Fresh], decoder: media.Decoder) -> tuple[list[_New], list[Broken]]:
    """Pictures, and files that are none."""
    done = [_decode(one, decoder) for one in batch]
    return [one for one in done if isinstance(one, _New)], [one for one in done if isinstance(one, Broken)]


def _decode(one: _Fresh, decoder: media.Decoder) -> _New | Broken:
    try:
        picture = decoder.decode(one.data)
    except InvalidInput as error:
        return Broken(one.name, error.code, error.params)
    small = picture.copy()
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    out = io.BytesIO()
    small.save(out, format="WEBP", quality=85)
    return _New(one.name, one.hash, picture, out.getvalue())


def _vectors(embedder: Embedder, pictures: Sequence[Image]) -> np.ndarray:
    return np.ascontiguousarray(embedder.pictures(pictures), np.float32)


def _insert(file: sqlite3.Connection, model: str, ids: Sequence[int], rows: np.ndarray) -> None:
    values = [(model, id, row.tobytes()) for id, row in zip(ids, rows, strict=True)]
    file.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?, ?)", values)


def _mended(index: Index | None, file: sqlite3.Connection, model: str, ids: np.ndarray) -> tuple[Index, int]:
    """An index of exactly those pictures, from what there is of it; and how many rows came and went."""
    if index is None or not indices.suits(index, len(ids)):
        rows = _rows(file, model, ids)
        index = indices.make(rows.shape[1], len(ids))
        index.add(ids, rows)
        return index, len(ids)
    gone, new = np.setdiff1d(index.ids, ids), np.setdiff1d(ids, index.ids)
    if len(gone):
        index.remove(gone)
    if len(new):
        index.add(new, _rows(file, model, new))
    return index, len(gone) + len(new)


def _rows(file: sqlite3.Connection, model: str, ids: np.ndarray) -> np.ndarray:
    """Vectors [n, d] in the order of `ids`, which ascend."""
    query = "SELECT picture, vector FROM vectors WHERE model = ? AND picture BETWEEN ? AND ? ORDER BY picture"
    wanted = set(ids.tolist())
    found = [data for id, data in file.execute(query, (model, int(ids[0]), int(ids[-1]))) if id in wanted]
    return np.frombuffer(b"".join(found), np.float32).reshape(len(found), -1)


def _loaded(path: Path) -> Index | None:
    """The index as it was last written; None where there is none or it is not whole: it can be made again."""
    try:
        return indices.load(path)
    except (OSError, ValueError):
        return None


def _make(folder: Path, name: str) -> None:
    """The empty file is there whole, or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f".new-{os.getpid()}-{threading.get_ident()}"
    with closing(sqlite3.connect(part)) as file:
        file.executescript(_SCHEMA)
        file.execute("INSERT INTO about VALUES ('name', ?), ('changes', 0)", (name,))
        file.commit()
        file.execute("PRAGMA journal_mode = WAL")  # readers and the writer do not wait for each other
    part.replace(folder / "pictures.sqlite")


def _connect(folder: Path) -> sqlite3.Connection:
    """An open file; a write-ahead log survives a kill at any moment."""
    file = sqlite3.connect((folder / "pictures.sqlite").as_uri() + "?mode=rw", uri=True, timeout=30)
    file.isolation_level = None
    for setting in ("foreign_keys = ON", "synchronous = NORMAL", "secure_delete = ON"):
        file.execute(f"PRAGMA {setting}")
    return file


def _changes(file: sqlite3.Connection) -> int:
    return int(file.execute("SELECT value FROM about WHERE key = 'changes'").fetchone()[0])


def _listed(folder: Path) -> tuple[str, int, float] | None:
    """Name, pictures, MiB; None where the file is damaged, or is being deleted."""
    try:
        with closing(_connect(folder)) as file:
            (name,) = file.execute("SELECT value FROM about WHERE key = 'name'").fetchone()
            (count,) = file.execute("SELECT count(*) FROM pictures").fetchone()
    except sqlite3.DatabaseError:
        return None
    size = sum(path.stat().st_size for path in folder.iterdir())
    return str(name), int(count), round(size / 2**20, 2)


def _checked(name: str) -> str:
    name = name.strip()
    own = name.removeprefix(HOST)
    if not own or len(name) > MAX_NAME or not name.isprintable() or ":" in own or name == "shipped":
        raise InvalidInput("bad_collection_name", limit=MAX_NAME)
    return name


def _hashed(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _touch(folder: Path) -> None:
    """Used just now."""
    os.utime(folder)
