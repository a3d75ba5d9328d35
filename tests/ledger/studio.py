"""What the storage and recorder tests share: small ledgers in real directories, with manifests and pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from plausible.ledger import Ledger
from plausible.ledger.entries.digests import model_manifest

AUTHOR = "models.example/studio"
WITNESSES = ("one.example/witness", "two.example/witness", "three.example/witness")


def manifest(latent: int = 8, tensors: Any = ()) -> dict[str, Any]:
    """A manifest with a latent and floats on [-1, 1]."""
    sampling = {"output_range": [-1, 1], "rounding": "mul127.5_add128_trunc"}
    rows = tensors or [("w", "float32", [1], bytes(32))]
    return model_manifest("tests-mlp", {"latent": latent}, sampling, rows)


def picture(number: int, size: int = 16) -> NDArray[np.uint8]:
    """uint8 [size, size, 3], another one for every number."""
    return np.random.default_rng(number).integers(0, 256, (size, size, 3), dtype=np.uint8)


def make(path: Path, *, witnesses: tuple[str, ...] = WITNESSES, model: bool = True, **options: Any) -> Ledger:
    """A fresh ledger with a registered model `m`; options go to `Ledger.open`."""
    ledger = Ledger.init(path, author=AUTHOR, witnesses=witnesses)
    if model:
        ledger.register_model("m", manifest=manifest())
    if options:
        ledger.close()
        ledger = Ledger.open(path, **options)
    return ledger
