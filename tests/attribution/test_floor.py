"""The expected floor of one picture: known answers, and own pictures of real generators scatter about it as it says."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from plausible.attribution.generators import Generator, make_generator
from plausible.attribution.generators.mlp import MLPDecoder
from plausible.attribution.inversion import invert
from plausible.attribution.inversion.budget import FLOOR, Budget
from plausible.attribution.scoring.floor import ExpectedFloor, expected_floor, fit_differences, most_differences
from plausible.schemas.errors import UsageError
from scipy.stats import chi2

from benchmarks.attribution.training import autoencoders
from tests.attribution.conftest import UNIT, small_mlp

LEVEL = 1 / 255


@pytest.fixture(scope="module")
def digits() -> Generator:
    """000's auto-encoder, taught blurred dots on black for a moment: most samples of its pictures crowd near 0."""
    rng = np.random.default_rng(1)
    y, x = np.mgrid[:28, :28]
    centres = rng.uniform(8, 20, (96, 2))
    dots = np.exp(-((y - centres[:, :1, None]) ** 2 + (x - centres[:, 1:, None]) ** 2) / 12)
    pictures = np.where(dots > 0.02, 255 * dots, 0).astype(np.uint8)
    recipe = autoencoders.Recipe(latent=8, steps=300, batch=32)
    return autoencoders.train(pictures, recipe, order_seed=1, init_seed=2).generator("dots")


def at_truth(generator: Generator, count: int) -> list[tuple[float, ExpectedFloor]]:
    """(residual, expected floor) of fresh own pictures at the latents that made them."""
    z = generator.latent.draw(count, torch.Generator().manual_seed(7))
    with torch.no_grad():
        images = generator.images(z).permute(0, 2, 3, 1).double().numpy()
    probes: NDArray[np.uint8] = generator.sample(z).numpy()
    return [
        (float(np.square(image - probe / 255).mean()), expected_floor(probe, image))
        for image, probe in zip(images, probes, strict=True)
    ]


def test_a_picture_that_saturates_nowhere_leaves_the_floor() -> None:
    probe = np.full((16, 16, 3), 128, np.uint8)
    found = expected_floor(probe, probe / 255 + LEVEL / 4)
    assert found.residual == pytest.approx(FLOOR)
    # of N squares, each with variance 1/180 about 1/12
    assert found.sd / found.residual == pytest.approx(12 / math.sqrt(180 * probe.size))
    assert found.deviation(found.residual + 3 * found.sd) == pytest.approx(3)


def test_saturated_samples_leave_what_the_reconstruction_says() -> None:
    probe = np.array([[[0], [255], [0], [100]]], np.uint8)
    image = np.array([[[0.0], [1.0], [0.1 * LEVEL], [0.4]]])
    found = expected_floor(probe, image)
    assert found.residual * 4 * 255**2 == pytest.approx(0.1**2 + 1 / 12)
    assert (found.free, found.samples) == (1, 4)
    # a reconstruction that is not black there would round to something else: no true match leaves that much
    wrong = expected_floor(probe, np.array([[[0.5], [1.0], [0.0], [0.4]]]))
    assert wrong.residual * 4 * 255**2 == pytest.approx(0.5**2 + 1 / 12)


def test_black_and_white_alone_say_nothing() -> None:
    probe = np.array([0, 255, 0, 2, 252], np.uint8)
    found = expected_floor(probe, probe / 255)
    assert (found.residual, found.sd, found.free) == (0, 0, 0)
    assert math.isnan(found.deviation(1e-6))


def test_what_does_not_compare_is_refused() -> None:
    probe = np.zeros((4, 4, 3), np.uint8)
    wide: Any = probe.astype(np.int64)
    for image, other in ((np.zeros((4, 4)), probe), (np.zeros((4, 4, 3)), wide)):
        with pytest.raises(UsageError):
            expected_floor(other, image)


def test_own_pictures_scatter_about_it_as_it_says(digits: Generator) -> None:
    """At the true latents, of a generator that never saturates and of one that mostly does."""
    for generator, low, high in ((small_mlp(1)[0], 0.95, 1.0), (digits, 0.05, 0.6)):
        found = at_truth(generator, 200)
        deviations = np.array([floor.deviation(residual) for residual, floor in found])
        free = np.array([floor.free / floor.samples for _, floor in found])
        assert low <= free.mean() <= high
        # mean 0 within 4 standard errors, and a spread that a wrong variance would not give
        assert abs(deviations.mean()) < 4 / math.sqrt(200), generator.name
        bounds = chi2.ppf([1e-4, 1 - 1e-4], 199) / 199
        assert bounds[0] < deviations.var(ddof=1) < bounds[1], generator.name


def test_the_fixed_floor_is_not_what_a_dark_picture_leaves(digits: Generator) -> None:
    """...so that counted against it own dark pictures look far off, by many of the very standard deviations."""
    off = [(residual - FLOOR) / floor.sd for residual, floor in at_truth(digits, 50)]
    assert np.mean(np.abs(off)) > 4


def test_the_engine_says_how_far_its_residual_lies_from_it(digits: Generator) -> None:
    z = digits.latent.draw(3, torch.Generator().manual_seed(9))
    budget = Budget(rounds=2)
    own = [invert(probe.numpy(), [digits], budget, seed=1, threads=1)[0] for probe in digits.sample(z)]
    found = [one for one in own if one.exact]
    assert len(found) >= 2
    for one in found:
        assert abs(one.diagnostics.expected.deviation(one.residual)) < 4
    # a generator of the same size that learned nothing
    other = invert(digits.sample(z)[0].numpy(), [untrained()], budget, seed=1, threads=1)[0]
    assert other.diagnostics.expected.deviation(other.residual) > 20


def untrained() -> Generator:
    """Of the size of `digits`, with random weights."""
    torch.manual_seed(5)
    config = {"latent": 8, "hidden": [64], "height": 28, "width": 28, "channels": 1, "activation": "sigmoid"}
    return make_generator("other", MLPDecoder(8, [64], (1, 28, 28), "sigmoid"), "mlp-decoder", config, UNIT)


def test_a_fit_to_rounding_leaves_so_many_samples_different() -> None:
    """d numbers fitted by least squares to N uniform roundings, on random linear pictures."""
    rng = np.random.default_rng(3)
    numbers, samples = 40, 4000
    pictures = 100 * rng.standard_normal((20, samples)) / 8 + 128
    counts: list[int] = []
    for picture in pictures:
        columns, _ = np.linalg.qr(rng.standard_normal((samples, numbers)))
        fitted = picture + columns @ (columns.T @ (np.round(picture) - picture))
        counts.append(int((np.round(fitted) != np.round(picture)).sum()))
    mean, sd = fit_differences(numbers, samples)
    assert np.mean(counts) == pytest.approx(mean, abs=3 * sd / math.sqrt(len(counts)))
    assert np.std(counts) == pytest.approx(sd, rel=0.5)
    assert fit_differences(100, 12_288) == pytest.approx((207.5, 20.5), rel=0.02)
    assert max(counts) < most_differences(numbers, samples)
    assert 188 < most_differences(100, 12_288) < 464  # an own face that was missed, a clone moved by a thousandth
