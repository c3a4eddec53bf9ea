"""Find pictures by words, by a picture or by both: cosine of two towers, then, if asked for, a single tower's verdict.

Knows which family a model belongs to, not how models are loaded, nor who asks.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from PIL import Image

from pipelines.core.errors import InvalidInput
from pipelines.core.params import adapters_knob, knob, model_knob
from pipelines.core.registry import Lease, Registry
from pipelines.core.specs import AdapterUse, Made, ModelSpec
from pipelines.core.streaming import Job, Progress
from pipelines.metrics import read_rows
from pipelines.vision_language import out_of_memory

if TYPE_CHECKING:
    import torch

MAX_GALLERY = 200
BATCH = 8  # texts or pictures read at once: a stop is noticed between batches


@dataclass(frozen=True, slots=True)
class Params:
    """What to look for, and where. At least one of `query` and `image`."""

    gallery: tuple[Image.Image, ...] = knob(kind="images")
    query: str = knob("", max_length=2_000)
    image: Image.Image | None = knob(None, kind="image")
    top_k: int = knob(10, low=1, high=MAX_GALLERY, step=1)
    rerank: bool = knob(False)
    model: str = model_knob()
    adapters: tuple[AdapterUse, ...] = adapters_knob()


@dataclass(frozen=True, slots=True)
class Hit:
    """One picture found. `score` is the cosine in [-1, 1], `rerank_score` the single tower's probability."""

    index: int  # in the gallery
    score: float
    rerank_score: float | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """`hits` best first; `similarity` one row of cosines with the whole gallery for each of `queries`."""

    hits: tuple[Hit, ...]
    queries: tuple[str, ...]  # text, image: what was asked with
    similarity: tuple[tuple[float, ...], ...]
    dimension: int
    reranker: str  # model id, "" where none was asked for
    made: Made


class Retriever:
    """Searches galleries. Made once; holds no visitor's state and no index."""

    task: ClassVar[str] = "retrieval"
    Params: ClassVar[type] = Params
    Result: ClassVar[type] = Result

    def __init__(self, registry: Registry, *, lease_seconds: float) -> None:
        self.registry = registry
        self.lease_seconds = lease_seconds

    def run(self, params: Params, job: Job) -> Result:
        """Rank the gallery. Raises InvalidInput for no query or too large a gallery, Cancelled on a stop."""
        spec = self.registry.catalog.for_task(self.task, params.model)
        reranker = _check(spec, params)
        with self._leases(spec.id, params.adapters, reranker, job) as (base, judge):
            started = time.perf_counter()
            rows = _embed(base, "pictures", params.gallery, job)
            queries, asked = _ask(base, params, job)
            total = _mean(asked) @ rows.T
            order = total.argsort(descending=True, stable=True)[: params.top_k].tolist()
            hits = [Hit(index, total[index].item()) for index in order]
            if judge is not None:
                hits = _rerank(judge, params, hits, job)
            made = base.made(seed=None, seconds=time.perf_counter() - started)
        similarity = tuple(tuple(row) for row in (asked @ rows.T).tolist())
        return Result(tuple(hits), queries, similarity, rows.shape[1], reranker, made)

    def embed(self, texts: Sequence[str], job: Job, model: str = "") -> list[list[float]]:
        """Texts as unit vectors [number][dimension], in the space of the model's pictures."""
        spec = self.registry.catalog.for_task(self.task, model)
        if not texts or not all(text.strip() for text in texts):
            raise InvalidInput("empty", name="input")
        with self._leases(spec.id, (), "", job) as (base, _):
            return _embed(base, "texts", texts, job).tolist()

    def evaluate(self, path: Path, job: Job, **options: Any) -> dict[str, float]:
        """Text to image over JSON lines {"image": path beside the file, "text": …}: n, r@1, r@5, r@10 in [0, 1],
        mrr, seconds_per_item. Each distinct picture counts once in the gallery. `options`: model.
        """
        from pipelines import media

        rows = read_rows(path)
        for at, row in enumerate(rows, 1):
            if not row.get("image") or not row.get("text", "").strip():
                raise InvalidInput("bad_row", line=at, need="image, text")
        names = list(dict.fromkeys(row["image"] for row in rows))
        spec = self.registry.catalog.for_task(self.task, options.get("model", ""))
        with self._leases(spec.id, (), "", job) as (base, _):
            started = time.perf_counter()
            decoded = (media.decode("image", path.parent / name) for name in names)
            pictures = _embed(base, "pictures", decoded, job, len(names))
            texts = _embed(base, "texts", [row["text"] for row in rows], job)
            seconds = time.perf_counter() - started
        scores = texts @ pictures.T
        wanted = [names.index(row["image"]) for row in rows]
        ranks = [_rank(row, index) for row, index in zip(scores, wanted, strict=True)]
        recalls = {f"r@{k}": sum(rank <= k for rank in ranks) / len(ranks) for k in (1, 5, 10)}
        mrr = sum(1 / rank for rank in ranks) / len(ranks)
        return {"n": len(rows), **recalls, "mrr": mrr, "seconds_per_item": seconds / len(rows)}

    @contextmanager
    def _leases(
        self, id: str, adapters: tuple[AdapterUse, ...], reranker: str, job: Job
    ) -> Iterator[tuple[Lease, Lease | None]]:
        """The towers and, where one is asked for, the re-ranker: which may be the same model."""
        wanted = [(id, adapters)] + ([(reranker, ())] if reranker not in ("", id) else [])
        lease = self.registry.lease_many(*wanted, timeout=self.lease_seconds, stop=job.stop, progress=job.emit)
        with lease as leases, out_of_memory(id):
            yield leases[0], leases[-1] if reranker else None


