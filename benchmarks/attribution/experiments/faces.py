"""The real face generator's acceptance: its own faces are found, down to the very seed; others' are not called its own.

    python -m benchmarks.attribution faces --threads 2     # 200 own faces
    python -m benchmarks.attribution others --threads 1    # about 500 pictures of others, the nearest relatives first

Rows are kept one by one: an interrupted command (Ctrl-C, or `timeout -s INT 470`) goes on. Times mean something on a
quiet machine with two threads only. "Attributed" is the shipped calibration's limit as verdicts apply it.
"""

from __future__ import annotations

import statistics
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from plausible.attribution.calibration.document import find_calibration
from plausible.attribution.calibration.measure import own_picture
from plausible.attribution.generators import Generator
from plausible.attribution.inversion import ENGINE_VERSION, Inversion, invert
from plausible.attribution.inversion.budget import FLOOR, Budget
from plausible.attribution.scoring.floor import most_differences
from plausible.attribution.scoring.roc import rate
from plausible.attribution.stages.candidates import SEARCH_STEP
from plausible.attribution.stages.decide import DENIAL_SEARCHES, UNPROCESSED, attribution_limit
from plausible.schemas.errors import SetupError

from benchmarks.attribution import plots, relatives
from benchmarks.attribution.experiments.frame import Experiment, Outcome, Settings, Table
from benchmarks.attribution.training import sibling
from examples.faces import fetch

OWN, OWN_SEED = 200, 10_000
DIMENSIONS, SAMPLES = 100, 12_288
SEED_RECOVERED = 0.01
NEAR = 2.0
MUST_FIND, MUST_REPRODUCE = 0.98, 0.90
SECONDS_FIND, SECONDS_REPRODUCE = 3.0, 10.0
FORGIVEN = 0.01
"""Clones whose weights moved by less may end inconclusive; none may be attributed."""


def limit(generator: Generator) -> float:
    """The residual up to which the shipped calibration attributes an unprocessed picture."""
    folder = Path(fetch.__file__).parent
    calibration = find_calibration(folder, generator.digest, Budget())
    limits = None if calibration is None else calibration.classes.get(UNPROCESSED)
    found = None if limits is None else attribution_limit(limits.attribution, limits.denial)
    if found is None:
        raise SetupError(f"no calibration under {folder} fits this engine and budget")
    return found


def _row(found: Inversion, seconds: dict[str, float], searches: int) -> dict[str, Any]:
    return {
        "floors": found.floors, "exact": found.exact, "mismatches": found.mismatches, "searches": searches,
        "stopped": found.stopped, "search_seconds": seconds["adam"] + seconds["lm"],
        "exact_seconds": seconds["exact"], "whiteness": found.diagnostics.whiteness,
    }  # fmt: skip


def search(probe: np.ndarray, generator: Generator, seed: int, threads: int, searches: int) -> tuple[Inversion, Any]:
    """Up to so many searches from different random starts, until one comes near: (the nearest, its row)."""
    best: Inversion | None = None
    seconds = {"adam": 0.0, "lm": 0.0, "exact": 0.0}
    for number in range(searches):
        found = invert(probe, [generator], Budget(), seed=seed + number * SEARCH_STEP, threads=threads)[0]
        seconds = {name: value + found.seconds[name] for name, value in seconds.items()}
        best = found if best is None or found.residual < best.residual else best
        if best.floors <= NEAR:
            return best, _row(best, seconds, number + 1)
    assert best is not None
    return best, _row(best, seconds, searches)


def own_row(generator: Generator, seed: int, threads: int) -> dict[str, Any]:
    """One fresh face: how near, and how far from the true seed."""
    z = generator.latent.draw(1, torch.Generator().manual_seed(seed))[0].double().numpy()
    found, row = search(own_picture(generator, seed), generator, seed, threads, DENIAL_SEARCHES)
    return {**row, "seed_error": float(np.linalg.norm(found.z - z) / np.linalg.norm(z))}


