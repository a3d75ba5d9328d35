"""Where a generator's latents come from: four priors, and what each says about drawing, support, density and seeds.

| prior | latents | drawn from committed seeds |
| --- | --- | --- |
| normal | N(0, I) | yes |
| sphere | uniform on the sphere of radius sqrt(d): families that normalise their latent see only its direction | yes |
| uniform | uniform on [-1, 1]^d | no |
| code | the outputs of a sigmoid encoder, in [0, 1]^d: only the box counts | no |

An auto-encoder's codes are not uniform in their box; `draw` gives starts for a search and stand-ins, not its own codes.
Source: docs/spec/committed-seeds.md for the draws from seeds; 000 section IV for codes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from scipy.stats import chi2
from torch import Tensor

from ...ledger.seeds import committed
from ...schemas.errors import UsageError

Prior = Literal["normal", "sphere", "uniform", "code"]
PRIORS: tuple[Prior, ...] = get_args(Prior)

PRIOR_TAIL = 1e-6
"""Probability outside which |z|^2 of a normal latent is called searched for, not drawn."""
ON_SPHERE = 1e-3
"""Relative deviation of |z|^2 from d within which a latent lies on the sphere."""


@dataclass(frozen=True, slots=True)
class LatentSpec:
    """Length and prior of the latent. All methods take and give [B, dim] unless they say otherwise."""

    dim: int
    prior: Prior

    def draw(self, count: int, rng: torch.Generator) -> Tensor:
        """float32 [count, dim] drawn from the prior on the CPU, reproducible from the generator's state."""
        if self.prior == "uniform":
            return torch.rand(count, self.dim, generator=rng) * 2 - 1
        if self.prior == "code":
            return torch.rand(count, self.dim, generator=rng)
        z = torch.randn(count, self.dim, generator=rng)
        return z * (math.sqrt(self.dim) / z.norm(dim=1, keepdim=True)) if self.prior == "sphere" else z

    @property
    def committable(self) -> bool:
        """Whether a ledger can draw these latents from committed seeds; others are recorded as captured."""
        return self.prior in committed.PRIORS

    def from_seed(self, h: bytes) -> Tensor:
        """float32 [dim]: the latent of a committed seed's 32 bytes h, bit for bit the ledger's; else `UsageError`."""
        if not self.committable:
            raise UsageError(f"latents with the prior {self.prior!r} are captured, not drawn from committed seeds")
        return torch.from_numpy(committed.latent(h, (self.dim,), self.prior))

    def project(self, z: Tensor) -> Tensor:
        """The nearest latents on the support of the prior; the normal prior has full support."""
        if self.prior == "sphere":
            return z * (math.sqrt(self.dim) / z.norm(dim=-1, keepdim=True).clamp_min(1e-12))
        if self.prior == "uniform":
            return z.clamp(-1, 1)
        return z.clamp(0, 1) if self.prior == "code" else z

    def log_density(self, z: Tensor) -> Tensor:
        """float64 [B]: log density, -inf off the support; on the sphere with respect to its surface."""
        wide = z.double()
        square = wide.square().sum(-1)
        if self.prior == "normal":
            return -0.5 * (square + self.dim * math.log(2 * math.pi))
        if self.prior == "sphere":
            half = self.dim / 2
            area = math.log(2) + half * math.log(math.pi) - math.lgamma(half) + (self.dim - 1) / 2 * math.log(self.dim)
            inside = (square / self.dim - 1).abs() <= ON_SPHERE
            return torch.where(inside, -area, -math.inf)
        low, high = (-1, 1) if self.prior == "uniform" else (0, 1)
        inside = ((wide >= low) & (wide <= high)).all(-1)
        return torch.where(inside, -self.dim * math.log(high - low), -math.inf)

    def objection(self, z: Tensor) -> str | None:
        """Why the prior does not draw this latent [dim], in half a sentence, or None.

        For the normal prior: |z|^2 outside the central 1 - `PRIOR_TAIL` of chi-square with dim degrees of freedom.
        """
        if not bool(torch.isfinite(z).all()):
            return "a latent number is not finite"
        square = float(z.double().square().sum())
        if self.prior == "normal":
            low, high = (float(chi2.ppf(p, self.dim)) for p in (PRIOR_TAIL / 2, 1 - PRIOR_TAIL / 2))
            if not low <= square <= high:
                return f"|z|^2 = {square:.1f} lies outside the prior's central 1 - 1e-6, {low:.1f} to {high:.1f}"
        elif self.prior == "sphere":
            if abs(square / self.dim - 1) > ON_SPHERE:
                return f"|z|^2 = {square:.1f} lies off the sphere, {self.dim}"
        elif self.prior == "uniform" and float(z.abs().max()) > 1:
            return "a latent number lies outside [-1, 1]"
        elif self.prior == "code" and (float(z.min()) < 0 or float(z.max()) > 1):
            return "a latent number lies outside [0, 1]"
        return None
