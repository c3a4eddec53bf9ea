"""The pictures that ship with the app: read where they lie in their tars, with captions, and vectors to search by.

The starter model's vectors ship too. Any other model embeds the gallery once, with progress, into the cache folder.
Knows files and numbers; what a model is, it is told by an Embedder.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.core.errors import ModelLoadFailed
from pipelines.core.settings import Settings
from pipelines.core.specs import AdapterUse, ModelSpec
from pipelines.core.streaming import Job, Progress
from pipelines.loaders.locks import locked

if TYPE_CHECKING:
    from PIL.Image import Image

FOLDER = Path(__file__).resolve().parents[1] / "assets" / "gallery"
LISTING = "gallery.jsonl"
MODEL = "picto-coca"  # whose vectors ship
KINDS = ("pictures", "captions_en", "captions_zh")
BATCH = 32  # embedded at once: a stop is noticed between batches
SAVED_EVERY = 8  # batches: what a kill can cost
REMEMBERED = 12  # arrays kept in memory, of any model and kind

Rows = np.ndarray  # float32 [number, dimension], each of length 1


@dataclass(frozen=True, slots=True)
class Item:
    """One picture. `unseen`: its concept was kept from training. `offset` and `size`: its bytes within the shard."""

    id: str
    caption_en: str
    caption_zh: str  # "" where there is none
    keywords_en: tuple[str, ...]
    keywords_zh: tuple[str, ...]
    concept: str
    category: str
    style: str
    source: str
    licence: str
    author: str
    unseen: bool
    shard: str
    offset: int
    size: int

    def caption(self, language: str) -> str:
        """In "zh" where there is one, else in English."""
        return self.caption_zh if language == "zh" and self.caption_zh else self.caption_en


@dataclass(frozen=True, slots=True)
class Embedder:
    """One model as a way to unit vectors. `key` tells it from every other: see `model_key`."""

    key: str
    pictures: Callable[[Sequence[Image]], Rows]
    texts: Callable[[Sequence[str]], Rows]


def model_key(spec: ModelSpec, adapters: Sequence[AdapterUse] = ()) -> str:
    """What vectors are kept under: the model, its revision, and the adapters acting on it."""
    return "+".join([f"{spec.id}@{spec.revision}", *(f"{use.id}:{use.weight}" for use in adapters)])


class Gallery:
    """Pictures with captions, in a fixed order: a picture is named by its number. Safe to use from many threads."""

    def __init__(self, folder: Path, items: Sequence[Item], digest: str, cache: Path | None = None) -> None:
        self.folder = folder
        self.items = tuple(items)
        self.digest = digest  # of the listing: vectors of another one do not fit
        self._cache = cache
        self._rows: OrderedDict[tuple[str, str], Rows] = OrderedDict()
        self._lock = threading.Lock()

    @classmethod
    def read(cls, folder: Path, cache: Path | None = None) -> Gallery:
        """The gallery in a folder. `cache` None: the host's own, looked up when it is first needed."""
        try:
            text = (folder / LISTING).read_bytes()
        except OSError:
            raise ModelLoadFailed("source_missing", source=f"{folder.name}/{LISTING}") from None
        items = [_item(json.loads(line)) for line in text.splitlines()]
        return cls(folder, items, hashlib.sha256(text).hexdigest(), cache)

    @staticmethod
    def shipped() -> Gallery:
        """The one of this repository; read once."""
        return _shipped()

    @property
    def cache(self) -> Path:
        """A folder for what is derived from the gallery; outlives the process."""
        return (self._cache or Settings.read().cache) / "gallery"

    def __len__(self) -> int:
        return len(self.items)

    def data(self, index: int) -> bytes:
        """A picture's WebP, read at its place in the tar."""
        item = self.items[index]
        with (self.folder / item.shard).open("rb") as file:
            file.seek(item.offset)
            return file.read(item.size)

    def picture(self, index: int) -> Image:
        """A picture in RGB, 128 x 128."""
        from PIL import Image

        return Image.open(io.BytesIO(self.data(index))).convert("RGB")

    def path(self, index: int) -> Path:
        """A picture as a file of its own, for those who can only take one."""
        path = self.cache / "pictures" / self.digest[:16] / f"{self.items[index].id.replace('/', '_')}.webp"
        if not path.exists():
            _replace(path, self.data(index))
        return path

    def numbers(self, kind: str) -> np.ndarray:
        """The item numbers of the rows of a kind: all, but for `captions_zh` only those that have one. int64 [rows]."""
        return np.array([at for at, item in enumerate(self.items) if kind != "captions_zh" or item.caption_zh])

    def vectors(self, kind: str) -> Rows:
        """The starter model's rows of one of KINDS, in the order of `numbers(kind)`.

        Raises ModelLoadFailed where the file is missing or belongs to another listing: then `python -m
        training.gallery --embed` has not been run.
        """
        return self._remembered((MODEL, kind), lambda: self._stored(kind))

    def embed_with(self, kind: str, embedder: Embedder, job: Job) -> Rows:
        """Any model's rows of a kind: stored ones, else embedded now and kept, so that the next one asked is quick.

        Emits Progress("index", …); raises Cancelled on a stop, and then goes on from there the next time.
        """
        if embedder.key.startswith(f"{MODEL}@") and "+" not in embedder.key:
            return self.vectors(kind)
        return self._remembered((embedder.key, kind), lambda: self._embedded(kind, embedder, job))

    def _remembered(self, key: tuple[str, str], make: Callable[[], Rows]) -> Rows:
        with self._lock:
            if key in self._rows:
                self._rows.move_to_end(key)
                return self._rows[key]
        rows = make()
        rows.flags.writeable = False
        with self._lock:
            self._rows[key] = rows
            while len(self._rows) > REMEMBERED:
                self._rows.popitem(last=False)
        return rows

    def _stored(self, kind: str) -> Rows:
        path = vectors_file(self.folder)
        if not path.is_file():
            raise ModelLoadFailed("source_missing", source=f"{self.folder.name}/{path.name}")
        rows, about = _load(path, kind)
        if about.get("gallery") != self.digest:
            raise ModelLoadFailed("file_changed", file=path.name)
        return _unit(rows)

    def _embedded(self, kind: str, embedder: Embedder, job: Job) -> Rows:
        name = hashlib.sha256(f"{embedder.key}\n{kind}\n{self.digest}".encode()).hexdigest()[:32]
        path = self.cache / "vectors" / f"{name}.safetensors"
        with locked(
            path.with_suffix(".lock"), job.stop
        ):  # a second visitor waits for the rows instead of doubling work
            rows = _load(path, "rows")[0] if path.is_file() else None
            return embed(self, kind, embedder, job, rows, lambda rows: _save(path, {"rows": rows}, {}))


