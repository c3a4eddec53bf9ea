"""Sampling with a job's own random numbers. Knows logits only, no model."""

from __future__ import annotations

import torch


class Draw:
    """Draws the next token by the Gumbel-max trick: argmax(log p + Gumbel noise) is a sample of p.

    transformers' own sampling reads the process-wide generator, which parallel jobs share; this noise comes from a
    generator of the job's own, on the CPU, so that a seed means the same draw on every device. A logits processor
    for `generate(do_sample=False)`. Maddison et al. 2014, "A* Sampling".
    """

    def __init__(self, seed: int, temperature: float, top_p: float) -> None:
        self._generator = torch.Generator().manual_seed(seed)
        self._temperature = temperature
        self._top_p = top_p

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """`scores` [rows, vocabulary] -> perturbed log-probabilities whose argmax is the draw."""
        kept = nucleus(scores.float() / self._temperature, self._top_p)
        uniform = torch.rand(kept.shape, generator=self._generator).clamp_min(1e-20)
        return kept - torch.log(-torch.log(uniform)).to(kept.device)


def nucleus(logits: torch.Tensor, top_p: float) -> torch.Tensor:
    """Log-probabilities [rows, vocabulary], -inf outside the smallest set that holds `top_p` of the mass.

    Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration". The likeliest token always stays.
    """
    logprobs = torch.log_softmax(logits, dim=-1)
    ordered, order = logprobs.sort(dim=-1, descending=True)
    before = ordered.exp().cumsum(dim=-1) - ordered.exp()
    outside = torch.zeros_like(before, dtype=torch.bool).scatter(-1, order, before >= top_p)
    return logprobs.masked_fill(outside, float("-inf"))
