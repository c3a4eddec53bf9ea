"""Find pictures by words, by a picture or by both, and captions by a picture: cosine of two towers, then, if asked
for, the verdict of a model that reads both sides together.

Knows which family a model belongs to and where vectors are kept, not how models are loaded, nor who asks.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image

from pipelines.core.errors import InvalidInput
from pipelines.core.params import adapters_knob, build, knob, model_knob
from pipelines.core.registry import Lease, Registry
from pipelines.core.specs import AdapterUse, ModelSpec
from pipelines.core.streaming import Job
from pipelines.gallery import Gallery
from pipelines.retrievers import asking, cutoff, evaluation, layout, reading, zero_shot
from pipelines.retrievers.collections import Collection, Collections, Report
from pipelines.retrievers.places import Own, Place, Sent, Shipped, language_of
from pipelines.retrievers.results import Classified, Cutoff, Duel, Figures, Hit, Map, Point, Recalls, Result, Timing
from pipelines.retrievers.searching import Found
from pipelines.vision_language import out_of_memory

__all__ = [
    "Classified",
    "Cutoff",
    "Duel",
    "Figures",
    "Hit",
    "Map",
    "Params",
    "Point",
    "Recalls",
    "Result",
    "Retriever",
    "Timing",
]

SHIPPED = "shipped"  # the collection that comes with the app
MAX_GALLERY = 200  # pictures sent along
MAX_SIDE = 40  # texts, and pictures, of a duel
JUDGED_BY = 100  # the best so many decide where the cut-off lies, however many are shown
MAX_POINTS = 1_000  # of each kind on a map
MAX_ASKED = 200  # queries each way where the page asks for re-ranked figures


@dataclass(frozen=True, slots=True)
class Params:
    """What to look for, and where. At least one of `query` and `image`; pictures sent along go before a collection."""

    gallery: tuple[Image.Image, ...] = knob((), kind="images")
    collection: str = knob(SHIPPED, max_length=80)  # or the name of one of the visitor's own
    query: str = knob("", max_length=2_000)
    image: Image.Image | None = knob(None, kind="image")
    without: str = knob("", max_length=500)  # what must not be in the picture, separated by commas
    wanted: str = knob("pictures", choices=("pictures", "captions"))
    language: str = knob("auto", choices=("auto", "en", "zh"))  # of the captions searched and shown
    weight: float = knob(0.5, low=0.0, high=1.0, step=0.05)  # of the text, where a picture is given as well
    top_k: int = knob(10, low=1, high=MAX_GALLERY, step=1)
    cutoff: str = knob("adaptive", choices=("adaptive", "none"))
    rerank: bool = knob(False)
    depth: int = knob(20, low=2, high=100, step=1, advanced=True)  # how many of the best are re-ranked
    model: str = model_knob()
    adapters: tuple[AdapterUse, ...] = adapters_knob()


class Retriever:
    """Searches galleries. Made once; holds no visitor's state."""

    task: ClassVar[str] = "retrieval"
    Params: ClassVar[type] = Params
    Result: ClassVar[type] = Result

    def __init__(
        self,
        registry: Registry,
        *,
        lease_seconds: float,
        gallery: Gallery | None = None,
        collections: Collections | None = None,
    ) -> None:
        self.registry = registry
        self.lease_seconds = lease_seconds
        self.collections = collections
        self._gallery = gallery

    @property
    def gallery(self) -> Gallery:
        """The one that ships, read when it is first needed."""
        return self._gallery or Gallery.shipped()

    def run(self, params: Params, job: Job) -> Result:
        """The best matches. Raises InvalidInput for what cannot be asked, Cancelled on a stop."""
        spec = self.registry.catalog.for_task(self.task, params.model)
        reranker = _check(spec, params)
        if params.collection != SHIPPED and not params.gallery:
            self._own(params.collection, job)  # there at all? Asked before anything is loaded
        with self._leases(spec.id, params.adapters, reranker, job) as (base, judge):
            began = time.perf_counter()
            place = self._place(params.collection, params.gallery, base, job)
            candidates = place.pictures() if params.wanted == "pictures" else place.captions(_language(params))
            asked = _ask(base, params, job)
            found = candidates.search(asked.query, asked.unwanted, max(JUDGED_BY, params.top_k, params.depth))
            items = found.items.tolist()
            verdicts, milliseconds = [], 0.0
            if judge is not None:
                verdicts, milliseconds = _judge(base, judge, params, place, items[: params.depth], job)
            made = base.made(seed=None, seconds=time.perf_counter() - began)
        order = [*np.argsort(-np.array(verdicts), kind="stable").tolist(), *range(len(verdicts), len(items))]
        order = order[: params.top_k]
        end = _end(params, found)
        hits = tuple(
            Hit(
                index=items[at],
                id=place.id(items[at]),
                caption=place.caption(items[at], _language(params)),
                score=float(found.scores[at]),
                rerank_score=verdicts[at] if at < len(verdicts) else None,
                rank_before=at + 1,
                kept=bool(found.scores[at] >= end.value),
            )
            for at in order
        )
        return Result(
            hits=hits,
            queries=asked.names,
            similarity=_plain(asked.rows @ found.rows[order].T),
            dimension=asked.rows.shape[1],
            reranker=reranker,
            cutoff=replace(end, kept=sum(hit.kept for hit in hits)),
            timing=Timing(found.backend, len(candidates), found.milliseconds, milliseconds),
            made=made,
        )

    def duel(self, texts: Sequence[str], pictures: Sequence[Image.Image], job: Job, model: str = "") -> Duel:
        """Every text with every picture, by cosine and by the joint reader. Raises InvalidInput for an empty or too
        long side, or a model without a reader.
        """
        spec = self.registry.catalog.for_task(self.task, model)
        texts = [text.strip() for text in texts if text.strip()]
        for name, side in (("texts", texts), ("pictures", pictures)):
            if not side:
                raise InvalidInput("empty", name=name)
            if len(side) > MAX_SIDE:
                raise InvalidInput("too_many_lines", name=name, count=len(side), limit=MAX_SIDE)
        with self._leases(spec.id, (), _reranker(spec), job) as (base, judge):
            assert judge is not None
            began = time.perf_counter()
            rows, columns = reading.texts(base, texts, job), reading.pictures(base, pictures, len(pictures), job)
            matched = time.perf_counter()
            cosine = rows @ columns.T
            matched = time.perf_counter() - matched
            pairs = [(text, picture) for text in range(len(texts)) for picture in range(len(pictures))]
            verdicts = evaluation.reader(base, judge, texts, pictures.__getitem__, job)(pairs)
            made = base.made(seed=None, seconds=time.perf_counter() - began)
        fusion = np.array(verdicts.scores).reshape(cosine.shape)
        per_pair = 1e3 / len(pairs)
        return Duel(
            tuple(texts),
            _plain(cosine),
            _plain(fusion),
            matched * per_pair,
            verdicts.seconds * per_pair,
            judge.spec.id,
            made,
        )

    def classify(
        self, image: Image.Image, labels: Sequence[str], templates: Sequence[str], job: Job, model: str = ""
    ) -> Classified:
        """Which of one's own labels fits, without training. Raises InvalidInput for fewer than two labels, too many
        of either, or a template without "{}".
        """
        spec = self.registry.catalog.for_task(self.task, model)
        labels, templates = zero_shot.checked(labels, templates)
        with self._leases(spec.id, (), "", job) as (base, _):
            began = time.perf_counter()
            rows = reading.texts(base, zero_shot.prompts(labels, templates), job)
            picture = reading.pictures(base, [image], 1, job)[0]
            texts = rows.reshape(len(templates), len(labels), -1)
            together, alone = zero_shot.probabilities(picture, texts, reading.scale(base))
            made = base.made(seed=None, seconds=time.perf_counter() - began)
        return Classified(labels, tuple(together.tolist()), templates, _plain(alone), made)

    def map(self, collection: str, job: Job, model: str = "", language: str = "en") -> Map:
        """Pictures and captions of a collection in the plane of their greatest spread: at most MAX_POINTS of each."""
        spec = self.registry.catalog.for_task(self.task, model)
        with self._leases(spec.id, (), "", job) as (base, _):
            began = time.perf_counter()
            place = self._place(collection, (), base, job)
            kinds = {"picture": place.pictures().some(MAX_POINTS)}
            if place.captioned:
                kinds["caption"] = place.captions(language).some(MAX_POINTS)
            made = base.made(seed=None, seconds=time.perf_counter() - began)
        places, explained = layout.plane(np.concatenate([rows for _, rows in kinds.values()]))
        named = [(kind, item) for kind, (items, _) in kinds.items() for item in items.tolist()]
        points = tuple(
            Point(x, y, kind, place.id(item), place.caption(item, language))
            for (x, y), (kind, item) in zip(places.tolist(), named, strict=True)
        )
        gap = layout.gap(kinds["picture"][1], kinds["caption"][1]) if "caption" in kinds else 0.0
        return Map(points, gap, explained, made)

    def recalls(
        self, job: Job, model: str = "", *, rerank: bool = False, language: str = "en", unseen: bool = False
    ) -> Recalls:
        """How often the shipped gallery's own pairs find each other. `unseen`: asked only with what the starter model
        was not trained on. With `rerank`, at most MAX_ASKED queries each way.
        """
        spec = self.registry.catalog.for_task(self.task, model)
        with self._leases(spec.id, (), _reranker(spec) if rerank else "", job) as (base, judge):
            began = time.perf_counter()
            items = self.gallery.items
            captions = [item.caption(language) if language == "en" else item.caption_zh for item in items]
            pairing = evaluation.Pairing.of(
                captions, lambda at: items[at].unseen or not unseen, MAX_ASKED if rerank else 0
            )
            place = Shipped(self.gallery, reading.embedder(base), job)
            scores = place.captions(language).rows @ place.pictures().rows.T
            ways = evaluation.both_ways(pairing, scores)
            judged = None
            if judge is not None:
                read = evaluation.reader(base, judge, pairing.texts, self.gallery.picture, job)
                judged = evaluation.reranked(pairing, scores, read)
            made = base.made(seed=None, seconds=time.perf_counter() - began)
        both = (judged.text_to_picture, judged.picture_to_text) if judged else (None, None)
        return Recalls(*ways, *both, judge.spec.id if judge else "", judged.milliseconds if judged else 0.0, made)

    def add(self, collection: str, files: Sequence[Path], job: Job, model: str = "") -> Report:
        """Take pictures into a collection of the visitor's own, made if it is not there: see Collection.add."""
        spec = self.registry.catalog.for_task(self.task, model)
        if self.collections is None:
            raise InvalidInput("unknown_collection", name=collection, known=SHIPPED)
        kept = self.collections.create(job.visitor, collection)
        with self._leases(spec.id, (), "", job) as (base, _):
            return kept.add(files, reading.embedder(base), job)

    def embed(self, texts: Sequence[str], job: Job, model: str = "") -> list[list[float]]:
        """Texts as unit vectors [number][dimension], in the space of the model's pictures."""
        spec = self.registry.catalog.for_task(self.task, model)
        if not texts or not all(text.strip() for text in texts):
            raise InvalidInput("empty", name="input")
        with self._leases(spec.id, (), "", job) as (base, _):
            vectors: list[list[float]] = reading.texts(base, texts, job).tolist()
            return vectors

    def evaluate(self, path: Path, job: Job, **options: Any) -> dict[str, float]:
        """Recall and mean reciprocal rank both ways over a file of captioned pictures: see retrievers/evaluation.py.

        `options`: those of evaluation.How, model, adapters.
        """
        how = build(evaluation.How, {name: options.pop(name) for name in evaluation.OPTIONS if name in options})
        params = build(Params, options)
        spec = self.registry.catalog.for_task(self.task, params.model)
        reranker = "" if how.method == "cosine" else _reranker(spec)
        with self._leases(spec.id, params.adapters, reranker, job) as (base, judge):
            return evaluation.evaluate(base, judge, path, how, job)

    def _place(self, collection: str, images: Sequence[Image.Image], base: Lease, job: Job) -> Place:
        """What is to be searched, in the vectors of the model leased."""
        if images:
            return Sent(images, reading.pictures(base, images, len(images), job))
        if collection == SHIPPED:
            return Shipped(self.gallery, reading.embedder(base), job)
        return Own(self._own(collection, job), reading.embedder(base), job)

    def _own(self, name: str, job: Job) -> Collection:
        if self.collections is None:
            raise InvalidInput("unknown_collection", name=name, known=SHIPPED)
        return self.collections.open(job.visitor, name)

    @contextmanager
    def _leases(
        self, id: str, adapters: tuple[AdapterUse, ...], reranker: str, job: Job
    ) -> Iterator[tuple[Lease, Lease | None]]:
        """The towers and, where one is asked for, the joint reader: which may be the same model."""
        wanted = [(id, adapters)] + ([(reranker, ())] if reranker not in ("", id) else [])
        lease = self.registry.lease_many(*wanted, timeout=self.lease_seconds, stop=job.stop, progress=job.emit)
        with lease as leases, out_of_memory(id):
            yield leases[0], leases[-1] if reranker else None


