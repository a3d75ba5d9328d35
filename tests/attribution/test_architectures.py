"""Architectures of other packages: found by entry point, loaded only when a manifest names them, failing in one way."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from plausible.attribution.generators import fresh, known_architectures, load_model_folder, save_model_folder
from plausible.attribution.generators.registry import build
from plausible.schemas.errors import SetupError

from .conftest import UNIT

MODULE = """
import torch
class Flat(torch.nn.Module):
    latent_dim, image_shape = 4, (1, 2, 2)
    def __init__(self, gain):
        super().__init__()
        self.layer = torch.nn.Linear(4, 4)
        self.gain = gain
    def forward(self, z):
        return (self.gain * self.layer(z)).sigmoid().reshape(-1, 1, 2, 2)
def build(config):
    return Flat(config["gain"])
def wrong(config):
    return object()
number = 3
"""


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A distribution on sys.path that nobody installed: metadata with entry points, and a module."""
    name = f"third_party_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text(MODULE)
    info = tmp_path / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    points = {
        f"{name}-flat": f"{name}:build", f"{name}-absent": f"{name}_absent:build", f"{name}-number": f"{name}:number",
        f"{name}-wrong": f"{name}:wrong", "dcgan-64": f"{name}:wrong",
    }  # fmt: skip
    lines = [f"{key} = {value}" for key, value in points.items()]
    (info / "entry_points.txt").write_text("[plausible.architectures]\n" + "\n".join(lines) + "\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield name
    sys.modules.pop(name, None)


def test_listing_runs_no_code_and_building_does(package: str) -> None:
    assert f"{package}-flat" in known_architectures()
    assert package not in sys.modules
    module = build(f"{package}-flat", {"gain": 2.0})
    assert package in sys.modules
    assert module(torch.zeros(1, 4)).shape == (1, 1, 2, 2)


def test_a_model_folder_of_it_round_trips(package: str, tmp_path: Path) -> None:
    module = fresh(f"{package}-flat", {"gain": 2.0}, 1)
    saved = save_model_folder(tmp_path / "m", "m", module, f"{package}-flat", {"gain": 2.0}, UNIT)
    loaded = load_model_folder(tmp_path / "m", saved.digest)
    z = saved.latent.draw(3, torch.Generator().manual_seed(0))
    assert torch.equal(saved.sample(z), loaded.sample(z))


@pytest.mark.parametrize(
    ("suffix", "reason"), [("absent", "does not load"), ("number", "no builder but a int"), ("wrong", "latent_dim")]
)
def test_a_broken_package_is_a_setup_error(package: str, suffix: str, reason: str) -> None:
    with pytest.raises(SetupError, match=reason):
        build(f"{package}-{suffix}", {})


def test_a_package_cannot_take_the_name_of_one_that_ships(package: str) -> None:
    assert type(build("dcgan-64", {"latent": 4, "width": 2})).__name__ == "DCGAN64"
    assert package not in sys.modules


def test_two_packages_with_one_name_are_an_error(package: str, tmp_path: Path) -> None:
    info = tmp_path / "other-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[plausible.architectures]\n{package}-flat = other:build\n")
    with pytest.raises(SetupError, match="several installed packages"):
        build(f"{package}-flat", {"gain": 2.0})
    assert package not in sys.modules


def test_fresh_weights_follow_the_seed_and_leave_the_global_state_alone() -> None:
    config = {"latent": 4, "width": 2}
    before = torch.random.get_rng_state()
    first, again, other = (fresh("dcgan-64", config, seed).state_dict() for seed in (5, 5, 6))
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert not torch.equal(first["main.0.weight"], other["main.0.weight"])
