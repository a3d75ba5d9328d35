"""000's MNIST experiments: E1 (odd and even digits), E2 (another order), E3 (another start), E9 (L1 and L-BFGS).

Each of E1 to E3 in both protocols: 000's (five repetitions, 500 probes a generator, ten starts) and, as `E1-001`, the
earlier version's (one repetition, 1,000 probes, one start; E3 trained for 60,000 steps). The paper's recipe and the
engine see the same probes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from plausible.attribution.inversion import MANY_VERSION
from plausible.attribution.inversion.budget import FLOOR
from plausible.attribution.scoring.roc import auc, rate

from benchmarks.attribution import plots, recipe000
from benchmarks.attribution.digit_pairs import ENGINE, DigitPair, Told, engine_losses, recipe_losses, told
from benchmarks.attribution.experiments.frame import Experiment, Outcome, Plot, Settings, Table
from benchmarks.attribution.training.autoencoders import Pair, Recipe

PAGE = "autoencoders.md"
CONFIDENT = 0.9
"""|S| from which an answer counts as given with very high confidence; 000 prints no number."""


@dataclass(frozen=True, slots=True)
class Protocol:
    """How much of an experiment one version of the paper does."""

    name: str
    repetitions: int
    probes: int
    recipe: recipe000.Recipe
    steps: dict[str, int]
    """Training steps where they are not the usual ones."""


LATER = Protocol("000", 5, 500, recipe000.MNIST, {})
EARLIER = Protocol("001", 1, 1000, recipe000.MNIST_001, {"init": 60_000})
QUANTILES = (0, 0.05, 0.5, 0.95, 1)
QUICK_STEPS, QUICK_PROBES, QUICK_RECIPE_STEPS = 1_000, 20, 100


def _pair(settings: Settings, kind: Pair, repetition: int, protocol: Protocol) -> DigitPair:
    steps = QUICK_STEPS if settings.quick else protocol.steps.get(kind, Recipe().steps)
    return DigitPair.trained(kind, settings.seed + repetition, steps=steps, say=settings.say)


def _recipe(settings: Settings, recipe: recipe000.Recipe) -> recipe000.Recipe:
    return replace(recipe, steps=min(recipe.steps, QUICK_RECIPE_STEPS)) if settings.quick else recipe


def line(name: str, found: Told) -> list[str | int | float]:
    """One row of a table of answers."""
    one, two = found.scores
    area, margins = auc(one, two), found.margins
    right = rate(found.correct, len(margins))
    return [
        name, len(margins), f"{area.value:.4f} [{area.low:.4f}, {area.high:.4f}]",
        f"{right.value:.2%} [{right.low:.2%}, {right.high:.2%}]", f"{(margins >= CONFIDENT).mean():.1%}",
        round(float(margins.min()), 3), round(float(np.median(found.own) / FLOOR), 2),
        round(float(found.own.max() / FLOOR), 1), round(float(found.other.min() / FLOOR), 1),
        round(float(np.median(found.other) / FLOOR)),
    ]  # fmt: skip


HEADER = ["repetition", "probes", "AUC", "accuracy", f"S at least {CONFIDENT}", "least S for the truth",
          "own: median floors", "largest", "other: least floors", "median"]  # fmt: skip


def figures(found: Told) -> dict[str, Any]:
    """The numbers behind a row."""
    one, two = found.scores
    return {
        "auc": auc(one, two), "correct": found.correct, "n": len(found.margins), "least_s": found.margins.min(),
        "confident": int((found.margins >= CONFIDENT).sum()),
        "own_floors": np.quantile(found.own / FLOOR, QUANTILES), "quantiles": QUANTILES,
        "other_floors": np.quantile(found.other / FLOOR, QUANTILES),
    }  # fmt: skip


def run_pair(settings: Settings, kind: Pair, name: str) -> Outcome:
    """E1, E2 or E3 in both protocols, by the paper's recipe and by the engine."""
    tables: list[Table] = []
    drawn: list[Plot] = []
    told_figures: dict[str, Any] = {}
    failures: list[str] = []
    for protocol in (LATER, EARLIER):
        block = name if protocol is LATER else f"{name}-001"
        recipe = _recipe(settings, protocol.recipe)
        methods: dict[str, list[Told]] = {"recipe": [], "engine": []}
        for repetition in range(1 if settings.quick else protocol.repetitions):
            pair = _pair(settings, kind, repetition, protocol)
            settings.say(f"{block}: repetition {repetition + 1}, loss {pair.halves[0].loss:.5f}")
            count = settings.pick(protocol.probes, QUICK_PROBES)
            digests = " ".join(one.digest[7:19] for one in pair.generators)
            for method, losses in (
                ("recipe", partial(recipe_losses, pair=pair, recipe=recipe, seed=pair.seed)),
                ("engine", partial(engine_losses, pair=pair)),
            ):
                what = repr(recipe) if method == "recipe" else f"{MANY_VERSION} {ENGINE.digest[7:19]}"
                key = f"{protocol.name} {kind} {pair.seed} {digests} {what} n{count}"
                methods[method].append(told(settings.row, key, pair, count, losses))
        for method, title in (("recipe", f"{protocol.name}'s recipe"), ("engine", "the engine")):
            rows = [line(str(number), found) for number, found in enumerate(methods[method], 1)]
            tables.append(Table(f"{block}, {title}", HEADER, rows, block))
            drawn.append(_roc(f"{block}-{method}", f"{block}: {title}", methods[method], block))
            told_figures[f"{protocol.name} {method}"] = [figures(found) for found in methods[method]]
        if not settings.quick and any(found.correct < len(found.margins) for found in methods["engine"]):
            failures.append(f"{block}: the engine attributes a probe wrongly")
        if protocol is LATER:
            groups = {"recipe": _margins(methods["recipe"]), "engine": _margins(methods["engine"])}
            drawn.append(plots.score_histograms(f"{block}-scores", f"{block}: S for the truth", groups, block=block))
    return Outcome(told_figures, tables, drawn, [], failures)


