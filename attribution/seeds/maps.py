"""Was a noise map drawn? Each map should be independent N(0, 1): its numbers, its neighbours, its spectrum.

    mean             sqrt(n) x mean against N(0, 1)
    energy           sum of squares against chi-square, two-sided
    distribution     Kolmogorov-Smirnov against N(0, 1)
    neighbours       correlation with the right, lower and both diagonal neighbours; four squares against chi-square(4)
    low frequencies  share of the spectrum within a quarter of the band: Beta, exact for white noise, two-sided
    one frequency    Fisher's g, the largest share of one frequency (an upper bound of its p-value)

A map that was solved for (attribution/attacks/noise.py) carries the picture and fails several of them at once; one that
was solved with room to spare fails fewer. Maps below 8x8 are tested without neighbours and spectrum.
Source: Fisher (1929) for g.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta, chi2, norm

from .latents import Values, distribution, energy
from .screening import REPORT_LEVEL, SeedPlausibility, Test

SMALLEST_SIDE = 8
LOW_BAND = 0.125
"""Cycles per sample: a quarter of the band up to 0.5."""
LAGS = ((0, 1), (1, 0), (1, 1), (1, -1))


def screen_map(noise: NDArray[np.floating], *, about: str = "noise", level: float = REPORT_LEVEL) -> SeedPlausibility:
    """All tests of one noise map [H, W], or [1, H, W]."""
    return SeedPlausibility(tuple(map_tests(noise, about=about)), level)


def map_tests(noise: NDArray[np.floating], *, about: str) -> list[Test]:
    """The tests of one map, for a family with others."""
    wide = np.asarray(noise, dtype=np.float64)
    height, width = wide.shape[-2:]
    wide = wide.reshape(-1, height, width)
    flat = wide.ravel()
    if not np.isfinite(flat).all():
        return [Test("finite", math.nan, 0.0, about)]
    score = math.sqrt(flat.size) * float(flat.mean())
    tests = [
        Test("mean", score, float(2 * norm.sf(abs(score))), about),
        energy(flat, name="energy", about=about),
        distribution(flat, about=about),
    ]
    if min(height, width) >= SMALLEST_SIDE and float(flat.std()) > 0:
        tests += [neighbours(wide, about=about), *spectrum(wide, about=about)]
    return tests


def neighbours(maps: Values, *, about: str = "noise") -> Test:
    """Correlation of [M, H, W] with shifted copies of itself."""
    centred = maps - maps.mean()
    power = float((centred**2).mean())
    statistic = 0.0
    height, width = maps.shape[1:]
    for down, right in LAGS:
        first = centred[:, : height - down, max(0, -right) : width - max(0, right)]
        second = centred[:, down:, max(0, right) : width + min(0, right)]
        statistic += float((first * second).sum()) ** 2 / (first.size * power**2)
    return Test("neighbours", statistic, float(chi2.sf(statistic, len(LAGS))), about)


def spectrum(maps: Values, *, about: str = "noise") -> list[Test]:
    """Share of the low frequencies and of the strongest one in the periodogram of [M, H, W]."""
    height, width = maps.shape[1:]
    power = np.abs(np.fft.rfft2(maps)) ** 2
    rows = np.abs(np.fft.fftfreq(height))[:, None]
    columns = np.fft.rfftfreq(width)[None, :]
    # one of each conjugate pair, none of the real ones: these ordinates are independent and exponential for white noise
    single = np.broadcast_to((columns > 0) & (columns < 0.5), power.shape[1:])
    ordinates = power[:, single].ravel()
    low = np.broadcast_to(np.hypot(rows, columns) <= LOW_BAND, power.shape[1:])[single]
    total = float(ordinates.sum())
    if total == 0:
        return [Test("low frequencies", math.nan, 0.0, about)]
    few, many = len(maps) * int(low.sum()), len(ordinates)
    share = float(power[:, single][:, low].sum()) / total
    lower = float(beta.cdf(share, few, many - few))
    upper = float(beta.sf(share, few, many - few))
    largest = float(ordinates.max()) / total
    bound = min(1.0, many * math.exp((many - 1) * math.log1p(-min(largest, 1 - 1e-16))))
    return [
        Test("low frequencies", share, min(1.0, 2 * min(lower, upper)), about),
        Test("one frequency", largest, bound, about),
    ]
