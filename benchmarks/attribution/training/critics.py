"""The critics of steady trainings: strided convolutions, BatchNorm on all but the first, LeakyReLU, one linear layer.

As in DCGAN (Radford et al. 2016). They are thrown away, so neither is a published model's own discriminator (gans.py).
"""

from __future__ import annotations

from torch import nn

DROPOUT = 0.3
CLASSES = 10


def of_digits() -> nn.Module:
    """[B, 1, 28, 28] to logits [B, 10]; dropout keeps it from knowing the few labelled digits by heart."""
    return nn.Sequential(
        *_layer(1, 64, 4, norm=False), nn.Dropout(DROPOUT), *_layer(64, 128, 4), nn.Dropout(DROPOUT),
        *_layer(128, 256, 3), nn.Dropout(DROPOUT), nn.Flatten(), nn.Linear(256 * 16, CLASSES),
    )  # fmt: skip


def of_faces(width: int = 32) -> nn.Module:
    """[B, 3, 64, 64] to logits [B]."""
    return nn.Sequential(
        *_layer(3, width, 4, norm=False), *_layer(width, 2 * width, 4), *_layer(2 * width, 4 * width, 4),
        *_layer(4 * width, 8 * width, 4), nn.Conv2d(8 * width, 1, 4), nn.Flatten(0),
    )  # fmt: skip


def _layer(inputs: int, outputs: int, kernel: int, *, norm: bool = True) -> list[nn.Module]:
    """A convolution of stride 2 and what follows it."""
    convolution = nn.Conv2d(inputs, outputs, kernel, 2, 1, bias=not norm)
    return [convolution, *([nn.BatchNorm2d(outputs)] if norm else []), nn.LeakyReLU(0.2)]
