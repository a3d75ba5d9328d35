"""The candidates of a closed set: relatives of the face generator that stand for 004's three networks.

004 chose among three networks that were trained apart. These share their latents and most of their weights, so a
picture of one is nearly a picture of the others: a harder choice than 004's.

    faces     the original (examples/faces/fetch.py)
    tuned     fine-tuned for 240 steps (examples/faces/clone.py)
    shaken    every weight multiplied by 1 + 0.03 N(0, 1) (relatives.py)
"""

from __future__ import annotations

from pathlib import Path

from plausible.attribution.generators import Generator, load_model_folder, save_model_folder

from benchmarks.attribution.relatives import noisy
from benchmarks.attribution.sources import CLONE_SEED
from examples.faces.clone import STEPS, clone_generator
from examples.faces.fetch import CACHE, CONFIG, SAMPLING, face_generator

SHARE = 0.03
SEED = 900_001


def shaken(folder: Path, original: Generator) -> Generator:
    """The original with every weight multiplied by 1 + 0.03 N(0, 1); made if it is not there."""
    if not (folder / "manifest.json").is_file():
        save_model_folder(folder, "faces-shaken", noisy(original, SHARE, SEED), "dcgan-64", CONFIG, SAMPLING)
    return load_model_folder(folder, name="faces-shaken")


def closed_set() -> dict[str, Generator]:
    """Name to generator."""
    faces = face_generator()
    return {
        "faces": faces,
        "tuned": clone_generator(CACHE / f"clone-{CLONE_SEED}-{STEPS}", CLONE_SEED, faces),
        "shaken": shaken(CACHE / f"shaken-{SEED}-{SHARE:g}", faces),
    }
