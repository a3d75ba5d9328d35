"""Verdicts: the exit codes scripts rely on, and the order in which a batch takes the worst."""

from __future__ import annotations

import itertools

import pytest
from plausible.schemas.errors import UsageError
from plausible.schemas.verdict import BATCH_ORDER, Verdict, worst, worst_exit


def test_exit_codes() -> None:
    assert {verdict.value: verdict.exit_code for verdict in Verdict} == {
        "logged": 0, "claimed": 6, "refuted": 1, "inconclusive": 3, "incomplete": 4, "untrusted": 5,
        "derived": 10, "attributed": 11, "deniable": 12,
    }  # fmt: skip
    assert set(BATCH_ORDER) == {verdict.exit_code for verdict in Verdict} | {70}


def test_a_batch_exits_with_its_worst() -> None:
    order = [
        "refuted",
        "untrusted",
        "incomplete",
        "inconclusive",
        "attributed",
        "derived",
        "claimed",
        "deniable",
        "logged",
    ]
    for (i, one), (j, other) in itertools.product(enumerate(order), repeat=2):
        assert worst([Verdict(one), Verdict(other)]) == order[min(i, j)]
    assert worst_exit([0, 70, 1]) == 70


def test_no_batch_has_no_worst() -> None:
    with pytest.raises(UsageError):
        worst([])
    with pytest.raises(UsageError):
        worst_exit([0, 2])
    with pytest.raises(UsageError):
        Verdict.of_exit_code(2)
