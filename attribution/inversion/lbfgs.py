"""L-BFGS on a batch of starts: the alternative to Gauss-Newton where a product with the Jacobian costs too much.

Limited-memory quasi-Newton with `MEMORY` pairs, every start with its own curvature and its own backtracking line
search (Armijo). It needs one forward and one backward pass an iteration and no second derivative of the graph, but
hundreds of iterations where Gauss-Newton needs ten. Source: Nocedal and Wright, Numerical Optimization, algorithms 7.4
and 3.1; 000 tries it for MNIST.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .matrixfree import Run
from .unknowns import Unknowns

MEMORY = 12
STEPS_EACH = 20
"""L-BFGS iterations that count as one of the budget's `lm_iterations`: about the passes of a Gauss-Newton step."""
SHRINK = 0.4
TRIALS = 8
ARMIJO = 1e-4
FLAT_GAIN = 0.03


def advance(
    runs: list[Run],
    model: Unknowns,
    *,
    iterations: int,
    goal: float,
    prior: float = 0.0,
    stop: Callable[[], bool] | None = None,
) -> None:
    """As `matrixfree.advance`, `STEPS_EACH` L-BFGS iterations for each of its steps."""
    for run in runs:
        if run.status == "running":
            _descend(run, model, iterations, goal, prior, stop)
        if run.status == "floor" or (stop is not None and stop()):
            break


def _descend(
    run: Run, model: Unknowns, iterations: int, goal: float, prior: float, stop: Callable[[], bool] | None
) -> None:
    point = run.point[None]
    pairs: list[tuple[Tensor, Tensor]] = []
    loss, merit, gradient = _measured(model, point, prior * run.residual)
    for _ in range(iterations):
        before = loss
        weight = prior * loss  # the prior's weight follows the residual, as in lm.py
        loss, merit, gradient = _measured(model, point, weight)
        pairs.clear()
        for _ in range(STEPS_EACH):
            direction = model.tangent(point, _two_loops(gradient, pairs))
            slope = float((direction * gradient).sum())
            if slope >= 0:
                pairs.clear()
                direction, slope = -gradient, -float(gradient.square().sum())
            length = 1.0 if pairs else min(1.0, float(0.1 * point.norm() / direction.norm().clamp_min(1e-30)))
            for _ in range(TRIALS):
                there = model.project(point + length * direction)
                after = _measured(model, there, weight)
                if after[1] <= merit + ARMIJO * length * slope:
                    break
                length *= SHRINK
            else:
                break
            step, change = model.tangent(there, there - point), after[2] - model.tangent(there, gradient)
            if float((step * change).sum()) > 1e-12 * float(step.norm() * change.norm()):
                pairs = [*pairs[1 - MEMORY :], (step, change)]
            point, (loss, merit, gradient) = there, after
            if loss <= goal or (stop is not None and stop()):
                break
        run.iterations += 1
        run.point, run.residual = point[0].clone(), loss
        run.history.append(loss)
        if loss <= goal:
            run.status = "floor"
        elif loss > (1 - FLAT_GAIN) * before:
            run.status = "flat"
        if run.status != "running" or (stop is not None and stop()):
            return


def _measured(model: Unknowns, point: Tensor, weight: float) -> tuple[float, float, Tensor]:
    """(residual, merit with the prior, its gradient [1, D] in the tangent space)."""
    point = point.detach().requires_grad_(True)
    with torch.enable_grad():
        loss = model.loss(point)[0]
        merit = loss + weight * (point.square() * model.normal).sum() / model.samples
        (gradient,) = torch.autograd.grad(merit, point)
    return float(loss.detach()), float(merit.detach()), model.tangent(point.detach(), gradient)


def _two_loops(gradient: Tensor, pairs: list[tuple[Tensor, Tensor]]) -> Tensor:
    """-H gradient by the two-loop recursion."""
    rest = gradient.clone()
    shares: list[float] = []
    for step, change in reversed(pairs):
        share = float((step * rest).sum() / (step * change).sum())
        shares.append(share)
        rest = rest - share * change
    if pairs:
        step, change = pairs[-1]
        rest = rest * float((step * change).sum() / change.square().sum())
    for (step, change), share in zip(pairs, reversed(shares), strict=True):
        rest = rest + (share - float((change * rest).sum() / (step * change).sum())) * step
    return -rest
