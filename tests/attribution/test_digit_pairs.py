"""The digit experiments' arithmetic on pairs small enough to train here: probes, scores, kept rows."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from benchmarks.attribution import digit_pairs, recipe000
from benchmarks.attribution.digit_pairs import DigitPair, Told, engine_losses, recipe_losses, told
from benchmarks.attribution.experiments import autoencoders as experiments
from benchmarks.attribution.training import autoencoders
from benchmarks.digits import Digits
from tests.attribution.test_training import QUICK, strokes


@cache
def _trained() -> tuple[Digits, tuple[autoencoders.AutoEncoder, autoencoders.AutoEncoder]]:
    pictures, labels = strokes(140)
    some = Digits(pictures[:96], labels[:96], pictures[96:], labels[96:])
    recipe = replace(QUICK, steps=250)
    return some, autoencoders.train_pair("order", some.train, some.train_labels, recipe, seed=1)


@pytest.fixture
def pair(monkeypatch: pytest.MonkeyPatch) -> DigitPair:
    """An `order` pair of strokes; held-out digits are other strokes."""
    some, halves = _trained()
    monkeypatch.setattr(digit_pairs, "digits", lambda: some)
    first, second = (half.generator(f"order-{side}") for half, side in zip(halves, "ab", strict=True))
    return DigitPair("order", 1, halves, (first, second))


def test_the_engine_tells_a_pair_apart_and_rows_are_kept(pair: DigitPair) -> None:
    kept: dict[str, Any] = {}
    made: list[str] = []

    def row(key: str, make: Any) -> Any:
        if key not in kept:
            made.append(key)
            kept[key] = make()
        return kept[key]

    found = told(row, "x", pair, 8, lambda probes: engine_losses(probes, pair))
    assert found.correct == 16
    assert float(found.margins.min()) > 0.5
    assert len(made) == 2
    again = told(row, "x", pair, 8, lambda probes: engine_losses(probes, pair))
    assert len(made) == 2
    assert np.array_equal(again.own, found.own)
    assert experiments.line("1", found)[3] == "100.00% [79.41%, 100.00%]"
    recipe = replace(recipe000.MNIST, starts=2, steps=40)
    rough = told(row, "y", pair, 4, lambda probes: recipe_losses(probes, pair, recipe, 1))
    assert (rough.own > found.own[[0, 1, 2, 3, 8, 9, 10, 11]]).all()


def test_probes_are_the_same_for_a_seed_and_another_kind_for_parity(pair: DigitPair) -> None:
    assert np.array_equal(pair.probes(0, 5), pair.probes(0, 5))
    assert not np.array_equal(pair.probes(0, 5), pair.probes(1, 5))
    with pytest.raises(ValueError, match="only 44"):
        pair.probes(0, 45)
    odd = replace(pair, kind="parity")
    with pytest.raises(ValueError, match="only 22"):
        odd.probes(0, 45)


def test_scores_say_the_first_and_margins_the_truth() -> None:
    found = Told(np.array([[1.0, 3.0], [2.0, 2.0]]), np.array([[1.0, 3.0], [4.0, 0.0]]))
    assert found.scores == ([0.5, 0.0], [0.5, -1.0])
    assert found.margins.tolist() == [0.5, 0.0, -0.5, 1.0]
    assert found.own.tolist() == [1.0, 2.0, 3.0, 0.0]
    assert found.correct == 2
