"""What the tests of many pictures share: tiny generators, pictures of theirs, rows read back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from PIL import Image as Pillow
from plausible.attribution.batch.jobs import Asking
from plausible.attribution.batch.run import RESULTS
from plausible.attribution.generators import load_model_folder
from plausible.attribution.inversion.budget import Budget
from plausible.schemas.attribution import AttributionRow

QUICK = Budget(adam_starts=2, adam_steps=10, lm_starts=2, lm_iterations=12, rounds=1)
ASKING = Asking(QUICK, relaxed=False, threads=1)
VARYING = {"seconds", "stages", "time"}


def draw(model: Path, seed: int, path: Path) -> None:
    generator = load_model_folder(model)
    z = generator.latent.draw(1, torch.Generator().manual_seed(seed))
    Pillow.fromarray(generator.sample(z)[0].numpy()).save(path)


def rows_in(folder: Path) -> list[AttributionRow]:
    return [AttributionRow.of_line(line) for line in (folder / RESULTS).read_bytes().splitlines(keepends=True)]


def steady(folder: Path) -> list[dict[str, Any]]:
    """Rows without what differs from run to run."""
    lines = (folder / RESULTS).read_text(encoding="ascii").splitlines()
    return [{name: value for name, value in json.loads(line).items() if name not in VARYING} for line in lines]
