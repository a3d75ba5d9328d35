"""What StyleGAN and StyleGAN2 share: the mapping network, truncation towards the mean style, noise maps by name.

    w = mapping(z / rms(z)),   w_i = w_mean + psi (w - w_mean) for the first `cutoff` layers, w for the others

Noise maps are inputs: `forward(z, noise={"noise_3": [B or 1, 1, H, W]})` replaces them one by one; the others are the
maps stored beside the weights (noise mode `const`, which the digest covers) or none at all (`none`). A picture made
with given maps has free inputs, so nothing counts as evidence that rests on them (004 section III-D shows why).
Source: Karras et al. (2019), section 2 and Appendix B.
"""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ...schemas.errors import EvidenceError
from .equalised import EqualLinear, leaky, pixel_norm
from .protocol import NOISE_MODES

MAPPING_RATE = 0.01


class MappingNetwork(nn.Module):
    """Latents [B, latent] to styles [B, style]: pixel norm, then `layers` of EqualLinear and LeakyReLU.

    StyleGAN scales its weights by sqrt 2 (`gain`), StyleGAN2 its activations (`post`).
    """

    def __init__(self, latent: int, style: int, layers: int, gain: float, post: float) -> None:
        super().__init__()
        sizes = [latent] + [style] * layers
        self.layers = nn.ModuleList(EqualLinear(a, b, gain, MAPPING_RATE) for a, b in itertools.pairwise(sizes))
        self.post = post

    def forward(self, z: Tensor) -> Tensor:
        w = pixel_norm(z)
        for layer in self.layers:
            w = leaky(layer(w)) * self.post
        return w


class StyledGenerator(nn.Module, ABC):
    """A mapping, the mean style `w_mean` and one noise map a layer; a family adds its synthesis."""

    w_mean: Tensor

    def __init__(self, mapping: MappingNetwork, style: int, style_count: int, noise_sizes: Sequence[int]) -> None:
        super().__init__()
        self.mapping = mapping
        self.style_count = style_count
        self.register_buffer("w_mean", torch.zeros(style))
        self.noise_inputs: Mapping[str, tuple[int, ...]] = {
            f"noise_{index}": (1, size, size) for index, size in enumerate(noise_sizes)
        }
        for name, shape in self.noise_inputs.items():
            self.register_buffer(name, torch.randn(1, *shape))
        self.psi: float | None = None
        self.cutoff: int | None = None
        self.noise_mode = "const"

    def set_sampling(self, psi: object, cutoff: object, noise_mode: object) -> None:
        """`psi` in [0, 1], or None for no truncation, over the first `cutoff` layers or all; a noise mode is needed."""
        if psi is not None and (isinstance(psi, bool) or not isinstance(psi, (int, float)) or not 0 <= psi <= 1):
            raise EvidenceError(f"psi must lie in [0, 1], not {psi!r}")
        if cutoff is not None and (
            psi is None
            or isinstance(cutoff, bool)
            or not isinstance(cutoff, int)
            or not 0 <= cutoff <= self.style_count
        ):
            raise EvidenceError(f"cutoff must be a number of layers up to {self.style_count}, beside a psi")
        if noise_mode not in NOISE_MODES:
            raise EvidenceError(f"noise mode must be one of {', '.join(NOISE_MODES)}, not {noise_mode!r}")
        self.psi = None if psi is None else float(psi)
        self.cutoff = cutoff
        self.noise_mode = str(noise_mode)

    def forward(self, z: Tensor, noise: Mapping[str, Tensor] | None = None) -> Tensor:
        """Raw pictures [B, C, H, W] of latents [B, latent]."""
        return self.synthesise(self.styles(z), noise)

    @abstractmethod
    def synthesise(self, styles: Sequence[Tensor], noise: Mapping[str, Tensor] | None = None) -> Tensor:
        """Raw pictures of one style [B, style] for each layer, truncated already."""

    def styles(self, z: Tensor) -> list[Tensor]:
        """[B, style] for each layer, truncated."""
        return self.truncated(self.mapping(z))

    def truncated(self, w: Tensor) -> list[Tensor]:
        """Mapped styles [B, style] as each layer gets them."""
        if self.psi is None:
            return [w] * self.style_count
        near = self.w_mean + self.psi * (w - self.w_mean)
        cutoff = self.style_count if self.cutoff is None else self.cutoff
        return [near if index < cutoff else w for index in range(self.style_count)]

    def maps(self, noise: Mapping[str, Tensor] | None) -> list[Tensor | None]:
        """The noise map of each layer, [B or 1, 1, H, W]: given, stored, or None."""
        given = noise or {}
        stored = self.noise_mode == "const"
        return [given.get(name, getattr(self, name) if stored else None) for name in self.noise_inputs]


@torch.no_grad()
def mean_style(generator: StyledGenerator, count: int = 10_000, seed: int = 0) -> Tensor:
    """[style]: the mean of mapped normal latents, for checkpoints that come without one."""
    rng = torch.Generator().manual_seed(seed)
    size = generator.mapping.layers[0].get_parameter("weight").shape[1]
    total = torch.zeros_like(generator.w_mean, dtype=torch.float64)
    for start in range(0, count, 1000):
        z = torch.randn(min(1000, count - start), size, generator=rng)
        total += generator.mapping(z.to(generator.w_mean)).double().sum(0)
    return (total / count).float()


def layer_sizes(size: int) -> list[int]:
    """4, 4, 8, 8, ..., size, size: the map sizes of two layers a size."""
    return [1 << exponent for exponent in range(2, int(math.log2(size)) + 1) for _ in range(2)]
