"""Pictures for tests: smooth, coloured, with detail down to a few samples, as photographs have."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

Pixels = NDArray[np.uint8]


def picture(rng: np.random.Generator, height: int = 64, width: int = 64) -> Pixels:
    """A smooth random picture with detail down to a few samples, as photographs have."""
    layers = [gaussian_filter(rng.standard_normal((height, width, 1)), (s, s, 0)) * s for s in (1.5, 4, 12)]
    colour = gaussian_filter(rng.standard_normal((height, width, 3)), (8, 8, 0)) * 8  # JPEG halves colour's resolution
    total = np.sum(layers, axis=0) + 0.5 * colour
    total = (total - total.mean()) / total.std()
    return np.clip(127 + 50 * total, 0, 255).astype(np.uint8)
