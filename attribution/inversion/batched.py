"""Levenberg-Marquardt on many runs at once: probes x starts of one generator, each with its own damping.

The normal matrices [d, d] of a whole batch are formed and factored together. A factor serves the damped step and then a
few *chord* steps more: each takes the exact gradient of the new point with the old factor, at a thirtieth of a normal
matrix's cost. Runs that end leave the batch and others take their place, so that it stays full.

Latents are held to the support of their prior. In a box (codes in [0, 1], uniform latents) a number at its bound that
the gradient pulls outwards is left out of the step, so that the others move as if it were a constant. A normal prior
pulls as in lm.py. Source: Marquardt (1963), damping on the diagonal; Bertsekas (1982) for the projected step; chord
steps: Kelley, Iterative Methods for Linear and Nonlinear Equations, section 5.4.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ..generators.protocol import Generator

DAMPING = 1e-3
DAMPING_RANGE = (1e-7, 1e6)
EASIER, HARDER = 0.1, 6.0
"""What a step that was taken and one that was refused do to a run's damping."""
FLAT = 1e-3
"""A run whose residual fell by less than this share in a step that was hardly damped has ended."""
LIGHT = 1e-2
"""Dampings up to here are hardly any."""


class Model(Protocol):
    """One generator, many latents: perceptron.py and general.py."""

    generator: Generator
    device: torch.device
    dim: int
    samples: int
    batch: int
    """Runs worked on at a time."""

    def unit(self, z: Tensor) -> Tensor:
        """[B, N] pictures of latents [B, d] on the scale [0, 1]."""
        ...

    def pull(self, z: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """(mean squared errors [B], J r [B, d]) of latents [B, d] against probes [B, N]."""
        ...

    def normal(self, z: Tensor) -> Tensor:
        """[B, d, d]: J J^T of latents [B, d]."""
        ...


@dataclass(frozen=True, slots=True)
class Runs:
    """Where B runs ended: latents [B, d], mean squared errors [B] and normal matrices formed [B]."""

    z: Tensor
    residual: Tensor
    iterations: Tensor


def bounds(generator: Generator) -> tuple[float, float] | None:
    """The box that the prior's support is, or None."""
    return {"code": (0.0, 1.0), "uniform": (-1.0, 1.0)}.get(generator.latent.prior)


@torch.no_grad()
def descend(
    model: Model,
    targets: Tensor,
    rows: Tensor,
    starts: Tensor,
    *,
    iterations: int,
    chords: int,
    prior: float = 0.0,
    stop: Callable[[], bool] | None = None,
) -> Runs:
    """Run b goes from `starts`[b] (all [B, d]) against `targets`[`rows`[b]] (all [P, N], scale [0, 1]).

    At most `iterations` normal matrices a run, each with at most `chords` further steps; `stop()` true ends all.
    """
    work = _Work(model, targets, rows, model.generator.latent.project(starts.to(targets)), chords, prior)
    waiting = torch.arange(len(rows), device=targets.device)
    active, waiting = waiting[: model.batch], waiting[model.batch :]
    work.begin(active)
    while len(active) and iterations and not (stop is not None and stop()):
        ended = work.step(active) | (work.iterations[active] >= iterations)
        active = active[~ended]
        room = model.batch - len(active)
        if len(waiting) and room:
            fresh, waiting = waiting[:room], waiting[room:]
            work.begin(fresh)
            active = torch.cat([active, fresh])
    if len(waiting):
        for part in waiting.split(model.batch):
            work.begin(part)
    return Runs(work.z, work.loss, work.iterations)


class _Work:
    """All runs' state; methods act on the runs of an index [A]."""

    def __init__(self, model: Model, targets: Tensor, rows: Tensor, starts: Tensor, chords: int, prior: float) -> None:
        self.model, self.targets, self.rows, self.chords = model, targets, rows, chords
        self.box = bounds(model.generator)
        self.prior = prior if model.generator.latent.prior == "normal" else 0.0
        count, dim = starts.shape
        self.z = starts.clone()
        self.loss = starts.new_full((count,), float("inf"))
        self.gradient = torch.zeros_like(self.z)
        self.matrix = starts.new_zeros(count, dim, dim)
        self.damping = starts.new_full((count,), DAMPING, dtype=torch.float64)
        self.moved = torch.ones(count, dtype=torch.bool, device=starts.device)
        self.iterations = torch.zeros(count, dtype=torch.long, device=starts.device)

    def begin(self, a: Tensor) -> None:
        self.loss[a], self.gradient[a] = self.model.pull(self.z[a], self.targets[self.rows[a]])

    def step(self, a: Tensor) -> Tensor:
        """One damped step and its chords for every run of a; True where a run has ended."""
        fresh = a[self.moved[a]]
        if len(fresh):
            self.matrix[fresh] = self.model.normal(self.z[fresh])
            self.iterations[fresh] += 1
        before, target = self.loss[a], self.targets[self.rows[a]]
        pull = self.prior * before
        here, loss, gradient = self.z[a], before, self.gradient[a]
        merit = self._merit(here, loss, pull)
        factor, free = self._factor(a, here, gradient - pull[:, None] * here, pull)
        active = torch.arange(len(a), device=a.device)
        taken, first = torch.zeros(len(a), dtype=torch.bool, device=a.device), torch.zeros_like(before)
        for chord in range(self.chords + 1):
            downhill = (gradient[active] - pull[active, None] * here[active]) * free[active]
            delta = torch.cholesky_solve(downhill[:, :, None].double(), factor[active])[:, :, 0].to(here)
            trial = self.model.generator.latent.project(here[active] + delta)
            there, slope = self.model.pull(trial, target[active])
            worth = self._merit(trial, there, pull[active])
            better = worth < merit[active]
            gain = 1 - worth / merit[active].clamp_min(1e-30)
            index = active[better]
            here[index], loss[index], gradient[index], merit[index] = (
                trial[better], there[better], slope[better], worth[better]
            )  # fmt: skip
            if chord == 0:
                taken = better
                first = torch.where(better, gain, 0.0)
            active = active[better & (gain > FLAT)]
            if not len(active):
                break
        damping = self.damping[a]
        ended = taken & (first < FLAT) & (damping <= LIGHT)
        ended |= ~taken & (damping >= DAMPING_RANGE[1])
        # at the rounding of float32 nothing improves any more, however small the step
        ended |= ~taken & (damping > LIGHT) & (free * gradient).abs().amax(1).lt(1e-7)
        self.damping[a] = (damping * torch.where(taken, EASIER, HARDER)).clamp(*DAMPING_RANGE)
        self.z[a], self.loss[a], self.gradient[a], self.moved[a] = here, loss, gradient, taken
        return ended

    def _merit(self, z: Tensor, loss: Tensor, pull: Tensor) -> Tensor:
        return loss + pull * z.square().sum(1) / self.model.samples if self.prior else loss

    def _factor(self, a: Tensor, z: Tensor, gradient: Tensor, pull: Tensor) -> tuple[Tensor, Tensor]:
        """(Cholesky factors [A, d, d] of the damped systems, in double, numbers that may move [A, d])."""
        free = torch.ones_like(z)
        if self.box is not None:
            low, high = self.box
            free[((z <= low) & (gradient < 0)) | ((z >= high) & (gradient > 0))] = 0
        system = self.matrix[a].double() * (free[:, :, None] * free[:, None])
        diagonal = system.diagonal(dim1=1, dim2=2)
        scale = diagonal.mean(1, keepdim=True)
        damped = self.damping[a][:, None] * (diagonal + 1e-3 * scale) + 1e-9 * scale + 1e-30
        diagonal += damped + (1 - free) * (1 + scale) + pull[:, None]
        return torch.linalg.cholesky_ex(system)[0], free
