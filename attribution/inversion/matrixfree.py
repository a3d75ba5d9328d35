"""Gauss-Newton with conjugate gradients: no Jacobian is ever stored, so the latent and the picture may be large.

Each step solves (J'J + P) s = J'r + P-terms for a batch of starts at once, where J is applied from one recorded graph:
J'w by reverse mode, J v as the derivative of w -> J'w by w, which every differentiable module supports and which does
not run the network again. The iterates of conjugate gradients from the first to the last lead from the steepest descent
to the full Gauss-Newton step, so a few of them are tried as steps: early ones are damped, as Levenberg's are. The
prior pulls as in lm.py: |u|^2 weighed by the run's own mean squared error.

Source: Steihaug (1983) for truncated conjugate gradients as a trust region; Nocedal and Wright, Numerical Optimization,
sections 7.1 and 10.3; Martens (2010) for products with the Gauss-Newton matrix.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from .memory import refused
from .unknowns import Unknowns

Status = Literal["running", "floor", "flat"]

TRIED = (1, 2, 4, 8, 14, 22, 32, 48, 64, 96)
"""Iterates of conjugate gradients that are tried as steps; the last one ends them."""
FEWEST, MOST = 14, TRIED[-1]
"""Iterations a step begins with, and the most: doubled when the last iterate was the best one."""
SOLVED = 1e-4
"""Relative residual of the normal equations at which they count as solved."""
SHORTER = (0.25, 0.05)
"""Shares of the first iterate that are tried where no iterate descends."""
FLAT_PATIENCE = 5
FLAT_GAIN = 0.03
"""A run whose residual fell by less than 3 % over five steps is flat."""


@dataclass(slots=True)
class Run:
    """One start's descent. `residual` is the mean squared error on the [0, 1] scale, overshot samples 0."""

    point: Tensor
    residual: float
    iterations: int = 0
    products: int = 0
    """Products with J or its transpose: what the search costs, in passes of the network."""
    depth: int = FEWEST
    status: Status = "running"
    history: list[float] = field(default_factory=list[float])


def start(model: Unknowns, points: Tensor) -> list[Run]:
    """Runs at unknowns [B, D]."""
    with torch.no_grad():
        points = model.project(points.detach())
        losses = model.loss(points)
    return [
        Run(point=point.clone(), residual=float(loss), history=[float(loss)])
        for point, loss in zip(points, losses, strict=True)
    ]


class _Linearised:
    """J at points [B, D], from one recorded graph; samples that do not count are left out."""

    def __init__(self, model: Unknowns, points: Tensor) -> None:
        self.model = model
        self.points = points.detach().clone().requires_grad_(True)
        with torch.enable_grad():
            self.pictures = model.pictures(self.points)
            error, counts = model.error(self.pictures.detach())
            self.weight = torch.zeros_like(self.pictures, requires_grad=True)
            (self.pulled,) = torch.autograd.grad(self.pictures, self.points, self.weight, create_graph=True)
        self.error, self.counts = error, counts

    def transposed(self, samples: Tensor) -> Tensor:
        """J'w [B, D] of w [B, N], in the tangent space."""
        (pulled,) = torch.autograd.grad(self.pictures, self.points, samples * self.counts, retain_graph=True)
        return self.model.tangent(self.points.detach(), pulled)

    def forward(self, steps: Tensor) -> Tensor:
        """J v [B, N] of v [B, D]."""
        (pushed,) = torch.autograd.grad(self.pulled, self.weight, steps, retain_graph=True)
        return pushed * self.counts


def advance(
    runs: list[Run],
    model: Unknowns,
    *,
    iterations: int,
    goal: float,
    prior: float = 0.0,
    stop: Callable[[], bool] | None = None,
) -> None:
    """At most `iterations` Gauss-Newton steps more of every run, side by side, until one reaches `goal` or `stop()`.

    `prior` as in `lm.advance`: the number of samples that count as one independent one.
    """
    for _ in range(iterations):
        for run in runs:
            if run.residual <= goal:
                run.status = "floor"
        active = [run for run in runs if run.status == "running"]
        if not active or any(run.status == "floor" for run in runs) or (stop is not None and stop()):
            break
        _halving(active, model, prior)
    for run in runs:
        if run.residual <= goal:
            run.status = "floor"


def _halving(runs: list[Run], model: Unknowns, prior: float) -> None:
    """One step of all runs, in as large a batch as memory allows."""
    at = 0
    while at < len(runs):
        part = runs[at : at + (model.batches.limit or len(runs))]
        try:
            with model.batches.arithmetic():
                _step(part, model, prior)
        except (RuntimeError, MemoryError) as error:
            if not refused(error):
                raise
            trouble = error.with_traceback(None)
        else:
            at += len(part)
            continue
        model.batches.halve(len(part), trouble)


