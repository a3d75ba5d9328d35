"""Forged noise: maps that make a StyleGAN or StyleGAN2 emit a chosen picture.

004 section III-D inverts B of its equation 3. How far that goes is a matter of counting: a noise map holds one number a
pixel for all channels, and the maps of all sizes together hold about 2.7 numbers a pixel (2 + 1/2 + 1/8 + ...). A grey
picture is met in every sample; an RGB picture has 3 samples a pixel, so noise alone comes near and does not meet it.
StyleGAN's AdaIN fixes mean and contrast of every map after the noise: there `style` lets the last layer's gains and
shifts, two numbers a channel, be chosen too. `start` "small" gives maps no larger than needed, "draw" the smallest
change of maps that were honestly drawn, which hides more.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from ...schemas.errors import UsageError
from ..generators.protocol import Generator
from .adain import FreeStyle, given_style, own_style
from .solve import Forged, solve

Start = Literal["small", "draw"]
SMALL = 0.1


def forge_noise(
    generator: Generator, target: Tensor, z: Tensor, *, maps: Sequence[str] | None = None, start: Start = "draw",
    style: bool = False, seed: int = 0, steps: int = 30, inner: int = 80,
) -> tuple[Forged, dict[str, Tensor]]:  # fmt: skip
    """Maps {name: [1, 1, H, W]} that bring latent z [d] to the target, uint8 [H, W, C], and how near they come.

    `maps` names those that may be chosen (default: all). With `style` the result also has "gain" and "shift" [C] of a
    StyleGAN's last layer. `UsageError` for a generator without noise inputs, or without AdaIN.
    """
    names = list(generator.noise) if maps is None else list(maps)
    if not names or any(name not in generator.noise for name in names):
        raise UsageError(f"generator {generator.name!r} has no such noise inputs: {', '.join(names) or 'none at all'}")
    shapes = {name: generator.noise[name] for name in names}
    count = sum(math.prod(shape) for shape in shapes.values())
    first = torch.randn(count, generator=torch.Generator().manual_seed(seed))
    if start == "small":
        first *= SMALL

    if not style:

        def emit(values: Tensor) -> Tensor:
            return generator.module(z[None], noise=split(values, shapes))

        forged = solve(generator, emit, target, first, steps=steps, inner=inner)
        return forged, split(forged.inputs, shapes)
    own = own_style(generator, z)
    channels = own.gain.numel()

    def emit_styled(values: Tensor) -> Tensor:
        gain, shift = values[count:].split(channels)
        with given_style(generator, FreeStyle(gain, shift)):
            return generator.module(z[None], noise=split(values[:count], shapes))

    forged = solve(generator, emit_styled, target, torch.cat([first, own.gain, own.shift]), steps=steps, inner=inner)
    gain, shift = forged.inputs[count:].split(channels)
    return forged, {**split(forged.inputs[:count], shapes), "gain": gain, "shift": shift}


def split(values: Tensor, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """One vector as named maps [1, *shape]."""
    pieces = values.split([math.prod(shape) for shape in shapes.values()])
    return {name: piece.reshape(1, *shape) for (name, shape), piece in zip(shapes.items(), pieces, strict=True)}
