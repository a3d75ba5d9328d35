"""Published checkpoints convert to networks that make the same pictures, and anything else is refused by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from plausible.attribution.generators import load_model_folder, make_generator
from plausible.attribution.generators.convert import convert_file
from plausible.attribution.generators.layouts import LAYOUTS, Options, convert_state
from plausible.attribution.generators.registry import build
from plausible.attribution.generators.styled import StyledGenerator
from plausible.schemas.errors import EvidenceError, SetupError, UsageError
from safetensors.torch import save_file
from torch import Tensor, nn

from .checkpoints import (
    State,
    dcgan_pictures,
    dcgan_state,
    mimicry_pictures,
    mimicry_state,
    pggan_pictures,
    pggan_state,
    stylegan2_pictures,
    stylegan2_state,
    stylegan_pictures,
    stylegan_state,
)

MEAN = torch.linspace(-0.5, 0.5, 6)

CASES: dict[str, tuple[str, Callable[[], State], Callable[[State, Tensor], Tensor], Options, dict[str, Any]]] = {
    "dcgan": ("pytorch-dcgan", dcgan_state, dcgan_pictures, Options(), {}),
    "sngan": ("mimicry-sngan", mimicry_state, mimicry_pictures, Options(), {}),
    "sagan": ("mimicry-sagan", lambda: mimicry_state(attention=True),
              lambda s, z: mimicry_pictures(s, z, attention_after=2), Options(attention=2), {}),
    "sagan, a class": ("mimicry-sagan", lambda: mimicry_state(attention=True, classes=3),
                       lambda s, z: mimicry_pictures(s, z, attention_after=1, label=2),
                       Options(attention=1, label=2), {}),
    "progan": ("genforce-pggan", pggan_state, pggan_pictures, Options(), {}),
    "progan, tanh": ("genforce-pggan", pggan_state, lambda s, z: pggan_pictures(s, z).tanh(), Options(tanh=True), {}),
    "progan, fused": ("genforce-pggan", lambda: pggan_state(fused=True), lambda s, z: pggan_pictures(s, z, fused=True),
                      Options(fused="always"), {}),
    "stylegan": ("genforce-stylegan", stylegan_state, stylegan_pictures, Options(), {}),
    "stylegan, fused": ("genforce-stylegan", stylegan_state, lambda s, z: stylegan_pictures(s, z, fused=True),
                        Options(fused="always"), {}),
    "stylegan, truncated": ("genforce-stylegan", stylegan_state,
                            lambda s, z: stylegan_pictures(s, z, psi=0.7, layers=3), Options(),
                            {"psi": 0.7, "cutoff": 3}),
    "stylegan2": ("rosinality-stylegan2", stylegan2_state, stylegan2_pictures, Options(), {}),
    "stylegan2, truncated": ("rosinality-stylegan2", lambda: {**stylegan2_state(), "latent_avg": MEAN},
                             lambda s, z: stylegan2_pictures(s, z, psi=0.5, mean=MEAN), Options(), {"psi": 0.5}),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_a_converted_checkpoint_makes_its_publishers_pictures(case: str) -> None:
    layout, state, pictures, options, constants = CASES[case]
    found = convert_state(state(), layout, options)
    module = build(found.architecture, found.config)
    module.load_state_dict(found.state)
    generator = make_generator(case, module, found.architecture, found.config, {**found.sampling, **constants})
    z = generator.latent.draw(3, torch.Generator().manual_seed(0))
    expected = pictures(state(), z)
    assert float(expected.std()) > 0.01
    assert torch.allclose(generator.module(z), expected, atol=2e-5)


def test_every_layout_has_a_case() -> None:
    assert {case[0] for case in CASES.values()} == set(LAYOUTS)


@pytest.mark.parametrize("case", ["dcgan", "sagan", "progan", "stylegan", "stylegan2"])
def test_no_tensor_may_be_missing_unknown_or_of_another_shape(case: str) -> None:
    layout, make, _, options, _ = CASES[case]
    state = make()
    optional = (".num_batches_tracked", "lod", ".kernel", "latent_avg")
    for name in state:
        if name.endswith(optional) or (name.startswith(("output", "synthesis.output")) and not name.count("output2")):
            continue
        with pytest.raises(SetupError):
            convert_state({key: value for key, value in state.items() if key != name}, layout, options)
        other = state[name].expand(2, 1, *state[name].shape)
        with pytest.raises(SetupError):
            convert_state({**state, name: other}, layout, options)
    with pytest.raises(SetupError, match=r"does not have: 'extra\.weight'"):
        convert_state({**state, "extra.weight": torch.zeros(1)}, layout, options)


def test_filters_and_growth_must_be_those_of_the_family() -> None:
    with pytest.raises(SetupError, match="lod"):
        convert_state({**pggan_state(), "lod": torch.tensor(1.0)}, "genforce-pggan")
    blurred = stylegan2_state()
    blurred["convs.0.conv.blur.kernel"] = torch.ones(4, 4) / 4
    with pytest.raises(SetupError, match="blur"):
        convert_state(blurred, "rosinality-stylegan2")


def test_what_a_checkpoint_does_not_say_must_be_said() -> None:
    with pytest.raises(SetupError, match="block 1 or 2"):
        convert_state(mimicry_state(attention=True), "mimicry-sagan")
    with pytest.raises(SetupError, match="3 classes"):
        convert_state(mimicry_state(classes=3), "mimicry-sngan")
    with pytest.raises(UsageError, match="pytorch-dcgan"):
        convert_state(dcgan_state(), "tensorflow")


def test_names_of_parallel_training_and_normalised_weights_are_understood() -> None:
    state = mimicry_state()
    layer = nn.utils.parametrizations.spectral_norm(nn.Conv2d(8, 3, 3, padding=1)).eval()
    normalised = {key: value for key, value in state.items() if not key.startswith("c4.")}
    normalised |= {f"c4.{key}": value for key, value in layer.state_dict().items()}
    found = convert_state({f"module.{key}": value for key, value in normalised.items()}, "mimicry-sngan")
    assert torch.allclose(found.state["conv.weight"], cast(Tensor, layer.weight))


def saved(state: State, path: Path) -> Path:
    save_file({key: value.contiguous() for key, value in state.items()}, path)
    return path


def test_a_file_becomes_a_model_folder(tmp_path: Path) -> None:
    file = saved({f"g_ema.{key}": value for key, value in stylegan2_state().items()}, tmp_path / "g.safetensors")
    arguments: dict[str, Any] = {"layout": "rosinality-stylegan2", "prefix": "g_ema."}
    generator, notes = convert_file(file, tmp_path / "faces", **arguments)
    assert notes == ()
    assert generator.name == "faces"
    loaded = load_model_folder(tmp_path / "faces", generator.digest)
    z = loaded.latent.draw(2, torch.Generator().manual_seed(0))
    assert torch.equal(loaded.sample(z), generator.sample(z))
    with pytest.raises(SetupError, match="no mean style"):
        convert_file(file, tmp_path / "truncated", **arguments, sampling={"psi": 0.5})
    truncated, _ = convert_file(file, tmp_path / "t", **arguments, sampling={"psi": 0.5}, estimate_mean=True)
    assert isinstance(truncated.module, StyledGenerator)
    w = truncated.module.mapping(truncated.latent.draw(4000, torch.Generator().manual_seed(9)))
    assert torch.allclose(truncated.module.w_mean, w.mean(0), atol=0.1 * float(w.std()))
    assert load_model_folder(tmp_path / "t").digest == truncated.digest != generator.digest
    with pytest.raises(SetupError, match="begins with 'g\\.'"):
        convert_file(file, tmp_path / "other", layout="rosinality-stylegan2", prefix="g.")
    assert not (tmp_path / "truncated").exists()
    with pytest.raises(UsageError, match="no mean style"):
        convert_file(saved(dcgan_state(), tmp_path / "d"), tmp_path / "x", layout="pytorch-dcgan", estimate_mean=True)


def test_an_own_state_dict_needs_its_architecture_and_all_its_tensors(tmp_path: Path) -> None:
    config = {"latent": 5, "width": 2}
    own: dict[str, Any] = {"layout": "own", "architecture": "dcgan-64", "config": config,
           "sampling": {"output_range": [-1, 1], "rounding": "mul255_add0.5_floor"}}  # fmt: skip
    state = dcgan_state()
    generator, _ = convert_file(saved(state, tmp_path / "a"), tmp_path / "own", **own)
    same, _ = convert_file(tmp_path / "a", tmp_path / "same", layout="pytorch-dcgan")
    z = torch.zeros(1, 5)
    assert torch.equal(generator.sample(z), same.sample(z))
    less = saved({k: v for k, v in state.items() if k != "main.3.weight"}, tmp_path / "b")
    with pytest.raises(SetupError, match=r"'main\.3\.weight' of 'dcgan-64' is missing"):
        convert_file(less, tmp_path / "x", **own)
    with pytest.raises(SetupError, match="has no tensor 'more'"):
        convert_file(saved({**state, "more": torch.zeros(1)}, tmp_path / "c"), tmp_path / "x", **own)
    own["config"] = {"latent": 5, "width": 3}
    with pytest.raises(SetupError, match="needs"):
        convert_file(tmp_path / "a", tmp_path / "x", **own)
    with pytest.raises(UsageError, match="architecture"):
        convert_file(tmp_path / "a", tmp_path / "x", layout="own")
    with pytest.raises(UsageError, match="reads the configuration"):
        convert_file(tmp_path / "a", tmp_path / "x", layout="pytorch-dcgan", architecture="dcgan-64")


def test_pickles_and_bad_generators_leave_no_folder(tmp_path: Path) -> None:
    torch.save(dcgan_state(), tmp_path / "pickle.pth")
    with pytest.raises(EvidenceError, match="pickle"):
        convert_file(tmp_path / "pickle.pth", tmp_path / "x", layout="pytorch-dcgan")
    broken = dcgan_state()
    broken["main.6.weight"][0, 0, 0, 0] = float("inf")
    with pytest.raises(EvidenceError, match="NaN or infinity"):
        convert_file(saved(broken, tmp_path / "inf"), tmp_path / "x", layout="pytorch-dcgan")
    assert not (tmp_path / "x").exists()
