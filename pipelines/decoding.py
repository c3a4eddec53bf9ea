"""One token after another from a causal language model, with a key/value cache. Knows token ids, not text.

An own loop rather than `model.generate`: the random draws belong to the job (a torch.Generator, not the process-wide
seed other threads use too), a stop is seen at every token and at every block of the prompt, and each token's
probabilities are at hand. Greedy decoding equals `model.generate(do_sample=False)`. Imports torch.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from pipelines.core.streaming import Stop

PROMPT_BLOCK = 256  # tokens of the prompt between two looks at the stop signal


@dataclass(frozen=True, slots=True)
class Sampling:
    """`temperature` 0 takes the likeliest token; `top_p` keeps the smallest set of tokens that probable together."""

    temperature: float
    top_p: float
    seed: int
    alternatives: int = 0  # how many likeliest tokens to report beside each choice


@dataclass(frozen=True, slots=True)
class Choice:
    """One chosen token; `top` holds (id, probability) of the likeliest, before temperature and top-p."""

    id: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


def context_length(model: Any) -> int:
    """The most tokens the model can see at once."""
    return int(model.config.get_text_config().max_position_embeddings)


def end_tokens(model: Any, tokenizer: Any) -> set[int]:
    """Ids that end the assistant's turn."""
    declared = getattr(model.generation_config, "eos_token_id", None)
    declared = declared if isinstance(declared, list | tuple) else [declared]
    return {id for id in (*declared, tokenizer.eos_token_id) if id is not None}


def decode(
    model: Any,
    prompt: Sequence[int],
    sampling: Sampling,
    *,
    limit: int,
    ends: set[int],
    stop: Stop,
    on_token: Callable[[Choice], None],
) -> str:
    """Call `on_token` for each new token, at most `limit`; returns why it ended: stop, length or cancelled."""
    generator = torch.Generator().manual_seed(sampling.seed)
    with torch.inference_mode():
        state = _read(model, prompt, stop)
        for left in range(limit, 0, -1):
            if state is None or stop:
                return "cancelled"
            logits, cache = state
            choice = choose(logits, sampling, generator)
            if choice.id in ends:
                return "stop"
            on_token(choice)
            if left > 1:
                state = _step(model, [choice.id], cache)
    return "length"


def choose(logits: torch.Tensor, sampling: Sampling, generator: torch.Generator) -> Choice:
    """Draw one token from `logits` [vocabulary]; on the CPU, so that every device draws the same numbers."""
    logits = logits.float().cpu()
    id = int(logits.argmax()) if sampling.temperature == 0 else _draw(logits, sampling, generator)
    if not sampling.alternatives:
        return Choice(id)
    logprobs = logits.log_softmax(-1)
    best = logprobs.topk(min(sampling.alternatives, len(logprobs)))
    top = tuple(zip(best.indices.tolist(), best.values.exp().tolist(), strict=True))
    return Choice(id, float(logprobs[id]), top)


def _draw(logits: torch.Tensor, sampling: Sampling, generator: torch.Generator) -> int:
    probabilities, ids = (logits / sampling.temperature).softmax(-1).sort(descending=True, stable=True)
    before = probabilities.cumsum(-1) - probabilities
    kept = probabilities * (before < sampling.top_p)
    kept[0] = probabilities[0]  # the likeliest stays whatever top_p
    return int(ids[torch.multinomial(kept, 1, generator=generator)])


def _read(model: Any, prompt: Sequence[int], stop: Stop) -> tuple[torch.Tensor, Any] | None:
    state = None
    for start in range(0, len(prompt), PROMPT_BLOCK):
        if stop:
            return None
        state = _step(model, prompt[start : start + PROMPT_BLOCK], state[1] if state else None)
    return state


def _step(model: Any, ids: Sequence[int], cache: Any) -> tuple[torch.Tensor, Any]:
    tensor = torch.tensor([list(ids)], device=model.device)
    out = model(input_ids=tensor, past_key_values=cache, use_cache=True, **_last_only(model))
    return out.logits[0, -1], out.past_key_values


def _last_only(model: Any) -> dict[str, int]:
    """Ask for the last position's logits alone where the model can: those of a long prompt take gigabytes."""
    return {"logits_to_keep": 1} if "logits_to_keep" in inspect.signature(model.forward).parameters else {}


def embed(model: Any, ids: Sequence[int]) -> list[float]:
    """The mean of the last hidden states over `ids`, of length 1 (Euclidean)."""
    with torch.inference_mode():
        tensor = torch.tensor([list(ids)], device=model.device)
        out = model(input_ids=tensor, output_hidden_states=True, use_cache=False, **_last_only(model))
        vector = out.hidden_states[-1][0].float().mean(0)
        return torch.nn.functional.normalize(vector, dim=-1).cpu().tolist()