def own(settings: Settings) -> Outcome:
    """200 own faces."""
    generator = fetch.face_generator()
    count = settings.pick(OWN, 4)
    rows: list[dict[str, Any]] = []
    for number in range(count):
        seed = OWN_SEED * settings.seed + number
        rows.append(
            settings.row(
                f"own {ENGINE_VERSION} {generator.digest[7:19]} {seed}",
                lambda s=seed: own_row(generator, s, settings.threads),
            )
        )
        settings.say(f"own {number + 1}/{count}: {rows[-1]['floors']:.2f} floors, exact {rows[-1]['exact']}")
    recovered = [row["floors"] <= NEAR and row["seed_error"] <= SEED_RECOVERED for row in rows]
    once = sum(ok and row["searches"] == 1 for ok, row in zip(recovered, rows, strict=True))
    found, exact = rate(sum(recovered), count), rate(sum(row["exact"] for row in rows), count)
    seek, certify = [row["search_seconds"] for row in rows], [row["exact_seconds"] for row in rows]
    errors = sorted(row["seed_error"] for row, ok in zip(rows, recovered, strict=True) if ok)
    table = [
        [f"within {NEAR:g} floors, seed to {SEED_RECOVERED:.0%} of its norm", str(found), "at least 98 %"],
        ["the same by the first search alone", str(rate(once, count)), ""],
        ["every sample reproduced", str(exact), "at least 90 %"],
        ["seconds of search: mean, median, p95", _told(seek), f"mean at most {SECONDS_FIND:g}"],
        ["seconds of certificate: mean, median, p95", _told(certify), f"mean at most {SECONDS_REPRODUCE:g}"],
        ["error of the recovered seeds, share of the norm: median, largest",
         f"{statistics.median(errors):.5f}, {errors[-1]:.5f}" if errors else "none", ""],
    ]  # fmt: skip
    failures: list[str] = []
    if not settings.quick:
        failures += [f"seeds recovered: {found}"] * (found.value < MUST_FIND)
        failures += [f"reproduced exactly: {exact}"] * (exact.value < MUST_REPRODUCE)
        if settings.threads == 2:
            failures += [f"search took {_told(seek)} s"] * (statistics.mean(seek) > SECONDS_FIND)
            failures += [f"the certificate took {_told(certify)} s"] * (statistics.mean(certify) > SECONDS_REPRODUCE)
    figures = {"recovered": str(found), "first_search": str(rate(once, count)), "exact": str(exact),
               "search_seconds": _told(seek), "exact_seconds": _told(certify)}  # fmt: skip
    drawn = plots.residual_histograms("residuals", "Own faces", {"own": [row["floors"] * FLOOR for row in rows]})
    return Outcome(figures, [Table(f"{count} own faces", ["", "measured", "must"], table)], [drawn], (), failures)


