"""How large the residual of a true match should be, for one probe: what 8-bit rounding alone leaves.

A picture is published by rounding, so even the very latent leaves an error. A sample well between black and white
rounds freely: its error is uniform in half a level either way and tells nothing of its neighbours', so its square has
mean 1/12 and variance 1/180 (levels). Near an end of the range generators saturate, softly by a sigmoid or hard by a
clamp: levels crowd there, whole regions share one fraction, and the error is anything but uniform. Of those samples the
reconstruction itself says what is left, and nothing counts as random. So the expectation is 1/(12 x 255^2), the floor
that limits are counted in, only where little saturates.

It is the expectation at the true latent. The engine's certificate lies as near to it as that; a least-squares optimum
of d latent numbers would lie lower by d/12 levels in all, and a search that stopped early lies higher.

This is a diagnostic. Limits and verdicts count in the fixed floor, by which they were calibrated. Source: Widrow and
Kollár (2008), chapter 4, for uniform quantisation noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...schemas.errors import UsageError

VARIANCE = 1 / 12
"""Of a freely rounding sample's error, in levels squared; that of its square is 1/180."""
SQUARE_VARIANCE = 1 / 180
LEVELS = 255
ENDS = 5
"""Levels from either end within which a sample does not round freely. Of fresh digits of an auto-encoder, at 1 the
deviations of true latents spread 2.5 times as wide as they should, from 3 on as they should; faces do not mind."""
FIT_SDS = 3.0


@dataclass(frozen=True, slots=True)
class ExpectedFloor:
    """What a true match of one probe should leave: mean squared error on [0, 1], and its standard deviation."""

    residual: float
    sd: float
    """0 where no sample rounds freely: then nothing can be said."""
    free: int
    """Samples that round freely."""
    samples: int

    def deviation(self, residual: float) -> float:
        """Standard deviations by which a residual lies above what a true match should leave; NaN if sd is 0."""
        return (residual - self.residual) / self.sd if self.sd > 0 else math.nan


def expected_floor(probe: NDArray[np.uint8], image: NDArray[np.floating]) -> ExpectedFloor:
    """The floor of a probe (8-bit, any shape) under a reconstruction before rounding (same shape, on [0, 1])."""
    if probe.shape != image.shape or probe.dtype != np.uint8:
        raise UsageError(f"a probe {probe.dtype} {probe.shape} and a reconstruction {image.shape} do not compare")
    free = (probe >= ENDS) & (probe <= LEVELS - ENDS)
    count, samples = int(free.sum()), int(probe.size)
    # what overshoots the range is clamped on publication; beyond half a level no true match can be
    inside = np.clip(image[~free].astype(np.float64), 0, 1)
    ends = np.minimum(np.abs(inside * LEVELS - probe[~free].astype(np.float64)), 0.5)
    total = count * VARIANCE + float(np.square(ends).sum())
    scale = samples * LEVELS**2
    return ExpectedFloor(total / scale, math.sqrt(count * SQUARE_VARIANCE) / scale, count, samples)


def fit_differences(numbers: int, samples: int) -> tuple[float, float]:
    """Mean and standard deviation of how many samples differ where d numbers were fitted to a picture's N roundings.

    Least squares takes a share h = d / N off every sample's rounding error, uniform in half a level, and moves it by
    another sample's, of variance h / 12: it lands on the next level if it ends beyond half a level, which has
    probability 2 (s phi(c / s) - c Phi(-c / s)) with c = h / 2 and s^2 = h / 12. The count's variance is Poisson's and
    that of s, chi-square of d degrees. An own picture that the certificate missed lies there or below; a near
    relative's, moved by more, above, though its residual hardly tells.
    """
    share = min(1.0, numbers / samples)
    spread, edge = math.sqrt(share / 12), share / 2
    ratio = edge / spread
    density, beyond = math.exp(-(ratio**2) / 2) / math.sqrt(2 * math.pi), math.erfc(ratio / math.sqrt(2)) / 2
    mean = 2 * samples * (spread * density - edge * beyond)
    return mean, math.sqrt(mean + mean**2 / (2 * numbers))


def most_differences(numbers: int, samples: int) -> float:
    """In how many samples, at most, the nearest picture to an own one differs: `FIT_SDS` above the mean of a fit."""
    mean, sd = fit_differences(numbers, samples)
    return mean + FIT_SDS * sd
