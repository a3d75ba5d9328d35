"""Pairs of digit auto-encoders, probes of each and how an inversion tells them apart: what E1 to E5 and E9 share.

A probe is the decoder's 8-bit picture of the encoder's code for a digit that nobody trained on. PNG keeps those samples
as they are, so no file is written for it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from plausible.attribution.generators import Generator
from plausible.attribution.inversion import MLP_BUDGET, invert_many
from plausible.attribution.inversion.budget import Budget
from plausible.attribution.scoring.scores import pair_score

from benchmarks.attribution import recipe000
from benchmarks.attribution.training import cached
from benchmarks.attribution.training.autoencoders import AutoEncoder, Pair, Recipe
from benchmarks.data import Pixels
from benchmarks.digits import digits

CHUNK = 100
"""Probes a kept row stands for."""
ENGINE = replace(MLP_BUDGET, exact_iterations=0)
"""The engine's budget where a comparison of losses is all that is asked for: no certificates."""


@dataclass(frozen=True, slots=True)
class DigitPair:
    """One repetition of E1 (`parity`), E2 (`order`) or E3 (`init`)."""

    kind: Pair
    seed: int
    halves: tuple[AutoEncoder, AutoEncoder]
    generators: tuple[Generator, Generator]

    @classmethod
    def trained(
        cls, kind: Pair, seed: int, *, steps: int | None = None, say: Callable[[str], None] | None = None
    ) -> DigitPair:
        """Read, or trained now and kept."""
        recipe = replace(Recipe(), steps=steps or Recipe().steps)
        halves = cached.pair(kind, seed=seed, recipe=recipe, say=say)
        first, second = (half.generator(f"{kind}-{side}-{seed}") for half, side in zip(halves, "ab", strict=True))
        return cls(kind, seed, halves, (first, second))

    def probes(self, side: int, count: int) -> Pixels:
        """uint8 [count, 28, 28, 1] of one half; at `parity` from held-out digits of the half's own kind."""
        found = digits()
        held = found.held
        if self.kind == "parity":
            held = held[found.held_labels % 2 == 1 - side]
        rows = np.random.default_rng((self.seed, side)).permutation(len(held))[:count]
        if len(rows) < count:
            raise ValueError(f"there are only {len(rows)} held-out digits of this kind")
        return self.generators[side].sample(self.halves[side].codes(held[rows])).numpy()


def engine_losses(probes: Pixels, pair: DigitPair, budget: Budget = ENGINE) -> NDArray[np.float64]:
    """[P, 2]: residuals on the first and the second generator."""
    first, second = invert_many(probes, pair.generators, budget, seed=pair.seed, threads=1)
    return np.stack([first.residual, second.residual], axis=1)


def recipe_losses(probes: Pixels, pair: DigitPair, recipe: recipe000.Recipe, seed: int) -> NDArray[np.float64]:
    """[P, 2]: the recipe's losses, Adam's runs side by side, L-BFGS's one after another."""
    run = recipe000.batched if recipe.optimiser == "adam" else recipe000.sequential
    columns = [
        run(probes, one, recipe, recipe000.starts_of(one, len(probes), recipe, seed=seed * 1000 + number)).losses
        for number, one in enumerate(pair.generators)
    ]
    return np.stack(columns, axis=1)


@dataclass(frozen=True, slots=True)
class Told:
    """Losses [P, 2] of the probes of each half, and what follows from them."""

    first: NDArray[np.float64]
    second: NDArray[np.float64]

    @property
    def scores(self) -> tuple[list[float], list[float]]:
        """000 Eq. 4 for probes of the first and of the second half: positive says "the first"."""
        one, two = ([pair_score(a, b) for a, b in losses.tolist()] for losses in (self.first, self.second))
        return one, two

    @property
    def margins(self) -> NDArray[np.float64]:
        """S in favour of the truth, all probes: negative where the answer is wrong."""
        one, two = self.scores
        return np.asarray([*one, *(-s for s in two)])

    @property
    def own(self) -> NDArray[np.float64]:
        """Losses on the probe's own generator."""
        return np.concatenate([self.first[:, 0], self.second[:, 1]])

    @property
    def other(self) -> NDArray[np.float64]:
        """Losses on the other one."""
        return np.concatenate([self.first[:, 1], self.second[:, 0]])

    @property
    def correct(self) -> int:
        """Probes with the smaller loss on their own generator."""
        return int((self.own < self.other).sum())


def told(
    row: Callable[[str, Callable[[], Any]], Any],
    key: str,
    pair: DigitPair,
    count: int,
    losses: Callable[[Pixels], NDArray[np.float64]],
) -> Told:
    """Losses of `count` probes of each half, kept in rows of `CHUNK` probes under `key`."""
    found: list[NDArray[np.float64]] = []
    for side in (0, 1):
        probes = pair.probes(side, count)
        parts = [
            row(f"{key} half {side} from {start}", lambda part=probes[start : start + CHUNK]: losses(part).tolist())
            for start in range(0, count, CHUNK)
        ]
        found.append(np.asarray([line for part in parts for line in part]))
    return Told(found[0], found[1])
