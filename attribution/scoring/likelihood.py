"""How good likelihood ratios are, judged on pictures whose source is known. Ratios are log10, of "own" against "other".

`cllr` is the cost of taking them at their word, `minimum_cllr` what it would be after the best monotone correction: the
first says how well they are calibrated and how well they tell sources apart, the second only how well they tell them
apart. 0 is perfect, 1 is what a ratio of 1 for everything costs. `elub` is how far out they may be believed.

Sources: Brümmer and du Preez (2006) for Cllr; Zadrozny and Elkan (2002) for pooling adjacent violators; Ramos (2007)
for empirical cross-entropy; Vergeer et al. (2016) for the empirical bounds. Held against the Netherlands Forensic
Institute's `lir` in the tests.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from ...schemas.errors import UsageError
from .limits import log10_likelihood_ratio

Ratios = Sequence[float] | NDArray[np.float64]
Array = NDArray[np.float64]

LN10 = math.log(10)


@dataclass(frozen=True, slots=True)
class Tippett:
    """At each ratio of `x`, the shares of own and of other pictures whose ratio is at least that."""

    x: Array
    own: Array
    other: Array

    @property
    def misleading_own(self) -> float:
        """Share of own pictures whose ratio points to another source (below 0)."""
        return 1 - float(self.own[int(np.searchsorted(self.x, 0.0))]) if self.x[-1] >= 0 else 1.0

    @property
    def misleading_other(self) -> float:
        """Share of other pictures whose ratio points to this one (above 0)."""
        above = int(np.searchsorted(self.x, 0.0, side="right"))
        return float(self.other[above]) if above < len(self.x) else 0.0


def leave_one_out(own: Sequence[float], other: Sequence[float]) -> tuple[Array, Array]:
    """The capped log10 ratio of each measured residual, under the measurements without it: (own [n], other [m]).

    What a calibration gives to pictures that it was not made from, as far as its own rows can show it. `UsageError`
    with fewer than three of either.
    """
    if len(own) < 3 or len(other) < 3:
        raise UsageError(f"{len(own)} own and {len(other)} other residuals: three of each are needed")
    mine = [_ratio(_without(own, i), other, value) for i, value in enumerate(own)]
    theirs = [_ratio(own, _without(other, i), value) for i, value in enumerate(other)]
    return np.array(mine), np.array(theirs)


def bounds(own: Sequence[float], other: Sequence[float]) -> tuple[float, float]:
    """(lower, upper) log10 ratio that these residuals support: their number's caps, and `elub` where it is nearer to 0.

    The caps alone know how many pictures were measured, not how they came out: one own picture among a hundred that was
    not found lies where others lie, and takes strength from every ratio there.
    """
    low, high = -math.log10(len(own) + 1), math.log10(len(other) + 1)
    if min(len(own), len(other)) < 3:
        return low, high
    empirical = elub(*leave_one_out(own, other))
    return max(low, empirical[0]), min(high, empirical[1])


def supported_ratio(own: Sequence[float], other: Sequence[float], residual: float) -> tuple[float, float] | None:
    """(log10 likelihood ratio at a residual, cap): `log10_likelihood_ratio` held within `bounds`; None if it is None.

    `cap` is the size of the bound on the side where the ratio lies.
    """
    found = log10_likelihood_ratio(own, other, residual)
    if found is None:
        return None
    low, high = bounds(own, other)
    return min(max(found[0], low), high), high if found[0] >= 0 else -low


def cllr(own: Ratios, other: Ratios) -> float:
    """The log-likelihood-ratio cost, in bits: mean of log2(1 + 1/LR) over own and log2(1 + LR) over others, halved."""
    mine, theirs = _both(own, other)
    return float(_bits(-mine).mean() + _bits(theirs).mean()) / 2


def pool(own: Ratios, other: Ratios) -> tuple[Array, Array]:
    """The ratios after the monotone correction that is best on these very pictures (PAV); infinite at pure ends."""
    mine, theirs = _both(own, other)
    shares = _pooled(mine, theirs)
    with np.errstate(divide="ignore"):
        corrected = np.log10(shares) - np.log10(1 - shares)
    return corrected[: len(mine)], corrected[len(mine) :]


def minimum_cllr(own: Ratios, other: Ratios) -> float:
    """`cllr` after `pool`: 0 if and only if a threshold separates the two kinds."""
    mine, theirs = _both(own, other)
    shares = _pooled(mine, theirs)
    # own in a block without others have share 1, others in a block without own have share 0: neither costs anything
    own_bits, other_bits = -np.log2(shares[: len(mine)]), -np.log2(1 - shares[len(mine) :])
    return max(0.0, float(own_bits.mean() + other_bits.mean()) / 2)


def tippett(own: Ratios, other: Ratios) -> Tippett:
    """The two curves of a Tippett plot, at every ratio that occurs."""
    mine, theirs = (np.sort(values) for values in _both(own, other))
    x = np.unique(np.concatenate([mine, theirs]))
    return Tippett(
        x=x,
        own=1 - np.searchsorted(mine, x, side="left") / len(mine),
        other=1 - np.searchsorted(theirs, x, side="left") / len(theirs),
    )


def cross_entropy(own: Ratios, other: Ratios, prior: Ratios) -> Array:
    """Empirical cross-entropy in bits at each log10 prior odds; at odds of 1 it is `cllr`."""
    mine, theirs = _both(own, other)
    odds = np.asarray(prior, dtype=np.float64).reshape(-1, 1)
    share = 1 / (1 + 10 ** (-odds[:, 0]))
    return share * _bits(-(mine[None] + odds)).mean(axis=1) + (1 - share) * _bits(theirs[None] + odds).mean(axis=1)


def elub(own: Ratios, other: Ratios) -> tuple[float, float]:
    """(lower, upper) log10 bounds within which these ratios are worth more than none, 0 on a side that has no worth.

    One consequential misleading picture is added on each side. Going outwards from 1, the bound is the first threshold
    t at which acting on the ratios costs more than ignoring them: t > P(LR > t | own) / P(LR > t | other), and alike
    below 1. It is never beyond the ratios themselves, nor beyond log10(n + 1).
    """
    mine, theirs = _both(own, other)
    return 0.0 - _upper(-theirs, -mine), _upper(mine, theirs)


def _upper(mine: Array, theirs: Array) -> float:
    """The upper bound: exact, since between two ratios that occur neither share changes."""
    furthest = max(0.0, float(max(mine.max(), theirs.max())))
    furthest = min(furthest, math.log10(len(theirs) + 1))
    steps = np.unique(np.concatenate([[0.0], mine[mine > 0], theirs[theirs > 0]]))
    for index, low in enumerate(steps):
        if low >= furthest:
            break
        accepted = float((mine > low).sum()) / (len(mine) + 1)
        falsely = (float((theirs > low).sum()) + 1) / (len(theirs) + 1)
        worth = math.log10(accepted / falsely) if accepted else -math.inf
        high = float(steps[index + 1]) if index + 1 < len(steps) else math.inf
        if worth < high:
            return min(max(float(low), worth), furthest)
    return furthest


def _pooled(mine: Array, theirs: Array) -> Array:
    """Share of own at each ratio, equal weight to both kinds, increasing; own first, then others."""
    values, place = np.unique(np.concatenate([mine, theirs]), return_inverse=True)
    place = place.reshape(-1)
    weight_own = np.bincount(place[: len(mine)], minlength=len(values)) / len(mine)
    weight_other = np.bincount(place[len(mine) :], minlength=len(values)) / len(theirs)
    weights = weight_own + weight_other
    shares = isotonic_regression(weight_own / weights, weights=weights).x
    return np.clip(np.asarray(shares, dtype=np.float64), 0.0, 1.0)[place]


def _bits(log10: Array) -> Array:
    """log2(1 + 10^x), without overflow."""
    return np.logaddexp(0.0, log10 * LN10) / math.log(2)


def _ratio(own: Sequence[float], other: Sequence[float], residual: float) -> float:
    found = log10_likelihood_ratio(own, other, residual)
    if found is None:
        raise UsageError("two residuals of each kind are needed")
    return found[0]


def _without(values: Sequence[float], index: int) -> list[float]:
    return [*values[:index], *values[index + 1 :]]


def _both(own: Ratios, other: Ratios) -> tuple[Array, Array]:
    mine, theirs = (np.asarray(values, dtype=np.float64).reshape(-1) for values in (own, other))
    if not len(mine) or not len(theirs):
        raise UsageError(f"{len(mine)} own and {len(theirs)} other ratios: both kinds are needed")
    if np.isnan(mine).any() or np.isnan(theirs).any():
        raise UsageError("a ratio is not a number")
    return mine, theirs
