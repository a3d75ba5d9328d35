"""R5 (004 Table I): which of some relatives made a picture, after a manipulation.

Every probe is a fresh 8-bit picture of one of the candidates (closed_set.py), manipulated as albumentations does
(manipulations.py) and inverted on all of them at once by `invert_transformed`, which is not told what was done. The
smallest residual answers. The control, on some of the same probes, is 004's own recipe: three starts of 500 Adam steps
on the pixels, nothing undone. One row for each probe and recipe.
"""

from __future__ import annotations

import functools
import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from plausible.attribution.calibration.measure import own_picture
from plausible.attribution.generators import Generator
from plausible.attribution.inversion import TRANSFORM_VERSION, TransformedInversion, invert_transformed
from plausible.attribution.inversion.budget import FLOOR, Budget
from plausible.attribution.scoring.roc import clopper_pearson

from benchmarks.attribution import plots
from benchmarks.attribution.closed_set import closed_set
from benchmarks.attribution.experiments.frame import Experiment, Outcome, Settings, Table
from benchmarks.attribution.manipulations import TABLE_I, Pixels, manipulated
from benchmarks.attribution.recipe004 import reconstruct, starts_of
from benchmarks.attribution.sources import MANIPULATED_SEEDS

PAPER_TABLE_I: Mapping[str, tuple[float, float]] = {
    "blur": (0.05, 0.023), "noise": (0.123, 0.09), "mirror": (0.253, 0.23), "crop": (0.143, 0.097),
    "rotate": (0.057, 0.03), "zoom": (0.103, 0.057),
}  # fmt: skip
"""Printed error rates at 3 and at 10 attempts, n = 300."""
SHARE_OF_PAPER = 1 / 3
CONTROL_ATTEMPTS = 3
NAMED: Mapping[str, str] = {
    "blur": "blur", "mirror": "mirror", "crop": "crop", "rotate": "rotation", "zoom": "crop",
}  # fmt: skip
"""What `Transform.names` calls each; noise is told by the residual."""


@functools.cache
def candidates() -> dict[str, Generator]:
    """The candidates, made once."""
    return closed_set()


def probe(name: str, source: str, index: int) -> tuple[Pixels, dict[str, Any], int]:
    """The index-th probe of a source after manipulation `name`, what was done, and its seed."""
    seed = MANIPULATED_SEEDS[source][index]
    pixels, parameters = manipulated(name, own_picture(candidates()[source], seed), seed)
    return pixels, parameters, seed


def _ours(name: str, source: str, index: int, threads: int) -> dict[str, Any]:
    pixels, parameters, seed = probe(name, source, index)
    began, worked = time.perf_counter(), time.process_time()
    found = invert_transformed(pixels, list(candidates().values()), Budget(), seed=seed, threads=threads)
    names = list(candidates())
    residuals = [result.residual for result in found]
    best = found[int(np.argmin(residuals))]
    return {
        "answer": names[int(np.argmin(residuals))],
        "cpu": time.process_time() - worked,
        "done": parameters,
        "floors": {n: r / FLOOR for n, r in zip(names, residuals, strict=True)},
        "found": str(best),
        "iterations": [result.iterations for result in found],
        "kept": best.kept,
        "named": _named(name, best),
        "rounds": max(result.rounds for result in found),
        "source": source,
        "stopped": best.stopped,
        "wall": time.perf_counter() - began,
    }


def _named(name: str, best: TransformedInversion) -> bool | None:
    """Whether what was done is among what was found; None for what is not looked for."""
    if name == "noise":
        return best.is_noise
    return NAMED[name] in best.transform.names() if name in NAMED else None


def _control(name: str, source: str, index: int) -> dict[str, Any]:
    """004's recipe: the last step's loss of three attempts, nothing undone."""
    pixels, _, seed = probe(name, source, index)
    worked = time.process_time()
    losses = {
        label: float(reconstruct(pixels[None], generator, starts_of(generator, [seed], CONTROL_ATTEMPTS)).losses.min())
        for label, generator in candidates().items()
    }
    return {
        "answer": min(losses, key=lambda label: losses[label]),
        "cpu": time.process_time() - worked,
        "floors": {label: loss / FLOOR for label, loss in losses.items()},
        "source": source,
    }


