"""From a picture to words: by a decoder, by the captions of pictures like it, by a sentence with slots; or all three.

Knows which family a model belongs to, not how models are loaded, nor who asks.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from PIL import Image

from pipelines.captioners import batch, evaluation, scoring
from pipelines.captioners.families import FAMILIES as MODELS
from pipelines.captioners.families import prompt
from pipelines.captioners.plan import (
    DECODINGS,
    FAMILIES,
    Candidate,
    Decoded,
    FamilyScore,
    Neural,
    Plan,
    Retrieved,
    Template,
)
from pipelines.core.errors import InvalidInput
from pipelines.core.params import adapters_knob, build, knob, model_knob, seed_knob
from pipelines.core.registry import Lease, Registry
from pipelines.core.specs import AdapterUse, Made, ModelSpec
from pipelines.core.streaming import Event, Job, TextDelta
from pipelines.core.tasks import seed_or_fresh
from pipelines.gallery import MODEL as STARTER
from pipelines.gallery import Gallery
from pipelines.picture_files import Source
from pipelines.vision_language import out_of_memory


@dataclass(frozen=True, slots=True)
class Params:
    """What to look at, by which family of captioning, what to ask, and how to choose the words.

    `references` are captions to compare with, one a line. Only the neural family takes a question, a decoding, a
    model and adapters. The limits keep beam search affordable: every step's logits are held until the end.
    """

    image: Image.Image = knob(kind="image")
    family: str = knob("neural", choices=(*FAMILIES, "all"))
    question: str = knob("", max_length=500)
    language: str = knob("auto", choices=("auto", "en", "zh"))
    references: str = knob("", max_length=2_000, lines=3)
    decoding: str = knob("greedy", choices=(*DECODINGS, "all"))
    num_beams: int = knob(4, low=2, high=6, step=1, advanced=True)
    temperature: float = knob(1.0, low=0.1, high=2.0, step=0.05, advanced=True)
    top_p: float = knob(0.9, low=0.05, high=1.0, step=0.05, advanced=True)
    max_new_tokens: int = knob(64, low=1, high=256, step=1, advanced=True)
    model: str = model_knob()
    adapters: tuple[AdapterUse, ...] = adapters_knob()
    seed: int = seed_knob()


@dataclass(frozen=True, slots=True)
class Result:
    """The caption: the neural one where there is one, else that of the family asked for. Log-probabilities are
    natural ones, and only of a neural caption, like everything from `logprob` to `alternatives`.
    """

    caption: str
    logprob: float  # of the whole caption: the sum over its tokens
    tokens: tuple[tuple[str, float], ...]  # (token, log-probability), the end mark included
    alternatives: tuple[Candidate, ...]  # the other beams, likeliest first
    decoding: str
    stopped: bool
    made: Made
    neural: Neural | None = None
    template: Template | None = None
    retrieved: Retrieved | None = None
    scores: tuple[FamilyScore, ...] = ()  # empty where the starter model was not needed, which makes the CLIP-scores


@dataclass(frozen=True, slots=True)
class _Looked:
    """What the starter model made of the picture."""

    template: Template | None = None
    retrieved: Retrieved | None = None
    scores: tuple[FamilyScore, ...] = ()


class Captioner:
    """Describes pictures. Made once; holds no visitor's state."""

    task: ClassVar[str] = "captioning"
    Params: ClassVar[type] = Params
    Result: ClassVar[type] = Result

    def __init__(self, registry: Registry, *, lease_seconds: float, gallery: Gallery | None = None) -> None:
        self.registry = registry
        self.lease_seconds = lease_seconds
        self._gallery = gallery

    @property
    def gallery(self) -> Gallery:
        """The one that ships, read when it is first needed."""
        return self._gallery or Gallery.shipped()

    def run(self, params: Params, job: Job, *, leave_out: Collection[str] = ()) -> Result:
        """Caption the picture; emits progress and the text as it grows. A stop gives what there is so far.

        `leave_out` names gallery pictures that the retrieval family may not take a caption from.
        """
        spec = self.registry.catalog.for_task(self.task, params.model)
        families = _families(params.family)
        _check(spec, params, families)
        seed = seed_or_fresh(params.seed)
        with self._leases(spec, params, families, job) as (writer, starter):
            started = time.perf_counter()
            neural, looked = None, _Looked()
            if writer is not None:
                with out_of_memory(writer.spec.id):
                    neural = _write(writer, params, seed, job)
            if starter is not None and not job.stop:
                with out_of_memory(starter.spec.id):
                    looked = self._look(starter, params, families, neural, job, leave_out)
            drawn = neural is not None and params.decoding in ("nucleus", "all")
            made = (writer or starter).made(seed=seed if drawn else None, seconds=time.perf_counter() - started)
        return _result(params, neural, looked, stopped=bool(job.stop), made=made)

    def batch(self, sources: Sequence[Source], params: Mapping[str, Any], job: Job) -> batch.Batch:
        """Caption many pictures (see pipelines.picture_files) with the same `params`, which are those of Params but
        for the image. A broken file gets a row that says so; a stop keeps the rows so far. Raises InvalidInput.
        """
        given = build(Params, {**params, "image": Image.new("RGB", (1, 1))})
        given = replace(given, seed=seed_or_fresh(given.seed))  # one for all, so that the same can be had again
        families = _families(given.family)
        _check(self.registry.catalog.for_task(self.task, given.model), given, families)

        def caption(image: Image.Image, job: Job) -> batch.Captioned:
            result = self.run(replace(given, image=image), job)
            return batch.Captioned(
                _captions(result.neural, result.template, result.retrieved),
                result.logprob if result.neural else None,
                result.scores,
                result.made,
            )

        return batch.run(sources, caption, job)

    def evaluate(self, path: Path, job: Job, **options: Any) -> dict[str, float]:
        """Figures over a file of pictures with captions or with questions: see captioners/evaluation.py."""
        return evaluation.evaluate(self, path, job, **options)

    @contextmanager
    def _leases(
        self, spec: ModelSpec, params: Params, families: Sequence[str], job: Job
    ) -> Iterator[tuple[Lease | None, Lease | None]]:
        """The model that writes, and the starter model that looks: either may be None, and they may be the same.

        A model of a higher tier that is merely asked for a caption does not make the starter model load as well.
        """
        wanted: dict[str, tuple[AdapterUse, ...]] = {spec.id: params.adapters} if "neural" in families else {}
        if params.family != "neural" or params.references.strip():
            wanted.setdefault(STARTER, ())
        lease = self.registry.lease_many(*wanted.items(), timeout=self.lease_seconds, stop=job.stop, progress=job.emit)
        with lease as leases:
            held = dict(zip(wanted, leases, strict=True))
            yield held[spec.id] if "neural" in families else None, held.get(STARTER)

    def _look(
        self,
        starter: Lease,
        params: Params,
        families: Sequence[str],
        neural: Neural | None,
        job: Job,
        leave_out: Collection[str],
    ) -> _Looked:
        """The other families' captions, and the scores of all."""
        from pipelines.captioners.neighbours import retrieve
        from pipelines.captioners.starter import looking
        from pipelines.captioners.template import describe

        language = _language(params)
        with looking(starter, self.gallery, params.image, job) as seen:
            retrieved = retrieve(seen, language, leave_out) if "retrieval" in families else None
            template = describe(seen, params.image, language) if "template" in families else None
            captions = _captions(neural, template, retrieved)
            scores = scoring.scores(captions, scoring.lines(params.references), seen, language)
        return _Looked(template, retrieved, scores)


