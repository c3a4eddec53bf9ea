"""What a captioner is asked for and what it gives back, in plain values. Imports no framework."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipelines.captioners.metrics import Compared

DECODINGS = ("greedy", "beam", "nucleus")
FAMILIES = ("neural", "retrieval", "template")


@dataclass(frozen=True, slots=True)
class Plan:
    """How to choose the words. `beams` counts only for beam search; `seed` draws only for nucleus sampling."""

    decoding: str  # one of DECODINGS
    beams: int
    temperature: float
    top_p: float
    max_new_tokens: int
    seed: int

    @property
    def width(self) -> int:
        """Sequences kept at every step."""
        return self.beams if self.decoding == "beam" else 1


# -- neural: a decoder writes word by word ---------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Candidate:
    """One caption with the natural log-probability the model itself gave each token, whatever chose the token."""

    text: str
    logprob: float  # of the whole sequence: the sum over its tokens
    tokens: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class Decoded:
    """What one way of choosing words came to, the best first."""

    decoding: str  # one of DECODINGS
    candidates: tuple[Candidate, ...]


@dataclass(frozen=True, slots=True)
class Node:
    """One continuation that beam search weighed. Of each step only the likeliest are told."""

    id: int
    parent: int  # id of the node it continues; -1 for the first word
    token: str
    logprob: float  # of this token
    score: float  # of the sequence up to it: the mean log-probability by which beams are ranked
    step: int  # 0 for the first word
    state: str  # kept | pruned | ended
    best: bool  # on the path of the winning caption


@dataclass(frozen=True, slots=True)
class WordAttention:
    """Where the decoder looked while it wrote one token: rows of cells, which sum to 1.

    The cells cover the square that the model saw: a picture that is not square lies in the middle of it.
    """

    word: str
    cells: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, slots=True)
class Neural:
    """The decoder at work."""

    decoded: tuple[Decoded, ...]
    tree: tuple[Node, ...]  # empty without beam search
    attention: tuple[WordAttention, ...]  # of the best caption; empty where the model's tokens have no place

    @property
    def best(self) -> Decoded:
        """Whose first candidate is the caption: beam search's where there is one."""
        return next((way for way in self.decoded if way.decoding == "beam"), self.decoded[0])


# -- template: slots of a sentence are filled ------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Slot:
    """One thing to find out, and the words for it, likeliest first with their probability."""

    name: str  # object | count | colour | style | category
    word: str
    candidates: tuple[tuple[str, float], ...]
    source: str  # zero-shot | measured


@dataclass(frozen=True, slots=True)
class Template:
    """A sentence made of slots. `pieces` joined are the caption."""

    caption: str
    pieces: tuple[tuple[str, str], ...]  # (text, name of the slot it came from, or "")
    slots: tuple[Slot, ...]


# -- retrieval: somebody else's caption ------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A gallery picture near the one asked about."""

    id: str
    caption: str
    similarity: float  # cosine of the two pictures
    agreement: float  # mean cosine of its caption with the other neighbours' captions


@dataclass(frozen=True, slots=True)
class Retrieved:
    """The caption taken over from a neighbour, and by which rule."""

    caption: str
    rule: str  # nearest | consensus
    neighbours: tuple[Neighbour, ...]


# -- side by side ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FamilyScore:
    """How well a family's caption fits the picture and, where there are references, how close it is to them."""

    family: str  # one of FAMILIES
    caption: str
    clip: float  # CLIP-score (Hessel et al. 2021): 2.5 times the cosine, at least 0
    compared: Compared | None
