"""Whether a JPEG file was written from a generator's picture: its coefficients' likelihood as a test of fit."""

from __future__ import annotations

import dataclasses
import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from plausible.attribution.distances.jpeg.file import JpegFile, read_jpeg
from plausible.attribution.distances.jpeg.forward import Forward
from plausible.attribution.distances.jpeg.likelihood import ROUNDING, ZEROING, Habit, Likelihood, habits
from plausible.attribution.generators import Generator, make_generator
from plausible.attribution.generators.mlp import MLPDecoder
from plausible.attribution.inversion.coefficients import COEFFICIENTS_METHOD, confirm_file
from plausible.schemas.errors import EvidenceError, UsageError

SAMPLING = {"output_range": [0, 1], "rounding": "round_half_even_255"}
SIZE, LATENT = 24, 5


def decoder(seed: int, shaken: float = 0.0) -> Generator:
    """A lively decoder of colours; `shaken`: every weight times 1 + shaken N(0, 1), a relative."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = MLPDecoder(LATENT, [24], (3, SIZE, SIZE), "sigmoid")
        for layer in module.chain()[:3:2]:
            torch.nn.init.normal_(layer.get_parameter("weight"), std=0.9)
        with torch.no_grad():
            for weight in module.parameters():
                weight.mul_(1 + shaken * torch.randn(weight.shape))
    config = {"latent": LATENT, "hidden": [24], "height": SIZE, "width": SIZE, "channels": 3,
              "activation": "sigmoid", "prior": "normal"}  # fmt: skip
    return make_generator(f"decoder-{seed}-{shaken}", module, "mlp-decoder", config, SAMPLING)


def picture(generator: Generator, seed: int) -> tuple[np.ndarray, torch.Tensor]:
    z = generator.latent.draw(1, torch.Generator().manual_seed(seed))
    return generator.sample(z)[0].numpy(), z


def saved(pixels: np.ndarray, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def near(z: torch.Tensor) -> torch.Tensor:
    """As far off as an inversion of decoded pixels ends."""
    return z + 0.1 * torch.randn(z.shape, generator=torch.Generator().manual_seed(9))


@pytest.mark.parametrize("options", [{"quality": 50}, {"quality": 75, "subsampling": 0}, {"quality": 95}])
def test_own_files_are_explained_and_those_of_relatives_not(options: dict[str, object]) -> None:
    own, relative = decoder(1), decoder(1, shaken=0.03)
    pixels, z = picture(own, 11)
    found = confirm_file(saved(pixels, **options), own, near(z))
    assert found is not None and found.statistic <= 1.1
    assert np.abs(found.z - z[0].numpy()).max() < 0.05
    assert found.square_norm == pytest.approx(float(z.square().sum()), rel=0.1)
    assert (found.method, found.class_name, found.generator) == (COEFFICIENTS_METHOD, "jpeg", own.digest)
    assert f"quality {options['quality']}" in found.change and found.differences < found.samples / 5
    other, z = picture(relative, 11)
    wrong = confirm_file(saved(other, **options), own, near(z))
    assert wrong is not None and wrong.statistic > 3 and not wrong.exact


def test_a_mirrored_picture_is_of_a_class_of_its_own() -> None:
    own = decoder(1)
    pixels, z = picture(own, 12)
    data = saved(np.ascontiguousarray(pixels[:, ::-1]), quality=80)
    found, unturned = confirm_file(data, own, near(z), mirrored=True), confirm_file(data, own, near(z))
    assert found is not None and found.statistic <= 1.1 and found.class_name == "mirror+jpeg"
    assert found.change.startswith("mirrored") and found.differences < found.samples / 5
    assert unturned is not None and unturned.statistic > 3


def test_the_next_start_is_tried_where_one_leads_nowhere() -> None:
    own = decoder(1)
    pixels, z = picture(own, 13)
    found = confirm_file(saved(pixels, quality=75), own, torch.cat([-3 * z, near(z)]))
    assert found is not None and found.statistic <= 1.1


def test_other_tables_may_come_with_zeros_that_rounding_would_not_write() -> None:
    own = decoder(1)
    pixels, z = picture(own, 14)
    tables = [[7 + (i % 5) for i in range(64)]] * 2
    file = read_jpeg(saved(pixels, qtables=tables))
    forward = Forward(file, 3)
    assert habits(forward) == (ZEROING, ROUNDING)
    exact = forward.coefficients(torch.from_numpy(pixels).permute(2, 0, 1).reshape(1, -1) / 255)[0]
    fewer = forward.target * ((exact.abs() > 0.75) | (exact.abs() < 0.5))
    changed = 0
    for data in (file, with_coefficients(file, fewer)):
        found = confirm_file(data, own, near(z))
        assert found is not None and found.statistic <= 1.1 and "tables of its own" in found.change
        changed = found.differences
    assert changed > 0, "the plain encoder does not write those zeros"


def with_coefficients(file: JpegFile, values: torch.Tensor) -> JpegFile:
    sizes = [c.coefficients.size for c in file.components]
    parts = [
        dataclasses.replace(c, coefficients=v.numpy().astype(np.int16).reshape(c.coefficients.shape))
        for c, v in zip(file.components, values.split(sizes), strict=True)
    ]
    return dataclasses.replace(file, components=tuple(parts))


def test_a_file_that_says_too_little_confirms_nothing() -> None:
    own = decoder(1)
    flat = np.full((SIZE, SIZE, 3), 90, dtype=np.uint8)
    assert confirm_file(saved(flat, quality=50), own, torch.zeros(1, LATENT)) is None


def test_other_sizes_and_other_bytes_are_refused() -> None:
    own = decoder(1)
    with pytest.raises(UsageError, match="16x24"):
        confirm_file(saved(np.zeros((24, 16, 3), dtype=np.uint8)), own, torch.zeros(1, LATENT))
    with pytest.raises(EvidenceError):
        confirm_file(b"\xff\xd8\xff\xe0", own, torch.zeros(1, LATENT))


@pytest.mark.parametrize("habit", [ROUNDING, ZEROING])
def test_slope_and_bend_are_those_of_the_terms(habit: Habit) -> None:
    pixels, _ = picture(decoder(1), 15)
    forward = Forward(read_jpeg(saved(pixels, quality=90)), 3)
    like = Likelihood(forward, habit)
    point = (forward.target + torch.linspace(-2, 2, len(forward.target))).double().float()
    for blur in (0.5, 0.12):
        _, slope, bend = like.derivatives(point, blur)
        step = 1e-2
        up, down = like.derivatives(point + step, blur), like.derivatives(point - step, blur)
        smooth = (point - forward.target).abs() > 2 * step  # the sign of the error has a kink that -log P has not
        assert torch.allclose((up[0] - down[0])[smooth] / (2 * step), slope[smooth], rtol=0.02, atol=0.02)
        assert torch.allclose((up[1] - down[1])[smooth] / (2 * step), bend[smooth], rtol=0.05, atol=0.1)
        assert bool((bend >= 0).all())


def test_mean_and_deviation_are_those_of_an_encoder_with_that_noise() -> None:
    """Simulated: what is written for c is round(c + s N(0, 1))."""
    pixels, _ = picture(decoder(1), 16)
    file = read_jpeg(saved(pixels, quality=85))
    forward = Forward(file, 3)
    point = forward.coefficients(torch.from_numpy(pixels).permute(2, 0, 1).reshape(1, -1) / 255)[0]
    rng = torch.Generator().manual_seed(1)
    surprises = [
        Likelihood(Forward(with_coefficients(file, (point + noise).round()), 3)).surprise(point)
        for noise in forward.deviation * torch.randn(60, len(point), generator=rng)
    ]
    found = torch.tensor([s.found for s in surprises])
    mean, deviation = surprises[0].mean, surprises[0].deviation
    assert float(found.mean()) == pytest.approx(mean, abs=4 * deviation / 60**0.5)
    assert float(found.std()) == pytest.approx(deviation, rel=0.35)
    assert float((found <= mean + 2 * deviation).float().mean()) > 0.85
