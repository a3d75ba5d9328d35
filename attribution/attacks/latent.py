"""Forged latents: searched from the prior until the generator emits something near a chosen picture.

Three constraints, from the naive forger to one who knows the tests of attribution/seeds:

    free       Adam from a draw of the prior, nothing else
    norm       every step is put back to the |z|^2 of a draw
    marginals  every step's numbers are replaced, rank by rank, by those of a draw: |z|^2, Kolmogorov-Smirnov and
               Anderson-Darling then see exactly what an honest latent shows; only the order of the numbers is forged

The last is a simple form of the out-of-domain latents of Pasquini et al. (2019): statistically a draw, chosen all the
same. How near the picture comes depends on how many latent numbers there are beside its samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..generators.latent import LatentSpec
from ..generators.protocol import Generator
from ..inversion.network import Network

Constraint = Literal["free", "norm", "marginals"]


@dataclass(frozen=True, slots=True)
class ForgedLatents:
    """The best start of each target: latents [B, d], residuals [B] (mean squared error, [0, 1]), 8-bit pictures."""

    z: Tensor
    residual: Tensor
    pictures: Tensor


def forge_latents(
    generator: Generator, targets: Tensor, *, constraint: Constraint = "free", starts: int = 4, steps: int = 300,
    rate: float = 0.1, seed: int = 0,
) -> ForgedLatents:  # fmt: skip
    """Latents for targets uint8 [B, H, W, C], `starts` random ones each; Adam, all in one batch."""
    network, latent = Network(generator), generator.latent
    count, wanted = len(targets), _flat(targets).repeat_interleave(starts, 0)
    rng = torch.Generator().manual_seed(seed)
    model = latent.draw(count * starts, rng)  # whose norm or numbers are borrowed
    free = latent.draw(count * starts, rng).requires_grad_(True)
    optimiser = torch.optim.Adam([free], lr=rate)
    best, best_loss = free.detach().clone(), torch.full((count * starts,), torch.inf)
    for step in range(steps + 1):
        z = constrain(free, model, latent, constraint)
        loss = (network.unit(z) - wanted).square().mean(1)
        with torch.no_grad():
            better = loss < best_loss
            best = torch.where(better[:, None], z, best)
            best_loss = torch.where(better, loss, best_loss)
        if step == steps:
            break
        optimiser.zero_grad()
        loss.sum().backward()  # pyright: ignore[reportUnknownMemberType]
        optimiser.step()  # pyright: ignore[reportUnknownMemberType]
    chosen = best_loss.detach().reshape(count, starts).argmin(1) + torch.arange(count) * starts
    z = best[chosen].detach()
    return ForgedLatents(z, best_loss[chosen].detach(), generator.sample(z))


def _flat(targets: Tensor) -> Tensor:
    return targets.permute(0, 3, 1, 2).flatten(1).float() / 255


def constrain(free: Tensor, model: Tensor, latent: LatentSpec, constraint: Constraint) -> Tensor:
    """Latents [B, d] under the constraint, borrowing from the draws `model` [B, d]; gradients pass to `free`."""
    if constraint == "free":
        return latent.project(free)
    if constraint == "norm":
        return free * (model.norm(dim=1, keepdim=True) / free.norm(dim=1, keepdim=True).clamp_min(1e-12))
    ranks = free.detach().argsort(1).argsort(1)
    borrowed = model.sort(1).values.gather(1, ranks)
    # the numbers are the draw's, to the last bit; the gradient goes to the free ones
    return borrowed + (free - free.detach())
