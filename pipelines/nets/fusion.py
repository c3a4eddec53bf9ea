"""The single tower of picto-coca: reads the words and the picture's cells together and says how well they match.

The fusion encoder of ALBEF (Li et al. 2021, "Align before Fuse") at small size, over the features of the two towers:
every word looks at the other words and at every cell; the cosine of the two towers enters as one more feature.
"""

from __future__ import annotations

import torch
from torch import nn


class FusionHead(nn.Module):
    """Pairs -> one matching logit each; its sigmoid is the probability that the words belong to the picture."""

    def __init__(self, width: int = 256, heads: int = 4, layers: int = 2, dropout: float = 0.0) -> None:
        super().__init__()
        self.words_in, self.cells_in = nn.LayerNorm(width), nn.LayerNorm(width)
        layer = nn.TransformerDecoderLayer(width, heads, 2 * width, dropout, "gelu", batch_first=True, norm_first=True)
        self.joint = nn.TransformerDecoder(layer, layers, norm=nn.LayerNorm(width))
        self.match = nn.Linear(width, 1)
        self.scale = nn.Parameter(torch.tensor(10.0))  # of the cosine

    def forward(
        self, words: torch.Tensor, mask: torch.Tensor, cells: torch.Tensor, cosine: torch.Tensor
    ) -> torch.Tensor:
        """`words` [n, length, width] with `mask` [n, length] (True: a real token), `cells` [n, cells, width] and
        `cosine` [n] of the pair's embeddings -> logits [n].
        """
        read = self.joint(self.words_in(words), self.cells_in(cells), tgt_key_padding_mask=~mask)
        kept = mask.unsqueeze(-1).to(read.dtype)
        pooled = (read * kept).sum(dim=1) / kept.sum(dim=1).clamp_min(1)
        return self.match(pooled).squeeze(-1) + self.scale * cosine
