"""A real ledger with a real (tiny) generator, for the replay, coverage and verifier tests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image as Pillow
from plausible.attribution.generators import Generator, load_model_folder, save_model_folder
from plausible.attribution.generators.mlp import MLPDecoder
from plausible.ledger import Ledger

AUTHOR = "models.example/studio"
WITNESSES = ("one.example/witness", "two.example/witness", "three.example/witness")
UNIT = {"output_range": [0, 1], "rounding": "mul255_add0.5_floor"}
SIDE = 20
LATENT = 8

Pixels = NDArray[np.uint8]


def model_folder(path: Path, seed: int, *, latent: int = LATENT, side: int = SIDE, contrast: float = 3.0) -> Path:
    """A model folder of an MLP with random weights whose pictures vary smoothly."""
    rng = torch.Generator().manual_seed(seed)
    module = MLPDecoder(latent, [24], (3, side, side))
    state = module.state_dict()
    with torch.no_grad():
        for name, tensor in state.items():
            tensor.copy_(torch.randn(tensor.shape, generator=rng) * (0.0 if name.endswith("bias") else 0.5))
        last = [name for name in state if name.endswith("weight")][-1]
        rows = state[last].reshape(3, side, side, -1).permute(3, 0, 1, 2)
        smooth = torch.nn.functional.avg_pool2d(rows, 5, stride=1, padding=2)
        state[last].copy_((smooth * contrast).permute(1, 2, 3, 0).reshape(state[last].shape))
    module.load_state_dict(state)
    config: dict[str, Any] = {"latent": latent, "hidden": [24], "height": side, "width": side, "channels": 3}
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
        from plausible.ledger.digests import pixel_digest

        indices = [ledger.find(pixels=pixel_digest(p))[0] for p in made]
    return Studio(path, load_model_folder(folder), made, indices, folder)


def save(path: Path, pixels: Pixels, **options: Any) -> Path:
    """Write pixels as a picture file of the suffix's format."""
    Pillow.fromarray(pixels).save(path, **options)
    return path
