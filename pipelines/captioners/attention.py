"""Where in the picture a CoCa's decoder looks while it writes each word. Knows no search and no words."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from math import isqrt
from typing import Any

import torch
from torch import nn


def side(model: Any, tokens: int) -> int:
    """Cells along one side of the picture's map, or 0 where the picture's tokens have no place on it.

    An attentional pooler asks learnt questions of the whole picture: what it answers lies nowhere in particular.
    """
    pooled = getattr(model.visual, "attn_pool", None) is not None
    square = isqrt(tokens) ** 2 == tokens and tokens > 1
    return isqrt(tokens) if square and not pooled else 0


@torch.inference_mode()
def maps(model: Any, patches: torch.Tensor, ids: torch.Tensor, first: int) -> torch.Tensor:
    """Attention of the tokens of `ids` [length] from number `first` on: [length - first, cells], each row's sum 1.

    `patches` [1, cells, width] are the picture's tokens. Mean over the heads of the last layer, read at the position
    that the token was predicted from, which is the one before it.
    """
    with _watched(model.text_decoder.cross_attn[-1].attn) as seen:
        model.text_decoder(patches, model._encode_text(ids.unsqueeze(0))[1])
    return seen[0][0, first - 1 : -1].float().cpu()


@contextmanager
def _watched(attention: nn.MultiheadAttention) -> Iterator[list[torch.Tensor]]:
    """Weights [rows, queries, keys] of every call; open_clip asks for none. The model must be leased to us alone."""
    seen: list[torch.Tensor] = []

    def ask(_: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return args, {**kwargs, "need_weights": True, "average_attn_weights": True}

    def take(_: nn.Module, args: Any, output: tuple[torch.Tensor, torch.Tensor]) -> None:
        seen.append(output[1])

    hooks = (
        attention.register_forward_pre_hook(ask, with_kwargs=True),
        attention.register_forward_hook(take),
    )
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()
