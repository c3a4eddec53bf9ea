"""Label probabilities out of a loaded transformers model, for a text, a text with an aspect, a picture or a sound.

Two heads: a classifier's own, and a language model asked how likely each label would be as its answer. Knows nothing
of the registry or of what the labels mean.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from pipelines.core.errors import InvalidInput, ModelLoadFailed
from pipelines.core.streaming import Job
from pipelines.media import Sound

if TYPE_CHECKING:
    from PIL.Image import Image

BATCH = 8
MAX_WORDS = 64  # of a text, that occlusion looks at
MAX_TOKENS = 512
WINDOW_SECONDS = 15.0  # a longer sound is read in equal parts, whose probabilities are averaged
MIN_SECONDS = 0.1
# A Chinese or Japanese character is a word of its own here; elsewhere words are what lies between spaces and marks.
_WORD = re.compile(
    r"[\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]|[^\W\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+"
)


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to label: a text, perhaps with an aspect, or a picture, or a sound."""

    text: str = ""
    aspect: str = ""
    image: Image | None = None
    audio: Sound | None = None


@dataclass(frozen=True, slots=True)
class Spotted:
    """Labels in the model's order, probabilities [item, label] summing to 1 a row, and whether a text was cut."""

    labels: tuple[str, ...]
    probabilities: np.ndarray
    cut: bool = False


def spans(text: str) -> list[tuple[int, int]]:
    """Character spans of the first MAX_WORDS words."""
    return [match.span() for match in _WORD.finditer(text)][:MAX_WORDS]


def without(item: Item, span: tuple[int, int]) -> Item:
    """The item with that span left out of its text."""
    start, end = span
    return replace(item, text=item.text[:start] + item.text[end:])


def classify(loaded: Any, options: Mapping[str, Any], items: list[Item], job: Job) -> Spotted:
    """By the model's own classification head. `loaded` has `model` and `processor`."""
    job.check()
    rows, cut = READERS[options["input"]](loaded, items, job)
    return Spotted(_labels(loaded.model.config, options), rows, cut)


def _labels(config: Any, options: Mapping[str, Any]) -> tuple[str, ...]:
    """The card's names where it has them (some models only say LABEL_0), else the model's own."""
    own = tuple(str(config.id2label[i]) for i in range(config.num_labels))
    named = tuple(options.get("labels", ()))
    if named and len(named) != len(own):
        raise ModelLoadFailed("wrong_labels", found=len(own), named=len(named))
    return named or own


def _forward(model: Any, inputs: Mapping[str, Any]) -> np.ndarray:
    """Probabilities [row, label]: softmax, or for a multi-label model each label's own share of their sum."""
    import torch

    moved = {
        key: value.to(model.device, model.dtype if value.is_floating_point() else None) for key, value in inputs.items()
    }
    with torch.inference_mode():
        logits = model(**moved).logits.float()
    if getattr(model.config, "problem_type", None) == "multi_label_classification":
        single = logits.sigmoid()
        return (single / single.sum(dim=-1, keepdim=True)).cpu().numpy()
    return logits.softmax(dim=-1).cpu().numpy()


def _read_text(loaded: Any, items: list[Item], _: Job) -> tuple[np.ndarray, bool]:
    tokenizer = loaded.processor
    limit = min(tokenizer.model_max_length, MAX_TOKENS)
    texts = [item.text for item in items]
    pairs = [item.aspect for item in items] if items[0].aspect else None
    inputs = tokenizer(
        texts, pairs, padding=True, truncation="only_first" if pairs else True, max_length=limit, return_tensors="pt"
    )
    cut = int(inputs["attention_mask"].sum(dim=1).max()) >= limit
    return _forward(loaded.model, inputs), cut


def _read_image(loaded: Any, items: list[Item], _: Job) -> tuple[np.ndarray, bool]:
    return _forward(loaded.model, loaded.processor([item.image for item in items], return_tensors="pt")), False


def _read_audio(loaded: Any, items: list[Item], job: Job) -> tuple[np.ndarray, bool]:
    return np.concatenate([_read_sound(loaded, item.audio, job) for item in items if item.audio is not None]), False


def _read_sound(loaded: Any, sound: Sound, job: Job) -> np.ndarray:
    rate = loaded.processor.sampling_rate
    samples = sound.resampled(rate).samples
    if len(samples) < MIN_SECONDS * rate:
        raise InvalidInput("audio_too_short", seconds=MIN_SECONDS)
    rows = []
    for part in np.array_split(samples, int(np.ceil(len(samples) / (WINDOW_SECONDS * rate)))):
        job.check()
        rows.append(_forward(loaded.model, loaded.processor(part, sampling_rate=rate, return_tensors="pt")))
    return np.mean(rows, axis=0)


READERS = {"text": _read_text, "aspect": _read_text, "image": _read_image, "audio": _read_audio}


def likelihood(loaded: Any, options: Mapping[str, Any], items: list[Item], job: Job) -> Spotted:
    """By a chat model: the likelihood of each label as its whole answer, shared out over the labels to choose from."""
    labels = tuple(options["labels"])
    rows, cut = [], False
    for item in items:
        job.check()
        row, long = _ask(loaded, labels, item)
        rows.append(row)
        cut = cut or long
    return Spotted(labels, np.stack(rows), cut)


def _ask(loaded: Any, labels: tuple[str, ...], item: Item) -> tuple[np.ndarray, bool]:
    import torch

    tokenizer, model = loaded.processor, loaded.model
    words = tokenizer(item.text, add_special_tokens=False)["input_ids"]
    text = tokenizer.decode(words[:MAX_TOKENS])
    question = (
        f"Which one of these emotions does the text show: {', '.join(labels)}?\nText: {text}\nAnswer in one word."
    )
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}], tokenize=False, add_generation_prompt=True, enable_thinking=False
    )
    head = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    scores = []
    with torch.inference_mode():
        for label in labels:
            tail = tokenizer(label, add_special_tokens=False)["input_ids"]
            tokens = torch.tensor([head + tail], device=model.device)
            logits = model(input_ids=tokens, logits_to_keep=len(tail) + 1).logits[0, :-1].float()
            scores.append(logits.log_softmax(-1).gather(1, tokens[0, -len(tail) :, None]).sum())
        return torch.stack(scores).softmax(0).cpu().numpy(), len(words) > MAX_TOKENS


HEADS = {"classifier": classify, "likelihood": likelihood}
