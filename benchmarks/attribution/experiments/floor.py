"""Own pictures about their expected floors: at the latents that made them, and as the engine finds them again.

Not an experiment of the papers: it shows how far the diagnostic "expected floor" may be believed. Deviations are in the
standard deviations that each picture's own floor states, so right ones have mean 0 and spread 1.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from plausible.attribution.generators import Generator
from plausible.attribution.inversion import ENGINE_VERSION, invert
from plausible.attribution.inversion.budget import FLOOR, Budget
from plausible.attribution.scoring.floor import expected_floor

from benchmarks.attribution import plots
from benchmarks.attribution.experiments.frame import Experiment, Outcome, Plot, Settings, Table
from benchmarks.attribution.training import autoencoders
from benchmarks.data import mnist
from examples.faces.fetch import face_generator

STEPS = 2_500
"""Of the digits' auto-encoder, an eighth of 000's: enough for black backgrounds, which is what matters here."""
WIDEST = 1.3
"""Spread of the deviations above which the diagnostic would claim more than it can."""


def run(settings: Settings) -> Outcome:
    """Both generators at the truth, then own faces found again."""
    count, found = settings.pick(200, 30), settings.pick(20, 2)
    generators = {"faces": face_generator(), "digits": _digits(settings)}
    truth = {
        name: settings.row(f"truth/{generator.digest}/{count}", lambda g=generator: _at_truth(g, count, settings.seed))
        for name, generator in generators.items()
    }
    faces = generators["faces"]
    again: list[dict[str, Any]] = []
    for index in range(found):
        seed = 700_000 + 1000 * settings.seed + index
        again.append(settings.row(f"found/{ENGINE_VERSION}/{seed}", lambda s=seed: _found(faces, s, settings)))
        settings.say(f"face {index + 1} of {found}: {again[-1]['deviation']:+.2f}")
    exact = [row["deviation"] for row in again if row["exact"]]
    groups = {
        **{f"{name} at the latents that made them": rows["deviation"] for name, rows in truth.items()},
        "faces found again, exact": exact,
    }
    rows = [
        [name, len(values), float(np.mean(values)), _spread(values), float(np.max(np.abs(values)))]
        for name, values in groups.items()
        if values
    ]
    floors = [
        [name, float(np.mean(rows_["floors"])), float(np.mean(rows_["expected"])), float(np.mean(rows_["free"]))]
        for name, rows_ in truth.items()
    ]
    failures = [
        f"{row[0]}: spread {row[3]:.2f}, mean {row[2]:+.2f}"
        for row in rows[:2]
        if float(row[3]) > WIDEST or abs(float(row[2])) > 4 / math.sqrt(float(row[1]))
    ]
    return Outcome(
        figures={"deviations": {str(row[0]): row[1:] for row in rows}, "exact": f"{len(exact)} of {found}"},
        tables=[
            Table("Deviations from the expected floor", ["pictures", "n", "mean", "spread", "largest"], rows),
            Table(
                "Residuals at the latents that made them, in floors",
                ["generator", "residual", "expected", "samples that round freely"],
                floors,
            ),
        ],
        plots=[_histogram(groups)],
        notes=[f"of {found} own faces inverted, {len(exact)} were found in every sample; the others are left out"],
        failures=failures,
    )


def _digits(settings: Settings) -> Generator:
    pictures, _ = mnist()
    recipe = autoencoders.Recipe(steps=settings.pick(STEPS, 300))
    return autoencoders.train(pictures, recipe, order_seed=settings.seed, init_seed=settings.seed + 1).generator(
        "digits"
    )


def _at_truth(generator: Generator, count: int, seed: int) -> dict[str, list[float]]:
    z = generator.latent.draw(count, torch.Generator().manual_seed(seed))
    with torch.no_grad():
        images: NDArray[np.float64] = generator.images(z).permute(0, 2, 3, 1).double().numpy()
    out: dict[str, list[float]] = {"deviation": [], "expected": [], "floors": [], "free": []}
    for image, probe in zip(images, generator.sample(z).numpy(), strict=True):
        residual, floor = float(np.square(image - probe / 255).mean()), expected_floor(probe, image)
        out["deviation"].append(floor.deviation(residual))
        out["expected"].append(floor.residual / FLOOR)
        out["floors"].append(residual / FLOOR)
        out["free"].append(floor.free / floor.samples)
    return out


def _found(generator: Generator, seed: int, settings: Settings) -> dict[str, Any]:
    z = generator.latent.draw(1, torch.Generator().manual_seed(seed))
    probe = generator.sample(z)[0].numpy()
    result = invert(probe, [generator], Budget(), seed=seed, threads=settings.threads, device=settings.device)[0]
    return {
        "deviation": result.diagnostics.expected.deviation(result.residual),
        "exact": result.exact,
        "floors": result.floors,
        "whiteness": result.diagnostics.whiteness,
    }


def _spread(values: list[float]) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def _histogram(groups: dict[str, list[float]]) -> Plot:
    def draw(axes: Any) -> None:
        bins = np.linspace(-5, 5, 41)
        for index, (name, values) in enumerate(groups.items()):
            inside = np.clip(values, -5, 5)
            axes.hist(
                inside, bins, density=True, histtype="step", color=plots.COLOURS[index], label=name, linewidth=1.4
            )
        normal = np.exp(-0.5 * bins**2) / math.sqrt(2 * math.pi)
        axes.plot(bins, normal, color="#333333", linestyle=":", label="N(0, 1)")
        axes.set(xlabel="standard deviations from the expected floor", ylabel="density")
        axes.legend()

    return plots.custom("deviations", "Own pictures about their expected floors", draw)


EXPERIMENTS = [Experiment(("floor",), "own", "own pictures about their expected floors", "floor.md", run)]
