"""What the engine knows of a generator: where its latents come from, what its owner publishes, and one forward pass.

A `Generator` holds a frozen `nn.Module` in eval mode that maps latents [B, d] to raw outputs [B, C, H, W] in the
output range [low, high]. Its identity is the digest of its manifest (weights, buffers, architecture, constants), so two
generators with one digest are one generator.

A module of a family with more inputs than its latent offers two more names (`NoisyModule`): `noise_inputs`, the maps
that may be given beside z, and `set_sampling`, which takes the manifest's psi, cutoff and noise mode.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import torch
from torch import Tensor, nn

from ...schemas.errors import EvidenceError, UsageError
from .latent import PRIORS, LatentSpec, Prior

Rounding = Literal["mul255_add0.5_floor", "mul127.5_add128_trunc", "round_half_even_255"]
ROUNDINGS: tuple[Rounding, ...] = get_args(Rounding)


NOISE_MODES = ("const", "none")
"""`const`: the maps stored beside the weights, part of the digest; `none`: no maps. Fresh maps are given by name."""

__all__ = [
    "NOISE_MODES", "PRIORS", "ROUNDINGS", "Generator", "LatentSpec", "NoisyModule", "OutputSpec", "Prior", "Rounding",
]  # fmt: skip


@runtime_checkable
class NoisyModule(Protocol):
    """A module with free inputs beside the latent, and with constants of sampling."""

    noise_inputs: Mapping[str, tuple[int, ...]]
    """Name -> shape without the batch axis of every map that `forward(z, noise={name: [B, *shape]})` takes."""

    def set_sampling(self, psi: object, cutoff: object, noise_mode: object) -> None:
        """Use the manifest's constants, whatever they are, from now on; `EvidenceError` for what the family lacks."""
        ...


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

    @property
    def noise(self) -> Mapping[str, tuple[int, ...]]:
        """Name -> shape without the batch axis of the noise maps that may be given; empty for most families."""
        return self.module.noise_inputs if isinstance(self.module, NoisyModule) else {}

    def _forward(self, z: Tensor, noise: Mapping[str, Tensor] | None) -> Tensor:
        if not noise:
            return self.module(z)
        known = self.noise
        for name, values in noise.items():
            if name not in known:
                raise UsageError(f"generator {self.name!r} has no noise input {name!r}")
            if values.shape[1:] != known[name] or len(values) not in (1, len(z)):
                raise UsageError(
                    f"noise input {name!r} is {list(values.shape)}, not [{len(z)} or 1, {str(list(known[name]))[1:-1]}]"
                )
        return self.module(z, noise={name: self._like(values) for name, values in noise.items()})

    def images(self, z: Tensor, noise: Mapping[str, Tensor] | None = None) -> Tensor:
        """[B, C, H, W] on the scale [0, 1] of latents [B, d]; differentiable, before rounding.

        `noise` replaces noise maps by name ([B or 1, *shape]); what is not named follows the manifest's noise mode.
        """
        return self.output.unit(self._forward(z, noise))

    @torch.no_grad()
    def sample(self, z: Tensor, noise: Mapping[str, Tensor] | None = None) -> Tensor:
        """uint8 [B, H, W, C]: what the owner publishes for float32 latents [B, d] (and given noise maps)."""
        raw = self._forward(self._like(z.to(torch.float32)), noise)
        return self.output.to_uint8(raw.to(torch.float32)).cpu()

    def to(self, device: torch.device | str, dtype: torch.dtype | None = None) -> Generator:
        """Move the weights (in place) and return self; `sample` is the owner's only in float32."""
        self.module.to(device=device, dtype=dtype)
        return self

    def __repr__(self) -> str:
        return f"Generator({self.name!r}, {self.digest[:19]}...)"
