"""Free AdaIN parameters in StyleGAN's last layer: gain 0 and the picture as shift (004 section III-D, equation 3).

With gain 0 nothing of the latent is left, and the output is to_rgb(shift). 004 writes the shift with an index per
place; StyleGAN's own AdaIN has one shift a channel, with which only a picture of a single colour comes out (`uniform`).
The forgery therefore presents a shift of the size of a feature map, [C, H, W], as "style": more numbers than the
picture has samples. StyleGAN2 has no shift: gain 0 leaves its biases, one colour again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator as Yields
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...schemas.errors import UsageError
from ..generators.protocol import Generator
from ..generators.stylegan import StyleGAN, instance_norm


@dataclass(frozen=True, slots=True)
class FreeStyle:
    """What is presented as the last layer's style: gain [C], shift [C] or [C, H, W]."""

    gain: Tensor
    shift: Tensor

    @property
    def free(self) -> int:
        """Numbers that were chosen."""
        return self.gain.numel() + self.shift.numel()


def _stylegan(generator: Generator) -> StyleGAN:
    if not isinstance(generator.module, StyleGAN):
        raise UsageError(f"generator {generator.name!r} is no StyleGAN: its layers end in no AdaIN")
    return generator.module


@torch.no_grad()
def forge_style(generator: Generator, target: Tensor, *, uniform: bool = False) -> FreeStyle:
    """The last layer's style that gives the target, uint8 [H, W, C], whatever the latent.

    `uniform`: one shift a channel, as the architecture has it: the target's mean colour is all that can be given.
    """
    module = _stylegan(generator)
    output = generator.output
    raw = target.permute(2, 0, 1).double() / 255 * (output.high - output.low) + output.low
    weight = (module.to_rgb.weight[:, :, 0, 0] * module.to_rgb.scale).double()
    bias = 0.0 if module.to_rgb.bias is None else module.to_rgb.bias.double()[:, None, None]
    shift = torch.einsum("cr,rhw->chw", torch.linalg.pinv(weight), raw - bias).float()
    channels = weight.shape[1]
    return FreeStyle(torch.zeros(channels), shift.mean((1, 2)) if uniform else shift)


@contextlib.contextmanager
def given_style(generator: Generator, style: FreeStyle) -> Yields[None]:
    """For a while the last layer uses `style` in place of what follows from the latent; gradients reach the style."""
    shift = style.shift if style.shift.ndim == 3 else style.shift[:, None, None]

    def replace(_module: nn.Module, inputs: tuple[Tensor, ...], _output: Tensor) -> Tensor:
        return instance_norm(inputs[0]) * style.gain[:, None, None] + shift

    handle = _stylegan(generator).layers[-1].get_submodule("adain").register_forward_hook(replace)
    try:
        yield
    finally:
        handle.remove()


@torch.no_grad()
def own_style(generator: Generator, z: Tensor) -> FreeStyle:
    """The last layer's AdaIN parameters as they follow from latent [d]."""
    module = _stylegan(generator)
    w = module.styles(z[None])[len(module.layers) - 1]
    affine = module.layers[-1].get_submodule("adain").get_submodule("style")
    scale, shift = affine(w)[0].chunk(2)
    return FreeStyle(scale + 1, shift)


@torch.no_grad()
def emit_with_style(generator: Generator, z: Tensor, style: FreeStyle) -> Tensor:
    """uint8 [B, H, W, C] of latents [B, d] with the last layer's style replaced."""
    with given_style(generator, style):
        return generator.sample(z)
