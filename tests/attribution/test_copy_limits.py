"""Limits of the copy search come from measurements, and an artefact cannot state others than its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plausible.attribution.copies.limits import (
    LARGEST_RATIO,
    MIN_ROWS,
    SEPARATION,
    CopyLimits,
    calibrate_copies,
    derive_limits,
)
from plausible.attribution.copies.search import search_copies
from plausible.attribution.copies.transformation import FAMILIES, as_jpeg
from plausible.schemas import jcs
from plausible.schemas.errors import EvidenceError, UsageError

from tests.attribution.pictures import Pixels, picture

MODEL = "sha256:" + "5" * 64


def draw(count: int, seed: int) -> list[Pixels]:
    rng = np.random.default_rng(seed)
    return [picture(rng, 32, 32) for _ in range(count)]


@pytest.fixture(scope="module")
def artefact() -> bytes:
    seen: list[tuple[int, int]] = []
    data = calibrate_copies(draw, MODEL, seed=4, pictures=40, rows=MIN_ROWS, progress=lambda *s: seen.append(s))
    assert seen[-1] == (2 * MIN_ROWS * len(FAMILIES),) * 2
    return data


def test_limits_separate_own_copies_from_strangers(artefact: bytes) -> None:
    limits = CopyLimits.parse(artefact, model=MODEL)
    assert {"whole", "crop", "crop-resized"} <= set(limits.families)
    logged = draw(40, 4)
    own = search_copies(as_jpeg(logged[7][2:31, 1:30], 85), list(enumerate(logged)), limits)
    assert own is not None
    assert (own.key, own.within, own.transformation.crop) == (7, True, (1, 2, 29, 29))
    for stranger in draw(8, 99):
        found = search_copies(stranger, list(enumerate(logged)), limits)
        assert found is not None
        assert not found.within


def test_a_pale_probe_needs_a_smaller_residual(artefact: bytes) -> None:
    limits = CopyLimits.parse(artefact)
    bright, pale = limits.limit("whole", 0.05), limits.limit("whole", 0.0005)
    assert bright is not None
    assert pale is not None
    assert pale < bright
    assert limits.limit("rotated", 0.05) is None
    assert limits.too_few_for(40 * LARGEST_RATIO) is None
    assert "calibrated among 40 pictures" in str(limits.too_few_for(40 * LARGEST_RATIO + 1))


def test_an_artefact_of_another_model_or_search_is_refused(artefact: bytes) -> None:
    with pytest.raises(EvidenceError, match="not of sha256:6"):
        CopyLimits.parse(artefact, model="sha256:" + "6" * 64)
    document: dict[str, Any] = json.loads(artefact)
    document["search"] = "plausible.copies/0"
    with pytest.raises(EvidenceError, match="this search is"):
        CopyLimits.parse(jcs.encode(document))


def test_limits_wider_than_the_measurements_are_refused(artefact: bytes) -> None:
    document: dict[str, Any] = json.loads(artefact)
    document["families"]["whole"]["limit"] = jcs.wrap_number(0.5)
    with pytest.raises(EvidenceError, match="limits of whole"):
        CopyLimits.parse(jcs.encode(document))
    document["families"]["whole"]["limit"] = None
    with pytest.raises(EvidenceError, match="limits of whole"):
        CopyLimits.parse(jcs.encode(document))
    document["families"]["whole"]["limit"] = jcs.wrap_number(float("nan"))
    with pytest.raises(EvidenceError):
        CopyLimits.parse(jcs.encode(document))


def test_no_limits_without_enough_rows_or_separation() -> None:
    own, strange = [0.001] * MIN_ROWS, [0.02] * MIN_ROWS
    assert derive_limits(own, own, strange, strange, missed=0) is not None
    assert derive_limits(own[1:], own[1:], strange, strange, missed=0) is None
    assert derive_limits(own, own, strange[1:], strange[1:], missed=0) is None
    assert derive_limits(own, own, strange, strange, missed=1) is None
    near = [0.001 * SEPARATION * 0.99] * MIN_ROWS
    assert derive_limits(own, own, near, near, missed=0) is None
    with pytest.raises(UsageError):
        calibrate_copies(draw, MODEL, seed=0, pictures=1)


def test_a_folder_without_the_artefact_has_no_limits(artefact: bytes, tmp_path: Path) -> None:
    assert CopyLimits.load(tmp_path) is None
    (tmp_path / "calibrations").mkdir()
    (tmp_path / "calibrations" / "copies.json").write_bytes(artefact)
    loaded = CopyLimits.load(tmp_path, model=MODEL)
    assert loaded is not None
    assert loaded.pictures == 40
