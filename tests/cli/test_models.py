"""`pd models add` of bad generators: refused with a reason, registered only on purpose. `pd models convert`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from plausible.attribution.generators import fresh, load_model_folder, save_model_folder
from safetensors.torch import save_file

from tests.attribution.checkpoints import dcgan_state, pggan_state, stylegan_state

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


def checkpoint(path: Path, state: dict[str, torch.Tensor]) -> Path:
    save_file({key: value.contiguous() for key, value in state.items()}, path)
    return path


def test_convert_makes_a_folder_that_can_be_added(pd, studio, tmp_path: Path) -> None:
    file = checkpoint(tmp_path / "g.safetensors", stylegan_state())
    arguments = ("--psi", "0.7", "--cutoff", "4", "--rounding", "round_half_even_255")
    made = pd("models", "convert", file, "--layout", "genforce-stylegan", "--out", tmp_path / "faces", *arguments)
    assert made.code == 0
    name, digest, architecture = made.out.split()
    assert (name, architecture) == ("faces", "stylegan")
    generator = load_model_folder(tmp_path / "faces", digest)
    sampling = generator.manifest["sampling"]
    assert sampling["noise_mode"] == "const"
    assert sampling["rounding"] == "round_half_even_255"
    added = pd("models", "add", tmp_path / "faces", "--ledger", studio.ledger)
    assert (added.code, added.out.split()[1]) == (0, digest)


def test_convert_of_an_own_state_dict(pd, tmp_path: Path) -> None:
    file = checkpoint(tmp_path / "own.safetensors", dcgan_state())
    (tmp_path / "config.json").write_text(json.dumps({"latent": 5, "width": 2}))
    own = ("--layout", "own", "--architecture", "dcgan-64", "--config", tmp_path / "config.json")
    made = pd("models", "convert", file, "--out", tmp_path / "a", *own, "--low", "-1", "--high", "1",
              "--rounding", "mul255_add0.5_floor")  # fmt: skip
    assert made.code == 0
    same = pd("models", "convert", file, "--out", tmp_path / "b", "--layout", "pytorch-dcgan")
    assert same.code == 0
    assert pd("models", "convert", file, "--out", tmp_path / "c", *own, "--low", "-1").code == 2
    (tmp_path / "config.json").write_text("[1]")
    assert pd("models", "convert", file, "--out", tmp_path / "c", *own).code == 4


@pytest.mark.parametrize(
    ("layout", "code", "reason"),
    [("pytorch-dcgan", 4, "is missing"), ("nobodys", 2, "known are"), ("own", 2, "needs the name")],
)
def test_convert_refuses_what_does_not_fit(pd, tmp_path: Path, layout: str, code: int, reason: str) -> None:
    file = checkpoint(tmp_path / "g.safetensors", pggan_state())
    result = pd("models", "convert", file, "--layout", layout, "--out", tmp_path / "x")
    assert result.code == code
    assert reason in result.sentence()
    assert not (tmp_path / "x").exists()
    torch.save(pggan_state(), tmp_path / "g.pth")
    pickled = pd("models", "convert", tmp_path / "g.pth", "--layout", "genforce-pggan", "--out", tmp_path / "x")
    assert pickled.code == 4
    assert "pickle" in pickled.sentence()


def test_strength_shows_what_calibrations_support(pd, tmp_path: Path) -> None:
    folder = tmp_path / "faces"
    (folder / "calibrations").mkdir(parents=True)
    (folder / "manifest.json").write_text("{}")
    shipped = Path(__file__).resolve().parents[2] / "examples" / "faces" / "calibrations"
    name = next(p for p in sorted(shipped.glob("inversion-*.json")) if b'"unprocessed"' in p.read_bytes())
    assert pd("models", "strength", folder).code == 4
    shutil.copy(name, folder / "calibrations")
    result = pd("models", "strength", folder, "--plot", tmp_path / "plots")
    assert result.code == 0
    head, row = result.out.splitlines()
    assert head.split()[:3] == ["class", "own", "others"]
    assert row.split()[:3] == ["unprocessed", "100", "31"]
    assert (tmp_path / "plots" / "unprocessed.svg").read_bytes().startswith(b"<?xml")
    # a picture that is there is not written over, unless asked for
    assert pd("models", "strength", folder, "--plot", tmp_path / "plots").code == 2
    found = json.loads(pd("models", "strength", folder, "--json").out)
    unprocessed = found["calibrations"][0]["classes"]["unprocessed"]
    assert (found["format"], unprocessed["own"]) == ("plausible.strength/1", 100)
    assert unprocessed["bounds"][0] < 0 < unprocessed["bounds"][1]
