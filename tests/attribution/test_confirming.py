"""An own crop or resampled copy ends `attributed`, exactly or within a calibrated limit; a relative's never does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from plausible.attribution.calibration.document import derive
from plausible.attribution.generators import Generator, load_model_folder, save_model_folder
from plausible.attribution.inversion.budget import Budget
from plausible.attribution.inversion.chain import Chain, Resize
from plausible.attribution.stages.candidate import Candidate, Settings
from plausible.attribution.stages.candidates import invert_candidates
from plausible.attribution.stages.decide import ATTRIBUTION_REACH, attribution_limit, decide
from plausible.attribution.stages.findings import CandidateFinding, Check, ConfirmationFinding, Findings, Scope
from plausible.attribution.stages.models import Models
from plausible.schemas import jcs
from plausible.schemas.calibration import ClassRows
from plausible.schemas.verdict import Verdict

from .conftest import SIDE, UNIT, smooth

QUICK = Budget(adam_starts=6, adam_steps=30, lm_starts=2, lm_iterations=30, rounds=2)
CONFIG = {"latent": 6, "hidden": [24], "height": SIDE, "width": SIDE, "channels": 3, "activation": "relu"}
RELAXED = Scope("relaxed", ("unprocessed", "crop", "resampled"))
CROPPED = Chain(SIDE, SIDE, window=(1, 0, SIDE - 1, SIDE - 2))
RESAMPLED = Chain(SIDE, SIDE, resizes=(Resize(26, 26, "lanczos"), Resize(SIDE, SIDE, "bicubic")))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "smooth"
    save_model_folder(path, "smooth", smooth(1).module, "mlp-decoder", CONFIG, UNIT)
    return path


def picture(generator: Generator, seed: int) -> np.ndarray:
    return generator.sample(generator.latent.draw(1, torch.Generator().manual_seed(seed)))[0].numpy()


def shaken() -> Generator:
    """The same network, every weight moved by a hundredth."""
    generator, rng = smooth(1), torch.Generator().manual_seed(5)
    with torch.no_grad():
        for weight in generator.module.parameters():
            weight.mul_(1 + 0.01 * torch.randn(weight.shape, generator=rng))
    return generator


def looked(probe: np.ndarray, folder: Path, **options: bool) -> tuple[Candidate, list[Check]]:
    settings = replace(Settings(QUICK, seed=2, threads=1), **options)
    candidates, checks = invert_candidates(probe, list(Models([], [folder])), [], [], 0.0, settings)
    return candidates[0], [check for check in checks if check.name.startswith("confirmation")]


def verdict(finding: CandidateFinding) -> tuple[Verdict, str]:
    decision = decide(Findings("policy", candidates=(finding,)), RELAXED)
    return decision.verdict, decision.line


def test_an_own_crop_is_attributed_without_any_limit(folder: Path) -> None:
    candidate, checks = looked(CROPPED.render(picture(load_model_folder(folder), 7)), folder)
    assert candidate.finding.confirmations[0].exact
    outcome, line = verdict(candidate.finding)
    assert outcome == Verdict.ATTRIBUTED
    assert f"its picture, {CROPPED}, gives all {3 * (SIDE - 1) * (SIDE - 2):,} samples" in line
    assert checks[0].state == "made"
    assert "no limit calibrated" in checks[0].reason
    strict, none = looked(CROPPED.render(picture(load_model_folder(folder), 7)), folder, relaxed=False)
    assert strict.finding.confirmations == ()
    assert none == []


def test_a_relatives_copy_is_not_attributed_within_any_limit_of_own_ones(folder: Path) -> None:
    own, _ = looked(RESAMPLED.render(picture(load_model_folder(folder), 7)), folder)
    other, _ = looked(RESAMPLED.render(picture(shaken(), 7)), folder)
    mine, theirs = own.finding.confirmations[0], other.finding.confirmations[0]
    assert mine.change == theirs.change == str(RESAMPLED)
    limit = 1.5
    assert verdict(replace(own.finding, confirmations=(replace(mine, limit=limit),)))[0] == Verdict.ATTRIBUTED
    assert verdict(replace(other.finding, confirmations=(replace(theirs, limit=limit),)))[0] != Verdict.ATTRIBUTED


def test_a_lossy_file_and_a_far_picture_are_not_looked_through(folder: Path) -> None:
    own = CROPPED.render(picture(load_model_folder(folder), 7))
    candidate, checks = looked(own, folder, geometry=False)
    assert candidate.finding.confirmations == ()
    assert (checks[0].state, checks[0].reason) == ("skipped", "a lossy file keeps no geometry to the bit")
    blocks = np.random.default_rng(3).integers(0, 256, (4, 4, 3), dtype=np.uint8).repeat(5, 0).repeat(5, 1)
    candidate, checks = looked(blocks, folder)
    assert candidate.finding.confirmations == ()
    assert "farther than own copies lie" in checks[0].reason


CONFIRMED = ConfirmationFinding("chain:1", "cropped to 60x61 at 2,1", "crop", 1.01, 40, 10980)
CANDIDATE = CandidateFinding("sha256:" + "0" * 64, "faces", False, "inverted", residual=1e-3)


@pytest.mark.parametrize(
    ("changes", "attributed"),
    [
        ({}, False),
        ({"exact": True, "differences": 0}, True),
        ({"limit": 1.2}, True),
        ({"limit": 1.0}, False),
        ({"limit": 1.2, "uncounted": "the latent is too large"}, False),
    ],
)
def test_a_confirmation_decides_by_exactness_or_its_limit(changes: dict[str, Any], attributed: bool) -> None:
    told = replace(CONFIRMED, **changes)
    outcome, line = verdict(replace(CANDIDATE, confirmations=(told,)))
    assert (outcome == Verdict.ATTRIBUTED) is attributed
    assert (told.change in line) is attributed
    flat = Findings("policy", flat="a flat picture", candidates=(replace(CANDIDATE, confirmations=(told,)),))
    assert decide(flat, RELAXED).verdict == Verdict.INCONCLUSIVE


def test_exact_copies_come_first_and_the_very_pixels_before_them() -> None:
    near = replace(CANDIDATE, name="near", confirmations=(replace(CONFIRMED, limit=1.2),))
    exact = replace(CANDIDATE, name="exact", confirmations=(replace(CONFIRMED, exact=True, differences=0),))
    plain = replace(CANDIDATE, name="plain", exact=True)
    for candidates, name in (((near, exact), "exact"), ((near, exact, plain), "plain"), ((near,), "near")):
        decision = decide(Findings("policy", candidates=candidates), RELAXED)
        assert decision.model_name == name
    jpeg = replace(CONFIRMED, method="coefficients:1", change="JPEG, libjpeg's tables of quality 85", limit=1.1)
    line = decide(Findings("policy", candidates=(replace(CANDIDATE, confirmations=(jpeg,)),)), RELAXED).line
    assert "40 of 10,980 coefficients differ" in line


def test_a_limit_of_statistics_is_cut_at_the_copies_that_were_found() -> None:
    def row(statistic: float, seed: int) -> dict[str, object]:
        number = jcs.wrap_number(statistic)
        return {"exact": False, "mismatches": 9, "parameters": {}, "residual": number, "seed": seed}

    own = [row(0.9 + 0.01 * i, i) for i in range(30)] + [row(500.0, 30 + i) for i in range(3)]
    near = [{**row(8.0 + i, i), "kind": "clone", "name": str(i), "derivative": True} for i in range(30)]
    limits = derive("resampled", ClassRows.of({"own": own, "negatives": near}), confirmed=True)
    assert limits.attribution == 4.0
    assert limits.denial is not None
    assert limits.denial < 1.2
    assert attribution_limit(limits.attribution, limits.denial) == ATTRIBUTION_REACH * limits.denial
    assert limits.failures == 3
    few = derive("resampled", ClassRows.of({"own": own[4:], "negatives": near}), confirmed=True)
    assert few.denial is None