def _families(family: str) -> tuple[str, ...]:
    return FAMILIES if family == "all" else (family,)


def _language(params: Params) -> str:
    return "zh" if params.language == "zh" else "en"


def _write(lease: Lease, params: Params, seed: int, job: Job) -> Neural:
    """The neural captions: of every decoding asked for."""
    ways = DECODINGS if params.decoding == "all" else (params.decoding,)
    choice = (params.num_beams, params.temperature, params.top_p, params.max_new_tokens, seed)
    plans = [Plan(way, *choice) for way in ways]
    if lease.spec.loader == "open_clip":
        from pipelines.captioners import coca

        return coca.generate(lease.model, params.image, plans, _language(params), job)
    from pipelines.captioners import generation

    model, processor = lease.model.model, lease.model.processor
    inputs = MODELS[lease.spec.options["cls"]].ask(processor, params.image, prompt(params.question, params.language))
    decoded = []
    for plan in plans:
        if decoded and job.stop:
            break
        told = Job(job.stop, _without_text(job)) if decoded else job  # only one way's words can be read as they come
        decoded.append(Decoded(plan.decoding, generation.generate(model, processor, inputs, plan, told)))
    return Neural(tuple(decoded), (), ())


def _without_text(job: Job) -> Callable[[Event], None]:
    return lambda event: None if isinstance(event, TextDelta) else job.emit(event)


def _captions(neural: Neural | None, template: Template | None, retrieved: Retrieved | None) -> dict[str, str]:
    """By family, in the order of FAMILIES."""
    found = {"neural": _best(neural)[0].text} if neural else {}
    found |= {"retrieval": retrieved.caption} if retrieved else {}
    return found | ({"template": template.caption} if template else {})


def _best(neural: Neural | None) -> tuple[Candidate, ...]:
    """The caption and the other beams; one that says nothing where a stop came first."""
    return (neural.best.candidates if neural else ()) or (Candidate("", 0.0, ()),)


def _result(params: Params, neural: Neural | None, looked: _Looked, *, stopped: bool, made: Made) -> Result:
    best, *others = _best(neural)
    captions = _captions(neural, looked.template, looked.retrieved)
    return Result(
        caption=next(iter(captions.values()), ""),
        logprob=best.logprob,
        tokens=best.tokens,
        alternatives=tuple(others),
        decoding=params.decoding,
        stopped=stopped,
        made=made,
        neural=neural,
        template=looked.template,
        retrieved=looked.retrieved,
        scores=looked.scores,
    )


def _check(spec: ModelSpec, params: Params, families: Sequence[str]) -> None:
    """Refuse what cannot be done, before anything is loaded."""
    if "neural" not in families:
        if params.question.strip():
            raise InvalidInput("question_needs_neural", family=params.family)
        return
    model = MODELS.get(spec.options.get("cls", ""))
    if params.question.strip() and not (model and model.answers):
        raise InvalidInput("question_not_supported", model=spec.id)
    spoken = set(spec.languages)
    if params.language != "auto" and not spoken & {params.language, "multi"}:
        raise InvalidInput(
            "language_not_supported", model=spec.id, language=params.language, known=", ".join(spec.languages)
        )
