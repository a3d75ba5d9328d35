"""Calibrate the face generator's inversion: own faces of every class, its clone's faces, emoji and digits.

    python -m benchmarks.attribution.calibrate --workers 16 --threads 1

Resumable: run it again after an interruption; or class by class with --classes. The documents (one for the unprocessed
class, one for the others, one for what confirms JPEG files) go into the model folder's `calibrations/`, and to --copy.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from plausible.attribution.calibration.classes import RELAXED, STRICT
from plausible.attribution.calibration.document import METHODS, Calibration, calibrate
from plausible.attribution.calibration.measure import Row
from plausible.attribution.inversion.budget import FLOOR

from benchmarks.attribution.relatives import confirmation_negatives
from benchmarks.attribution.sources import calibration_negatives
from examples.faces.fetch import model_folder


def recorded(arguments: Sequence[str]) -> str:
    """The command that the documents keep: what was asked for, without the options that name this machine's folders."""
    kept: list[str] = []
    skip = False
    for word in arguments:
        local = word.split("=")[0] in ("--copy", "--folder")
        if not skip and not local:
            kept.append(word)
        skip = local and "=" not in word
    return " ".join(["python -m benchmarks.attribution.calibrate", *kept])


def show(calibration: Calibration) -> None:
    """One line per class, in floors; statistics of a confirmation as they are."""
    unit, digits = (1.0, 3) if calibration.engine in METHODS else (FLOOR, 1)

    def floors(value: float | None) -> str:
        return "none" if value is None else f"{value / unit:.{digits}f}"

    for name, limits in calibration.classes.items():
        print(
            f"{name:15} n {limits.n:3d}  denial {floors(limits.denial):>8}  attribution {floors(limits.attribution):>8}"
            f"  ({limits.negatives} negatives, nearest {floors(min(limits.other, default=None))})"
            f"  failures {limits.failures}, at most {limits.failure_bound:.3f}"
        )
    print(calibration.digest)


def main(arguments: argparse.Namespace) -> int:
    """Run and print the limits."""
    began = time.monotonic()

    def progress(done: int, total: int, row: Row) -> None:
        print(
            f"{done}/{total} {time.monotonic() - began:.0f} s  {row.class_name} {row.kind} {row.name}: "
            f"{row.residual / FLOOR:.2f} floors (or {row.residual:.3f} as a statistic) in {row.seconds:.1f} s",
            file=sys.stderr,
            flush=True,
        )

    wanted = calibration_negatives(processed=arguments.strangers) if arguments.classes else {}
    calibrations = calibrate(
        arguments.folder or model_folder(),
        classes=arguments.classes,
        n={name: arguments.n_unprocessed if name in STRICT else arguments.n for name in RELAXED},
        negatives={name: wanted[name] for name in arguments.classes},
        workers=arguments.workers,
        threads=arguments.threads,
        device=arguments.device,
        progress=progress,
        command=recorded(sys.argv[1:]),
        confirmed=arguments.confirmed,
        relatives=confirmation_negatives() if arguments.confirmed else (),
    )
    for calibration in calibrations:
        show(calibration)
    if arguments.copy:
        arguments.copy.mkdir(parents=True, exist_ok=True)
        for path in (Path(arguments.folder or model_folder()) / "calibrations").glob("inversion-*.json"):
            shutil.copy(path, arguments.copy)
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        allow_abbrev=False, description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--folder", type=Path, help="another model folder than the face generator's")
    parser.add_argument("--n", type=int, default=50, help="own faces in each processed class")
    parser.add_argument("--n-unprocessed", type=int, default=100, help="own faces as they are")
    parser.add_argument("--strangers", type=int, default=15, help="emoji and digits in a processed class, half of each")
    parser.add_argument("--classes", nargs="*", default=list(RELAXED), choices=RELAXED)
    parser.add_argument("--confirmed", nargs="*", default=["jpeg"], help="classes whose confirmation is measured too")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--copy", type=Path, help="a folder that gets a copy of the documents")
    sys.exit(main(parser.parse_args()))
