"""The starter model's two towers beside the gallery they have embedded: what the template and retrieval families and
the CLIP-score look at a picture with, whatever model writes the neural caption.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
from PIL import Image

from pipelines.core.registry import Lease
from pipelines.core.streaming import Job
from pipelines.gallery import MODEL, Embedder, Gallery, model_key
from pipelines.retrievers.towers import towers

__all__ = ["MODEL", "Starter", "looking"]


class Starter:
    """One picture under the starter model: its unit row [dimension], texts as rows, the gallery's rows."""

    def __init__(self, lease: Lease, gallery: Gallery, image: Image.Image, job: Job) -> None:
        self._towers = towers(lease.spec.loader, "")
        self._lease = lease
        self._job = job
        self.gallery = gallery
        self.scale = self._towers.scale(lease.model)  # what the model multiplies a cosine by to get a logit
        self.picture = self._pictures([image])[0]

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """Unit rows [number, dimension]."""
        return self._towers.texts(self._lease.model, texts).numpy()

    def rows(self, kind: str) -> np.ndarray:
        """The gallery's unit rows of one of its kinds: as shipped, else made now. Raises Cancelled on a stop."""
        embedder = Embedder(model_key(self._lease.spec), self._pictures, self.texts)
        return self.gallery.embed_with(kind, embedder, self._job)

    def cosine(self, text: str) -> float:
        """Of the picture with a text."""
        return float(self.texts([text])[0] @ self.picture)

    def _pictures(self, images: Sequence[Image.Image]) -> np.ndarray:
        return self._towers.pictures(self._lease.model, images).numpy()


@contextmanager
def looking(lease: Lease, gallery: Gallery, image: Image.Image, job: Job) -> Iterator[Starter]:
    """A Starter without the adapters of this request, for the gallery was embedded without them."""
    bank = lease.model.bank if lease.adapters else None
    if bank is not None:
        bank.activate(())
    try:
        yield Starter(lease, gallery, image, job)
    finally:
        if bank is not None:
            bank.activate(lease.adapters)
