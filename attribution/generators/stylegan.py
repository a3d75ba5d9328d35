"""StyleGAN (Karras et al. 2019): a constant 4x4 start, noise, and AdaIN after every convolution.

Per layer: double (nearest) and blur [1, 2, 1] where the size doubles, 3x3 convolution, noise, bias, LeakyReLU, instance
norm, then scale + 1 and shift from the layer's style. Raw outputs are meant for [-1, 1] and may leave it.

Config: `latent` (512), `style` (512), `mapping` (8 layers), `size` (1024), `base` (16384), `maximum` (512): channels as
in `progan`; `channels` (3). Sampling: `psi`, `cutoff`, `noise_mode`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from .equalised import EPSILON, EqualConv2d, EqualLinear, leaky
from .fir import fir_kernel, upfirdn
from .progan import width_at
from .registry import only, power, register_architecture, whole
from .styled import MappingNetwork, StyledGenerator, layer_sizes

BLUR = (1, 2, 1)


def instance_norm(x: Tensor) -> Tensor:
    """Every map of every picture with mean 0 and mean square 1."""
    x = x - x.mean((2, 3), keepdim=True)
    return x * (x.square().mean((2, 3), keepdim=True) + EPSILON).rsqrt()


class AdaIN(nn.Module):
    """Instance norm, then x (scale + 1) + shift, both affine in the style [B, style]."""

    def __init__(self, style: int, channels: int) -> None:
        super().__init__()
        self.style = EqualLinear(style, 2 * channels)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        scale, shift = self.style(w)[:, :, None, None].chunk(2, 1)
        return instance_norm(x) * (scale + 1) + shift


class Layer(nn.Module):
    """A convolution (none in the first layer), noise, bias, LeakyReLU and AdaIN."""

    def __init__(self, inputs: int, outputs: int, style: int, doubles: bool, first: bool) -> None:
        super().__init__()
        self.conv = None if first else EqualConv2d(inputs, outputs, 3, padding=1, bias=False)
        self.doubles = doubles
        self.noise_scale = nn.Parameter(torch.zeros(outputs))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.adain = AdaIN(style, outputs)
        self.register_buffer("kernel", fir_kernel(BLUR), persistent=False)

    def forward(self, x: Tensor, w: Tensor, noise: Tensor | None) -> Tensor:
        if self.doubles:
            x = functional.interpolate(x, scale_factor=2, mode="nearest")
        if self.conv is not None:
            x = self.conv(x)
        if self.doubles:
            x = upfirdn(x, self.get_buffer("kernel"), before=1, after=1)
        if noise is not None:
            x = x + noise * self.noise_scale[:, None, None]
        return self.adain(leaky(x + self.bias[:, None, None]), w)


class StyleGAN(StyledGenerator):
    """Latents [B, latent] to raw pictures [B, channels, size, size]; layer i takes style i and map noise_i."""

    def __init__(
        self, latent: int = 512, style: int = 512, mapping: int = 8, size: int = 1024, base: int = 16384,
        maximum: int = 512, channels: int = 3,
    ) -> None:  # fmt: skip
        sizes = layer_sizes(size)
        super().__init__(MappingNetwork(latent, style, mapping, math.sqrt(2), 1.0), style, len(sizes), sizes)
        self.latent_dim = latent
        self.image_shape = (channels, size, size)
        widths = [width_at(at, base, maximum) for at in sizes]
        self.constant = nn.Parameter(torch.ones(1, widths[0], 4, 4))
        self.layers = nn.ModuleList(
            Layer(widths[max(i - 1, 0)], widths[i], style, doubles=i > 0 and i % 2 == 0, first=i == 0)
            for i in range(len(sizes))
        )
        self.to_rgb = EqualConv2d(widths[-1], channels, 1, gain=1.0)

    def synthesise(self, styles: Sequence[Tensor], noise: Mapping[str, Tensor] | None = None) -> Tensor:
        x = self.constant.expand(len(styles[0]), -1, -1, -1)
        for layer, w, values in zip(self.layers, styles, self.maps(noise), strict=True):
            x = layer(x, w, values)
        return self.to_rgb(x)


@register_architecture("stylegan")
def build(config: Mapping[str, Any]) -> StyleGAN:
    only(config, "latent", "style", "mapping", "size", "base", "maximum", "channels")
    return StyleGAN(
        whole(config, "latent", 512), whole(config, "style", 512), whole(config, "mapping", 8, 1, 16),
        power(config, "size", 1024), whole(config, "base", 16384, high=1 << 17), whole(config, "maximum", 512),
        whole(config, "channels", 3, 1, 4),
    )  # fmt: skip
