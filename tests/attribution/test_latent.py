"""Latent priors: what they draw they also support, densities are those of the textbooks, seeds are the ledger's."""

from __future__ import annotations

import math
from typing import get_args

import numpy as np
import pytest
import torch
from plausible.attribution.generators.latent import PRIORS, LatentSpec, Prior
from plausible.ledger.seeds import committed
from plausible.schemas.errors import UsageError
from scipy import stats


@pytest.mark.parametrize("prior", PRIORS)
def test_what_is_drawn_lies_on_the_support_and_projecting_keeps_it(prior: Prior) -> None:
    spec = LatentSpec(64, prior)
    z = spec.draw(50, torch.Generator().manual_seed(3))
    assert z.dtype == torch.float32
    assert torch.equal(z, spec.draw(50, torch.Generator().manual_seed(3)))
    assert all(spec.objection(one) is None for one in z)
    assert bool(torch.isfinite(spec.log_density(z)).all())
    assert torch.allclose(spec.project(z), z, atol=1e-5)


@pytest.mark.parametrize(("prior", "outside"), [("sphere", 2.0), ("uniform", 1.5), ("code", 1.5), ("code", -0.5)])
def test_off_the_support_there_is_no_density_an_objection_and_a_way_back(prior: Prior, outside: float) -> None:
    spec = LatentSpec(8, prior)
    z = torch.full((1, 8), outside)
    assert float(spec.log_density(z)) == -math.inf
    assert spec.objection(z[0]) is not None
    assert spec.objection(spec.project(z)[0]) is None


def test_densities_are_those_of_the_textbooks() -> None:
    z = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    expected = stats.multivariate_normal(np.zeros(7)).logpdf(z.double().numpy())
    assert np.allclose(LatentSpec(7, "normal").log_density(z).numpy(), expected)
    # the sphere of radius sqrt(3) in three dimensions has the surface 4 pi 3
    on = LatentSpec(3, "sphere").draw(1, torch.Generator().manual_seed(1))
    assert float(LatentSpec(3, "sphere").log_density(on)) == pytest.approx(-math.log(12 * math.pi))
    assert float(LatentSpec(6, "uniform").log_density(torch.zeros(1, 6))) == pytest.approx(-6 * math.log(2))
    assert float(LatentSpec(6, "code").log_density(torch.full((1, 6), 0.5))) == 0


def test_norms_that_are_never_drawn_are_objected_to() -> None:
    spec = LatentSpec(100, "normal")
    z = spec.draw(1, torch.Generator().manual_seed(2))[0]
    for factor in (0.5, 1.6, math.nan):
        assert spec.objection(z * factor) is not None


@pytest.mark.parametrize("prior", PRIORS)
def test_committed_seeds_give_the_ledgers_latents_or_none(prior: Prior) -> None:
    spec = LatentSpec(100, prior)
    h = committed.derive(bytes(32), bytes(32), "author", 7)
    if prior in committed.PRIORS:
        z = spec.from_seed(h)
        assert torch.equal(z, torch.from_numpy(committed.latent(h, [100], prior)))
        assert spec.objection(z) is None
    else:
        assert not spec.committable
        with pytest.raises(UsageError, match="captured"):
            spec.from_seed(h)


def test_the_priors_are_the_documented_ones() -> None:
    assert get_args(Prior) == ("normal", "sphere", "uniform", "code")
