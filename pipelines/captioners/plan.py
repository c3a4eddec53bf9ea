"""What a captioner is asked for and what it gives back, in plain values. Imports no framework."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Plan:
    """How to choose the words. `beams` counts only for beam search; `seed` draws only for nucleus sampling."""

    decoding: str  # greedy | beam | nucleus
    beams: int
    temperature: float
    top_p: float
    max_new_tokens: int
    seed: int

    @property
    def width(self) -> int:
        """Sequences kept at every step."""
        return self.beams if self.decoding == "beam" else 1


@dataclass(frozen=True, slots=True)
class Candidate:
    """One caption with the natural log-probability the model itself gave each token, whatever chose the token."""

    text: str
    logprob: float  # of the whole sequence: the sum over its tokens
    tokens: tuple[tuple[str, float], ...]
