"""The papers' figures as plots of an experiment: each function takes plain numbers and gives a `Plot`.

Drawn without a display or global state, the same bytes for the same numbers. SVG for pages, PNG to look at.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from plausible.attribution.scoring.roc import auc, roc

from benchmarks.attribution.experiments.frame import Plot

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#1b6ca8", "#d1495b", "#66a182", "#edae49", "#7d5ba6", "#30638e", "#8c564b", "#555555", "#17becf", "#bcbd22")
FLOOR = 1 / (12 * 255**2)

Values = Sequence[float]


def write(plot: Plot, folder: Path) -> list[Path]:
    """NAME.svg and NAME.png in a folder; their paths."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    folder.mkdir(parents=True, exist_ok=True)
    style: Any = {
        "axes.grid": True, "axes.spines.right": False, "axes.spines.top": False, "font.size": 9.0, "grid.alpha": 0.3,
        "legend.fontsize": 8.0, "legend.frameon": False, "svg.fonttype": "path", "svg.hashsalt": "plausible",
    }  # fmt: skip
    with mpl.rc_context(style):
        figure = Figure(figsize=plot.size, layout="constrained")
        FigureCanvasAgg(figure)
        plot.draw(figure)
        svg, png = folder / f"{plot.name}.svg", folder / f"{plot.name}.png"
        # no date: the same numbers give the same file
        figure.savefig(svg, format="svg", metadata={"Date": None})
        figure.savefig(png, format="png", dpi=110, metadata={"Software": None})
    return [svg, png]


def roc_family(
    name: str, title: str, curves: Sequence[tuple[str, Values, Values]], *, low: float = 0.0, block: str | None = None
) -> Plot:
    """One ROC curve for each (label, own scores, other scores), larger for own; the label gets its area.

    `low` > 0: a logarithmic axis of false positives from there on, for what a linear one hides.
    """

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for index, (label, own, other) in enumerate(curves):
            curve, area = roc(own, other), auc(own, other)
            text = f"{label} AUC {area.value:.4f} [{area.low:.4f}, {area.high:.4f}]".strip()
            horizontal = np.maximum(curve.false_positive, low) if low else curve.false_positive
            axes.plot(horizontal, curve.true_positive, color=_colour(index), label=text, linewidth=1.3)
        if low:
            axes.set_xscale("log")
            axes.set_xlim(low, 1)
        else:
            axes.plot([0, 1], [0, 1], color="#999999", linestyle=":", linewidth=1)
            axes.set_xlim(-0.01, 1.01)
        axes.set(title=title, xlabel="false-positive rate", ylabel="true-positive rate", ylim=(-0.01, 1.02))
        axes.legend(loc="lower right")

    return Plot(name, draw, (5.2, 4.6), title, block)


def confusion(
    name: str,
    title: str,
    labels: Sequence[str],
    counts: Sequence[Sequence[int]],
    columns: Sequence[str] | None = None,
    *,
    block: str | None = None,
) -> Plot:
    """Rows: the true source; columns: what was answered (`columns`, if there are answers beyond the sources)."""
    table = np.asarray(counts, dtype=float)
    answers = list(labels if columns is None else columns)
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        axes.grid(visible=False)
        axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
        axes.set_xticks(range(len(answers)), answers, rotation=30, ha="right")
        axes.set_yticks(range(len(labels)), labels)
        for i in range(len(labels)):
            for j in range(len(answers)):
                colour = "white" if shares[i, j] > 0.5 else "black"
                text = f"{shares[i, j]:.1%}\n{table[i, j]:.0f}"
                axes.text(j, i, text, ha="center", va="center", color=colour, fontsize=8)
        axes.set(title=title, xlabel="answer", ylabel="source")

    return Plot(name, draw, (1.8 + 1.1 * len(answers), 1.6 + 0.9 * len(labels)), title, block)


def score_histograms(
    name: str, title: str, groups: Mapping[str, Values], *, label: str = "S", block: str | None = None
) -> Plot:
    """Histograms over [-1, 1] of the scores of each group, one row each, with the decision at 0 (000 Fig 7)."""

    def draw(figure: Figure) -> None:
        rows = _stack(figure, len(groups))
        for index, (axes, (group, values)) in enumerate(zip(rows, groups.items(), strict=True)):
            axes.hist(np.asarray(values), bins=np.linspace(-1, 1, 41).tolist(), color=_colour(index))
            axes.axvline(0, color="#333333", linewidth=1)
            axes.set_ylabel("pictures")
            axes.set_title(f"{group} (n = {len(values)})", fontsize=9, loc="left")
        rows[-1].set_xlabel(label)
        figure.suptitle(title)

    return Plot(name, draw, (5.6, 1.0 + 1.5 * len(groups)), title, block)


