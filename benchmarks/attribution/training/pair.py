"""004's two MNIST GANs trained on 10,000 real digits in CPU minutes, checked for health, kept under .cache/gans/.

    python -m benchmarks.attribution.training pair               # goes on where it stopped; prints both healths
    python -m benchmarks.attribution.training pair --minutes 8   # a piece of it

004 trains 50 epochs of 60,000 digits in batches of 256, which costs hours here. Departures, all of the training: 10,000
digits, batches of 32, fewer steps (`STEADY`), Adam with beta1 0.5, and what steady.py lists. The generators are the
published ones at their published width. 004's printed rate of 0.1 stays in `gans.PAPER`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from plausible.attribution.generators import Generator, load_model_folder, make_generator, save_model_folder
from plausible.schemas.errors import SetupError

from benchmarks.attribution.training import critics
from benchmarks.attribution.training.gans import SAMPLING, Family
from benchmarks.attribution.training.health import Health, Judge
from benchmarks.attribution.training.steady import Pixels, Steady, Training
from benchmarks.data import more_mnist

CACHE = Path(__file__).resolve().parents[3] / ".cache" / "gans"
FAMILIES: tuple[Family, ...] = ("brownlee-mnist", "dcgan-mnist")
STEADY = Steady(steps=3000)
SLICE = 50
SAVE_SECONDS = 120.0
SEED = 1
LEAST_STEPS = 500
"""Below this nothing is handed out: the running mean still holds what the first pictures were."""


def training(family: Family, seed: int = SEED, recipe: Steady = STEADY, folder: Path = CACHE) -> Training:
    """The training of one family as far as it came."""
    pictures, labels = more_mnist()
    low = -1.0 if family == "dcgan-mnist" else 0.0
    made = Training(
        family, {"latent": recipe.latent}, critics.of_digits, pictures[:, None], recipe, seed=seed, low=low,
        labels=labels,
    )  # fmt: skip
    path = checkpoint(family, seed, folder)
    if path.is_file():
        made.load(path)
    return made


def checkpoint(family: Family, seed: int = SEED, folder: Path = CACHE) -> Path:
    """Where a training is kept."""
    return folder / f"{family}-{seed}.pt"


def train_both(
    seed: int = SEED,
    recipe: Steady = STEADY,
    *,
    folder: Path = CACHE,
    minutes: float | None = None,
    say: Callable[[str], None] = print,
) -> list[Training]:
    """Advance both side by side to the recipe's end, or for so many minutes; kept every two minutes and at the end."""
    folder.mkdir(parents=True, exist_ok=True)
    until = None if minutes is None else time.monotonic() + 60 * minutes
    both: dict[Family, Training] = {family: training(family, seed, recipe, folder) for family in FAMILIES}

    def keep() -> None:
        for family, one in both.items():
            one.save(checkpoint(family, seed, folder))

    kept = time.monotonic()
    while not all(one.done for one in both.values()) and not (until is not None and time.monotonic() > until):
        for one in both.values():
            one.advance(SLICE, until)
        if time.monotonic() - kept > SAVE_SECONDS:
            keep()
            kept = time.monotonic()
            say(", ".join(f"{family} {one.step} steps" for family, one in both.items()))
    keep()
    return list(both.values())


def as_generator(family: Family, one: Training) -> Generator:
    """The running mean of a training as a frozen generator."""
    return make_generator(family, one.result(), family, {"latent": one.recipe.latent}, SAMPLING[family])


def generators(seed: int = SEED, folder: Path = CACHE) -> dict[Family, tuple[Generator, int, float]]:
    """Family -> (generator, steps made, CPU seconds of training); `SetupError` if they are not trained yet."""
    found: dict[Family, tuple[Generator, int, float]] = {}
    for family in FAMILIES:
        one = training(family, seed, folder=folder) if checkpoint(family, seed, folder).is_file() else None
        if one is None or one.step < LEAST_STEPS:
            raise SetupError(
                f"{family} is not trained: python -m benchmarks.attribution.training pair (minutes on a quiet core)"
            )
        path = folder / f"{family}-{seed}-{one.step}"
        if not (path / "manifest.json").is_file():
            config: dict[str, object] = {"latent": one.recipe.latent}
            save_model_folder(path, family, one.result(), family, config, SAMPLING[family])
        found[family] = load_model_folder(path, name=family), one.step, one.seconds
    return found


def health(generator: Generator, judge: Judge, seed: int = 0) -> Health:
    """What the digit classifier says of fresh pictures of a generator."""

    def draw(count: int) -> Pixels:
        rng = torch.Generator().manual_seed(seed)
        return np.concatenate([generator.sample(generator.latent.draw(250, rng)).numpy() for _ in range(count // 250)])

    return judge.sampled(draw)


def told(name: str, health: Health) -> str:
    """One line of a health."""
    shares = " ".join(f"{share:.3f}" for share in health.classes)
    return (
        f"{name}: recognised {health.recognised:.3f}, rarest digit {health.rarest:.3f}, variety {health.variety:.2f}, "
        f"distance {health.distance:.2f}; digits 0 to 9: {shares}"
    )
