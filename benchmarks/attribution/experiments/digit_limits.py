"""What the engine must show on digits: how fast (`mnist-speed`) and how sure of "none of these" (`open-set`).

mnist-speed   one thread, one run, the three methods in turns: 000's recipe one run after another, the same side by
              side, the engine; and the engine's answers on every pair and repetition of E1 to E3
open-set      one generator at a time and probes that it never made; the threshold fixed on other digits
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray
from plausible.attribution.generators import Generator
from plausible.attribution.inversion import MANY_VERSION, MLP_BUDGET, invert_many
from plausible.attribution.inversion.budget import FLOOR
from plausible.attribution.scoring.roc import auc, rate, upper_bound
from plausible.attribution.stages.findings import FLAT_VARIANCE

from benchmarks.attribution import plots, recipe000
from benchmarks.attribution.digit_pairs import ENGINE, DigitPair, Told, engine_losses, recipe_losses, told
from benchmarks.attribution.experiments.autoencoders import HEADER, PAGE, QUICK_STEPS, line
from benchmarks.attribution.experiments.frame import Experiment, Outcome, Plot, Settings, Table
from benchmarks.attribution.training.autoencoders import Pair
from benchmarks.data import Pixels
from benchmarks.digits import digits

SEQUENTIAL_GAIN, BATCHED_GAIN, LEAST_S = 1000, 25, 0.9
REPETITIONS, PROBES = 5, 500
TRUE_RATE, FALSE_RATE, NEGATIVES = 0.99, 0.001, 3_000
DIM = 0.05
"""Contrast of digits that are nearly black: the nearest negatives, since all pictures meet in the dark."""


def _pair(settings: Settings, kind: Pair, repetition: int) -> DigitPair:
    steps = QUICK_STEPS if settings.quick else None
    return DigitPair.trained(kind, settings.seed + repetition, steps=steps, say=settings.say)


def _timed(run: Callable[[], object]) -> tuple[float, float]:
    """(wall seconds, processor seconds) of a call."""
    wall, processor = time.perf_counter(), time.process_time()
    run()
    return time.perf_counter() - wall, time.process_time() - processor


def _speeds(settings: Settings, pair: DigitPair) -> list[dict[str, Any]]:
    """Milliseconds a probe, on both generators of a pair, in rounds of all three methods."""
    sides = [pair.probes(side, settings.pick(PROBES, 50)) for side in (0, 1)]
    recipe = recipe000.MNIST
    naive_count, batch_count = settings.pick(1, 1), settings.pick(50, 5)

    def naive(number: int) -> None:
        probe = sides[number % 2][number : number + naive_count]
        for one in pair.generators:
            recipe000.sequential(probe, one, recipe, recipe000.starts_of(one, naive_count, recipe, seed=number))

    def together(number: int) -> None:
        recipe_losses(sides[number % 2][:batch_count], pair, recipe, seed=number)

    def engine(number: int) -> None:
        engine_losses(sides[number % 2], pair)

    engine(0)  # the first call of a process builds its kernels
    rows: list[dict[str, Any]] = []
    for number in range(settings.pick(6, 1)):
        methods = (
            ("sequential", naive, naive_count),
            ("batched", together, batch_count),
            ("engine", engine, len(sides[0])),
        )
        for name, run, count in methods:
            wall, processor = _timed(partial(run, number))
            row = {"method": name, "wall": 1e3 * wall / count, "processor": 1e3 * processor / count, "probes": count}
            rows.append(row)
            settings.say(f"{name}: {row['wall']:.2f} ms a probe, {row['processor']:.2f} of the processor")
    return rows


def run_speed(settings: Settings) -> Outcome:
    """Ratios of medians in one run, then the answers."""
    first = _pair(settings, "order", 0)
    measured = settings.row(f"speed {MANY_VERSION} {ENGINE.digest[7:19]}", lambda: _speeds(settings, first))
    medians = {
        (name, clock): float(np.median([row[clock] for row in measured if row["method"] == name]))
        for name in ("sequential", "batched", "engine") for clock in ("wall", "processor")
    }  # fmt: skip
    ratios = {
        (name, clock): medians[name, clock] / medians["engine", clock]
        for name in ("sequential", "batched") for clock in ("wall", "processor")
    }  # fmt: skip
    speed = Table(
        "One thread, both generators of a pair: medians of rounds in turns",
        ["method", "ms a probe", "ms of the processor", "times the engine's", "of the processor"],
        [[name, round(medians[name, "wall"], 2), round(medians[name, "processor"], 2),
          round(medians[name, "wall"] / medians["engine", "wall"]),
          round(medians[name, "processor"] / medians["engine", "processor"])]
         for name in ("sequential", "batched", "engine")],
    )  # fmt: skip
    rows: list[list[str | int | float]] = []
    failures: list[str] = []
    count = settings.pick(PROBES, 20)
    for kind in get_args(Pair):
        for repetition in range(1 if settings.quick else REPETITIONS):
            pair = _pair(settings, kind, repetition)
            digests = " ".join(one.digest[7:19] for one in pair.generators)
            key = f"{kind} {digests} {MANY_VERSION} {ENGINE.digest[7:19]} {count}"
            found = told(settings.row, key, pair, count, partial(engine_losses, pair=pair))
            rows.append(line(f"{kind} {repetition + 1}", found))
            failures += _unmet(f"{kind} {repetition + 1}", found)
    for name, wanted in (("sequential", SEQUENTIAL_GAIN), ("batched", BATCHED_GAIN)):
        if ratios[name, "wall"] < wanted:
            failures.append(f"{ratios[name, 'wall']:.0f} times as fast as the {name} recipe, not {wanted}")
    numbers = {
        "milliseconds": {f"{name} {clock}": value for (name, clock), value in medians.items()},
        "ratios": {f"{name} {clock}": value for (name, clock), value in ratios.items()},
        "rounds": measured,
    }
    note = "Ratios are of wall time in turns of all methods; processor time stands beside it since other work ran."
    return Outcome(
        numbers, [speed, Table("The engine's answers", HEADER, rows)], [], [note], [] if settings.quick else failures
    )


def _unmet(name: str, found: Told) -> list[str]:
    area = auc(*found.scores)
    failures = [] if area.value == 1 else [f"{name}: AUC {area.value:.6f}, not 1"]
    least = float(np.abs(found.margins).min())
    return failures if least >= LEAST_S else [*failures, f"{name}: |S| as low as {least:.3f}, not {LEAST_S}"]


Sources = dict[str, Pixels]


def sources(settings: Settings, repetition: int, *, calibrating: bool) -> tuple[Generator, Sources]:
    """The generator in question (E2's first) and probes by kind; `own` first. Other digits if calibrating."""
    order, init, parity = (_pair(settings, kind, repetition) for kind in ("order", "init", "parity"))
    stranger = _pair(settings, "order", (repetition + 1) % settings.pick(REPETITIONS, 2))
    generator = order.generators[0]
    held, labels = digits().held, digits().held_labels
    # two thirds of the held-out digits test, one third sets the threshold
    third = len(held) // 3
    rng = np.random.default_rng((settings.seed, repetition, int(calibrating)))
    rows = rng.permutation(np.arange(2 * third, len(held)) if calibrating else np.arange(2 * third))
    own, each = (
        (settings.pick(200, 20), settings.pick(100, 10))
        if calibrating
        else (settings.pick(500, 20), settings.pick(150, 10))
    )

    def made(pair: DigitPair, side: int, count: int, which: NDArray[np.int64]) -> Pixels:
        return pair.generators[side].sample(pair.halves[side].codes(held[which[:count]])).numpy()

    odd, even = rows[labels[rows] % 2 == 1], rows[labels[rows] % 2 == 0]
    real = held[rows[-2 * each :]][..., None]
    return generator, {
        "own": made(order, 0, own, rows),
        "another order": made(order, 1, each, rows),
        "another start": made(init, 1, each, rows),
        "another repetition": made(stranger, 0, each, rows),
        "odd digits only": made(parity, 0, each, odd),
        "even digits only": made(parity, 1, each, even),
        "real digits": real[:each],
        f"real digits at {DIM} contrast": np.rint(real[each:] * DIM).astype(np.uint8),
        "blank": np.full((3, 28, 28, 1), [[[[0]]], [[[128]]], [[[255]]]], np.uint8),
    }


def _asked(generator: Generator, probes: Pixels, seed: int) -> dict[str, Any]:
    (found,) = invert_many(probes, [generator], MLP_BUDGET, seed=seed, threads=1)
    flat = (probes.reshape(len(probes), -1) / 255).var(1) < FLAT_VARIANCE
    return {"floors": found.floors, "exact": found.exact, "flat": flat, "mismatches": found.mismatches}


def run_open(settings: Settings) -> Outcome:
    """Thresholds per generator on their own digits, then every kind of probe against it."""
    told_rows: dict[str, list[dict[str, Any]]] = {}
    for repetition in range(settings.pick(REPETITIONS, 1)):
        threshold = np.nan
        for calibrating in (True, False):
            generator, probes = sources(settings, repetition, calibrating=calibrating)
            answers: dict[str, dict[str, Any]] = {}
            for kind, some in probes.items():
                made_of = f"{generator.digest[7:19]} {MANY_VERSION} {MLP_BUDGET.digest[7:19]}"
                key = f"{made_of} {kind} {calibrating} {len(some)}"
                answers[kind] = settings.row(key, partial(_asked, generator, some, settings.seed))
            settings.say(f"repetition {repetition + 1}, {'threshold' if calibrating else 'test'}: done")
            if calibrating:
                threshold = _threshold(answers)
            else:
                for kind, answer in answers.items():
                    told_rows.setdefault(kind, []).append({**answer, "threshold": threshold})
    return _judged(settings, told_rows)


def _threshold(answers: dict[str, dict[str, Any]]) -> float:
    """Floors: between the largest own residual and the least of others that are not flat, halfway by logarithms."""
    own = max(answers["own"]["floors"])
    others = min(
        floors
        for kind, answer in answers.items() if kind != "own"
        for floors, flat in zip(answer["floors"], answer["flat"], strict=True) if not flat
    )  # fmt: skip
    return float(np.sqrt(own * others)) if others > own else own


def _judged(settings: Settings, found: dict[str, list[dict[str, Any]]]) -> Outcome:
    """Counts by kind: within the threshold, exact, and both with something to see in the picture."""
    rules: dict[str, Callable[[dict[str, Any]], NDArray[np.bool_]]] = {
        "threshold": lambda a: np.asarray(a["floors"]) <= a["threshold"],
        "threshold, not flat": lambda a: (np.asarray(a["floors"]) <= a["threshold"]) & ~np.asarray(a["flat"]),
        "exact": lambda a: np.asarray(a["exact"], dtype=bool),
        "exact, not flat": lambda a: np.asarray(a["exact"], dtype=bool) & ~np.asarray(a["flat"]),
    }
    counts = {
        kind: {name: int(sum(rule(answer).sum() for answer in answers)) for name, rule in rules.items()}
        for kind, answers in found.items()
    }
    sizes = {kind: sum(len(answer["floors"]) for answer in answers) for kind, answers in found.items()}
    flat = {kind: int(sum(np.sum(answer["flat"]) for answer in answers)) for kind, answers in found.items()}
    floors = {kind: np.concatenate([answer["floors"] for answer in answers]) for kind, answers in found.items()}
    rows = [
        [kind, sizes[kind], f"{floors[kind].min():.3g}", f"{np.median(floors[kind]):.3g}", f"{floors[kind].max():.3g}",
         flat[kind], *(counts[kind][name] for name in rules)]
        for kind in found
    ]  # fmt: skip
    strangers = [kind for kind in found if kind not in ("own", "blank")]
    negatives = sum(sizes[kind] for kind in strangers)
    failures: list[str] = []
    summary: list[list[str | int | float]] = []
    for name in rules:
        true, false = rate(counts["own"][name], sizes["own"]), rate(sum(counts[k][name] for k in strangers), negatives)
        bound = upper_bound(false.count, negatives)
        summary.append([name, str(true), str(false), f"{bound:.3%}", counts["blank"][name]])
        if name == "exact, not flat" and not settings.quick:
            failures += [] if true.value >= TRUE_RATE else [f"own pictures attributed: {true}"]
            failures += [] if false.value <= FALSE_RATE else [f"others attributed: {false}"]
            failures += [] if not counts["blank"][name] else ["a blank picture is attributed"]
    if negatives < NEGATIVES and not settings.quick:
        failures.append(f"only {negatives} negatives")
    header = ["probes", "n", "least floors", "median", "largest", "flat", *(f"{name}" for name in rules)]
    tables = [
        Table("Rules", ["attributed if", "own", "others", "others, one-sided 95 % bound", "blank"], summary),
        Table("Kinds of probes, and how many of them each rule attributes", header, rows),
    ]
    thresholds = sorted({float(answer["threshold"]) for answer in found["own"]})
    drawn: Sequence[Plot] = [
        plots.residual_histograms(
            "residuals", "Residuals by kind of probe",
            {kind: (values * FLOOR).tolist() for kind, values in floors.items() if kind != "blank"},
        ),
    ]  # fmt: skip
    area = auc(-floors["own"], -np.concatenate([floors[kind] for kind in strangers]))
    numbers = {"thresholds": thresholds, "counts": counts, "n": sizes, "flat": flat, "area": area}
    notes = [f"Thresholds, one a generator, from other digits: {', '.join(f'{t:.2f}' for t in thresholds)} floors."]
    return Outcome(numbers, tables, drawn, notes, failures)


EXPERIMENTS = [
    Experiment(("mnist-speed",), "000", "speed and margins on the digit auto-encoders", PAGE, run_speed),
    Experiment(("open-set",), "000", "none of these: thresholds and exact certificates on digits", PAGE, run_open),
]
