"""StyleGAN2 (Karras et al. 2020), configuration F: modulated convolutions and a sum of RGB pictures over all sizes.

Per layer: modulated convolution, noise, bias, LeakyReLU times sqrt 2. Every size adds its own RGB picture to the
doubled sum of the smaller ones. Raw outputs are meant for [-1, 1] and may leave it.

Config: `latent` (512), `style` (512), `mapping` (8 layers), `size` (1024), `base` (32768: channel multiplier 2),
`maximum` (512), `channels` (3). Sampling: `psi`, `cutoff`, `noise_mode`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .equalised import leaky
from .fir import fir_kernel, upfirdn
from .modulated import BLUR, ModulatedConv2d
from .progan import width_at
from .registry import only, power, register_architecture, whole
from .styled import MappingNetwork, StyledGenerator, layer_sizes

ROOT_TWO = math.sqrt(2)


class Layer(nn.Module):
    """Modulated 3x3 convolution, noise, bias, LeakyReLU times sqrt 2."""

    def __init__(self, inputs: int, outputs: int, style: int, doubles: bool) -> None:
        super().__init__()
        self.conv = ModulatedConv2d(inputs, outputs, 3, style, doubles=doubles)
        self.noise_scale = nn.Parameter(torch.zeros(()))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor, w: Tensor, noise: Tensor | None) -> Tensor:
        x = self.conv(x, w)
        if noise is not None:
            x = x + noise * self.noise_scale
        return leaky(x + self.bias[:, None, None]) * ROOT_TWO


class ToRGB(nn.Module):
    """Modulated 1x1 convolution without demodulation, and a bias."""

    def __init__(self, inputs: int, channels: int, style: int) -> None:
        super().__init__()
        self.conv = ModulatedConv2d(inputs, channels, 1, style, demodulate=False)
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        return self.conv(x, w) + self.bias[:, None, None]


class StyleGAN2(StyledGenerator):
    """Latents [B, latent] to raw pictures [B, channels, size, size].

    One layer at 4x4, two at each further size, one `to_rgb` at each: layer i takes style i and map noise_i, the RGB of
    a size takes the style of the layer that follows its last.
    """

    def __init__(
        self, latent: int = 512, style: int = 512, mapping: int = 8, size: int = 1024, base: int = 32768,
        maximum: int = 512, channels: int = 3,
    ) -> None:  # fmt: skip
        sizes = layer_sizes(size)[1:]
        super().__init__(MappingNetwork(latent, style, mapping, 1.0, ROOT_TWO), style, len(sizes) + 1, sizes)
        self.latent_dim = latent
        self.image_shape = (channels, size, size)
        widths = [width_at(at, base, maximum) for at in sizes]
        self.constant = nn.Parameter(torch.randn(1, widths[0], 4, 4))
        self.layers = nn.ModuleList(
            Layer(widths[max(i - 1, 0)], widths[i], style, doubles=i % 2 == 1) for i in range(len(sizes))
        )
        self.to_rgb = nn.ModuleList(ToRGB(width, channels, style) for width in widths[::2])
        self.register_buffer("kernel", 4 * fir_kernel(BLUR), persistent=False)

    def synthesise(self, styles: Sequence[Tensor], noise: Mapping[str, Tensor] | None = None) -> Tensor:
        x = self.constant.expand(len(styles[0]), -1, -1, -1)
        picture: Tensor | None = None
        for index, (layer, values) in enumerate(zip(self.layers, self.maps(noise), strict=True)):
            x = layer(x, styles[index], values)
            if index % 2 == 0:
                rgb = self.to_rgb[index // 2](x, styles[index + 1])
                if picture is not None:
                    rgb = rgb + upfirdn(picture, self.get_buffer("kernel"), up=2, before=2, after=1)
                picture = rgb
        assert picture is not None  # noqa: S101 - there is a layer at 4x4
        return picture


@register_architecture("stylegan2")
def build(config: Mapping[str, Any]) -> StyleGAN2:
    only(config, "latent", "style", "mapping", "size", "base", "maximum", "channels")
    return StyleGAN2(
        whole(config, "latent", 512), whole(config, "style", 512), whole(config, "mapping", 8, 1, 16),
        power(config, "size", 1024), whole(config, "base", 32768, high=1 << 17), whole(config, "maximum", 512),
        whole(config, "channels", 3, 1, 4),
    )  # fmt: skip
