"""What the engine knows of a generator: where its latents come from, what its owner publishes, and one forward pass.

A `Generator` holds a frozen `nn.Module` in eval mode that maps latents [B, d] to raw outputs [B, C, H, W] in the
output range [low, high]. Its identity is the digest of its manifest (weights, buffers, architecture, constants), so two
generators with one digest are one generator.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from ...schemas.errors import EvidenceError

Prior = Literal["normal", "sphere", "uniform"]
Rounding = Literal["mul255_add0.5_floor", "mul127.5_add128_trunc", "round_half_even_255"]
PRIORS: tuple[Prior, ...] = get_args(Prior)
ROUNDINGS: tuple[Rounding, ...] = get_args(Rounding)


@dataclass(frozen=True, slots=True)
class LatentSpec:
    """Shape and prior of the latent: N(0, I), uniform on the sphere of radius sqrt(d), or uniform on [-1, 1]^d."""

    dim: int
    prior: Prior

    def draw(self, count: int, rng: torch.Generator) -> Tensor:
        """float32 [count, dim] drawn from the prior on the CPU, reproducible from the generator's state."""
        if self.prior == "uniform":
            return torch.rand(count, self.dim, generator=rng) * 2 - 1
        z = torch.randn(count, self.dim, generator=rng)
        return z * (math.sqrt(self.dim) / z.norm(dim=1, keepdim=True)) if self.prior == "sphere" else z


@dataclass(frozen=True, slots=True)
class OutputSpec:
    """Size of the published picture, range [low, high] of the raw output and the rule that makes 8 bits of it."""

    height: int
    width: int
    channels: int
    low: float
    high: float
    rounding: Rounding

    @property
    def samples(self) -> int:
        """8-bit samples of one picture: height x width x channels."""
        return self.height * self.width * self.channels

    def unit(self, raw: Tensor) -> Tensor:
        """Raw outputs on the scale [0, 1]; differentiable, values beyond the range are not clamped."""
        return (raw - self.low) / (self.high - self.low)

    def to_uint8(self, raw: Tensor) -> Tensor:
        """uint8 [B, H, W, C] of raw float32 outputs [B, C, H, W] by the owner's rounding rule, step by step."""
        if self.rounding == "mul127.5_add128_trunc":
            unit = raw if (self.low, self.high) == (-1.0, 1.0) else self.unit(raw) * 2 - 1
            levels = (unit * 127.5 + 128).clamp(0, 255)
        elif self.rounding == "mul255_add0.5_floor":
            levels = (self.unit(raw) * 255 + 0.5).clamp(0, 255)
        else:
            levels = (self.unit(raw).clamp(0, 1) * 255).round()
        return levels.to(torch.uint8).permute(0, 2, 3, 1).contiguous()


class Generator:
    """A frozen generator with its identity. Not safe to share between threads while `to` moves it."""

    def __init__(
        self, name: str, module: nn.Module, *, digest: str, manifest: Mapping[str, Any], latent: LatentSpec,
        output: OutputSpec,
    ) -> None:  # fmt: skip
        self.name = name
        self.digest = digest
        self.manifest = manifest
        self.latent = latent
        self.output = output
        self.module = module.eval().requires_grad_(False)
        self._check_shape()

    def _check_shape(self) -> None:
        want = (1, self.output.channels, self.output.height, self.output.width)
        with torch.no_grad():
            try:
                got = tuple(self.module(self._like(torch.zeros(1, self.latent.dim))).shape)
            except RuntimeError as error:
                raise EvidenceError(f"generator {self.name!r} does not accept its own latents: {error}") from error
        if got != want:
            raise EvidenceError(f"generator {self.name!r} makes outputs {list(got)}, its manifest says {list(want)}")

    def _like(self, z: Tensor) -> Tensor:
        weight = next(self.module.parameters(), None)
        return z if weight is None else z.to(weight.device, weight.dtype)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        weight = next(self.module.parameters(), None)
        return torch.device("cpu") if weight is None else weight.device

    def images(self, z: Tensor) -> Tensor:
        """[B, C, H, W] on the scale [0, 1] of latents [B, d]; differentiable, before rounding."""
        return self.output.unit(self.module(z))

    @torch.no_grad()
    def sample(self, z: Tensor) -> Tensor:
        """uint8 [B, H, W, C]: what the owner publishes for float32 latents [B, d]."""
        raw = self.module(self._like(z.to(torch.float32)))
        return self.output.to_uint8(raw.to(torch.float32)).cpu()

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> Generator:
        """Move the weights (in place) and return self; `sample` is the owner's only in float32."""
        self.module.to(device=device, dtype=dtype)
        return self

    def __repr__(self) -> str:
        return f"Generator({self.name!r}, {self.digest[:19]}...)"
