"""The bit-exact certificate for latents in a box: exact.py's linear programme with the box among its constraints.

Codes of a sigmoid encoder lie close to the faces of their box, and the point of least squares often on them: a step
that leaves the box and is put back no longer solves the programme. Minimises t with |e + J dz| <= t over the samples
and low <= z + dz <= high, e being the picture's distance to the probe in levels; below t = 1/2 every sample rounds to
the probe's. Solved by HiGHS (Huangfu and Hall, 2018) over the samples near the bound, again with any that are violated.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linprog
from torch import Tensor

from .batched import bounds
from .exact import Certificate
from .network import Network

ROUNDS = 6
"""Times a programme is solved with the violated samples added, at most."""
NEAR = 0.5
"""Share of the largest distance above which a sample is among the first constraints."""


@torch.no_grad()
def certify_boxed(network: Network, probe: Tensor, z: Tensor, *, iterations: int) -> Certificate:
    """As `exact.certify`, for a prior that is a box: from latent [d] near the floor, the best latent met."""
    generator = network.generator
    box = bounds(generator)
    if box is None:
        raise ValueError("the prior is no box")
    levels = probe.permute(2, 0, 1).flatten().double()

    def measure(point: Tensor) -> tuple[Tensor, float, int, Tensor]:
        picture = generator.sample(point[None])[0]
        error = generator.images(point[None].to(generator.device))[0].flatten().cpu().double() * 255 - levels
        # beyond black and white rounding keeps the level
        error = torch.where((levels == 255) & (error > 0) | (levels == 0) & (error < 0), 0.0, error)
        return error, float(error.abs().max()), int((picture != probe).sum()), picture

    z = z.float().cpu()
    error, largest, mismatches, picture = measure(z)
    best, used = Certificate(z, picture, mismatches, largest, 0), 0
    while used < iterations and best.mismatches:
        _, jacobian = network.linearise(z.to(network.device), precise=True)
        used += 1
        rows = (jacobian * 255).cpu().double().T.numpy()
        delta = _programme(rows, error.numpy(), box[0] - z.double().numpy(), box[1] - z.double().numpy())
        if delta is None:
            break
        step, before = torch.from_numpy(delta), largest
        for shorter in (1.0, 0.5, 0.25):
            trial = generator.latent.project((z.double() + shorter * step).float()[None])[0]
            error, largest, mismatches, picture = measure(trial)
            if (mismatches, largest) < (best.mismatches, best.largest_error):
                best = Certificate(trial, picture, mismatches, largest, used)
            if largest < before or not mismatches:
                break
        else:
            break
        z = trial
    return Certificate(best.z, best.picture, best.mismatches, best.largest_error, used)


def _programme(
    rows: NDArray[np.float64], error: NDArray[np.float64], low: NDArray[np.float64], high: NDArray[np.float64]
) -> NDArray[np.float64] | None:
    """dz [d] of the least largest distance for rows [N, d] and error [N] in levels; None if the solver fails."""
    dim = rows.shape[1]
    signed = np.concatenate([error, -error])
    both = np.concatenate([rows, -rows])
    near = signed >= min(NEAR * signed.max(), np.sort(signed)[-min(4 * dim, len(signed))])
    cost = np.zeros(dim + 1)
    cost[dim] = 1
    limits = [*zip(low.tolist(), high.tolist(), strict=True), (0, None)]
    delta: NDArray[np.float64] | None = None
    for _ in range(ROUNDS):
        table = np.concatenate([both[near], np.full((int(near.sum()), 1), -1.0)], axis=1)
        found = linprog(cost, A_ub=table, b_ub=-signed[near], bounds=limits, method="highs")
        if found.status != 0:
            return delta
        delta = np.asarray(found.x[:dim], dtype=np.float64)
        violated = (signed + both @ delta > float(found.x[dim]) + 1e-6) & ~near
        if not violated.any():
            break
        near |= violated
    return delta
