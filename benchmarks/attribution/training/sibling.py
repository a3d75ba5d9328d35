"""A sibling of the face generator: a DCGAN-64 trained from scratch on faces that the generator made, kept in .cache/.

    python -m benchmarks.attribution.training sibling --minutes 8    # goes on where it stopped

The same architecture and subject, other weights: what another company's generator of the same kind would be. It is
a rough one: `RECIPE.steps` steps of 32 pictures on 4,096 faces, where such networks are trained for hundreds of
thousands. What the evidence says of it is that of a stranger with the same style, not that of a rival of equal quality.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from plausible.attribution.generators import Generator, load_model_folder, save_model_folder
from plausible.schemas.errors import SetupError

from benchmarks.attribution.training import critics
from benchmarks.attribution.training.steady import Pixels, Steady, Training
from examples.faces.fetch import CONFIG, SAMPLING, face_generator

CACHE = Path(__file__).resolve().parents[3] / ".cache" / "gans"
RECIPE = Steady(steps=3000)
FACES, FACES_SEED = 4096, 7_000_000
SEED = 1
SLICE = 20
SAVE_SECONDS = 120.0
LEAST_STEPS = 300


def faces() -> Pixels:
    """uint8 [4096, 3, 64, 64]: what the original makes of latents that serve nowhere else."""
    original, rng = face_generator(), torch.Generator().manual_seed(FACES_SEED)
    made = [original.sample(original.latent.draw(64, rng)).numpy() for _ in range(FACES // 64)]
    return np.ascontiguousarray(np.concatenate(made).transpose(0, 3, 1, 2))


def checkpoint(seed: int = SEED) -> Path:
    """Where the training is kept."""
    return CACHE / f"sibling-{seed}.pt"


def training(seed: int = SEED, data: Pixels | None = None) -> Training:
    """As far as it came; `data` are faces() unless nothing more is trained."""
    made = Training(
        "dcgan-64", CONFIG, critics.of_faces, faces() if data is None else data, RECIPE, seed=seed, low=-1.0
    )
    if checkpoint(seed).is_file():
        made.load(checkpoint(seed))
    return made


def train(seed: int = SEED, *, minutes: float | None = None, say: Callable[[str], None] = print) -> Training:
    """Advance to the recipe's end, or for so many minutes; kept every two minutes and at the end."""
    CACHE.mkdir(parents=True, exist_ok=True)
    until = None if minutes is None else time.monotonic() + 60 * minutes
    one, kept = training(seed), time.monotonic()
    while not one.done and not (until is not None and time.monotonic() > until):
        one.advance(SLICE, until)
        if time.monotonic() - kept > SAVE_SECONDS:
            one.save(checkpoint(seed))
            kept = time.monotonic()
            say(f"sibling {one.step} steps")
    one.save(checkpoint(seed))
    return one


def steps(seed: int = SEED) -> int:
    """Steps made so far; 0 if none was."""
    if not checkpoint(seed).is_file():
        return 0
    return int(torch.load(checkpoint(seed), weights_only=True, map_location="cpu")["step"])


def trained(seed: int = SEED) -> bool:
    """Whether there is one to be measured."""
    return steps(seed) >= LEAST_STEPS


def generator(seed: int = SEED) -> Generator:
    """The running mean as a frozen generator, as a model folder once made; `SetupError` if it is not trained yet."""
    made = steps(seed)
    if made < LEAST_STEPS:
        raise SetupError("the sibling is not trained: python -m benchmarks.attribution.training sibling")
    folder = CACHE / f"sibling-{seed}-{made}"
    if not (folder / "manifest.json").is_file():
        module = training(seed, np.zeros((1, 3, 64, 64), np.uint8)).result()
        save_model_folder(folder, "sibling", module, "dcgan-64", CONFIG, SAMPLING)
    return load_model_folder(folder, name="sibling")
