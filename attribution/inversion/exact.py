"""The bit-exact certificate: a latent whose published picture equals the probe in every 8-bit sample.

Such a latent is found, not assumed: near the rounding floor G is almost linear over the remaining distance, so "every
sample rounds to the probe's level" is a polytope |e + J dz| <= 1/2 level in d unknowns. Its Chebyshev centre (the dz
that minimises the largest error) is a linear programme, solved by a primal-dual interior point method whose normal
equations are d x d; then the errors are measured again by the owner's own module and the programme is solved again.
Samples at 0 or 255 are bounded on one side only. A reproduction of all samples needs no threshold: d unknowns cannot
meet thousands of constraints by chance, provided that d is far below their number (`guard`). Source: Mehrotra (1992)
for the method.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..generators.protocol import LatentSpec
from .adam import project
from .network import Network

MAX_LATENT_SHARE = 0.25
INTERIOR_STEPS = 40
INTERIOR_GAP = 1e-4
"""Levels: the programme stops when its optimum is known this well."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """The best latent met: float32 [d], its published picture [H, W, C] and the samples that differ from the probe."""

    z: Tensor
    picture: Tensor
    mismatches: int
    largest_error: float
    """Largest distance to the probe's level among samples that count, in levels, before rounding (0.5 = boundary)."""
    iterations: int


def guard(z: Tensor, latent: LatentSpec, samples: int) -> str | None:
    """Why this latent may certify nothing, or None: too many latent numbers, or a norm that the prior does not draw.

    A generator with as many latents as samples reproduces anything; and a norm outside the prior's central 1 - 1e-6
    was searched for, not drawn.
    """
    if latent.dim > MAX_LATENT_SHARE * samples:
        return f"the latent has {latent.dim} numbers, more than a quarter of the {samples} samples"
    return latent.objection(z)


def _least_squares_step(jacobian: Tensor, error: Tensor, lower: Tensor, upper: Tensor) -> tuple[Tensor, float]:
    """(dz [d], 0): the Gauss-Newton step, which leads near the polytope from further off."""
    system = jacobian @ jacobian.T
    system.diagonal().add_(1e-9 * float(system.diagonal().max()))
    return -torch.linalg.solve(system, jacobian @ error), 0.0


def chebyshev_step(jacobian: Tensor, error: Tensor, lower: Tensor, upper: Tensor) -> tuple[Tensor, float]:
    """(dz [d], t): minimises t with error + J^T dz <= t where `upper` and >= -t where `lower`.

    float64 on the CPU; jacobian [d, N] and error [N] in levels, masks [N]. Most samples lie far inside: the programme
    is solved over those near the bound, and again with any that its solution violates.
    """
    signed = torch.cat([error[upper], -error[lower]])
    rows = torch.cat([jacobian[:, upper], -jacobian[:, lower]], dim=1).T.contiguous()
    # below d + 1 rows the optimum would not be determined
    near = signed >= min(float(signed.max()) / 2, float(signed.sort(descending=True).values[: 4 * len(jacobian)][-1]))
    while True:
        delta, bound = _interior_point(rows[near], signed[near])
        violated = (signed + rows @ delta > bound + INTERIOR_GAP) & ~near
        if not bool(violated.any()):
            return delta, bound
        near |= violated


def _interior_point(rows: Tensor, signed: Tensor) -> tuple[Tensor, float]:
    """(x [d], t): minimises t with signed + rows x <= t, by Mehrotra's predictor and corrector; feasible throughout."""
    count, dim = rows.shape
    delta = torch.zeros(dim, dtype=torch.float64)
    bound = float(signed.max()) + 0.1
    slack = bound - signed
    weight = torch.full((count,), 1.0 / count, dtype=torch.float64)
    for _ in range(INTERIOR_STEPS):
        gap = float(slack @ weight)
        if gap < INTERIOR_GAP and abs(float(weight.sum()) - 1) < 1e-6:
            break
        system = _Normal(rows, slack, weight)
        _, _, d_slack, d_weight = system.direction(torch.zeros_like(slack))
        step_p, step_d = _largest(slack, d_slack), _largest(weight, d_weight)
        affine = float((slack + step_p * d_slack) @ (weight + step_d * d_weight))
        centre = (affine / gap) ** 3 * gap / count
        d_delta, d_bound, d_slack, d_weight = system.direction(centre - d_slack * d_weight)
        step_p, step_d = 0.995 * _largest(slack, d_slack), 0.995 * _largest(weight, d_weight)
        delta = delta + step_p * d_delta
        bound += step_p * d_bound
        slack = slack + step_p * d_slack
        weight = weight + step_d * d_weight
    return delta, bound


