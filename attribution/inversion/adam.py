"""004's Algorithm 1: many random starts, Adam on the distance to the probe, the best of them per generator.

All starts of all candidates advance in one loop, the starts of a generator in one batch. The lowest loss met is kept,
not the last. Source: 004 Algorithm 1 and section IV; 000 section III (multi-start).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..generators.protocol import LatentSpec

Loss = Callable[[Tensor], Tensor]
"""Latents [B, d] -> loss [B], differentiable."""

BETAS = (0.9, 0.999)
EPSILON = 1e-8


def project(z: Tensor, latent: LatentSpec) -> Tensor:
    """Latents [B, d] put back onto the support of their prior; the normal prior has full support."""
    if latent.prior == "sphere":
        return z * (math.sqrt(latent.dim) / z.norm(dim=-1, keepdim=True).clamp_min(1e-12))
    return z.clamp(-1, 1) if latent.prior == "uniform" else z


def adam(
    losses: Sequence[Loss],
    latents: Sequence[LatentSpec],
    starts: Sequence[Tensor],
    *,
    steps: int,
    rate: float,
    prior: float,
    stop: Callable[[], bool] | None = None,
) -> list[tuple[Tensor, Tensor]]:
    """Per generator (z [B, d], loss [B]): for every start the best latent met in `steps` steps, and its loss.

    `prior` weighs a penalty of mean z^2 (normal prior only). `stop()` true ends the loop early.
    """
    points = [project(start.detach().clone(), latent) for start, latent in zip(starts, latents, strict=True)]
    means = [torch.zeros_like(z) for z in points]
    squares = [torch.zeros_like(z) for z in points]
    best = [(z.clone(), torch.full((len(z),), math.inf, device=z.device)) for z in points]
    for step in range(steps + 1):
        if stop is not None and step and stop():
            break
        for index, (loss_of, latent) in enumerate(zip(losses, latents, strict=True)):
            z = points[index].requires_grad_(True)
            loss = loss_of(z)
            kept, lowest = best[index]
            with torch.no_grad():
                better = loss.detach() < lowest
                best[index] = (
                    torch.where(better[:, None], z.detach(), kept),
                    torch.where(better, loss.detach(), lowest),
                )
            if step == steps:
                continue
            penalty = prior * z.square().mean(1).sum() if latent.prior == "normal" else torch.zeros((), device=z.device)
            (gradient,) = torch.autograd.grad(loss.sum() + penalty, z)
            with torch.no_grad():
                means[index].mul_(BETAS[0]).add_(gradient, alpha=1 - BETAS[0])
                squares[index].mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
                mean = means[index] / (1 - BETAS[0] ** (step + 1))
                scale = (squares[index] / (1 - BETAS[1] ** (step + 1))).sqrt_().add_(EPSILON)
                points[index] = project(z.detach() - rate * mean / scale, latent)
    return best
