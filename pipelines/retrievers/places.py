"""What can be searched: pictures sent along, the gallery that ships, a collection of the visitor's own. One shape.

Rows are unit vectors; an item is named by its number. Knows no query and no model.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np

from pipelines.core.errors import InvalidInput
from pipelines.core.streaming import Job
from pipelines.gallery import Embedder, Gallery
from pipelines.retrievers.collections import Collection
from pipelines.retrievers.searching import Candidates, Indexed, Scan

if TYPE_CHECKING:
    from PIL.Image import Image

_CHINESE = re.compile(r"[\u3400-\u9fff\uf900-\ufaff]")


class Place(Protocol):
    """A number of pictures; `captioned`: those that have captions can be searched for these."""

    captioned: bool

    def __len__(self) -> int: ...

    def id(self, item: int) -> str: ...

    def caption(self, item: int, language: str) -> str: ...

    def picture(self, item: int) -> Image: ...

    def pictures(self) -> Candidates: ...

    def captions(self, language: str) -> Candidates:
        """Distinct captions, each standing for the first picture that bears it; raises InvalidInput without any."""


class Sent:
    """Pictures that came with the request, and the rows the model made of them."""

    captioned = False

    def __init__(self, images: Sequence[Image], rows: np.ndarray) -> None:
        self._images = images
        self._rows = rows

    def __len__(self) -> int:
        return len(self._images)

    def id(self, item: int) -> str:
        return ""

    def caption(self, item: int, language: str) -> str:
        return ""

    def picture(self, item: int) -> Image:
        return self._images[item]

    def pictures(self) -> Candidates:
        return Scan(self._rows, np.arange(len(self._rows)))

    def captions(self, language: str) -> Candidates:
        raise InvalidInput("no_captions_here")


class Shipped:
    """The gallery of the app in one model's vectors: stored ones, or made when they are first asked for."""

    captioned = True

    def __init__(self, gallery: Gallery, embedder: Embedder, job: Job) -> None:
        self._gallery = gallery
        self._embedder = embedder
        self._job = job

    def __len__(self) -> int:
        return len(self._gallery)

    def id(self, item: int) -> str:
        return self._gallery.items[item].id

    def caption(self, item: int, language: str) -> str:
        return self._gallery.items[item].caption(language)

    def picture(self, item: int) -> Image:
        return self._gallery.picture(item)

    def pictures(self) -> Scan:
        return Scan(self._rows("pictures"), self._gallery.numbers("pictures"))

    def captions(self, language: str) -> Scan:
        kind = f"captions_{language}"
        items = self._gallery.numbers(kind)
        first = distinct([self._gallery.items[item].caption(language) for item in items])
        rows = [at for at, _ in first.values()]
        return Scan(self._rows(kind)[rows], items[rows])

    def _rows(self, kind: str) -> np.ndarray:
        return self._gallery.embed_with(kind, self._embedder, self._job)


class Own:
    """A stored collection; its pictures have no captions, and are called by the names of their files."""

    captioned = False

    def __init__(self, collection: Collection, embedder: Embedder, job: Job) -> None:
        """Has the model read what it has not read yet, which takes its time for a model that is new here."""
        collection.complete(embedder, job)
        self._collection = collection
        self._model = embedder.key

    def __len__(self) -> int:
        return len(self._collection)

    def id(self, item: int) -> str:
        return str(item)

    def caption(self, item: int, language: str) -> str:
        return self._collection.name_of(item)

    def picture(self, item: int) -> Image:
        return self._collection.picture(item)

    def pictures(self) -> Candidates:
        return Indexed(self._collection, self._model)

    def captions(self, language: str) -> Candidates:
        raise InvalidInput("no_captions_here")


def distinct(texts: Sequence[str]) -> dict[str, tuple[int, list[int]]]:
    """Texts that differ in more than case -> (where each first occurs, everywhere it occurs). "" is no text."""
    found: dict[str, tuple[int, list[int]]] = {}
    for at, text in enumerate(texts):
        if key := text.strip().casefold():
            found.setdefault(key, (at, []))[1].append(at)
    return found


def language_of(text: str) -> str:
    """The language a caption should be in for someone who wrote this."""
    return "zh" if _CHINESE.search(text) else "en"
