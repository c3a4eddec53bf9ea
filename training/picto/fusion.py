"""Trains the fusion head on the frozen towers, with the towers' own mistakes as negatives.

    python -m training.picto.fusion --data DATA --work WORK --out assets/weights/picto-fusion

For every text the towers' nearest wrong pictures of a pool are the negatives, and the other way round (hard negatives
as in ALBEF). The towers hardly err on what they know and err differently on what they do not: so a part of every pool
is concepts that only OpenMoji has (CC BY-SA 4.0, the licence of the head's weights therefore), which the towers never
saw. Pictures are augmented anew for every round. The round to keep is chosen on concepts that only the Tux Paint stamps
have: nothing learns from those.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast

from pipelines.nets.fusion import FusionHead
from training.picto import batches, model, records
from training.picto.tokenizer import PAD

POOL = 1024  # pictures among which the towers look for mistakes
HARD = 5  # wrong pictures a text, and wrong texts a picture
GROUP = 24  # texts of a step
DEPTH = 20  # what is re-ranked when measured
CHUNK = 1000  # pairs judged at once when measured
STRANGE = "CC-BY-SA-4.0"
SHARES = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0)
RATE = 5e-4


class Features:
    """Both towers' features of some records: words [n, L, w], mask, text rows; cells [n, c, w], picture rows."""

    @torch.inference_mode()
    def __init__(self, coca: nn.Module, tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], pixels: torch.Tensor):
        said = batches.ids(tokenizer, texts)
        self.mask = said != PAD
        found = [coca._encode_text(said[i : i + 256]) for i in range(0, len(said), 256)]
        self.text, self.words = (torch.cat(rows) for rows in zip(*found, strict=True))
        found = [coca._encode_image(pixels[i : i + 128]) for i in range(0, len(pixels), 128)]
        self.picture, self.cells = (torch.cat(rows) for rows in zip(*found, strict=True))

    def pair(self, texts: torch.Tensor, pictures: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """The head's arguments for the pairs (texts[i], pictures[i])."""
        cosine = (self.text[texts] * self.picture[pictures]).sum(dim=-1)
        return self.words[texts], self.mask[texts], self.cells[pictures], cosine


def pool(
    coca: nn.Module, tokenizer: PreTrainedTokenizerFast, learnt: Sequence[records.Record], pictures: np.ndarray
) -> tuple[Features, torch.Tensor]:
    """Freshly drawn pictures and texts of some records, and which of them are of one concept [POOL, POOL]."""
    strange = [at for at, record in enumerate(learnt) if record["licence"] == STRANGE]
    known = [at for at, record in enumerate(learnt) if record["licence"] != STRANGE]
    rows = np.array(random.sample(strange, min(len(strange), POOL // 2)))
    rows = np.concatenate([rows, random.sample(known, POOL - len(rows))])
    found = [learnt[row] for row in rows]
    mirror = torch.tensor([batches.may_mirror(record) for record in found])
    pixels = batches.augment(pictures[rows], mirror, model.SIDE)
    texts = [batches.query(record, random.choice(("en", "zh"))) for record in found]
    names = {name: at for at, name in enumerate(sorted({record["concept"] for record in found}))}
    concept = torch.tensor([names[record["concept"]] for record in found])
    return Features(coca, tokenizer, texts, pixels), concept[:, None] == concept[None, :]


def step(
    head: FusionHead, seen: Features, nearest: tuple[torch.Tensor, torch.Tensor], rows: torch.Tensor
) -> torch.Tensor:
    """The right one told from HARD wrong ones, for texts and for pictures, and every pair judged by itself."""
    losses = []
    for side, near in enumerate(nearest):
        drawn = near[rows].gather(1, torch.rand(len(rows), near.shape[1]).topk(HARD, dim=1).indices)
        candidates = torch.cat([rows[:, None], drawn], dim=1).flatten()
        anchors = rows.repeat_interleave(1 + HARD)
        pair = (anchors, candidates) if side == 0 else (candidates, anchors)
        with torch.autocast("cpu", torch.bfloat16):
            logits = head(*seen.pair(*pair)).float().view(len(rows), 1 + HARD)
        truth = torch.zeros_like(logits)
        truth[:, 0] = 1
        losses.append(F.cross_entropy(logits, torch.zeros(len(rows), dtype=torch.long)))
        losses.append(0.3 * F.binary_cross_entropy_with_logits(logits, truth))
    return torch.stack(losses).sum()


def mistakes(seen: Features, same: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The DEPTH nearest wrong pictures of every text, and wrong texts of every picture."""
    scores = (seen.text @ seen.picture.T).masked_fill(same, -2)
    return scores.topk(DEPTH, dim=1).indices, scores.T.topk(DEPTH, dim=1).indices


@torch.inference_mode()
def measure(head: FusionHead, seen: Features, right: torch.Tensor) -> tuple[float, float]:
    """R@1 from text to picture by the cosine, and after the head has re-ranked the first DEPTH."""
    head.eval()
    near = (seen.text @ seen.picture.T).topk(DEPTH, dim=1).indices
    texts = torch.arange(len(near)).repeat_interleave(DEPTH)
    pairs = zip(texts.split(CHUNK), near.flatten().split(CHUNK), strict=True)
    judged = torch.cat([head(*seen.pair(*pair)) for pair in pairs]).view_as(near)
    best = near.gather(1, judged.argmax(dim=1, keepdim=True))
    head.train()
    return tuple(right.gather(1, found).float().mean().item() for found in (near[:, :1], best))  # type: ignore[return-value]


def gauge(
    coca: nn.Module,
    tokenizer: PreTrainedTokenizerFast,
    found: Sequence[records.Record],
    pictures: np.ndarray,
    language: str,
) -> tuple[Features, torch.Tensor]:
    """Every distinct caption against every picture, and which are right [texts, pictures]."""
    said = [(record["caption_" + language] or "").lower() for record in found]
    texts = sorted({text for text in said if text})
    seen = Features(coca, tokenizer, texts, batches.plain(pictures, model.SIDE))
    return seen, torch.tensor([[text == own for own in said] for text in texts])


def run(options: argparse.Namespace) -> None:
    everything = records.read(options.data / "train.jsonl")
    learnt, _ = records.split_styles(records.permissive(everything))
    known = {record["concept"] for record in records.permissive(everything)}
    others = [record for record in everything if record["concept"] not in known]
    learnt += [record for record in others if record["licence"] == STRANGE]
    others = [record for record in others if record["licence"] != STRANGE]
    coca, tokenizer = model.trained(options.work)
    pictures = records.pictures(options.data, learnt)
    gauges = [gauge(coca, tokenizer, others, records.pictures(options.data, others), k) for k in ("en", "zh")]
    unseen = records.read(options.data / "val.jsonl")
    finals = [gauge(coca, tokenizer, unseen, records.pictures(options.data, unseen), k) for k in ("en", "zh")]

    config = {"width": model.WIDTH, "heads": 4, "layers": 2}
    head = FusionHead(**config, dropout=0.1)
    optimizer = torch.optim.AdamW(head.parameters(), lr=RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, options.rounds * (POOL // GROUP), pct_start=0.1)
    best = -1.0
    for number in range(options.rounds):
        seen, same = pool(coca, tokenizer, learnt, pictures)
        nearest = mistakes(seen, same)
        for rows in torch.randperm(POOL)[: POOL // GROUP * GROUP].view(-1, GROUP):
            loss = step(head, seen, nearest, rows)
            loss.backward()
            nn.utils.clip_grad_norm_(head.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            schedule.step()
        found = [measure(head, *each) for each in gauges]
        print(number, f"loss {loss.item():.3f}", "chosen by", np.round(found, 3).tolist(), flush=True)
        gain = float(np.mean([after - before for before, after in found]))
        if gain > best:
            best = gain
            ship(head, config, options.out)
    head.load_state_dict(load_file(options.out / "model.safetensors"))
    temper(head, gauges)
    ship(head, config, options.out)
    print("val before, after:", np.round([measure(head, *each) for each in finals], 3).tolist())


@torch.no_grad()
def temper(head: FusionHead, gauges: Sequence[tuple[Features, torch.Tensor]]) -> None:
    """How much the joint reading counts beside the cosine: the share that ranks best where nothing was learnt from."""
    weight, bias = head.match.weight.clone(), head.match.bias.clone()

    def ranked(share: float) -> float:
        head.match.weight.copy_(share * weight)
        head.match.bias.copy_(share * bias)
        return float(np.mean([measure(head, *each)[1] for each in gauges]))

    best = max(SHARES, key=ranked)
    print("share of the joint reading:", best, f"{ranked(best):.3f}")


def ship(head: FusionHead, config: dict[str, int], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"network": config}, indent=2) + "\n", encoding="utf-8")
    state = {name: value.half().contiguous() for name, value in head.state_dict().items()}
    save_file(state, folder / "model.safetensors")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args()
    random.seed(0)
    torch.manual_seed(0)
    run(options)


if __name__ == "__main__":
    main()
