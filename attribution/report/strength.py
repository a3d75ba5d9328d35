"""Pictures of a calibration: for each class the residuals with their limits, a ROC curve and a Tippett plot.

Drawn without a display or global state; the same rows give the same bytes.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from ..calibration.quality import Quality
from ..inversion.budget import FLOOR
from ..scoring.likelihood import tippett
from ..scoring.roc import roc

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

OWN, OTHER = "#1b6ca8", "#d1495b"
STYLE: Any = {
    "axes.grid": True, "axes.spines.right": False, "axes.spines.top": False, "font.size": 9.0, "grid.alpha": 0.3,
    "legend.fontsize": 8.0, "legend.frameon": False, "svg.fonttype": "path", "svg.hashsalt": "plausible",
}  # fmt: skip


def chart(quality: Quality, title: str, kind: Literal["svg", "png"] = "svg") -> bytes:
    """One class as a picture file."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    out = io.BytesIO()
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(11.5, 3.7), layout="constrained")
        FigureCanvasAgg(figure)
        draw(quality, figure, title)
        # no date: the same rows give the same file
        figure.savefig(out, format=kind, dpi=110, metadata={"Date": None} if kind == "svg" else {"Software": None})
    return out.getvalue()


def draw(quality: Quality, figure: Figure, title: str) -> None:
    """Three panels beside each other; a panel that the rows cannot fill says why."""
    residuals, curve, ratios = figure.subplots(1, 3)
    figure.suptitle(title)
    _residuals(residuals, quality)
    _roc(curve, quality)
    _tippett(ratios, quality)


def _residuals(axes: Axes, quality: Quality) -> None:
    """Cumulative shares of own and other residuals, in floors of 8-bit rounding, with the limits."""
    limits = quality.limits
    for values, label, colour in ((limits.own, "own", OWN), (limits.other, "others", OTHER)):
        if values:
            ordered = np.sort(np.maximum(np.asarray(values), 1e-12)) / FLOOR
            share = np.arange(1, len(ordered) + 1) / len(ordered)
            axes.step(ordered, share, where="post", color=colour, label=f"{label} (n = {len(values)})")
            # every row, since a single straggler is what matters
            axes.plot(ordered, share, ".", color=colour, markersize=3)
    for value, label, dash in ((limits.attribution, "attribution limit", "--"), (limits.denial, "denial limit", "-.")):
        if value is not None:
            axes.axvline(value / FLOOR, color="#444444", linestyle=dash, linewidth=1, label=label)
    axes.set_xscale("log")
    axes.set(xlabel="residual, in floors of 8-bit rounding", ylabel="share at most", ylim=(-0.02, 1.04))
    bound = f"failures {limits.failures} of {limits.n}: at most {100 * limits.failure_bound:.1f} %"
    axes.set_title(bound, fontsize=9)
    if limits.own or limits.other:
        axes.legend(loc="best")


def _roc(axes: Axes, quality: Quality) -> None:
    limits = quality.limits
    if quality.area is None:
        _without(axes, "no pictures of others")
        return
    curve = roc([-value for value in limits.own], [-value for value in limits.other])
    axes.plot(curve.false_positive, curve.true_positive, color=OWN, linewidth=1.5)
    axes.plot([0, 1], [0, 1], color="#999999", linestyle=":", linewidth=1)
    area = quality.area
    axes.set(xlabel="others not farther", ylabel="own not farther", xlim=(-0.02, 1.02), ylim=(-0.02, 1.04))
    axes.set_title(f"ROC: area {area.value:.4f} [{area.low:.4f}, {area.high:.4f}]", fontsize=9)


def _tippett(axes: Axes, quality: Quality) -> None:
    ratios = quality.ratios
    if ratios is None:
        _without(axes, "fewer than three of either kind")
        return
    curves = tippett(ratios.own, ratios.other)
    low, high = min(quality.bounds[0], curves.x[0]), max(quality.bounds[1], curves.x[-1])
    margin = 0.08 * (high - low)
    reach: NDArray[np.float64] = np.concatenate([[low - margin], curves.x, [high + margin]])
    for share, label, colour in ((curves.own, "own", OWN), (curves.other, "others", OTHER)):
        axes.step(reach, np.concatenate([[1.0], share, [0.0]]), where="pre", color=colour, label=label)
    axes.axvline(0, color="#444444", linewidth=1)
    for place, bound in enumerate(quality.bounds):
        axes.axvline(bound, color="#66a182", linestyle="--", linewidth=1, label="bounds" if place == 0 else None)
    axes.set(xlabel="log10 likelihood ratio (left out)", ylabel="share at least", ylim=(-0.02, 1.04))
    axes.set_title(f"Tippett: Cllr {ratios.cllr:.3f}, at best {ratios.minimum_cllr:.3f}", fontsize=9)
    axes.legend(loc="center", bbox_to_anchor=(0.62, 0.5), frameon=True, framealpha=0.9, edgecolor="none")


def _without(axes: Axes, why: str) -> None:
    axes.grid(visible=False)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.text(0.5, 0.5, why, ha="center", va="center", transform=axes.transAxes, color="#666666")
