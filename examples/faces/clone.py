"""A fine-tuned clone of the face generator: the nearest relative that somebody might make and deny, or be blamed for.

240 Adam steps (lr 2e-4) move all weights of the original towards recoloured pictures of its own: what a small
fine-tuning to a house style does. Its pictures still look like the original's; every weight has moved, all of them
together by about 5 % of their norm. `NEAR_STEPS` makes a nearer relative (2.7 %), some of whose faces hardly differ
from what the original can make.
"""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from plausible.attribution.generators import Generator, load_model_folder, save_model_folder

from .fetch import CONFIG, SAMPLING, face_generator

STEPS = 240
NEAR_STEPS = 60
RATE = 2e-4
BATCH = 16
# warmer, darker in the blues: rows are the new red, green and blue
RECOLOUR = ((1.0, 0.10, 0.0), (0.05, 0.95, 0.0), (0.0, 0.05, 0.80))


def fine_tune(original: Generator, seed: int, steps: int = STEPS, rate: float = RATE) -> torch.nn.Module:
    """A copy of the original's module after `steps` Adam steps towards its recoloured samples; BatchNorm fixed."""
    rng = torch.Generator().manual_seed(seed)
    module = copy.deepcopy(original.module).eval().requires_grad_(True)
    matrix = torch.tensor(RECOLOUR)
    optimiser = torch.optim.Adam(module.parameters(), lr=rate)
    for _ in range(steps):
        z = original.latent.draw(BATCH, rng)
        with torch.no_grad():
            unit = original.images(z).clamp(0, 1)
            target = torch.einsum("rc,bchw->brhw", matrix, unit).clamp(0, 1) * 2 - 1
        loss = torch.nn.functional.mse_loss(module(z), target)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return module.eval().requires_grad_(False)


def clone_generator(folder: Path, seed: int = 1, original: Generator | None = None, *, steps: int = STEPS) -> Generator:
    """The clone as a model folder at `folder` (made if it is not there), loaded."""
    if not (folder / "manifest.json").is_file():
        module = fine_tune(original or face_generator(), seed, steps)
        save_model_folder(folder, "faces-clone", module, "dcgan-64", CONFIG, SAMPLING)
    return load_model_folder(folder, name="faces-clone")
