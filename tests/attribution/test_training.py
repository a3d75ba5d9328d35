"""The papers' training recipes: deterministic by seed, they learn, and pairs share exactly what they should."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from plausible.attribution.generators import check_generator

from benchmarks.attribution.training import autoencoders, gans


def strokes(count: int = 96) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """uint8 [N, 28, 28] and labels: bars at ten places, thicker or thinner; enough to learn something in seconds."""
    pictures = np.zeros((count, 28, 28), np.uint8)
    labels = np.arange(count, dtype=np.uint8) % 10
    for index in range(count):
        left = 2 + 2 * int(labels[index])
        pictures[index, 4:24, left : left + 2 + index % 3] = 255
    return pictures, labels


def spread(pictures: NDArray[np.uint8]) -> float:
    """Mean squared distance of the pictures to their mean: what a network that learned nothing but it would score."""
    return float(autoencoders.unit(pictures).var(0).mean())


QUICK = autoencoders.Recipe(latent=8, steps=600, batch=32)


def test_the_papers_constants_are_the_papers() -> None:
    assert autoencoders.Recipe() == autoencoders.Recipe(latent=32, hidden=64, steps=20_000, batch=256, rate=0.01)
    assert {recipe.rate for recipe in gans.PAPER.values()} == {0.1}
    assert {recipe.steps for recipe in gans.PAPER.values()} == {50 * 60_000 // 256}


def test_an_auto_encoder_learns_and_follows_its_seeds() -> None:
    pictures, _ = strokes()
    assert autoencoders.train(pictures, QUICK, order_seed=1, init_seed=2).loss < spread(pictures) / 5
    digests = [
        autoencoders.train(pictures, replace(QUICK, steps=5), order_seed=order, init_seed=init).generator("x").digest
        for order, init in ((1, 2), (1, 2), (3, 2), (1, 3))
    ]
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


def test_codes_are_latents_of_the_decoder() -> None:
    pictures, _ = strokes()
    trained = autoencoders.train(pictures, QUICK, order_seed=1, init_seed=2)
    generator = trained.generator("x")
    codes = trained.codes(pictures)
    assert generator.latent.prior == "code"
    assert all(generator.latent.objection(code) is None for code in codes)
    error = generator.images(codes).flatten(1) - autoencoders.unit(pictures)
    assert float(error.square().mean()) < spread(pictures) / 5
    assert check_generator(generator) == ()


@pytest.mark.parametrize("pair", get_args(autoencoders.Pair))
def test_pairs_share_what_the_experiment_says(pair: autoencoders.Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    pictures, labels = strokes()
    seen: list[tuple[NDArray[np.uint8], int, int]] = []
    train = autoencoders.train

    def noted(data: NDArray[np.uint8], recipe: autoencoders.Recipe, *, order_seed: int, init_seed: int):
        seen.append((data, order_seed, init_seed))
        return train(data, recipe, order_seed=order_seed, init_seed=init_seed)

    monkeypatch.setattr(autoencoders, "train", noted)
    first, second = autoencoders.train_pair(pair, pictures, labels, replace(QUICK, steps=2), seed=5)
    (data_a, order_a, init_a), (data_b, order_b, init_b) = seen
    assert init_a != init_b
    assert (order_a == order_b) == (pair == "init")
    assert np.array_equal(data_a, data_b) == (pair != "parity")
    if pair == "parity":
        assert len(data_a) + len(data_b) == len(pictures)
    assert first.generator("x").digest != second.generator("x").digest


def test_every_row_is_seen_once_an_epoch() -> None:
    found = autoencoders.batches(10, 5, 4, seed=0)
    assert sorted(torch.cat(found[:2]).tolist()) == sorted(torch.cat(found[2:]).tolist()) == list(range(10))
    assert not torch.equal(torch.cat(found[:2]), torch.cat(found[2:]))
    assert all(torch.equal(a, b) for a, b in zip(found, autoencoders.batches(10, 5, 4, seed=0), strict=True))
    assert [len(rows) for rows in autoencoders.batches(3, 256, 2, seed=0)] == [3, 3]


@pytest.mark.parametrize("family", get_args(gans.Family))
def test_a_gan_trains_by_seed_and_leaves_the_global_state_alone(family: gans.Family) -> None:
    pictures, _ = strokes(48)
    recipe = replace(gans.HEALTHY[family], steps=4, batch=16, width=4)
    before = torch.random.get_rng_state()
    trained = gans.train(family, pictures, recipe, seed=3)
    assert torch.equal(before, torch.random.get_rng_state())
    assert gans.train(family, pictures, recipe, seed=3).generator.digest == trained.generator.digest
    assert gans.train(family, pictures, recipe, seed=4).generator.digest != trained.generator.digest
    assert np.isfinite([trained.generator_loss, trained.discriminator_loss]).all()
    assert not trained.generator.module.training
    assert check_generator(trained.generator) == ()


def test_a_gans_pictures_come_nearer_to_its_data() -> None:
    pictures, _ = strokes(32)
    mean = torch.from_numpy(pictures).float().mean(0) / 255
    recipe = replace(gans.HEALTHY["brownlee-mnist"], batch=16, width=8, rate=5e-3)
    distances: list[float] = []
    for steps in (1, 25):
        generator = gans.train("brownlee-mnist", pictures, replace(recipe, steps=steps), seed=1).generator
        z = generator.latent.draw(32, torch.Generator().manual_seed(0))
        distances.append(float((generator.images(z).mean(0)[0] - mean).square().mean()))
    assert distances[1] < distances[0] / 2
