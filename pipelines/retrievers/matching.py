"""Joint readers: text and picture are read together, and the model says how well they match, in [0, 1].

Slower than two towers (every pair is a pass of its own) and finer: words and patches see each other. Each side is
prepared once, as far as the model allows, and pairs are then judged in batches.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from PIL import Image
from torch.nn.functional import normalize
from torch.nn.utils.rnn import pad_sequence

from pipelines.core.streaming import Job, Progress
from pipelines.retrievers.towers import blip_patches, blip_tokens, open_clip_pixels
from pipelines.vision_language import chat_inputs, on_device, shrink


@dataclass(frozen=True, slots=True)
class Sides:
    """The loaders' models: the two towers that found the pairs, and the one that judges them; it may be the same."""

    base: Any
    judge: Any


@dataclass(frozen=True, slots=True)
class Matcher:
    """How a family judges: each text and each picture made ready once, then pairs of them, a batch at a time."""

    texts: Callable[[Sides, Sequence[str]], list[Any]]
    pictures: Callable[[Sides, Sequence[Image.Image]], list[Any]]
    pairs: Callable[[Sides, Sequence[Any], Sequence[Any]], list[float]]
    batch: int = 8  # pairs at once


@dataclass(frozen=True, slots=True)
class Judged:
    """Scores in the order of the pairs, and the seconds the pairs alone took, each side being ready."""

    scores: list[float]
    seconds: float


def judge(
    matcher: Matcher,
    sides: Sides,
    texts: Sequence[str],
    picture: Callable[[int], Image.Image],
    pairs: Sequence[tuple[int, int]],
    job: Job,
) -> Judged:
    """Judge (text, picture) pairs given by number. Each picture is opened once and kept no longer than its pairs need.

    Raises Cancelled on a stop, which is looked for between batches.
    """
    read = {}
    needed = sorted({text for text, _ in pairs})
    for some in _batches(needed, matcher.batch):
        job.check()
        read |= dict(zip(some, matcher.texts(sides, [texts[number] for number in some]), strict=True))
    of_picture: dict[int, list[int]] = {}
    for number, (_, at) in enumerate(pairs):
        of_picture.setdefault(at, []).append(number)
    scores, seconds, done = [0.0] * len(pairs), 0.0, 0
    for some in _batches(of_picture, matcher.batch):
        job.check()
        seen = dict(zip(some, matcher.pictures(sides, [picture(at) for at in some]), strict=True))
        for numbers in _batches([number for at in some for number in of_picture[at]], matcher.batch):
            job.check()
            began = time.perf_counter()
            left = [read[pairs[number][0]] for number in numbers]
            judged = matcher.pairs(sides, left, [seen[pairs[number][1]] for number in numbers])
            seconds += time.perf_counter() - began
            for number, score in zip(numbers, judged, strict=True):
                scores[number] = score
            done += len(numbers)
            job.emit(Progress("rerank", done, len(pairs)))
    return Judged(scores, seconds)


def _batches(items: Any, size: int) -> Any:
    rest = iter(items)
    while some := list(islice(rest, size)):
        yield some


# -- BLIP's image-text matching head ---------------------------------------------------------------


def _as_they_are(sides: Sides, items: Sequence[Any]) -> list[Any]:
    """For what cannot be made ready one side at a time."""
    return list(items)


@torch.inference_mode()
def _blip_pictures(sides: Sides, pictures: Sequence[Image.Image]) -> list[torch.Tensor]:
    return list(blip_patches(sides.judge, pictures))


@torch.inference_mode()
def _blip(sides: Sides, texts: Sequence[str], pictures: Sequence[torch.Tensor]) -> list[float]:
    """The probability of its class "match"."""
    model, patches = sides.judge.model, torch.stack(list(pictures))
    hidden = model.text_encoder(
        **blip_tokens(sides.judge, texts),
        encoder_hidden_states=patches,
        encoder_attention_mask=torch.ones(patches.shape[:2], dtype=torch.long, device=patches.device),
    ).last_hidden_state
    return model.itm_head(hidden[:, 0]).float().softmax(dim=-1)[:, 1].tolist()


