"""004's two MNIST GANs (Appendix A): the DCGAN of TensorFlow's tutorial and Brownlee's, 50 epochs of 60,000 digits.

The paper prints Adam at 0.1 for both (`PAPER`). `HEALTHY` has the rates of the two tutorials that the paper cites,
hundreds of times smaller. Generators are those of
`plausible.attribution.generators.mnist`; the discriminators, which are thrown away, are described here.
Loss: binary cross-entropy on logits, real against generated, the generator against the label "real".
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from plausible.attribution.generators import Generator, fresh, make_generator
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.attribution.training.autoencoders import batches

Pixels = NDArray[np.uint8]
Family = Literal["dcgan-mnist", "brownlee-mnist"]

EPOCHS, DIGITS, BATCH = 50, 60_000, 256


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one of the two is trained; `steps` are 50 epochs of 60,000 digits whatever the number of digits at hand."""

    rate: float
    beta1: float
    steps: int = EPOCHS * DIGITS // BATCH
    batch: int = BATCH
    width: int | None = None
    """Channels of the generator; None is the published width."""


HEALTHY: dict[Family, Recipe] = {
    "dcgan-mnist": Recipe(rate=1e-4, beta1=0.9),
    "brownlee-mnist": Recipe(rate=2e-4, beta1=0.5),
}
PAPER: dict[Family, Recipe] = {family: replace(recipe, rate=0.1) for family, recipe in HEALTHY.items()}

SAMPLING: dict[Family, dict[str, object]] = {
    "dcgan-mnist": {"output_range": [-1, 1], "rounding": "mul127.5_add128_trunc"},
    "brownlee-mnist": {"output_range": [0, 1], "rounding": "round_half_even_255"},
}


@dataclass(frozen=True, slots=True)
class Trained:
    """A generator and the mean losses of the last tenth of its training."""

    generator: Generator
    generator_loss: float
    discriminator_loss: float


def discriminator(family: Family) -> nn.Module:
    """[B, 1, 28, 28] to logits [B]: two strided convolutions, dropout, one linear layer; 5x5 and 64, 128 channels in
    the DCGAN, 3x3 and 64, 64 in Brownlee's."""
    kernel, second, slope, drop = (5, 128, 0.3, 0.3) if family == "dcgan-mnist" else (3, 64, 0.2, 0.4)
    padding = kernel // 2
    network = nn.Sequential(
        nn.Conv2d(1, 64, kernel, 2, padding), nn.LeakyReLU(slope), nn.Dropout(drop),
        nn.Conv2d(64, second, kernel, 2, padding), nn.LeakyReLU(slope), nn.Dropout(drop),
        nn.Flatten(), nn.Linear(second * 49, 1), nn.Flatten(0),
    )  # fmt: skip
    for layer in network:
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return network


def train(family: Family, pictures: Pixels, recipe: Recipe, *, seed: int, device: str = "cpu") -> Trained:
    """A generator of uint8 digits [N, 28, 28]; weights, order, noise and dropout follow `seed`."""
    config: dict[str, object] = {} if recipe.width is None else {"width": recipe.width}
    config["latent"] = 100
    devices = [torch.device(device)] if device != "cpu" else []
    with torch.random.fork_rng(devices=devices):
        module = fresh(family, config, seed).to(device).train()
        torch.manual_seed(seed + 1)
        critic = discriminator(family).to(device).train()
        low = -1.0 if family == "dcgan-mnist" else 0.0
        data = (torch.from_numpy(pictures)[:, None].float() / 255 * (1 - low) + low).to(device)
        losses = _fit(module, critic, data, recipe, seed)
    tail = losses[-max(1, len(losses) // 10) :].mean(0)
    generator = make_generator(family, module.cpu(), family, config, SAMPLING[family])
    return Trained(generator, float(tail[0]), float(tail[1]))


def _fit(module: nn.Module, critic: nn.Module, data: Tensor, recipe: Recipe, seed: int) -> Tensor:
    """Train in place; [steps, 2] losses of generator and discriminator."""
    adams = [
        torch.optim.Adam(network.parameters(), lr=recipe.rate, betas=(recipe.beta1, 0.999))
        for network in (module, critic)
    ]
    losses: list[Tensor] = []
    for rows in batches(len(data), recipe.batch, recipe.steps, seed):
        real = data[rows]
        made = module(torch.randn(len(real), 100, device=data.device))
        told = critic(torch.cat([real, made.detach()]))
        truth = torch.cat([torch.ones(len(real)), torch.zeros(len(real))]).to(told)
        loss = functional.binary_cross_entropy_with_logits(told, truth)
        adams[1].zero_grad()
        loss.backward()
        adams[1].step()
        fooled = critic(made)
        own = functional.binary_cross_entropy_with_logits(fooled, torch.ones_like(fooled))
        adams[0].zero_grad()
        own.backward()
        adams[0].step()
        losses.append(torch.stack([own.detach(), loss.detach()]))
    return torch.stack(losses).cpu()
