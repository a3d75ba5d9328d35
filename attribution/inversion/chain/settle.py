"""From a least-squares fit to the latent whose copy is the probe, or nearly: steps through the very roundings.

A fit through the smooth operator leaves all of the chain's rounding errors. Near the true latent they need not be left:
the copy is rendered exactly, and where it equals the probe nothing is wrong. What differs there, a few samples by a
level, leads on by the same normal equations; steps that shrink average the dither away. Own copies come to where a few
samples in a hundred differ, often none.

How few depends on the picture and the chain (a strong reduction hides much), so the same is done with copies that the
generator itself would give there: latents beside the one found are rendered, fitted and settled alike. The statistic is
what is left of the probe over what is left of those, about 1 for an own copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...scoring.floor import LEVELS, VARIANCE
from ..exact import chebyshev_step
from .chain import Pixels
from .network import ChainedNetwork, flat
from .roundings import free_samples

FITTING = 3
"""Gauss-Newton steps of the fit itself."""
FULL_STEPS = 4
STEPS = 20
"""Of the latter ones each is shorter than the one before: 1/2, 1/3 ... `SHORTEST`."""
SHORTEST = 0.15
PLATEAU = 6
"""Last steps whose mean is what is left."""
COPIES = 3
"""Own copies beside the latent that was found."""
LEAST = 0.004
"""Added to what is left of both, in squared levels: one sample of 250. Where nothing is left the ratio says little."""
RIDGE = 1e-9
CERTIFIABLE = 0.01
"""Share of the samples that differ up to which the programme is tried."""
PROGRAMMES = 3


@dataclass(frozen=True, slots=True)
class Settled:
    """Where the steps came to."""

    z: Tensor
    """float32 [d]: the latent of the fewest differences met."""
    differences: int
    left: float
    """Mean squared difference, in levels, over the last steps."""


class Settling:
    """The steps at one latent [d] of one chain: a precise Jacobian, and the normal equations over free samples."""

    def __init__(self, network: ChainedNetwork, probe: Pixels, z: Tensor) -> None:
        self.network, self.generator, self.probe = network, network.network.generator, probe
        self.free = torch.from_numpy(free_samples(probe).reshape(-1).copy())
        _, jacobian = network.linearise(z, precise=True)
        self._whole = jacobian.cpu().double() * LEVELS
        self.steep = self._whole * self.free
        system = self.steep @ self.steep.T
        system.diagonal().add_(RIDGE * float(system.diagonal().max()) + 1e-30)
        self.factor = torch.linalg.cholesky(system)

    def pull(self, errors: Tensor) -> Tensor:
        """float64 [d]: the step that makes up for errors [n], in levels, as far as it can."""
        return torch.cholesky_solve((self.steep @ errors.double())[:, None], self.factor)[:, 0]

    def left(self, z: Tensor, probe: Pixels) -> Tensor:
        """float64 [n]: a probe less the changed picture of z before any rounding, in levels; free samples alone."""
        smooth = self.network.unit(z[None])[0].cpu().double()
        return (flat(probe).double() - smooth) * LEVELS * self.free

    def fitted(self, z: Tensor) -> Tensor:
        """float32 [d]: the least squares near z."""
        for _ in range(FITTING):
            z = self._moved(z, self.pull(self.left(z, self.probe)))
        return z

    def _moved(self, z: Tensor, step: Tensor) -> Tensor:
        return self.network.project((z.double() + step.to(z.device)).float()[None])[0]

    def rendered(self, z: Tensor) -> list[Pixels]:
        """B copies uint8 [h, w, C] of latents [B, d], every rounding included."""
        pictures = self.generator.sample(z.to(self.generator.device)).cpu().numpy()
        return [self.network.chain.render(picture) for picture in pictures]

    def settle(self, probes: Sequence[Pixels], z: Tensor) -> list[Settled]:
        """From fits [B, d] to copies that equal the probes in as many samples as can be."""
        best: list[Settled | None] = [None] * len(probes)
        tails: list[list[float]] = [[] for _ in probes]
        for number in range(STEPS):
            share = 1.0 if number < FULL_STEPS else max(SHORTEST, 1 / (number - FULL_STEPS + 2))
            z = z.clone()
            for index, copy in enumerate(self.rendered(z)):
                wrong = probes[index].astype(np.int16) - copy
                differences = int(np.count_nonzero(wrong))
                tails[index].append(float(np.square(wrong, dtype=np.float64).mean()))
                met = best[index]
                if met is None or differences < met.differences:
                    best[index] = Settled(z[index].clone(), differences, 0.0)
                errors = torch.from_numpy(wrong.transpose(2, 0, 1).reshape(-1).astype(np.float64))
                if differences:
                    z[index] = self._moved(z[index], share * self.pull(errors * self.free))
            if all(tail[-1] == 0 for tail in tails):
                break
        ends = [tail[-PLATEAU:] for tail in tails]
        return [
            Settled(met.z, met.differences, 0.0 if met.differences == 0 else sum(end) / len(end))
            for met, end in zip(best, ends, strict=True)
            if met is not None
        ]

    def certified(self, settled: Settled) -> Settled:
        """Where nothing was resized and little differs: exact.py's linear programme over the samples that stayed."""
        probe = self.probe
        if not self.network.chain.is_lossless or not 0 < settled.differences <= CERTIFIABLE * probe.size:
            return settled
        levels = torch.from_numpy(probe.transpose(2, 0, 1).reshape(-1).astype(np.float64))
        lower, upper = levels > 0, levels < LEVELS
        z = settled.z
        for _ in range(PROGRAMMES):
            error = self.network.unit(z[None])[0].cpu().double() * LEVELS - levels
            error[~upper] = error[~upper].clamp_max(0)
            error[~lower] = error[~lower].clamp_min(0)
            z = self._moved(z, chebyshev_step(self._whole, error, lower, upper)[0])
            differences = int(np.count_nonzero(self.rendered(z[None])[0] != probe))
            if differences < settled.differences:
                settled = Settled(z, differences, settled.left if differences else 0.0)
            if not differences:
                break
        return settled

    def own(self, z: Tensor, rng: torch.Generator) -> float:
        """What is left of copies that the generator gives beside z, on average."""
        beside: list[Tensor] = []
        for _ in range(COPIES):
            noise = torch.randn(len(self.free), generator=rng, dtype=torch.float64) * VARIANCE**0.5
            beside.append(self._moved(z, self.pull(noise * self.free)))
        copies = self.rendered(torch.stack(beside))
        fits = [self._moved(z, self.pull(self.left(z, copy))) for z, copy in zip(beside, copies, strict=True)]
        return sum(settled.left for settled in self.settle(copies, torch.stack(fits))) / COPIES


def statistic(left: float, own: float) -> float:
    """What is left of the probe over what is left of own copies."""
    return (left + LEAST) / (own + LEAST)
