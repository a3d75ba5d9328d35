"""`pd attribute FOLDER`: many pictures as a list of jobs that can be interrupted and spread over workers."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Generator, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..schemas.errors import UsageError
from . import output

if TYPE_CHECKING:
    from ..attribution.batch.jobs import Bounds
    from ..attribution.batch.local import Engine
    from ..attribution.batch.run import Counts, Summary
    from ..attribution.stages.probe import Options

TOLD_EVERY = 30.0
"""Seconds between lines of progress where no person watches."""


class EngineName(StrEnum):
    """Whose workers run the jobs."""

    LOCAL = "local"
    RAY = "ray"


@dataclass(frozen=True, slots=True)
class Batch:
    """How a folder is worked through: the flags that a single picture has no use for."""

    engine: EngineName
    ray_address: str | None
    workers: int
    out: Path | None
    seconds: float | None
    resume: bool
    retry_failed: bool
    parquet: bool
    max_pictures: int
    max_pixels: int


def attribute_folder(
    images: Sequence[str], models: Sequence[Path], options: Options, batch: Batch, *, as_json: bool
) -> int:
    """Work through the pictures, say what came of them, and give the batch's exit code."""
    from ..attribution.batch.jobs import Asking, Bounds
    from ..attribution.batch.run import attribute_pictures

    if "-" in images:
        raise UsageError("a folder and stdin do not go together")
    asking = Asking(options.budget, options.scope == "relaxed", options.seed, options.device, options.threads)
    out = batch.out or Path(f"{Path(images[0]).resolve().name}.attribution")
    bounds: Bounds = Bounds(pictures=batch.max_pictures, pixels=batch.max_pixels)
    try:
        with _watching() as news:
            found = attribute_pictures(
                images,
                models,
                out,
                asking=asking,
                engine=lambda: _engine(batch, options.threads),
                bounds=bounds,
                seconds=batch.seconds,
                resume=batch.resume,
                retry_failed=batch.retry_failed,
                table=batch.parquet,
                news=news,
            )
    except KeyboardInterrupt:
        output.note(f"what is done is kept in {out}: run the same command again to go on")
        raise
    for bug in found.counts.bugs[:1]:
        _report_bug(bug, len(found.counts.bugs))
    _tell(found)
    if as_json:
        output.document("plausible.attribution-summary/1", _body(found))
    else:
        _tables(found)
    return found.exit_code


def _engine(batch: Batch, threads: int | None) -> Engine:
    if batch.engine is EngineName.RAY:
        from ..attribution.batch.cluster import Ray

        return Ray(max(1, batch.workers), threads, batch.ray_address)
    from ..attribution.batch.local import Inline, Processes

    return Processes(batch.workers, threads) if batch.workers else Inline()


# --- while it runs --------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def _watching() -> Generator[Any]:
    """A function for the run's news: a bar where a person watches, else a line now and then."""
    if not output.watched():
        yield _Lines()
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
        TextColumn("left"), TimeRemainingColumn(elapsed_when_finished=False),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True, speed_estimate_period=600) as bar:
        task = bar.add_task("reading", total=None)
        current = "reading"

        def news(phase: str, done: int, total: int, counts: Counts) -> None:
            nonlocal current
            if phase != current:
                current = phase
                bar.reset(task)
            bar.update(task, description=_words(phase, counts), completed=done, total=total)

        yield news


def _words(phase: str, counts: Counts) -> str:
    told = [phase]
    told += [f"{counts.failed} failed"] if counts.failed else []
    told += [f"{counts.deaths} workers lost"] if counts.deaths else []
    return ", ".join(told)


class _Lines:
    """A line of progress at the beginning of a phase and every half minute."""

    def __init__(self) -> None:
        self._phase = ""
        self._began = self._told = 0.0

    def __call__(self, phase: str, done: int, total: int, counts: Counts) -> None:
        now = time.monotonic()
        if phase != self._phase:
            self._phase, self._began, self._told = phase, now, now
            kept = f" ({counts.kept} done before)" if phase == "jobs" and counts.kept else ""
            output.note(f"{phase}: {total}{kept}")
        elif now - self._told >= TOLD_EVERY:
            self._told = now
            left = f", about {duration((now - self._began) / done * (total - done))} left" if done else ""
            output.note(f"{_words(phase, counts)}: {done} of {total}{left}")


def duration(seconds: float) -> str:
    """A time to wait, as a person says it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


# --- what is answered -----------------------------------------------------------------------------------------------


def _report_bug(trace: str, number: int) -> None:
    from .main import report_bug

    try:
        raise RuntimeError(f"{number} jobs met a bug; the first:\n{trace}")
    except RuntimeError as error:
        report_bug(error, "a job")


def _tell(found: Summary) -> None:
    counts = found.counts
    told = f"{counts.done} jobs in {duration(found.seconds)}"
    told += f", {counts.kept} done before" if counts.kept else ""
    told += f", {counts.left} left" if counts.left else ""
    if counts.deaths:
        told += f"; {counts.deaths} workers lost, {counts.retried} jobs tried again, {counts.failed} given up"
    output.note(told)
    if found.passed_over:
        output.note(f"{found.passed_over} evidence files passed over")
    if counts.left and not counts.bugs:
        output.note("not everything is done: run the same command again to go on")
    for path in found.files:
        output.note(f"wrote {path}")


def _tables(found: Summary) -> None:
    output.table(("verdict", "pictures"), sorted(found.verdicts.items()))
    output.result()
    output.table(
        ("generator", "digest", "inverted", "not inverted", "exact", "named"),
        [
            (
                generator.name,
                generator.model[7:19],
                generator.states.get("inverted", 0),
                sum(generator.states.values()) - generator.states.get("inverted", 0),
                generator.exact,
                generator.named,
            )
            for generator in found.generators
        ],
    )


def _body(found: Summary) -> dict[str, Any]:
    counts = asdict(found.counts)
    return {
        "exit_code": found.exit_code,
        "pictures": found.pictures,
        "verdicts": dict(sorted(found.verdicts.items())),
        "generators": [asdict(generator) for generator in found.generators],
        "jobs": {**counts, "bugs": len(found.counts.bugs), "left": found.counts.left},
        "passed_over": found.passed_over,
        "seconds": round(found.seconds, 3),
        "files": [str(path) for path in found.files],
    }
