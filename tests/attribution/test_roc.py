"""ROC, area and rates against their definitions, and intervals that cover as often as they say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plausible.attribution.scoring import roc
from plausible.schemas.errors import UsageError
from scipy.stats import binom, mannwhitneyu

# few distinct values, so that ties are common
scores = st.lists(st.integers(-4, 4).map(float), min_size=1, max_size=30)


def naive_area(own: list[float], other: list[float]) -> float:
    """Every pair looked at: won 1, tied 1/2."""
    return sum((a > b) + 0.5 * (a == b) for a in own for b in other) / (len(own) * len(other))


def naive_variance(own: list[float], other: list[float]) -> float:
    """DeLong's, from the pairs' kernel itself."""
    kernel = np.array([[float(a > b) + 0.5 * (a == b) for b in other] for a in own])
    return float(np.var(kernel.mean(axis=1), ddof=1) / len(own) + np.var(kernel.mean(axis=0), ddof=1) / len(other))


@given(scores, scores)
def test_area_is_the_share_of_pairs_and_the_area_under_the_curve(own: list[float], other: list[float]) -> None:
    area = roc.auc(own, other)
    curve = roc.roc(own, other)
    assert area.value == pytest.approx(naive_area(own, other), abs=1e-12)
    assert np.trapezoid(curve.true_positive, curve.false_positive) == pytest.approx(area.value, abs=1e-12)
    assert area.value == pytest.approx(mannwhitneyu(own, other).statistic / (len(own) * len(other)))
    assert 0 <= area.low <= area.value <= area.high <= 1
    assert (curve.true_positive[0], curve.false_positive[0]) == (0, 0)
    assert (curve.true_positive[-1], curve.false_positive[-1]) == (1, 1)


@given(scores, scores)
def test_area_of_the_exchanged_is_the_complement(own: list[float], other: list[float]) -> None:
    one, two = roc.auc(own, other), roc.auc(other, own)
    assert (one.value, one.low, one.high) == pytest.approx((1 - two.value, 1 - two.high, 1 - two.low))


def test_curve_by_hand() -> None:
    curve = roc.roc([3.0, 2.0, 2.0], [2.0, 1.0])
    assert curve.thresholds.tolist() == [math.inf, 3, 2, 1]
    assert curve.true_positive == pytest.approx([0, 1 / 3, 1, 1])
    assert curve.false_positive == pytest.approx([0, 0, 1 / 2, 1])
    assert roc.auc([3.0, 2.0, 2.0], [2.0, 1.0]).value == pytest.approx(5 / 6)


def test_interval_is_delongs_on_the_logit_scale() -> None:
    rng = np.random.default_rng(3)
    own, other = rng.normal(0.7, 1, 200).tolist(), rng.normal(0, 1, 150).tolist()
    area = roc.auc(own, other)
    logit = math.log(area.value / (1 - area.value))
    reach = 1.959964 * math.sqrt(naive_variance(own, other)) / (area.value * (1 - area.value))
    wanted = [1 / (1 + math.exp(-x)) for x in (logit - reach, logit + reach)]
    assert [area.low, area.high] == pytest.approx(wanted, abs=1e-6)


def test_interval_covers_as_often_as_it_says() -> None:
    """Binormal scores whose area is known, at a size where the papers' experiments are."""
    rng = np.random.default_rng(4)
    shift = 1.5
    truth = 0.5 * (1 + math.erf(shift / 2))
    held = [
        area.low <= truth <= area.high
        for area in (roc.auc(rng.normal(shift, 1, 40), rng.normal(0, 1, 40)) for _ in range(400))
    ]
    assert np.mean(held) >= binom.ppf(0.001, 400, 0.95) / 400


def test_complete_separation_is_no_certainty() -> None:
    few, many = roc.auc([1.0] * 10, [0.0] * 500), roc.auc([1.0] * 500, [0.0] * 500)
    assert (few.value, few.high, few.low) == (1.0, 1.0, pytest.approx(0.025**0.1))
    assert many.low == pytest.approx(0.025 ** (1 / 500))
    # nor does one wrong pair of many support more than no wrong pair does
    nearly = roc.auc([*([1.0] * 499), 0.5], [*([0.0] * 499), 0.6])
    assert nearly.value < 1
    assert nearly.low <= many.low


def test_clopper_pearson_by_its_definition() -> None:
    low, high = roc.clopper_pearson(7, 40)
    assert binom.sf(6, 40, low) == pytest.approx(0.025)
    assert binom.cdf(7, 40, high) == pytest.approx(0.025)
    assert roc.clopper_pearson(0, 10) == (0.0, pytest.approx(1 - 0.025**0.1))
    assert roc.clopper_pearson(10, 10) == (pytest.approx(0.025**0.1), 1.0)
    assert roc.clopper_pearson(0, 0) == (0.0, 1.0)
    assert roc.upper_bound(0, 29) == pytest.approx(1 - 0.05 ** (1 / 29))
    assert roc.lower_bound(29, 29) == pytest.approx(0.05 ** (1 / 29))
    assert str(roc.rate(48, 50)) == "48/50 = 0.960 (95 %: 0.863 to 0.995)"
    for count, n in ((-1, 5), (6, 5)):
        with pytest.raises(UsageError):
            roc.clopper_pearson(count, n)


def test_a_tie_with_the_threshold_is_not_own() -> None:
    right = roc.accuracy([0.5, 0.0], [0.0, -0.5])
    assert (right.count, right.n) == (3, 4)
    point = roc.operating_point([0.5, 0.0], [0.0, -0.5], 0.0)
    assert (point.true_positive.count, point.false_positive.count) == (1, 0)


@given(scores, st.sampled_from([0.0, 0.001, 0.1, 0.5]))
def test_a_threshold_holds_on_what_it_was_chosen_by_and_no_lower_one_does(other: list[float], wanted: float) -> None:
    threshold = roc.threshold_at(other, wanted)
    allowed = math.floor(wanted * len(other) + 1e-9)
    assert sum(value > threshold for value in other) <= allowed
    below = [value for value in other if value < threshold]
    assert not below or sum(value > max(below) for value in other) > allowed


def test_what_cannot_be_scored_is_refused() -> None:
    for own, other in (([], [1.0]), ([1.0], []), ([math.nan], [1.0])):
        with pytest.raises(UsageError):
            roc.auc(own, other)
    with pytest.raises(UsageError):
        roc.threshold_at([], 0.1)
