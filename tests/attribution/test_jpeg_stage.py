"""A JPEG file in a verification: confirmed by its coefficients, and attributed within the limit of a calibration."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image
from plausible.attribution.calibration.document import environment
from plausible.attribution.generators import load_model_folder, save_model_folder
from plausible.attribution.inversion import COEFFICIENTS_METHOD
from plausible.attribution.inversion.budget import Budget
from plausible.attribution.report.assemble import Report
from plausible.attribution.stages.probe import Options
from plausible.attribution.verifier import verify
from plausible.schemas import jcs
from plausible.schemas.calibration import CalibrationDocument

from .conftest import SIDE, UNIT, smooth

Model = tuple[Path, torch.nn.Module]
BUDGET = Budget(adam_starts=4, adam_steps=40, lm_iterations=12, rounds=1, exact_iterations=1)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("model") / "decoder"
    config = {"latent": 6, "hidden": [24], "height": SIDE, "width": SIDE, "channels": 3, "activation": "relu"}
    module = smooth(1).module
    save_model_folder(folder, "decoder", module, "mlp-decoder", config, UNIT)
    return folder, module


@pytest.fixture(scope="module")
def calibrated(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """The same model with a calibration of the method: own files up to 0.95, relatives' from 3 on."""
    folder = tmp_path_factory.mktemp("calibrated") / "decoder"
    shutil.copytree(model[0], folder)

    def row(value: float, seed: int) -> dict[str, object]:
        plain = {"exact": False, "mismatches": 9, "parameters": {}, "seed": seed}
        return {**plain, "residual": jcs.wrap_number(value)}

    own = [row(0.95, seed) for seed in range(29)]
    others = [{**row(3.0, seed), "derivative": True, "kind": "clone", "name": str(seed)} for seed in range(29)]
    document = {
        "budget": BUDGET.to_json(), "classes": {"jpeg": {"own": own, "negatives": others}}, "command": "test",
        "distance": "l2", "engine": COEFFICIENTS_METHOD, "environment": environment("cpu"),
        "format": "plausible.calibration/1", "kind": "inversion", "model": load_model_folder(folder).digest,
        "samples": 3 * SIDE * SIDE, "time": "2026-01-01T00:00:00.000000Z",
    }  # fmt: skip
    (folder / "calibrations").mkdir(exist_ok=True)
    data = CalibrationDocument.of(document, what="calibration").to_jcs()
    (folder / "calibrations" / "inversion-0.json").write_bytes(data)
    return folder, model[1]


def report_on(model: Model, scope: str = "relaxed", shaken: float = 0.0, **options: object) -> tuple[Report, list[str]]:
    """The report on a file, and its lines about coefficients; `shaken`: of a relative's picture."""
    folder, module = model
    rng = torch.Generator().manual_seed(5)
    z = torch.randn(1, 6, generator=rng)
    state = {name: value * (1 + shaken * torch.randn(value.shape, generator=rng)) for name, value in
             module.state_dict().items()}  # fmt: skip
    with torch.no_grad():
        picture = torch.func.functional_call(module, state, (z,))
    pixels = load_model_folder(folder).output.to_uint8(picture)[0].numpy()
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, **options)  # type: ignore[arg-type]
    report = verify(out.getvalue(), models=[folder], options=Options(scope=scope, budget=BUDGET, threads=1))
    return report, [
        f"{check.state} {check.reason}"
        for check in report.document.checks
        if check.name == "JPEG coefficients of decoder"
    ]


def test_an_own_file_is_attributed_within_its_calibrated_limit(calibrated: Model) -> None:
    report, lines = report_on(calibrated, format="JPEG", quality=75, subsampling=2)
    assert len(lines) == 1
    assert lines[0].startswith("made JPEG (4:2:0, libjpeg's tables of quality 75): ")
    assert "coefficients differ" in lines[0]
    assert "limit 0.978" in lines[0], "1.03 times what own files leave, not half of what relatives leave"
    assert report.verdict == "attributed"


def test_a_relatives_file_is_not(calibrated: Model) -> None:
    report, lines = report_on(calibrated, shaken=0.03, format="JPEG", quality=75, subsampling=2)
    assert len(lines) == 1
    assert "limit 0.978" in lines[0]
    assert report.verdict == "inconclusive"


def test_without_a_calibration_nothing_follows(model: Model) -> None:
    report, lines = report_on(model, format="JPEG", quality=75, subsampling=2)
    assert len(lines) == 1
    assert "no limit calibrated" in lines[0]
    assert report.verdict == "inconclusive"


def test_no_line_for_other_formats_or_the_strict_scope(model: Model) -> None:
    assert report_on(model, format="PNG")[1] == []
    assert report_on(model, scope="strict", format="JPEG", quality=75)[1] == []


def test_what_cannot_be_compared_is_said(model: Model) -> None:
    lines = report_on(model, format="JPEG", quality=75, progressive=True)[1]
    assert len(lines) == 1 and lines[0].startswith("skipped ") and "progressive" in lines[0]
