"""`pd models strength`: what a model's calibrations support, and how strong evidence from them can be."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import output, sources
from .options import ForceOption, JsonOption, LedgerFolder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..attribution.calibration.document import Calibration
    from ..attribution.calibration.quality import Quality

PlotOption = Annotated[
    Path | None, typer.Option("--plot", metavar="FOLDER", help="One SVG a class: residuals, ROC curve, Tippett plot.")
]

HEADER = ("class", "own", "others", "denial", "attribution", "failures", "at most", "AUC", "Cllr", "log10 LR within")


def strength(
    which: Annotated[str, typer.Argument(metavar="NAME|FOLDER", help="A registered name, or a model folder.")],
    ledger: LedgerFolder = None,
    plot: PlotOption = None,
    as_json: JsonOption = False,
    force: ForceOption = False,
) -> None:
    """\b
        pd models strength faces --ledger studio.ledger --plot strength/

    Show what a model's calibrations support: for each class its limits, its failures, and how strong evidence can be.

    Limits are in floors of 8-bit rounding; those of a confirmation in what its roundings leave. Cllr is the cost of
    the likelihood ratios in bits, each measured picture judged by the others: 0 is perfect, 1 is what no evidence
    costs. No verdict gives a ratio outside "within".

    Python: plausible.attribution.calibration.quality.quality
    """
    sources.require_attribution()
    from ..attribution.calibration.document import load_calibrations
    from ..schemas.errors import SetupError

    folder = model_folder(which, ledger)
    found = load_calibrations(folder)
    if not found:
        raise SetupError(f"{folder} holds no calibration of the inversion: make one with pd models calibrate")
    show(found, folder.name, plot, as_json=as_json, force=force)


def model_folder(which: str, ledger: str | None) -> Path:
    """A model folder, or that of a registered name."""
    path = Path(which)
    if (path / "manifest.json").is_file():
        return path
    with sources.own(ledger) as opened:
        return opened.model(which).folder


def show(found: Sequence[Calibration], name: str, plot: Path | None, *, as_json: bool = False, force: bool) -> None:
    """The table of all classes, and their pictures."""
    from ..attribution.calibration.quality import quality

    judged = [(document, [quality(limits) for limits in document.classes.values()]) for document in found]
    if as_json:
        output.document(
            "plausible.strength/1",
            {"calibrations": [_plain(document, classes) for document, classes in judged]},
        )
    else:
        output.table(HEADER, [_row(one, document.confirms) for document, classes in judged for one in classes])
        for document in found:
            output.note(f"inversion {document.engine}, {document.time[:10]}: {document.digest}")
    if plot is not None:
        from ..attribution.report.strength import chart

        for document, classes in judged:
            for one in classes if not document.confirms else ():
                target = plot / f"{one.limits.class_name}.svg"
                output.write_file(target, chart(one, f"{name}, class {one.limits.class_name}"), force=force)
                output.note(f"wrote {target}")


def _row(one: Quality, confirms: bool) -> tuple[object, ...]:
    limits, ratios = one.limits, one.ratios
    return (
        f"{limits.class_name}, confirmed" if confirms else limits.class_name,
        limits.n,
        limits.negatives,
        _statistic(limits.denial) if confirms else _floors(limits.denial),
        _statistic(limits.attribution) if confirms else _floors(limits.attribution),
        limits.failures,
        f"{100 * limits.failure_bound:.1f} %",
        "-" if one.area is None else f"{one.area.value:.4f}",
        "-" if ratios is None else f"{ratios.cllr:.3f}",
        f"{one.bounds[0]:.2f} to {one.bounds[1]:.2f}",
    )


def _floors(value: float | None) -> str:
    from ..attribution.inversion.budget import FLOOR

    return "none" if value is None else f"{value / FLOOR:,.1f}"


def _statistic(value: float | None) -> str:
    return "none" if value is None else f"{value:.3f}"


def _plain(document: Calibration, classes: Sequence[Quality]) -> dict[str, Any]:
    """JSON of one document: numbers as they are, infinite limits never occur."""
    return {
        "digest": document.digest,
        "engine": document.engine,
        "model": document.model,
        "time": document.time,
        "classes": {one.limits.class_name: _class(one) for one in classes},
    }


def _class(one: Quality) -> dict[str, Any]:
    limits, ratios, area = one.limits, one.ratios, one.area
    return {
        "attribution": limits.attribution,
        "auc": None if area is None else {"high": area.high, "low": area.low, "value": area.value},
        "bounds": list(one.bounds),
        "denial": limits.denial,
        "failure_bound": limits.failure_bound,
        "failures": limits.failures,
        "negatives": limits.negatives,
        "own": limits.n,
        "ratios": None
        if ratios is None
        else {
            "cllr": ratios.cllr,
            "minimum_cllr": ratios.minimum_cllr,
            "misleading_other": ratios.misleading_other.count,
            "misleading_own": ratios.misleading_own.count,
        },
    }
