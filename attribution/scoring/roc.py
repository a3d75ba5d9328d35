"""How well a score tells own pictures from others: ROC curve, its area, accuracy, and rates with their intervals.

A score is larger for "own"; of residuals give the negative. Ties count half in the area and never in favour of "own" in
a decision: a picture is called own if its score is *above* the threshold.

Every interval is two-sided 95 % unless asked otherwise. Sources: Hanley and McNeil (1982) for the area as a
Mann-Whitney statistic; DeLong, DeLong and Clarke-Pearson (1988) for its variance, Sun and Xu (2014) for that by
midranks; Clopper and Pearson (1934) for rates.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta, norm, rankdata

from ...schemas.errors import UsageError

CONFIDENCE = 0.95

Scores = Sequence[float] | NDArray[np.float64]
Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Rate:
    """`count` of `n`, with the bounds of its Clopper-Pearson interval."""

    count: int
    n: int
    low: float
    high: float

    @property
    def value(self) -> float:
        """The share; 0 for n = 0 (its interval then says that nothing is known)."""
        return self.count / self.n if self.n else 0.0

    def __str__(self) -> str:
        if self.n == 0:
            return "0/0"
        return f"{self.count}/{self.n} = {self.value:.3f} (95 %: {self.low:.3f} to {self.high:.3f})"


@dataclass(frozen=True, slots=True)
class Area:
    """The area under a ROC curve with its interval, and how many scores it rests on."""

    value: float
    low: float
    high: float
    own: int
    other: int

    def __str__(self) -> str:
        return f"{self.value:.4f} (95 %: {self.low:.4f} to {self.high:.4f}; {self.own} own, {self.other} others)"


@dataclass(frozen=True, slots=True)
class Curve:
    """Corners of a ROC curve from (0, 0) to (1, 1): at `thresholds[i]` the shares of scores that are not below it."""

    thresholds: Array
    false_positive: Array
    true_positive: Array


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """What a threshold gives on scores that it was not chosen by."""

    threshold: float
    true_positive: Rate
    false_positive: Rate


def upper_bound(count: int, n: int, confidence: float = CONFIDENCE) -> float:
    """One-sided exact (Clopper-Pearson) upper bound of a rate; 1 for n = 0."""
    _check_rate(count, n, confidence)
    return 1.0 if count == n else float(beta.ppf(confidence, count + 1, n - count))


def lower_bound(count: int, n: int, confidence: float = CONFIDENCE) -> float:
    """One-sided exact lower bound of a rate; 0 for n = 0."""
    _check_rate(count, n, confidence)
    return 0.0 if count == 0 else float(beta.ppf(1 - confidence, count, n - count + 1))


def clopper_pearson(count: int, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Two-sided exact interval of a rate; (0, 1) for n = 0."""
    side = (1 + confidence) / 2
    return lower_bound(count, n, side), upper_bound(count, n, side)


def _check_rate(count: int, n: int, confidence: float) -> None:
    if not 0 <= count <= n or not 0 < confidence < 1:
        raise UsageError(f"{count} of {n} at confidence {confidence} is no rate")


def rate(count: int, n: int) -> Rate:
    """`count` of `n` with its 95 % interval."""
    return Rate(int(count), int(n), *clopper_pearson(int(count), int(n)))


def roc(own: Scores, other: Scores) -> Curve:
    """The curve over all thresholds, one corner for each distinct score. `UsageError` without both kinds."""
    mine, theirs = _both(own, other)
    thresholds = np.unique(np.concatenate([mine, theirs]))[::-1]
    above = np.searchsorted(np.sort(mine), thresholds, side="left")
    false = np.searchsorted(np.sort(theirs), thresholds, side="left")
    return Curve(
        thresholds=np.concatenate([[np.inf], thresholds]),
        false_positive=np.concatenate([[0.0], 1 - false / len(theirs)]),
        true_positive=np.concatenate([[0.0], 1 - above / len(mine)]),
    )


def auc(own: Scores, other: Scores, confidence: float = CONFIDENCE) -> Area:
    """P(own score > other score) + P(equal) / 2, with a two-sided interval.

    DeLong's variance on the logit scale. Near the ends that variance falls to nothing, so the interval is never shorter
    than what complete separation supports: `k = min(n own, n other)` disjoint pairs that all came out right have
    probability at most AUC^k, which bounds the area from below by (tail)^(1/k), exactly; and alike from above.
    """
    mine, theirs = _both(own, other)
    m, n = len(mine), len(theirs)
    ranks = rankdata(np.concatenate([mine, theirs]))
    placed_mine = (ranks[:m] - rankdata(mine)) / n
    placed_theirs = 1 - (ranks[m:] - rankdata(theirs)) / m
    value = float(placed_mine.mean())
    tail = (1 - confidence) / 2
    separated = tail ** (1 / min(m, n))
    low, high = value, value
    if 0 < value < 1 and min(m, n) > 1:
        spread = math.sqrt(float(placed_mine.var(ddof=1)) / m + float(placed_theirs.var(ddof=1)) / n)
        reach = float(norm.ppf(1 - tail)) * spread / (value * (1 - value))
        centre = math.log(value / (1 - value))
        low, high = (1 / (1 + math.exp(-x)) for x in (centre - reach, centre + reach))
    return Area(value, min(low, separated), max(high, 1 - separated), m, n)


def accuracy(own: Scores, other: Scores, threshold: float = 0.0) -> Rate:
    """Scores on the right side of a threshold that was fixed beforehand (for S: 0), both kinds counted together."""
    mine, theirs = _both(own, other)
    right = int((mine > threshold).sum()) + int((theirs <= threshold).sum())
    return rate(right, len(mine) + len(theirs))


def threshold_at(other: Scores, false_positive: float) -> float:
    """The least threshold that at most that share of these negatives lies above; their largest if the share asks it.

    To be used on *other* scores than these (`operating_point`): on these the share holds by construction.
    """
    theirs = np.sort(_array(other))
    if not len(theirs) or not 0 <= false_positive < 1:
        raise UsageError(f"no threshold for a rate of {false_positive} from {len(theirs)} negatives")
    allowed = math.floor(false_positive * len(theirs) + 1e-9)
    return float(theirs[len(theirs) - 1 - allowed])


def operating_point(own: Scores, other: Scores, threshold: float) -> OperatingPoint:
    """True and false positives of a threshold fixed on separate data, each with its interval."""
    mine, theirs = _both(own, other)
    return OperatingPoint(
        threshold=threshold,
        true_positive=rate(int((mine > threshold).sum()), len(mine)),
        false_positive=rate(int((theirs > threshold).sum()), len(theirs)),
    )


def _array(scores: Scores) -> Array:
    values = np.asarray(scores, dtype=np.float64).reshape(-1)
    if np.isnan(values).any():
        raise UsageError("a score is not a number")
    return values


def _both(own: Scores, other: Scores) -> tuple[Array, Array]:
    mine, theirs = _array(own), _array(other)
    if not len(mine) or not len(theirs):
        raise UsageError(f"{len(mine)} own and {len(theirs)} other scores: both kinds are needed")
    return mine, theirs
