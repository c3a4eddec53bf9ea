"""A leased model's two towers: texts and pictures in, unit vectors out, a small batch at a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from pipelines.core.registry import Lease
from pipelines.core.streaming import Job, Progress
from pipelines.gallery import Embedder, model_key

if TYPE_CHECKING:
    from PIL.Image import Image

    from pipelines.retrievers.towers import Towers

BATCH = 8  # texts or pictures read at once: a stop is noticed between batches


def texts(lease: Lease, items: Sequence[str], job: Job) -> np.ndarray:
    """Unit rows [number, dimension], float32; raises Cancelled on a stop."""
    return _read(lease, "texts", items, len(items), job)


def pictures(lease: Lease, items: Iterable[Image], number: int, job: Job) -> np.ndarray:
    """The same of pictures, which are taken from `items` only when their turn comes."""
    return _read(lease, "pictures", items, number, job)


def scale(lease: Lease) -> float:
    """What the model multiplies a cosine by to get a logit."""
    return _towers(lease).scale(lease.model)


def _read(lease: Lease, side: str, items: Iterable[object], number: int, job: Job) -> np.ndarray:
    read, rest, rows = getattr(_towers(lease), side), iter(items), []
    for first in range(0, number, BATCH):
        job.check()
        batch = [next(rest) for _ in range(min(BATCH, number - first))]
        rows.append(read(lease.model, batch).numpy())
        job.emit(Progress("run", first + len(batch), number, side))
    return np.concatenate(rows)


def _towers(lease: Lease) -> Towers:
    from pipelines.retrievers.towers import towers

    return towers(lease.spec.loader, lease.spec.options.get("cls", ""))


def embedder(lease: Lease) -> Embedder:
    """The lease's towers in the shape in which galleries and collections ask for them: batches of their own size."""
    towers = _towers(lease)
    return Embedder(
        model_key(lease.spec, lease.adapters),
        lambda items: towers.pictures(lease.model, items).numpy(),
        lambda items: towers.texts(lease.model, items).numpy(),
    )
