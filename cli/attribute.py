"""`pd attribute`: which registered generator could have made a picture, by inversion alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import output, settings, sources
from .options import ExitZero, ForceOption, JsonOption, LedgerFolder
from .verify import (
    DeviceOption,
    Images,
    KeyOption,
    ModelsOption,
    ReportOption,
    SecondsOption,
    ThreadsOption,
    model_folders,
    options_for,
    run_all,
    targets_for,
    verifier_for,
)

if TYPE_CHECKING:
    from pathlib import Path

    from ..attribution.report.assemble import Report


def attribute(
    images: Images,
    models: ModelsOption = None,
    ledger: LedgerFolder = None,
    seconds: SecondsOption = None,
    device: DeviceOption = None,
    threads: ThreadsOption = None,
    as_json: JsonOption = False,
    report: ReportOption = None,
    key: KeyOption = None,
    exit_zero: ExitZero = False,
    force: ForceOption = False,
    seed: Annotated[int, typer.Option(min=0, help="Where the random starts come from.")] = 0,
) -> None:
    """\b
        pd attribute face.png --models generators/
        pd attribute face.png --ledger studio.ledger --report face.html

    Invert every generator given and say which reproduces the picture, how closely, and how strong that is.

    Looks into no log, so it never denies: the verdict is `attributed` (11) or `inconclusive` (3), or `incomplete` (4)
    if a generator could not be inverted. Residuals are in floors of 8-bit rounding: the true generator of an untouched
    PNG comes within 2.

    Python: plausible.attribution.inversion.invert
    """
    targets = targets_for(report, images, force)
    folders = model_folders(models) if models or ledger is None else []
    if ledger is not None or not folders:
        folders = [*folders, *_registered(ledger)]
    sources.require_attribution()
    options = options_for(seconds=seconds, device=device, threads=threads, key=key, seed=seed)
    with verifier_for([], (None, None), [], folders, options) as verifier:
        code = run_all(verifier, images, {}, targets, as_json=as_json, force=force, tell=None if as_json else _table)
    raise typer.Exit(0 if exit_zero else code)


def _registered(ledger: str | None) -> list[Path]:
    """The model folders of a ledger of one's own."""
    from ..schemas.errors import UsageError

    if settings.get("ledger", ledger) is None:
        raise UsageError("no generator named: give --models FOLDER, or --ledger DIR with registered models")
    with sources.own(ledger) as opened:
        return [model.folder for model in opened.models()]


def _table(report: Report) -> None:
    """The candidates, nearest first."""
    from ..attribution.stages.findings import ROUNDING_FLOOR
    from ..schemas import jcs

    def number(recorded: Any) -> float | None:
        return None if recorded is None else float(jcs.unwrap_number(recorded))

    def text(value: float | None, form: str) -> str:
        return "-" if value is None else format(value, form)

    rows: list[tuple[float, tuple[object, ...]]] = []
    for c in report.document.candidates:
        residual = number(c.residual)
        limits = c.limits.get("unprocessed")
        rows.append(
            (
                float("inf") if residual is None else residual,
                (
                    c.name,
                    c.model[7:19],
                    c.state,
                    text(residual, ".2e"),
                    text(None if residual is None else residual / ROUNDING_FLOOR, ",.2f"),
                    "yes" if c.exact else "no",
                    text(None if limits is None else number(limits.attribution), ".2e"),
                    text(number(c.log10_lr), ".2f"),
                ),
            )
        )
    header = ("generator", "digest", "state", "residual", "floors", "exact", "attribution limit", "log10 LR")
    output.table(header, [row for _, row in sorted(rows, key=lambda pair: pair[0])])
