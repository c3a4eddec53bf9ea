"""What feeling a text, an aspect of it, a face or a voice shows, each read by a classifier, and whether they agree.

Labels are the model's own, in English; only their polarity is ours. A reading is what a model was trained to say about
such pictures, sounds and words, not what anybody feels.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from PIL.Image import Image

from pipelines import media, metrics
from pipelines.classifiers import BATCH, HEADS, Item, Spotted, spans, without
from pipelines.core.errors import InvalidInput, ModelLoadFailed, OutOfMemory
from pipelines.core.params import adapters_knob, knob, model_knob
from pipelines.core.registry import Lease, Registry
from pipelines.core.specs import AdapterUse, Made, ModelSpec
from pipelines.core.streaming import Job, Progress

# fmt: off
# GoEmotions' grouping (Demszky et al. 2020, table 1), and the names other data sets give the same feelings.
POLARITIES: Mapping[str, frozenset[str]] = {
    "positive": frozenset({
        "admiration", "amusement", "approval", "caring", "desire", "excitement", "gratitude", "joy", "love",
        "optimism", "pride", "relief", "positive",
    }),
    "negative": frozenset({
        "anger", "annoyance", "disappointment", "disapproval", "disgust", "embarrassment", "fear", "grief",
        "nervousness", "remorse", "sadness", "contempt", "negative",
    }),
    "neutral": frozenset({"neutral", "calm"}),
    "ambiguous": frozenset({"confusion", "curiosity", "realization", "surprise"}),
}
# The same feeling under other names, so that a labelled file and a model need not share their spelling.
SYNONYMS: Mapping[str, str] = {
    "hap": "joy", "happy": "joy", "happiness": "joy", "ang": "anger", "angry": "anger", "sad": "sadness",
    "neu": "neutral", "fearful": "fear", "disgusted": "disgust", "surprised": "surprise",
    "pos": "positive", "neg": "negative",
}
# fmt: on


@dataclass(frozen=True, slots=True)
class Params:
    """What to read. `threshold`: how far the first label must be ahead of the second to count as sure."""

    text: str = knob("", lines=4)
    aspect: str = knob("", max_length=200)
    image: Image | None = knob(None, kind="image")
    audio: media.Sound | None = knob(None, kind="audio")
    explain: bool = knob(True)
    threshold: float = knob(0.2, low=0, high=1, step=0.05, advanced=True)
    model: str = model_knob()
    adapters: tuple[AdapterUse, ...] = adapters_knob()


@dataclass(frozen=True, slots=True)
class Evidence:
    """A word of the text (characters start to end) and the probability the top label loses without it."""

    word: str
    start: int
    end: int
    delta: float


@dataclass(frozen=True, slots=True)
class Channel:
    """One reading: every label with its probability, likeliest first. `cut`: the text was longer than the model reads.

    `evidence` covers the first words of a text, in reading order. `polarity` is "" for a label we do not know.
    """

    input: str
    model: str
    scores: tuple[tuple[str, float], ...]
    top: str
    sure: bool
    polarity: str
    cut: bool = False
    evidence: tuple[Evidence, ...] = ()


@dataclass(frozen=True, slots=True)
class Result:
    """Readings in the order text, aspect, image, audio. `agreement` is None with fewer than two clear polarities."""

    channels: tuple[Channel, ...]
    agreement: bool | None
    made: Made


def polarity(label: str) -> str:
    """The key of POLARITIES a label belongs to, or "" for a label not in the table."""
    return next((name for name, labels in POLARITIES.items() if _same(label) in labels), "")


def agreement(channels: tuple[Channel, ...]) -> bool | None:
    """Whether all clear polarities are the same; None where fewer than two are clear."""
    clear = [c.polarity for c in channels if c.polarity not in ("", "ambiguous")]
    return len(set(clear)) == 1 if len(clear) > 1 else None


def _same(label: str) -> str:
    label = label.strip().lower()
    return SYNONYMS.get(label, label)


def _inputs(params: Params) -> dict[str, Item]:
    """What was given, by channel; raises InvalidInput if nothing was, or an aspect of nothing."""
    text, aspect = params.text.strip(), params.aspect.strip()
    if aspect and not text:
        raise InvalidInput("aspect_without_text")
    given = {"text": Item(text=text) if text else None, "aspect": Item(text=text, aspect=aspect) if aspect else None}
    given |= {"image": params.image and Item(image=params.image), "audio": params.audio and Item(audio=params.audio)}
    found = {name: item for name, item in given.items() if item is not None}
    if not found:
        raise InvalidInput("nothing_to_read")
    return found


class EmotionReader:
    """Emotion in text, about an aspect, in a face, in a voice, over the registry."""

    task: ClassVar[str] = "emotion"
    Params: ClassVar[type] = Params
    Result: ClassVar[type] = Result

    def __init__(self, registry: Registry, *, lease_seconds: float) -> None:
        self.registry = registry
        self.lease_seconds = lease_seconds

    def run(self, params: Params, job: Job) -> Result:
        """Read every channel given, one after the other; raises Cancelled between batches."""
        chosen = self.registry.catalog.for_task(self.task, params.model)
        inputs = _inputs(params)
        if params.adapters and chosen.options["input"] not in inputs:
            raise InvalidInput("adapters_unused", id=chosen.id, input=chosen.options["input"])
        made: dict[str, Made] = {}
        channels = []
        for at, (name, item) in enumerate(inputs.items()):
            job.emit(Progress("run", at, len(inputs), name))
            channel, by = self._channel(name, item, params, chosen, job)
            channels.append(channel)
            made[by.model] = by
        job.emit(Progress("run", len(inputs), len(inputs)))
        seconds = sum(by.seconds for by in made.values())
        principal = made.get(chosen.id) or made[channels[0].model]
        return Result(tuple(channels), agreement(tuple(channels)), replace(principal, seconds=seconds))

    def evaluate(self, path: Path, job: Job, *, model: str = "", adapters: Any = (), **_: Any) -> dict[str, float]:
        """Figures over rows {text, label}, {text, aspect, label}, {image, label} or {audio, label}.

        A CSV or JSON-lines file; pictures and sounds are named relative to it. Labels are compared without case and by
        SYNONYMS. Rows whose label the model does not know count as wrong.
        """
        chosen = self.registry.catalog.for_task(self.task, model)
        uses = tuple(adapters)
        truth: list[str] = []
        predicted: list[str] = []
        confidence: list[float] = []
        seconds = 0.0
        rows = metrics.read_rows(path)
        for at, row in enumerate(rows, 1):
            name, item = _row(row, at, path.parent)
            params = Params(explain=False, model=chosen.id, adapters=uses)
            channel, by = self._channel(name, item, params, chosen, Job(job.stop))
            truth.append(_same(row["label"]))
            predicted.append(_same(channel.top))
            confidence.append(channel.scores[0][1])
            seconds += by.seconds
            job.emit(Progress("evaluate", at, len(rows)))
        figures = metrics.classification_figures(truth, predicted, confidence)
        return {**figures, "seconds_per_item": seconds / len(rows)}

    def _channel(self, name: str, item: Item, params: Params, chosen: ModelSpec, job: Job) -> tuple[Channel, Made]:
        with ExitStack() as stack:
            lease = self._lease(stack, name, params, chosen, job)
            started = time.monotonic()
            channel = _read(name, item, lease, params, job)
            return channel, lease.made(seed=None, seconds=time.monotonic() - started)

    def _lease(self, stack: ExitStack, name: str, params: Params, chosen: ModelSpec, job: Job) -> Lease:
        """The chosen model if it reads this channel; else the task's first that does and can be loaded here."""
        candidates = [(m, ()) for m in self.registry.catalog.models(self.task) if m.options["input"] == name]
        if chosen.options["input"] == name:
            candidates = [(chosen, params.adapters)]
        failed: ModelLoadFailed | None = None
        for spec, uses in candidates:
            try:
                return stack.enter_context(
                    self.registry.lease(spec.id, uses, self.lease_seconds, stop=job.stop, progress=job.emit)
                )
            except ModelLoadFailed as error:
                failed = failed or error
        raise failed or InvalidInput("no_model_for_input", input=name)


