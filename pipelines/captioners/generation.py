"""Captions from transformers' generate(), with each token's log-probability. Knows no family, no registry."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from transformers import StoppingCriteria, StoppingCriteriaList

from pipelines.captioners.drawing import Draw
from pipelines.captioners.families import clean
from pipelines.captioners.plan import Candidate, Plan
from pipelines.captioners.telling import Telling
from pipelines.core.streaming import Job, Progress
from pipelines.vision_language import Inputs, on_device


class Watch(StoppingCriteria):
    """Called after every token: tells how far it is, streams a single sequence's text, and ends on a stop."""

    def __init__(self, job: Job, tokenizer: Any, plan: Plan) -> None:
        self._job = job
        self._tokenizer = tokenizer
        self._plan = plan
        self._prompt = -1
        self._telling = Telling(job)

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        if self._prompt < 0:
            self._prompt = input_ids.shape[1] - 1
        done = input_ids.shape[1] - self._prompt
        self._job.emit(Progress("run", done, self._plan.max_new_tokens))
        if self._plan.width == 1:
            self._telling.tell(self._tokenizer.decode(input_ids[0, self._prompt :], skip_special_tokens=True))
        stopped = bool(self._job.stop)
        return torch.full((input_ids.shape[0],), stopped, device=input_ids.device, dtype=torch.bool)


@torch.inference_mode()
def generate(model: Any, processor: Any, inputs: Inputs, plan: Plan, job: Job) -> tuple[Candidate, ...]:
    """The best caption first; `plan.beams` of them for beam search, else one."""
    tokenizer = getattr(processor, "tokenizer", processor)
    processors = [Draw(plan.seed, plan.temperature, plan.top_p)] if plan.decoding == "nucleus" else []
    output = model.generate(
        **on_device(inputs, model),
        do_sample=False,
        num_beams=plan.width,
        num_return_sequences=plan.width,
        max_new_tokens=plan.max_new_tokens,
        logits_processor=processors,
        stopping_criteria=StoppingCriteriaList([Watch(job, tokenizer, plan)]),
        return_dict_in_generate=True,
        output_logits=True,
    )
    return tuple(_candidate(tokenizer, steps) for steps in _steps(output))


def _steps(output: Any) -> Iterable[list[tuple[int, float]]]:
    """Per sequence, (token id, natural log-probability) of every generated token, the end mark included."""
    beams = getattr(output, "beam_indices", None)
    length = len(output.logits) if beams is None else beams.shape[1]
    for row, ids in enumerate(output.sequences[:, -length:].tolist() if length else []):
        # a beam that ended before the others is padded, and its beam index there is -1
        sources = [row] * length if beams is None else beams[row].tolist()
        yield [
            (token, torch.log_softmax(output.logits[step][source].float(), dim=-1)[token].item())
            for step, (token, source) in enumerate(zip(ids, sources, strict=True))
            if source >= 0
        ]


def _candidate(tokenizer: Any, steps: list[tuple[int, float]]) -> Candidate:
    ids = [token for token, _ in steps]
    text = clean(tokenizer.decode(ids, skip_special_tokens=True))
    tokens = tuple((tokenizer.decode([token]), logprob) for token, logprob in steps)
    return Candidate(text, sum(logprob for _, logprob in steps), tokens)
