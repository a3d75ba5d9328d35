"""`pd attribute` against generators that cannot be inverted: incomplete, with one sentence that says why."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from plausible.attribution.generators import save_model_folder
from plausible.attribution.generators.mlp import MLPDecoder
from plausible.attribution.generators.registry import register_architecture
from torch import Tensor

ARCHITECTURE = "tests-bad-decoder"
UNIT = {"output_range": [0, 1], "rounding": "mul255_add0.5_floor"}
FAULT = {"now": ""}
"""What modules built from now on do wrong: none while a folder is written, the test's when it is read."""


class Bad(MLPDecoder):
    """A decoder of 12x12 RGB pictures with a fault."""

    def __init__(self) -> None:
        super().__init__(6, [16], (3, 12, 12), "sigmoid")
        self.fault = FAULT["now"]

    def chain(self) -> Any:
        return [self]  # one layer that nobody knows: no folding

    def forward(self, z: Tensor) -> Tensor:
        picture = super().forward(torch.zeros_like(z) if self.fault == "deaf" else z)
        if self.fault == "nan":
            return picture.sub(0.5).log()
        if self.fault == "steps":
            return picture.detach().mul(8).round() / 8
        if self.fault == "shape":
            return picture[:, :, :6]
        if self.fault == "range":
            return picture * 40 - 7
        if self.fault == "batch":
            return picture.flip(0)
        return picture


@register_architecture(ARCHITECTURE)
def build(config: Mapping[str, Any]) -> Bad:
    return Bad()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    FAULT["now"] = ""
    torch.manual_seed(0)
    save_model_folder(tmp_path / "models" / "bad", "bad", Bad(), ARCHITECTURE, {}, UNIT)
    return tmp_path / "models" / "bad"


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "probe.png")
    return tmp_path / "probe.png"


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("nan", "NaN or infinity"),
        ("steps", "not differentiable"),
        ("deaf", "ignores its latent"),
        ("shape", "makes outputs [1, 3, 6, 12]"),
        ("range", "its output range is [0, 1]"),
        ("batch", "mixes the pictures of a batch"),
    ],
)
def test_an_unfit_generator_leaves_the_answer_incomplete(
    pd: Any, folder: Path, picture: Path, fault: str, sentence: str
) -> None:
    FAULT["now"] = fault
    try:
        result = pd("attribute", picture, "--models", folder, "--json")
    finally:
        FAULT["now"] = ""
    assert result.code == 4, result.out
    report = result.document()["report"] if "report" in result.document() else result.document()
    assert sentence in str(report)
    assert "Traceback" not in result.err


def test_weights_that_are_not_numbers_are_refused(pd: Any, tmp_path: Path, picture: Path) -> None:
    module = Bad()
    with torch.no_grad():
        next(module.parameters())[0, 0] = float("nan")
    save_model_folder(tmp_path / "models" / "nan", "nan", module, ARCHITECTURE, {}, UNIT)
    result = pd("attribute", picture, "--models", tmp_path / "models" / "nan", "--json")
    assert result.code == 4
    assert "holds NaN or infinity" in result.out


def test_a_sound_generator_of_the_same_architecture_is_inverted(pd: Any, folder: Path, picture: Path) -> None:
    result = pd("attribute", picture, "--models", folder, "--integrity", "strict", "--json")
    assert result.code == 3
    assert "cg1" in result.out or "inverted" in result.out
