"""The bit-exact certificate without a folded network: exact.py's linear programme over Jacobians of the owner's module.

The same polytope, with two differences. On the sphere the latent's length is no unknown: the programme is solved in a
basis of the tangent space, since along the latent the Jacobian is zero and a step undetermined. And where the whole
Jacobian does not fit, it is taken at the samples that matter: those nearest to their bounds.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .exact import Certificate, chebyshev_step
from .unknowns import Unknowns

MAX_BYTES = 1 << 30
"""Of one Jacobian in float64; beyond it only the samples nearest to their bounds are linearised."""
COLUMNS = 32
"""Jacobian columns a pass; halved where memory is refused."""


def certify(unknowns: Unknowns, z: Tensor, probe: Tensor, *, iterations: int) -> Certificate:
    """Search from latent [d] near the floor for one that publishes the probe, uint8 [H, W, C]; the best one met."""
    generator = unknowns.generator
    levels = probe.permute(2, 0, 1).flatten().double()
    lower, upper = levels > 0, levels < 255

    @torch.no_grad()
    def measure(point: Tensor) -> tuple[Tensor, float, int, Tensor]:
        picture = generator.sample(point[None])[0]
        error = generator.images(point[None].to(generator.device))[0].flatten().cpu().double() * 255 - levels
        error[~upper] = error[~upper].clamp_max(0)
        error[~lower] = error[~lower].clamp_min(0)
        return error, float(error.abs().max()), int((picture != probe).sum()), picture

    z = z.detach().float().cpu()
    state = measure(z)
    best = Certificate(z, state[3], state[2], state[1], 0)
    used = 0
    while used < iterations and best.mismatches:
        used += 1
        basis = tangent_basis(z) if unknowns.latent.prior == "sphere" else None
        chosen = _samples(state[0], len(z))
        steep = _jacobian(unknowns, z, chosen) * 255
        if basis is not None:
            steep = basis.T @ steep
        moved = False
        for step in ("squares", "squares", "chebyshev", "chebyshev"):
            error = state[0][chosen]
            if step == "squares":
                counted = (lower[chosen] & upper[chosen]) | (error != 0)
                active = steep[:, counted]
                system = active @ active.T
                system.diagonal().add_(1e-9 * float(system.diagonal().max()) + 1e-30)
                delta = -torch.linalg.solve(system, active @ error[counted])
            else:
                delta = chebyshev_step(steep, error, lower[chosen], upper[chosen])[0]
            if basis is not None:
                delta = basis @ delta
            trial = unknowns.latent.project((z.double() + delta).float()[None])[0]
            there = measure(trial)
            if (there[2], there[1]) < (best.mismatches, best.largest_error):
                best = Certificate(trial, there[3], there[2], there[1], used)
            lower_squares = float(there[0].square().sum()) < float(state[0].square().sum())
            if lower_squares if step == "squares" else there[1] < state[1]:
                z, state, moved = trial, there, True
            if not best.mismatches:
                break
        if not moved:
            break
    return Certificate(best.z, best.picture, best.mismatches, best.largest_error, used)


def tangent_basis(z: Tensor) -> Tensor:
    """float64 [d, d - 1]: an orthonormal basis of the space across latent [d] (a Householder reflection's columns)."""
    unit = z.double() / z.double().norm()
    axis = unit.clone()
    axis[0] += torch.where(unit[0] >= 0, 1.0, -1.0)
    reflection = torch.eye(len(z), dtype=torch.float64) - 2 * torch.outer(axis, axis) / axis.square().sum()
    return reflection[:, 1:]


def _samples(error: Tensor, dim: int) -> Tensor:
    """Indices of the samples to linearise: all, or the largest errors where memory is short."""
    count = MAX_BYTES // (8 * dim)
    if len(error) <= count:
        return torch.arange(len(error))
    return error.abs().argsort(descending=True)[:count].sort().values


def _jacobian(unknowns: Unknowns, z: Tensor, chosen: Tensor) -> Tensor:
    """float64 [d, chosen] on the CPU at latent [d], a few columns J v at a time."""
    with torch.enable_grad():
        point = z.to(unknowns.device).clone().requires_grad_(True)
        picture = unknowns.pictures(point[None])[0]
        weight = torch.zeros_like(picture, requires_grad=True)
        (pulled,) = torch.autograd.grad(picture, point, weight, create_graph=True)

    def columns(directions: Tensor) -> tuple[Tensor, ...]:
        found = [torch.autograd.grad(pulled, weight, direction, retain_graph=True)[0] for direction in directions]
        return (torch.stack(found)[:, chosen.to(unknowns.device)].double().cpu(),)

    basis = torch.eye(len(z), device=unknowns.device)
    return torch.cat([unknowns.batches(columns, part)[0] for part in basis.split(COLUMNS)])
