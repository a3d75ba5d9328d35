"""R1 and R2: which of three face generators made a face, and how the error falls with the number of attempts.

004 has ProGAN, StyleGAN and StyleGAN2. Here: the real face generator, its fine-tuned clone (the nearest relative that
there is) and a sibling trained from scratch on its faces. Two methods on the same faces: ours, and 004's recipe
(recipe004.py) with pixel distance instead of Inception features. An attempt of ours is one random start: 40 Adam steps,
then Levenberg-Marquardt; of the recipe's 500 Adam steps. Both give the face to the generator that comes nearest in the
first k attempts on each.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from plausible.attribution.calibration.measure import own_picture
from plausible.attribution.generators import Generator
from plausible.attribution.inversion import ENGINE_VERSION, invert
from plausible.attribution.inversion.budget import FLOOR, Budget
from plausible.attribution.scoring.roc import rate
from plausible.attribution.stages.candidates import SEARCH_STEP

from benchmarks.attribution import plots, recipe004
from benchmarks.attribution.experiments.frame import Experiment, Outcome, Settings, Table
from benchmarks.attribution.sources import CLONE_SEED
from benchmarks.attribution.training import sibling
from examples.faces.clone import STEPS, clone_generator
from examples.faces.fetch import CACHE, face_generator

NAMES = ("original", "clone", "sibling")
FACES, ATTEMPTED = 40, 6
ATTEMPTS, PAPERS_ATTEMPTS = 10, 3
ATTEMPT = Budget(adam_starts=1, lm_starts=1, rounds=1, exact_iterations=0)
FIRST_SEED = 30_000
PAPER = ((99.95, 0.05, 0.00), (2.40, 94.00, 3.60), (0.85, 0.25, 98.90))
"""004 Fig 4 in percent: ProGAN, StyleGAN, StyleGAN2."""


def generators() -> list[Generator]:
    """The three; `SetupError` if the sibling is not trained yet."""
    clone = clone_generator(CACHE / f"clone-{CLONE_SEED}-{STEPS}", CLONE_SEED, steps=STEPS)
    return [face_generator(), clone, sibling.generator()]


def _search(probe: np.ndarray, three: list[Generator], seed: int, threads: int) -> dict[str, Any]:
    """The default search on all three."""
    began = time.perf_counter()
    found = invert(probe, three, Budget(), seed=seed, threads=threads)
    return {"residuals": [one.residual for one in found], "exact": [one.exact for one in found],
            "seconds": time.perf_counter() - began}  # fmt: skip


def _ours(probe: np.ndarray, three: list[Generator], seed: int, threads: int, attempts: int) -> dict[str, Any]:
    """losses[generator][attempt] of single starts."""
    began = time.perf_counter()
    tries = [
        [one.residual for one in invert(probe, three, ATTEMPT, seed=seed + k * SEARCH_STEP, threads=threads)]
        for k in range(attempts)
    ]
    return {"losses": np.transpose(tries).tolist(), "seconds": time.perf_counter() - began}


def _recipe(probe: np.ndarray, three: list[Generator], seed: int, attempts: int) -> dict[str, Any]:
    """losses[generator][attempt] of 004's recipe."""
    began = time.perf_counter()
    losses = [
        recipe004.reconstruct(probe[None], one, recipe004.starts_of(one, [seed], attempts)).losses[0].tolist()
        for one in three
    ]
    return {"losses": losses, "seconds": time.perf_counter() - began}


def answers(losses: list[list[float]]) -> list[int]:
    """The nearest generator after 1, 2, ... attempts on each; losses[generator][attempt]."""
    return [int(np.argmin([min(of[: k + 1]) for of in losses])) for k in range(len(losses[0]))]


