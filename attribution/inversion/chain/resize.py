"""Pillow's antialiased resize as a matrix for each axis: the very weights, before they are rounded to fixed point.

A filter's support grows with the factor when a picture shrinks; weights beyond the picture's edge are left out and the
rest is scaled to sum to one. Pillow takes one pass, rounds to 8 bits, then the other one (`vertical_first`); an axis
whose size stays has no pass. Source: Pillow, Resample.c (`precompute_coeffs`); Keys (1981) with a = -1/2 for bicubic.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]

FIXED_POINT_BITS = 22
"""Pillow rounds the weights to multiples of 2^-22 for 8-bit pictures: an error below 1e-3 levels a pass."""


def _triangle(x: float) -> float:
    return max(0.0, 1 - abs(x))


def _cubic(x: float) -> float:
    x = abs(x)
    if x < 1:
        return (1.5 * x - 2.5) * x * x + 1
    return ((-0.5 * x + 2.5) * x - 4) * x + 2 if x < 2 else 0.0


def _sinc(x: float) -> float:
    return 1.0 if x == 0 else math.sin(math.pi * x) / (math.pi * x)


def _lanczos(x: float) -> float:
    return _sinc(x) * _sinc(x / 3) if -3 <= x < 3 else 0.0


KERNELS: dict[str, tuple[Callable[[float], float], float]] = {
    "bilinear": (_triangle, 1.0),
    "bicubic": (_cubic, 2.0),
    "lanczos": (_lanczos, 3.0),
}
"""Name -> (kernel, half its width in samples of the coarser grid)."""


@functools.lru_cache(maxsize=4096)
def resize_matrix(before: int, after: int, name: str) -> Matrix:
    """float64 [after, before], read-only: the weights that filter `name` takes along one axis."""
    kernel, reach = KERNELS[name]
    scale = before / after
    stretch = max(scale, 1.0)
    support = reach * stretch
    matrix = np.zeros((after, before))
    for row in range(after):
        centre = (row + 0.5) * scale
        first, last = max(0, int(centre - support + 0.5)), min(before, int(centre + support + 0.5))
        weights = np.array([kernel((i - centre + 0.5) / stretch) for i in range(first, last)])
        matrix[row, first:last] = weights / weights.sum()
    matrix.setflags(write=False)
    return matrix


def vertical_first(before: tuple[int, int], after: tuple[int, int]) -> bool:
    """Whether the vertical pass comes first, from (h, w) to (h, w): where it shrinks the picture more than the other.

    So Pillow 13 does; older ones always begin with the horizontal pass.
    """
    return after[0] < before[0] and after[0] * before[1] < before[0] * after[1]
