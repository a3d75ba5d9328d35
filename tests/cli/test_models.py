"""`pd models add` of bad generators: refused with a reason, registered only on purpose."""

from __future__ import annotations

from pathlib import Path

import torch
from plausible.attribution.generators import fresh, save_model_folder

UNIT = {"output_range": [0, 1], "rounding": "mul255_add0.5_floor"}
CONFIG = {"latent": 6, "hidden": [8], "height": 8, "width": 8, "channels": 3}


def blind(folder: Path) -> Path:
    """A model folder whose generator gives one picture whatever its latent."""
    module = fresh("mlp-decoder", CONFIG, 0)
    with torch.no_grad():
        module.get_parameter("main.0.weight").zero_()
    save_model_folder(folder, "blind", module, "mlp-decoder", CONFIG, UNIT)
    return folder


def test_a_generator_that_ignores_its_latent_is_not_registered(pd, studio, tmp_path: Path) -> None:
    folder = blind(tmp_path / "blind")
    refused = pd("models", "add", folder, "--ledger", studio.ledger)
    assert refused.code == 4
    assert "ignores its latent" in refused.sentence()
    rows = pd("models", "list", "--ledger", studio.ledger, "--json").document()["models"]
    assert [row["name"] for row in rows] == ["blobs"]
    forced = pd("models", "add", folder, "--unchecked", "--ledger", studio.ledger)
    assert (forced.code, forced.out.split()[0]) == (0, "blind")


def test_an_architecture_that_is_not_here_is_registered_with_a_note(pd, studio, tmp_path: Path) -> None:
    folder = tmp_path / "far"
    save_model_folder(folder, "far", fresh("mlp-decoder", CONFIG, 0), "of-somebody-else", CONFIG, UNIT)
    added = pd("models", "add", folder, "--ledger", studio.ledger)
    assert added.code == 0
    assert "of-somebody-else is not installed here" in added.err