class _Normal:
    """The (d + 1) x (d + 1) normal equations of one interior-point iterate, factored once for both directions."""

    def __init__(self, rows: Tensor, slack: Tensor, weight: Tensor) -> None:
        self.rows, self.slack, self.weight = rows, slack, weight
        self.ratio = weight / slack
        scaled = rows * self.ratio[:, None]
        dim = rows.shape[1]
        system = torch.empty(dim + 1, dim + 1, dtype=torch.float64)
        system[:dim, :dim] = rows.T @ scaled
        system[:dim, :dim].diagonal().add_(1e-12)
        system[:dim, dim] = system[dim, :dim] = -scaled.sum(0)
        system[dim, dim] = self.ratio.sum()
        self.factor = torch.linalg.lu_factor(system)
        self.dual = torch.cat([-(rows.T @ weight), (weight.sum() - 1)[None]])

    def direction(self, complementarity: Tensor) -> tuple[Tensor, float, Tensor, Tensor]:
        """Newton step (x, t, slack, weight) towards weight * slack = complementarity."""
        change = complementarity / self.slack - self.weight
        right = self.dual + torch.cat([-(self.rows.T @ change), change.sum()[None]])
        solution = torch.linalg.lu_solve(*self.factor, right[:, None])[:, 0]
        d_delta, d_bound = solution[:-1], float(solution[-1])
        d_slack = d_bound - self.rows @ d_delta
        return d_delta, d_bound, d_slack, change - self.ratio * d_slack


def _largest(value: Tensor, change: Tensor) -> float:
    shrinking = change < 0
    if not bool(shrinking.any()):
        return 1.0
    return min(1.0, float((-value[shrinking] / change[shrinking]).min()))


@torch.no_grad()
def certify(network: Network, probe: Tensor, z: Tensor, *, iterations: int) -> Certificate:
    """Search from latent [d] near the floor for one that publishes the probe, uint8 [H, W, C]; the best one met.

    Each iteration costs one Jacobian, two Gauss-Newton steps that bring a start from a few floors down to the least
    squares, two linear programmes, and a picture of the owner's module after each.
    """
    generator = network.generator
    levels = probe.permute(2, 0, 1).flatten().double()
    lower, upper = levels > 0, levels < 255

    def measure(point: Tensor) -> tuple[Tensor, float, int, Tensor]:
        picture = generator.sample(point[None])[0]
        error = generator.images(point[None].to(generator.device))[0].flatten().cpu().double() * 255 - levels
        error[~upper] = error[~upper].clamp_max(0)
        error[~lower] = error[~lower].clamp_min(0)
        return error, float(error.abs().max()), int((picture != probe).sum()), picture

    z = z.float().cpu()
    state = measure(z)
    best = Certificate(z, state[3], state[2], state[1], 0)
    used = 0
    while used < iterations and best.mismatches:
        _, jacobian = network.linearise(z.to(network.device), precise=True)
        used += 1
        steep = (jacobian * 255).cpu().double()
        moved = False
        for step in (_least_squares_step, _least_squares_step, chebyshev_step, chebyshev_step):
            # the same Jacobian for all four: it hardly changes over so small a distance
            delta = step(steep, state[0], lower, upper)[0]
            trial = project((z.double() + delta).float()[None], generator.latent)[0]
            there = measure(trial)
            if (there[2], there[1]) < (best.mismatches, best.largest_error):
                best = Certificate(trial, there[3], there[2], there[1], used)
            squares = step is _least_squares_step
            if float(there[0].square().sum()) < float(state[0].square().sum()) if squares else there[1] < state[1]:
                z, state, moved = trial, there, True
            if not best.mismatches:
                break
        if not moved:
            break
    return Certificate(best.z, best.picture, best.mismatches, best.largest_error, used)


def whiteness(residual: np.ndarray) -> float:
    """sqrt(N) times the largest lag-1 autocorrelation, along rows or columns, of residuals [H, W, C].

    About |N(0, 1)| for rounding noise; tens for a residual with structure.
    """
    centred = residual - residual.mean(axis=(0, 1), keepdims=True)
    power = float((centred**2).sum())
    if power == 0.0:
        return 0.0
    across = float((centred[:, 1:] * centred[:, :-1]).sum())
    down = float((centred[1:] * centred[:-1]).sum())
    return math.sqrt(residual.size) * max(abs(across), abs(down)) / power
