"""Levenberg-Marquardt on many small problems at once: each row of a batch has a latent, a damping and its own end.

For generators whose dense Jacobians fit by the hundred (decoders of some dozen latents); larger ones go one by one
(lm.py). Rows that ended are left out of the batch. Latents in a box are moved along their free coordinates only.
Source: Marquardt (1963); active bounds: Kelley, Iterative Methods for Optimization, section 5.5.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ..generators.latent import LatentSpec

LADDER = (1e2, 1e1, 1.0, 1e-1, 1e-2)
"""Trial dampings of an iteration, in units of the row's own damping, which is relative to its mean curvature."""
FIRST_DAMPING = 1e-2
DAMPING_RANGE = (1e-9, 1e6)
PATIENCE = 4
GAIN = 1e-3
"""A row that gained less than this share of its loss in as many iterations has ended."""


class Rows(Protocol):
    """Residuals of rows of latents; `index` [B] says which rows of the whole batch they are."""

    def residuals(self, z: Tensor, index: Tensor) -> Tensor:
        """[B, M] of latents [B, d]; the loss is their mean square."""
        ...

    def linearise(self, z: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        """(residuals [B, M], Jacobian [B, d, M])."""
        ...


@dataclass(frozen=True, slots=True)
class Ended:
    """Where each row ended: latents [B, d], losses [B], iterations [B]."""

    z: Tensor
    loss: Tensor
    iterations: Tensor


@torch.no_grad()
def descend(rows: Rows, z: Tensor, latent: LatentSpec, *, iterations: int, goal: float = 0.0, chunk: int = 64) -> Ended:
    """At most `iterations` Jacobians a row, from latents [B, d]; a row ends at a loss up to `goal` or when flat."""
    z = latent.project(z.clone())
    everything = torch.arange(len(z))
    loss = torch.cat([rows.residuals(z[i], i).square().mean(1) for i in everything.split(chunk)])
    damping = torch.full_like(loss, FIRST_DAMPING)
    used = torch.zeros(len(z), dtype=torch.int64)
    mark, since = loss.clone(), torch.zeros(len(z), dtype=torch.int64)
    active = loss > goal
    for _ in range(iterations):
        if not bool(active.any()):
            break
        for index in everything[active].split(chunk):
            z[index], loss[index], damping[index] = _step(rows, z[index], loss[index], damping[index], index, latent)
        used[active] += 1
        since += 1
        gained = loss < (1 - GAIN) * mark
        mark = torch.where(gained, loss, mark)
        since[gained] = 0
        active &= (loss > goal) & (since < PATIENCE) & (damping < DAMPING_RANGE[1])
    return Ended(z, loss, used)


def _step(
    rows: Rows, z: Tensor, loss: Tensor, damping: Tensor, index: Tensor, latent: LatentSpec
) -> tuple[Tensor, Tensor, Tensor]:
    residual, jacobian = rows.linearise(z, index)
    gradient = torch.einsum("bdm,bm->bd", jacobian, residual)
    free = _free(z, gradient, latent)
    jacobian = jacobian * free[:, :, None]
    system = (jacobian @ jacobian.transpose(1, 2)).double()
    curvature = system.diagonal(dim1=1, dim2=2).mean(1).clamp_min(1e-12)
    values, vectors = torch.linalg.eigh(system)
    ladder = torch.tensor(LADDER, dtype=torch.float64)
    lift = (ladder[None] * (damping * curvature)[:, None].double())[:, :, None]
    rotated = torch.einsum("bd,bde->be", (gradient * free).double(), vectors)
    steps = torch.einsum("bke,bde->bkd", rotated[:, None] / (values.clamp_min(0)[:, None] + lift), vectors)
    count, tries = len(z), len(ladder)
    points = latent.project((z[:, None] - steps.float()).flatten(0, 1))
    losses = rows.residuals(points, index.repeat_interleave(tries)).square().mean(1).reshape(count, tries)
    best = losses.nan_to_num(torch.inf).argmin(1)
    every = torch.arange(count)
    better = losses[every, best] < loss
    moved = points.reshape(count, tries, -1)[every, best]
    factor = ladder.float()[best].clamp(0.1, 10.0)
    damping = torch.where(better, damping * factor, damping * 100.0).clamp(*DAMPING_RANGE)
    return torch.where(better[:, None], moved, z), torch.where(better, losses[every, best], loss), damping


def _free(z: Tensor, gradient: Tensor, latent: LatentSpec) -> Tensor:
    """1 where a latent number may move, 0 where it stands at a bound of its box and would leave it."""
    if latent.prior not in ("code", "uniform"):
        return torch.ones_like(z)
    low = 0.0 if latent.prior == "code" else -1.0
    return (~(((z <= low) & (gradient > 0)) | ((z >= 1.0) & (gradient < 0)))).to(z.dtype)
