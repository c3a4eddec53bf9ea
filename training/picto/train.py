"""Trains picto-coca. Checkpoints every epoch and goes on from the last one when started again.

    python -m training.picto.train --data DATA --work WORK [--epochs 70] [--fine 20] [--text-epochs 3]

WORK holds what `training.picto.knowledge` wrote. First the text tower learns what words mean (knowledge targets), then
everything together: contrastive loss in both languages with all pictures of one concept as positives (Khosla et al.
2020) and a share of the target given by meaning; captioning loss (Yu et al. 2022, CoCa); and the knowledge targets
again, so that the meaning stays and the pictures learn it, too. The first epochs see small pictures, the last `--fine`
ones pictures of full size (progressive resizing). bfloat16 autocast, AdamW, warm-up and cosine; the weights that ship
are an exponential moving average.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import PreTrainedTokenizerFast

from training.picto import batches, measure, model, records, tokenizer

SMALL = 64
BATCH = 256
RATE, DECAY, EMA = 1e-3, 0.1, 0.998
VOCABULARY = 6000
CAPTION, MEANING = 3.0, 1.0  # weights of the losses beside the contrastive one
KIN = 0.2  # share of the contrastive target that goes by meaning
CAPTIONED = 1  # of so many pictures one is captioned


class Trainer:
    """Everything one run holds; `save` and `resume` keep it whole."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        learnt, self.aside = records.split_styles(records.permissive(records.read(options.data / "train.jsonl")))
        self.learnt = learnt
        self.unseen = records.read(options.data / "val.jsonl")
        self.pictures, self.aside_pictures, self.unseen_pictures = (
            records.pictures(options.data, found) for found in (learnt, self.aside, self.unseen)
        )
        self.mirror = torch.tensor([batches.may_mirror(record) for record in learnt])
        names = {name: at for at, name in enumerate(sorted({record["concept"] for record in learnt}))}
        self.concept = torch.tensor([names[record["concept"]] for record in learnt])
        self._read_knowledge(options.work)
        self.tokenizer = self._tokenizer(options.work / "tokenizer")
        self.model = model.build(len(self.tokenizer))
        self.meaning = nn.Linear(model.WIDTH, self.targets["en"].shape[1])
        self.average = copy.deepcopy(self.model).eval().requires_grad_(False)
        self.step, self.log = 0, []
        self.epoch_steps = len(learnt) // BATCH
        self.text_steps = options.text_epochs * sum(map(len, self.texts.values())) // (2 * BATCH)
        self.total = self.text_steps + options.epochs * self.epoch_steps
        self.optimizer = self._optimizer()

    def _optimizer(self) -> torch.optim.Optimizer:
        """AdamW; biases and norms do not decay."""
        weights = [*self.model.parameters(), *self.meaning.parameters()]
        groups = [
            {"params": [p for p in weights if p.ndim > 1], "weight_decay": DECAY},
            {"params": [p for p in weights if p.ndim <= 1], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.98), fused=True)

    def _read_knowledge(self, work: Path) -> None:
        self.texts = json.loads((work / "knowledge.json").read_text(encoding="utf-8"))
        self.targets = {name: rows.float() for name, rows in load_file(work / "knowledge.safetensors").items()}
        at = {text: number for number, text in enumerate(self.texts["en"])}
        self.names = json.loads((work / "names.json").read_text(encoding="utf-8"))
        self.target_of = torch.tensor([at[record["caption_en"]] for record in self.learnt])

    def _tokenizer(self, folder: Path) -> PreTrainedTokenizerFast:
        if not folder.is_dir():
            said = [
                t for r in self.learnt for k in ("en", "zh") for t in ([r["caption_" + k]] * 2 + r["keywords_" + k])
            ]
            tokenizer.save(
                tokenizer.train([text for text in said if text] + self.texts["nouns"][::8] + self.texts["words"][:8000],
                                VOCABULARY), folder)  # fmt: skip
        return PreTrainedTokenizerFast.from_pretrained(str(folder))

    # -- the losses ------------------------------------------------------------------------------

    def meaning_loss(self, pooled: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Cosine distance to the target, and the target told apart from the others of the batch."""
        said = F.normalize(self.meaning(pooled).float(), dim=-1)
        logits = 20 * said @ target.T
        return (1 - (said * target).sum(dim=-1)).mean() + 0.1 * F.cross_entropy(logits, torch.arange(len(said)))

    def words(self, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Texts without a picture: ids [number, length] and targets [number, 256]."""
        kinds = random.choices(("nouns", "words", "en", "zh"), (5, 2, 1, 1), k=number)
        chosen = [(kind, random.randrange(len(self.texts[kind]))) for kind in kinds]
        target = F.normalize(torch.stack([self.targets[kind][at] for kind, at in chosen]), dim=-1)
        return batches.ids(self.tokenizer, [self.texts[kind][at] for kind, at in chosen]), target

    def words_loss(self) -> tuple[torch.Tensor, dict[str, float]]:
        """Of the words' own epochs."""
        said, target = self.words(2 * BATCH)
        with torch.autocast("cpu", torch.bfloat16):
            pooled = self.model.text(said)[0]
        loss = self.meaning_loss(pooled.float(), target)
        return loss, {"meaning": loss.item()}

    def joint_loss(self, rows: np.ndarray, side: int) -> tuple[torch.Tensor, dict[str, float]]:
        found = [self.learnt[row] for row in rows]
        at = torch.from_numpy(rows)
        pixels = batches.augment(self.pictures[rows], self.mirror[at], side)
        asked = [batches.query(r, random.choice(("en", "zh")), self.names.get(r["caption_en"], ())) for r in found]
        told = found[: len(found) // CAPTIONED]
        marks = ["zh" if record["caption_zh"] and random.random() < 0.5 else "en" for record in told]
        said = [record["caption_" + mark] for record, mark in zip(told, marks, strict=True)]
        caption = batches.ids(self.tokenizer, said, marks)
        loose, meant = self.words(len(found) // 2)
        with torch.autocast("cpu", torch.bfloat16):
            latent, cells = self.model.visual(pixels)
            text = self.model.text(batches.ids(self.tokenizer, asked))[0]
            _, heard = self.model.text(caption)
            logits = self.model.text_decoder(cells[: len(told)], heard[:, :-1])
            loose_pooled = self.model.text(loose)[0]
        caption_loss = F.cross_entropy(
            logits.float().flatten(0, 1), caption[:, 1:].flatten(), ignore_index=tokenizer.PAD, label_smoothing=0.05
        )
        same = self.concept[at][:, None] == self.concept[at][None, :]
        target = F.normalize(self.targets["en"][self.target_of[at]], dim=-1)
        contrast = self._contrast(latent, text, same, target)
        meaning = self.meaning_loss(loose_pooled.float(), meant) + 0.5 * self.meaning_loss(latent.float(), target)
        meaning = meaning + 0.5 * self.meaning_loss(text.float(), target)
        loss = contrast + CAPTION * caption_loss + MEANING * meaning
        return loss, {"contrast": contrast.item(), "caption": caption_loss.item(), "meaning": meaning.item()}

    def _contrast(
        self, latent: torch.Tensor, text: torch.Tensor, same: torch.Tensor, target: torch.Tensor
    ) -> torch.Tensor:
        """Every picture of the concept is right; what means nearly the same (`target`: meanings) is nearly right."""
        scale = self.model.logit_scale.exp().clamp(max=60)
        logits = scale * F.normalize(latent.float(), dim=-1) @ F.normalize(text.float(), dim=-1).T
        wanted = (1 - KIN) * same.float() / same.sum(dim=1, keepdim=True) + KIN * (15 * target @ target.T).softmax(
            dim=1
        )
        return (F.cross_entropy(logits, wanted) + F.cross_entropy(logits.T, wanted)) / 2

    # -- the run ---------------------------------------------------------------------------------

    def run(self) -> None:
        """From the last checkpoint, if there is one, to the end."""
        self.resume()
        started = time.time()
        while self.step < self.total:
            side = model.SIDE if self.epoch >= self.options.epochs - self.options.fine else SMALL
            loss, parts = self.joint_loss(self._rows(), side) if self.joint else self.words_loss()
            self._learn(loss)
            self.step += 1
            self._follow()
            if self.step % 20 == 0:
                rounded = {name: round(value, 3) for name, value in parts.items()}
                print(self.step, self.total, side, rounded, f"{time.time() - started:.0f} s", flush=True)
            if self.step >= self.text_steps and (self.step - self.text_steps) % self.epoch_steps == 0:
                self._end_of_epoch(side, parts, time.time() - started)

    @property
    def joint(self) -> bool:
        """Whether the words' own epochs are over."""
        return self.step >= self.text_steps

    @property
    def epoch(self) -> int:
        """Epochs of pictures that are over."""
        return max(0, self.step - self.text_steps) // self.epoch_steps

    def _rows(self) -> np.ndarray:
        """This step's records; the order of an epoch hangs on its number alone."""
        first = (self.step - self.text_steps) % self.epoch_steps * BATCH
        return np.random.default_rng(self.epoch).permutation(len(self.learnt))[first : first + BATCH]

    def _learn(self, loss: torch.Tensor) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = self.options.rate * self._rate()
        loss.backward()
        nn.utils.clip_grad_norm_([p for group in self.optimizer.param_groups for p in group["params"]], 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def _rate(self) -> float:
        """Warm-up and cosine, for the words alone and then again for everything."""
        first, last = (self.text_steps, self.total) if self.joint else (0, self.text_steps)
        done = (self.step - first) / max(1, last - first)
        warm = min(1.0, (self.step - first + 1) / 150)
        floor = 0.01 if self.joint else 0.3
        return warm * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * done)))

    def _follow(self) -> None:
        keep = min(EMA, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for slow, fast in zip(self.average.state_dict().values(), self.model.state_dict().values(), strict=True):
                if slow.is_floating_point():
                    slow.lerp_(fast, 1 - keep)
                else:
                    slow.copy_(fast)

    def _end_of_epoch(self, side: int, parts: dict[str, float], seconds: float) -> None:
        epoch = self.epoch
        entry: dict[str, Any] = {"epoch": epoch, "step": self.step, "side": side, "seconds": round(seconds), **parts}
        if epoch and (epoch % 4 == 0 or epoch >= self.options.epochs - 3):
            found = measure.recalls(self.average, self.tokenizer, self.unseen, self.unseen_pictures, side)
            entry |= {"unseen_" + name: value for name, value in found.items()}
            found = measure.recalls(self.average, self.tokenizer, self.aside, self.aside_pictures, side)
            entry |= {"style_" + name: value for name, value in found.items() if name.endswith("@1")}
            entry["style_exact"] = measure.exact(self.average, self.tokenizer, self.aside, self.aside_pictures, side)
        self.log.append(entry)
        print(json.dumps({k: round(v, 3) if isinstance(v, float) else v for k, v in entry.items()}), flush=True)
        self.save()

    def save(self) -> None:
        state = {name: getattr(self, name).state_dict() for name in ("model", "meaning", "average", "optimizer")}
        path = self.options.work / model.CHECKPOINT
        torch.save({**state, "step": self.step, "log": self.log}, path.with_suffix(".new"))
        path.with_suffix(".new").replace(path)
        (self.options.work / model.FINAL).unlink(missing_ok=True)  # made from older weights

    def resume(self) -> None:
        path = self.options.work / model.CHECKPOINT
        if path.is_file():
            state = torch.load(path, weights_only=True)
            for name in ("model", "meaning", "average", "optimizer"):
                getattr(self, name).load_state_dict(state[name])
            self.step, self.log = state["step"], state["log"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=70)
    parser.add_argument("--fine", type=int, default=20)
    parser.add_argument("--text-epochs", type=int, default=3)
    parser.add_argument("--rate", type=float, default=RATE)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    random.seed(options.seed)
    torch.manual_seed(options.seed)
    with sdpa_kernel(SDPBackend.MATH):  # the fused kernel's backward pass is slow on short sequences on a CPU
        Trainer(options).run()


if __name__ == "__main__":
    main()
