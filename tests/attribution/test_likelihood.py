"""Likelihood ratios judged: against their definitions, and against the Netherlands Forensic Institute's `lir`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lir import metrics
from lir.algorithms.bayeserror import elub as peer_elub
from lir.data.models import LLRData
from lir.plotting.expected_calibration_error import calculate_ece
from plausible.attribution.scoring import likelihood
from plausible.attribution.scoring.limits import log10_likelihood_ratio
from plausible.schemas.errors import UsageError

# few distinct values, so that ties and blocks are common
ratios = st.lists(st.integers(-12, 12).map(lambda x: x / 4), min_size=2, max_size=25)


def normal(seed: int, n: int = 60, m: int = 40, shift: float = 1.5) -> tuple[list[float], list[float]]:
    rng = np.random.default_rng(seed)
    return rng.normal(shift, 1, n).tolist(), rng.normal(-shift, 1, m).tolist()


def peer(own: Sequence[float], other: Sequence[float]) -> LLRData:
    labels = np.array([1] * len(own) + [0] * len(other))
    return LLRData(features=np.array([*own, *other], dtype=float), labels=labels)


@given(ratios, ratios)
def test_costs_are_those_of_lir(own: list[float], other: list[float]) -> None:
    data = peer(own, other)
    assert likelihood.cllr(own, other) == pytest.approx(metrics.cllr(data))
    assert likelihood.minimum_cllr(own, other) == pytest.approx(metrics.cllr_min(data), abs=1e-9)
    assert likelihood.minimum_cllr(own, other) <= min(likelihood.cllr(own, other), 1) + 1e-12


@pytest.mark.parametrize("seed", range(6))
def test_cross_entropy_is_that_of_lir_and_cllr_at_even_odds(seed: int) -> None:
    own, other = normal(seed)
    odds = np.linspace(-2, 2, 21)
    data = peer(own, other)
    wanted = calculate_ece(10 ** data.features.reshape(-1), np.asarray(data.labels), 1 / (1 + 10**-odds))
    assert likelihood.cross_entropy(own, other, odds) == pytest.approx(wanted)
    assert likelihood.cross_entropy(own, other, [0.0])[0] == pytest.approx(likelihood.cllr(own, other))


@pytest.mark.parametrize("shift", [0.05, 0.3, 0.8, 1.5, 4.0])
@pytest.mark.parametrize("seed", range(4))
def test_bounds_are_those_of_lir(seed: int, shift: float) -> None:
    """lir walks a grid of 0.01; ours is exact between the ratios that occur."""
    own, other = normal(seed, shift=shift)
    wanted = peer_elub(np.array([*own, *other]), np.array([1] * len(own) + [0] * len(other)))
    assert likelihood.elub(own, other) == pytest.approx(wanted, abs=0.021)


@given(ratios, ratios)
def test_bounds_lie_within_what_the_samples_show(own: list[float], other: list[float]) -> None:
    low, high = likelihood.elub(own, other)
    assert -math.log10(len(own) + 1) <= low <= 0 <= high <= math.log10(len(other) + 1)
    # exchanged, the bounds change sides
    mirrored = likelihood.elub([-x for x in other], [-x for x in own])
    assert (low, high) == pytest.approx((-mirrored[1], -mirrored[0]), abs=1e-12)


def test_costs_by_hand() -> None:
    assert likelihood.cllr([0.0], [0.0]) == pytest.approx(1)
    assert likelihood.cllr([math.inf], [-math.inf]) == 0
    assert likelihood.cllr([math.log10(3)], [0.0]) == pytest.approx((math.log2(4 / 3) + 1) / 2)
    # a ratio that points the wrong way costs more than none at all
    assert likelihood.cllr([-1.0], [1.0]) == pytest.approx(math.log2(11))
    assert likelihood.minimum_cllr([-1.0], [1.0]) == pytest.approx(1)
    assert likelihood.minimum_cllr([1.0, 2.0], [-1.0, 0.5]) == 0
    pooled_own, pooled_other = likelihood.pool([2.0, 0.0], [1.0, -1.0])
    assert pooled_own.tolist() == pytest.approx([math.inf, 0])
    assert pooled_other.tolist() == pytest.approx([0, -math.inf])


def test_tippett_by_hand() -> None:
    curves = likelihood.tippett([2.0, 1.0, -0.5], [0.0, -1.0])
    assert curves.x.tolist() == [-1, -0.5, 0, 1, 2]
    assert curves.own == pytest.approx([1, 1, 2 / 3, 2 / 3, 1 / 3])
    assert curves.other == pytest.approx([1, 0.5, 0.5, 0, 0])
    assert (curves.misleading_own, curves.misleading_other) == (pytest.approx(1 / 3), 0)
    wrong = likelihood.tippett([-1.0], [0.5, 1.0])
    assert (wrong.misleading_own, wrong.misleading_other) == (1, 1)


def test_left_out_ratios_do_not_see_their_own_picture() -> None:
    rng = np.random.default_rng(5)
    own, other = (1e-6 * 10 ** rng.normal(0, 0.1, 30)).tolist(), (1e-4 * 10 ** rng.normal(0, 1, 30)).tolist()
    mine, theirs = likelihood.leave_one_out(own, other)
    assert (mine[4], theirs[7]) == (
        pytest.approx((log10_likelihood_ratio([*own[:4], *own[5:]], other, own[4]) or (0, 0))[0]),
        pytest.approx((log10_likelihood_ratio(own, [*other[:7], *other[8:]], other[7]) or (0, 0))[0]),
    )
    # a lone outlier among own is no evidence for "own" where nothing else of its kind was seen
    odd, _ = likelihood.leave_one_out([*own, 1e-1], other)
    assert odd[-1] < 0.1
    assert likelihood.cllr(mine, theirs) < 0.25


def test_what_cannot_be_judged_is_refused() -> None:
    for own, other in (([], [1.0]), ([1.0], []), ([math.nan], [1.0])):
        with pytest.raises(UsageError):
            likelihood.cllr(own, other)
    with pytest.raises(UsageError):
        likelihood.leave_one_out([1.0, 2.0], [1.0, 2.0, 3.0])


def test_a_failure_takes_strength_from_ratios_where_it_lies() -> None:
    rng = np.random.default_rng(6)
    own, other = (1e-6 * 10 ** rng.normal(0, 0.05, 99)).tolist(), (1e-3 * 10 ** rng.normal(0, 0.3, 99)).tolist()
    clean, failed = likelihood.bounds(own, other), likelihood.bounds([*own, 1e-3], other)
    assert clean == pytest.approx((-2, 2), abs=0.02)
    # one own picture of 100 lies where others do: no ratio there may say more than about 1 in 50
    assert -1.75 < failed[0] < -1.5
    far = likelihood.supported_ratio([*own, 1e-3], other, 1e-3)
    assert far is not None
    assert (failed[0] <= far[0] < -1.5, far[1]) == (True, -failed[0])
    assert likelihood.supported_ratio([*own, 1e-3], other, 1e-6) == (failed[1], failed[1])
    # two of a kind: nothing can be left out, the number alone bounds
    assert likelihood.bounds([1.0, 2.0], other) == (-math.log10(3), math.log10(100))
    assert likelihood.supported_ratio([1.0], other, 1.0) is None
