"""What the verifier says of a JPEG file's coefficients: a line of its own, beside a verdict that it does not move."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch
from PIL import Image
from plausible.attribution.generators import save_model_folder
from plausible.attribution.generators.mlp import MLPDecoder
from plausible.attribution.inversion.budget import Budget
from plausible.attribution.report.assemble import Report
from plausible.attribution.stages.probe import Options
from plausible.attribution.verifier import verify

SIZE = 16


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, MLPDecoder]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        module = MLPDecoder(6, [24], (3, SIZE, SIZE), "sigmoid")
        for layer in module.chain()[:3:2]:
            torch.nn.init.normal_(layer.weight, std=0.7)  # type: ignore[arg-type]
    folder = tmp_path_factory.mktemp("model") / "decoder"
    config = {"latent": 6, "hidden": [24], "height": SIZE, "width": SIZE, "channels": 3, "activation": "sigmoid",
              "prior": "normal"}  # fmt: skip
    sampling = {"output_range": [0, 1], "rounding": "round_half_even_255"}
    save_model_folder(folder, "decoder", module, "mlp-decoder", config, sampling)
    return folder, module


def report_on(model: tuple[Path, MLPDecoder], scope: str = "relaxed", **options: object) -> tuple[Report, list[str]]:
    folder, module = model
    with torch.no_grad():
        picture = module(torch.randn(1, 6, generator=torch.Generator().manual_seed(5)))[0]
    pixels = (picture * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, **options)  # type: ignore[arg-type]
    budget = Budget(adam_starts=4, adam_steps=40, lm_iterations=12, rounds=1, exact_iterations=1)
    report = verify(out.getvalue(), models=[folder], options=Options(scope=scope, budget=budget, threads=1))
    return report, [
        f"{check.state} {check.reason}"
        for check in report.document.checks
        if check.name == "JPEG coefficients of decoder"
    ]


def test_an_own_file_is_explained(model: tuple[Path, MLPDecoder]) -> None:
    report, lines = report_on(model, format="JPEG", quality=75, subsampling=2)
    assert len(lines) == 1 and lines[0].startswith("made ")
    outside, _, rest = lines[0].removeprefix("made ").partition(" of ")
    assert int(outside) <= 2 and rest.startswith("384 coefficients") and "quality 75" in rest and "4:2:0" in rest
    assert report.verdict == "inconclusive", "no calibrated limit, so nothing follows from it"


def test_no_line_for_other_formats_or_the_strict_scope(model: tuple[Path, MLPDecoder]) -> None:
    assert report_on(model, format="PNG")[1] == []
    assert report_on(model, scope="strict", format="JPEG", quality=75)[1] == []


def test_what_cannot_be_compared_is_said(model: tuple[Path, MLPDecoder]) -> None:
    lines = report_on(model, format="JPEG", quality=75, progressive=True)[1]
    assert len(lines) == 1 and lines[0].startswith("skipped ") and "progressive" in lines[0]
