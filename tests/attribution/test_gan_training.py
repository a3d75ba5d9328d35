"""GANs trained in slices: an interruption changes nothing, a collapsed generator is called unhealthy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from plausible.attribution.generators import fresh, make_generator
from plausible.schemas.errors import EvidenceError

from benchmarks.attribution import recipe004
from benchmarks.attribution.training import critics, gans
from benchmarks.attribution.training.health import Health, Judge, classifier, fit
from benchmarks.attribution.training.steady import Steady, Training

RECIPE = Steady(steps=6, batch=8)


def bars(count: int, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """uint8 [N, 28, 28] and labels: a bar at one of ten places, its brightness and length by chance."""
    rng = np.random.default_rng(seed)
    labels = (np.arange(count) % 10).astype(np.uint8)
    pictures = np.zeros((count, 28, 28), np.uint8)
    for picture, label in zip(pictures, labels, strict=True):
        top, left = int(rng.integers(2, 10)), 2 + 2 * int(label)
        picture[top : top + 14, left : left + 2] = rng.integers(120, 256)
    return pictures, labels


def training(seed: int = 1, recipe: Steady = RECIPE) -> Training:
    pictures, labels = bars(40)
    return Training(
        "dcgan-mnist", {"latent": 100, "width": 4}, critics.of_digits, pictures[:, None], recipe, seed=seed, low=-1.0,
        labels=labels,
    )  # fmt: skip


def weights(one: Training) -> torch.Tensor:
    return torch.cat([value.flatten().double() for value in one.result().state_dict().values()])


def test_an_interrupted_training_ends_where_an_uninterrupted_one_does(tmp_path: Path) -> None:
    before = torch.random.get_rng_state()
    whole = training()
    whole.advance(6)
    assert torch.equal(before, torch.random.get_rng_state())
    first = training()
    first.advance(4)
    first.save(tmp_path / "kept.pt")
    second = training()
    second.load(tmp_path / "kept.pt")
    second.advance(100)
    assert whole.done
    assert second.done
    assert torch.equal(weights(whole), weights(second))
    other = training(seed=2)
    other.advance(6)
    assert not torch.equal(weights(whole), weights(other))


def test_faces_are_judged_without_labels_and_every_weight_of_the_generator_learns() -> None:
    pictures = np.random.default_rng(0).integers(0, 256, (16, 3, 64, 64)).astype(np.uint8)
    one = Training(
        "dcgan-64", {"latent": 100, "width": 2}, lambda: critics.of_faces(2), pictures, RECIPE, seed=1, low=-1.0
    )
    before = [value.clone() for value in one.module.parameters()]
    one.advance(1)
    assert all(not torch.equal(a, b) for a, b in zip(before, one.module.parameters(), strict=True))
    assert torch.isfinite(one.losses).all()


def test_a_checkpoint_of_another_recipe_is_refused_but_more_steps_are_not(tmp_path: Path) -> None:
    one = training()
    one.advance(1)
    one.save(tmp_path / "kept.pt")
    with pytest.raises(EvidenceError, match="another recipe"):
        training(recipe=replace(RECIPE, rate=1.0)).load(tmp_path / "kept.pt")
    with pytest.raises(EvidenceError, match="another recipe"):
        training(seed=2).load(tmp_path / "kept.pt")
    longer = training(recipe=replace(RECIPE, steps=7))
    longer.load(tmp_path / "kept.pt")
    assert longer.step == 1
    assert not longer.done


def test_health_tells_real_pictures_from_one_picture_many_times_and_from_noise() -> None:
    pictures, labels = bars(1000)
    network = classifier()
    fit(network, pictures[:500], labels[:500], steps=40)
    judge = Judge(network.eval().requires_grad_(False), pictures, labels)
    assert judge.accuracy > 0.95
    healthy = judge.judge(bars(500, seed=1)[0])
    assert healthy.complaints() == []
    assert healthy.variety == pytest.approx(1, abs=0.1)
    collapsed = judge.judge(np.repeat(pictures[:1], 200, axis=0))
    assert collapsed.rarest == 0
    assert collapsed.variety < 1e-9
    assert len(collapsed.complaints()) >= 2
    few = judge.judge(pictures[labels < 3])
    assert any("rarest" in text for text in few.complaints())
    noise = judge.judge(np.random.default_rng(0).integers(0, 256, (200, 28, 28)).astype(np.uint8))
    assert noise.distance > 10 * healthy.distance
    assert Health(0.5, (0.1,) * 10, 1.0, 0.0).complaints() == ["only 50.0% of the pictures are recognised as digits"]


def test_004s_recipe_ranks_the_last_loss_of_runs_that_do_not_know_of_each_other() -> None:
    config: dict[str, object] = {"latent": 100, "width": 2}
    module = fresh("brownlee-mnist", config, 1)
    generator = make_generator("g", module, "brownlee-mnist", config, gans.SAMPLING["brownlee-mnist"])
    probes = generator.sample(generator.latent.draw(3, torch.Generator().manual_seed(5))).numpy()
    starts = recipe004.starts_of(generator, [1, 2, 3], 2)
    together = recipe004.reconstruct(probes, generator, starts, steps=12)
    assert together.losses.shape == (3, 2)
    alone = recipe004.reconstruct(probes[1:2], generator, starts[1:2, 1:], steps=12)
    assert alone.losses[0, 0] == pytest.approx(together.losses[1, 1], rel=1e-3)
    # the loss belongs to the latent that is handed out
    again = generator.images(torch.from_numpy(together.z[1]))
    wanted = torch.from_numpy(probes[1]).permute(2, 0, 1).float() / 255
    assert (again - wanted).square().flatten(1).mean(1).tolist() == pytest.approx(together.losses[1].tolist(), rel=1e-3)
    first = recipe004.reconstruct(probes, generator, starts, steps=1).losses
    assert (together.losses.mean(1) < first.mean(1)).all()
