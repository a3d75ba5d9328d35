"""A fully connected decoder: sigmoid or ReLU layers and a sigmoid picture, as in 000's auto-encoder pairs.

Config: `latent`, `hidden` (list of widths), `height`, `width`, `channels`, `activation` ("relu" or "sigmoid"). Raw
outputs lie in [0, 1].
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from ...schemas.errors import EvidenceError
from .registry import only, register_architecture, whole

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "sigmoid": nn.Sigmoid}


class MLPDecoder(nn.Module):
    """Latents [B, latent] to raw pictures [B, C, H, W] in [0, 1]."""

    def __init__(
        self, latent: int, hidden: Sequence[int], image_shape: tuple[int, int, int], activation: str = "relu"
    ) -> None:
        super().__init__()
        self.latent_dim = latent
        self.image_shape = image_shape
        channels, height, width = image_shape
        layers: list[nn.Module] = []
        sizes = [latent, *hidden]
        for inputs, outputs in itertools.pairwise(sizes):
            layers += [nn.Linear(inputs, outputs), ACTIVATIONS[activation]()]
        layers += [nn.Linear(sizes[-1], channels * height * width), nn.Sigmoid(), nn.Unflatten(1, image_shape)]
        self.main = nn.Sequential(*layers)

    def forward(self, z: Tensor) -> Tensor:
        return self.main(z)

    def chain(self) -> list[nn.Module]:
        """The layers in order, from latents [B, d]: lets the engine linearise cheaply."""
        return list(self.main)


@register_architecture("mlp-decoder")
def build(config: Mapping[str, Any]) -> MLPDecoder:
    only(config, "latent", "hidden", "height", "width", "channels", "activation")
    hidden = config.get("hidden", [64])
    activation = config.get("activation", "relu")
    if not isinstance(hidden, list) or len(hidden) > 16:
        raise EvidenceError("config 'hidden' must be a list of at most 16 layer widths")
    if activation not in ACTIVATIONS:
        raise EvidenceError(f"config 'activation' must be one of {', '.join(ACTIVATIONS)}")
    widths = [whole({"hidden": width}, "hidden", 64) for width in hidden]
    shape = (whole(config, "channels", 3, 1, 4), whole(config, "height", 16), whole(config, "width", 16))
    return MLPDecoder(whole(config, "latent", 8), widths, shape, str(activation))
