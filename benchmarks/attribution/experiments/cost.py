"""What an inversion costs, against latent size, image size, number of generators and number of probes, and on what.

ProGAN generators of small width with random weights, so that any size can be had; own pictures, one thread. The
matrix-free engine searches them; where the dense one can (a Jacobian by automatic differentiation), it is the control
in the same run. Seconds are of the process, not of the wall: other work on the machine is in them only through caches.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import torch
from plausible.attribution.generators import Generator, fresh, make_generator
from plausible.attribution.inversion import LARGE_VERSION, Method, engine_name, invert
from plausible.attribution.inversion.budget import Budget

from benchmarks.attribution.experiments.frame import Experiment, Outcome, Plot, Settings, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SAMPLING = {"output_range": [-1, 1], "rounding": "mul127.5_add128_trunc"}
LATENT, SIZE = 64, 32
LATENTS, SIZES = (32, 64, 128, 256, 512), (16, 32, 64)
GENERATORS, PROBES = (1, 2, 4), (1, 2, 4, 8)
QUICK_LATENTS, QUICK_SIZES, QUICK_GENERATORS, QUICK_PROBES = (16, 32), (8, 16), (1, 2), (1, 2)
STAGES = ("adam", "lm", "exact")
CONTROL_UP_TO = 128
"""Latent size up to which the dense engine is run beside it: its Jacobian is d passes of the network."""


def generator_of(latent: int, size: int, seed: int) -> Generator:
    """A ProGAN of 4 x 32 channels at most with random weights, its RGB layer damped into the range."""
    config: dict[str, Any] = {
        "latent": latent, "size": size, "base": 16 * size, "maximum": 32, "prior": "sphere",
    }  # fmt: skip
    module = fresh("progan", config, seed)
    with torch.no_grad():
        module.get_submodule("to_rgb").get_parameter("weight").mul_(0.2)
    return make_generator(f"progan-{latent}-{size}-{seed}", module, "progan", config, SAMPLING)


def measured(
    generators: list[Generator], settings: Settings, number: int, method: Method | None = None
) -> dict[str, Any]:
    """Own picture `number` of the first generator, inverted on all: seconds by stage, and what came of it."""
    own = generators[0]
    z = own.latent.draw(1, torch.Generator().manual_seed(10_000 * settings.seed + number))
    probe = own.sample(z)[0].numpy()
    began = time.process_time()
    found = invert(
        probe, generators, Budget(), seed=settings.seed + number, threads=settings.threads, method=method,
        device=settings.device,
    )  # fmt: skip
    seconds = time.process_time() - began
    stages = {name: sum(result.seconds.get(name, 0.0) for result in found) for name in STAGES}
    wall = sum(stages.values())
    return {
        # stages are kept by wall clock: as shares of it they hold on a busy machine too
        "stages": {name: seconds * value / wall if wall else 0.0 for name, value in stages.items()},
        "seconds": seconds,
        "floors": found[0].floors,
        "exact": found[0].exact,
        "iterations": sum(result.iterations for result in found),
    }


def curve(
    settings: Settings, what: str, values: tuple[int, ...], of: int, method: Method | None = None
) -> list[dict[str, Any]]:
    """Mean over `of` probes at each value of one quantity, the others as they are."""
    rows: list[dict[str, Any]] = []
    latent, size = (LATENT, SIZE) if not settings.quick else (QUICK_LATENTS[0], QUICK_SIZES[1])
    for value in values:
        count = value if what == "generators" else 1
        n = value if what == "probes" else of
        shape = (value if what == "latent" else latent, value if what == "size" else size)

        def inverted(number: int, shape: tuple[int, int] = shape, count: int = count) -> dict[str, Any]:
            generators = [generator_of(*shape, seed) for seed in range(count)]
            return measured(generators, settings, number, method)

        version = engine_name(generator_of(*shape, 0), method=method)
        made = [
            settings.row(f"{version}/{Budget().digest}/{shape}/{count}/{i}", lambda i=i: inverted(i)) for i in range(n)
        ]
        settings.say(f"{what} {value}: {sum(row['seconds'] for row in made) / n:.1f} s a probe")
        rows.append(
            {
                "value": value,
                "n": n,
                "seconds": sum(row["seconds"] for row in made) / n,
                "in_all": sum(row["seconds"] for row in made),
                "stages": {name: sum(row["stages"][name] for row in made) / n for name in STAGES},
                "within": sum(row["floors"] <= 2 for row in made),
                "exact": sum(row["exact"] for row in made),
            }
        )
    return rows


def run(settings: Settings) -> Outcome:
    """Four curves, and the dense engine beside the first."""
    of = settings.pick(5, 1)
    quick = settings.quick
    curves = {
        "latent": curve(settings, "latent", QUICK_LATENTS if quick else LATENTS, of),
        "size": curve(settings, "size", QUICK_SIZES if quick else SIZES, of),
        "generators": curve(settings, "generators", QUICK_GENERATORS if quick else GENERATORS, of),
        "probes": curve(settings, "probes", QUICK_PROBES if quick else PROBES, of),
    }
    small = tuple(value for value in (QUICK_LATENTS if quick else LATENTS) if value <= CONTROL_UP_TO)
    control = curve(settings, "latent", small, of, method="dense")
    tables = [
        Table(
            f"Seconds a probe against {TITLES[what]}",
            (TITLES[what], "probes", "seconds a probe", *STAGES, "own within 2 floors", "exact"),
            [
                (
                    row["value"], row["n"], f"{row['seconds']:.2f}",
                    *(f"{row['stages'][name]:.2f}" for name in STAGES), row["within"], row["exact"],
                )
                for row in rows
            ],
        )
        for what, rows in (*curves.items(), ("control", control))
    ]  # fmt: skip
    dense = {row["value"]: row["seconds"] for row in control}
    ratios = {str(r["value"]): dense[r["value"]] / r["seconds"] for r in curves["latent"] if r["value"] in dense}
    missed = [
        f"{what} {row['value']}: {row['n'] - row['within']} of {row['n']} own pictures were missed"
        for what, rows in curves.items()
        for row in rows
        if row["within"] < row["n"]
    ]
    return Outcome(
        figures={"curves": curves, "control": control, "dense_over_matrix_free": ratios, "engine": LARGE_VERSION},
        tables=tables,
        plots=[Plot("cost", lambda figure: draw(figure, curves, control), (9.0, 6.5), "Seconds of one thread.")],
        notes=[
            "Random weights, ProGAN of at most 32 channels: how cost grows, not what a trained, wide network costs.",
            *missed,
        ],
    )


TITLES = {
    "latent": "latent size",
    "size": "image size",
    "generators": "generators",
    "probes": "probes",
    "control": "latent size, dense engine",
}


def draw(figure: Figure, curves: dict[str, list[dict[str, Any]]], control: list[dict[str, Any]]) -> None:
    """One panel a quantity; in the first the dense engine too, in the last the time in all."""
    for place, (what, rows) in enumerate(curves.items(), 1):
        axes = figure.add_subplot(2, 2, place)
        values = [row["value"] for row in rows]
        below = [0.0] * len(rows)
        seconds = "in_all" if what == "probes" else "seconds"
        scale = [row[seconds] / row["seconds"] if row["seconds"] else 1.0 for row in rows]
        for name in STAGES:
            above = [b + row["stages"][name] * s for b, row, s in zip(below, rows, scale, strict=True)]
            axes.fill_between(values, below, above, alpha=0.5, label=name)
            below = above
        axes.plot(values, [row[seconds] for row in rows], "k.-", label="matrix-free")
        if what == "latent":
            axes.plot([row["value"] for row in control], [row["seconds"] for row in control], "r.--", label="dense")
        axes.set_xlabel(TITLES[what])
        axes.set_ylabel("seconds in all" if what == "probes" else "seconds a probe")
        axes.set_xscale("log", base=2)
        axes.set_xticks(values, [str(value) for value in values])
        axes.set_ylim(bottom=0)
        if place == 1:
            axes.legend()
    figure.tight_layout()


EXPERIMENTS = [Experiment(("cost",), "ours", "What an inversion costs", "cost.md", run)]
