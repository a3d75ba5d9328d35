"""The matrix-free engine: big families reach the floor, saturated samples are no errors, free inputs no evidence."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from plausible.attribution.generators import Generator, fresh, make_generator
from plausible.attribution.inversion import Inversion, engine_name, invert, method_of, seed_distance
from plausible.attribution.inversion.budget import FLOOR, Budget
from plausible.attribution.inversion.certificate import tangent_basis
from plausible.attribution.inversion.matrixfree import advance, reducible, start
from plausible.attribution.inversion.unknowns import Unknowns

from .conftest import small_mlp
from .families import SIGNED, STYLED, lively

QUICK = Budget(adam_starts=4, adam_steps=15, lm_starts=2, lm_iterations=20, rounds=3)
SHORT = Budget(adam_starts=2, adam_steps=15, lm_starts=1, lm_iterations=12, rounds=1)
SMALL: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "sngan-resnet": ({"latent": 12, "widths": [16, 8], "bottom": 4}, SIGNED),
    "sagan-resnet": ({"latent": 12, "widths": [16, 8], "attention": 1}, SIGNED),
    "progan": ({"latent": 12, "size": 8, "base": 64, "maximum": 16, "prior": "sphere"}, SIGNED),
    "stylegan": ({"latent": 12, "style": 12, "mapping": 2, "size": 8, "base": 64, "maximum": 16, "prior": "sphere"},
                 STYLED),
    "stylegan2": ({"latent": 12, "style": 12, "mapping": 2, "size": 8, "base": 64, "maximum": 16, "prior": "sphere"},
                  STYLED),
}  # fmt: skip


def small(architecture: str, seed: int = 0) -> Generator:
    config, sampling = SMALL[architecture]
    module = fresh(architecture, config, seed)
    if "resnet" not in architecture:  # their norms without training would make noise of their own
        module = lively(module, seed)
    return make_generator(architecture, module, architecture, config, sampling)


def inverted(generator: Generator, seed: int, **options: Any) -> tuple[Inversion, torch.Tensor]:
    z = generator.latent.draw(1, torch.Generator().manual_seed(100 + seed))
    probe = generator.sample(z)[0].numpy()
    return invert(probe, [generator], QUICK, seed=seed, **options)[0], z[0]


@pytest.mark.parametrize(
    "architecture",
    [pytest.param(name, marks=pytest.mark.long) if name in ("sagan-resnet", "stylegan2") else name for name in SMALL],
)
def test_an_own_picture_of_each_family_is_reproduced(architecture: str) -> None:
    generator = small(architecture)
    assert method_of(generator) == "matrix-free"
    result, z = inverted(generator, 0)
    assert result.floors < 2
    assert result.guard is None
    assert result.diagnostics.whiteness < 6
    if result.exact:
        replay = generator.sample(torch.from_numpy(result.z).float()[None])[0].numpy()
        assert np.array_equal(replay, result.reconstruction)
    if not architecture.startswith("style"):  # a mapping network folds: other latents make the picture too
        assert result.exact
        assert seed_distance(torch.from_numpy(result.z), z, generator.latent.prior) < 0.05


def test_another_generator_of_the_family_is_far() -> None:
    own, other = small("progan"), small("progan", seed=1)
    picture = own.sample(own.latent.draw(1, torch.Generator().manual_seed(5)))[0].numpy()
    alone = invert(picture, [other], SHORT, seed=1)[0]
    together = invert(picture, [own, other], SHORT, seed=1)
    assert alone.floors > 50
    assert not alone.exact
    assert together[0].floors < 2
    assert together[1].residual == alone.residual


def test_dense_and_matrix_free_candidates_stand_beside_each_other() -> None:
    dense, _ = small_mlp(1)
    picture = dense.sample(dense.latent.draw(1, torch.Generator().manual_seed(3)))[0].numpy()
    by_itself = invert(picture, [dense], QUICK, seed=0)[0]
    free = invert(picture, [dense], QUICK, seed=0, method="matrix-free")[0]
    assert method_of(dense) == "dense"
    assert engine_name(dense) != engine_name(dense, method="matrix-free")
    assert by_itself.floors < 2
    assert free.floors < 2
    assert free.exact


def test_lbfgs_is_an_alternative() -> None:
    result, _ = inverted(small("progan"), 0, method="lbfgs")
    assert result.floors < 2


def test_samples_beyond_a_saturated_one_are_no_error() -> None:
    config, sampling = SMALL["progan"]
    module = lively(fresh("progan", config, 3), 3)
    with torch.no_grad():
        module.to_rgb.weight.mul_(4)  # type: ignore[union-attr]
    generator = make_generator("loud", module, "progan", config, sampling)
    z = generator.latent.draw(1, torch.Generator().manual_seed(1))
    probe = generator.sample(z)[0]
    assert float(((probe == 0) | (probe == 255)).float().mean()) > 0.1
    unknowns = Unknowns(generator, probe)
    plain = float((generator.images(z).flatten() - unknowns.target).square().mean())
    assert float(unknowns.loss(z)) < 1.2 * FLOOR
    assert plain > 100 * FLOOR
    result = invert(probe.numpy(), [generator], QUICK, seed=2)[0]
    assert result.exact


def test_steps_on_the_sphere_keep_the_length_and_end_at_a_minimum() -> None:
    generator = small("progan")
    z = generator.latent.draw(2, torch.Generator().manual_seed(1))
    unknowns = Unknowns(generator, generator.sample(z[:1])[0])
    near = generator.latent.project(z[:1] + 0.05 * z[1:])
    runs = start(unknowns, near)
    before = reducible(unknowns, runs[0].point)
    advance(runs, unknowns, iterations=10, goal=0.0)
    assert float(runs[0].point.square().sum()) == pytest.approx(generator.latent.dim, rel=1e-5)
    assert before > 0.5
    assert reducible(unknowns, runs[0].point) < 0.01
    step = unknowns.tangent(near, torch.randn(1, unknowns.dim, generator=torch.Generator().manual_seed(2)))
    assert abs(float((step * near).sum())) < 1e-4


def test_seed_distance_is_an_angle_on_the_sphere() -> None:
    a, b = torch.tensor([1.0, 0, 0]), torch.tensor([0.0, 2, 0])
    assert seed_distance(a, b, "sphere") == pytest.approx(math.pi / 2)
    assert seed_distance(a, 3 * a, "sphere") == 0
    assert seed_distance(3 * a, a, "normal") == pytest.approx(2)
    assert seed_distance(a, torch.tensor([1.0, 1e-6, 0]), "sphere") == pytest.approx(1e-6, rel=1e-3)


def test_the_tangent_basis_is_orthonormal() -> None:
    z = torch.randn(9, generator=torch.Generator().manual_seed(4))
    basis = tangent_basis(z)
    assert torch.allclose(basis.T @ basis, torch.eye(8, dtype=torch.float64))
    assert float((z.double() @ basis).abs().max()) < 1e-12


@pytest.mark.long
def test_a_picture_with_other_noise_maps_matches_only_with_free_noise() -> None:
    generator = small("stylegan2")
    with torch.no_grad():
        for layer in generator.module.layers:  # type: ignore[union-attr]
            layer.noise_scale.fill_(0.3)
    z = generator.latent.draw(1, torch.Generator().manual_seed(7))
    rng = torch.Generator().manual_seed(8)
    noise = {name: torch.randn(1, *shape, generator=rng) for name, shape in generator.noise.items()}
    result = invert(generator.sample(z, noise)[0].numpy(), [generator], SHORT, seed=1, free=True)[0]
    assert result.floors > 2
    assert not result.exact
    assert result.free is not None
    assert result.free.inputs == "noise"
    assert result.free.matches
    usual = invert(generator.sample(z)[0].numpy(), [generator], QUICK, seed=1, free=True)[0]
    assert usual.free is None
