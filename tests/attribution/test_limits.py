"""Limits against their definitions: order statistics, binomial bounds, and evidence that never outgrows its sample."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plausible.attribution.scoring.limits import (
    attribution_limit,
    conformal_p,
    denial_limit,
    failure_bound,
    log10_likelihood_ratio,
    stranger_limit,
)

residuals = st.lists(st.floats(1e-9, 1.0), min_size=2, max_size=80)


def test_twenty_nine_is_the_least_and_gives_the_largest() -> None:
    values = [float(v) for v in np.random.default_rng(0).permutation(29) + 1]
    assert denial_limit(values) == 29.0
    assert denial_limit(values[:28]) is None
    # 46 is the least n for which the second largest already covers 90 % with 95 % confidence
    assert denial_limit([float(v) for v in range(45)]) == 44.0
    assert denial_limit([float(v) for v in range(46)]) == 44.0


def test_tolerance_bound_covers_as_often_as_it_says() -> None:
    rng = np.random.default_rng(1)
    covered = [float(denial_limit(list(rng.random(60))) or 0) >= 0.9 for _ in range(2000)]
    assert np.mean(covered) >= 0.94


def test_failure_bound_is_clopper_pearson() -> None:
    assert failure_bound(0, 29) == pytest.approx(1 - 0.05 ** (1 / 29))
    assert failure_bound(0, 29) < 0.10 < failure_bound(0, 28)
    assert failure_bound(1, 50) == pytest.approx(0.0914, abs=5e-4)
    assert failure_bound(5, 5) == 1.0
    assert failure_bound(0, 0) == 1.0


def test_attribution_limit_lies_below_every_negative() -> None:
    values = [0.5, *([0.9] * 28)]
    assert attribution_limit(values) == 0.25
    assert attribution_limit(values[:28]) is None


def test_a_processed_class_is_bounded_by_the_nearest_stranger() -> None:
    assert stranger_limit([3.0, 0.5] * 8) == 0.5
    assert stranger_limit([3.0] * 14) is None


@given(residuals, st.floats(0, 2))
def test_conformal_p_is_a_rank(own: list[float], residual: float) -> None:
    p = conformal_p(own, residual)
    assert 1 / (len(own) + 1) <= p <= 1
    assert conformal_p(own, 0.0) == 1.0


@given(residuals, residuals, st.floats(0, 2))
def test_likelihood_ratio_stays_within_what_the_samples_show(own: list[float], other: list[float], x: float) -> None:
    found = log10_likelihood_ratio(own, other, x)
    assert found is not None
    ratio, cap = found
    assert np.isfinite(ratio)
    assert -np.log10(len(own) + 1) <= ratio <= np.log10(len(other) + 1)
    assert abs(ratio) <= cap + 1e-12


def test_likelihood_ratio_points_the_right_way() -> None:
    rng = np.random.default_rng(2)
    own, other = list(1e-6 * 10 ** rng.normal(0, 0.05, 50)), list(1e-3 * 10 ** rng.normal(0, 0.5, 50))
    near, far, void = (log10_likelihood_ratio(own, other, x) for x in (1e-6, 1e-3, 1e3))
    assert near == (pytest.approx(np.log10(51)), pytest.approx(np.log10(51)))
    assert far == (pytest.approx(-np.log10(51)), pytest.approx(np.log10(51)))
    # where neither has been seen there is no evidence
    assert void is not None
    assert abs(void[0]) < 0.5
    assert log10_likelihood_ratio([1.0], other, 1.0) is None
