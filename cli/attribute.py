"""`pd attribute`: which registered generator could have made a picture, or each of a folder, by inversion alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..schemas.errors import UsageError
from . import output, settings, sources
from .attribute_folder import Batch, EngineName, attribute_folder
from .options import ExitZero, ForceOption, JsonOption, LedgerFolder
from .verify import (
    DeviceOption,
    Integrity,
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
    from ..attribution.report.assemble import Report


def attribute(
    images: Annotated[
        list[str], typer.Argument(metavar="IMAGE|FOLDER", help="Pictures, or folders of them; `-` reads from stdin.")
    ],
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
    integrity: Annotated[
        Integrity | None, typer.Option(help="Compare the very pixels, or changed ones too (slower).")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Of folders: journal and results. [default: FOLDER.attribution]"),
    ] = None,
    engine: Annotated[EngineName | None, typer.Option(help="Of folders: whose workers run the jobs.")] = None,
    ray_address: Annotated[
        str | None, typer.Option("--ray-address", metavar="ADDRESS", help="A running Ray cluster. [default: its own]")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=0, help="Processes; 0 runs the jobs in this one.")] = None,
    budget_seconds: Annotated[
        float | None, typer.Option("--budget-seconds", min=0, help="Begin no job after so many seconds in all.")
    ] = None,
    encoder: Annotated[
        bool, typer.Option("--encoder", help="Begin at the latent that a generator's own encoder gives.")
    ] = False,
    resume: Annotated[bool, typer.Option("--resume/--no-resume", help="Go on from the journal.")] = True,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try jobs again that were given up.")] = False,
    parquet: Annotated[bool, typer.Option("--parquet", help="Write results.parquet too.")] = False,
    max_pictures: Annotated[int, typer.Option(min=1, help="Refuse folders with more.")] = 100_000,
    max_pixels: Annotated[int, typer.Option(min=1, help="Record larger pictures as unreadable.")] = 64 * 1024 * 1024,
) -> None:
    """\b
        pd attribute face.png --models generators/
        pd attribute face.png --ledger studio.ledger --report face.html
        pd attribute pictures/ --models generators/ --workers 2 --out found/

    Invert every generator given and say which reproduces the picture, how closely, and how strong that is.

    Looks into no log, so it never denies: the verdict is `attributed` (11) or `inconclusive` (3), or `incomplete` (4)
    if a generator could not be inverted. Residuals are in floors of 8-bit rounding: the true generator of an untouched
    PNG comes within 2.

    A folder is a list of jobs, one a picture and generator. Results go to DIR/results.jsonl, a line each; interrupted
    or killed, the same command goes on from DIR/jobs.journal. Pictures that cannot be read are `incomplete`, and the
    exit code is the worst. --engine ray spreads the jobs over a cluster (the extra `ray`).

    Python: plausible.attribution.batch.run.attribute_pictures
    """
    of_folders = {"--out": out, "--engine": engine, "--ray-address": ray_address, "--workers": workers,
                  "--budget-seconds": budget_seconds, "--no-resume": not resume, "--retry-failed": retry_failed,
                  "--parquet": parquet}  # fmt: skip
    asked = [name for name, value in of_folders.items() if value not in (None, False)]
    many = any(Path(image).is_dir() for image in images)
    if asked and not many:
        raise UsageError(f"{asked[0]} is for a folder of pictures")
    if many and (report or key or encoder):
        raise UsageError("--report, --key and --encoder are for single pictures")
    targets = targets_for(report, images, force)
    folders = model_folders(models) if models or ledger is None else []
    if ledger is not None or not folders:
        folders = [*folders, *_registered(ledger)]
    sources.require_attribution()
    options = options_for(
        integrity=integrity.value if integrity else None,
        seconds=seconds,
        device=device,
        threads=threads,
        key=key,
        seed=seed,
        encoder=encoder,
    )
    if many:
        batch = Batch(
            engine=engine or EngineName.LOCAL,
            ray_address=ray_address,
            workers=1 if workers is None else workers,
            out=out,
            seconds=budget_seconds,
            resume=resume,
            retry_failed=retry_failed,
            parquet=parquet,
            max_pictures=max_pictures,
            max_pixels=max_pixels,
        )
        code = attribute_folder(images, folders, options, batch, as_json=as_json)
        raise typer.Exit(0 if exit_zero else code)
    with verifier_for([], (None, None), [], folders, options) as verifier:
        code = run_all(verifier, images, {}, targets, as_json=as_json, force=force, tell=None if as_json else _table)
    raise typer.Exit(0 if exit_zero else code)


def _registered(ledger: str | None) -> list[Path]:
    """The model folders of a ledger of one's own."""
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
