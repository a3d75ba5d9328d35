"""004's two MNIST generators (Appendix A): a DCGAN of three transposed convolutions and Brownlee's of two.

Both take 100 normal numbers to [1, 28, 28]. Constants are those of the two tutorials that the paper names as its
sources: LeakyReLU 0.3 and BatchNorm with Keras' epsilon in the first, LeakyReLU 0.2 in the second, Glorot weights in
both. Raw outputs lie in [-1, 1] ("dcgan-mnist", tanh) and [0, 1] ("brownlee-mnist", sigmoid).

Config: `latent` (100), `width` (64 and 128: channels of the last hidden map).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from .registry import only, register_architecture, whole

KERAS_EPSILON, KERAS_MOMENTUM = 1e-3, 0.01


class MnistGenerator(nn.Module):
    """A flat chain of layers from latents [B, latent] to [B, 1, 28, 28]."""

    image_shape = (1, 28, 28)

    def __init__(self, latent: int, *layers: nn.Module) -> None:
        super().__init__()
        self.latent_dim = latent
        self.main = nn.Sequential(*layers)
        for layer in layers:
            if isinstance(layer, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):
                nn.init.xavier_uniform_(layer.weight)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def forward(self, z: Tensor) -> Tensor:
        return self.main(z)

    def chain(self) -> list[nn.Module]:
        """The layers in order, from latents [B, d]: lets the engine fold BatchNorm and linearise cheaply."""
        return list(self.main)


@register_architecture("dcgan-mnist")
def build_dcgan(config: Mapping[str, Any]) -> MnistGenerator:
    """The DCGAN of 004's reference [75]."""
    only(config, "latent", "width")
    latent, width = whole(config, "latent", 100), whole(config, "width", 64, high=512)

    def norm(channels: int, flat: bool = False) -> nn.Module:
        kind = nn.BatchNorm1d if flat else nn.BatchNorm2d
        return kind(channels, eps=KERAS_EPSILON, momentum=KERAS_MOMENTUM)

    return MnistGenerator(
        latent,
        nn.Linear(latent, 7 * 7 * 4 * width, bias=False), norm(7 * 7 * 4 * width, flat=True), nn.LeakyReLU(0.3),
        nn.Unflatten(1, (4 * width, 7, 7)),
        nn.ConvTranspose2d(4 * width, 2 * width, 5, 1, 2, bias=False), norm(2 * width), nn.LeakyReLU(0.3),
        nn.ConvTranspose2d(2 * width, width, 5, 2, 2, 1, bias=False), norm(width), nn.LeakyReLU(0.3),
        nn.ConvTranspose2d(width, 1, 5, 2, 2, 1, bias=False), nn.Tanh(),
    )  # fmt: skip


@register_architecture("brownlee-mnist")
def build_brownlee(config: Mapping[str, Any]) -> MnistGenerator:
    """The generator of 004's reference [76]."""
    only(config, "latent", "width")
    latent, width = whole(config, "latent", 100), whole(config, "width", 128, high=512)
    return MnistGenerator(
        latent,
        nn.Linear(latent, 7 * 7 * width), nn.LeakyReLU(0.2), nn.Unflatten(1, (width, 7, 7)),
        nn.ConvTranspose2d(width, width, 4, 2, 1), nn.LeakyReLU(0.2),
        nn.ConvTranspose2d(width, width, 4, 2, 1), nn.LeakyReLU(0.2),
        nn.Conv2d(width, 1, 7, padding=3), nn.Sigmoid(),
    )  # fmt: skip
