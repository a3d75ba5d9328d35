"""004's Algorithm 1: many random starts, Adam on the distance to the probe, the best of them per generator.

All starts of all candidates advance in one loop, the starts of a generator in one batch (a `Pool`). The lowest loss a
start met is kept, not its last. A pool can be advanced again: later rounds go on where earlier ones stopped.
Source: 004 Algorithm 1 and section IV; 000 section III (multi-start); Kingma and Ba (2015).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..generators.protocol import LatentSpec
from .memory import Batches

Loss = Callable[[Tensor], Tensor]
"""Latents [B, d] -> loss [B], differentiable."""

BETAS = (0.9, 0.999)
EPSILON = 1e-8


def project(z: Tensor, latent: LatentSpec) -> Tensor:
    """Latents [B, d] put back onto the support of their prior; the normal prior has full support."""
    return latent.project(z)


class Pool:
    """The starts of one generator, [B, d], with Adam's moments and the best point each start met.

    `onto` puts points back where they may be, if they are more than latents (affine.py); latents have their prior's.
    """

    def __init__(
        self, loss: Loss, latent: LatentSpec, starts: Tensor, onto: Callable[[Tensor], Tensor] | None = None
    ) -> None:
        self.loss = loss
        self.latent = latent
        self._onto = onto or latent.project
        self.points = self._onto(starts.detach().clone())
        self.best = self.points.clone()
        self.best_loss = torch.full((len(starts),), math.inf, device=starts.device)
        self.batches = Batches()
        self.steps = 0
        self._mean = torch.zeros_like(self.points)
        self._square = torch.zeros_like(self.points)

    def step(self, rate: float, prior: float) -> None:
        """One Adam step of all starts; the penalty `prior` x mean z^2 holds latents of a normal prior near it."""
        z = self.points

        def measured(points: Tensor) -> tuple[Tensor, Tensor]:
            points = points.detach().requires_grad_(True)
            loss = self.loss(points)
            penalty = prior * points.square().mean(1).sum() if self.latent.prior == "normal" else loss.new_zeros(())
            return loss.detach(), torch.autograd.grad(loss.sum() + penalty, points)[0]

        loss, gradient = self.batches(measured, z)
        self._note(loss)
        self.steps += 1
        with torch.no_grad():
            self._mean.mul_(BETAS[0]).add_(gradient, alpha=1 - BETAS[0])
            self._square.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
            mean = self._mean / (1 - BETAS[0] ** self.steps)
            scale = (self._square / (1 - BETAS[1] ** self.steps)).sqrt_().add_(EPSILON)
            self.points = self._onto(z.detach() - rate * mean / scale)

    @torch.no_grad()
    def measure(self) -> None:
        """Note the loss of the points where the last step ended."""
        self._note(self.batches(lambda points: (self.loss(points),), self.points)[0])

    def _note(self, loss: Tensor) -> None:
        better = loss < self.best_loss
        self.best = torch.where(better[:, None], self.points.detach(), self.best)
        self.best_loss = torch.where(better, loss, self.best_loss)


def advance(
    pools: Sequence[Pool], *, steps: int, rate: float, prior: float, stop: Callable[[], bool] | None = None
) -> None:
    """`steps` Adam steps of every pool, side by side; `stop()` true ends the loop early."""
    for step in range(steps):
        if stop is not None and step and stop():
            break
        for pool in pools:
            pool.step(rate, prior)
    for pool in pools:
        pool.measure()
