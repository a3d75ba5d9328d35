"""The residual generators of SNGAN and SAGAN: pre-activation blocks that double the map, SAGAN's with self-attention.

Plain weights: spectral normalisation, where a network was trained with it, is folded (`spectral`). Config: `latent`
(128), `widths` (channels at each size: [1024, 1024, 512, 256, 128, 64] make 128x128 from 4x4), `bottom` (4, the first
size), `channels` (3), `upsample` ("bilinear" or "nearest"), and for "sagan-resnet" `attention` (3: after which block).
Source: Miyato et al. (2018), Tables 4 and 5; Zhang et al. (2019); 000 section V takes both at 128x128.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, cast

from torch import Tensor, nn
from torch.nn import functional

from ...schemas.errors import EvidenceError
from .attention import SelfAttention
from .registry import only, register_architecture, whole

UPSAMPLING = ("bilinear", "nearest")
WIDTHS = (1024, 1024, 512, 256, 128, 64)


def doubled(x: Tensor, mode: str) -> Tensor:
    """Twice the height and width."""
    if mode == "nearest":
        return functional.interpolate(x, scale_factor=2, mode="nearest")
    return functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)


class Block(nn.Module):
    """BatchNorm, ReLU, double, 3x3, BatchNorm, ReLU, 3x3, beside a doubled 1x1 shortcut."""

    def __init__(self, inputs: int, outputs: int, mode: str) -> None:
        super().__init__()
        self.mode = mode
        self.norm1, self.norm2 = nn.BatchNorm2d(inputs), nn.BatchNorm2d(outputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.shortcut = nn.Conv2d(inputs, outputs, 1)
        for conv, gain in ((self.conv1, math.sqrt(2)), (self.conv2, math.sqrt(2)), (self.shortcut, 1.0)):
            nn.init.xavier_uniform_(conv.weight, gain)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(doubled(self.norm1(x).relu(), self.mode))
        return self.conv2(self.norm2(h).relu()) + self.shortcut(doubled(x, self.mode))


class ResNetGenerator(nn.Module):
    """Latents [B, latent] to raw pictures [B, channels, S, S] in [-1, 1]; S = bottom x 2^(len(widths) - 1)."""

    def __init__(
        self, latent: int, widths: Sequence[int], bottom: int = 4, channels: int = 3, upsample: str = "bilinear",
        attention: int = 0,
    ) -> None:  # fmt: skip
        super().__init__()
        size = bottom << (len(widths) - 1)
        self.latent_dim = latent
        self.image_shape = (channels, size, size)
        self.bottom = bottom
        self.linear = nn.Linear(latent, widths[0] * bottom * bottom)
        self.blocks = nn.ModuleList(Block(a, b, upsample) for a, b in itertools.pairwise(widths))
        self.attention_after = attention
        self.attention = SelfAttention(widths[attention]) if attention else None
        self.norm = nn.BatchNorm2d(widths[-1])
        self.conv = nn.Conv2d(widths[-1], channels, 3, padding=1)
        for layer in (self.linear, self.conv):
            nn.init.xavier_uniform_(layer.weight)

    def forward(self, z: Tensor) -> Tensor:
        x = self.linear(z).reshape(len(z), -1, self.bottom, self.bottom)
        for number, block in enumerate(self.blocks, 1):
            x = block(x)
            if self.attention is not None and number == self.attention_after:
                x = self.attention(x)
        return self.conv(self.norm(x).relu()).tanh()


def _build(config: Mapping[str, Any], attention: int) -> ResNetGenerator:
    listed: object = config.get("widths", list(WIDTHS))
    if not isinstance(listed, list) or not 2 <= len(cast("list[object]", listed)) <= 9:
        raise EvidenceError("config 'widths' must be a list of 2 to 9 channel numbers")
    widths = [whole({"widths": width}, "widths", 64) for width in cast("list[object]", listed)]
    mode = config.get("upsample", "bilinear")
    if mode not in UPSAMPLING:
        raise EvidenceError(f"config 'upsample' must be one of {', '.join(UPSAMPLING)}")
    bottom = whole(config, "bottom", 4, 1, 16)
    if attention and widths[attention] % 8:
        raise EvidenceError("self-attention needs a number of channels that 8 divides")
    return ResNetGenerator(
        whole(config, "latent", 128), widths, bottom, whole(config, "channels", 3, 1, 4), str(mode), attention
    )


@register_architecture("sngan-resnet")
def build_sngan(config: Mapping[str, Any]) -> ResNetGenerator:
    only(config, "latent", "widths", "bottom", "channels", "upsample")
    return _build(config, 0)


@register_architecture("sagan-resnet")
def build_sagan(config: Mapping[str, Any]) -> ResNetGenerator:
    only(config, "latent", "widths", "bottom", "channels", "upsample", "attention")
    blocks = len(config["widths"]) - 1 if isinstance(config.get("widths"), list) else len(WIDTHS) - 1
    return _build(config, whole(config, "attention", min(3, max(1, blocks)), 1, max(1, blocks)))