def _check(spec: ModelSpec, params: Params) -> str:
    """Refuse what cannot be done before anything is loaded; the re-ranker's id, or ""."""
    if not params.query.strip() and params.image is None:
        raise InvalidInput("no_query")
    if len(params.gallery) > MAX_GALLERY:
        raise InvalidInput("too_many_images", count=len(params.gallery), limit=MAX_GALLERY)
    if not params.rerank:
        return ""
    if not params.query.strip():
        raise InvalidInput("rerank_needs_text")
    if "reranker" not in spec.options:
        raise InvalidInput("no_reranker", model=spec.id)
    return str(spec.options["reranker"])


def _embed(lease: Lease, side: str, items: Any, job: Job, number: int = 0) -> torch.Tensor:
    """Unit rows [number, dimension] of texts or pictures, a small batch at a time; raises Cancelled on a stop."""
    import torch

    from pipelines.retrievers.towers import towers

    read = getattr(towers(lease.spec.loader, lease.spec.options.get("cls", "")), side)
    number = number or len(items)
    rest, rows = iter(items), []
    for first in range(0, number, BATCH):
        job.check()
        batch = [next(rest) for _ in range(min(BATCH, number - first))]
        rows.append(read(lease.model, batch))
        job.emit(Progress("run", first + len(batch), number, side))
    return torch.cat(rows)


def _ask(lease: Lease, params: Params, job: Job) -> tuple[tuple[str, ...], torch.Tensor]:
    """What was asked with, and a unit row for each."""
    import torch

    rows = {}
    if params.query.strip():
        rows["text"] = _embed(lease, "texts", [params.query], job)
    if params.image is not None:
        rows["image"] = _embed(lease, "pictures", [params.image], job)
    return tuple(rows), torch.cat(list(rows.values()))


def _mean(rows: torch.Tensor) -> torch.Tensor:
    """The direction between the queries, each with equal say."""
    total = rows.sum(dim=0)
    return total / total.norm()


def _rerank(judge: Lease, params: Params, hits: list[Hit], job: Job) -> list[Hit]:
    """The same hits in the order of the single tower's score."""
    from pipelines.retrievers.matching import MATCHERS

    match = MATCHERS[judge.spec.options["cls"]]
    scores: list[float] = []
    for first in range(0, len(hits), BATCH):
        job.check()
        pictures = [params.gallery[hit.index] for hit in hits[first : first + BATCH]]
        scores += match(judge.model, params.query, pictures)
        job.emit(Progress("rerank", len(scores), len(hits)))
    judged = [Hit(hit.index, hit.score, score) for hit, score in zip(hits, scores, strict=True)]
    return sorted(judged, key=lambda hit: -(hit.rerank_score or 0.0))


def _rank(scores: torch.Tensor, wanted: int) -> int:
    """1 for the best; a tie counts against it, so that a model which answers the same for all gains nothing."""
    return int((scores >= scores[wanted]).sum())
