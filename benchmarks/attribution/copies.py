"""Changed copies on a real face generator: logged crops must be found again, unlogged faces must not be called copies.

    python -m benchmarks.attribution.copies                       # 50 of each among 1,000 logged faces
    python -m benchmarks.attribution.copies --logged 64 --count 50

Probes: 58x58 crops at random offsets, as PNG and as JPEG 85; every class of the relaxed scope; and the same of faces
that were not logged. Limits are those of examples/faces/calibrations/copies.json, measured on other seeds. The control
of the time is the same size-keeping search as a plain loop over offsets, on the same machine in the same run.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from plausible.attribution.calibration.classes import RELAXED, Pixels, apply
from plausible.attribution.copies.limits import CopyLimits
from plausible.attribution.copies.search import CopyIndex, search_copies
from plausible.attribution.copies.transformation import as_jpeg
from plausible.attribution.generators import Generator
from plausible.attribution.scoring.roc import rate

from examples.faces.fetch import face_generator

ROOT = Path(__file__).resolve().parents[2]
CALIBRATION = ROOT / "examples" / "faces" / "calibrations" / "copies.json"
# apart from the calibration's seeds (2,000,000 on) and from those of the demo
LOGGED_SEED = 3_000_000
UNLOGGED_SEED = 3_000_001
CROP = 58


@dataclass(frozen=True, slots=True)
class Outcome:
    """One probe: whether it was logged, whether the right original came up, whether it counted as a copy."""

    form: str
    logged: bool
    right: bool
    within: bool
    residual: float
    limit: float | None
    transformation: str
    seconds: float


def faces(generator: Generator, count: int, seed: int) -> list[Pixels]:
    """Fresh faces, uint8 [64, 64, 3]."""
    made: list[Pixels] = []
    rng = torch.Generator().manual_seed(seed)
    while len(made) < count:
        made += list(generator.sample(generator.latent.draw(min(64, count - len(made)), rng)).numpy())
    return made


def crop(picture: Pixels, rng: np.random.Generator) -> Pixels:
    """A 58x58 crop at a random offset."""
    x, y = rng.integers(0, 64 - CROP + 1, 2)
    return np.ascontiguousarray(picture[y : y + CROP, x : x + CROP])


def forms() -> dict[str, Callable[[Pixels, np.random.Generator], Pixels]]:
    """The probes' forms by name."""
    named: dict[str, Callable[[Pixels, np.random.Generator], Pixels]] = {
        "crop 58x58, PNG": crop,
        "crop 58x58, JPEG 85": lambda picture, rng: as_jpeg(crop(picture, rng), 85),
    }
    for name in RELAXED:
        named[f"class {name}"] = lambda picture, rng, name=name: apply(name, picture, rng)[0]
    return named


Probes = Sequence[tuple[int | None, Pixels]]


def measure(index: CopyIndex, limits: CopyLimits, pictures: Probes, form: str) -> list[Outcome]:
    """Search for each picture changed into `form`; the key of a logged one is its number, None if it was not logged."""
    rng = np.random.default_rng([58, list(forms()).index(form)])
    found: list[Outcome] = []
    for key, picture in pictures:
        probe = forms()[form](picture, rng)
        began = time.perf_counter()
        best = search_copies(probe, index, limits)
        seconds = time.perf_counter() - began
        assert best is not None
        logged, right, change = key is not None, best.key == key, str(best.transformation)
        found.append(Outcome(form, logged, right, best.within, best.residual, best.limit, change, seconds))
    return found


def plain_loop(pictures: Sequence[Pixels], probe: Pixels) -> tuple[float, int]:
    """(seconds, best picture) of the size-keeping search as a loop over offsets: the control."""
    began = time.perf_counter()
    stack = np.stack(pictures).astype(np.float32)
    template = probe.astype(np.float32)
    best, where = np.inf, -1
    for y in range(64 - CROP + 1):
        for x in range(64 - CROP + 1):
            error = ((stack[:, y : y + CROP, x : x + CROP] - template) ** 2).mean(axis=(1, 2, 3))
            if error.min() < best:
                best, where = float(error.min()), int(error.argmin())
    return time.perf_counter() - began, where


def main() -> int:
    """Run and print; exit 1 if a logged 58x58 crop was missed or an unlogged face called a copy."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=50, help="logged and unlogged faces in each form")
    parser.add_argument("--logged", type=int, default=1000, help="faces in the log")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, help="write every outcome here")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    generator = face_generator()
    limits = CopyLimits.parse(CALIBRATION.read_bytes(), model=generator.digest)
    log = faces(generator, arguments.logged, LOGGED_SEED)
    began = time.perf_counter()
    index = CopyIndex(enumerate(log))
    print(f"{len(log)} logged faces, indexed in {time.perf_counter() - began:.2f} s; limits from {CALIBRATION.name}")
    chosen = np.random.default_rng(1).choice(len(log), arguments.count, replace=len(log) < arguments.count)
    logged = [(int(i), log[int(i)]) for i in chosen]
    unlogged: list[tuple[int | None, Pixels]] = [
        (None, picture) for picture in faces(generator, arguments.count, UNLOGGED_SEED)
    ]
    rows: list[Outcome] = []
    good = True
    for form in forms():
        here = measure(index, limits, logged, form)
        strange = measure(index, limits, unlogged, form)
        rows += here + strange
        found = sum(o.right and o.within for o in here)
        false = sum(o.within for o in strange)
        margin = max(o.residual / o.limit for o in here if o.limit)
        nearest = min(o.residual / o.limit for o in strange if o.limit)
        print(
            f"{form:24} logged, found: {rate(found, len(here))}   unlogged, called a copy: {rate(false, len(strange))}"
        )
        print(
            f"{'':24} residual over limit: logged at most {margin:.3f}, unlogged at least {nearest:.2f}; "
            f"median {statistics.median(o.seconds for o in here + strange):.3f} s a probe"
        )
        good &= not false and (found == len(here) or not form.startswith("crop"))
    probe = crop(log[7], np.random.default_rng(0))
    control, where = plain_loop(log, probe)
    began = time.perf_counter()
    best = search_copies(probe, index, limits)
    seconds = time.perf_counter() - began
    assert best is not None
    assert best.key == where == 7
    print(
        f"one crop: {seconds:.3f} s for all sizes, mirrors and three channels; plain loop over one size {control:.3f} s"
    )
    print(f"ratio to the control: {control / seconds:.1f}")
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
