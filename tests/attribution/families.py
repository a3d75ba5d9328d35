"""Tiny configurations of every family that ships, shared by the tests of generators, layouts and folders."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from plausible.attribution.generators import Generator, fresh, make_generator
from torch import nn

SIGNED = {"output_range": [-1, 1], "rounding": "mul127.5_add128_trunc"}
UNIT = {"output_range": [0, 1], "rounding": "mul255_add0.5_floor"}
STYLED = {**SIGNED, "noise_mode": "const"}

TINY: dict[str, tuple[dict[str, Any], dict[str, Any], tuple[int, int, int]]] = {
    "mlp-decoder": ({"latent": 6, "hidden": [8], "height": 8, "width": 8, "channels": 1, "activation": "sigmoid",
                     "prior": "code"}, UNIT, (1, 8, 8)),
    "dcgan-64": ({"latent": 6, "width": 2}, SIGNED, (3, 64, 64)),
    "dcgan-mnist": ({"latent": 6, "width": 2}, SIGNED, (1, 28, 28)),
    "brownlee-mnist": ({"latent": 6, "width": 4}, UNIT, (1, 28, 28)),
    "sngan-resnet": ({"latent": 6, "widths": [8, 4, 4]}, SIGNED, (3, 16, 16)),
    "sagan-resnet": ({"latent": 6, "widths": [8, 8, 4], "attention": 1}, SIGNED, (3, 16, 16)),
    "progan": ({"latent": 6, "size": 16, "base": 64, "maximum": 8, "prior": "sphere"}, SIGNED, (3, 16, 16)),
    "stylegan": ({"latent": 6, "style": 5, "mapping": 2, "size": 16, "base": 64, "maximum": 8, "prior": "sphere"},
                 STYLED, (3, 16, 16)),
    "stylegan2": ({"latent": 6, "style": 5, "mapping": 2, "size": 16, "base": 64, "maximum": 8, "prior": "sphere"},
                  STYLED, (3, 16, 16)),
}  # fmt: skip
"""Architecture -> config, sampling, image shape."""


def lively(module: nn.Module, seed: int = 0) -> nn.Module:
    """Statistics, biases, gains and noise scales as training leaves them: none at its neutral initial value."""
    rng = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            last = name.rpartition(".")[2]
            if last == "running_var":
                tensor.copy_(torch.rand(tensor.shape, generator=rng) * 0.5 + 0.2)
            elif last in ("running_mean", "noise_scale", "gamma", "w_mean") or (last == "bias" and "style" not in name):
                tensor.add_(torch.randn(tensor.shape, generator=rng) * 0.1)
            elif "to_rgb" in name and last == "weight":
                tensor.mul_(0.2)  # an untrained network without a final tanh leaves its range
    return module


def tiny(architecture: str, seed: int = 0, sampling: Mapping[str, Any] | None = None) -> Generator:
    """A generator of a tiny configuration with weights that depend on the seed alone."""
    config, usual, _ = TINY[architecture]
    module = lively(fresh(architecture, config, seed), seed)
    return make_generator(architecture, module, architecture, config, sampling or usual)


def dyadic(module: nn.Module) -> nn.Module:
    """Every tensor filled with exact binary fractions by a formula: the same bits on every machine."""
    for tensor in module.state_dict().values():
        index = torch.arange(tensor.numel(), dtype=torch.int64)
        values = (index * 2654435761 % 65536).double() / 65536 - 0.5
        tensor.copy_(values.reshape(tensor.shape).to(tensor.dtype))
    return module
