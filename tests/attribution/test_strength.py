"""What a calibration supports, of the calibrations that ship with the face generator: figures, bounds, pictures."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from plausible.attribution.calibration.document import Calibration, Limits
from plausible.attribution.calibration.quality import quality
from plausible.attribution.report.strength import draw
from plausible.attribution.scoring.likelihood import cllr, leave_one_out

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "faces" / "calibrations"


@pytest.fixture(scope="module")
def classes() -> dict[str, Limits]:
    found = [Calibration.parse(path.read_bytes()) for path in sorted(FOLDER.glob("inversion-*.json"))]
    # a confirmation's classes have the names of those that it confirms
    return {
        f"{one.engine} {name}" if one.confirms else name: limits
        for one in found
        for name, limits in one.classes.items()
    }


def test_the_shipped_calibrations_tell_their_classes_apart(classes: dict[str, Limits]) -> None:
    for limits in classes.values():
        judged = quality(limits)
        assert judged.area is not None
        assert judged.ratios is not None
        assert judged.area.value > 0.98
        assert judged.ratios.minimum_cllr <= judged.ratios.cllr < 0.3
        assert judged.ratios.cllr == cllr(*leave_one_out(limits.own, limits.other))
        # and no ratio goes beyond what the number of pictures shows
        assert -math.log10(limits.n + 1) <= judged.bounds[0] < 0 < judged.bounds[1] <= math.log10(limits.negatives + 1)


def test_a_reported_ratio_stays_within_the_bounds(classes: dict[str, Limits]) -> None:
    limits = classes["unprocessed"]
    low, high = quality(limits).bounds
    for residual in (*limits.own, *limits.other, 1e-9, 1.0):
        found = limits.log10_lr(residual)
        assert found is not None
        assert low <= found[0] <= high
        assert found[1] == (high if found[0] >= 0 else -low)
    assert limits.log10_lr(min(limits.own)) == (high, high)


def without(own: tuple[float, ...], other: tuple[float, ...]) -> Limits:
    return Limits("unprocessed", None, None, 0, 1.0, len(own), len(other), own, other)


@pytest.mark.parametrize(("own", "other"), [((1e-6,), ()), ((1e-6, 2e-6), (1e-3, 2e-3)), ((), ())])
def test_too_few_rows_support_nothing_and_are_still_drawn(own: tuple[float, ...], other: tuple[float, ...]) -> None:
    judged = quality(without(own, other))
    assert judged.ratios is None
    assert (judged.area is None) == (not own or not other)
    figure = Figure()
    draw(judged, figure, "few")
    assert len(figure.axes) == 3


def test_a_picture_holds_what_was_measured(classes: dict[str, Limits]) -> None:
    judged = quality(classes["crop"])
    figure = Figure()
    draw(judged, figure, "crop")
    residuals, curve, ratios = figure.axes
    assert residuals.get_title() == "failures 1 of 46: at most 9.9 %"
    assert sum(np.size(line.get_xdata()) for line in residuals.lines if line.get_marker() == ".") == 46 + 15
    assert curve.get_title().startswith("ROC: area 0.99")
    assert ratios.get_title().startswith("Tippett: Cllr 0.1")
