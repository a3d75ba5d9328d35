"""Many probes at once: the matrices are the module's own, the box holds, and the answers are those of one at a time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from plausible.attribution.generators import Generator, make_generator
from plausible.attribution.generators.mlp import MLPDecoder
from plausible.attribution.inversion import ENGINE_VERSION, MLP_BUDGET, engine_name, invert, invert_many
from plausible.attribution.inversion import perceptron as perceptron_module
from plausible.attribution.inversion.batched import descend
from plausible.attribution.inversion.closed_form import closed_form
from plausible.attribution.inversion.general import General, model_of
from plausible.attribution.inversion.network import Network
from plausible.attribution.inversion.perceptron import Perceptron
from plausible.schemas.errors import UsageError

from tests.attribution.conftest import SIGNED, UNIT, small_dcgan, small_mlp

QUICK = replace(MLP_BUDGET, rounds=2, lm_starts=2)


def coder(seed: int, latent: int = 6, hidden: tuple[int, ...] = (24,)) -> Generator:
    """000's kind of decoder: sigmoids throughout and codes in [0, 1]; 12x12 grey."""
    config: dict[str, Any] = {"latent": latent, "hidden": list(hidden), "height": 12, "width": 12, "channels": 1,
                              "activation": "sigmoid", "prior": "code"}  # fmt: skip
    torch.manual_seed(seed)
    module = MLPDecoder(latent, list(hidden), (1, 12, 12), "sigmoid")
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(8)
    return make_generator(f"coder{seed}", module, "mlp-decoder", config, {**UNIT, "rounding": "round_half_even_255"})


def drawn(generator: Generator, count: int, seed: int = 0) -> torch.Tensor:
    return generator.latent.draw(count, torch.Generator().manual_seed(seed))


def flat(pictures: torch.Tensor) -> torch.Tensor:
    return pictures.permute(0, 3, 1, 2).flatten(1).float() / 255


def normal_of(generator: Generator, z: torch.Tensor) -> torch.Tensor:
    """J J^T by central differences of the owner's pictures, in double."""
    steps = 1e-3 * torch.eye(len(z))
    jacobian = (generator.images(z + steps).double() - generator.images(z - steps).double()).flatten(1) / 2e-3
    return (jacobian @ jacobian.T).float()


