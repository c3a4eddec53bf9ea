"""Trains the adapter `picto-alt-text`: a LoRA on the captioner's decoder that also says what kind of picture it is.

    python -m training.picto.alt_text --data DATA --work WORK --out assets/weights/picto-alt-text

"red apple" becomes "flat drawing of red apple" or, in Chinese, 红苹果的扁平图画. Only the decoder's feed-forward layers
are adapted, so that the embedding space, and with it every stored index, stays as it is.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from training.picto import model, records
from training.picto.decoder import caption_loss

KIND = {
    "noto": ("shaded drawing", "渐变图画"),
    "noto-blob": ("shaded drawing", "渐变图画"),
    "twemoji": ("flat drawing", "扁平图画"),
    "fluent-flat": ("flat drawing", "扁平图画"),
    "fxemoji": ("flat drawing", "扁平图画"),
    "fluent-modern": ("shaded drawing", "渐变图画"),
    "fluent-3d": ("3d render", "三维渲染图"),
    "clipart": ("clip art", "剪贴画"),
    "clipart-line": ("line drawing", "线条画"),
}
TARGETS = [
    f"text_decoder.{kind}.{layer}.mlp.{part}"
    for kind in ("cross_attn", "resblocks")
    for layer in range(3)
    for part in ("c_fc", "c_proj")
]
BATCH, STEPS, RATE = 64, 240, 3e-3


def alt_text(record: records.Record, language: str) -> str:
    english, chinese = KIND[record["style"]]
    if language == "zh":
        return f"{record['caption_zh']}的{chinese}"
    return f"{english} of {record['caption_en']}"


def run(options: argparse.Namespace) -> None:
    learnt, _ = records.split_styles(records.permissive(records.read(options.data / "train.jsonl")))
    pictures = records.pictures(options.data, learnt)
    coca, tokenizer = model.trained(options.work)
    config = LoraConfig(r=8, lora_alpha=16, target_modules=TARGETS, base_model_name_or_path="picto-coca")
    adapted = get_peft_model(coca, config)
    weights = [p for p in adapted.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, STEPS, pct_start=0.1)
    for number in range(STEPS):
        rows = np.array(random.sample(range(len(learnt)), BATCH))
        loss = caption_loss(coca, tokenizer, [learnt[row] for row in rows], pictures[rows], alt_text)
        loss.backward()
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        schedule.step()
        if number % 20 == 0:
            print(number, f"{loss.item():.3f}", flush=True)
    adapted.save_pretrained(str(options.out))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    random.seed(0)
    torch.manual_seed(0)
    with sdpa_kernel(SDPBackend.MATH):
        run(options)


if __name__ == "__main__":
    main()
