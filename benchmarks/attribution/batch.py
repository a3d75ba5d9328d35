"""What the job list costs: `python -m benchmarks.attribution.batch [--pictures 2000] [--models 3] [--json FILE]`.

Thousands of tiny pictures against tiny generators, with a budget that does next to nothing, so that what is measured is
the list itself: reading, journal (one fsync a job), processes, rows. The control is the same inversions in a bare loop.
Then the same run is killed half way and gone on with, and repeated when all is done. Memory is the peak of the process
that holds the list, after a tenth and after all of the jobs.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from PIL import Image as Pillow
from plausible.attribution.batch.jobs import Asking, Bounds, Task, load, read_subject
from plausible.attribution.batch.local import Engine, Inline, Processes
from plausible.attribution.batch.run import attribute_pictures
from plausible.attribution.batch.work import Done, run_task
from plausible.attribution.generators import load_model_folder, save_model_folder
from plausible.attribution.generators.mlp import MLPDecoder
from plausible.attribution.inversion.budget import Budget
from plausible.schemas.text import digest_text

NEXT_TO_NOTHING = Budget(
    adam_starts=1, adam_steps=1, lm_starts=1, lm_iterations=2, lm_chords=0, rounds=1, exact_iterations=0
)
CONTROL = 300
"""Jobs of the bare loop."""


class Enough(Exception):  # noqa: N818
    """The run is to be left here."""


def make(root: Path, pictures: int, models: int) -> tuple[Path, list[Path]]:
    """Model folders of random decoders of 8x8 pictures, and pictures that they made in turn."""
    folder = root / "pictures"
    folder.mkdir()
    found: list[Path] = []
    for number in range(models):
        torch.manual_seed(number)
        module = MLPDecoder(4, [8], (3, 8, 8), "sigmoid")
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.mul_(4)
        config = {"latent": 4, "hidden": [8], "height": 8, "width": 8, "channels": 3, "activation": "sigmoid"}
        path = root / "models" / f"decoder-{number}"
        sampling = {"output_range": [0, 1], "rounding": "mul255_add0.5_floor"}
        save_model_folder(path, path.name, module.eval(), "mlp-decoder", config, sampling)
        found.append(path)
    generators = [load_model_folder(path) for path in found]
    for number in range(pictures):
        generator = generators[number % models]
        z = generator.latent.draw(1, torch.Generator().manual_seed(number))
        Pillow.fromarray(generator.sample(z)[0].numpy()).save(folder / f"{number:06}.png")
    return folder, found


def peak() -> float:
    """MiB that this process had at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def bare(pictures: Path, models: list[Path], asking: Asking) -> tuple[float, float]:
    """Wall and processor milliseconds of a job in a loop without any list."""
    subjects = [read_subject(path) for path in models]
    images = [load(path, Bounds()) for path in sorted(pictures.iterdir())[: CONTROL // len(models)]]
    tasks = [
        Task(bytes(32), digest_text(image.pixel_digest), image.pixels, subject, asking)
        for image in images
        for subject in subjects
    ]
    for task in tasks[: len(models)]:
        run_task(task)
    wall, cpu = time.perf_counter(), time.process_time()
    for task in tasks:
        if not isinstance(run_task(task), Done):
            raise SystemExit("an inversion of the control failed")
    each = 1000 / len(tasks)
    return each * (time.perf_counter() - wall), each * (time.process_time() - cpu)


def run(
    pictures: Path, models: list[Path], out: Path, asking: Asking, engine: Callable[[], Engine], stop: int | None = None
) -> dict[str, Any]:
    """One run's figures; `stop` leaves it after so many jobs."""
    marks: dict[str, float] = {}

    def news(phase: str, done: int, total: int, _counts: Any) -> None:
        marks.setdefault(f"{phase}_began", time.perf_counter())
        if phase == "jobs" and done >= total // 10:
            marks.setdefault("peak_at_a_tenth", peak())
        if phase == "jobs" and stop is not None and done >= stop:
            raise Enough

    wall, cpu = time.perf_counter(), time.process_time()
    try:
        found = attribute_pictures([pictures], models, out, asking=asking, engine=engine, news=news)
    except Enough:
        return {}
    end = time.perf_counter()
    jobs = found.counts.done
    return {
        "done": found.counts.done,
        "kept": found.counts.kept,
        "verdicts": found.verdicts,
        "seconds": end - wall,
        "reading_ms_a_picture": 1000 * (marks.get("jobs_began", marks["writing_began"]) - wall) / found.pictures,
        "jobs_ms_each": 1000 * (marks["writing_began"] - marks["jobs_began"]) / jobs if jobs else None,
        "writing_ms_a_picture": 1000 * (end - marks["writing_began"]) / found.pictures,
        "own_cpu_ms_a_job": 1000 * (time.process_time() - cpu) / jobs if jobs else None,
        "peak_mib_at_a_tenth": marks.get("peak_at_a_tenth"),
        "peak_mib": peak(),
        "journal_bytes_a_job": (out / "jobs.journal").stat().st_size / max(1, found.counts.jobs),
    }


def main() -> None:
    """Measure and print; --json keeps it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--models", type=int, default=3)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    asking = Asking(NEXT_TO_NOTHING, relaxed=False, threads=1)
    with tempfile.TemporaryDirectory(prefix="plausible-batch-", dir=os.environ.get("TMPDIR")) as name:
        root = Path(name)
        pictures, models = make(root, given.pictures, given.models)
        half = given.pictures * given.models // 2
        wall, cpu = bare(pictures, models, asking)
        found = {
            "pictures": given.pictures,
            "models": given.models,
            "bare_ms_a_job": wall,
            "bare_cpu_ms_a_job": cpu,
        }

        def processes() -> Engine:
            return Processes(given.workers, 1)

        workers = root / "workers"
        run(pictures, models, workers, asking, processes, stop=half)
        found["left half way, gone on with"] = run(pictures, models, workers, asking, processes)
        found["repeated when all is done"] = run(pictures, models, workers, asking, processes)
        found["without processes"] = run(pictures, models, root / "inline", asking, Inline)
    text = json.dumps(found, indent=1)
    print(text)
    if given.json is not None:
        given.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
