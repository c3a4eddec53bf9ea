"""Trains picto-coca's decoder further, on frozen towers: the embedding space, and every index in it, stays as it is.

    python -m training.picto.decoder --data DATA --work WORK [--epochs 8]

The last step after `training.picto.train`: naming a thing takes the small decoder longer than finding it takes the
towers. Writes WORK/final.pt.
"""

from __future__ import annotations

import argparse
import random
import time
from pathlib import Path

import numpy as np
import torch
from open_clip.coca_model import CoCa
from torch import nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import PreTrainedTokenizerFast

from training.picto import batches, measure, model, records
from training.picto.tokenizer import PAD

BATCH, RATE, DECAY = 256, 1e-3, 0.05


def run(options: argparse.Namespace) -> None:
    learnt, aside = records.split_styles(records.permissive(records.read(options.data / "train.jsonl")))
    pictures, aside_pictures = records.pictures(options.data, learnt), records.pictures(options.data, aside)
    coca, tokenizer = model.trained(options.work)
    coca.requires_grad_(False)
    weights = list(coca.text_decoder.requires_grad_(True).parameters())
    optimizer = torch.optim.AdamW(weights, lr=RATE, weight_decay=DECAY, betas=(0.9, 0.98), fused=True)
    a_epoch = len(learnt) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, options.epochs * a_epoch, pct_start=0.05)
    started = time.time()
    for epoch in range(options.epochs):
        for rows in np.random.default_rng(epoch).permutation(len(learnt))[: a_epoch * BATCH].reshape(-1, BATCH):
            loss = caption_loss(coca, tokenizer, [learnt[row] for row in rows], pictures[rows])
            loss.backward()
            nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            schedule.step()
        right = measure.exact(coca, tokenizer, aside, aside_pictures, model.SIDE)
        print(epoch, f"loss {loss.item():.3f} style_exact {right:.3f} {time.time() - started:.0f} s", flush=True)
        torch.save({"average": coca.state_dict(), "step": epoch}, options.work / model.FINAL)


def caption_loss(
    coca: CoCa,
    tokenizer: PreTrainedTokenizerFast,
    found: list[records.Record],
    pictures: np.ndarray,
    say: batches.Say = batches.caption,
) -> torch.Tensor:
    """Cross-entropy of what `say` makes of each record in a language drawn for it; only the decoder gets gradients."""
    marks = ["zh" if record["caption_zh"] and random.random() < 0.5 else "en" for record in found]
    caption = batches.ids(tokenizer, [say(record, mark) for record, mark in zip(found, marks, strict=True)], marks)
    mirror = torch.tensor([batches.may_mirror(record) for record in found])
    with torch.autocast("cpu", torch.bfloat16):
        with torch.no_grad():
            _, cells = coca.visual(batches.augment(pictures, mirror, model.SIDE))
            _, heard = coca.text(caption)
        logits = coca.text_decoder(cells, heard[:, :-1])
    return F.cross_entropy(logits.float().flatten(0, 1), caption[:, 1:].flatten(), ignore_index=PAD)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=8)
    options = parser.parse_args()
    random.seed(0)
    torch.manual_seed(0)
    with sdpa_kernel(SDPBackend.MATH):
        run(options)


if __name__ == "__main__":
    main()
