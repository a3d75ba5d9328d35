"""What R12, R3 and `seeds` compute from what they are given, on small generators."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from plausible.attribution.generators import make_generator
from plausible.attribution.inversion.network import Network
from plausible.attribution.seeds import Test

from benchmarks.attribution.experiments import find
from benchmarks.attribution.experiments.seed_forgeries import scene, screened, styled, table
from benchmarks.attribution.experiments.seed_recovery import beside, compare, normalised
from tests.attribution.conftest import SIGNED, small_dcgan


def test_distance_square_angle_and_length() -> None:
    true, start = np.array([3.0, 4.0]), np.array([-4.0, 3.0])
    found = compare(true, start, 2 * true)
    assert (found["first"], found["last"]) == (pytest.approx(50**0.5), 5.0)
    assert (found["first_square"], found["last_square"]) == (25.0, 12.5)
    assert found["first_angle"] == pytest.approx(90)
    assert found["last_angle"] == pytest.approx(0, abs=1e-5)  # twice as long: the same seed where length is no matter
    assert found["last_length"] / found["length"] == 2


def test_a_start_beside_the_seed_leads_back_to_it() -> None:
    config = {"latent": 8, "width": 4}
    generator = make_generator("small", small_dcgan(2), "dcgan-64", config, SIGNED)
    runs = [beside(generator, Network(generator), seed) for seed in range(3)]
    assert all(run["relative_first"] > 0.01 > run["relative"] for run in runs)
    assert all(run["floors"] < min(1.2, run["floors_first"]) for run in runs)


def test_a_normalised_latent_has_no_length() -> None:
    generator = normalised("normal")
    z = generator.latent.draw(1, torch.Generator().manual_seed(1))
    assert torch.allclose(generator.images(z), generator.images(3 * z), atol=1e-5)


def test_several_inputs_of_one_test_count_as_many_times() -> None:
    family = [Test("mean", 0.0, 0.004, "noise_0"), Test("mean", 0.0, 0.5, "noise_1"), Test("energy", 0.0, 0.2, "a")]
    row = screened([family, [Test("mean", 0.0, 0.9, "noise_0")]])
    assert row["p"] == {"mean": [0.008, 0.9], "energy": [0.2]}
    assert (row["any"], row["n"]) == (0, 2)  # three tests: 0.004 counts three times, above 1 %
    shown = table("t", [("honest", row), ("forged", {**row, "mse": [0.5, 0.1], "equal": [1.0, 0.2]})])
    assert list(shown.rows[1])[:4] == ["forged", 2, 0.3, "1/2"]
    assert list(shown.rows[0])[4] == 0.5  # "mean" at its own level


def test_the_small_styled_generators_listen_to_their_noise() -> None:
    generator = styled("stylegan", 1, 4)
    assert scene(1, 3).shape == (16, 16, 1)
    z = generator.latent.draw(1, torch.Generator().manual_seed(0))
    other = {name: torch.zeros(1, *shape) for name, shape in generator.noise.items()}
    assert not torch.equal(generator.sample(z), generator.sample(z, noise=other))
    assert find("r12").page == find("seeds").page == find("R3").page == "seeds.md"
