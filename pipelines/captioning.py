"""From a picture to words: a caption, or the answer to a question about it, with the probability of every token.

Knows which family a model belongs to, not how models are loaded, nor who asks.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from PIL import Image

from pipelines.captioners.families import FAMILIES, prompt
from pipelines.captioners.metrics import bleu4, rouge_l
from pipelines.captioners.plan import Candidate, Plan
from pipelines.core.errors import InvalidInput
from pipelines.core.params import adapters_knob, build, knob, model_knob, seed_knob
from pipelines.core.registry import Lease, Registry
from pipelines.core.specs import AdapterUse, Made, ModelSpec
from pipelines.core.streaming import Job, Progress
from pipelines.core.tasks import seed_or_fresh
from pipelines.metrics import read_rows
from pipelines.vision_language import out_of_memory


@dataclass(frozen=True, slots=True)
class Params:
    """What to look at, what to ask, and how to choose the words.

    The limits keep beam search affordable: every step's logits are held until the end, for their probabilities.
    """

    image: Image.Image = knob(kind="image")
    question: str = knob("", max_length=500)
    language: str = knob("auto", choices=("auto", "en", "zh"))
    decoding: str = knob("greedy", choices=("greedy", "beam", "nucleus"))
    num_beams: int = knob(4, low=2, high=6, step=1, advanced=True)
    temperature: float = knob(1.0, low=0.1, high=2.0, step=0.05, advanced=True)
    top_p: float = knob(0.9, low=0.05, high=1.0, step=0.05, advanced=True)
    max_new_tokens: int = knob(64, low=1, high=256, step=1, advanced=True)
    model: str = model_knob()
    adapters: tuple[AdapterUse, ...] = adapters_knob()
    seed: int = seed_knob()


@dataclass(frozen=True, slots=True)
class Result:
    """The caption and, for beam search, the other beams, likeliest first. Log-probabilities are natural ones."""

    caption: str
    logprob: float  # of the whole caption: the sum over its tokens
    tokens: tuple[tuple[str, float], ...]  # (token, log-probability), the end mark included
    alternatives: tuple[Candidate, ...]
    decoding: str
    stopped: bool
    made: Made


class Captioner:
    """Describes pictures. Made once; holds no visitor's state."""

    task: ClassVar[str] = "captioning"
    Params: ClassVar[type] = Params
    Result: ClassVar[type] = Result

    def __init__(self, registry: Registry, *, lease_seconds: float) -> None:
        self.registry = registry
        self.lease_seconds = lease_seconds

    def run(self, params: Params, job: Job) -> Result:
        """Caption the picture; emits progress and the text as it grows. A stop gives what there is so far."""
        spec = self.registry.catalog.for_task(self.task, params.model)
        _check(spec, params)
        seed = seed_or_fresh(params.seed)
        with self.registry.lease(
            spec.id, params.adapters, self.lease_seconds, stop=job.stop, progress=job.emit
        ) as lease:
            started = time.perf_counter()
            with out_of_memory(lease.spec.id):
                best, *others = _candidates(lease, params, seed, job) or (Candidate("", 0.0, ()),)
            made = lease.made(
                seed=seed if params.decoding == "nucleus" else None, seconds=time.perf_counter() - started
            )
        return Result(best.text, best.logprob, best.tokens, tuple(others), params.decoding, bool(job.stop), made)

    def evaluate(self, path: Path, job: Job, **options: Any) -> dict[str, float]:
        """Over JSON lines {"image": path beside the file, "captions": [references]}: n, bleu4, rouge_l,
        seconds_per_item (computing only). `options` are fields of Params. Raises InvalidInput for a bad line.
        """
        from pipelines import media

        said, references, seconds = [], [], 0.0
        rows = read_rows(path)
        for at, row in enumerate(rows, 1):
            references.append(_references(row, at))
            picture = media.decode("image", path.parent / row["image"])
            result = self.run(build(Params, {**options, "image": picture}), Job(job.stop))
            job.check()
            said.append(result.caption)
            seconds += result.made.seconds
            job.emit(Progress("evaluate", at, len(rows)))
        return {
            "n": len(rows),
            "bleu4": bleu4(said, references),
            "rouge_l": rouge_l(said, references),
            "seconds_per_item": seconds / len(rows),
        }


def _candidates(lease: Lease, params: Params, seed: int, job: Job) -> tuple[Candidate, ...]:
    plan = Plan(params.decoding, params.num_beams, params.temperature, params.top_p, params.max_new_tokens, seed)
    if lease.spec.loader == "open_clip":
        from pipelines.captioners import coca

        return coca.generate(lease.model, params.image, plan, job)
    from pipelines.captioners import generation

    model, processor = lease.model.model, lease.model.processor
    family = FAMILIES[lease.spec.options["cls"]]
    inputs = family.ask(processor, params.image, prompt(params.question, params.language))
    return generation.generate(model, processor, inputs, plan, job)


def _check(spec: ModelSpec, params: Params) -> None:
    """Refuse what this model cannot do, before it is loaded."""
    family = FAMILIES.get(spec.options.get("cls", ""))
    if params.question.strip() and not (family and family.answers):
        raise InvalidInput("question_not_supported", model=spec.id)
    spoken = set(spec.languages)
    if params.language != "auto" and not spoken & {params.language, "multi"}:
        raise InvalidInput(
            "language_not_supported", model=spec.id, language=params.language, known=", ".join(spec.languages)
        )


def _references(row: Mapping[str, str], at: int) -> list[str]:
    """The row's captions, which the reader leaves as JSON text."""
    try:
        captions = json.loads(row.get("captions", ""))
    except ValueError:
        captions = None
    if not row.get("image") or not isinstance(captions, list) or not captions:
        raise InvalidInput("bad_row", line=at, need="image, captions")
    return [str(caption) for caption in captions]
