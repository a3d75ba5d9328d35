"""How far apart two 8-bit pictures of one size are: MSE, PSNR and SSIM.

All three take uint8[H, W, 3] and compare every sample. MSE is on the [0, 1] scale that the rounding floor
1/(12*255^2) and every limit of a calibration use; PSNR is in decibels (infinite for equal pictures); SSIM follows
Wang, Bovik, Sheikh, Simoncelli 2004 (Gaussian window 11x11 of sigma 1.5, K1 = 0.01, K2 = 0.03, population moments,
valid region only), per channel and averaged.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ...schemas.errors import UsageError

Pixels = NDArray[np.uint8]

_SIGMA = 1.5
_RADIUS = 5
_C1 = (0.01 * 255) ** 2
_C2 = (0.03 * 255) ** 2


def mse(a: Pixels, b: Pixels) -> float:
    """Mean squared difference of all samples on a [0, 1] scale; 0.0 exactly when the pictures are equal."""
    _same_shape(a, b)
    difference = a.astype(np.int32) - b.astype(np.int32)
    return float(np.mean(difference * difference, dtype=np.float64)) / 255.0**2


def psnr(a: Pixels, b: Pixels) -> float:
    """Peak signal-to-noise ratio in decibels; `inf` when the pictures are equal."""
    error = mse(a, b)
    return math.inf if error == 0 else -10 * math.log10(error)


def ssim(a: Pixels, b: Pixels) -> float:
    """Structural similarity in [-1, 1]; 1.0 exactly when the pictures are equal.

    A picture narrower than the 11-sample window is compared by its global moments instead.
    """
    _same_shape(a, b)
    if np.array_equal(a, b):
        return 1.0
    x, y = a.astype(np.float64), b.astype(np.float64)
    if min(a.shape[0], a.shape[1]) < 2 * _RADIUS + 1:
        means = x.mean((0, 1)), y.mean((0, 1)), (x * x).mean((0, 1)), (y * y).mean((0, 1)), (x * y).mean((0, 1))
    else:
        means = tuple(_window_mean(v) for v in (x, y, x * x, y * y, x * y))
    mean_x, mean_y, xx, yy, xy = means
    var_x, var_y, cov = xx - mean_x**2, yy - mean_y**2, xy - mean_x * mean_y
    score = ((2 * mean_x * mean_y + _C1) * (2 * cov + _C2)) / ((mean_x**2 + mean_y**2 + _C1) * (var_x + var_y + _C2))
    return float(score.mean())


def _window_mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """[H, W, C] -> Gaussian-weighted local means of the windows that lie wholly inside, [H - 10, W - 10, C]."""
    from scipy.ndimage import correlate1d

    taps = np.exp(-0.5 * (np.arange(-_RADIUS, _RADIUS + 1) / _SIGMA) ** 2)
    taps /= taps.sum()
    smooth = correlate1d(correlate1d(values, taps, axis=0), taps, axis=1)
    return smooth[_RADIUS:-_RADIUS, _RADIUS:-_RADIUS]


def _same_shape(a: Pixels, b: Pixels) -> None:
    if a.shape != b.shape or a.ndim != 3:
        raise UsageError(f"pictures of one size are compared, not {a.shape} with {b.shape}")
