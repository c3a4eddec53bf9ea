"""The picture tower of picto-coca: a small residual network whose last map is read by two transformer blocks.

timm creates it by the name in the model's config, so that open_clip builds the whole CoCa itself (its own vision
transformer needs more pictures than a starter model has). Residual blocks after He et al. 2016 ("Deep Residual
Learning"), with the stem and the average-pooled shortcut of He et al. 2019 ("Bag of Tricks", ResNet-D).
"""

from __future__ import annotations

from typing import Any

import torch
from timm.models import register_model
from torch import nn

WIDTHS = (64, 128, 256)  # of the three stages, at 1/4, 1/8 and 1/16 of the picture's side
BLOCKS = (2, 3, 3)
HEADS = 4


class Residual(nn.Module):
    """Two 3x3 convolutions and a shortcut: [n, inside, h, w] -> [n, outside, h / stride, w / stride]."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inside, outside, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outside),
            nn.ReLU(inplace=True),
            nn.Conv2d(outside, outside, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outside),
        )
        pool = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
        fit = nn.Conv2d(inside, outside, 1, bias=False) if inside != outside else nn.Identity()
        self.shortcut = nn.Sequential(pool, fit)
        nn.init.zeros_(self.body[4].weight)  # each block begins as its shortcut

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.body(x) + self.shortcut(x))


class PictoTower(nn.Module):
    """Pixels [n, 3, s, s] -> (pooled [n, embed_dim], tokens [n, (s / 16)^2, embed_dim]), the tokens row by row.

    Any side that 16 divides will do: nothing in it depends on the number of cells.
    """

    def __init__(self, embed_dim: int = 256, drop_path: float = 0.0) -> None:
        super().__init__()
        stem = (3, 32, WIDTHS[0])
        layers: list[nn.Module] = []
        for inside, outside in zip(stem, stem[1:], strict=False):
            layers += [nn.Conv2d(inside, outside, 3, 2, 1, bias=False), nn.BatchNorm2d(outside), nn.ReLU(inplace=True)]
        inside = WIDTHS[0]
        for stage, (width, blocks) in enumerate(zip(WIDTHS, BLOCKS, strict=True)):
            for block in range(blocks):
                layers.append(Residual(inside, width, 2 if stage and not block else 1))
                inside = width
        self.cells = nn.Sequential(*layers)
        self.mixer = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(inside, HEADS, 4 * inside, drop_path, "gelu", batch_first=True, norm_first=True),
            num_layers=2,
            norm=nn.LayerNorm(inside),
            enable_nested_tensor=False,
        )
        self.tokens = nn.Linear(inside, embed_dim)
        self.pooled = nn.Linear(inside, embed_dim, bias=False)
        self.num_features = embed_dim

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        cells = self.mixer(self.cells(x).flatten(2).transpose(1, 2))
        return self.pooled(cells.mean(dim=1)), self.tokens(cells)


@register_model
def picto_conv(pretrained: bool = False, num_classes: int = 256, **_: Any) -> PictoTower:
    """timm's entry point; `num_classes` is what open_clip calls the embedding's width."""
    return PictoTower(num_classes)