def _step(runs: list[Run], model: Unknowns, prior: float) -> None:
    points = torch.stack([run.point for run in runs])
    residuals = torch.tensor([run.residual for run in runs], device=points.device)
    pull = (prior * residuals)[:, None] * model.normal
    jacobian = _Linearised(model, points)
    right = -jacobian.transposed(jacobian.error) - model.tangent(points, pull * points)
    depth = max(run.depth for run in runs)
    iterates, used = _conjugate_gradients(jacobian, model, points, right, pull, depth)
    best = _best(model, points, pull, residuals, iterates)
    for row, run in enumerate(runs):
        run.iterations += 1
        run.products += 2 * used + 2
        index, residual, point = best[row]
        if point is not None:
            run.point, run.residual = point, residual
        if index >= len(iterates) - 1:
            run.depth = min(MOST, 2 * run.depth)
        elif index < len(iterates) // 2:
            run.depth = max(FEWEST, run.depth // 2)
        run.history.append(run.residual)
        stuck = len(run.history) > FLAT_PATIENCE and run.residual > (1 - FLAT_GAIN) * run.history[-1 - FLAT_PATIENCE]
        if point is None or stuck:
            run.status = "flat"


def _conjugate_gradients(
    jacobian: _Linearised, model: Unknowns, points: Tensor, right: Tensor, pull: Tensor, depth: int
) -> tuple[list[Tensor], int]:
    """Some of the iterates [B, D] of (J'J + P) s = right from s = 0, and how many iterations there were."""
    step = torch.zeros_like(right, dtype=torch.float64)
    rest = right.double()
    direction = rest.clone()
    size = rest.square().sum(1)
    first = size.clone()
    kept: list[Tensor] = []
    used = 0
    for number in range(1, depth + 1):
        flat = direction.to(right.dtype)
        curved = jacobian.transposed(jacobian.forward(flat)) + model.tangent(points, pull * flat)
        used = number
        curvature = (direction * curved.double()).sum(1)
        # a solved or flat row stands still while the others go on
        moving = (size > SOLVED**2 * first) & (curvature > 0)
        if not bool(moving.any()):
            break
        length = torch.where(moving, size / curvature.clamp_min(1e-300), torch.zeros_like(size))
        step = step + length[:, None] * direction
        rest = rest - length[:, None] * curved.double()
        after = rest.square().sum(1)
        share = torch.where(moving, after / size.clamp_min(1e-300), torch.zeros_like(size))
        direction = torch.where(moving[:, None], rest + share[:, None] * direction, direction)
        size = torch.where(moving, after, size)
        if number in TRIED or number == depth:
            kept.append(step.to(right.dtype))
    if not kept or used not in (*TRIED, depth):
        kept.append(step.to(right.dtype))
    return kept, used


@torch.no_grad()
def _best(
    model: Unknowns, points: Tensor, pull: Tensor, residuals: Tensor, iterates: list[Tensor]
) -> list[tuple[int, float, Tensor | None]]:
    """For each row: (which iterate, its residual, its point), by the merit with the prior; None if none descends."""

    def merit(there: Tensor, losses: Tensor) -> Tensor:
        return losses + (there.square() * pull).sum(1) / model.samples

    here = merit(points, residuals)
    found: list[tuple[int, float, Tensor | None]] = [(0, float(r), None) for r in residuals]
    lowest = here.clone()
    for batch in (list(enumerate(iterates)), [(-1, share * iterates[0]) for share in SHORTER]):
        for index, step in batch:
            there = model.project(points + step)
            losses = model.loss(there)
            merits = merit(there, losses)
            for row in range(len(points)):
                if float(merits[row]) < float(lowest[row]):
                    lowest[row] = merits[row]
                    found[row] = (index, float(losses[row]), there[row].clone())
        if all(point is not None for _, _, point in found):
            break
    return found


def reducible(model: Unknowns, point: Tensor) -> float:
    """Share of the squared residual at a point [D] that one Gauss-Newton step promises to remove, from below.

    Conjugate gradients of `MOST` iterations see the well-determined directions first: what they leave out is small.
    """
    jacobian = _Linearised(model, point[None])
    total = float(jacobian.error.double().square().sum())
    if total == 0:
        return 0.0
    right = -jacobian.transposed(jacobian.error)
    flat = torch.zeros_like(right)
    iterates, _ = _conjugate_gradients(jacobian, model, jacobian.points.detach(), right, flat, MOST)
    return min(1.0, max(0.0, float((iterates[-1].double() * right.double()).sum()) / total))
