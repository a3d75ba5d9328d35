"""`pd models calibrate`: measure how near a generator's own pictures come, and how near others do."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import output, settings, sources, strength
from .options import ForceOption, LedgerFolder

if TYPE_CHECKING:
    from ..attribution.calibration.classes import Pixels
    from ..attribution.calibration.document import Negative
    from ..attribution.generators import Generator


class Part(StrEnum):
    """What is measured."""

    INVERSION = "inversion"
    COPIES = "copies"
    ALL = "all"


def calibrate(
    which: Annotated[str, typer.Argument(metavar="NAME|FOLDER", help="A registered name, or a model folder.")],
    ledger: LedgerFolder = None,
    part: Annotated[Part, typer.Option(help="Limits for the inversion, for changed copies, or both.")] = Part.ALL,
    own: Annotated[int, typer.Option(min=1, help="Own pictures a class; 29 and more give a denial limit.")] = 50,
    classes: Annotated[
        list[str] | None,
        typer.Option("--class", metavar="CLASS", help="Only this class; repeatable. [default: the relaxed scope]"),
    ] = None,
    negatives: Annotated[
        list[Path] | None,
        typer.Option("--negatives", metavar="FOLDER", help="Pictures it did not make; repeatable."),
    ] = None,
    clones: Annotated[
        list[Path] | None,
        typer.Option("--clones", metavar="FOLDER", help="Pictures of models derived from it; repeatable."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The first seed; use one nobody tuned with.")] = 1_000_000,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of each process.")] = None,
    device: Annotated[str | None, typer.Option(help="Where it runs: cpu, cuda, cuda:1, mps. [PD_DEVICE]")] = None,
    encoder: Annotated[bool, typer.Option("--encoder", help="Of searches that begin at its encoder's latent.")] = False,
    plot: strength.PlotOption = None,
    force: ForceOption = False,
) -> None:
    """\b
        pd models calibrate faces --ledger studio.ledger --negatives photos/ --clones clones/ --workers 2

    Measure a generator: how near its own fresh pictures come, processed and not, and how near others come.

    Without a calibration under the same budget and engine version no verdict rests on an inversion but `attributed` by
    an exact match. It takes hours for a large generator; interrupted, it goes on from where it was.

    Python: plausible.attribution.calibration.document.calibrate
    """
    sources.require_attribution()
    from ..attribution.generators import load_model_folder

    folder = strength.model_folder(which, ledger)
    generator = load_model_folder(folder)
    if part is not Part.COPIES:
        names = tuple(dict.fromkeys(classes or ())) or None
        _inversion(
            folder,
            generator,
            names,
            own,
            negatives or [],
            clones or [],
            seed,
            workers,
            threads,
            device,
            encoder,
            plot,
            force,
        )
    if part is not Part.INVERSION:
        _copies(folder, generator, seed, force)


def _inversion(
    folder: Path,
    generator: Generator,
    classes: tuple[str, ...] | None,
    own: int,
    negatives: list[Path],
    clones: list[Path],
    seed: int,
    workers: int,
    threads: int | None,
    device: str | None,
    encoder: bool,
    plot: Path | None,
    force: bool,
) -> None:
    from ..attribution.calibration.classes import RELAXED
    from ..attribution.calibration.document import METHODS
    from ..attribution.calibration.document import calibrate as measure
    from ..attribution.calibration.measure import Row

    others = [n for path in negatives for n in _pictures(path, generator, derivative=False)]
    others += [n for path in clones for n in _pictures(path, generator, derivative=True)]
    chosen = classes or RELAXED
    confirmed = [name for name in chosen if any(name in possible for possible in METHODS.values())]
    with output.progress("calibrating", (len(chosen) + len(confirmed)) * (own + len(others))) as advance:
        before = 0

        def progress(done: int, _total: int, row: Row) -> None:
            nonlocal before
            advance(done - before, f"{row.class_name}")
            before = done

        found = measure(
            folder,
            classes=chosen,
            n=own,
            negatives=dict.fromkeys(chosen, others),
            first_seed=seed,
            workers=workers,
            threads=threads,
            device=str(settings.get("device", device)),
            progress=progress,
            encoder=encoder,
            confirmed=confirmed,
            relatives=others,
        )
    strength.show(found, folder.name, plot, force=force)
    output.note(f"inversion calibrations are in {folder / 'calibrations'}")


def _number(value: float | None) -> str:
    return "none" if value is None else f"{value:.2e}"


def _pictures(folder: Path, generator: Generator, *, derivative: bool) -> list[Negative]:
    """Every picture of a folder, at its own size, with the generator's channels."""
    from ..attribution.calibration.document import Negative
    from ..ledger.entries.images import read_image
    from ..schemas.errors import UsageError

    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder of pictures")
    found = [path for path in sorted(folder.iterdir()) if path.is_file() and not path.name.startswith(".")]
    if not found:
        raise UsageError(f"{folder} holds no pictures")
    kind = folder.resolve().name
    return [
        Negative(kind, path.name, _channels(read_image(path).pixels, generator, path), derivative) for path in found
    ]


def _channels(pixels: Pixels, generator: Generator, path: Path) -> Pixels:
    from ..schemas.errors import UsageError

    wanted = generator.output.channels
    if pixels.shape[2] == wanted:
        return pixels
    grey = wanted == 1 and bool((pixels[..., :1] == pixels[..., 1:3]).all())
    if pixels.shape[2] == 4 or not grey:
        raise UsageError(f"{path} has {pixels.shape[2]} channels, {generator.name} makes {wanted}: convert it first")
    return pixels[..., :1]


def _copies(folder: Path, generator: Generator, seed: int, force: bool) -> None:
    import torch

    from ..attribution.copies.limits import FILE, CopyLimits, calibrate_copies
    from ..ledger.entries.digests import canonical_pixels

    def draw(count: int, at: int) -> list[Pixels]:
        latents = generator.latent.draw(count, torch.Generator().manual_seed(at))
        return [canonical_pixels(picture) for picture in generator.sample(latents).numpy()]

    with output.progress("changed copies", None) as advance:
        before = 0

        def progress(done: int, _total: int) -> None:
            nonlocal before
            advance(done - before)
            before = done

        data = calibrate_copies(draw, generator.digest, seed=seed, progress=progress)
    target = folder / "calibrations" / FILE
    output.write_file(target, data, force=force)
    limits = CopyLimits.parse(data, model=generator.digest)
    output.table(
        ("family", "own", "strangers", "residual limit", "share limit"),
        [
            (name, found.positives, found.negatives, _number(found.residual), _number(found.share))
            for name, found in limits.families.items()
        ],
    )
    output.note(f"copy calibration in {target}")
