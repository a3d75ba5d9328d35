"""Inputs for a chosen picture: Gauss-Newton by conjugate gradients on |255 G(u) - levels|^2, matrix-free.

One linearisation serves a whole conjugate-gradient solve: J v and J^T e are derivatives of one graph, so thousands of
unknowns cost memory for a few pictures only. Started at u, conjugate gradients stay in the span of J^T: the correction
is the shortest one, which leaves inputs as they were wherever the picture does not need them. A sample at 0 or 255 is
bounded on one side.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..generators.protocol import Generator

DAMPINGS = 7
"""Dampings tried from one linearisation, each 30 times the last."""


@dataclass(frozen=True, slots=True)
class Forged:
    """What was found: the inputs [n], the picture published with them, and how far it is from the target."""

    inputs: Tensor
    picture: Tensor
    """uint8 [H, W, C]"""
    differing: int
    """8-bit samples that are not the target's."""
    samples: int
    residual: float
    """Mean squared error before rounding, on the scale [0, 1]."""
    steps: int

    @property
    def exact(self) -> bool:
        """Whether every sample is the target's."""
        return self.differing == 0

    @property
    def share(self) -> float:
        """Share of equal samples."""
        return 1 - self.differing / self.samples


def solve(
    generator: Generator, emit: Callable[[Tensor], Tensor], target: Tensor, start: Tensor, *, steps: int = 30,
    inner: int = 80,
) -> Forged:  # fmt: skip
    """The nearest inputs [n] to `start` with emit(inputs) = target, uint8 [H, W, C]; `emit` gives raw [1, C, H, W].

    Deterministic. Stops once every published sample is the target's, or when no damping makes a step shorter.
    """
    levels = target.permute(2, 0, 1).flatten().float()

    def error(raw: Tensor) -> Tensor:
        off = generator.output.unit(raw).flatten() * 255 - levels
        off = torch.where(levels == 255, off.clamp_max(0), off)
        return torch.where(levels == 0, off.clamp_min(0), off)

    def measure(point: Tensor) -> tuple[float, int, Tensor]:
        with torch.no_grad():
            raw = emit(point).float()
        picture = generator.output.to_uint8(raw)[0]
        return float(error(raw).double().square().mean()), int((picture != target).sum()), picture

    point, damping, taken = start.detach().clone(), 1e-6, 0
    loss, differing, picture = measure(point)
    while taken < steps and differing:
        taken += 1
        forward, backward, off = _linearise(emit, error, point)
        scale = float(backward(forward(backward(off))).norm() / backward(off).norm().clamp_min(1e-30))
        moved = False
        for _ in range(DAMPINGS):
            trial = point - _conjugate_gradients(forward, backward, off, damping * scale, inner)
            there = measure(trial)
            if there[0] < loss:
                moved = there[0] < 0.999 * loss or there[1] < differing
                point, (loss, differing, picture) = trial, there
                damping = max(damping / 10, 1e-9)
                break
            damping *= 30
        if not moved:
            break
    return Forged(point, picture, differing, target.numel(), loss / 255**2, taken)


Linear = Callable[[Tensor], Tensor]


def _linearise(
    emit: Callable[[Tensor], Tensor], error: Callable[[Tensor], Tensor], at: Tensor
) -> tuple[Linear, Linear, Tensor]:
    """(v -> J v, e -> J^T e, error) at a point; both are derivatives of one graph."""
    with torch.enable_grad():
        point = at.detach().clone().requires_grad_(True)
        off = error(emit(point))
        weight = torch.zeros_like(off, requires_grad=True)
        (pulled,) = torch.autograd.grad(off, point, weight, create_graph=True)

    def forward(v: Tensor) -> Tensor:
        return torch.autograd.grad(pulled, weight, v, retain_graph=True)[0]

    def backward(e: Tensor) -> Tensor:
        return torch.autograd.grad(off, point, e, retain_graph=True)[0]

    return forward, backward, off.detach()


def _conjugate_gradients(forward: Linear, backward: Linear, off: Tensor, damping: float, count: int) -> Tensor:
    """x that minimises |J x - off|^2 + damping |x|^2, from 0 in `count` steps (CGLS)."""
    residual = off.clone()
    descent = backward(residual)
    solution, direction = torch.zeros_like(descent), descent.clone()
    square = float(descent.square().sum())
    first = square
    for _ in range(count):
        image = forward(direction)
        curvature = float(image.square().sum()) + damping * float(direction.square().sum())
        if curvature <= 0 or square <= 1e-12 * first:
            break
        length = square / curvature
        solution = solution + length * direction
        residual = residual - length * image
        descent = backward(residual) - damping * solution
        before, square = square, float(descent.square().sum())
        direction = descent + (square / before) * direction
    return solution
