"""000's scores: sign, range, symmetry, and no score for a lone candidate."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plausible.attribution.scoring.scores import pair_score, scores

losses = st.floats(min_value=0, max_value=1e6, allow_nan=False)


@given(losses, losses)
def test_pair_score_is_bounded_and_antisymmetric(a: float, b: float) -> None:
    assert -1 <= pair_score(a, b) <= 1
    assert pair_score(a, b) == -pair_score(b, a)


def test_known_values() -> None:
    assert pair_score(1.0, 3.0) == 0.5
    assert pair_score(0.0, 0.0) == 0.0
    assert scores([]) == []
    assert scores([1.0]) == [None]
    assert scores([1.0, 3.0]) == [0.5, -0.5]
    assert scores([1.0, 3.0, 2.0]) == [pytest.approx(1 / 3), -0.5, pytest.approx(-1 / 3)]
