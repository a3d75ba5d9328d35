"""Levenberg-Marquardt with a dense Jacobian, a ladder of dampings and chord steps, for latents of some hundred numbers.

Minimises |x - G(z)|^2 / s + |z|^2 / prior over the N samples of a probe: the most probable latent under a normal prior,
for noise whose variance s is the run's own mean squared error, so that the prior leads a run out of valleys of
improbable latents and is gone at the floor. One Jacobian J [d, N] costs about d forward passes, a trial
picture one: so each Jacobian is spent on eight dampings at once, and each trial goes on for a few *chord* steps (new
residual, old Jacobian), which follow the curved valleys that a single straight step leaves. The best point met
becomes the next one. Source: Marquardt (1963); chord steps: Kelley, Iterative Methods for Linear and Nonlinear
Equations, section 5.4.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, Protocol

import torch
from torch import Tensor

Status = Literal["running", "floor", "flat"]

LADDER = (10.0, 10**0.5, 1.0, 10**-0.5, 1e-1, 1e-2, 1e-3, 1e-5)
"""Trial dampings, in units of the run's own damping."""
DAMPING_RANGE = (1e-3, 1e3)
HOPELESS_DAMPING = 1e4
FLAT_PATIENCE = 4
FLAT_GAIN = 0.06
"""A run whose residual fell by less than 6 % over four Jacobians is flat."""


class Model(Protocol):
    """What is fitted: a generator's `Network`, or one followed by a warp (warp.py)."""

    device: torch.device
    normal: Tensor
    """[d]: 1 for numbers of a standard normal prior, 0 for the others."""

    def unit(self, z: Tensor) -> Tensor:
        """[B, N] pictures of points [B, d] on the scale [0, 1]."""
        ...

    def linearise(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """(picture [N], Jacobian [d, N]) at one point [d]."""
        ...

    def project(self, points: Tensor) -> Tensor:
        """Points [B, d] put back where points may be."""
        ...


@dataclass(slots=True)
class Run:
    """One start's descent; `advance` continues it. `residual` is the mean squared error on the [0, 1] scale."""

    z: Tensor
    residual: float
    damping: float = 1.0
    iterations: int = 0
    status: Status = "running"
    history: list[float] = field(default_factory=list[float])


@torch.no_grad()
def start(network: Model, target: Tensor, z: Tensor) -> Run:
    """A run at latent [d] against the flat probe [N] on the scale [0, 1]."""
    residual = float((network.unit(z[None])[0] - target).square().mean())
    return Run(z=z.detach().clone(), residual=residual, history=[residual])


@torch.no_grad()
def advance(
    run: Run,
    network: Model,
    target: Tensor,
    *,
    iterations: int,
    chords: int,
    goal: float,
    prior: float = 0.0,
    stop: Callable[[], bool] | None = None,
) -> Run:
    """At most `iterations` Jacobians more, until the residual is at most `goal`, the run is flat or `stop()`.

    `prior` is the number of samples that count as one independent one (errors of neighbouring samples go together);
    0 leaves the prior out.
    """
    ladder = torch.tensor(LADDER, dtype=torch.float64)
    for _ in range(iterations):
        if run.residual <= goal:
            run.status = "floor"
        if run.status != "running" or (stop is not None and stop()):
            break
        _step(run, network, target, ladder, chords, prior)
        run.iterations += 1
        run.history.append(run.residual)
        if run.damping > HOPELESS_DAMPING or (
            len(run.history) > FLAT_PATIENCE and run.residual > (1 - FLAT_GAIN) * run.history[-1 - FLAT_PATIENCE]
        ):
            run.status = "flat"
    if run.residual <= goal:
        run.status = "floor"
    return run


def _step(run: Run, network: Model, target: Tensor, ladder: Tensor, chords: int, prior: float) -> None:
    picture, jacobian = network.linearise(run.z)
    pull = (prior * run.residual * network.normal).cpu().double()
    # the d x d systems are tiny: solved in double on the CPU, by one eigendecomposition for all dampings
    values, vectors = torch.linalg.eigh((jacobian @ jacobian.T).cpu().double() + torch.diag(pull))
    inverse = 1 / (values.clamp_min(0)[None] + (ladder * run.damping)[:, None])

    def solve(points: Tensor, residuals: Tensor, rows: Tensor) -> Tensor:
        """Damped Gauss-Newton steps [B, d] at points [B, d] with residuals [B, N], each with its own damping."""
        gradient = (residuals @ jacobian.T).cpu().double() - pull * points.cpu().double()
        return ((((gradient @ vectors) * inverse[rows]) @ vectors.T).float()).to(network.device)

    def merit(points: Tensor, loss: Tensor) -> Tensor:
        return loss + (points.cpu().double().square() @ pull / target.numel())

    rows = torch.arange(len(ladder))
    first = (target - picture)[None].expand(len(ladder), -1)
    here = run.z[None].expand(len(ladder), -1)
    points = network.project(here + solve(here, first, rows))
    best = float(merit(run.z[None], torch.tensor([run.residual]))[0])
    best_z, best_loss, best_row = None, run.residual, 0
    previous: Tensor | None = None
    for chord in range(chords + 1):
        residuals = target - network.unit(points)
        losses = residuals.square().mean(1).cpu()
        merits = merit(points, losses)
        leader = int(merits.argmin())
        if float(merits[leader]) < best:
            best, best_loss = float(merits[leader]), float(losses[leader])
            best_z, best_row = points[leader].clone(), int(rows[leader])
        if chord == chords:
            break
        keep = torch.zeros(len(merits), dtype=torch.bool)
        keep[merits.argsort()[: max(2, len(merits) // 2)]] = True
        if previous is not None:
            keep &= merits < previous
        if not bool(keep.any()):
            break
        points, residuals, rows, previous = points[keep], residuals[keep], rows[keep], merits[keep]
        points = network.project(points + solve(points, residuals, rows))
    if best_z is None:
        run.damping *= 30
        return
    run.z, run.residual = best_z, best_loss
    if best_row < 2:
        run.damping *= 3
    elif best_row > len(ladder) - 3:
        run.damping /= 10
    run.damping = min(max(run.damping, DAMPING_RANGE[0]), DAMPING_RANGE[1])
