"""Your own generator on the record: `python examples/own_generator.py FOLDER` makes a ledger and logs four pictures.

The lines between the rules are all that a generator needs; below them it is registered, wrapped and used.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from plausible.attribution.generators import Generator, register_architecture, save_model_folder
from plausible.ledger import Ledger
from torch import Tensor, nn

# ----------------------------------------------------------------------------------------------------------------------


class Blobs(nn.Module):
    """Latents [B, 8] to pictures [B, 3, 32, 32] in [-1, 1]."""

    latent_dim, image_shape = 8, (3, 32, 32)

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(8, width), nn.Tanh(), nn.Linear(width, 3 * 32 * 32), nn.Tanh())

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(z).view(-1, 3, 32, 32)


@register_architecture("example-blobs")
def build(config: Mapping[str, Any]) -> nn.Module:
    """What a model folder with this architecture is built from: only its own configuration."""
    return Blobs(int(config["width"]))


SAMPLING = {"output_range": [-1, 1], "rounding": "mul127.5_add128_trunc"}
# ----------------------------------------------------------------------------------------------------------------------


def make_model(folder: Path) -> Generator:
    """A model folder with fixed weights (an own model would be trained here)."""
    torch.manual_seed(0)
    return save_model_folder(folder, "blobs", Blobs(64), "example-blobs", {"width": 64}, SAMPLING)


def main(folder: Path) -> list[int]:
    """Log four pictures and return their indexes."""
    model = make_model(folder / "blobs")
    with Ledger.init(folder / "studio.ledger", author="models.example/studio") as ledger:
        ledger.register_model("blobs", folder=folder / "blobs")

        generate = ledger.wrap(model.sample, model="blobs", latent=(8,))  # takes no z from you: it draws committed ones
        generate(4)
        ledger.flush()
        return [index for index, _entry, _record in ledger.records()]


if __name__ == "__main__":
    print("logged at", main(Path(sys.argv[1])))
