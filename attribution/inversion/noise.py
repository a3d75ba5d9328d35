"""How much independent noise a picture carries, from the picture alone; and whether a residual is nothing but noise.

The mean absolute response of a mask that is blind to constants, slopes and slow curvature, and that a sample's own
noise passes sixfold. Fine texture passes too, so the estimate is an upper one: faces without any noise give one to
three levels.
Source: Immerkaer, Fast noise variance estimation, CVIU 64 (1996).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import correlate1d, gaussian_filter

SECOND_DIFFERENCE = (1.0, -2.0, 1.0)
GAIN = 6.0
"""Root of the mask's summed squares: 36 = (1 + 4 + 1)^2."""


def noise_level(pixels: NDArray[np.uint8]) -> float:
    """Standard deviation of the noise in levels, of uint8 [H, W, C] with sides of three pixels or more."""
    picture = pixels.astype(np.float64)
    for axis in (0, 1):
        picture = correlate1d(picture, SECOND_DIFFERENCE, axis=axis)
    inner = picture[1:-1, 1:-1]
    # a sample at the end of its range lost half its noise: such places say nothing
    clear = (pixels[1:-1, 1:-1] > 0) & (pixels[1:-1, 1:-1] < 255)
    if not clear.any():
        return 0.0
    return float(math.sqrt(math.pi / 2) / GAIN * np.abs(inner[clear]).mean())


SMOOTHING = 2.0
"""Pixels; of a picture of 64 some 240 independent places stay, so that white noise gives 1 +- 0.1."""


def coarse_power(residual: NDArray[np.float64]) -> float:
    """Power of residuals [H, W, C] after smoothing, in units of what white noise of their variance leaves.

    1 for white noise, less where a fit has followed it, tens for structure. A wrong latent leaves its few per cent of a
    noisy residual in coarse structure, where they show.
    """
    power = float(np.square(residual).mean())
    if power == 0.0:
        return 0.0
    smooth = gaussian_filter(residual, (SMOOTHING, SMOOTHING, 0), mode="constant")
    return float(np.square(smooth).mean()) * 4 * math.pi * SMOOTHING**2 / power
