"""Could a style have come from the mapping, and a gain from a style? Both against the generator's own draws.

StyleGAN's styles lie in W, the image of the prior under its mapping network; a style that was searched for freely (W+
of Abdal et al. 2019), or AdaIN gains of 0 (004 section III-D), lie elsewhere. `StyleStatistics` keeps mean and
covariance of one half of the generator's draws and the Mahalanobis distances of the other half; a p-value is the rank
of a given style among those, so it is exact for any shape of W and never below 1 / (n + 1). Screening, not proof: a
search that stays in W passes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from ..generators.styled import StyledGenerator
from ..generators.stylegan import StyleGAN
from .screening import Test

DRAWS = 4000
SMALLEST_SHARE = 1e-6
"""Directions of W with less than this share of the largest variance are not used."""


@dataclass(frozen=True, slots=True)
class StyleStatistics:
    """W of one generator: mean [s], whitening [s, k], and sorted Mahalanobis distances of its own fresh styles."""

    mean: NDArray[np.float64] = field(repr=False)
    whitening: NDArray[np.float64] = field(repr=False)
    own: NDArray[np.float64] = field(repr=False)
    gains: tuple[NDArray[np.float64], ...] = field(default=(), repr=False)
    """StyleGAN: sorted root mean square gains of each layer over the same draws."""

    def distances(self, styles: NDArray[np.floating]) -> NDArray[np.float64]:
        """Mahalanobis distances [B] of styles [B, s]."""
        away = (np.asarray(styles, dtype=np.float64) - self.mean) @ self.whitening
        return np.sqrt((away**2).sum(1))


@torch.no_grad()
def style_statistics(module: StyledGenerator, *, draws: int = DRAWS, seed: int = 0) -> StyleStatistics:
    """Statistics of `draws` styles of the module's mapping, before truncation."""
    rng = torch.Generator().manual_seed(seed)
    size = module.mapping.layers[0].get_parameter("weight").shape[1]
    w = torch.cat([module.mapping(torch.randn(n, size, generator=rng)) for n in _batches(draws)]).double().numpy()
    first, second = w[: draws // 2], w[draws // 2 :]
    mean = first.mean(0)
    values, vectors = np.linalg.eigh(np.cov(first - mean, rowvar=False).reshape(w.shape[1], -1))
    used = values > SMALLEST_SHARE * values.max()
    found = StyleStatistics(mean, vectors[:, used] / np.sqrt(values[used]), np.zeros(0))
    gains: list[NDArray[np.float64]] = []
    if isinstance(module, StyleGAN):
        styles = torch.from_numpy(second).to(module.w_mean)
        gains += [np.sort(_rms(layer_gains(module, index, styles))) for index in range(len(module.layers))]
    return StyleStatistics(found.mean, found.whitening, np.sort(found.distances(second)), tuple(gains))


def _batches(total: int, size: int = 1000) -> list[int]:
    return [min(size, total - start) for start in range(0, total, size)]


def _rms(gains: torch.Tensor) -> NDArray[np.float64]:
    return gains.double().square().mean(1).sqrt().numpy()


@torch.no_grad()
def layer_gains(module: StyleGAN, index: int, styles: torch.Tensor) -> torch.Tensor:
    """AdaIN gains [B, C] of one layer for styles [B, s]: scale + 1."""
    affine = module.layers[index].get_submodule("adain").get_submodule("style")
    return affine(styles).chunk(2, 1)[0] + 1


def mahalanobis(statistics: StyleStatistics, style: NDArray[np.floating], *, about: str = "style") -> Test:
    """Distance of one style [s] from W's mean against the generator's own fresh styles; far is improbable."""
    distance = float(statistics.distances(np.asarray(style).reshape(1, -1))[0])
    beyond = len(statistics.own) - int(np.searchsorted(statistics.own, distance, side="left"))
    return Test("Mahalanobis in W", distance, (beyond + 1) / (len(statistics.own) + 1), about)


def gain(statistics: StyleStatistics, layer: int, gains: NDArray[np.floating], *, about: str = "gain") -> Test:
    """Root mean square of given AdaIN gains [C] of a layer against the generator's own, two-sided; 0 is rejected."""
    size = float(np.sqrt((np.asarray(gains, dtype=np.float64) ** 2).mean()))
    own = statistics.gains[layer]
    below = int(np.searchsorted(own, size, side="right"))
    above = len(own) - int(np.searchsorted(own, size, side="left"))
    p = 0.0 if size == 0.0 else min(1.0, 2 * (min(below, above) + 1) / (len(own) + 1))
    return Test("gain", size, p, about)
