"""An encoder leads a search to the latent, is loaded strictly, and calls for a calibration of its own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from plausible.attribution.calibration.document import calibrate, find_calibration
from plausible.attribution.generators import Generator, save_model_folder
from plausible.attribution.inversion import engine_name, invert
from plausible.attribution.inversion.budget import Budget
from plausible.attribution.inversion.encoder import MANIFEST, WEIGHTS, LoadedEncoder, load_encoder, train_encoder
from plausible.schemas.errors import EvidenceError, UsageError

from .conftest import UNIT, small_mlp

ALONE = Budget(adam_starts=1, adam_steps=0, lm_starts=1, lm_iterations=20, rounds=1)
"""No search but from the first start."""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Generator, LoadedEncoder]:
    generator, config = small_mlp(1)
    folder = tmp_path_factory.mktemp("models") / "mlp"
    saved = save_model_folder(folder, "mlp", generator.module, "mlp-decoder", config, UNIT)
    return folder, saved, train_encoder(folder, steps=400, base=8)


def test_it_gives_better_starts_than_chance(trained: tuple[Path, Generator, LoadedEncoder]) -> None:
    _, generator, encoder = trained
    assert encoder.held_out_error < 0.5
    truth = generator.latent.draw(12, torch.Generator().manual_seed(5))
    pictures = generator.sample(truth).numpy()
    starts = torch.cat([encoder.starts(picture, generator) for picture in pictures])
    random = generator.latent.draw(12, torch.Generator().manual_seed(6))

    def error(z: torch.Tensor) -> torch.Tensor:
        return (generator.images(z) - generator.images(truth)).square().flatten(1).mean(1)

    assert bool((error(starts) < error(random)).all())
    assert float(error(starts).median()) < float(error(random).median()) / 4
    ends = [invert(p, [generator], ALONE, seed=i, starts=[starts[i : i + 1]])[0] for i, p in enumerate(pictures)]
    assert sum(end.floors < 2 for end in ends) >= 11


def test_the_same_training_gives_the_same_encoder(trained: tuple[Path, Generator, LoadedEncoder]) -> None:
    folder, generator, encoder = trained
    with pytest.raises(UsageError, match="already"):
        train_encoder(folder)
    assert train_encoder(folder, steps=400, base=8, force=True).digest == encoder.digest
    again = load_encoder(folder, generator)
    assert again is not None
    assert again.digest == encoder.digest


def test_everything_that_differs_is_refused(trained: tuple[Path, Generator, LoadedEncoder], tmp_path: Path) -> None:
    folder, generator, _ = trained
    manifest, weights = (folder / MANIFEST).read_bytes(), (folder / WEIGHTS).read_bytes()
    other, _ = small_mlp(2)
    assert load_encoder(tmp_path, generator) is None

    def refused(manifest: bytes, weights: bytes, match: str | None, generator: Generator = generator) -> None:
        (tmp_path / MANIFEST).write_bytes(manifest)
        (tmp_path / WEIGHTS).write_bytes(weights)
        with pytest.raises(EvidenceError, match=match):
            load_encoder(tmp_path, generator)

    document = json.loads(manifest)
    bent = bytearray(weights)
    bent[-1] ^= 1
    refused(manifest, bytes(bent), "not those of its manifest")
    refused(manifest, b"PK" + weights, "pickle")
    refused(manifest, weights, "another model", other)
    refused(b"{}", weights, "encoder/1")
    refused(manifest.replace(b'"base":8', b'"base":true'), weights, "configuration")
    refused(json.dumps(document).encode(), weights, None)
    for field in document:
        rest = {key: value for key, value in document.items() if key != field}
        refused(json.dumps(rest, separators=(",", ":")).encode(), weights, None)


def test_limits_measured_without_it_do_not_count_with_it(trained: tuple[Path, Generator, LoadedEncoder]) -> None:
    folder, generator, encoder = trained
    name = engine_name(generator, encoder=encoder.digest)
    assert name != engine_name(generator)
    calibrate(folder, classes=["unprocessed"], n=2, budget=ALONE)
    assert find_calibration(folder, generator.digest, ALONE, engine_name(generator)) is not None
    assert find_calibration(folder, generator.digest, ALONE, name) is None
    calibrate(folder, classes=["unprocessed"], n=2, budget=ALONE, encoder=True)
    found = find_calibration(folder, generator.digest, ALONE, name)
    assert found is not None
    assert found.engine == name


def test_an_encoder_keeps_to_the_prior(trained: tuple[Path, Generator, LoadedEncoder]) -> None:
    _, generator, encoder = trained
    start = encoder.starts(np.zeros((12, 12, 3), np.uint8), generator)
    assert start.shape == (1, generator.latent.dim)
    assert torch.equal(start, generator.latent.project(start))