@cache
def _shipped() -> Gallery:
    return Gallery.read(FOLDER)


def vectors_file(folder: Path) -> Path:
    return folder / f"{MODEL}.safetensors"


def embed(
    gallery: Gallery,
    kind: str,
    embedder: Embedder,
    job: Job,
    rows: Rows | None = None,
    save: Callable[[Rows], None] | None = None,
) -> Rows:
    """A kind's rows, going on from those given; what there is, is saved every so often and at the end."""
    numbers = gallery.numbers(kind)
    parts = [] if rows is None else [rows]
    done = sum(len(part) for part in parts)
    try:
        while done < len(numbers):
            job.check()
            parts.append(_batch(gallery, kind, embedder, numbers[done : done + BATCH]))
            done += len(parts[-1])
            job.emit(Progress("index", done, len(numbers), kind))
            if save and len(parts) > SAVED_EVERY:
                parts = [np.concatenate(parts)]
                save(parts[0])
    finally:
        if save and len(parts) > 1:
            save(np.concatenate(parts))
    return np.concatenate(parts)


def write_vectors(gallery: Gallery, embedder: Embedder, job: Job) -> None:
    """The file that ships: all KINDS by the starter model, float16."""
    arrays = {kind: embed(gallery, kind, embedder, job).astype(np.float16) for kind in KINDS}
    _save(vectors_file(gallery.folder), arrays, {"gallery": gallery.digest, "model": embedder.key})


def _batch(gallery: Gallery, kind: str, embedder: Embedder, numbers: np.ndarray) -> Rows:
    if kind == "pictures":
        rows = embedder.pictures([gallery.picture(number) for number in numbers])
    else:
        rows = embedder.texts([getattr(gallery.items[number], kind.replace("s_", "_")) for number in numbers])
    return _unit(np.asarray(rows))


def _unit(rows: np.ndarray) -> Rows:
    rows = rows.astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def _item(record: dict[str, Any]) -> Item:
    fields = {name: record[name] for name in Item.__dataclass_fields__}
    fields |= {name: tuple(record[name]) for name in ("keywords_en", "keywords_zh")}
    return Item(**fields | {"caption_zh": record["caption_zh"] or ""})


def _load(path: Path, name: str) -> tuple[np.ndarray, dict[str, str]]:
    from safetensors import safe_open

    with safe_open(path, "numpy") as file:
        return file.get_tensor(name), file.metadata() or {}


def _save(path: Path, arrays: dict[str, np.ndarray], about: dict[str, str]) -> None:
    from safetensors.numpy import save

    _replace(path, save(arrays, metadata=about))


def _replace(path: Path, data: bytes) -> None:
    """Write a file that is there whole or not at all, whoever is killed and however many write it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}")
    part.write_bytes(data)
    part.replace(path)