def _rows(settings: Settings, names: Sequence[str], each: int, control: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Rows by manipulation, of both recipes; breadth first, so that a run that is cut off has some of every kind."""
    ours: dict[str, list[Any]] = {name: [] for name in names}
    theirs: dict[str, list[Any]] = {name: [] for name in names}
    sources = list(candidates())
    digests = "-".join(generator.digest[7:13] for generator in candidates().values())
    key = f"{TRANSFORM_VERSION}/{Budget().digest[7:15]}/{digests}"
    for index in range(each):
        for name in names:
            # a quick run takes the sources in turn
            for source in sources if not settings.quick else [sources[list(names).index(name) % len(sources)]]:
                label = f"{name}/{source}/{index}"
                row = settings.row(f"{key}/{label}", functools.partial(_ours, name, source, index, settings.threads))
                ours[name].append(row)
                floors = ", ".join(f"{n} {v:.1f}" for n, v in row["floors"].items())
                settings.say(f"{label}: {row['answer']} ({floors} floors), {row['cpu']:.1f} s; {row['found']}")
                if index < control:
                    other = settings.row(f"004/{digests}/{label}", functools.partial(_control, name, source, index))
                    theirs[name].append(other)
                    settings.say(f"{label}: 004's recipe answers {other['answer']}, {other['cpu']:.1f} s")
    return ours, theirs


def _errors(rows: Sequence[Mapping[str, Any]]) -> int:
    return sum(row["answer"] != row["source"] for row in rows)


def _figures(name: str, rows: Sequence[Mapping[str, Any]], control: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    own = [row["floors"][row["source"]] for row in rows]
    rival = [min(v for n, v in row["floors"].items() if n != row["source"]) for row in rows]
    named = [row["named"] for row in rows if row["named"] is not None]
    return {
        "control_error": str(clopper_pearson(_errors(control), len(control))),
        "control_seconds": statistics.median(row["cpu"] for row in control) if control else None,
        "error": str(clopper_pearson(_errors(rows), len(rows))),
        "errors": _errors(rows),
        "explained": sum(row["stopped"] == "explained" for row in rows),
        "n": len(rows),
        "named": sum(named) if named else None,
        "own_floors": statistics.median(own),
        "rival_floors": statistics.median(rival),
        "seconds": statistics.median(row["cpu"] for row in rows),
    }


def _outcome(
    names: Sequence[str], ours: Mapping[str, Any], theirs: Mapping[str, Any], paper: Mapping[str, Sequence[float]],
    block: str,
) -> Outcome:  # fmt: skip
    figures = {name: _figures(name, ours[name], theirs[name]) for name in names}
    table = Table(
        "Attribution error among relatives, nothing told about the manipulation",
        ["manipulation", "004: 3 attempts, 10", "ours", "004's recipe here, 3 attempts", "change named",
         "median residual in floors: own, nearest rival", "median seconds of processor: ours, 004's"],
        [
            [
                name,
                ", ".join(f"{100 * value:.1f} %" for value in paper[name]),
                figure["error"],
                figure["control_error"],
                "-" if figure["named"] is None else f"{figure['named']}/{figure['n']}",
                f"{figure['own_floors']:.1f}, {figure['rival_floors']:.1f}",
                f"{figure['seconds']:.1f}, "
                + ("-" if figure["control_seconds"] is None else f"{figure['control_seconds']:.1f}"),
            ]
            for name, figure in figures.items()
        ],
        block=block,
    )  # fmt: skip
    failures = [
        f"{name}: {figure['error']}, more than a third of 004's {100 * paper[name][0]:.1f} %"
        for name, figure in figures.items()
        if figure["errors"] > SHARE_OF_PAPER * paper[name][0] * figure["n"]
    ]
    labels = list(candidates())
    counts = [
        [sum(row["answer"] == answer for name in names for row in ours[name] if row["source"] == source)
         for answer in labels]
        for source in labels
    ]  # fmt: skip
    title = f"{block}: all manipulations"
    return Outcome(
        figures=figures,
        tables=[table],
        plots=[plots.confusion("confusion", title, labels, counts, block=block)],
        failures=failures,
    )


def table_one(settings: Settings) -> Outcome:
    """R5: 20 probes of each relative for each manipulation; one of them by 004's recipe too."""
    names = list(TABLE_I)
    ours, theirs = _rows(settings, names, settings.pick(20, 1), settings.pick(1, 0))
    return _outcome(names, ours, theirs, PAPER_TABLE_I, "R5")


EXPERIMENTS = [
    Experiment(("R5",), "004", "Table I: non-adversarial manipulations", "manipulations.md", table_one),
]