def _margins(found: Sequence[Told]) -> list[float]:
    return np.concatenate([one.margins for one in found]).tolist()


def _roc(name: str, title: str, found: Sequence[Told], block: str) -> Plot:
    curves = [(f"repetition {number}", *one.scores) for number, one in enumerate(found, 1)]
    return plots.roc_family(name, title, curves, block=block)


VARIANTS: dict[str, recipe000.Recipe] = {
    "Adam, squared error": replace(recipe000.MNIST, starts=3),
    "Adam, absolute error": replace(recipe000.MNIST, starts=3, loss="l1"),
    "L-BFGS, squared error": recipe000.Recipe(3, recipe000.LBFGS_STEPS, 1.0, optimiser="lbfgs"),
    "L-BFGS, absolute error": recipe000.Recipe(3, recipe000.LBFGS_STEPS, 1.0, loss="l1", optimiser="lbfgs"),
}


def run_variants(settings: Settings) -> Outcome:
    """E9: does another loss or another optimiser help? Three starts each, E2's first pair."""
    pair = _pair(settings, "order", 0, LATER)
    count = settings.pick(50, 5)
    digests = " ".join(one.digest[7:19] for one in pair.generators)
    rows: list[list[str | int | float]] = []
    numbers: dict[str, Any] = {}
    for name, whole in VARIANTS.items():
        recipe = _recipe(settings, whole)
        losses = partial(recipe_losses, pair=pair, recipe=recipe, seed=pair.seed)
        found = told(settings.row, f"{digests} {recipe!r} n{count}", pair, count, losses)
        one, two = found.scores
        area, right = auc(one, two), rate(found.correct, 2 * count)
        scale = FLOOR if recipe.loss == "l2" else 1 / 255
        rows.append([
            name, recipe.steps, f"{area.value:.4f} [{area.low:.4f}, {area.high:.4f}]",
            f"{right.value:.1%} [{right.low:.1%}, {right.high:.1%}]", round(float(found.margins.min()), 3),
            f"{np.median(found.own) / scale:.3g} {'floors' if recipe.loss == 'l2' else 'levels'}",
        ])  # fmt: skip
        numbers[name] = figures(found)
    header = ["method", "steps a start", "AUC", "accuracy", "least S for the truth", "own loss, median"]
    return Outcome(numbers, [Table("E9, three random starts", header, rows)])


EXPERIMENTS = [
    Experiment(("E1", "E1-001"), "000, 001", "auto-encoders of odd and of even digits", PAGE,
               partial(run_pair, kind="parity", name="E1")),
    Experiment(("E2", "E2-001"), "000, 001", "the same digits in another order", PAGE,
               partial(run_pair, kind="order", name="E2")),
    Experiment(("E3", "E3-001"), "000, 001", "the same digits in the same order, another start", PAGE,
               partial(run_pair, kind="init", name="E3")),
    Experiment(("E9",), "000", "L1 loss and L-BFGS", PAGE, run_variants),
]  # fmt: skip
