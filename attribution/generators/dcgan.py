"""DCGAN-64 (Radford et al. 2015): a projection to 4x4 and four stride-2 transposed convolutions, BatchNorm, ReLU, tanh.

Config: `latent` (100), `width` (64: channels before the last layer), `channels` (3). Parameter names are those of one
flat sequence `main`, as most published checkpoints have them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from .registry import only, register_architecture, whole


class DCGAN64(nn.Module):
    """Latents [B, latent] to raw pictures [B, channels, 64, 64] in [-1, 1]."""

    def __init__(self, latent: int = 100, width: int = 64, channels: int = 3) -> None:
        super().__init__()
        self.latent_dim = latent
        self.image_shape = (channels, 64, 64)
        layers: list[nn.Module] = []
        inputs = latent
        for depth, factor in enumerate((8, 4, 2, 1)):
            stride, padding = (1, 0) if depth == 0 else (2, 1)
            layers += [
                nn.ConvTranspose2d(inputs, width * factor, 4, stride, padding, bias=False),
                nn.BatchNorm2d(width * factor),
                nn.ReLU(),
            ]
            inputs = width * factor
        layers += [nn.ConvTranspose2d(inputs, channels, 4, 2, 1, bias=False), nn.Tanh()]
        self.main = nn.Sequential(*layers)

    def forward(self, z: Tensor) -> Tensor:
        return self.main(z[:, :, None, None])

    def chain(self) -> list[nn.Module]:
        """The layers in order, from latents [B, d]: lets the engine fold BatchNorm and linearise cheaply."""
        return [nn.Unflatten(1, (self.latent_dim, 1, 1)), *self.main]


@register_architecture("dcgan-64")
def build(config: Mapping[str, Any]) -> DCGAN64:
    only(config, "latent", "width", "channels")
    return DCGAN64(
        whole(config, "latent", 100), whole(config, "width", 64, high=512), whole(config, "channels", 3, 1, 4)
    )
