"""A JPEG file's latent found again from its coefficients, and other generators not."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image
from plausible.attribution.generators import Generator, make_generator
from plausible.attribution.generators.mlp import MLPDecoder
from plausible.attribution.inversion import invert_jpeg, invert_jpegs
from plausible.attribution.inversion.budget import Budget
from plausible.schemas.errors import EvidenceError, UsageError

SAMPLING = {"output_range": [0, 1], "rounding": "round_half_even_255"}


def decoder(seed: int, channels: int = 1, size: int = 16, latent: int = 5) -> Generator:
    """A sigmoid decoder with random weights, lively enough that its pictures differ."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = MLPDecoder(latent, [24], (channels, size, size), "sigmoid")
        for layer in module.chain()[:3:2]:
            torch.nn.init.normal_(layer.weight, std=1.2)  # type: ignore[arg-type]
    config = {"latent": latent, "hidden": [24], "height": size, "width": size, "channels": channels,
              "activation": "sigmoid", "prior": "code"}  # fmt: skip
    return make_generator(f"decoder-{seed}", module, "mlp-decoder", config, SAMPLING)


def files(generator: Generator, count: int, quality: int, **options: object) -> tuple[list[bytes], torch.Tensor]:
    z = torch.rand(count, generator.latent.dim, generator=torch.Generator().manual_seed(7))
    out: list[bytes] = []
    for pixels in generator.sample(z).numpy():
        buffer = io.BytesIO()
        Image.fromarray(pixels.squeeze()).save(buffer, "JPEG", quality=quality, **options)  # type: ignore[arg-type]
        out.append(buffer.getvalue())
    return out, z


@pytest.mark.parametrize(("channels", "quality", "options"), [(1, 75, {}), (3, 90, {"subsampling": 2}),
                                                              (3, 50, {"subsampling": 0})])  # fmt: skip
def test_own_files_are_explained_and_others_not(channels: int, quality: int, options: dict[str, object]) -> None:
    own, other = decoder(1, channels), decoder(2, channels)
    data, z = files(own, 4, quality, **options)
    mine = invert_jpegs(data, own, seed=1)
    theirs = invert_jpegs(data, other, seed=1)
    for found, wrong, true in zip(mine, theirs, z.numpy(), strict=True):
        assert found.violations <= 2 and found.coefficients > 200
        assert np.abs(found.z - true).max() < 0.2
        assert wrong.violations > 10 * max(found.violations, 1)
        assert found.loss < wrong.loss / 10


def test_a_file_is_judged_alone_as_among_others() -> None:
    own = decoder(1)
    data, _ = files(own, 3, 60)
    together = invert_jpegs(data, own, seed=3)
    alone = invert_jpeg(data[2], own, seed=3)
    assert alone.violations == together[2].violations
    assert np.allclose(alone.z, together[2].z, atol=1e-3)


def test_one_by_one_search_of_larger_generators(monkeypatch: pytest.MonkeyPatch) -> None:
    own = decoder(1)
    data, z = files(own, 1, 80)
    monkeypatch.setattr("plausible.attribution.inversion.jpeg.BATCHED", 0)
    found = invert_jpeg(data[0], own, Budget(adam_starts=6, adam_steps=30, lm_iterations=12, rounds=2), seed=1)
    assert found.violations <= 2 and np.abs(found.z - z[0].numpy()).max() < 0.2
    given = invert_jpeg(data[0], own, Budget(rounds=1), seed=1, starts=z + 0.02)
    assert given.violations <= 2 and given.starts == 1


def test_other_sizes_and_other_bytes_are_refused() -> None:
    own = decoder(1)
    data, _ = files(decoder(1, size=24), 1, 80)
    with pytest.raises(UsageError, match="24x24"):
        invert_jpeg(data[0], own)
    with pytest.raises(EvidenceError):
        invert_jpeg(b"\xff\xd8\xff\xe0", own)
