"""How good a calibration is: what its measured residuals say about limits, failures and likelihood ratios.

The ratios judged are those that a verification would report, each measured row against the others (leave one out), so
that no row vouches for itself. Nothing here changes a limit or a verdict: it is what a reader of one may ask for.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..scoring.likelihood import bounds, cllr, leave_one_out, minimum_cllr
from ..scoring.roc import Area, Rate, auc, rate
from .document import Limits


@dataclass(frozen=True, slots=True)
class Ratios:
    """The left-out log10 likelihood ratios of one class, and how good they are."""

    own: NDArray[np.float64] = field(repr=False)
    other: NDArray[np.float64] = field(repr=False)
    cllr: float
    """Cost in bits; 1 is what no evidence costs."""
    minimum_cllr: float
    misleading_own: Rate
    """Own pictures whose ratio points away from the generator."""
    misleading_other: Rate
    """Others whose ratio points to it."""


@dataclass(frozen=True, slots=True)
class Quality:
    """One class of a calibration as a person may judge it."""

    limits: Limits
    bounds: tuple[float, float]
    """No log10 ratio of this class is ever reported below or above."""
    area: Area | None
    """Of the residual alone, own below others; None without others."""
    ratios: Ratios | None
    """None with fewer than three of either kind."""


def quality(limits: Limits) -> Quality:
    """Judge one class."""
    own, other = limits.own, limits.other
    area = auc([-value for value in own], [-value for value in other]) if own and other else None
    ratios = _ratios(own, other) if min(len(own), len(other)) >= 3 else None
    return Quality(limits, bounds(own, other), area, ratios)


def _ratios(own: tuple[float, ...], other: tuple[float, ...]) -> Ratios:
    mine, theirs = leave_one_out(own, other)
    return Ratios(
        own=mine,
        other=theirs,
        cllr=cllr(mine, theirs),
        minimum_cllr=minimum_cllr(mine, theirs),
        misleading_own=rate(int((mine < 0).sum()), len(mine)),
        misleading_other=rate(int((theirs > 0).sum()), len(theirs)),
    )
