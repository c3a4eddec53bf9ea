"""The figures that choose a checkpoint: recall both ways, and captions that name the concept. Plain and fast."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from open_clip.coca_model import CoCa
from transformers import PreTrainedTokenizerFast

from training.picto.batches import ids, plain
from training.picto.records import Record
from training.picto.tokenizer import END, MARK, START


@torch.inference_mode()
def recalls(
    model: CoCa, tokenizer: PreTrainedTokenizerFast, records: Sequence[Record], pictures: np.ndarray, side: int
) -> dict[str, float]:
    """R@1 and R@10 by language, text to picture (t2p) and picture to text (p2t); the same caption is relevant."""
    rows = torch.cat([model.encode_image(plain(pictures[i : i + 128], side)) for i in range(0, len(records), 128)])
    out = {}
    for language in ("en", "zh"):
        said = [(record["caption_" + language] or "").lower() for record in records]
        texts = sorted({text for text in said if text})
        columns = torch.cat([model.encode_text(ids(tokenizer, texts[i : i + 256])) for i in range(0, len(texts), 256)])
        scores = columns @ rows.T
        right = torch.tensor([[text == own for own in said] for text in texts])
        named = right.any(dim=0)
        for k in (1, 10):
            top = scores.topk(min(k, len(said)), dim=1).indices
            out[f"{language}_t2p@{k}"] = right.gather(1, top).any(dim=1).float().mean().item()
            top = scores.T[named].topk(min(k, len(texts)), dim=1).indices
            out[f"{language}_p2t@{k}"] = right.T[named].gather(1, top).any(dim=1).float().mean().item()
    return out


@torch.inference_mode()
def exact(
    model: CoCa, tokenizer: PreTrainedTokenizerFast, records: Sequence[Record], pictures: np.ndarray, side: int
) -> float:
    """Share of greedy English captions that are the picture's own."""
    right = 0
    for first in range(0, len(records), 128):
        latent, tokens = model._encode_image(plain(pictures[first : first + 128], side))
        said = torch.tensor([[START, MARK["en"]]]).repeat(len(latent), 1)
        for _ in range(14):
            logits = model(None, said, latent, tokens, output_labels=False)["logits"][:, -1]
            said = torch.cat([said, logits.argmax(dim=-1, keepdim=True)], dim=1)
        for record, row in zip(records[first : first + 128], said.tolist(), strict=True):
            words = row[2 : row.index(END)] if END in row else row[2:]
            right += tokenizer.decode(words).strip() == record["caption_en"].lower().strip()
    return right / len(records)
