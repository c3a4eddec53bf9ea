"""Captions from an open_clip CoCa. Its own generate() needs a beam search that transformers 5 no longer has,
gives no log-probabilities and draws from the process-wide generator, so the loop over its decoder is here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

from pipelines.captioners.drawing import Draw
from pipelines.captioners.families import clean
from pipelines.captioners.plan import Candidate, Plan
from pipelines.core.streaming import Job, Progress

Logprobs = Callable[[torch.Tensor], torch.Tensor]  # ids [rows, length] -> [rows, vocabulary] for the next token


@dataclass(frozen=True, slots=True)
class Beam:
    """A caption under way: token ids from the start mark on, and the log-probability of each one chosen."""

    ids: tuple[int, ...]
    logprobs: tuple[float, ...] = ()
    ended: bool = False

    @property
    def score(self) -> float:
        """Mean log-probability: a sum would favour short captions."""
        return sum(self.logprobs) / max(1, len(self.logprobs))


@torch.inference_mode()
def generate(coca: Any, image: Image.Image, plan: Plan, job: Job) -> tuple[Candidate, ...]:
    """The best caption first; `coca` is the loader's OpenClipModel. Raises nothing on a stop: it ends there."""
    model, tokenizer = coca.model, coca.tokenizer
    weight = next(model.parameters())
    pixels = coca.preprocess(image).unsqueeze(0).to(weight.device, weight.dtype)
    seen = model(pixels)
    latent, tokens = seen["image_features"], seen["image_embs"]

    def next_logprobs(ids: torch.Tensor) -> torch.Tensor:
        features, patches = (value.expand(len(ids), *value.shape[1:]) for value in (latent, tokens))
        output = model(pixels, ids.to(weight.device), features, patches, output_labels=False)
        return torch.log_softmax(output["logits"][:, -1].float(), dim=-1).cpu()

    steps = min(plan.max_new_tokens, model.context_length - 1)
    beams = search(next_logprobs, tokenizer.sot_token_id, tokenizer.eot_token_id, steps, plan, job)
    return tuple(_candidate(tokenizer, beam) for beam in beams)


def search(logprobs: Logprobs, start: int, end: int, steps: int, plan: Plan, job: Job) -> list[Beam]:
    """Beam search of `plan.width` beams, best first; width 1 is greedy decoding, or a draw for nucleus sampling."""
    draw = Draw(plan.seed, plan.temperature, plan.top_p) if plan.decoding == "nucleus" else None
    beams = [Beam((start,))]
    for step in range(steps):
        live = [beam for beam in beams if not beam.ended]
        if not live or job.stop:
            break
        ids = torch.tensor([beam.ids for beam in live])
        given = logprobs(ids)
        wanted = draw(ids, given) if draw else given
        grown = [_grow(beam, *row, end, plan.width) for beam, *row in zip(live, given, wanted, strict=True)]
        pool = [beam for beam in beams if beam.ended] + [beam for row in grown for beam in row]
        beams = sorted(pool, key=lambda beam: -beam.score)[: plan.width]
        job.emit(Progress("run", step + 1, steps))
    return beams


def _grow(beam: Beam, given: torch.Tensor, wanted: torch.Tensor, end: int, width: int) -> list[Beam]:
    return [
        Beam((*beam.ids, token), (*beam.logprobs, given[token].item()), token == end)
        for token in wanted.topk(width).indices.tolist()
    ]


def _candidate(tokenizer: Any, beam: Beam) -> Candidate:
    words = [token for token in beam.ids if token not in tokenizer.all_special_ids]
    pairs = zip(beam.ids[1:], beam.logprobs, strict=True)
    tokens = tuple((tokenizer.decode([token]), logprob) for token, logprob in pairs)
    return Candidate(clean(tokenizer.decode(words)), sum(beam.logprobs), tokens)
