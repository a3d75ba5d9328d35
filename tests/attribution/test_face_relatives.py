"""What the face experiments count: an exact picture, one within the limit, one beyond; clones as far as named."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from plausible.attribution.generators import fresh, make_generator
from plausible.attribution.inversion.budget import FLOOR

from benchmarks.attribution import relatives
from benchmarks.attribution.experiments import faces
from benchmarks.attribution.experiments.face_sources import answers
from benchmarks.attribution.experiments.mnist_gans import right

CONFIG: dict[str, object] = {"latent": 8, "width": 4, "channels": 3}
SAMPLING = {"output_range": [-1, 1], "rounding": "mul127.5_add128_trunc"}


def test_noise_clones_lie_as_far_as_their_name_says_and_draw_another_picture() -> None:
    original = make_generator("g", fresh("dcgan-64", CONFIG, 1), "dcgan-64", CONFIG, SAMPLING)
    for eps in relatives.NOISE:
        module = relatives.noisy(original, eps, seed=3)
        assert relatives.distance(original, module) == pytest.approx(eps, rel=0.1)
        assert relatives.distance(original, relatives.noisy(original, eps, seed=3)) == relatives.distance(
            original, module
        )
    z = original.latent.draw(1, torch.Generator().manual_seed(5))
    same = relatives.of_module(original, original.module, 5)
    assert np.array_equal(same, original.sample(z)[0].numpy())
    assert not np.array_equal(same, relatives.of_module(original, relatives.noisy(original, 0.3, 1), 5))
    assert [relatives.noise_name(eps) for eps in relatives.NOISE] == [
        "noise 0.1 %",
        "noise 0.3 %",
        "noise 1 %",
        "noise 3 %",
    ]


def test_verdicts_of_the_original_alone() -> None:
    limit = 2 * FLOOR
    assert faces.verdict({"exact": True, "floors": 9.0}, limit) == "exact"
    assert faces.verdict({"exact": False, "floors": 2.0, "mismatches": 188}, limit) == "attributed"
    assert faces.verdict({"exact": False, "floors": 1.0, "mismatches": 464}, limit) == "not attributed"
    assert faces.verdict({"exact": False, "floors": 2.1, "mismatches": 0}, limit) == "not attributed"


def test_the_nearer_generator_is_the_answer() -> None:
    rows = [[{"residuals": [1.0, 2.0]}, {"residuals": [3.0, 2.0]}], [{"residuals": [5.0, 4.0]}]]
    assert right(rows) == [[1, 1], [0, 1]]


def test_attempts_are_counted_from_the_first_and_the_best_of_them_answers() -> None:
    assert answers([[3.0, 1.0, 9.0], [2.0, 5.0, 0.5], [8.0, 8.0, 8.0]]) == [1, 0, 1]
