"""Tiny checkpoints under their publishers' names, and the forward passes those names mean, written from the papers.

Each `*_state` makes random tensors, each `*_pictures` computes raw pictures from exactly those tensors with torch's
functions alone: what a converted network must reproduce.
"""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor
from torch.nn import functional

State = dict[str, Tensor]


class Maker:
    """Random tensors by name, reproducible."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = torch.Generator().manual_seed(seed)
        self.state: State = {}

    def add(self, name: str, *shape: int, scale: float = 1.0, shift: float = 0.0) -> None:
        self.state[name] = torch.randn(shape, generator=self.rng) * scale + shift

    def norm(self, name: str, width: int, affine: bool = True) -> None:
        if affine:
            self.add(f"{name}.weight", width, scale=0.1, shift=1)
            self.add(f"{name}.bias", width, scale=0.1)
        self.add(f"{name}.running_mean", width, scale=0.1)
        self.state[f"{name}.running_var"] = torch.rand(width, generator=self.rng) + 0.5
        self.state[f"{name}.num_batches_tracked"] = torch.tensor(7)


def pixel_norm(x: Tensor) -> Tensor:
    return x / torch.sqrt((x * x).mean(1, keepdim=True) + 1e-8)


def lrelu(x: Tensor) -> Tensor:
    return functional.leaky_relu(x, 0.2)


def fused_doubling(x: Tensor, weight: Tensor) -> Tensor:
    """A transposed convolution, [in, out, 3, 3] summed over 2x2 shifts."""
    wide = functional.pad(weight, (1, 1, 1, 1))
    wide = wide[:, :, 1:, 1:] + wide[:, :, :-1, 1:] + wide[:, :, 1:, :-1] + wide[:, :, :-1, :-1]
    return functional.conv_transpose2d(x, wide, stride=2, padding=1)


def doubling(x: Tensor, weight: Tensor) -> Tensor:
    return functional.conv2d(x.repeat_interleave(2, 2).repeat_interleave(2, 3), weight, padding=1)


# ---------------------------------------------------------------------------------------------------------------- DCGAN


def dcgan_state(latent: int = 5, width: int = 2) -> State:
    maker, inputs = Maker(), latent
    for index, outputs in ((0, 8 * width), (3, 4 * width), (6, 2 * width), (9, width), (12, 3)):
        maker.add(f"main.{index}.weight", inputs, outputs, 4, 4, scale=0.2)
        if index < 12:
            maker.norm(f"main.{index + 1}", outputs)
        inputs = outputs
    return maker.state


def batch_norm(state: State, name: str, x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
    stem = name if weight is None else f"{name}.bn"
    gain = state[f"{name}.weight"] if weight is None else weight
    shift = state[f"{name}.bias"] if bias is None else bias
    return functional.batch_norm(x, state[f"{stem}.running_mean"], state[f"{stem}.running_var"], gain, shift)


def dcgan_pictures(state: State, z: Tensor) -> Tensor:
    x = functional.conv_transpose2d(z[:, :, None, None], state["main.0.weight"])
    for index in (3, 6, 9, 12):
        x = batch_norm(state, f"main.{index - 2}", x).relu()
        x = functional.conv_transpose2d(x, state[f"main.{index}.weight"], stride=2, padding=1)
    return x.tanh()


# -------------------------------------------------------------------------------------------------------------- mimicry

WIDTHS = (16, 8, 8)


def mimicry_state(*, attention: bool = False, classes: int = 0) -> State:
    maker = Maker(1)
    maker.add("l1.weight", 16 * WIDTHS[0], 5, scale=0.3)
    maker.add("l1.bias", 16 * WIDTHS[0], scale=0.1)
    for index, (inputs, outputs) in enumerate(itertools.pairwise(WIDTHS)):
        name = f"block{index + 2}"
        for part, shape in (("c1", (outputs, inputs, 3, 3)), ("c2", (outputs, outputs, 3, 3)),
                            ("c_sc", (outputs, inputs, 1, 1))):  # fmt: skip
            maker.add(f"{name}.{part}.weight", *shape, scale=0.2)
            maker.add(f"{name}.{part}.bias", outputs, scale=0.1)
        for part, width in (("b1", inputs), ("b2", outputs)):
            if classes:
                maker.norm(f"{name}.{part}.bn", width, affine=False)
                maker.add(f"{name}.{part}.embed.weight", classes, 2 * width, scale=0.3, shift=0.5)
            else:
                maker.norm(f"{name}.{part}", width)
    maker.norm("b4", WIDTHS[-1])
    maker.add("c4.weight", 3, WIDTHS[-1], 3, 3, scale=0.2)
    maker.add("c4.bias", 3, scale=0.1)
    if attention:
        for part, shape in (("theta", (1, 8)), ("phi", (1, 8)), ("g", (4, 8)), ("o", (8, 4))):
            maker.add(f"attn_block.{part}.weight", *shape, 1, 1)
        maker.state["attn_block.gamma"] = torch.tensor(0.6)
    return maker.state


def mimicry_pictures(state: State, z: Tensor, *, attention_after: int = 0, label: int | None = None) -> Tensor:
    def norm(name: str, x: Tensor) -> Tensor:
        if label is None:
            return batch_norm(state, name, x)
        return batch_norm(state, name, x, *state[f"{name}.embed.weight"][label].chunk(2))

    def conv(name: str, x: Tensor) -> Tensor:
        weight = state[f"{name}.weight"]
        return functional.conv2d(x, weight, state[f"{name}.bias"], padding=weight.shape[-1] // 2)

    def up(x: Tensor) -> Tensor:
        return functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)

    x = functional.linear(z, state["l1.weight"], state["l1.bias"]).reshape(len(z), -1, 4, 4)
    for block in range(1, len(WIDTHS)):
        name = f"block{block + 1}"
        h = conv(f"{name}.c1", up(norm(f"{name}.b1", x).relu()))
        x = conv(f"{name}.c2", norm(f"{name}.b2", h).relu()) + conv(f"{name}.c_sc", up(x))
        if block == attention_after:
            weight = {part: state[f"attn_block.{part}.weight"] for part in ("theta", "phi", "g", "o")}
            theta = functional.conv2d(x, weight["theta"]).flatten(2)
            phi = functional.max_pool2d(functional.conv2d(x, weight["phi"]), 2).flatten(2)
            g = functional.max_pool2d(functional.conv2d(x, weight["g"]), 2).flatten(2)
            seen = torch.bmm(g, torch.bmm(theta.transpose(1, 2), phi).softmax(-1).transpose(1, 2))
            x = x + state["attn_block.gamma"] * functional.conv2d(seen.reshape(len(z), -1, *x.shape[2:]), weight["o"])
    return conv("c4", batch_norm(state, "b4", x).relu()).tanh()


# ------------------------------------------------------------------------------------------------------------- genforce

GROWN = (8, 8, 4)
"""Channels at 4, 8 and 16."""


def pggan_state(*, fused: bool = False) -> State:
    maker, inputs = Maker(2), 5
    maker.state["lod"] = torch.zeros(())
    for block, width in enumerate(GROWN):
        first = (width, inputs, 4, 4) if block == 0 else (inputs, width, 3, 3) if fused else (width, inputs, 3, 3)
        maker.add(f"layer{2 * block}.weight", *first)
        maker.add(f"layer{2 * block + 1}.weight", width, width, 3, 3)
        for index in (2 * block, 2 * block + 1):
            maker.add(f"layer{index}.bias", width, scale=0.1)
        maker.add(f"output{block}.weight", 3, width, 1, 1, scale=0.3)
        maker.add(f"output{block}.bias", 3, scale=0.1)
        inputs = width
    return maker.state


def pggan_pictures(state: State, z: Tensor, *, fused: bool = False) -> Tensor:
    x = pixel_norm(z)[:, :, None, None]
    for index in range(2 * len(GROWN)):
        x, weight = pixel_norm(x), state[f"layer{index}.weight"]
        fan_in = x.shape[1] * weight.shape[-1] ** 2
        weight = weight * math.sqrt(2 / fan_in)
        if index and index % 2 == 0:
            x = (fused_doubling if fused else doubling)(x, weight)
        else:
            x = functional.conv2d(x, weight, padding=3 if index == 0 else 1)
        x = lrelu(x + state[f"layer{index}.bias"][:, None, None])
    last = f"output{len(GROWN) - 1}"
    return functional.conv2d(pixel_norm(x), state[f"{last}.weight"] / math.sqrt(x.shape[1]), state[f"{last}.bias"])


def stylegan_state() -> State:
    maker = Maker(3)
    for index, inputs in enumerate((5, 6)):
        maker.add(f"mapping.dense{index}.weight", 6, inputs, scale=100)
        maker.add(f"mapping.dense{index}.bias", 6, scale=10)
    maker.add("truncation.w_avg", 6, scale=0.3)
    maker.state["synthesis.lod"] = torch.zeros(())
    inputs = 0
    for index in range(2 * len(GROWN)):
        name, width, size = f"synthesis.layer{index}", GROWN[index // 2], 4 << (index // 2)
        if index == 0:
            maker.add(f"{name}.const", 1, width, 4, 4)
        else:
            maker.add(f"{name}.weight", width, inputs, 3, 3)
        if index and index % 2 == 0:
            blur = torch.tensor([1.0, 2.0, 1.0]).outer(torch.tensor([1.0, 2.0, 1.0])) / 16
            maker.state[f"{name}.blur.kernel"] = blur.expand(width, 1, 3, 3).clone()
        maker.add(f"{name}.bias", width, scale=0.1)
        maker.add(f"{name}.apply_noise.weight", width, scale=0.3)
        maker.add(f"{name}.apply_noise.noise", 1, 1, size, size)
        maker.add(f"{name}.style.weight", 2 * width, 6)
        maker.add(f"{name}.style.bias", 2 * width, scale=0.3)
        inputs = width
    for block, width in enumerate(GROWN):
        maker.add(f"synthesis.output{block}.weight", 3, width, 1, 1, scale=0.3)
        maker.add(f"synthesis.output{block}.bias", 3, scale=0.1)
    return maker.state


def stylegan_pictures(state: State, z: Tensor, *, psi: float = 1.0, layers: int = 0, fused: bool = False) -> Tensor:
    w = pixel_norm(z)
    for index in range(2):
        weight = state[f"mapping.dense{index}.weight"]
        scale = 0.01 * math.sqrt(2 / weight.shape[1])
        w = lrelu(functional.linear(w, weight * scale, state[f"mapping.dense{index}.bias"] * 0.01))
    near = state["truncation.w_avg"] + (w - state["truncation.w_avg"]) * psi
    x = state["synthesis.layer0.const"].repeat(len(z), 1, 1, 1)
    for index in range(2 * len(GROWN)):
        name = f"synthesis.layer{index}"
        if index:
            weight = state[f"{name}.weight"] * math.sqrt(2 / (9 * x.shape[1]))
            if index % 2 == 0:
                x = fused_doubling(x, weight.transpose(0, 1)) if fused else doubling(x, weight)
                kernel = state[f"{name}.blur.kernel"]
                x = functional.conv2d(x, kernel, padding=1, groups=len(kernel))
            else:
                x = functional.conv2d(x, weight, padding=1)
        x = x + state[f"{name}.apply_noise.noise"] * state[f"{name}.apply_noise.weight"][:, None, None]
        x = lrelu(x + state[f"{name}.bias"][:, None, None])
        x = x - x.mean((2, 3), keepdim=True)
        x = x / torch.sqrt((x * x).mean((2, 3), keepdim=True) + 1e-8)
        style = functional.linear(near if index < layers else w, state[f"{name}.style.weight"] / math.sqrt(6))
        style = (style + state[f"{name}.style.bias"]).view(len(z), 2, -1, 1, 1)
        x = x * (style[:, 0] + 1) + style[:, 1]
    last = f"synthesis.output{len(GROWN) - 1}"
    return functional.conv2d(x, state[f"{last}.weight"] / math.sqrt(x.shape[1]), state[f"{last}.bias"])


# ----------------------------------------------------------------------------------------------------------- rosinality


def filter4() -> Tensor:
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
    return taps.outer(taps) / 16


def stylegan2_state() -> State:
    maker = Maker(4)
    for index in (1, 2):
        maker.add(f"style.{index}.weight", 6, 6, scale=100)
        maker.add(f"style.{index}.bias", 6, scale=10)
    maker.add("input.input", 1, GROWN[0], 4, 4)
    inputs = GROWN[0]
    for index in range(2 * len(GROWN) - 1):
        name, width = "conv1" if index == 0 else f"convs.{index - 1}", GROWN[(index + 1) // 2]
        size = 4 << ((index + 1) // 2)
        maker.add(f"{name}.conv.weight", 1, width, inputs, 3, 3)
        maker.add(f"{name}.conv.modulation.weight", inputs, 6)
        maker.add(f"{name}.conv.modulation.bias", inputs, scale=0.1, shift=1)
        maker.add(f"{name}.noise.weight", 1, scale=0.3)
        maker.add(f"{name}.activate.bias", width, scale=0.1)
        maker.add(f"noises.noise_{index}", 1, 1, size, size)
        if index % 2:
            maker.state[f"{name}.conv.blur.kernel"] = filter4()
        inputs = width
    for block, width in enumerate(GROWN):
        name = "to_rgb1" if block == 0 else f"to_rgbs.{block - 1}"
        maker.add(f"{name}.conv.weight", 1, 3, width, 1, 1, scale=0.2)
        maker.add(f"{name}.conv.modulation.weight", width, 6)
        maker.add(f"{name}.conv.modulation.bias", width, scale=0.1, shift=1)
        maker.add(f"{name}.bias", 1, 3, 1, 1, scale=0.1)
        if block:
            maker.state[f"{name}.upsample.kernel"] = filter4()
    return maker.state


def stylegan2_pictures(state: State, z: Tensor, *, psi: float = 1.0, mean: Tensor | None = None) -> Tensor:
    w = pixel_norm(z)
    for index in (1, 2):
        weight = state[f"style.{index}.weight"] * 0.01 / math.sqrt(6)
        w = lrelu(functional.linear(w, weight, state[f"style.{index}.bias"] * 0.01)) * math.sqrt(2)
    if mean is not None:
        w = mean + psi * (w - mean)

    def modulated(name: str, x: Tensor, one: Tensor, demodulate: bool, doubles: bool) -> Tensor:
        """One picture [1, C, H, W]: its own weight, an explicit convolution."""
        weight = state[f"{name}.conv.weight"][0]
        s = functional.linear(one, state[f"{name}.conv.modulation.weight"] / math.sqrt(6))
        s = s + state[f"{name}.conv.modulation.bias"]
        weight = weight / math.sqrt(weight[0].numel()) * s[None, :, None, None]
        if demodulate:
            weight = weight / torch.sqrt(weight.square().sum((1, 2, 3), keepdim=True) + 1e-8)
        if not doubles:
            return functional.conv2d(x, weight, padding=weight.shape[-1] // 2)
        x = functional.pad(functional.conv_transpose2d(x, weight.transpose(0, 1), stride=2), (1, 1, 1, 1))
        return functional.conv2d(x, filter4().expand(x.shape[1], 1, 4, 4), groups=x.shape[1])

    pictures: list[Tensor] = []
    for one in w:
        x, picture = state["input.input"], torch.zeros(1)
        for index in range(2 * len(GROWN) - 1):
            name = "conv1" if index == 0 else f"convs.{index - 1}"
            x = modulated(name, x, one, True, index % 2 == 1)
            x = x + state[f"{name}.noise.weight"] * state[f"noises.noise_{index}"]
            x = lrelu(x + state[f"{name}.activate.bias"][:, None, None]) * math.sqrt(2)
            if index % 2 == 0:
                name = "to_rgb1" if index == 0 else f"to_rgbs.{index // 2 - 1}"
                rgb = modulated(name, x, one, False, False) + state[f"{name}.bias"]
                if index:
                    wide = torch.zeros(1, 3, 2 * picture.shape[2], 2 * picture.shape[3])
                    wide[:, :, ::2, ::2] = picture
                    wide = functional.pad(wide, (2, 1, 2, 1))
                    rgb = rgb + functional.conv2d(wide, filter4().expand(3, 1, 4, 4), groups=3)
                picture = rgb
        pictures.append(picture)
    return torch.cat(pictures)
