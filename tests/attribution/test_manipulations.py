"""004's manipulations do what albumentations documents, and R5's rows can be judged."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from benchmarks.attribution import manipulations
from benchmarks.attribution.experiments import experiments
from benchmarks.attribution.experiments import manipulations as table

from .pictures import picture


def test_the_kernels_are_opencvs() -> None:
    # cv2.getGaussianKernel(3, 0) and (5, 0), as OpenCV documents its rule for sigma
    assert manipulations.kernel(3) == pytest.approx([0.2390, 0.5220, 0.2390], abs=1e-3)
    assert manipulations.kernel(5).sum() == pytest.approx(1)
    assert len(manipulations.kernel(7)) == 7


@pytest.mark.parametrize("name", manipulations.ALL)
def test_each_is_repeatable_and_keeps_the_size(name: str) -> None:
    pixels = picture(np.random.default_rng(1))
    one, parameters = manipulations.manipulated(name, pixels, 7)
    two, _ = manipulations.manipulated(name, pixels, 7)
    assert np.array_equal(one, two)
    assert one.shape == pixels.shape
    assert one.dtype == np.uint8
    assert not np.array_equal(one, pixels)
    if name == "crop":
        x, y, w, h = parameters["window"]
        assert min(w, h) >= 57
        assert x + w <= 64
        assert y + h <= 64


def test_noise_has_the_papers_variance() -> None:
    grey = np.full((64, 64, 3), 128, np.uint8)
    noisy, _ = manipulations.manipulated("noise", grey, 3)
    assert float(np.square((noisy.astype(float) - 128) / 255).mean()) == pytest.approx(0.01, rel=0.05)


def test_a_turn_is_counter_clockwise_about_the_middle() -> None:
    pixels = np.zeros((65, 65, 3), np.uint8)
    pixels[32, 60] = 255
    turned = manipulations.turn(pixels, 5.0)
    row, column = np.unravel_index(int(turned[..., 0].argmax()), (65, 65))
    assert row < 32
    assert column in (59, 60)
    assert np.array_equal(manipulations.turn(pixels, 0.0), pixels)


def test_a_manipulation_fails_when_its_error_is_more_than_a_third_of_the_papers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(table, "candidates", lambda: dict.fromkeys(("faces", "tuned", "shaken")))

    def row(answer: str) -> dict[str, Any]:
        floors = {"faces": 1.0, "tuned": 50.0, "shaken": 20.0}
        return {
            "answer": answer,
            "source": "faces",
            "floors": floors,
            "named": True,
            "cpu": 1.0,
            "stopped": "explained",
        }

    right = {"blur": [row("faces")] * 30, "mirror": [row("faces")] * 28 + [row("tuned")] * 2}
    outcome = table._outcome(["blur", "mirror"], right, {"blur": [], "mirror": []}, table.PAPER_TABLE_I, "R5")  # pyright: ignore[reportPrivateUsage]
    assert outcome.failures == []
    wrong = {**right, "blur": [row("faces")] * 29 + [row("shaken")]}
    outcome = table._outcome(["blur", "mirror"], wrong, {"blur": [], "mirror": []}, table.PAPER_TABLE_I, "R5")  # pyright: ignore[reportPrivateUsage]
    assert len(outcome.failures) == 1
    assert "blur" in outcome.failures[0]
    assert outcome.figures["blur"]["errors"] == 1


def test_it_is_listed() -> None:
    assert {"R5"} <= {name for experiment in experiments() for name in experiment.ids}
