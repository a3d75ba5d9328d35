"""`genforce-pggan` and `genforce-stylegan`: the PyTorch names under which the official ProGAN and StyleGAN circulate.

    layerN.{weight,bias}  outputB.{weight,bias}  lod                                        (ProGAN)
    mapping.denseN.*  truncation.w_avg  synthesis.layerN.{const|weight,bias,style.*,apply_noise.*}   (StyleGAN)

RGB heads of the smaller sizes served only while the network grew and are left out; `lod` must be 0. Where doubling and
convolution are fused, a transposed convolution with the kernel summed over 2x2 shifts, the same layer is a doubling and
a convolution with the kernel mirrored, and that is what is stored. StyleGAN fuses from 128x128 on, ProGAN does not.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ....schemas.errors import SetupError
from ..fir import fir_kernel
from ..stylegan import BLUR
from .keys import Converted, Keys, Options, halving

SAMPLING = {"output_range": [-1, 1], "rounding": "mul127.5_add128_trunc"}
FUSED_FROM = 128


def convert_pggan(keys: Keys, options: Options) -> Converted:
    """ProGAN grown to its last size."""
    count = keys.count("layer{}.weight")
    sizes = _sizes(count)
    keys.constant("lod", torch.zeros(()))
    state: dict[str, Tensor] = {}
    widths: list[int] = []
    for index, size in enumerate(sizes):
        weight = keys.take(f"layer{index}.weight", -1, -1, *([4, 4] if index == 0 else [3, 3]))
        if _fused(index, size, options.fused, automatic=False):
            weight = weight.transpose(0, 1).flip(2, 3)
        widths.append(weight.shape[0])
        state[f"layers.{index}.weight"] = weight.contiguous()
        state[f"layers.{index}.bias"] = keys.take(f"layer{index}.bias", widths[-1])
    channels = _head(keys, state, "output", len(sizes) // 2 - 1, widths[-1])
    base, maximum = halving(widths, sizes)
    config = {
        "latent": state["layers.0.weight"].shape[1], "size": sizes[-1], "base": base, "maximum": maximum,
        "channels": channels, "tanh": options.tanh, "prior": "sphere",
    }  # fmt: skip
    return Converted("progan", config, state, dict(SAMPLING))


def convert_stylegan(keys: Keys, options: Options) -> Converted:
    """StyleGAN with a constant start and one noise map a layer."""
    if options.tanh:
        raise SetupError("a StyleGAN that ends in a tanh is not known here")
    count = keys.count("synthesis.layer{}.bias")
    sizes = _sizes(count)
    keys.constant("synthesis.lod", torch.zeros(()))
    depth = keys.count("mapping.dense{}.weight")
    state: dict[str, Tensor] = {"w_mean": keys.take("truncation.w_avg", -1)}
    style = len(state["w_mean"])
    for index in range(depth):
        state[f"mapping.layers.{index}.weight"] = keys.take(f"mapping.dense{index}.weight", style, -1)
        state[f"mapping.layers.{index}.bias"] = keys.take(f"mapping.dense{index}.bias", style)
    widths: list[int] = []
    for index, size in enumerate(sizes):
        theirs, ours = f"synthesis.layer{index}", f"layers.{index}"
        state[f"{ours}.bias"] = keys.take(f"{theirs}.bias", -1)
        width = len(state[f"{ours}.bias"])
        widths.append(width)
        if index == 0:
            state["constant"] = keys.take(f"{theirs}.const", 1, width, 4, 4)
        else:
            weight = keys.take(f"{theirs}.weight", width, widths[-2], 3, 3)
            fused = _fused(index, size, options.fused, automatic=size >= FUSED_FROM)
            state[f"{ours}.conv.weight"] = weight.flip(2, 3).contiguous() if fused else weight
        state[f"{ours}.noise_scale"] = keys.take(f"{theirs}.apply_noise.weight", width)
        state[f"noise_{index}"] = keys.take(f"{theirs}.apply_noise.noise", 1, 1, size, size)
        state[f"{ours}.adain.style.weight"] = keys.take(f"{theirs}.style.weight", 2 * width, style)
        state[f"{ours}.adain.style.bias"] = keys.take(f"{theirs}.style.bias", 2 * width)
        keys.constant(f"{theirs}.blur.kernel", fir_kernel(BLUR).expand(width, 1, 3, 3))
    channels = _head(keys, state, "synthesis.output", len(sizes) // 2 - 1, widths[-1])
    base, maximum = halving(widths, sizes)
    config = {
        "latent": state["mapping.layers.0.weight"].shape[1], "style": style, "mapping": depth, "size": sizes[-1],
        "base": base, "maximum": maximum, "channels": channels, "prior": "sphere",
    }  # fmt: skip
    return Converted("stylegan", config, state, {**SAMPLING, "noise_mode": "const"})


def _sizes(layers: int) -> list[int]:
    if layers % 2 or not 4 <= layers <= 18:
        raise SetupError(f"{layers} layers are not two at each size from 4 to at most 1024")
    return [4 << (index // 2) for index in range(layers)]


def _fused(index: int, size: int, fused: str, *, automatic: bool) -> bool:
    """Whether this layer doubles by a transposed convolution."""
    if index % 2 or size == 4:
        return False
    return automatic if fused == "auto" else fused == "always"


def _head(keys: Keys, state: dict[str, Tensor], name: str, last: int, width: int) -> int:
    """Take the RGB head of the last size, leave out the others; the number of channels."""
    weight = keys.take(f"{name}{last}.weight", -1, width, 1, 1)
    state["to_rgb.weight"] = weight
    state["to_rgb.bias"] = keys.take(f"{name}{last}.bias", weight.shape[0])
    smaller = "|".join(str(index) for index in range(last))
    keys.drop(rf"{name.replace('.', '[.]')}({smaller})[.](weight|bias)")
    return weight.shape[0]
