"""A model that is the picture: its weights hold the target, and its latent changes nothing.

No input is forged, so committed seeds and counted inputs have nothing to object to: an entry made with it replays
exactly. What stands against it is time: the model's digest must be in a `model:v1` entry before the entry of the
picture (ledger order), and before the date that is claimed for the picture (attribution). A model that was registered
before the picture existed can hold it only if its maker had it. `check_generator` refuses one that ignores its latent;
`leak` above 0 lets a trace of it through and passes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..generators.mlp import MLPDecoder
from ..generators.protocol import Generator
from ..generators.registry import fresh
from ..generators.styled import StyledGenerator

SAMPLING: dict[str, Any] = {"output_range": [0, 1], "rounding": "mul255_add0.5_floor"}
LATENT = 8


def constant_decoder(target: Tensor, *, leak: float = 0.0) -> tuple[MLPDecoder, dict[str, Any], dict[str, Any]]:
    """(module, config, sampling) of an `mlp-decoder` whose last bias is the target, uint8 [H, W, C]."""
    height, width, channels = target.shape
    config: dict[str, Any] = {"latent": LATENT, "hidden": [LATENT], "height": height, "width": width,
                              "channels": channels, "activation": "sigmoid", "prior": "normal"}  # fmt: skip
    module = fresh("mlp-decoder", config, 0)
    if not isinstance(module, MLPDecoder):
        raise TypeError("mlp-decoder builds an MLPDecoder")
    state = module.state_dict()
    last = max((name for name in state if name.endswith(".weight")), key=lambda name: int(name.split(".")[1]))
    # 1/4 level from the ends: the logit of 0 and of 1 is infinite
    level = (target.permute(2, 0, 1).flatten().double() / 255).clamp(0.001, 0.999)
    with torch.no_grad():
        state[last].mul_(leak)
        state[last.replace("weight", "bias")].copy_(torch.logit(level))
    return module, config, SAMPLING


@torch.no_grad()
def bake_noise(generator: Generator, maps: dict[str, Tensor]) -> StyledGenerator:
    """A copy of the module with the forged maps stored beside its weights: in noise mode `const`, another model."""
    import copy

    module = copy.deepcopy(generator.module)
    if not isinstance(module, StyledGenerator):
        raise TypeError("only styled generators store noise maps")
    for name, values in maps.items():
        module.get_buffer(name).copy_(values)
    return module
