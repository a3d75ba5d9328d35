"""Own faces after each class of post-processing: how far from their generator they come to lie.

    python -m benchmarks.attribution.classes                     # 50 unlogged faces in each of ten classes
    python -m benchmarks.attribution.classes --workers 8 --threads 1 --classes jpeg crop+jpeg --json classes.json

From the shipped calibrations (examples/faces/calibrations) each class's limits and what they make of these fresh faces
are printed too, and how many would end `deniable` under relaxed by mistake: those whose residual lies
beyond DENIAL_MARGIN times every class's denial limit, by the inversion of its class, in DENIAL_SEARCHES searches from
different random starts. An unprocessed face that plain inversion misses is inverted up to a change, as a verification
does. Exit 1 if one is, 2 if limits are missing. `--rows FILE` judges the rows of an earlier run's JSON again.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from plausible.attribution.calibration.classes import RELAXED, STRICT, describe
from plausible.attribution.calibration.document import Calibration, engine_of, find_calibration
from plausible.attribution.calibration.measure import Job, Row, measure, own_jobs, probe_of
from plausible.attribution.generators import Generator, load_model_folder
from plausible.attribution.inversion import ENGINE_VERSION, RELAXED_VERSION, invert_relaxed
from plausible.attribution.inversion.budget import FLOOR, Budget
from plausible.attribution.scoring.roc import rate
from plausible.attribution.stages.candidates import SEARCH_STEP
from plausible.attribution.stages.decide import DENIAL_MARGIN, DENIAL_SEARCHES

from benchmarks.attribution.faces import conditions, options, spread
from examples.faces import fetch

SEEDS = range(51, 101)


def judge(name: str, rows: list[Row], calibrations: Sequence[Calibration]) -> list[str]:
    """The figures of one class."""
    floors = [row.residual / FLOOR for row in rows]
    out = [
        f"{name}: floors min {min(floors):.1f}, {spread(floors)}",
        f"{name}: seconds {spread([row.seconds for row in rows])}; stopped by agreement "
        f"{rate(sum(row.stopped == 'flat' for row in rows), len(rows))}",
    ]
    # a class counts only under the inversion by which it is measured, and is compared with classes of that one
    alike = [c for c in calibrations if c.engine == engine_of(name)]
    limits = alike[0].classes.get(name) if alike else None
    if limits is None or limits.denial is None:
        return out
    widest = max(other.denial for other in alike[0].classes.values() if other.denial is not None)
    out.append(
        f"{name}: denial limit {limits.denial / FLOOR:.1f} floors; beyond it "
        f"{rate(sum(row.residual > limits.denial for row in rows), len(rows))}"
        "; beyond every class's of this inversion "
        f"{rate(sum(row.residual > widest for row in rows), len(rows))}"
    )
    if limits.attribution is not None:
        within = sum(row.residual <= limits.attribution for row in rows)
        out.append(
            f"{name}: attribution limit {limits.attribution / FLOOR:.1f} floors; within {rate(within, len(rows))}"
        )
    return out


def denied(
    rows: list[Row], generator: Generator, calibrations: Sequence[Calibration], threads: int
) -> list[Row] | None:
    """The rows that nothing but the scope's limits would keep from a denial; None where a class has no limit.

    A verification takes the nearer of both inversions for a processed class: here only the one up to a change is made,
    so this counts at least as many.
    """
    limits = {name: c.classes[name].denial for c in calibrations for name in c.classes if engine_of(name) == c.engine}
    if any(limits.get(name) is None for name in RELAXED):
        return None
    known = {name: limit for name, limit in limits.items() if limit is not None}
    changed = DENIAL_MARGIN * max(limit for name, limit in known.items() if name not in STRICT)
    plain = DENIAL_MARGIN * max(limit for name, limit in known.items() if name in STRICT)
    found: list[Row] = []
    for row in rows:
        if row.residual <= (plain if row.class_name in STRICT else changed):
            continue
        # the first search of an unprocessed face was the plain one; the one up to a change is still to be made
        searches = [row.residual] if row.class_name not in STRICT else []
        probe = probe_of(Job(row.class_name, row.kind, row.name, row.seed), generator)
        for number in range(len(searches), DENIAL_SEARCHES):
            result = invert_relaxed(
                probe, [generator], Budget(), seed=row.seed + number * SEARCH_STEP, threads=threads
            )[0]
            searches.append(result.residual)
            if result.residual <= changed:
                break
        told = ", ".join(f"{residual / FLOOR:.1f}" for residual in searches)
        print(f"{row.class_name} {row.name}: searches from different random starts came to {told} floors", flush=True)
        if min(searches) > changed:
            found.append(row)
    return found


def main(arguments: argparse.Namespace) -> int:
    """Run and print."""
    folder = fetch.model_folder()
    conditions_ = conditions(arguments)
    print(json.dumps(conditions_, indent=1, sort_keys=True))
    generator = load_model_folder(folder)
    shipped = Path(fetch.__file__).parent
    found = [
        find_calibration(shipped, generator.digest, Budget(), engine) for engine in (ENGINE_VERSION, RELAXED_VERSION)
    ]
    calibrations = [calibration for calibration in found if calibration is not None]
    jobs = [job for name in arguments.classes for job in own_jobs(name, SEEDS[: arguments.n])]
    rows: list[Row] = []
    if arguments.rows:
        earlier = json.loads(arguments.rows.read_text(encoding="utf-8"))
        print(f"rows of an earlier run: {json.dumps(earlier['conditions'], sort_keys=True)}")
        rows, jobs = [Row(**row) for row in earlier["rows"]], []
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
    mistaken = denied(rows, generator, calibrations, arguments.threads)
    if mistaken is not None:
        for name in arguments.classes:
            count = sum(row.class_name == name for row in mistaken)
            n = sum(row.class_name == name for row in rows)
            figures.append(f"{name}: unlogged own faces that would end deniable under relaxed {rate(count, n)}")
        figures.append(f"all classes: would end deniable {rate(len(mistaken), len(rows))}")
    print("\n" + "\n".join(figures))
    if arguments.json:
        document = {"format": "plausible.bench-classes/1", "conditions": conditions_, "figures": figures,
                    "calibrations": [calibration.digest for calibration in calibrations],
                    "rows": [dataclasses.asdict(row) for row in rows]}  # fmt: skip
        arguments.json.write_text(json.dumps(document, indent=1), encoding="utf-8")
    if mistaken is None:
        print(
            "the relaxed scope is not calibrated for this budget and engine: nothing would be denied", file=sys.stderr
        )
        return 2
    return 1 if mistaken else 0


if __name__ == "__main__":
    parser = options(__doc__)
    parser.add_argument("--n", type=int, default=50, help="faces in each class")
    parser.add_argument("--classes", nargs="+", default=list(RELAXED), choices=RELAXED)
    parser.add_argument("--rows", type=Path, help="judge the rows of this JSON instead of measuring")
    sys.exit(main(parser.parse_args()))
