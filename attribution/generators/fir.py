"""Small fixed filters: blur after a doubling, doubling by zeros and a filter.

A separable kernel is the outer product of its taps, normalised to sum 1. `upfirdn` inserts zeros, pads and convolves,
in that order. Source: Karras et al. (2019) for [1, 2, 1]; (2020), Appendix B, for [1, 3, 3, 1].
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional


def fir_kernel(taps: Sequence[float]) -> Tensor:
    """float32 [k, k]: the outer product of the taps, sum 1."""
    line = torch.tensor(taps, dtype=torch.float32)
    kernel = torch.outer(line, line)
    return kernel / kernel.sum()


def upfirdn(x: Tensor, kernel: Tensor, up: int = 1, before: int = 0, after: int = 0) -> Tensor:
    """[B, C, H, W] with `up` - 1 zeros after every sample, padded on both axes, convolved channel by channel."""
    batch, channels, height, width = x.shape
    if up > 1:
        x = functional.pad(x.reshape(batch, channels, height, 1, width, 1), (0, up - 1, 0, 0, 0, up - 1))
        x = x.reshape(batch, channels, height * up, width * up)
    x = functional.pad(x, (before, after, before, after))
    weight = kernel.to(x).flip(0, 1)[None, None].expand(channels, 1, -1, -1)
    return functional.conv2d(x, weight, groups=channels)
