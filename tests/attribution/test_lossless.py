"""A mirrored own picture is certified sample by sample, and only that."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from plausible.attribution.generators import save_model_folder
from plausible.attribution.inversion import invert_relaxed
from plausible.attribution.inversion.budget import Budget
from plausible.attribution.stages.candidate import Settings
from plausible.attribution.stages.candidates import invert_candidates
from plausible.attribution.stages.decide import decide
from plausible.attribution.stages.findings import Findings, Scope
from plausible.attribution.stages.lossless import exact_mirrored
from plausible.attribution.stages.models import Models
from plausible.schemas.verdict import Verdict

from .conftest import SIDE, UNIT, smooth

QUICK = Budget(adam_starts=6, adam_steps=30, lm_starts=2, lm_iterations=30, rounds=2)
CONFIG = {"latent": 6, "hidden": [24], "height": SIDE, "width": SIDE, "channels": 3, "activation": "relu"}


@pytest.fixture
def models(tmp_path: Path) -> Models:
    save_model_folder(tmp_path / "smooth", "smooth", smooth(1).module, "mlp-decoder", CONFIG, UNIT)
    return Models([], [tmp_path / "smooth"])


def probe(seed: int) -> np.ndarray:
    generator = smooth(1)
    pixels = generator.sample(generator.latent.draw(1, torch.Generator().manual_seed(seed)))[0].numpy()
    return np.ascontiguousarray(pixels[:, ::-1])


def findings(pixels: np.ndarray, models: Models, *, relaxed: bool) -> tuple[Findings, str]:
    settings = Settings(QUICK, relaxed=relaxed, seed=2, threads=1)
    candidates, checks = invert_candidates(pixels, list(models), [], [], 0.0, settings)
    told = next(check.reason for check in checks if check.name.startswith("exact certificate"))
    return Findings("policy", candidates=tuple(c.finding for c in candidates)), told


def test_a_mirrored_own_picture_is_attributed_under_relaxed_alone(models: Models) -> None:
    found, told = findings(probe(7), models, relaxed=True)
    decision = decide(found, Scope("relaxed", ("unprocessed", "mirror")))
    assert decision.verdict == Verdict.ATTRIBUTED
    assert "every 8-bit sample of the mirrored picture" in decision.line
    assert told == f"yes: all {SIDE * SIDE * 3} samples of the mirrored picture equal"
    assert found.candidates[0].log10_lr is None
    strict, told = findings(probe(7), models, relaxed=False)
    assert decide(strict, Scope("strict", ("unprocessed",))).verdict != Verdict.ATTRIBUTED
    assert told.startswith("no:")


def test_one_sample_off_is_no_certificate() -> None:
    generator, pixels = smooth(1), probe(7)
    relaxed = invert_relaxed(pixels, [generator], QUICK, seed=2, threads=1)[0]
    certified = exact_mirrored(pixels, generator, relaxed, QUICK, seed=2, threads=1)
    assert certified is not None
    assert np.array_equal(certified.reconstruction, pixels)
    touched = pixels.copy()
    touched[3, 4, 1] ^= 8
    assert exact_mirrored(touched, generator, relaxed, QUICK, seed=2, threads=1) is None
    assert exact_mirrored(pixels, generator, None, QUICK, seed=2, threads=1) is None
