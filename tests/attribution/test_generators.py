"""Model folders: what loads is what was saved, and what does not fit its manifest does not load."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from plausible.attribution.generators import (
    LatentSpec,
    OutputSpec,
    load_model_folder,
    register_architecture,
    save_model_folder,
)
from plausible.attribution.generators.dcgan import DCGAN64
from plausible.attribution.generators.mlp import MLPDecoder
from plausible.schemas.errors import EvidenceError, SetupError, UsageError
from safetensors.torch import load_file, save_file

from .conftest import SIGNED, UNIT, small_dcgan, small_mlp

CONFIG = {"latent": 8, "width": 4, "channels": 3}


def folder_of(path: Path) -> Path:
    save_model_folder(path / "faces", "faces", small_dcgan(0), "dcgan-64", CONFIG, SIGNED)
    return path / "faces"


def test_round_trip_keeps_digest_and_samples(tmp_path: Path) -> None:
    saved = save_model_folder(tmp_path / "faces", "faces", small_dcgan(0), "dcgan-64", CONFIG, SIGNED)
    z = saved.latent.draw(3, torch.Generator().manual_seed(5))
    loaded = load_model_folder(tmp_path / "faces", expected_digest=saved.digest)
    assert loaded.digest == saved.digest
    assert torch.equal(loaded.sample(z), saved.sample(z))
    assert loaded.sample(z).shape == (3, 64, 64, 3)
    assert int(loaded.sample(z).max()) > int(loaded.sample(z).min())


def test_one_weight_changes_the_digest(tmp_path: Path) -> None:
    module = small_dcgan(0)
    first = save_model_folder(tmp_path / "a", "a", module, "dcgan-64", CONFIG, SIGNED)
    with torch.no_grad():
        next(module.parameters())[0, 0, 0, 0] += 1e-3
    second = save_model_folder(tmp_path / "b", "b", module, "dcgan-64", CONFIG, SIGNED)
    assert first.digest != second.digest
    with pytest.raises(EvidenceError, match="not the expected"):
        load_model_folder(tmp_path / "b", expected_digest=first.digest)


def test_a_folder_is_not_overwritten_by_another_model(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    with pytest.raises(UsageError, match="already holds"):
        save_model_folder(folder, "faces", small_dcgan(1), "dcgan-64", CONFIG, SIGNED)


def rewritten(folder: Path, **changed: torch.Tensor) -> None:
    state = load_file(folder / "weights.safetensors")
    state.update(changed)
    save_file(state, folder / "weights.safetensors")


def test_changed_weights_do_not_load(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    rewritten(folder, **{"main.0.weight": torch.zeros(8, 32, 4, 4)})
    with pytest.raises(EvidenceError, match="not those of its manifest"):
        load_model_folder(folder)


def test_nan_weights_do_not_load(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    rewritten(folder, **{"main.0.weight": torch.full((8, 32, 4, 4), float("nan"))})
    with pytest.raises(EvidenceError, match="NaN"):
        load_model_folder(folder)


def test_wrong_shapes_and_missing_tensors_do_not_load(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    rewritten(folder, **{"main.0.weight": torch.zeros(8, 31, 4, 4)})
    with pytest.raises(EvidenceError):
        load_model_folder(folder)
    # the manifest itself agrees with the tensors, but the architecture it names does not
    wide = {"latent": 8, "width": 8, "channels": 3}
    save_model_folder(tmp_path / "wide", "wide", small_dcgan(0), "dcgan-64", wide, SIGNED)
    with pytest.raises(EvidenceError, match="do not fit"):
        load_model_folder(tmp_path / "wide")


class Bomb:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path("/tmp/plausible-test-was-unpickled"),))  # type: ignore[return-value]


def test_pickles_and_truncated_files_are_refused_unread(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    weights = folder / "weights.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(EvidenceError, match="pickle"):
        load_model_folder(folder)
    assert not Path("/tmp/plausible-test-was-unpickled").exists()
    torch.save({"main.0.weight": torch.zeros(2)}, weights)
    with pytest.raises(EvidenceError, match="pickle or torch archive"):
        load_model_folder(folder)
    for length in (0, 1, 7, 8, 100, len(whole) // 2, len(whole) - 1):
        weights.write_bytes(whole[:length])
        with pytest.raises(EvidenceError, match="safetensors"):
            load_model_folder(folder)
    weights.unlink()
    with pytest.raises(SetupError, match="missing"):
        load_model_folder(folder)


def test_unknown_architecture_names_the_known_ones(tmp_path: Path) -> None:
    folder = folder_of(tmp_path)
    manifest = folder / "manifest.json"
    manifest.write_bytes(manifest.read_bytes().replace(b'"dcgan-64"', b'"dcgan-65"'))
    with pytest.raises(SetupError, match=r"dcgan-64.*mlp-decoder"):
        load_model_folder(folder)


@pytest.mark.parametrize(
    "damage",
    [b"", b"{}", b"[]", b"not json", b'{"architecture":1,"config":{},"sampling":{},"tensors":[]}', b"\xff\xfe"],
)
def test_bad_manifests_raise_one_kind(tmp_path: Path, damage: bytes) -> None:
    folder = folder_of(tmp_path)
    (folder / "manifest.json").write_bytes(damage)
    with pytest.raises((EvidenceError, SetupError)):
        load_model_folder(folder)


@pytest.mark.parametrize(("key", "value"), [("latent", 0), ("latent", "8"), ("width", 10**9), ("other", 1)])
def test_bad_configs_raise_one_kind(tmp_path: Path, key: str, value: object) -> None:
    config = {**CONFIG, key: value}
    save_model_folder(tmp_path / "m", "m", small_dcgan(0), "dcgan-64", config, SIGNED)
    with pytest.raises(EvidenceError, match="config"):
        load_model_folder(tmp_path / "m")


def test_tied_tensors_are_listed_under_every_name(tmp_path: Path) -> None:
    class Tied(MLPDecoder):
        def __init__(self) -> None:
            super().__init__(4, [4, 4], (1, 2, 2))
            self.main[2].weight = self.main[0].weight

    register_architecture("tied-test")(lambda config: Tied())
    saved = save_model_folder(tmp_path / "tied", "tied", Tied(), "tied-test", {}, UNIT)
    assert {"main.0.weight", "main.2.weight"} <= {row["name"] for row in saved.manifest["tensors"]}
    assert load_model_folder(tmp_path / "tied").digest == saved.digest


def test_an_architecture_cannot_be_replaced() -> None:
    with pytest.raises(UsageError, match="registered already"):
        register_architecture("dcgan-64")(lambda config: DCGAN64())


@pytest.mark.parametrize(
    ("rounding", "unit", "level"),
    [
        ("mul255_add0.5_floor", 0.5 / 255, 1),
        ("round_half_even_255", 0.5 / 255, 0),
        ("round_half_even_255", 1.5 / 255, 2),
        ("mul127.5_add128_trunc", 0.0, 0),
        ("mul127.5_add128_trunc", 1.0, 255),
        ("mul255_add0.5_floor", 1.0, 255),
        ("mul255_add0.5_floor", 200.4 / 255, 200),
        ("round_half_even_255", 200.6 / 255, 201),
    ],
)
def test_rounding_rules(rounding: str, unit: float, level: int) -> None:
    spec = OutputSpec(1, 1, 1, 0.0, 1.0, rounding)  # type: ignore[arg-type]
    assert int(spec.to_uint8(torch.full((1, 1, 1, 1), unit, dtype=torch.float32))) == level


def test_priors_draw_what_they_say() -> None:
    rng = torch.Generator().manual_seed(1)
    sphere = LatentSpec(64, "sphere").draw(5, rng)
    assert torch.allclose(sphere.norm(dim=1), torch.full((5,), 8.0), atol=1e-4)
    uniform = LatentSpec(64, "uniform").draw(200, rng)
    assert float(uniform.abs().max()) <= 1
    assert abs(float(uniform.var()) - 1 / 3) < 0.02


def test_images_are_differentiable_and_on_the_unit_scale() -> None:
    generator, _ = small_mlp(2)
    z = torch.zeros(2, 6, requires_grad=True)
    images = generator.images(z)
    assert images.shape == (2, 3, 12, 12)
    assert bool((images >= 0).all())
    assert bool((images <= 1).all())
    (gradient,) = torch.autograd.grad(images.sum(), z)
    assert float(gradient.abs().sum()) > 0
