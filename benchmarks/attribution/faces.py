"""Inversion on a real face generator: 50 own PNG faces, then 50 pictures it did not make, then 20 of a near relative.

    python -m benchmarks.attribution.faces                       # one probe at a time on two threads
    python -m benchmarks.attribution.faces --workers 8 --threads 1 --json faces.json

Every row is printed. Random starts only, the default budget. The control, on the first own faces of the same run, is
multi-start Adam alone (000's recipe: ten starts, 1,000 steps, rate 0.1). Times mean something with one worker on a
quiet machine only.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import platform
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from plausible.attribution.calibration.document import environment
from plausible.attribution.calibration.measure import OWN, Job, Row, measure, own_jobs
from plausible.attribution.inversion import ENGINE_VERSION
from plausible.attribution.inversion.budget import FLOOR, Budget
from plausible.attribution.scoring.roc import rate

from benchmarks.attribution.sources import benchmark_negatives, near_clone_faces
from examples.faces.fetch import model_folder

OWN_SEEDS = range(1, 51)
NEAR_FLOORS = 10.0
"""Nobody else's picture may come so near: exit 1 if one does. The faces of the nearer clone are told apart."""
CONTROL = Budget(adam_starts=10, adam_steps=1000, lm_starts=0, rounds=1, exact_iterations=0)


def spread(values: Sequence[float]) -> str:
    """Median, 95th percentile (the value at rank ceil(0.95 n)) and largest."""
    ordered = sorted(values)
    rank = -(-95 * len(ordered) // 100) - 1
    return f"median {statistics.median(ordered):.3g}, p95 {ordered[rank]:.3g}, max {ordered[-1]:.3g}"


def line(row: Row) -> str:
    """One row of the table."""
    stages = " ".join(f"{name} {seconds:.2f}" for name, seconds in row.stages.items())
    return (
        f"{row.kind:7} {row.name:>14} {row.residual / FLOOR:10.2f} floors  differing {row.mismatches:5d}"
        f"  {'exact' if row.exact else '-':5}  {row.stopped:6}  rounds {row.rounds}  Jacobians {row.iterations:3d}"
        f"  agreeing {row.agreeing}  {row.seconds:6.2f} s ({stages})"
    )


def summarise(rows: Sequence[Row]) -> list[str]:
    """The figures that docs quote."""
    own = [row for row in rows if row.kind == OWN]
    out: list[str] = []
    if own:
        near = sum(row.residual <= 2 * FLOOR for row in own)
        out += [
            f"own within 2 floors: {rate(near, len(own))}",
            f"own reproduced exactly: {rate(sum(row.exact for row in own), len(own))}",
            f"own residual in floors: {spread([row.residual / FLOOR for row in own])}",
            f"own seconds: {spread([row.seconds for row in own])}",
            f"own Jacobians: {spread([float(row.iterations) for row in own])}",
        ]
    for kind in dict.fromkeys(row.kind for row in rows if row.kind != OWN):
        some = [row for row in rows if row.kind == kind]
        floors = [row.residual / FLOOR for row in some]
        out += [
            f"{kind}: nearest {min(floors):.1f} floors, {spread(floors)}",
            f"{kind}: called exact: {rate(sum(row.exact for row in some), len(some))}",
            f"{kind}: seconds: {spread([row.seconds for row in some])}",
        ]
    return out


def run(name: str, jobs: Sequence[Job], budget: Budget, arguments: argparse.Namespace) -> list[Row]:
    """Measure and print as rows come."""
    print(f"\n{name}: {len(jobs)} probes")
    rows: list[Row] = []
    for row in measure(
        jobs, model_folder(), budget, workers=arguments.workers, threads=arguments.threads, device=arguments.device
    ):
        print(line(row), flush=True)
        rows.append(row)
    return sorted(rows, key=lambda row: [job.key for job in jobs].index(row.key))


def options(description: str | None) -> argparse.ArgumentParser:
    """The options both attribution benchmarks have."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=1, help="worker processes (1: this one)")
    parser.add_argument("--threads", type=int, default=2, help="threads of each")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--json", type=Path, help="write all rows and figures here")
    return parser


def conditions(arguments: argparse.Namespace) -> dict[str, Any]:
    """What was run, on what."""
    return {
        "budget": Budget().to_json(),
        "command": "python -m " + " ".join(["benchmarks", *sys.argv[1:]]),
        "device": arguments.device,
        "engine": ENGINE_VERSION,
        "environment": environment(arguments.device),
        "processor": platform.processor() or platform.machine(),
        "threads": arguments.threads,
        "workers": arguments.workers,
    }


def main(arguments: argparse.Namespace) -> int:
    """Run; exit 1 if a picture the generator did not make was reproduced."""
    conditions_ = conditions(arguments)
    print(json.dumps(conditions_, indent=1, sort_keys=True))
    own = run("own faces, unlogged, PNG", own_jobs("unprocessed", OWN_SEEDS[: arguments.n]), Budget(), arguments)
    negatives = benchmark_negatives()
    others = run("not the generator's", negatives[:: -(-len(negatives) // arguments.n)], Budget(), arguments)
    near = run(
        "a nearer relative: a clone of a quarter of the steps", near_clone_faces()[: arguments.n], Budget(), arguments
    )
    control = run("control: Adam alone", own_jobs("unprocessed", OWN_SEEDS[: arguments.control]), CONTROL, arguments)
    figures = summarise([*own, *others, *near])
    within = sum(row.residual <= NEAR_FLOORS * FLOOR for row in others)
    figures.append(f"others within {NEAR_FLOORS:g} floors: {rate(within, len(others))}")
    if control:
        same = own[: len(control)]
        figures += [f"control {text}" for text in summarise(control)]
        slower = sum(r.seconds for r in control) / sum(r.seconds for r in same)
        farther = statistics.median(r.residual for r in control) / statistics.median(r.residual for r in same)
        figures.append(
            f"control over engine on the same {len(control)} faces: seconds x {slower:.1f}, "
            f"median residual x {farther:.0f}"
        )
    print("\n" + "\n".join(figures))
    if arguments.json:
        rows = [dataclasses.asdict(row) for row in (*own, *others, *near)]
        document = {"format": "plausible.bench-faces/1", "conditions": conditions_, "figures": figures, "rows": rows,
                    "control": [dataclasses.asdict(row) for row in control]}  # fmt: skip
        arguments.json.write_text(json.dumps(document, indent=1), encoding="utf-8")
    return int(any(row.exact for row in (*others, *near)) or within > 0)


if __name__ == "__main__":
    parser = options(__doc__)
    parser.add_argument("--n", type=int, default=50, help="probes of each sort")
    parser.add_argument("--control", type=int, default=3, help="own faces that the control inverts too")
    torch.manual_seed(0)
    sys.exit(main(parser.parse_args()))
