"""A real ledger with a real (tiny) generator, for the replay, coverage and verifier tests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as Pillow
from plausible.attribution.calibration.document import Negative, calibrate
from plausible.attribution.copies.limits import calibrate_copies
from plausible.attribution.generators import Generator, load_model_folder, save_model_folder
from plausible.attribution.generators.mlp import MLPDecoder
from plausible.attribution.inversion.budget import Budget
from plausible.ledger import Ledger

AUTHOR = "models.example/studio"
WITNESSES = ("one.example/witness", "two.example/witness", "three.example/witness")
UNIT = {"output_range": [0, 1], "rounding": "mul255_add0.5_floor"}
SIDE = 32
LATENT = 12

Pixels = NDArray[np.uint8]


def model_folder(path: Path, seed: int, *, latent: int = LATENT, side: int = SIDE, hidden: int = 24) -> Path:
    """A model folder of an MLP with random weights: smooth pictures, much grey and a little colour, nearly symmetric.

    Like faces they change little when they are mirrored, cropped a little or saved as JPEG.
    """
    rng = torch.Generator().manual_seed(seed)
    module = MLPDecoder(latent, [hidden], (3, side, side), "sigmoid")
    state = module.state_dict()

    def fields(count: int, width: int) -> torch.Tensor:
        noise = torch.randn(count, 1, side + 2 * width, side + 2 * width, generator=rng)
        smooth = torch.nn.functional.avg_pool2d(noise, 2 * width + 1, stride=1)
        smooth = smooth + smooth.flip(3) + 0.15 * smooth
        return smooth / smooth.std()

    with torch.no_grad():
        for name, tensor in state.items():
            tensor.copy_(torch.randn(tensor.shape, generator=rng) * (0.5 if name.startswith("main.0") else 0.0))
        grey = fields(hidden, 4) + 0.12 * fields(hidden, 2)
        rows = 0.8 * (grey + 0.06 * fields(3 * hidden, 5).reshape(hidden, 3, side, side))
        rows -= rows.mean(0)
        state["main.2.weight"].copy_(rows.reshape(hidden, -1).T)
    module.load_state_dict(state)
    config: dict[str, Any] = {
        "latent": latent,
        "hidden": [hidden],
        "height": side,
        "width": side,
        "channels": 3,
        "activation": "sigmoid",
    }
    save_model_folder(path, path.name, module.eval(), "mlp-decoder", config, UNIT)
    return path


@dataclass
class Studio:
    """A ledger, its generator, and the pictures it logged (with their indices in the log)."""

    path: Path
    generator: Generator
    pictures: list[Pixels]
    indices: list[int]
    folder: Path

    @property
    def policy(self) -> bytes:
        return (self.path / "policy.txt").read_bytes()

    @property
    def authors(self) -> bytes:
        return (self.path / "authors.txt").read_bytes()


def make_studio(path: Path, *, pictures: int = 6, seed: int = 1, batch: int = 2, **wrap: Any) -> Studio:
    """A witnessed ledger of `pictures` generations, made in batches through `ledger.wrap`."""
    folder = model_folder(path.parent / "weights" / "mlp", seed)
    generator = load_model_folder(folder)
    made: list[Pixels] = []
    with Ledger.init(path, author=AUTHOR, witnesses=WITNESSES) as ledger:
        ledger.register_model("mlp", folder=folder)
        generate = ledger.wrap(generator.module, model="mlp", latent=(LATENT,), **wrap)
        while len(made) < pictures:
            raw = generate(min(batch, pictures - len(made)))
            made += list(generator.output.to_uint8(raw.detach()).numpy())
        ledger.flush()
        from plausible.ledger.entries.digests import pixel_digest

        indices = [ledger.find(pixels=pixel_digest(p))[0] for p in made]
    return Studio(path, load_model_folder(folder), made, indices, folder)


def save(path: Path, pixels: Pixels, **options: Any) -> Path:
    """Write pixels as a picture file of the suffix's format."""
    Pillow.fromarray(pixels).save(path, **options)
    return path


BUDGET = Budget(
    adam_starts=2, adam_steps=6, lm_starts=1, lm_iterations=12, lm_chords=1, rounds=3, exact_iterations=2
)  # fmt: skip


def blocks(seed: int) -> Pixels:
    """A picture of random coloured blocks: no generator of these tests makes such a thing, and JPEG keeps it."""
    rng = np.random.default_rng([77, seed])
    return np.repeat(np.repeat(rng.integers(0, 2, (4, 4, 3)) * 255, SIDE // 4, 0), SIDE // 4, 1).astype(np.uint8)


def fresh(generator: Generator, seed: int, count: int = 1) -> list[Pixels]:
    """Pictures of latents that were never logged."""
    z = generator.latent.draw(count, torch.Generator().manual_seed(seed))
    return list(generator.sample(z).numpy())


def calibrate_folder(folder: Path, classes: tuple[str, ...] = ("unprocessed",)) -> None:
    """Both calibrations of a model folder, really measured, of the smallest size that gives limits."""
    generator = load_model_folder(folder)
    negatives = [Negative("blocks", str(i), blocks(i)) for i in range(29)]
    calibrate(
        folder, classes=classes, n=29, budget=BUDGET, negatives=dict.fromkeys(classes, negatives), threads=1,
        command="tests",
    )  # fmt: skip
    data = calibrate_copies(
        lambda count, seed: fresh(generator, seed, count), generator.digest, seed=3, pictures=30, rows=29
    )
    (folder / "calibrations" / "copies.json").write_bytes(data)
