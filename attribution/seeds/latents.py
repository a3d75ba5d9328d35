"""Was a latent drawn from its prior? Tests of its length, its direction and its numbers.

    norm          |z|^2 is chi-square with d degrees of freedom, two-sided
    angle         to the diagonal (1, ..., 1): cos^2 is Beta(1/2, (d - 1)/2), whatever the length; it finds a mean
    distribution  Kolmogorov-Smirnov of the d numbers against N(0, 1)
    tails         Anderson-Darling against N(0, 1), every parameter known; more weight on the tails
    neighbour     smallest angle to other latents at hand (several records resting on one direction)

The sphere prior sees a direction only: a latent off the sphere is rejected outright, and its numbers are tested as if
normal, which is conservative since their mean square is fixed. A uniform prior is carried over to N(0, 1) first. Codes
have no density: nothing is tested. A forger can pass all of them (attribution/attacks): screening, not proof.
Source: Marsaglia and Marsaglia (2004) for Anderson-Darling's distribution, absolute error below 1e-5, up to 8.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta, chi2, kstwo, norm

from ..generators.latent import ON_SPHERE, LatentSpec
from .screening import REPORT_LEVEL, SeedPlausibility, Test

Values = NDArray[np.float64]

FAR = 8.0
"""A^2 above which the tail itself is computed: the fitted distribution has an absolute error."""


def screen_latent(
    z: NDArray[np.floating], latent: LatentSpec, *, others: NDArray[np.floating] | None = None,
    level: float = REPORT_LEVEL, about: str = "latent",
) -> SeedPlausibility:  # fmt: skip
    """All tests of a latent [d] under its generator's prior; `others` [n, d] are latents it should not resemble."""
    values = np.asarray(z, dtype=np.float64).ravel()
    if latent.prior == "code":
        return SeedPlausibility((), level, (f"{about} (codes have no density)",))
    if not np.isfinite(values).all():
        return SeedPlausibility((Test("finite", math.nan, 0.0, about),), level)
    if latent.prior == "uniform":
        inside = np.abs(values) <= 1
        tests = [Test("support", float(np.abs(values).max()), 1.0 if inside.all() else 0.0, about)]
        normal = np.asarray(norm.ppf(np.clip((values + 1) / 2, 1e-12, 1 - 1e-12)), dtype=np.float64)
    else:
        tests = [_length(values, latent, about)]
        normal = values
    tests += [angle(normal, about=about), distribution(normal, about=about), tails(normal, about=about)]
    if others is not None and len(others):
        tests.append(neighbour(values, np.asarray(others, dtype=np.float64), about=about))
    return SeedPlausibility(tuple(tests), level)


def _length(values: Values, latent: LatentSpec, about: str) -> Test:
    square = float(values @ values)
    if latent.prior == "sphere":
        return Test("norm", square, 1.0 if abs(square / values.size - 1) <= ON_SPHERE else 0.0, about)
    return energy(values, name="norm", about=about)


def energy(values: Values, *, name: str, about: str) -> Test:
    """Sum of squares of n standard normal numbers against chi-square, two-sided."""
    square = float(values @ values)
    lower, upper = float(chi2.cdf(square, values.size)), float(chi2.sf(square, values.size))
    return Test(name, square, min(1.0, 2 * min(lower, upper)), about)


def angle(values: Values, *, about: str = "latent") -> Test:
    """cos of the angle to the diagonal; 0 length counts as rejected."""
    square = float(values @ values)
    if square == 0 or values.size < 2:
        return Test("angle", math.nan, 0.0 if square == 0 else 1.0, about)
    cosine = float(values.sum()) / math.sqrt(values.size * square)
    return Test("angle", cosine, float(beta.sf(min(1.0, cosine**2), 0.5, (values.size - 1) / 2)), about)


def distribution(values: Values, *, about: str = "latent") -> Test:
    """Kolmogorov-Smirnov of the numbers against N(0, 1), exact distribution."""
    ordered = np.asarray(norm.cdf(np.sort(values)), dtype=np.float64)
    n = ordered.size
    steps = np.arange(n + 1) / n
    largest = float(max((steps[1:] - ordered).max(), (ordered - steps[:-1]).max()))
    return Test("distribution", largest, float(kstwo.sf(largest, n)), about)


def tails(values: Values, *, about: str = "latent") -> Test:
    """Anderson-Darling's A^2 against N(0, 1) with known parameters."""
    ordered = np.sort(values)
    n = ordered.size
    weights = 2 * np.arange(1, n + 1) - 1
    # logcdf and logsf: the far tails must not become log 0
    logs = np.asarray(norm.logcdf(ordered) + norm.logsf(ordered[::-1]), dtype=np.float64)
    statistic = float(-n - (weights * logs).mean())
    # A^2 is a sum of chi-squares with weights 1 / (j (j + 1)): far out the first counts alone, the others give sqrt 3
    far = math.sqrt(3) * float(chi2.sf(2 * statistic, 1))
    p = far if statistic > FAR else 1 - _anderson_darling(n, statistic)
    return Test("tails", statistic, max(0.0, min(1.0, p)), about)


def neighbour(values: Values, others: Values, *, about: str = "latent") -> Test:
    """Largest |cos| to any of n other latents; the p-value is that of the largest of n."""
    lengths = np.linalg.norm(others, axis=1) * np.linalg.norm(values)
    cosine = float(np.max(np.abs(others @ values) / np.maximum(lengths, 1e-300)))
    one = float(beta.sf(min(1.0, cosine**2), 0.5, (values.size - 1) / 2))
    return Test("neighbour", cosine, -math.expm1(len(others) * math.log1p(-min(one, 1 - 1e-16))), about)


def _anderson_darling(n: int, a: float) -> float:
    """P(A_n^2 < a) up to FAR: the limiting distribution and the correction for finite n."""
    if a <= 0:
        return 0.0
    if a < 2:
        inner = 0.0347962 - (0.0116720 - 0.00168691 * a) * a
        x = math.exp(-1.2337141 / a) / math.sqrt(a) * (2.00012 + (0.247105 - (0.0649821 - inner * a) * a) * a)
    else:
        inner = 0.43424 - (0.082433 - (0.008056 - 0.0003146 * a) * a) * a
        exponent = 1.0776 - (2.30695 - inner * a) * a
        x = math.exp(-math.exp(exponent))
    if x > 0.8:
        inner = 1950.646 - (1116.360 - 255.7844 * x) * x
        return x + (-130.2137 + (745.2337 - (1705.091 - inner * x) * x) * x) / n
    edge = 0.01265 + 0.1757 / n
    if x < edge:
        t = x / edge
        return x + math.sqrt(t) * (1 - t) * (49 * t - 102) * (0.0037 / n**2 + 0.00078 / n + 0.00006) / n
    t = (x - edge) / (0.8 - edge)
    inner = 14.458 - (8.259 - 1.91864 * t) * t
    t = -0.00022633 + (6.54034 - (14.6538 - inner * t) * t) * t
    return x + t * (0.04213 + 0.01365 / n) / n