# -- Qwen3-VL-Reranker -----------------------------------------------------------------------------

_JUDGE = (
    "Judge whether the Document meets the requirements based on the Query and the Instruct provided. "
    'Note that the answer can only be "yes" or "no".'
)
_INSTRUCT = "Given a search query, retrieve relevant candidates that answer the query."


@torch.inference_mode()
def _qwen(sides: Sides, texts: Sequence[str], pictures: Sequence[Image.Image]) -> list[float]:
    """The recipe of QwenLM/Qwen3-VL-Embedding's re-ranker: the probability of "yes" against "no" as next token."""
    loaded = sides.judge
    inputs = on_device(chat_inputs(loaded.processor, [*map(_talk, texts, pictures)]), loaded.model)
    logits = loaded.model(**inputs, logits_to_keep=1).logits[:, -1].float()
    yes, no = (loaded.processor.tokenizer.convert_tokens_to_ids(word) for word in ("yes", "no"))
    return torch.sigmoid(logits[:, yes] - logits[:, no]).tolist()


def _talk(text: str, picture: Image.Image) -> list[dict[str, Any]]:
    return [
        {"role": "system", "content": [{"type": "text", "text": _JUDGE}]},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": f"<Instruct>: {_INSTRUCT}"},
                {"type": "text", "text": "<Query>:"},
                {"type": "text", "text": text},
                {"type": "text", "text": "\n<Document>:"},
                {"type": "image", "image": shrink(picture)},
            ],
        },
    ]


# -- A small head over the tokens of a CoCa --------------------------------------------------------


@torch.inference_mode()
def _fusion_texts(sides: Sides, texts: Sequence[str]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """(tokens [own length, width], unit vector [dimension]) of each: padding is cut off."""
    loaded = sides.base
    ids = loaded.tokenizer(list(texts)).to(next(loaded.model.parameters()).device)
    pooled, tokens = loaded.model.text(ids)
    lengths = (ids != loaded.model.pad_id).sum(dim=1)
    units = normalize(pooled.float(), dim=-1)
    return [(row[:length].float(), unit) for row, length, unit in zip(tokens, lengths, units, strict=True)]


@torch.inference_mode()
def _fusion_pictures(sides: Sides, pictures: Sequence[Image.Image]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """(tokens [cells, width], unit vector [dimension]) of each."""
    pooled, tokens = sides.base.model.visual(open_clip_pixels(sides.base, pictures))
    return list(zip(tokens.float(), normalize(pooled.float(), dim=-1), strict=True))


@torch.inference_mode()
def _fusion(sides: Sides, texts: Sequence[Any], pictures: Sequence[Any]) -> list[float]:
    """Sigmoid of the head's logit, in double precision: in single, everything beyond 17 would tie."""
    words, patches = ([tokens for tokens, _ in side] for side in (texts, pictures))
    lengths = torch.tensor([len(tokens) for tokens in words], device=words[0].device)
    padded = pad_sequence(words, batch_first=True)
    mask = torch.arange(padded.shape[1], device=lengths.device) < lengths[:, None]
    cosine = (torch.stack([unit for _, unit in texts]) * torch.stack([unit for _, unit in pictures])).sum(dim=-1)
    logits = sides.judge.module(padded, mask, torch.stack(patches), cosine)
    return logits.double().sigmoid().tolist()


MATCHERS: Mapping[str, Matcher] = {
    "BlipForImageTextRetrieval": Matcher(_as_they_are, _blip_pictures, _blip),
    "Qwen3VLForConditionalGeneration": Matcher(_as_they_are, _as_they_are, _qwen),
    "pipelines.nets.fusion:FusionHead": Matcher(_fusion_texts, _fusion_pictures, _fusion, batch=64),
}