def _check(spec: ModelSpec, params: Params) -> str:
    """Refuse what cannot be done before anything is loaded; the joint reader's id, or ""."""
    if not params.query.strip() and params.image is None:
        raise InvalidInput("no_query")
    if len(params.gallery) > MAX_GALLERY:
        raise InvalidInput("too_many_images", count=len(params.gallery), limit=MAX_GALLERY)
    if params.wanted == "captions" and (params.gallery or params.collection != SHIPPED):
        raise InvalidInput("no_captions_here")
    if not params.rerank:
        return ""
    if params.wanted == "captions" and params.image is None:
        raise InvalidInput("rerank_needs_image")
    if params.wanted == "pictures" and not params.query.strip():
        raise InvalidInput("rerank_needs_text")
    return _reranker(spec)


def _reranker(spec: ModelSpec) -> str:
    if "reranker" not in spec.options:
        raise InvalidInput("no_reranker", model=spec.id)
    return str(spec.options["reranker"])


def _language(params: Params) -> str:
    return language_of(params.query) if params.language == "auto" else params.language


def _ask(base: Lease, params: Params, job: Job) -> asking.Asked:
    """The query as directions; negative words are read as texts of their own."""
    said = (params.query,) if params.query.strip() else ()
    unwanted = asking.words(params.without)
    texts = reading.texts(base, (*said, *unwanted), job) if said or unwanted else None
    picture = None if params.image is None else reading.pictures(base, [params.image], 1, job)
    return asking.compose(said, texts, picture, unwanted, params.weight)


def _judge(
    base: Lease, judge: Lease, params: Params, place: Place, items: Sequence[int], job: Job
) -> tuple[list[float], float]:
    """The joint reader's verdict on the query with each of these items, and the milliseconds a pair took in all."""
    began = time.perf_counter()
    if params.wanted == "pictures":
        texts, pairs = [params.query], [(0, at) for at in range(len(items))]
        read = evaluation.reader(base, judge, texts, lambda at: place.picture(items[at]), job)
    else:
        texts, pairs = [place.caption(item, _language(params)) for item in items], [(at, 0) for at in range(len(items))]
        read = evaluation.reader(base, judge, texts, lambda _: params.image, job)
    scores = read(pairs).scores
    return scores, 1e3 * (time.perf_counter() - began) / len(pairs)


def _end(params: Params, found: Found) -> Cutoff:
    if params.cutoff == "none":
        return cutoff.keep_all(found.scores)
    return cutoff.adaptive(found.scores, found.background)


def _plain(matrix: np.ndarray) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(row) for row in matrix.tolist())
