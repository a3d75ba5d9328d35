"""000's MNIST auto-encoders: 784-64-32-64-784, sigmoid everywhere, squared error, 20,000 steps of 256, Adam 0.01.

The three pairs differ in what the two networks share:

    parity   odd against even digits                       (E1, Figure 2)
    order    the same digits in another order, other init  (E2, Figure 3)
    init     the same digits in the same order, other init (E3, Figure 4)

The decoder is the generator, its prior the box of codes: a sigmoid encoder's outputs. 001 trains 60,000 steps for the
last pair (`steps`). Neither paper says how weights start or how codes of probes are drawn; here: torch's defaults, and
codes of real digits that were not trained on (`codes`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from plausible.attribution.generators import Generator, make_generator
from plausible.attribution.generators.mlp import MLPDecoder
from torch import Tensor, nn

Pixels = NDArray[np.uint8]
Pair = Literal["parity", "order", "init"]
SAMPLING = {"output_range": [0, 1], "rounding": "round_half_even_255"}


@dataclass(frozen=True, slots=True)
class Recipe:
    """The constants of 000, section IV-A."""

    latent: int = 32
    hidden: int = 64
    steps: int = 20_000
    batch: int = 256
    rate: float = 0.01


@dataclass(frozen=True, slots=True)
class AutoEncoder:
    """A trained pair of halves; `loss` is the mean squared error of the last batch."""

    encoder: nn.Module
    decoder: MLPDecoder
    loss: float
    recipe: Recipe

    def generator(self, name: str) -> Generator:
        """The decoder as a generator with the prior `code`."""
        _, height, width = self.decoder.image_shape
        config = {"latent": self.recipe.latent, "hidden": [self.recipe.hidden], "height": height, "width": width,
                  "channels": 1, "activation": "sigmoid", "prior": "code"}  # fmt: skip
        return make_generator(name, self.decoder, "mlp-decoder", config, SAMPLING)

    @torch.no_grad()
    def codes(self, pictures: Pixels) -> Tensor:
        """float32 [N, latent]: the encoder's outputs for uint8 [N, H, W]; latents of probes."""
        return self.encoder(unit(pictures))


def unit(pictures: Pixels) -> Tensor:
    """float32 [N, H W] on [0, 1] of uint8 [N, H, W]."""
    return torch.from_numpy(pictures.reshape(len(pictures), -1)).float() / 255


def fresh_halves(recipe: Recipe, height: int, width: int) -> tuple[nn.Sequential, MLPDecoder]:
    """(encoder, decoder) with initial weights from torch's global random state, the encoder's first."""
    encoder = nn.Sequential(
        nn.Linear(height * width, recipe.hidden), nn.Sigmoid(), nn.Linear(recipe.hidden, recipe.latent), nn.Sigmoid()
    )
    return encoder, MLPDecoder(recipe.latent, [recipe.hidden], (1, height, width), "sigmoid")


def train(pictures: Pixels, recipe: Recipe, *, order_seed: int, init_seed: int) -> AutoEncoder:
    """An auto-encoder of uint8 [N, H, W]; batches follow `order_seed` alone, initial weights `init_seed` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(init_seed)
        encoder, decoder = fresh_halves(recipe, *pictures.shape[1:])
    data = unit(pictures)
    adam = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=recipe.rate)
    loss = torch.zeros(())
    for rows in batches(len(data), recipe.batch, recipe.steps, order_seed):
        batch = data[rows]
        loss = (decoder(encoder(batch)).flatten(1) - batch).square().mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
    return AutoEncoder(encoder.eval().requires_grad_(False), decoder, float(loss.detach()), recipe)


def batches(count: int, size: int, steps: int, seed: int) -> list[Tensor]:
    """`steps` batches of rows: a fresh permutation an epoch, the rest of one too small for a batch left out."""
    rng = torch.Generator().manual_seed(seed)
    size = min(size, count)
    found: list[Tensor] = []
    while len(found) < steps:
        order = torch.randperm(count, generator=rng)
        found += [order[start : start + size] for start in range(0, count - size + 1, size)]
    return found[:steps]


def plan_pair(pair: Pair, pictures: Pixels, labels: Pixels, *, seed: int) -> list[tuple[Pixels, int, int]]:
    """(pictures, order seed, init seed) of the two auto-encoders of one repetition; another `seed` is another one."""
    sets = [pictures[labels % 2 == 1], pictures[labels % 2 == 0]] if pair == "parity" else [pictures, pictures]
    orders = [seed, seed] if pair == "init" else [seed, seed + 500_000]
    return [
        (data, order, seed + 1_000_000 * number)
        for number, (data, order) in enumerate(zip(sets, orders, strict=True), 1)
    ]


def train_pair(
    pair: Pair, pictures: Pixels, labels: Pixels, recipe: Recipe, *, seed: int
) -> tuple[AutoEncoder, AutoEncoder]:
    """The two auto-encoders of one repetition of E1, E2 or E3."""
    first, second = (
        train(data, recipe, order_seed=order, init_seed=init)
        for data, order, init in plan_pair(pair, pictures, labels, seed=seed)
    )
    return first, second
