"""`mimicry-sngan` and `mimicry-sagan`: the ResNet generators of the mimicry collection, at 32, 48, 64 and 128.

    l1.*   block2.{b1,b2,c1,c2,c_sc}.*  block3 ...   bN.*  cN.*   attn_block.{theta,phi,g,o}.weight  attn_block.gamma

Weights may be spectrally normalised (`weight_orig`, `weight_u`, `weight_v`): they are folded. A conditional network
keeps one gain and shift a class (`b1.bn.*`, `b1.embed.weight` [classes, 2 C]): one class is converted, `label` says
which. The collection doubles maps bilinearly.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ....schemas.errors import SetupError
from .keys import Converted, Keys, Options, placed

SAMPLING = {"output_range": [-1, 1], "rounding": "mul255_add0.5_floor"}
ATTENTION = {"query": "theta", "key": "phi", "value": "g", "project": "o"}


def convert_sngan(keys: Keys, options: Options) -> Converted:
    """Without attention."""
    config, state = _residual(keys, options)
    return Converted("sngan-resnet", config, state, dict(SAMPLING))


def convert_sagan(keys: Keys, options: Options) -> Converted:
    """With attention, after the only block whose width fits, or after block `options.attention`."""
    state: dict[str, Tensor] = {}
    for ours, theirs in ATTENTION.items():
        state[f"attention.{ours}.weight"] = keys.take(f"attn_block.{theirs}.weight", -1, -1, 1, 1)
    state["attention.gamma"] = keys.scalar("attn_block.gamma")
    config, rest = _residual(keys, options)
    channels = state["attention.query.weight"].shape[1]
    fitting = [index for index, width in enumerate(config["widths"]) if index and width == channels]
    place = options.attention if options.attention is not None else fitting[0] if len(fitting) == 1 else None
    if place not in fitting:
        places = " or ".join(map(str, fitting)) or "none"
        raise SetupError(f"self-attention over {channels} channels may stand after block {places}: say which")
    return Converted("sagan-resnet", {**config, "attention": place}, state | rest, dict(SAMPLING))


def _residual(keys: Keys, options: Options) -> tuple[dict[str, Any], dict[str, Tensor]]:
    blocks = keys.count("block{}.c1.weight")
    state: dict[str, Tensor] = {}
    widths: list[int] = []
    for index in range(blocks):
        theirs, ours = f"block{index + 2}", f"blocks.{index}"
        first = keys.take(f"{theirs}.c1.weight", -1, -1, 3, 3)
        widths += [first.shape[1]] if index == 0 else []
        widths.append(first.shape[0])
        state[f"{ours}.conv1.weight"] = first
        state[f"{ours}.conv2.weight"] = keys.take(f"{theirs}.c2.weight", widths[-1], widths[-1], 3, 3)
        state[f"{ours}.shortcut.weight"] = keys.take(f"{theirs}.c_sc.weight", widths[-1], widths[-2], 1, 1)
        for mine, name in (("conv1", "c1"), ("conv2", "c2"), ("shortcut", "c_sc")):
            state[f"{ours}.{mine}.bias"] = keys.take(f"{theirs}.{name}.bias", widths[-1])
        for mine, name in (("norm1", "b1"), ("norm2", "b2")):
            state |= placed(f"{ours}.{mine}", _norm(keys, f"{theirs}.{name}", options.label))
    linear = keys.take("l1.weight", -1, -1)
    bottom = math.isqrt(linear.shape[0] // widths[0])
    state |= {"linear.weight": linear, "linear.bias": keys.take("l1.bias", linear.shape[0])}
    state |= placed("norm", keys.batch_norm(f"b{blocks + 2}"))
    final = keys.take(f"c{blocks + 2}.weight", -1, widths[-1], 3, 3)
    state |= {"conv.weight": final, "conv.bias": keys.take(f"c{blocks + 2}.bias", final.shape[0])}
    config: dict[str, Any] = {
        "latent": linear.shape[1], "widths": widths, "bottom": bottom, "channels": final.shape[0],
        "upsample": "bilinear",
    }  # fmt: skip
    return config, state


def _norm(keys: Keys, name: str, label: int | None) -> dict[str, Tensor]:
    """A BatchNorm, or that of one class of a conditional one."""
    if f"{name}.embed.weight" not in keys:
        return keys.batch_norm(name)
    table = keys.take(f"{name}.embed.weight", -1, -1)
    if label is None or not 0 <= label < len(table):
        raise SetupError(f"this network is conditional: say which of its {len(table)} classes, from 0 on, is meant")
    weight, bias = table[label].chunk(2)
    state = {part: keys.take(f"{name}.bn.{part}", len(weight)) for part in ("running_mean", "running_var")}
    tracked = f"{name}.bn.num_batches_tracked"
    count = keys.take(tracked) if tracked in keys else torch.zeros((), dtype=torch.int64)
    return {"weight": weight.clone(), "bias": bias.clone(), **state, "num_batches_tracked": count}
