"""Captions from an open_clip CoCa: the picture is read once, then every way of choosing words asks its decoder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

from pipelines.captioners import attention, beams
from pipelines.captioners.families import clean
from pipelines.captioners.plan import Candidate, Decoded, Neural, Plan, WordAttention
from pipelines.captioners.telling import Telling
from pipelines.core.streaming import Job


@dataclass(frozen=True, slots=True)
class Words:
    """A tokenizer as the decoder needs it: what a caption begins with, what ends it, and ids as text."""

    tokenizer: Any
    start: tuple[int, ...]
    end: int
    special: frozenset[int]

    def text(self, ids: Sequence[int]) -> str:
        return clean(self.tokenizer.decode([id for id in ids if id not in self.special]))

    def piece(self, id: int) -> str:
        """One token with the space it brings along; a sentencepiece one marks it with ▁."""
        if hasattr(self.tokenizer, "convert_ids_to_tokens"):
            return str(self.tokenizer.convert_ids_to_tokens(id)).replace("▁", " ")
        return str(self.tokenizer.decode([id]))


def words(tokenizer: Any, language: str) -> Words:
    """Of open_clip's own tokenizer, or of a Hugging Face one, which may have marks of language: <en>, <zh>."""
    own = getattr(tokenizer, "tokenizer", None)
    if own is None:
        special = frozenset(tokenizer.all_special_ids)
        return Words(tokenizer, (tokenizer.sot_token_id,), tokenizer.eot_token_id, special)
    mark = own.get_vocab().get(f"<{language}>")
    start = (own.bos_token_id,) if mark is None else (own.bos_token_id, mark)
    return Words(own, start, own.eos_token_id, frozenset(own.all_special_ids))


@torch.inference_mode()
def generate(coca: Any, image: Image.Image, plans: Sequence[Plan], language: str, job: Job) -> Neural:
    """Every plan's captions, the best first; `coca` is the loader's OpenClipModel. Raises nothing on a stop: it ends
    there.
    """
    model, said = coca.model, words(coca.tokenizer, language)
    weight = next(model.parameters())
    pixels = coca.preprocess(image).unsqueeze(0).to(weight.device, weight.dtype)
    seen = model(pixels)
    latent, patches = seen["image_features"], seen["image_embs"]

    def logprobs(ids: torch.Tensor) -> torch.Tensor:
        features, cells = (value.expand(len(ids), *value.shape[1:]) for value in (latent, patches))
        output = model(pixels, ids.to(weight.device), features, cells, output_labels=False)
        return torch.log_softmax(output["logits"][:, -1].float(), dim=-1).cpu()

    searches = [beams.Search(plan, said.end) for plan in plans]
    steps = min(plans[0].max_new_tokens, model.context_length - len(said.start))
    beams.run(searches, logprobs, said.start, steps, job, _teller(searches[0], said, job))
    decoded = [Decoded(s.plan.decoding, tuple(_candidate(said, beam) for beam in s.beams)) for s in searches]
    tree = next((s.tree(said.piece) for s in searches if s.plan.decoding == "beam"), ())
    best = next((s for s in searches if s.plan.decoding == "beam"), searches[0]).beams[0]
    return Neural(tuple(decoded), tree, _attention(model, patches, said, best.ids))


def _teller(search: beams.Search, said: Words, job: Job) -> Any:
    """Tells the caption of a search that never takes a word back; None for the others."""
    if search.plan.width > 1:
        return None
    telling = Telling(job)
    return lambda: telling.tell(said.text(search.beams[0].ids))


def _candidate(said: Words, beam: beams.Beam) -> Candidate:
    tokens = tuple((said.piece(id), logprob) for id, logprob in zip(beam.ids, beam.logprobs, strict=True))
    return Candidate(said.text(beam.ids), sum(beam.logprobs), tokens)


def _attention(model: Any, patches: torch.Tensor, said: Words, ids: Sequence[int]) -> tuple[WordAttention, ...]:
    """Of every token that says something: marks and bare spaces are left out."""
    side = attention.side(model, patches.shape[1])
    if not side or not ids:
        return ()
    row = torch.tensor([*said.start, *ids], device=patches.device)
    maps = attention.maps(model, patches, row, len(said.start)).view(-1, side, side).tolist()
    return tuple(
        WordAttention(said.piece(id).strip(), tuple(map(tuple, cells)))
        for id, cells in zip(ids, maps, strict=True)
        if id not in said.special and said.piece(id).strip()
    )
