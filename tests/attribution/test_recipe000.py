"""000's recipes: one run after another and side by side they are the same runs, and their constants are the paper's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from plausible.attribution.generators import Generator

from benchmarks.attribution import recipe000
from tests.attribution.conftest import small_mlp


def probes_of(generator: Generator, count: int) -> recipe000.Pixels:
    return generator.sample(generator.latent.draw(count, torch.Generator().manual_seed(3))).numpy()


def test_the_constants_are_the_papers() -> None:
    told = {name: getattr(recipe000, name) for name in ("MNIST", "MNIST_001", "SNGAN", "SAGAN", "PROGAN")}
    assert {name: (r.starts, r.steps, r.rate, r.shrink, r.patience) for name, r in told.items()} == {
        "MNIST": (10, 1000, 0.01, 1.0, 0), "MNIST_001": (1, 1000, 0.01, 1.0, 0), "SNGAN": (10, 1000, 0.1, 1.0, 0),
        "SAGAN": (10, 1000, 0.1, 0.5, 30), "PROGAN": (20, 300, 0.9, 1.0, 0),
    }  # fmt: skip


@pytest.mark.parametrize(
    "recipe",
    [replace(recipe000.MNIST, starts=2, steps=25), replace(recipe000.MNIST, starts=2, steps=25, loss="l1"),
     replace(recipe000.SAGAN, starts=1, steps=40, patience=3)],
    ids=["adam", "l1", "plateau"],
)  # fmt: skip
def test_side_by_side_is_one_after_another(recipe: recipe000.Recipe) -> None:
    generator, _ = small_mlp(1)
    probes = probes_of(generator, 2)
    starts = recipe000.starts_of(generator, 2, recipe, seed=1)
    one = recipe000.sequential(probes, generator, recipe, starts)
    many = recipe000.batched(probes, generator, recipe, starts, chunk=3)
    assert np.allclose(one.losses, many.losses, rtol=2e-2)
    first = generator.images(starts.flatten(0, 1)).flatten(1) - recipe000.targets_of(probes).repeat_interleave(
        recipe.starts, 0
    )
    begun = recipe000.loss_of(recipe, first).reshape(2, -1).amin(1).numpy()
    assert (many.losses < begun).all()


def test_the_lowest_loss_met_is_reported_with_its_latent() -> None:
    generator, _ = small_mlp(2)
    probes = probes_of(generator, 2)
    wild = replace(recipe000.PROGAN, starts=2, steps=12, rate=5.0)  # overshoots: the last loss is not the lowest
    found = recipe000.batched(probes, generator, wild, recipe000.starts_of(generator, 2, wild, seed=1))
    error = generator.images(torch.from_numpy(found.z)).flatten(1) - recipe000.targets_of(probes)
    assert np.allclose(recipe000.loss_of(wild, error).numpy(), found.losses, rtol=1e-4)


def test_lbfgs_needs_few_steps() -> None:
    generator, _ = small_mlp(1)
    probes = probes_of(generator, 1)
    adam = replace(recipe000.MNIST, starts=1, steps=30)
    starts = recipe000.starts_of(generator, 1, adam, seed=1)
    slow = recipe000.sequential(probes, generator, adam, starts)
    fast = recipe000.sequential(probes, generator, replace(adam, optimiser="lbfgs"), starts)
    assert fast.losses[0] < slow.losses[0]
