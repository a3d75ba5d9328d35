"""ProGAN (Karras et al. 2018), grown to its last size: nearest doubling, two 3x3 convolutions a size, pixel norm.

The latent is normalised first, so only its direction counts: prior "sphere" is the honest one. Every convolution sees
its input pixel-normalised, as in the published networks. Raw outputs are meant for [-1, 1] and may leave it.

Config: `latent` (512), `size` (1024), `base` (16384), `maximum` (512): min(base / size, maximum) channels at a size;
`channels` (3), `tanh` (false).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from .equalised import EqualConv2d, leaky, pixel_norm
from .registry import flag, only, power, register_architecture, whole


def width_at(size: int, base: int, maximum: int) -> int:
    """Channels of the maps of this size."""
    return max(1, min(base // size, maximum))


class ProGAN(nn.Module):
    """Latents [B, latent] to raw pictures [B, channels, size, size]; `layers` two a size, from 4x4 on."""

    def __init__(
        self, latent: int = 512, size: int = 1024, base: int = 16384, maximum: int = 512, channels: int = 3,
        tanh: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.latent_dim = latent
        self.image_shape = (channels, size, size)
        self.tanh = tanh
        first = width_at(4, base, maximum)
        layers = [EqualConv2d(latent, first, 4, padding=3), EqualConv2d(first, first, 3, padding=1)]
        inputs = first
        for exponent in range(3, int(math.log2(size)) + 1):
            width = width_at(1 << exponent, base, maximum)
            layers += [EqualConv2d(inputs, width, 3, padding=1), EqualConv2d(width, width, 3, padding=1)]
            inputs = width
        self.layers = nn.ModuleList(layers)
        self.to_rgb = EqualConv2d(inputs, channels, 1, gain=1.0)

    def forward(self, z: Tensor) -> Tensor:
        # twice: the latent is normalised, and so is the input of every convolution; the second changes 1e-8
        x = pixel_norm(z)[:, :, None, None]
        for index, layer in enumerate(self.layers):
            x = pixel_norm(x)
            if index >= 2 and index % 2 == 0:
                x = functional.interpolate(x, scale_factor=2, mode="nearest")
            x = leaky(layer(x))
        x = self.to_rgb(pixel_norm(x))
        return x.tanh() if self.tanh else x


@register_architecture("progan")
def build(config: Mapping[str, Any]) -> ProGAN:
    only(config, "latent", "size", "base", "maximum", "channels", "tanh")
    return ProGAN(
        whole(config, "latent", 512), power(config, "size", 1024), whole(config, "base", 16384, high=1 << 17),
        whole(config, "maximum", 512), whole(config, "channels", 3, 1, 4), flag(config, "tanh"),
    )  # fmt: skip
