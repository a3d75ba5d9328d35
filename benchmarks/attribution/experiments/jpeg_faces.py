"""R4: faces as JPEG of quality 50, 70, 90 and 100, which of three generators made them, by pixels and by coefficients.

004 saves its faces with OpenCV and reports the share attributed wrongly. Here the three sources of R1, files of two
encoders, and two answers for each file: the generator whose inversion of the decoded pixels comes nearest, and the one
whose latent, carried on from there against the file's coefficients, leaves the least outside what rounding allows.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from plausible.attribution.calibration.measure import own_picture
from plausible.attribution.generators import Generator
from plausible.attribution.inversion import ENGINE_VERSION, JPEG_DISTANCE, invert, invert_jpeg
from plausible.attribution.inversion.budget import FLOOR, Budget
from plausible.attribution.scoring.roc import rate

from benchmarks.attribution.encoders import ENCODERS, decoded
from benchmarks.attribution.experiments.face_sources import NAMES, generators
from benchmarks.attribution.experiments.frame import Experiment, Outcome, Settings, Table
from examples.faces.fetch import face_generator

PAPER = {50: 4.3, 70: 4.6, 90: 4.6, 100: 4.0}
"""004: percent wrong."""
CONDITIONS = (*(("libjpeg-turbo", q) for q in PAPER), ("jpegli", 50), ("jpegli", 90))
FACES = 5
FIRST_SEED = 60_000


def _row(data: bytes, sources: list[Generator], true: np.ndarray, own: int, seed: int, threads: int) -> dict[str, Any]:
    """Both answers for one file; `true` is the latent of its face on the generator `own`."""
    began = time.perf_counter()
    pixels = invert(decoded(data, 3), sources, Budget(exact_iterations=0), seed=seed, threads=threads)
    middle = time.perf_counter()
    files = [
        invert_jpeg(data, one, seed=seed, starts=torch.from_numpy(p.z).float()[None], search=False, threads=threads)
        for one, p in zip(sources, pixels, strict=True)
    ]
    far = [float(np.linalg.norm(found[own].z - true) / np.linalg.norm(true)) for found in (pixels, files)]
    return {
        "residuals": [one.residual for one in pixels], "losses": [one.loss for one in files],
        "outside": [one.violations for one in files], "coefficients": files[0].coefficients, "seed_errors": far,
        "equal": [one.equal for one in files],
        "seconds": [middle - began, time.perf_counter() - middle],
    }  # fmt: skip


def run(settings: Settings) -> Outcome:
    """Every face under every condition."""
    sources = [face_generator()] if settings.quick else generators()
    conditions = CONDITIONS[:1] if settings.quick else CONDITIONS
    key = "/".join(one.digest[7:15] for one in sources)
    rows: dict[tuple[str, int], list[tuple[int, dict[str, Any]]]] = {condition: [] for condition in conditions}
    for number in range(settings.pick(FACES, 1)):
        for own, generator in enumerate(sources):
            seed = FIRST_SEED * settings.seed + 1000 * own + number
            true = generator.latent.draw(1, torch.Generator().manual_seed(seed))[0].double().numpy()
            face = own_picture(generator, seed)
            for encoder, quality in conditions:
                data = ENCODERS[encoder](face, quality)
                found = settings.row(
                    f"{encoder} {quality} {key} {own} {number} {ENGINE_VERSION} {JPEG_DISTANCE}",
                    lambda d=data, t=true, o=own, s=seed: _row(d, sources, t, o, s, settings.threads),
                )
                rows[encoder, quality].append((own, found))
                settings.say(f"R4: {NAMES[own]} {number}, {encoder} {quality}")
    return _outcome(rows)


def _outcome(rows: dict[tuple[str, int], list[tuple[int, dict[str, Any]]]]) -> Outcome:
    wrong: list[list[str | int | float]] = []
    own: list[list[str | int | float]] = []
    figures: dict[str, Any] = {}
    for (encoder, quality), some in rows.items():
        n = len(some)
        errors = [
            rate(sum(int(np.argmin(row[name])) != source for source, row in some), n)
            for name in ("residuals", "losses")
        ]
        paper = f"{PAPER[quality]:g} %" if encoder == "libjpeg-turbo" else "-"
        wrong.append([encoder, quality, *map(str, errors), paper])
        outside = [row["outside"][source] for source, row in some]
        others = [v for source, row in some for place, v in enumerate(row["outside"]) if place != source]
        own.append([
            encoder, quality, some[0][1]["coefficients"],
            f"{np.median(outside):.0f} ({max(outside)})",
            f"{np.median(others):.0f} ({min(others)})" if others else "-",
            float(np.median([row["residuals"][source] / FLOOR for source, row in some])),
            *(float(np.median([row["seed_errors"][place] for _, row in some])) for place in (0, 1)),
            float(np.mean([row["seconds"][1] for _, row in some])),
        ])  # fmt: skip
        figures[f"{encoder} {quality}"] = {"pixels wrong": str(errors[0]), "coefficients wrong": str(errors[1])}
    tables = [
        Table("Faces attributed to another generator", ["encoder", "quality", "pixels", "coefficients", "004"], wrong),
        Table(
            "Own and other generators' coefficients outside what rounding allows, and how far the seed is",
            ["encoder", "quality", "coefficients", "own outside: median (max)", "others: median (min)",
             "own residual of pixels, median floors", "seed error by pixels", "by coefficients",
             "seconds for the coefficients, all generators"],
            own,
        ),
    ]  # fmt: skip
    return Outcome(figures, tables)


EXPERIMENTS = [Experiment(("R4",), "004", "Faces as JPEG: pixels and coefficients", "jpeg.md", run)]
