"""Own faces after each class of post-processing: how far from their generator they come to lie.

    python -m benchmarks.attribution.classes                     # 50 unlogged faces in each of ten classes
    python -m benchmarks.attribution.classes --workers 8 --threads 1 --classes jpeg crop+jpeg --json classes.json

Where the model folder holds a calibration for this budget and engine, each class's limits and what they make of these
fresh faces are printed too: a face beyond every denial limit of the scope would be denied by mistake.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence

from plausible.attribution.budget import FLOOR, Budget
from plausible.attribution.calibration import Calibration, engine_of, find_calibration
from plausible.attribution.classes import RELAXED, describe
from plausible.attribution.generators import load_model_folder
from plausible.attribution.inversion import ENGINE_VERSION, RELAXED_VERSION
from plausible.attribution.measure import Row, measure, own_jobs

from benchmarks.attribution.faces import conditions, options, rate, spread
from examples.faces.fetch import model_folder

SEEDS = range(51, 101)


def judge(name: str, rows: list[Row], calibrations: Sequence[Calibration]) -> list[str]:
    """The figures of one class."""
    floors = [row.residual / FLOOR for row in rows]
    out = [
        f"{name}: floors min {min(floors):.1f}, {spread(floors)}",
        f"{name}: seconds {spread([row.seconds for row in rows])}; stopped by agreement "
        + rate(sum(row.stopped == "flat" for row in rows), len(rows)),
    ]
    # a class counts only under the inversion by which it is measured, and is compared with classes of that one
    alike = [c for c in calibrations if c.engine == engine_of(name)]
    limits = alike[0].classes.get(name) if alike else None
    if limits is None or limits.denial is None:
        return out
    widest = max(other.denial for other in alike[0].classes.values() if other.denial is not None)
    out.append(
        f"{name}: denial limit {limits.denial / FLOOR:.1f} floors; beyond it "
        + rate(sum(row.residual > limits.denial for row in rows), len(rows))
        + "; beyond every class's of this inversion "
        + rate(sum(row.residual > widest for row in rows), len(rows))
    )
    if limits.attribution is not None:
        within = sum(row.residual <= limits.attribution for row in rows)
        out.append(
            f"{name}: attribution limit {limits.attribution / FLOOR:.1f} floors; within {rate(within, len(rows))}"
        )
    return out


def main(arguments: argparse.Namespace) -> int:
    """Run and print."""
    folder = model_folder()
    conditions_ = conditions(arguments)
    print(json.dumps(conditions_, indent=1, sort_keys=True))
    digest = load_model_folder(folder).digest
    found = [find_calibration(folder, digest, Budget(), engine) for engine in (ENGINE_VERSION, RELAXED_VERSION)]
    calibrations = [calibration for calibration in found if calibration is not None]
    jobs = [job for name in arguments.classes for job in own_jobs(name, SEEDS[: arguments.n])]
    rows: list[Row] = []
    for row in measure(
        jobs, folder, Budget(), workers=arguments.workers, threads=arguments.threads, device=arguments.device
    ):
        print(
            f"{row.class_name:15} {row.name:>4} {row.residual / FLOOR:10.2f} floors  {row.stopped:6}"
            f"  agreeing {row.agreeing}  Jacobians {row.iterations:3d}  {row.seconds:6.2f} s"
            f"  {describe(row.parameters)}",
            flush=True,
        )
        rows.append(row)
    figures: list[str] = []
    for name in arguments.classes:
        figures += judge(name, [row for row in rows if row.class_name == name], calibrations)
    print("\n" + "\n".join(figures))
    if arguments.json:
        document = {"format": "plausible.bench-classes/1", "conditions": conditions_, "figures": figures,
                    "calibrations": [calibration.digest for calibration in calibrations],
                    "rows": [dataclasses.asdict(row) for row in rows]}  # fmt: skip
        arguments.json.write_text(json.dumps(document, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    parser = options(__doc__)
    parser.add_argument("--n", type=int, default=50, help="faces in each class")
    parser.add_argument("--classes", nargs="+", default=list(RELAXED), choices=RELAXED)
    sys.exit(main(parser.parse_args()))
