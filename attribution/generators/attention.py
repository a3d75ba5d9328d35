"""Self-attention over the positions of a map: each looks at a 2x2-pooled copy of all.

    out = x + gamma project(softmax(query(x)^T key(x)) value(x)),  keys and values max-pooled by 2

Channels C -> C/8 for queries and keys, C/2 for values, 1x1 convolutions without bias. Source: Zhang et al. (2019),
SAGAN, section 3, in the pooled form that its authors' own code and all later ones have.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class SelfAttention(nn.Module):
    """[B, C, H, W] to the same; C a multiple of 8, H and W even."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query = nn.Conv2d(channels, channels // 8, 1, bias=False)
        self.key = nn.Conv2d(channels, channels // 8, 1, bias=False)
        self.value = nn.Conv2d(channels, channels // 2, 1, bias=False)
        self.project = nn.Conv2d(channels // 2, channels, 1, bias=False)
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        batch, _, height, width = x.shape
        query = self.query(x).flatten(2)
        key = functional.max_pool2d(self.key(x), 2).flatten(2)
        value = functional.max_pool2d(self.value(x), 2).flatten(2)
        weights = torch.einsum("bcq,bck->bqk", query, key).softmax(-1)
        seen = torch.einsum("bck,bqk->bcq", value, weights).reshape(batch, -1, height, width)
        return x + self.gamma * self.project(seen)
