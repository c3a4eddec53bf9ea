"""Greedy decoding, beam search and nucleus sampling over next-token log-probabilities. Knows logits only, no model.

Several searches go in step, so that a model answers all of them in one batch; what beam search weighed is kept as a
tree. open_clip's own generate() needs a beam search that transformers 5 no longer has, gives no log-probabilities and
draws from the process-wide generator.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch

from pipelines.captioners.drawing import Draw
from pipelines.captioners.plan import Node, Plan
from pipelines.core.streaming import Job, Progress

Logprobs = Callable[[torch.Tensor], torch.Tensor]  # ids [rows, length] -> [rows, vocabulary] for the next token
Piece = Callable[[int], str]  # a token id as text

BESIDE = 4  # pruned continuations told of each step, the likeliest
ROOT = -1


@dataclass(frozen=True, slots=True)
class Beam:
    """A caption under way: the token ids written so far, the log-probability of each, and its place in the tree."""

    ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    ended: bool = False
    node: int = ROOT

    @property
    def score(self) -> float:
        """Mean log-probability: a sum would favour short captions."""
        return sum(self.logprobs) / max(1, len(self.logprobs))


class Search:
    """One way of choosing words, a step at a time; `beams` are the best so far, the best first.

    Width 1 is greedy decoding, or a draw for nucleus sampling. `end` is the token after which a caption is whole.
    """

    def __init__(self, plan: Plan, end: int) -> None:
        self.plan = plan
        self.beams = [Beam()]
        self._end = end
        self._draw = Draw(plan.seed, plan.temperature, plan.top_p) if plan.decoding == "nucleus" else None
        self._nodes: list[Node] = []
        self._ids: list[int] = []  # of each node's token

    @property
    def live(self) -> list[Beam]:
        """The beams that want another token."""
        return [beam for beam in self.beams if not beam.ended]

    def advance(self, given: torch.Tensor) -> None:
        """Take the model's log-probabilities [live beams, vocabulary] of the next token."""
        live = self.live
        wanted = given if self._draw is None else self._draw(torch.empty(0), given)
        grown = [beam for parent, *row in zip(live, given, wanted, strict=True) for beam in self._grow(parent, *row)]
        pool = [beam for beam in self.beams if beam.ended] + grown
        kept = sorted(pool, key=lambda beam: -beam.score)[: self.plan.width]
        self.beams = self._remember(grown, kept) if self.plan.decoding == "beam" else kept

    def tree(self, piece: Piece) -> tuple[Node, ...]:
        """What beam search weighed: all it kept, and the likeliest of what it pruned; empty for the others."""
        path, node = set(), self.beams[0].node
        while node != ROOT:
            path.add(node)
            node = self._nodes[node].parent
        return tuple(
            replace(node, token=piece(id), best=node.id in path)
            for node, id in zip(self._nodes, self._ids, strict=True)
        )

    def _grow(self, beam: Beam, given: torch.Tensor, wanted: torch.Tensor) -> list[Beam]:
        return [
            Beam((*beam.ids, token), (*beam.logprobs, given[token].item()), token == self._end, beam.node)
            for token in wanted.topk(min(self.plan.width, len(wanted))).indices.tolist()
        ]

    def _remember(self, grown: Sequence[Beam], kept: Sequence[Beam]) -> list[Beam]:
        """Write the step into the tree; the kept beams, which now know their own node."""
        pruned = sorted((beam for beam in grown if beam not in kept), key=lambda beam: -beam.score)
        known = []
        for beam in kept:
            new = beam in grown
            known.append(replace(beam, node=self._note(beam, "ended" if beam.ended else "kept")) if new else beam)
        for beam in pruned[:BESIDE]:
            self._note(beam, "pruned")
        return known

    def _note(self, beam: Beam, state: str) -> int:
        id = len(self._nodes)
        self._nodes.append(Node(id, beam.node, "", beam.logprobs[-1], beam.score, len(beam.ids) - 1, state, False))
        self._ids.append(beam.ids[-1])
        return id


def run(
    searches: Sequence[Search],
    logprobs: Logprobs,
    prefix: tuple[int, ...],
    steps: int,
    job: Job,
    tell: Callable[[], None] | None = None,
) -> None:
    """Advance all searches together until each has ended, `steps` are done or the job is stopped.

    Every caption begins with the tokens of `prefix`; `tell` is called after every step.
    """
    for step in range(steps):
        said = {search: [(*prefix, *beam.ids) for beam in search.live] for search in searches}
        rows = list(dict.fromkeys(row for some in said.values() for row in some))  # greedy is often the best beam
        if not rows or job.stop:
            break
        given = logprobs(torch.tensor(rows))
        for search, some in said.items():
            if some:
                search.advance(given[[rows.index(row) for row in some]])
        job.emit(Progress("run", step + 1, steps))
        if tell is not None:
            tell()
