"""What a matrix-free search moves: the latent, and with it noise maps where those are free inputs.

Unknowns u [B, D] are the latent's d numbers, then the maps named `free`, flattened. Steps stay on the support of the
prior: on the sphere they are taken in the tangent space and put back; a noise map has the prior N(0, I), like a normal
latent. A probe's saturated samples are one-sided: a sample published as 255 says that the network's output was at
least that, and outputs of the big families are not bounded, so what lies beyond is no error.

Source: Absil, Mahony and Sepulchre, Optimization Algorithms on Matrix Manifolds, section 4.1 (retraction by
normalising); docs/adr on published networks for unbounded outputs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from ..generators.protocol import Generator
from ..generators.styled import StyledGenerator
from .memory import Batches

STYLES = 4096
"""Latents behind the mean and the covariance of styles; more where the latent is longer than an eighth of it."""


class Unknowns:
    """The unknowns of one generator and one probe, uint8 [H, W, C]; pictures are flat [B, N] on the scale [0, 1]."""

    def __init__(self, generator: Generator, probe: Tensor, free: Sequence[str] = ()) -> None:
        self.generator = generator
        self.device = generator.device
        self.latent = generator.latent
        self.batches = Batches()
        self.free = tuple(free)
        self.shapes = {name: tuple(generator.noise[name]) for name in self.free}
        self.dim = self.latent.dim + sum(math.prod(shape) for shape in self.shapes.values())
        self.samples = generator.output.samples
        levels = probe.permute(2, 0, 1).flatten().to(self.device)
        self.target = levels.float() / 255
        self.black, self.white = levels == 0, levels == 255
        # 1 for numbers whose prior is standard normal: noise maps always, latents by their prior
        self.normal = torch.ones(self.dim, device=self.device)
        if self.latent.prior != "normal":
            self.normal[: self.latent.dim] = 0

    def split(self, points: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """(latents [B, d], noise maps by name) of unknowns [B, D]."""
        dim = self.latent.dim
        maps: dict[str, Tensor] = {}
        at = dim
        for name, shape in self.shapes.items():
            size = math.prod(shape)
            maps[name] = points[:, at : at + size].reshape(-1, *shape)
            at += size
        return points[:, :dim], maps

    def pictures(self, points: Tensor) -> Tensor:
        """[B, N] of unknowns [B, D], by the owner's own module; differentiable."""
        z, maps = self.split(points)
        return self.generator.images(z, maps or None).flatten(1)

    def error(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """(picture - probe [B, N], which samples count): 0 where a saturated sample is overshot."""
        difference = pictures - self.target
        counts = ~((self.white & (difference > 0)) | (self.black & (difference < 0)))
        return difference * counts, counts

    def loss(self, points: Tensor) -> Tensor:
        """Mean squared error [B] over all samples, the overshot ones 0; differentiable."""
        return self.error(self.pictures(points))[0].square().mean(1)

    def project(self, points: Tensor) -> Tensor:
        """Unknowns put back onto the support of the latent's prior."""
        dim = self.latent.dim
        if self.latent.prior == "normal":
            return points
        return torch.cat([self.latent.project(points[:, :dim]), points[:, dim:]], 1)

    def tangent(self, points: Tensor, steps: Tensor) -> Tensor:
        """Steps [B, D] without their part along the latent, where its length is fixed."""
        if self.latent.prior != "sphere":
            return steps
        dim = self.latent.dim
        z, inner = points[:, :dim], steps[:, :dim]
        along = (inner * z).sum(1, keepdim=True) / z.square().sum(1, keepdim=True).clamp_min(1e-12)
        return torch.cat([inner - along * z, steps[:, dim:]], 1)

    def lengthen(self, z: Tensor, rng: torch.Generator) -> Tensor:
        """Unknowns [B, D] that start at latents [B, d]; free maps start small."""
        if self.dim == self.latent.dim:
            return z.to(self.device)
        maps = 0.1 * torch.randn(len(z), self.dim - self.latent.dim, generator=rng)
        return torch.cat([z, maps.to(z)], 1).to(self.device)


class Styles(Unknowns):
    """A styled generator's mean-free, whitened styles instead of its latent: one style for all layers.

    The picture depends on a style far more simply than on the latent that the mapping network folds around. Whitened by
    the styles of `STYLES` latents, so that about N(0, I) is their prior. Free styles are no evidence: a point is handed
    on as a latent that maps near it (`StyleFit`).
    """

    def __init__(self, generator: Generator, probe: Tensor) -> None:
        super().__init__(generator, probe)
        self.module = cast(StyledGenerator, generator.module)
        rng = torch.Generator().manual_seed(0)
        with torch.no_grad():
            w = self.module.mapping(self.latent.draw(max(STYLES, 8 * self.latent.dim), rng).to(self.device)).double()
            self.mean = w.mean(0)
            centred = w - self.mean
            values, vectors = torch.linalg.eigh(centred.T @ centred / len(w))
            scale = values.clamp_min(1e-9 * float(values.max())).sqrt()
        self.basis = (vectors * scale).T.float()
        self.inverse = (vectors / scale).float()
        self.mean = self.mean.float()
        self.dim = w.shape[1]
        self.normal = torch.ones(self.dim, device=self.device)

    def styles(self, points: Tensor) -> Tensor:
        """Styles [B, style] of whitened ones."""
        return self.mean + points @ self.basis

    def pictures(self, points: Tensor) -> Tensor:
        styles = self.module.truncated(self.styles(points))
        return self.generator.output.unit(self.module.synthesise(styles)).flatten(1)

    def project(self, points: Tensor) -> Tensor:
        return points

    def tangent(self, points: Tensor, steps: Tensor) -> Tensor:
        return steps

    def whiten(self, z: Tensor) -> Tensor:
        """Whitened styles [B, style] of latents [B, d]."""
        return (self.module.mapping(z.to(self.device)) - self.mean) @ self.inverse


class StyleFit:
    """The mapping network alone, whitened: which latent maps to a style. A `lm.Model`; it costs next to nothing."""

    def __init__(self, styles: Styles) -> None:
        self.styles = styles
        self.device = styles.device
        self.normal = torch.zeros(styles.latent.dim, device=self.device)

    def unit(self, z: Tensor) -> Tensor:
        """Whitened styles [B, style] of latents [B, d]."""
        return self.styles.whiten(z)

    def linearise(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """(whitened style, Jacobian [d, style]) at one latent [d]."""
        point = z.detach().clone().requires_grad_(True)
        with torch.enable_grad():
            style = self.styles.whiten(point[None])[0]
            rows = torch.autograd.grad(style, point, torch.eye(len(style), device=self.device), is_grads_batched=True)
        return style.detach(), rows[0].T.contiguous()

    def project(self, points: Tensor) -> Tensor:
        """Latents put back onto the support of their prior."""
        return self.styles.latent.project(points)


def seed_distance(one: Tensor, other: Tensor, prior: str) -> float:
    """How far apart two latents [d] are: the angle between them in radians on the sphere, |a - b| / |b| elsewhere."""
    a, b = one.double().flatten(), other.double().flatten()
    if prior != "sphere":
        return float((a - b).norm() / b.norm().clamp_min(1e-300))
    # by the half chord: acos loses half the digits near 0
    half = (a / a.norm() - b / b.norm()).norm() / 2
    return 2 * math.asin(min(1.0, float(half)))
