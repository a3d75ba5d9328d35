"""What a class's measurements support: limits, failure rate, strength of evidence. Pure functions of residuals.

Own residuals and those of other sources are treated apart. The *denial limit* bounds own pictures from above, the
*attribution limit* other pictures from below; between them nothing is said. No distribution is assumed for either
limit. Sources: Wilks (1941) for tolerance bounds by order statistics; Clopper and Pearson (1934); Vovk et al. (2005)
for the conformal p-value; Vergeer et al. (2016) for bounding a likelihood ratio by the size of its calibration set.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from scipy.stats import binom

from .roc import upper_bound

CONFIDENCE = 0.95
COVERAGE = 0.90
MIN_OWN = 29
MIN_NEGATIVES = 29
MIN_STRANGERS = 15
"""Processed classes separate from unrelated sources alone, which lie far off: fewer of them will do."""
NEGATIVE_MARGIN = 2.0
"""The attribution limit is the smallest residual of a negative divided by this."""


def denial_limit(own: Sequence[float]) -> float | None:
    """One-sided 95 % upper tolerance bound that covers 90 % of own residuals; None below 29 of them.

    The k-th smallest, k the least with P(Bin(n, 0.9) < k) >= 0.95: for n = 29 the largest.
    """
    n = len(own)
    if n < MIN_OWN:
        return None
    ranks = np.arange(1, n + 1)
    covered = ranks[binom.cdf(ranks - 1, n, COVERAGE) >= CONFIDENCE]
    return float(np.sort(np.asarray(own))[int(covered[0]) - 1]) if covered.size else None


def attribution_limit(negatives: Sequence[float]) -> float | None:
    """Half the smallest residual of a negative; None below 29 of them.

    What an attribution by residual rests on (unprocessed class). With 29 negatives at most 10 % of such sources lie
    below the smallest, at 95 % confidence; half of it is the margin for those.
    """
    return min(negatives) / NEGATIVE_MARGIN if len(negatives) >= MIN_NEGATIVES else None


def stranger_limit(strangers: Sequence[float]) -> float | None:
    """The smallest residual of an unrelated source's picture, processed alike; None below 15 of them.

    The limit of a processed class. Nothing is attributed by it: it says which own inversions found nothing better than
    a stranger does, and so failed. With 15 at most 18 % of such sources lie below it, at 95 % confidence.
    """
    return min(strangers) if len(strangers) >= MIN_STRANGERS else None


def failure_bound(failures: int, n: int) -> float:
    """One-sided 95 % Clopper-Pearson upper bound of a rate; 1 for n = 0."""
    return upper_bound(failures, n, CONFIDENCE)


def conformal_p(own: Sequence[float], residual: float) -> float:
    """(1 + own residuals at least as large) / (n + 1): uniform or larger if the probe is one more own picture."""
    return (1 + sum(value >= residual for value in own)) / (len(own) + 1)


def log10_likelihood_ratio(own: Sequence[float], other: Sequence[float], residual: float) -> tuple[float, float] | None:
    """(log10 LR, cap) of "own" against "other" at a residual; None with fewer than two of either.

    Kernel densities of log10 residuals, each mixed with one part in n + 1 of a normal around all measurements, and the
    result held within what n samples can show: not above log10(n_other + 1), not below -log10(n_own + 1). `cap` is the
    bound on the side where the ratio lies.
    """
    if len(own) < 2 or len(other) < 2:
        return None
    mine, theirs = (np.log10(np.maximum(np.asarray(values, dtype=float), 1e-300)) for values in (own, other))
    everything = np.concatenate([mine, theirs])
    centre, spread = float(everything.mean()), float(everything.std()) + 1.0
    point = math.log10(max(residual, 1e-300))
    broad = -0.5 * ((point - centre) / spread) ** 2 - math.log(spread * math.sqrt(2 * math.pi))
    ratio = (_log_density(mine, point, broad) - _log_density(theirs, point, broad)) / math.log(10)
    upper, lower = math.log10(len(theirs) + 1), math.log10(len(mine) + 1)
    return min(max(ratio, -lower), upper), upper if ratio >= 0 else lower


def _log_density(values: np.ndarray, point: float, broad: float) -> float:
    """Natural logarithm of the mixture density; Silverman's bandwidth, at least 0.02 decades."""
    n = len(values)
    width = max(0.02, 1.06 * float(values.std()) * n**-0.2)
    kernels = -0.5 * ((point - values) / width) ** 2 - math.log(width * math.sqrt(2 * math.pi))
    terms = np.append(kernels + math.log(1 / (n + 1)), broad + math.log(1 / (n + 1)))
    return float(np.logaddexp.reduce(terms))
