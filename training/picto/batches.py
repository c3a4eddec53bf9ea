"""Training batches: pictures at random angles, sizes and colours, and one of a record's texts."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast

from training.picto.records import Record
from training.picto.tokenizer import CONTEXT, MARK, PAD

Say = Callable[[Record, str], str]  # a record and a language -> the caption wanted

TURNING = ("left", "right", "clockwise", "arrow", "flag", "button", "sign", "letter", "keycap", "map", "symbol")
PHRASED, PHRASES = (
    0.35,
    ("a {}", "an {}", "the {}", "a picture of {}", "a drawing of a {}", "{} symbol", "a photo of a {}"),
)
MIRRORED = {"animals-nature", "food-drink", "smileys-emotion", "animals", "food", "plants"}


def augment(pictures: np.ndarray, mirror: torch.Tensor, side: int) -> torch.Tensor:
    """uint8 [n, 128, 128, 3] -> float32 [n, 3, side, side] in [-1, 1]; `mirror` bool [n]: may be flipped."""
    x = torch.from_numpy(pictures).permute(0, 3, 1, 2).float().div_(255)
    n = len(x)
    x = _paper(x)
    x = F.grid_sample(x, _frames(n, mirror, side), mode="bilinear", padding_mode="border", align_corners=False)
    x = _ink(_colours(x))
    return _erase(x).sub_(0.5).div_(0.5).contiguous(memory_format=torch.channels_last)


def plain(pictures: np.ndarray, side: int) -> torch.Tensor:
    """The same without any change, as when the model is used."""
    x = torch.from_numpy(pictures).permute(0, 3, 1, 2).float().div_(255)
    x = F.interpolate(x, (side, side), mode="bicubic", antialias=True, align_corners=False).clamp_(0, 1)
    return x.sub_(0.5).div_(0.5).contiguous(memory_format=torch.channels_last)


def may_mirror(record: Record) -> bool:
    return record["category"] in MIRRORED and not any(word in record["caption_en"].lower() for word in TURNING)


def caption(record: Record, language: str) -> str:
    """What the captioner learns to say."""
    return record["caption_" + language]


def query(record: Record, language: str, names: Sequence[str] = ()) -> str:
    """What one may search with: the caption, another of its `names` (English), some keywords, or caption and keywords;
    English where there is no Chinese, and English now and then as a phrase.
    """
    language = language if record["caption_" + language] else "en"
    text = _query(record["caption_" + language], record["keywords_" + language], language, names)
    if language == "en" and random.random() < PHRASED:
        return random.choice(PHRASES).format(text)
    return text


def _query(caption: str, keywords: Sequence[str], language: str, names: Sequence[str]) -> str:
    chance = random.random()
    if chance < 0.12 and names and language == "en":
        return random.choice(names)
    if chance < 0.6 or not keywords:
        return caption
    some = random.sample(keywords, random.randint(1, min(2, len(keywords))))
    glue = "、" if language == "zh" else ", "
    return glue.join(([caption] if chance < 0.8 else []) + some)


def ids(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str], marks: Sequence[str] | None = None) -> torch.Tensor:
    """int64 [n, CONTEXT]; with `marks` (languages) the mark follows the start, and rows are as long as the longest.

    open_clip's text tower reads its pooled vector after the padding, at a place of its own: texts that are pooled must
    always be padded alike. Captions are not pooled.
    """
    rows = tokenizer(list(texts), truncation=True, max_length=CONTEXT - bool(marks))["input_ids"]
    if marks:
        rows = [[row[0], MARK[mark], *row[1:]] for row, mark in zip(rows, marks, strict=True)]
    out = torch.full((len(rows), max(map(len, rows)) if marks else CONTEXT), PAD)
    for at, row in enumerate(rows):
        out[at, : len(row)] = torch.tensor(row)
    return out


def _paper(x: torch.Tensor) -> torch.Tensor:
    """White ground becomes a light colour in three pictures of ten."""
    ground = (x.amin(dim=1, keepdim=True) - 0.9).clamp_(0).mul_(10)
    colour = 0.6 + 0.4 * torch.rand(len(x), 3, 1, 1)
    chosen = (torch.rand(len(x), 1, 1, 1) < 0.3).float() * ground
    return x * (1 - chosen) + colour * chosen


def _frames(n: int, mirror: torch.Tensor, side: int) -> torch.Tensor:
    angle = (torch.rand(n) - 0.5) * (torch.rand(n) < 0.7).float() * 0.5  # radians: up to 14 degrees either way
    size = 0.85 + 0.4 * torch.rand(n)
    wide, high = size * (0.9 + 0.2 * torch.rand(n)), size * (0.9 + 0.2 * torch.rand(n))
    wide = torch.where(mirror & (torch.rand(n) < 0.5), -wide, wide)
    shift = (torch.rand(2, n) - 0.5) * 0.25
    cos, sin = angle.cos(), angle.sin()
    theta = torch.stack([torch.stack([cos * wide, -sin * high, shift[0]], 1),
                         torch.stack([sin * wide, cos * high, shift[1]], 1)], 1)  # fmt: skip
    return F.affine_grid(theta, [n, 3, side, side], align_corners=False)


def _colours(x: torch.Tensor) -> torch.Tensor:
    n = len(x)
    grey = x.mean(dim=1, keepdim=True)
    strength = torch.where(torch.rand(n) < 0.08, 0.0, 0.6 + 0.8 * torch.rand(n)).view(n, 1, 1, 1)
    x = grey + (x - grey) * strength
    x = (x - 0.5) * (0.75 + 0.5 * torch.rand(n, 1, 1, 1)) + 0.5 + (torch.rand(n, 1, 1, 1) - 0.5) * 0.25
    return (x + (torch.rand(n, 3, 1, 1) - 0.5) * 0.16).clamp_(0, 1)


def _ink(x: torch.Tensor) -> torch.Tensor:
    """One picture in six gets black outlines, one in eight becomes line art: styles that no permissive source has."""
    padded = F.pad(F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1), (1, 1, 1, 1), mode="replicate")
    across = (padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2]).abs().amax(dim=1, keepdim=True)
    down = (padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]).abs().amax(dim=1, keepdim=True)
    lines = (5 * torch.maximum(across, down) - 0.35).clamp_(0, 1)
    chance = torch.rand(len(x), 1, 1, 1)
    x = torch.where(chance < 1 / 8, 1 - lines, x)
    return torch.where((chance > 1 / 8) & (chance < 1 / 8 + 1 / 6), x * (1 - lines), x)


def _erase(x: torch.Tensor) -> torch.Tensor:
    side = x.shape[-1]
    for at in torch.nonzero(torch.rand(len(x)) < 0.25).flatten().tolist():
        high, wide = random.randint(side // 8, side // 3), random.randint(side // 8, side // 3)
        top, left = random.randrange(side - high), random.randrange(side - wide)
        x[at, :, top : top + high, left : left + wide] = torch.rand(3, 1, 1)
    return x
