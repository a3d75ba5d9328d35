"""Modulated convolution with demodulation, StyleGAN2's replacement of AdaIN.

    weight of a picture: w'[o, i, k] = s_i w[o, i, k],  w''[o, i, k] = w'[o, i, k] / sqrt(sum over i, k of w'^2 + 1e-8)

The style s scales input channels, so the same result is computed with one shared convolution: the input is scaled
before it and the output divided after it. Doubling is a transposed convolution of stride 2 and the filter [1, 3, 3, 1].
Source: Karras et al. (2020), section 2.2, equations 1 to 3, and Appendix B.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from .equalised import EPSILON, EqualLinear
from .fir import fir_kernel, upfirdn

BLUR = (1, 3, 3, 1)


class ModulatedConv2d(nn.Module):
    """[B, inputs, H, W] and a style [B, style] to [B, outputs, H, W], or twice the size; odd kernel."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, style: int, demodulate: bool = True, doubles: bool = False
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel, kernel))
        self.style = EqualLinear(style, inputs, bias=1.0)
        self.scale = 1 / math.sqrt(inputs * kernel * kernel)
        self.demodulate, self.doubles = demodulate, doubles
        self.padding = kernel // 2
        if doubles:
            # a doubling by zeros spreads each sample over four: the filter sums to 4
            self.register_buffer("kernel", 4 * fir_kernel(BLUR), persistent=False)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        style = self.style(w)
        weight = self.weight * self.scale
        x = x * style[:, :, None, None]
        if self.doubles:
            x = functional.conv_transpose2d(x, weight.transpose(0, 1), stride=2)
            x = upfirdn(x, self.get_buffer("kernel"), before=1, after=1)
        else:
            x = functional.conv2d(x, weight, padding=self.padding)
        if self.demodulate:
            energy = weight.square().sum((2, 3))  # [outputs, inputs]
            x = x * (functional.linear(style.square(), energy) + EPSILON).rsqrt()[:, :, None, None]
        return x