def _told(values: list[float]) -> str:
    ordered = sorted(values)
    p95 = ordered[-(-95 * len(ordered) // 100) - 1]
    return f"{statistics.mean(ordered):.2f}, {statistics.median(ordered):.2f}, {p95:.2f}"


def verdict(row: dict[str, Any], attributing: float) -> str:
    """What the inversion of the original alone would say."""
    if row["exact"]:
        return "exact"
    alike = row["mismatches"] <= most_differences(DIMENSIONS, SAMPLES)
    return "attributed" if row["floors"] * FLOOR <= attributing and alike else "not attributed"


def others(settings: Settings) -> Outcome:
    """About 500 pictures that others made."""
    generator = fetch.face_generator()
    attributing = limit(generator)
    rough = sibling.steps()
    rows: list[dict[str, Any]] = []
    for other in relatives.others(0.02 if settings.quick else 1.0, seed=settings.seed):
        tag = f" {rough}" if other.kind == "sibling" else ""
        # by name, not by place: the list grows once the sibling is trained
        start = zlib.crc32(f"{other.kind} {other.name}".encode())
        row = settings.row(
            f"others {ENGINE_VERSION} {generator.digest[7:19]} {other.kind}{tag} {other.name}",
            lambda o=other, s=start: search(o.pixels, generator, s, settings.threads, 1)[1],
        )
        rows.append({**row, "kind": other.kind, "name": other.name, "distance": other.distance})
        settings.say(f"others {len(rows)}: {other.kind} {other.name}: {row['floors']:.2f} floors, "
                     f"{row['mismatches']} samples differ, {verdict(row, attributing)}")  # fmt: skip
    return _judged(settings, rows, attributing, rough)


def _judged(settings: Settings, rows: list[dict[str, Any]], attributing: float, rough: int) -> Outcome:
    table: list[list[str | int | float]] = []
    failures: list[str] = []
    curves: dict[str, list[tuple[float, float, float, float]]] = {}
    for kind in dict.fromkeys(row["kind"] for row in rows):
        some = [row for row in rows if row["kind"] == kind]
        floors = sorted(row["floors"] for row in some)
        verdicts = [verdict(row, attributing) for row in some]
        exact, attributed = verdicts.count("exact"), verdicts.count("attributed")
        apart = some[0]["distance"]
        table.append([
            kind, "" if apart is None else f"{apart:.2%}", len(some), floors[0], statistics.median(floors), floors[-1],
            min(row["mismatches"] for row in some), str(rate(exact, len(some))), str(rate(attributed, len(some))),
        ])  # fmt: skip
        if exact:
            failures.append(f"{kind}: {exact} of {len(some)} were reproduced exactly")
        if attributed:
            failures.append(f"{kind}: {attributed} of {len(some)} were attributed by their residual")
        if apart is not None:
            family = "moved by chance" if kind.startswith("noise") else "fine-tuned" if "clone" in kind else kind
            curves.setdefault(family, []).append((100 * apart, statistics.median(floors), floors[0], floors[-1]))
    n = len(rows)
    every = rate(sum(verdict(row, attributing) == "exact" for row in rows), n)
    wrong = rate(sum(verdict(row, attributing) == "attributed" for row in rows), n)
    figures = {"n": n, "exact": str(every), "attributed": str(wrong), "attribution_limit_floors": attributing / FLOOR,
               "sibling_steps": rough}  # fmt: skip
    tables = [
        Table(f"{n} pictures of others, inverted on the face generator",
              ["source", "weights moved by", "n", "floors: least", "median", "most", "fewest samples that differ",
               "exact", "attributed"], table)
    ]  # fmt: skip
    # (x, median, low, high) of each family, by distance
    series = {
        name: ([p[0] for p in points], [p[1] for p in points], [p[2] for p in points], [p[3] for p in points])
        for name, points in ((name, sorted(found)) for name, found in curves.items())
    }
    drawn = [
        plots.lines(
            "distance", "How the evidence falls with a clone's distance: median, nearest, farthest", series,
            x="change of all weights, % of their norm", y="residual in floors", log="xy",
        )
    ]  # fmt: skip
    notes = [
        f"Attribution by residual up to {attributing / FLOOR:.2f} floors; a picture that is not attributed may end "
        "inconclusive or, beyond the denial limits of the scope after three searches, deniable.",
        f"The sibling was trained for {rough} steps of {sibling.RECIPE.batch}: a rough one."
        if rough >= sibling.LEAST_STEPS
        else "No sibling: it is not trained here (python -m benchmarks.attribution.training sibling).",
    ]
    return Outcome(figures, tables, drawn, notes, [] if settings.quick else failures)


EXPERIMENTS = [
    Experiment(("faces",), "004", "Own faces of a real generator, down to the seed", "faces.md", own),
    Experiment(("others",), "004", "Others' faces and pictures on the same generator", "faces.md", others),
]
