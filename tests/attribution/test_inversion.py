"""Inversion finds the latent that made a picture, certifies it bit for bit, and certifies nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from plausible.attribution.generators import LatentSpec, make_generator
from plausible.attribution.generators.mlp import MLPDecoder
from plausible.attribution.inversion import invert
from plausible.attribution.inversion.budget import FLOOR, Budget
from plausible.attribution.inversion.exact import chebyshev_step, guard, whiteness
from plausible.schemas.errors import EvidenceError, UsageError
from scipy.optimize import linprog

from .conftest import UNIT, small_mlp

QUICK = Budget(adam_starts=6, adam_steps=30, lm_starts=3, lm_iterations=30, rounds=3)


def test_own_pictures_are_reproduced_sample_by_sample() -> None:
    generator, _ = small_mlp(1)
    truth = generator.latent.draw(6, torch.Generator().manual_seed(11))
    pictures = generator.sample(truth).numpy()
    found = [invert(picture, [generator], QUICK, seed=i)[0] for i, picture in enumerate(pictures)]
    assert sum(result.exact for result in found) >= 5
    for result, picture in zip(found, pictures, strict=True):
        if result.exact:
            assert result.mismatches == 0
            assert np.array_equal(result.reconstruction, picture)
            replay = generator.sample(torch.from_numpy(result.z).float()[None])[0].numpy()
            assert np.array_equal(replay, picture)
            assert result.floors < 2


def test_another_generator_is_far_and_never_exact() -> None:
    own, _ = small_mlp(1)
    other, _ = small_mlp(2)
    picture = own.sample(own.latent.draw(1, torch.Generator().manual_seed(3)))[0].numpy()
    results = invert(picture, [other, own], QUICK, seed=0)
    assert [r.generator for r in results] == [other.digest, own.digest]
    assert results[1].residual < 2 * FLOOR
    assert results[0].floors > 50
    assert not results[0].exact
    assert results[0].mismatches > 0


def test_results_do_not_depend_on_the_other_candidates() -> None:
    own, _ = small_mlp(1)
    other, _ = small_mlp(2)
    picture = own.sample(own.latent.draw(1, torch.Generator().manual_seed(4)))[0].numpy()
    alone = invert(picture, [other], QUICK, seed=7)[0]
    together = invert(picture, [own, other], QUICK, seed=7)[1]
    assert np.allclose(alone.z, together.z)
    assert alone.residual == pytest.approx(together.residual, rel=1e-5)


def test_one_changed_sample_is_no_longer_exact() -> None:
    generator, _ = small_mlp(1)
    picture = generator.sample(generator.latent.draw(1, torch.Generator().manual_seed(11)))[0].numpy()
    # a sample in mid-range moved by three levels: no nearby latent can make it
    row, column, channel = np.argwhere((picture > 60) & (picture < 190))[0]
    picture[row, column, channel] += 3
    result = invert(picture, [generator], QUICK, seed=0)[0]
    assert not result.exact
    assert result.mismatches >= 1


def test_a_latent_as_large_as_its_picture_certifies_nothing() -> None:
    torch.manual_seed(0)
    module = MLPDecoder(16, [], (1, 4, 4))
    config = {"latent": 16, "hidden": [], "height": 4, "width": 4, "channels": 1}
    generator = make_generator("free", module, "mlp-decoder", config, UNIT)
    picture = generator.sample(torch.randn(1, 16, generator=torch.Generator().manual_seed(2)))[0].numpy()
    result = invert(picture, [generator], QUICK, seed=0)[0]
    assert result.residual < 2 * FLOOR
    assert not result.exact
    assert result.guard is not None
    assert "quarter" in result.guard


def test_guard_holds_latents_to_their_prior() -> None:
    normal = LatentSpec(100, "normal")
    direction = torch.ones(100)
    assert guard(direction, normal, 10_000) is None
    assert guard(direction * 1.6, normal, 10_000) is not None
    assert guard(direction * 0.5, normal, 10_000) is not None
    assert guard(direction, normal, 399) is not None
    assert guard(direction * 1.5, LatentSpec(100, "uniform"), 10_000) is not None
    assert guard(direction * 1.5, LatentSpec(100, "sphere"), 10_000) is not None
    assert guard(direction, LatentSpec(100, "sphere"), 10_000) is None


def test_chebyshev_step_equals_the_linear_programme() -> None:
    rng = np.random.default_rng(0)
    jacobian, error = rng.normal(size=(7, 300)), rng.normal(size=300)
    lower, upper = rng.random(300) > 0.1, rng.random(300) > 0.1
    delta, bound = chebyshev_step(*(torch.from_numpy(a) for a in (jacobian, error, lower, upper)))
    rows = np.concatenate([jacobian.T[upper], -jacobian.T[lower]])
    limits = np.concatenate([-error[upper], error[lower]])
    ones = np.ones((len(rows), 1))
    cost = np.r_[np.zeros(7), 1.0]
    reference = linprog(cost, A_ub=np.hstack([rows, -ones]), b_ub=limits, bounds=(None, None))
    assert bound == pytest.approx(reference.fun, abs=2e-4)
    assert float((torch.from_numpy(rows) @ delta + torch.from_numpy(-limits)).max()) <= bound + 1e-9


def test_whiteness_tells_noise_from_structure() -> None:
    rng = np.random.default_rng(1)
    noise = rng.normal(size=(32, 32, 3))
    assert whiteness(noise) < 4
    smooth = noise.cumsum(axis=1)
    assert whiteness(smooth) > 20
    assert whiteness(np.zeros((4, 4, 3))) == 0


def test_flat_probe_gives_no_exact_claim_by_chance() -> None:
    generator, _ = small_mlp(1)
    result = invert(np.full((12, 12, 3), 128, np.uint8), [generator], QUICK, seed=0)[0]
    assert not result.exact
    assert result.floors > 2


def test_time_guard_marks_the_result() -> None:
    generator, _ = small_mlp(1)
    picture = np.random.default_rng(0).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    result = invert(picture, [generator], Budget(seconds=0.0), seed=0)[0]
    assert result.out_of_budget
    assert result.stopped == "time"


def test_wrong_size_is_the_callers_error(mlp) -> None:
    with pytest.raises(UsageError, match="resize"):
        invert(np.zeros((8, 12, 3), np.uint8), [mlp], QUICK, seed=0)
    with pytest.raises(UsageError):
        invert(np.zeros((12, 12, 3), np.float32), [mlp], QUICK, seed=0)  # type: ignore[arg-type]


def test_budget_digest_counts_work_and_not_seconds() -> None:
    assert Budget().digest == Budget(seconds=3.0).digest
    assert Budget().digest != Budget(rounds=5).digest
    assert Budget.from_json(Budget(adam_rate=0.2).to_json()) == Budget(adam_rate=0.2)
    for broken in ({}, [], {**Budget().to_json(), "rounds": True}, {**Budget().to_json(), "rounds": 0}):
        with pytest.raises(EvidenceError):
            Budget.from_json(broken)
    with pytest.raises(UsageError):
        Budget(lm_starts=9)
