"""`rosinality-stylegan2`: the PyTorch names under which StyleGAN2 checkpoints circulate most (their `g_ema` part).

    style.N.{weight,bias}  input.input  conv1.*  convs.N.{conv.weight,conv.modulation.*,noise.weight,activate.bias}
    to_rgb1.*  to_rgbs.N.{conv.weight,conv.modulation.*,bias}  noises.noise_N  [latent_avg, kept beside g_ema]

Truncation needs the mean style `latent_avg`: where the file has none, none can be converted that truncates.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ....schemas.errors import SetupError
from ..fir import fir_kernel
from ..modulated import BLUR
from .keys import Converted, Keys, Options, halving

SAMPLING = {"output_range": [-1, 1], "rounding": "mul127.5_add128_trunc", "noise_mode": "const"}


def convert(keys: Keys, options: Options) -> Converted:
    """Configuration F or E of StyleGAN2, any size."""
    pairs = keys.count("to_rgbs.{}.bias")
    depth = keys.count("style.{}.weight")
    sizes = [4] + [8 << (index // 2) for index in range(2 * pairs)]
    state: dict[str, Tensor] = {}
    for index in range(depth):  # style.0 is the pixel norm, without a tensor
        state[f"mapping.layers.{index}.weight"] = keys.take(f"style.{index + 1}.weight", -1, -1)
        state[f"mapping.layers.{index}.bias"] = keys.take(f"style.{index + 1}.bias", -1)
    style = len(state["mapping.layers.0.bias"])
    state["w_mean"] = keys.take("latent_avg").reshape(-1) if "latent_avg" in keys else torch.zeros(style)
    state["constant"] = keys.take("input.input", 1, -1, 4, 4)
    widths: list[int] = []
    for index, size in enumerate(sizes):
        theirs, ours = "conv1" if index == 0 else f"convs.{index - 1}", f"layers.{index}"
        weight = keys.take(f"{theirs}.conv.weight", 1, -1, -1, 3, 3)[0]
        widths.append(weight.shape[0])
        state[f"{ours}.conv.weight"] = weight
        state |= _style(keys, theirs, ours, weight.shape[1], style)
        state[f"{ours}.noise_scale"] = keys.scalar(f"{theirs}.noise.weight")
        state[f"{ours}.bias"] = keys.take(f"{theirs}.activate.bias", widths[-1])
        state[f"noise_{index}"] = keys.take(f"noises.noise_{index}", 1, 1, size, size)
        keys.constant(f"{theirs}.conv.blur.kernel", 4 * fir_kernel(BLUR))
    channels = 0
    for index in range(pairs + 1):
        theirs, ours = "to_rgb1" if index == 0 else f"to_rgbs.{index - 1}", f"to_rgb.{index}"
        state[f"{ours}.conv.weight"] = keys.take(f"{theirs}.conv.weight", 1, -1, -1, 1, 1)[0]
        channels = len(state[f"{ours}.conv.weight"])
        state |= _style(keys, theirs, ours, state[f"{ours}.conv.weight"].shape[1], style)
        state[f"{ours}.bias"] = keys.take(f"{theirs}.bias", 1, channels, 1, 1).flatten()
        keys.constant(f"{theirs}.upsample.kernel", 4 * fir_kernel(BLUR))
    if len(state["w_mean"]) != style:
        raise SetupError(f"latent_avg has {len(state['w_mean'])} numbers, the styles have {style}")
    base, maximum = halving(widths, sizes)
    config = {
        "latent": state["mapping.layers.0.weight"].shape[1], "style": style, "mapping": depth, "size": sizes[-1],
        "base": base, "maximum": maximum, "channels": channels, "prior": "sphere",
    }  # fmt: skip
    return Converted("stylegan2", config, state, dict(SAMPLING))


def _style(keys: Keys, theirs: str, ours: str, inputs: int, style: int) -> dict[str, Tensor]:
    return {
        f"{ours}.conv.style.weight": keys.take(f"{theirs}.conv.modulation.weight", inputs, style),
        f"{ours}.conv.style.bias": keys.take(f"{theirs}.conv.modulation.bias", inputs),
    }