def _read(name: str, item: Item, lease: Lease, params: Params, job: Job) -> Channel:
    """One item through one leased model."""
    import torch

    score: Callable[..., Spotted] = HEADS[lease.spec.options.get("head", "classifier")]
    try:
        spotted = score(lease.model, lease.spec.options, [item], job)
        ranked = sorted(zip(spotted.labels, spotted.probabilities[0].tolist(), strict=True), key=lambda pair: -pair[1])
        evidence: tuple[Evidence, ...] = ()
        if params.explain and item.text:
            top = spotted.labels.index(ranked[0][0])
            evidence = _occlude(
                item, top, ranked[0][1], lambda items: score(lease.model, lease.spec.options, items, job)
            )
    except torch.OutOfMemoryError as error:
        raise OutOfMemory("out_of_memory", id=lease.spec.id) from error
    margin = ranked[0][1] - (ranked[1][1] if len(ranked) > 1 else 0.0)
    return Channel(
        input=name,
        model=lease.spec.id,
        scores=tuple(ranked),
        top=ranked[0][0],
        sure=margin >= params.threshold,
        polarity=polarity(ranked[0][0]),
        cut=spotted.cut,
        evidence=evidence,
    )


def _occlude(item: Item, top: int, full: float, score: Callable[[list[Item]], Spotted]) -> tuple[Evidence, ...]:
    """How much each word carries: leave it out and see what the top label loses (Zeiler & Fergus 2014; Li et al. 2016).

    In batches, so that a stop is seen between them.
    """
    words = spans(item.text)
    lost: list[float] = []
    for start in range(0, len(words), BATCH):
        batch = [without(item, span) for span in words[start : start + BATCH]]
        lost += [full - float(row[top]) for row in score(batch).probabilities]
    return tuple(Evidence(item.text[a:b], a, b, delta) for (a, b), delta in zip(words, lost, strict=True))


def _row(row: dict[str, str], at: int, folder: Path) -> tuple[str, Item]:
    """The channel and item of a labelled row; a picture or sound counts before a text beside it."""
    if not row.get("label", "").strip():
        raise InvalidInput("bad_row", line=at, need="label")
    for kind in ("image", "audio"):
        if row.get(kind, "").strip():
            return kind, Item(**{kind: media.decode(kind, folder / row[kind])})
    text, aspect = row.get("text", "").strip(), row.get("aspect", "").strip()
    if not text:
        raise InvalidInput("bad_row", line=at, need="text | image | audio")
    return ("aspect", Item(text=text, aspect=aspect)) if aspect else ("text", Item(text=text))