def run(settings: Settings) -> Outcome:
    """Whole searches on every face; single attempts by both methods on the first of them."""
    three = generators()
    key = "/".join(one.digest[7:15] for one in three)
    attempts = settings.pick(ATTEMPTS, 2)
    whole: list[list[dict[str, Any]]] = [[], [], []]
    tried: dict[str, list[list[dict[str, Any]]]] = {"ours": [[], [], []], "004's recipe": [[], [], []]}
    for number in range(settings.pick(FACES, 1)):
        for source, generator in enumerate(three):
            seed = FIRST_SEED * settings.seed + 1000 * source + number
            probe, tag = own_picture(generator, seed), f"{key} {source} {number}"
            whole[source].append(
                settings.row(
                    f"search {ENGINE_VERSION} {tag}", lambda p=probe, s=seed: _search(p, three, s, settings.threads)
                )
            )
            if number < settings.pick(ATTEMPTED, 1):
                one = settings.row(
                    f"ours {ENGINE_VERSION} {tag}",
                    lambda p=probe, s=seed: _ours(p, three, s, settings.threads, attempts),
                )
                tried["ours"][source].append(one)
                one = settings.row(f"recipe {tag}", lambda p=probe, s=seed: _recipe(p, three, s + 500_000, attempts))
                tried["004's recipe"][source].append(one)
        settings.say(f"R1: {3 * (number + 1)} faces")
    return _outcome(whole, tried, attempts)


def _counts(chosen: list[list[int]]) -> list[list[int]]:
    return [[of.count(answer) for answer in range(3)] for of in chosen]


def _outcome(whole: list[list[dict[str, Any]]], tried: dict[str, list[list[dict[str, Any]]]], attempts: int) -> Outcome:
    counts = _counts([[int(np.argmin(row["residuals"])) for row in of] for of in whole])
    ours = rate(sum(counts[i][i] for i in range(3)), sum(map(sum, counts)))
    chosen = {name: [[answers(row["losses"]) for row in of] for of in rows] for name, rows in tried.items()}
    at = min(PAPERS_ATTEMPTS, attempts) - 1
    recipe = _counts([[one[at] for one in of] for of in chosen["004's recipe"]])
    right = rate(sum(recipe[i][i] for i in range(3)), sum(map(sum, recipe)))
    matrix = [[name, *counts[i], *recipe[i], *(f"{share:g} %" for share in PAPER[i])] for i, name in enumerate(NAMES)]
    tables = [
        Table(
            "Answers: ours by one whole search, 004's recipe with "
            f"{at + 1} attempts on the first faces, 004 Fig 4 (ProGAN, StyleGAN, StyleGAN2)",
            ["source", *(f"ours: {n}" for n in NAMES), *(f"recipe: {n}" for n in NAMES), "004", "004", "004"],
            matrix, "R1",
        )
    ]  # fmt: skip
    series: dict[str, Any] = {}
    told: list[list[str | int | float]] = []
    figures: dict[str, Any] = {"ours": str(ours), "recipe": str(right), "paper": "97.62 %", "error": {}}
    for name, of in chosen.items():
        flat = [(source, one) for source, some in enumerate(of) for one in some]
        errors = [rate(sum(one[k] != source for source, one in flat), len(flat)) for k in range(attempts)]
        series[name] = (list(range(1, attempts + 1)), [e.value for e in errors], [e.low for e in errors],
                        [e.high for e in errors])  # fmt: skip
        seconds = float(np.mean([row["seconds"] for some in tried[name] for row in some])) / attempts
        own = [min(row["losses"][s]) / FLOOR for s, some in enumerate(tried[name]) for row in some]
        told += [[name, k + 1, str(e), seconds * (k + 1), float(np.median(own)) if k == attempts - 1 else ""]
                 for k, e in enumerate(errors)]  # fmt: skip
        figures["error"][name] = [str(e) for e in errors]
    tables.append(
        Table("Share attributed wrongly against attempts on each generator",
              ["method", "attempts", "wrong", "seconds a face on all three",
               "own residual after the last attempt, median floors"], told, "R2")
    )  # fmt: skip
    drawn = [
        plots.confusion("matrix", "Ours, one search", NAMES, counts, block="R1"),
        plots.error_against_attempts("attempts", "Error against attempts", series, block="R2"),
    ]
    notes = [
        f"The sibling was trained for {sibling.steps()} steps of {sibling.RECIPE.batch}: a rough one, easy to tell.",
        "004's recipe with pixel distance; the paper's matrix is with Inception features and 3 attempts.",
    ]
    return Outcome(figures, tables, drawn, notes)


EXPERIMENTS = [Experiment(("R1", "R2"), "004", "Which of three face generators, and attempts", "faces.md", run)]