def residual_histograms(
    name: str, title: str, groups: Mapping[str, Values], *, floor: float | None = FLOOR, block: str | None = None
) -> Plot:
    """Histograms of residuals (MSE on [0, 1]) on one logarithmic axis, one row a group (000 Fig 6: qualities)."""
    positive = [max(value, 1e-12) for values in groups.values() for value in values]

    def draw(figure: Figure) -> None:
        rows = _stack(figure, len(groups))
        low, high = math.floor(math.log10(min(positive))), math.ceil(math.log10(max(positive)) + 1e-9)
        bins = np.logspace(low, max(high, low + 1), 61)
        for index, (axes, (group, values)) in enumerate(zip(rows, groups.items(), strict=True)):
            axes.hist(np.maximum(np.asarray(values), 1e-12), bins=bins.tolist(), color=_colour(index))
            axes.set_xscale("log")
            if floor is not None:
                axes.axvline(floor, color="#333333", linestyle="--", linewidth=1)
            axes.set_ylabel("pictures")
            axes.set_title(f"{group} (n = {len(values)})", fontsize=9, loc="left")
        rows[-1].set_xlabel("residual, mean squared error" + ("" if floor is None else " (dashed: rounding floor)"))
        figure.suptitle(title)

    return Plot(name, draw, (5.6, 1.0 + 1.4 * len(groups)), title, block)


def lines(
    name: str,
    title: str,
    series: Mapping[str, tuple[Values, Values] | tuple[Values, Values, Values, Values]],
    *,
    x: str,
    y: str,
    log: str = "",
    block: str | None = None,
) -> Plot:
    """Curves (x, y) or (x, y, low, high) with error bars: cost against size. `log`: "x", "y" or both."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for index, (label, one) in enumerate(series.items()):
            horizontal, middle = np.asarray(one[0]), np.asarray(one[1])
            bars = None
            if len(one) == 4:
                below, above = middle - np.asarray(one[2]), np.asarray(one[3]) - middle
                bars = np.maximum([below, above], 0)
            axes.errorbar(
                horizontal, middle, yerr=bars, color=_colour(index), marker="o", markersize=3.5, capsize=2, label=label
            )
        if "x" in log:
            axes.set_xscale("log")
        if "y" in log:
            axes.set_yscale("log")
        axes.set(title=title, xlabel=x, ylabel=y)
        if len(series) > 1:
            axes.legend()

    return Plot(name, draw, (5.6, 3.8), title, block)


def error_against_attempts(
    name: str, title: str, series: Mapping[str, tuple[Values, Values, Values, Values]], *, block: str | None = None
) -> Plot:
    """004 Fig 5: share of wrong answers over the number of starts, (starts, error, low, high) for each label."""
    return lines(name, title, series, x="random starts", y="share attributed wrongly", block=block)


def pictures(
    name: str,
    title: str,
    rows: Sequence[tuple[str, Sequence[Any]]],
    columns: Sequence[str] = (),
    *,
    block: str | None = None,
) -> Plot:
    """A sheet of pictures, uint8 [H, W] or [H, W, 3], one labelled row after another."""
    width = max(len(row) for _, row in rows)

    def draw(figure: Figure) -> None:
        grid = figure.subplots(len(rows), width, squeeze=False)
        for i, (label, row) in enumerate(rows):
            for j in range(width):
                axes = grid[i][j]
                axes.grid(visible=False)
                axes.set_xticks([])
                axes.set_yticks([])
                if j < len(row):
                    axes.imshow(np.asarray(row[j]), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
                if j == 0:
                    axes.set_ylabel(label, fontsize=8)
                if i == 0 and j < len(columns):
                    axes.set_title(columns[j], fontsize=8)
        figure.suptitle(title)

    return Plot(name, draw, (0.9 + 1.1 * width, 0.7 + 1.15 * len(rows)), title, block)


def custom(
    name: str,
    title: str,
    draw: Callable[[Axes], object],
    size: tuple[float, float] = (5.6, 3.8),
    *,
    block: str | None = None,
) -> Plot:
    """Whatever `draw` makes of one pair of axes, for what the forms above do not have."""

    def whole(figure: Figure) -> None:
        axes = figure.subplots()
        draw(axes)
        axes.set_title(title)

    return Plot(name, whole, size, title, block)


def _stack(figure: Figure, n: int) -> list[Axes]:
    return [row[0] for row in figure.subplots(n, 1, sharex=True, squeeze=False)]


def _colour(index: int) -> str:
    return COLOURS[index % len(COLOURS)]
