"""Seed plausibility: each test holds its level on honest draws and finds what it is there for."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import pytest
import torch
from plausible.attribution.generators import LatentSpec
from plausible.attribution.generators.stylegan import StyleGAN
from plausible.attribution.seeds import SeedPlausibility, Test, screen_latent, screen_map
from plausible.attribution.seeds.latents import tails
from plausible.attribution.seeds.maps import LAGS, map_tests
from plausible.attribution.seeds.styles import gain, layer_gains, mahalanobis, style_statistics
from scipy.stats import binom, goodness_of_fit, norm

from tests.attribution.families import lively, tiny

NORMAL = LatentSpec(100, "normal")
DRAWS = 200


def draws(spec: LatentSpec, count: int, seed: int = 5) -> np.ndarray:
    return spec.draw(count, torch.Generator().manual_seed(seed)).numpy()


def rates(families: Iterable[Iterable[Test]], level: float) -> dict[str, int]:
    counts: dict[str, int] = {}
    for family in families:
        for test in family:
            counts[test.name] = counts.get(test.name, 0) + (test.p <= level)
    return counts


def within(count: int, n: int, level: float) -> bool:
    """Not more rejections than a test of this level gives but once in ten thousand times."""
    return bool(count <= binom.ppf(1 - 1e-4, n, level))


def test_holm_adjusts_and_the_smallest_decides() -> None:
    found = SeedPlausibility((Test("a", 0.0, 0.02), Test("b", 0.0, 0.004), Test("c", 0.0, 0.5)), level=0.05)
    assert found.adjusted == (0.04, 0.012, 0.5)
    assert [test.name for test in found.rejected] == ["a", "b"]
    assert not found.plausible
    assert str(found).startswith("screening, not proof: 3 tests at level 0.05 together (Holm); not as drawn")
    assert SeedPlausibility((), untested=("latent",)).plausible is None
    assert "not tested: latent" in str(SeedPlausibility((), untested=("latent",)))


@pytest.mark.parametrize("prior", ["normal", "sphere", "uniform"])
def test_honest_latents_are_rejected_no_more_often_than_the_level_says(prior: str) -> None:
    spec = LatentSpec(100, prior)  # type: ignore[arg-type]
    screened = [screen_latent(z, spec, level=0.05) for z in draws(spec, DRAWS)]
    for name, count in rates((s.tests for s in screened), 0.05).items():
        assert within(count, DRAWS, 0.05), name
    assert within(sum(not s.plausible for s in screened), DRAWS, 0.05)


def test_what_each_latent_test_finds() -> None:
    z = draws(NORMAL, 1)[0]

    def names(values: np.ndarray) -> set[str]:
        return {test.name for test in screen_latent(values, NORMAL).rejected}

    assert names(z) == set()
    assert "norm" in names(1.6 * z)
    assert "norm" in names(0.5 * z)
    assert "angle" in names(z + 0.7)
    signs = np.sign(z) * math.sqrt(float((z**2).mean()))  # the right length and mean, two values only
    assert {"distribution", "tails"} <= names(signs)
    assert names(np.full(100, math.nan)) == {"finite"}
    near = screen_latent(z, NORMAL, others=np.stack([draws(NORMAL, 1, seed=6)[0], z + 0.3 * draws(NORMAL, 1, 7)[0]]))
    assert [test.name for test in near.rejected] == ["neighbour"]
    far = screen_latent(z, NORMAL, others=draws(NORMAL, 50, seed=8))
    assert far.plausible


def test_latents_off_their_support_are_rejected() -> None:
    sphere, box, code = (LatentSpec(100, prior) for prior in ("sphere", "uniform", "code"))
    assert "norm" in [t.name for t in screen_latent(2 * draws(sphere, 1)[0], sphere).rejected]
    assert "support" in [t.name for t in screen_latent(np.full(100, 1.01), box).rejected]
    assert screen_latent(np.full(100, 0.5), code).plausible is None


def test_anderson_darling_agrees_with_simulation() -> None:
    values = draws(NORMAL, 1, seed=3)[0].astype(float) + 0.17
    simulated = goodness_of_fit(
        norm, values, known_params={"loc": 0, "scale": 1}, statistic="ad", n_mc_samples=4000, rng=1
    )
    found = tails(values)
    assert found.statistic == pytest.approx(float(simulated.statistic), rel=1e-9)
    assert found.p == pytest.approx(float(simulated.pvalue), abs=0.03)
    assert tails(values * 50).p < 1e-300
    # the fitted distribution and the tail that takes over from it meet
    shifts = [tails(values + 0.1 * i) for i in range(6)]
    assert [t.p for t in shifts] == sorted((t.p for t in shifts), reverse=True)


@pytest.mark.parametrize("side", [4, 8, 32])
def test_honest_maps_are_rejected_no_more_often_than_the_level_says(side: int) -> None:
    maps = np.random.default_rng(side).standard_normal((DRAWS, 1, side, side))
    found = rates((map_tests(m, about="noise") for m in maps), 0.05)
    assert len(found) == (3 if side == 4 else 6)
    for name, count in found.items():
        assert within(count, DRAWS, 0.05), name


def test_what_each_map_test_finds() -> None:
    white = np.random.default_rng(1).standard_normal((32, 32))
    rows = np.arange(32)[:, None]

    def names(values: np.ndarray) -> set[str]:
        return {test.name for test in screen_map(values).rejected}

    assert names(white) == set()
    assert "mean" in names(white + 0.2)
    assert "energy" in names(1.2 * white)
    assert "distribution" in names(np.sign(white))
    smooth = sum(np.roll(white, (i, j), (0, 1)) for i in range(3) for j in range(3))
    assert isinstance(smooth, np.ndarray)
    assert {"neighbours", "low frequencies"} <= names(smooth / smooth.std())
    wave = white + 0.5 * np.cos(2 * np.pi * (8 * rows + 3 * rows.T) / 32)
    assert "one frequency" in names(wave / wave.std())
    assert names(np.zeros((32, 32))) >= {"energy", "distribution"}
    assert len(LAGS) == 4


def test_styles_of_the_mapping_pass_and_free_ones_do_not() -> None:
    module = lively(tiny("stylegan").module)
    assert isinstance(module, StyleGAN)
    statistics = style_statistics(module, draws=1000)
    with torch.no_grad():
        own = module.mapping(torch.randn(200, 6, generator=torch.Generator().manual_seed(9)))
    p = np.array([mahalanobis(statistics, w.numpy()).p for w in own])
    assert within(int((p <= 0.05).sum()), 200, 0.05)
    away = own[0].numpy() + 10 * float(own.std())
    assert mahalanobis(statistics, away).p == pytest.approx(1 / 501)
    gains = layer_gains(module, 5, own)
    honest = np.array([gain(statistics, 5, g.numpy()).p for g in gains])
    assert within(int((honest <= 0.05).sum()), 200, 0.05)
    assert gain(statistics, 5, np.zeros(8)).p == 0.0
