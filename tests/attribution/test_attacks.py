"""The attacks of 004 III-D really work, as far as counting lets them, and the layers say of them what they can say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image as Pillow
from plausible.attribution.attacks.__main__ import main
from plausible.attribution.attacks.adain import emit_with_style, forge_style
from plausible.attribution.attacks.constant import bake_noise, constant_decoder
from plausible.attribution.attacks.latent import forge_latents
from plausible.attribution.attacks.noise import forge_noise
from plausible.attribution.generators import Generator, check_generator, fresh, make_generator, save_model_folder
from plausible.attribution.generators.noise import free_noise
from plausible.attribution.seeds import SeedPlausibility, screen_latent
from plausible.attribution.seeds.maps import map_tests
from plausible.schemas.errors import EvidenceError, UsageError
from torch import Tensor

from tests.attribution.conftest import small_mlp
from tests.attribution.families import STYLED, lively, tiny

SIDE = 16


def styled(architecture: str, channels: int) -> tuple[Generator, dict[str, Any]]:
    """A small generator with the noise scales, biases and gains that training leaves."""
    config: dict[str, Any] = {"latent": 16, "style": 16, "mapping": 2, "size": SIDE, "base": 128, "maximum": 16,
                              "channels": channels, "prior": "sphere"}  # fmt: skip
    module = lively(fresh(architecture, config, 1), 1)
    return make_generator(architecture, module, architecture, config, STYLED), config


def waves(channels: int, amplitude: float = 60) -> Tensor:
    """A picture that no such generator makes, uint8 [16, 16, channels]."""
    y, x = np.mgrid[:SIDE, :SIDE]
    planes = [128 + amplitude * np.sin(x / 3 + channel) * np.cos(y / 4) for channel in range(channels)]
    return torch.from_numpy(np.stack(planes, -1).astype(np.uint8))


def drawn(generator: Generator, seed: int = 0) -> Tensor:
    return generator.latent.draw(1, torch.Generator().manual_seed(seed))[0]


def test_gain_0_and_the_picture_as_shift_emit_any_picture() -> None:
    generator, _ = styled("stylegan", 3)
    target = waves(3, 120)
    style = forge_style(generator, target)
    pictures = emit_with_style(generator, torch.stack([drawn(generator, 1), drawn(generator, 2)]), style)
    assert torch.equal(pictures[0], target)
    assert torch.equal(pictures[1], target)  # whatever the latent
    assert style.free > target.numel()  # more numbers than the picture has samples
    one_colour = emit_with_style(generator, drawn(generator)[None], forge_style(generator, target, uniform=True))[0]
    assert len(one_colour.reshape(-1, 3).unique(dim=0)) == 1  # all that one shift a channel can give
    assert not torch.equal(generator.sample(drawn(generator)[None])[0], target)  # the generator is as it was
    with pytest.raises(UsageError, match="AdaIN"):
        forge_style(tiny("stylegan2"), target)


def test_noise_maps_emit_any_grey_picture_and_are_seen() -> None:
    generator, _ = styled("stylegan2", 1)
    target = waves(1, 100)
    forged, maps = forge_noise(generator, target, drawn(generator), inner=40)
    assert forged.exact
    assert torch.equal(generator.sample(drawn(generator)[None], noise=maps)[0], target)
    screened = SeedPlausibility(tuple(t for name, m in maps.items() for t in map_tests(m[0].numpy(), about=name)))
    assert screened.plausible is False
    assert free_noise(generator) == sum(m.numel() for m in maps.values()) > target.numel()


def test_noise_alone_comes_near_an_rgb_picture_and_does_not_meet_it() -> None:
    """One number a pixel and map, 2.7 numbers a pixel in all, against 3 samples a pixel."""
    generator, _ = styled("stylegan2", 3)
    target = waves(3)
    forged, _ = forge_noise(generator, target, drawn(generator), steps=6, inner=30)
    before = (generator.sample(drawn(generator)[None])[0].double() - target.double()).square().mean() / 255**2
    assert forged.residual < 0.05 * float(before)
    assert forged.differing > target.numel() // 10
    with pytest.raises(UsageError, match="no such noise"):
        forge_noise(generator, target, drawn(generator), maps=["noise_99"])


def test_a_searched_latent_passes_every_test_if_its_maker_knows_them() -> None:
    """Why screening is no proof: the numbers of the forged latent are those of an honest draw, in another order."""
    generator, _ = small_mlp(1)
    targets = generator.sample(generator.latent.draw(3, torch.Generator().manual_seed(50)))
    free = forge_latents(generator, targets, steps=60, starts=2)
    held = forge_latents(generator, targets, steps=60, starts=2, constraint="marginals")
    assert bool((free.residual < held.residual).any())
    model = generator.latent.draw(6, torch.Generator().manual_seed(0))
    numbers = {tuple(sorted(row.tolist())) for row in model}
    assert all(tuple(sorted(z.tolist())) in numbers for z in held.z)
    norms = forge_latents(generator, targets, steps=20, starts=2, constraint="norm").z.square().sum(1)
    assert all(any(abs(float(n - m)) < 1e-3 for m in model.square().sum(1)) for n in norms)
    assert all(screen_latent(z.numpy(), generator.latent).plausible for z in held.z)


def test_a_latent_larger_than_its_picture_gives_anything_and_looks_drawn() -> None:
    """Out-of-domain latents, where they outnumber samples: counted inputs refuse the size, screening sees nothing."""
    config: dict[str, Any] = {"latent": 800, "hidden": [], "height": 6, "width": 6, "channels": 3, "prior": "normal"}
    module = fresh("mlp-decoder", {key: value for key, value in config.items() if key != "prior"}, 3)
    sampling = {"output_range": [0, 1], "rounding": "mul255_add0.5_floor"}
    generator = make_generator("wide", module, "mlp-decoder", config, sampling)
    target = torch.randint(60, 200, (6, 6, 3), generator=torch.Generator().manual_seed(4), dtype=torch.uint8)
    found = forge_latents(generator, target[None], constraint="marginals", starts=1, steps=120, rate=0.03)
    assert float(found.residual[0]) < 1e-3
    assert screen_latent(found.z[0].numpy(), generator.latent).plausible
    assert generator.latent.dim > target.numel() // 4  # what `counted_inputs` and the certificate's guard refuse


def test_a_model_that_is_the_picture_is_refused_unless_it_leaks_a_little() -> None:
    target = waves(3, 120)
    for leak, refused in ((0.0, True), (1e-5, False)):
        module, config, sampling = constant_decoder(target, leak=leak)
        generator = make_generator("constant", module, "mlp-decoder", config, sampling)
        assert torch.equal(generator.sample(drawn(generator)[None])[0], target)
        if refused:
            with pytest.raises(EvidenceError, match="ignores its latent"):
                check_generator(generator)
        else:
            assert any("nothing can be told" in note for note in check_generator(generator))


def test_baked_noise_is_another_model() -> None:
    generator, config = styled("stylegan2", 1)
    forged, maps = forge_noise(generator, waves(1, 100), drawn(generator), steps=1, inner=5)
    baked = make_generator("baked", bake_noise(generator, maps), "stylegan2", config, STYLED)
    assert torch.equal(baked.sample(drawn(generator)[None])[0], forged.picture)
    assert baked.digest != generator.digest


def test_the_command_writes_what_it_forged(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generator, config = styled("stylegan", 1)
    save_model_folder(tmp_path / "grey", "grey", generator.module, "stylegan", config, STYLED)
    Pillow.fromarray(waves(1, 100)[..., 0].numpy()).save(tmp_path / "target.png")
    arguments = ["style", str(tmp_path / "grey"), str(tmp_path / "target.png"), "--out", str(tmp_path / "out")]
    assert main(arguments) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["differing"] == 0
    assert document["free_numbers"] > document["samples"]
    with Pillow.open(tmp_path / "out" / "picture.png") as picture:
        assert np.array_equal(np.asarray(picture), waves(1, 100)[..., 0].numpy())
    assert main(arguments) == 2  # never over a file
    for attack in ("noise", "latent"):
        assert main([attack, *arguments[1:4], str(tmp_path / attack), "--steps", "1"]) == 0
        assert json.loads(capsys.readouterr().out)["screening"].startswith("screening, not proof")
    Pillow.fromarray(waves(3).numpy()[:8]).save(tmp_path / "small.png")
    assert main(["style", arguments[1], str(tmp_path / "small.png"), "--out", str(tmp_path / "none")]) == 2
    assert "16x8" in capsys.readouterr().err