@pytest.mark.parametrize("table", [True, False])
@pytest.mark.parametrize("kind", ["sigmoid", "deep", "relu"])
def test_pictures_gradients_and_normal_matrices_are_the_modules(
    kind: str, table: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = {"sigmoid": coder(1), "deep": coder(2, 4, (10, 16)), "relu": small_mlp(1)[0]}[kind]
    if not table:
        monkeypatch.setattr(perceptron_module, "TABLE_NUMBERS", 0)
    model = Perceptron.of(generator)
    assert model is not None
    z, target = drawn(generator, 3), torch.rand(3, model.samples)
    pictures = generator.images(z).flatten(1)
    assert torch.allclose(model.unit(z), pictures, atol=1e-6)
    other = General(Network(generator))
    for one, two in zip(model.pull(z, target), other.pull(z, target), strict=True):
        assert torch.allclose(one, two, rtol=1e-4, atol=1e-5)
    for row in range(3):
        assert torch.allclose(model.normal(z)[row], normal_of(generator, z[row]), rtol=5e-3, atol=5e-3)


def test_what_is_not_fully_connected_goes_the_general_way() -> None:
    generator = make_generator("c", small_dcgan(1), "dcgan-64", {"latent": 8, "width": 4}, SIGNED)
    assert Perceptron.of(generator) is None
    model = model_of(generator)
    z = drawn(generator, 2)
    assert torch.allclose(model.normal(z)[1], normal_of(generator, z[1]), rtol=3e-2, atol=1e-2)


def test_the_closed_form_is_near_and_in_the_box() -> None:
    generator = coder(3)
    model = Perceptron.of(generator)
    assert model is not None
    z = drawn(generator, 16)
    found = closed_form(model, flat(generator.sample(z)))
    assert float(found.min()) >= 0
    assert float(found.max()) <= 1
    assert float((found - z).abs().median()) < 0.02


def test_a_descent_stays_in_the_box_and_ends_where_only_the_box_holds_it() -> None:
    generator = coder(4)
    model = model_of(generator)
    targets = torch.rand(5, model.samples)  # no picture of it
    starts = drawn(generator, 10)
    rows = torch.arange(10) % 5
    runs = descend(model, targets, rows, starts, iterations=60, chords=2)
    assert float(runs.z.min()) >= 0
    assert float(runs.z.max()) <= 1
    before, _ = model.pull(starts, targets[rows])
    assert bool((runs.residual <= before).all())
    residual, pull = model.pull(runs.z, targets[rows])
    assert torch.allclose(residual, runs.residual, rtol=1e-4)
    assert bool((((runs.z == 0) & (pull < 0)) | ((runs.z == 1) & (pull > 0))).any())
    for step in (1e-3, 1e-2, 1e-1):
        downhill = (runs.z + step * pull / pull.norm(dim=1, keepdim=True)).clamp(0, 1)
        assert bool((model.pull(downhill, targets[rows])[0] > 0.98 * residual).all())


def test_own_pictures_reach_the_floor_and_others_do_not() -> None:
    first, second = coder(5), coder(6)
    probes = torch.cat([first.sample(drawn(first, 12)), second.sample(drawn(second, 12, 1))]).numpy()
    ours, theirs = invert_many(probes, [first, second], QUICK, seed=1, threads=1)
    assert ours.generator == first.digest
    assert (ours.floors[:12] < 2).all()
    assert (theirs.floors[12:] < 2).all()
    assert (ours.floors[12:] > 20).all()
    assert (theirs.floors[:12] > 20).all()
    assert set(ours.stopped[:12]) == {"floor"}
    assert set(ours.stopped[12:]) == {"settled"}
    assert ours.exact[:12].mean() > 0.5
    assert not ours.exact[12:].any()
    for row in range(12):
        again = first.sample(torch.from_numpy(ours.z[row : row + 1]))[0].numpy()
        assert int((again != probes[row]).sum()) == ours.mismatches[row]
        assert ours.exact[row] == (ours.mismatches[row] == 0)


def test_one_at_a_time_says_the_same() -> None:
    generator, other = coder(5), coder(7)
    probes = torch.cat([generator.sample(drawn(generator, 2)), other.sample(drawn(other, 1))]).numpy()
    (many,) = invert_many(probes, [generator], MLP_BUDGET, seed=1)
    for row, probe in enumerate(probes):
        (one,) = invert(probe, [generator], replace(MLP_BUDGET, adam_steps=20, adam_starts=6, rounds=4), seed=1)
        assert (one.floors < 2) == (many.floors[row] < 2)
        assert many.residual[row] < 1.2 * one.residual


def test_one_at_a_time_starts_from_the_closed_form_and_its_calibrations_are_told_apart() -> None:
    generator = coder(5)
    probe = generator.sample(drawn(generator, 1, 9))[0].numpy()
    bare = replace(MLP_BUDGET, adam_starts=1, adam_steps=0, lm_starts=1, lm_iterations=8, rounds=1)
    (found,) = invert(probe, [generator], bare, seed=1)
    assert found.floors < 2
    assert found.exact
    (alone,) = invert(probe, [generator], bare, seed=1, starts=[drawn(generator, 1, 10)])
    assert alone.iterations > found.iterations
    assert engine_name(generator) == ENGINE_VERSION + "+closed1"
    faces = make_generator("c", small_dcgan(1), "dcgan-64", {"latent": 8, "width": 4}, SIGNED)
    assert engine_name(faces) == ENGINE_VERSION


def test_equal_calls_give_equal_answers_and_more_starts_where_nothing_fits() -> None:
    generator = coder(8)
    probes = np.random.default_rng(0).integers(0, 256, (3, 12, 12, 1), dtype=np.uint8)
    news: list[tuple[int, int]] = []
    (first,) = invert_many(probes, [generator], QUICK, seed=2, progress=lambda n, left: news.append((n, left)))
    (second,) = invert_many(probes, [generator], QUICK, seed=2)
    assert np.array_equal(first.z, second.z)
    assert news == [(1, 3)]
    assert (first.starts == 3).all()
    assert set(first.stopped) <= {"budget", "flat"}


def test_a_callers_starts_and_the_guard_in_seconds() -> None:
    generator, _ = small_mlp(1)
    z = drawn(generator, 2)
    probes = generator.sample(z).numpy()
    (found,) = invert_many(probes, [generator], replace(QUICK, adam_starts=2, lm_iterations=1), seed=1, starts=[z])
    assert (found.floors < 2).all()
    (late,) = invert_many(255 - probes, [generator], replace(QUICK, seconds=0.0), seed=1)
    assert set(late.stopped) == {"time"}


def test_a_convolutional_generator_is_inverted_in_batches() -> None:
    generator = make_generator("c", small_dcgan(2), "dcgan-64", {"latent": 8, "width": 4}, SIGNED)
    probes = generator.sample(drawn(generator, 2)).numpy()
    budget = replace(QUICK, adam_starts=4, adam_steps=20, lm_starts=2, lm_iterations=10, exact_iterations=0)
    (found,) = invert_many(probes, [generator], budget, seed=1)
    assert (found.floors < 2).all()
    assert not found.exact.any()


@pytest.mark.parametrize(
    "probes",
    [np.zeros((2, 12, 12, 3), np.uint8), np.zeros((12, 12, 1), np.uint8), np.zeros((0, 12, 12, 1), np.uint8),
     np.zeros((1, 12, 12, 1), np.float32)],
)  # fmt: skip
def test_probes_of_another_kind_are_refused(probes: Any) -> None:
    with pytest.raises(UsageError):
        invert_many(probes, [coder(1)], seed=1)
