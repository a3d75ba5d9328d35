"""000's inversions as they are: Adam from random starts, and of each start the lowest loss that it met.

| recipe | starts | steps | rate | else | source |
| --- | --- | --- | --- | --- | --- |
| `MNIST` | 10 | 1000 | 0.01 | | 000 section IV-A |
| `MNIST_001` | 1 | 1000 | 0.01 | steps and rate are 000's: 001 prints none | 001 section 4.1: no multi-start |
| `SNGAN` | 10 | 1000 | 0.1 | | 000 section IV-B |
| `SAGAN` | 10 | 1000 | 0.1 | halved after 30 steps without progress | 000 section IV-B |
| `PROGAN` | 20 | 300 | 0.9 | | 000 section IV-B |

Adam's moments are Adam's own (0.9, 0.999), which nothing in the papers contradicts; "progress" on a plateau is
torch's default, one part in ten thousand. Neither paper says where a start comes from: here, from the prior. Latents
are not held to it afterwards. `sequential` makes one run after another through autograd, as the papers' code would;
`batched` makes the same runs side by side, where a gradient of one does not touch another.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from plausible.attribution.generators import Generator
from torch import Tensor

Pixels = NDArray[np.uint8]
PATIENCE_THRESHOLD = 1e-4


@dataclass(frozen=True, slots=True)
class Recipe:
    """Constants of one inversion; `loss` and `optimiser` are what E9 varies."""

    starts: int
    steps: int
    rate: float
    shrink: float = 1.0
    """Factor of the rate on a plateau."""
    patience: int = 0
    loss: Literal["l2", "l1"] = "l2"
    optimiser: Literal["adam", "lbfgs"] = "adam"


MNIST = Recipe(starts=10, steps=1000, rate=0.01)
MNIST_001 = replace(MNIST, starts=1)
SNGAN = Recipe(starts=10, steps=1000, rate=0.1)
SAGAN = replace(SNGAN, shrink=0.5, patience=30)
PROGAN = Recipe(starts=20, steps=300, rate=0.9)
LBFGS_STEPS = 150
"""000 says "significantly fewer steps" and prints no number."""


@dataclass(frozen=True, slots=True)
class Found:
    """Lowest losses met [P] over all starts (mean squared or mean absolute, by the recipe) and their latents [P, d]."""

    losses: NDArray[np.float64]
    z: NDArray[np.float32]


def starts_of(generator: Generator, count: int, recipe: Recipe, seed: int) -> Tensor:
    """[count, starts, d]: latents of the prior."""
    rng = torch.Generator().manual_seed(seed)
    return torch.stack([generator.latent.draw(recipe.starts, rng) for _ in range(count)])


def loss_of(recipe: Recipe, error: Tensor) -> Tensor:
    """[B] of errors [B, N]."""
    return error.square().mean(1) if recipe.loss == "l2" else error.abs().mean(1)


def targets_of(probes: Pixels) -> Tensor:
    """[P, N] on [0, 1] of uint8 [P, H, W, C]."""
    return torch.from_numpy(probes).permute(0, 3, 1, 2).flatten(1).float() / 255


def sequential(probes: Pixels, generator: Generator, recipe: Recipe, starts: Tensor) -> Found:
    """One probe, one start at a time, through the generator's own module and torch's optimisers."""
    targets = targets_of(probes)
    losses, latents = np.full(len(probes), np.inf), np.zeros((len(probes), starts.shape[2]), np.float32)
    for row, target in enumerate(targets):
        for start in starts[row]:
            one = _adam(target, generator, recipe, start) if recipe.optimiser == "adam" else (
                _lbfgs(target, generator, recipe, start))  # fmt: skip
            if one[0] < losses[row]:
                losses[row], latents[row] = one[0], one[1].numpy()
    return Found(losses, latents)


def _adam(target: Tensor, generator: Generator, recipe: Recipe, start: Tensor) -> tuple[float, Tensor]:
    z = start[None].clone().requires_grad_(True)
    adam = torch.optim.Adam([z], lr=recipe.rate)
    plateau = None
    if recipe.patience:
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(adam, factor=recipe.shrink, patience=recipe.patience)
    best, best_z = float("inf"), start
    for _ in range(recipe.steps):
        adam.zero_grad()
        loss = loss_of(recipe, generator.images(z).flatten(1) - target)[0]
        loss.backward()
        value = float(loss.detach())
        if value < best:
            best, best_z = value, z.detach()[0].clone()
        adam.step()
        if plateau is not None:
            plateau.step(value)
    return best, best_z


def _lbfgs(target: Tensor, generator: Generator, recipe: Recipe, start: Tensor) -> tuple[float, Tensor]:
    z = start[None].clone().requires_grad_(True)
    optimiser = torch.optim.LBFGS([z], max_iter=recipe.steps, line_search_fn="strong_wolfe")
    best, best_z = float("inf"), start

    def closure() -> Tensor:
        nonlocal best, best_z
        optimiser.zero_grad()
        loss = loss_of(recipe, generator.images(z).flatten(1) - target)[0]
        loss.backward()
        if float(loss.detach()) < best:
            best, best_z = float(loss.detach()), z.detach()[0].clone()
        return loss

    optimiser.step(closure)  # pyright: ignore[reportArgumentType] - torch declares float, gives a tensor
    return best, best_z


def batched(probes: Pixels, generator: Generator, recipe: Recipe, starts: Tensor, chunk: int = 1000) -> Found:
    """The same runs of Adam side by side, `chunk` at a time, each with its own moments and its own rate."""
    targets, (count, each, dim) = targets_of(probes), starts.shape
    rows = torch.arange(count).repeat_interleave(each)
    losses, latents = torch.empty(count * each), torch.empty(count * each, dim)
    for part in torch.arange(count * each).split(chunk):
        losses[part], latents[part] = _adam_batch(targets[rows[part]], generator, recipe, starts.reshape(-1, dim)[part])
    lowest = losses.reshape(count, each).argmin(1)
    chosen = torch.arange(count) * each + lowest
    return Found(losses[chosen].double().numpy(), latents[chosen].numpy())


def _adam_batch(target: Tensor, generator: Generator, recipe: Recipe, starts: Tensor) -> tuple[Tensor, Tensor]:
    z, best_z = starts.clone(), starts.clone()
    mean, square = torch.zeros_like(z), torch.zeros_like(z)
    best, plateau_best = z.new_full((len(z),), float("inf")), z.new_full((len(z),), float("inf"))
    rate, waited = z.new_full((len(z), 1), recipe.rate), torch.zeros(len(z), dtype=torch.long)
    for step in range(1, recipe.steps + 1):
        point = z.detach().requires_grad_(True)
        loss = loss_of(recipe, generator.images(point).flatten(1) - target)
        (gradient,) = torch.autograd.grad(loss.sum(), point)
        value = loss.detach()
        better = value < best
        best, best_z = torch.where(better, value, best), torch.where(better[:, None], z, best_z)
        mean.mul_(0.9).add_(gradient, alpha=0.1)
        square.mul_(0.999).addcmul_(gradient, gradient, value=0.001)
        scale = (square / (1 - 0.999**step)).sqrt_().add_(1e-8)
        z = z - rate * (mean / (1 - 0.9**step)) / scale
        if recipe.patience:
            progress = value < plateau_best * (1 - PATIENCE_THRESHOLD)
            plateau_best = torch.where(progress, value, plateau_best)
            waited = torch.where(progress, 0, waited + 1)
            late = waited > recipe.patience
            rate, waited = torch.where(late[:, None], rate * recipe.shrink, rate), torch.where(late, 0, waited)
    return best, best_z
