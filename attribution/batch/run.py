"""The run: pictures in, rows out, with everything that is done kept on the way.

    summary = attribute_pictures(["pictures/"], ["generators/faces"], "out/")

Reads every picture, leaves out the jobs that the journal has, gives the others to an engine, and writes the results
from the journal. Ended at any point, the same call goes on: what is lost is at most the jobs under way. A job whose
worker was lost is tried once more, then recorded as failed with the reason.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ...schemas.attribution import AttributionJob
from ...schemas.errors import PlausibleError, UsageError
from ...schemas.text import digest_text
from ...schemas.verdict import EXIT_BUG, Verdict, worst_exit
from .jobs import (
    Asking,
    Bounds,
    Picture,
    Planned,
    Subject,
    Task,
    key_maker,
    list_pictures,
    load,
    plan,
    read_picture,
    read_subject,
)
from .journal import Journal
from .local import Engine, Inline
from .results import NOT_YET, Answer, judge, parquet, writing
from .work import Done, Lost, failed_job

JOURNAL = "jobs.journal"
RESULTS = "results.jsonl"
TABLE = "results.parquet"
ATTEMPTS = 2
LOOK = 0.5
"""Seconds between looks at the clock while jobs run."""

Phase = Literal["reading", "jobs", "writing"]
News = Callable[[Phase, int, int, "Counts"], None]
"""(phase, done, in all, counts so far)."""


@dataclass(slots=True)
class Counts:
    """What happened to the jobs of a run."""

    jobs: int = 0
    """Jobs of all readable pictures and generators, each once."""
    kept: int = 0
    """Done before this run."""
    done: int = 0
    """Ended in this run, failed ones included."""
    failed: int = 0
    """Given up in this run."""
    retried: int = 0
    deaths: int = 0
    """Workers lost."""
    bugs: list[str] = field(default_factory=list[str])
    """Tracebacks of jobs that met a bug; they have no result and are tried again by the next run."""

    @property
    def left(self) -> int:
        """Jobs without a result."""
        return self.jobs - self.kept - self.done


@dataclass(frozen=True, slots=True)
class GeneratorSummary:
    """What a run says of one generator."""

    name: str
    model: str
    states: dict[str, int]
    named: int
    exact: int


@dataclass(frozen=True, slots=True)
class Summary:
    """What came of a run."""

    folder: Path
    pictures: int
    verdicts: dict[str, int]
    generators: tuple[GeneratorSummary, ...]
    counts: Counts
    seconds: float
    exit_code: int
    passed_over: int
    """Evidence files in the folders."""
    files: tuple[Path, ...]


def attribute_pictures(
    pictures: Sequence[str | Path],
    models: Sequence[str | Path],
    folder: str | Path,
    *,
    asking: Asking | None = None,
    engine: Callable[[], Engine] = Inline,
    bounds: Bounds | None = None,
    seconds: float | None = None,
    resume: bool = True,
    retry_failed: bool = False,
    table: bool = False,
    news: News | None = None,
) -> Summary:
    """Invert every model folder on every picture of the folders and files given; results go into `folder`.

    `seconds` ends the run early: nothing more is begun after it, and pictures without all their results are
    `incomplete`. `resume=False` runs every job again, `retry_failed` those that were given up. `table` writes Parquet
    beside JSON Lines. Raises `UsageError` and `SetupError` for what is given wrongly; everything about a picture is in
    its rows. An interrupt passes through when workers have ended and the journal is closed.
    """
    began = time.monotonic()
    asking, bounds, tell = asking or Asking(), bounds or Bounds(), news or (lambda *_: None)
    if table:
        parquet()
    subjects = _subjects(models)
    found, passed = list_pictures(pictures, bounds.pictures)
    out = Path(folder)
    if (out / RESULTS).exists() and not (out / JOURNAL).exists():
        raise UsageError(f"{out / RESULTS} is of no run that can be gone on with: name another folder")
    counts = Counts()
    with Journal(out / JOURNAL) as journal:
        known: list[Picture] = []
        for number, (path, name) in enumerate(found):
            tell("reading", number, len(found), counts)
            known.append(read_picture(path, name, bounds))
        settled = _settled(journal, asking, retry_failed) if resume else lambda _key: False
        everything = list(plan(known, subjects, asking, lambda _: False))
        todo = [planned for planned in everything if not settled(planned.key)]
        counts.jobs, counts.kept = len(everything), len(everything) - len(todo)
        del everything
        lost = _Loop(journal, asking, bounds, counts, tell).run(
            todo, engine, None if seconds is None else began + seconds
        )
        tell("writing", 0, len(known), counts)
        if not table:
            (out / TABLE).unlink(missing_ok=True)  # an earlier run's would stand beside newer lines
        files = (out / RESULTS, *([out / TABLE] if table else []))
        verdicts, generators = _write(out, table, known, subjects, asking, journal, lost)
    codes = [Verdict(verdict).exit_code for verdict in verdicts] + ([EXIT_BUG] if counts.bugs else [])
    return Summary(
        folder=out, pictures=len(known), verdicts=verdicts, generators=generators, counts=counts,
        seconds=time.monotonic() - began, exit_code=worst_exit(codes), passed_over=passed, files=files,
    )  # fmt: skip


def _subjects(folders: Sequence[str | Path]) -> list[Subject]:
    subjects: dict[str, Subject] = {}
    for folder in folders:
        subject = read_subject(Path(folder))
        subjects.setdefault(subject.digest, subject)
    if not subjects:
        raise UsageError("no generator given")
    return list(subjects.values())


def _settled(journal: Journal, asking: Asking, retry_failed: bool) -> Callable[[bytes], bool]:
    """Whether a job need not run: it has a line, and not one of missing weights or of a smaller time guard."""

    def settled(key: bytes) -> bool:
        job = journal.get(key)
        if job is None or job.state == "missing" or (retry_failed and job.state == "failed"):
            return False
        return job.state != "budget" or _as_long(job.guard, asking.budget.seconds)

    return settled


def _as_long(was: float | None, now: float | None) -> bool:
    return was is None or (now is not None and was >= now)


class _Loop:
    """Jobs from a list to an engine and back into the journal."""

    def __init__(self, journal: Journal, asking: Asking, bounds: Bounds, counts: Counts, news: News) -> None:
        self.journal = journal
        self.asking = asking
        self.bounds = bounds
        self.counts = counts
        self.news = news
        self.under_way: dict[bytes, tuple[Planned, Task]] = {}
        self.again: list[Task] = []
        self.lost: dict[bytes, str] = {}
        """Why a job has no line, by key, where there is more to say than that the run ended."""

    def run(self, todo: Sequence[Planned], begin: Callable[[], Engine], until: float | None) -> dict[bytes, str]:
        """Run the jobs; why some have no line."""
        if not todo:
            return self.lost
        total, waiting = len(todo), iter(todo)
        engine = begin()
        killed = True
        try:
            more = True
            while more or self.under_way or self.again:
                late = until is not None and time.monotonic() >= until
                if late:
                    self._drop_again()
                while engine.room > 0 and not late and (more or self.again):
                    task = self._next(waiting)
                    if task is None:
                        more = False
                    else:
                        engine.submit(task)
                if late and not self.under_way:
                    break
                for ended in engine.collect(LOOK) if self.under_way else ():
                    self._take(ended)
                self.counts.deaths = engine.deaths
                self.news("jobs", self.counts.done, total, self.counts)
            killed = False
        finally:
            engine.close(kill=killed)
        return self.lost

    def _drop_again(self) -> None:
        """No time is left to try lost jobs again: the next run does."""
        for task in self.again:
            del self.under_way[task.key]
        self.again.clear()

    def _next(self, waiting: Iterator[Planned]) -> Task | None:
        """The next job to give out: one that a worker lost, or the next of the list whose picture is still the same."""
        if self.again:
            return self.again.pop()
        for planned in waiting:
            task = self._task(planned)
            if task is not None:
                self.under_way[planned.key] = planned, task
                return task
        return None

    def _task(self, planned: Planned) -> Task | None:
        picture = planned.picture
        try:
            image = load(picture.path, self.bounds)
        except (PlausibleError, OSError) as error:
            self.lost[planned.key] = f"the image could not be read again: {error}"
            return None
        if image.pixel_digest != picture.pixels:
            self.lost[planned.key] = "the image changed while the run was going on: run the same command again"
            return None
        return Task(planned.key, digest_text(image.pixel_digest), image.pixels, planned.subject, self.asking)

    def _take(self, ended: Done | Lost) -> None:
        planned, task = self.under_way[ended.key]
        if isinstance(ended, Done):
            self._settle(ended.key, ended.line)
        elif ended.kind == "bug":
            self.lost[ended.key] = f"a bug in this program: {ended.reason}"
            self.counts.bugs.append(ended.detail or ended.reason)
            del self.under_way[ended.key]
        elif task.attempt < ATTEMPTS:
            self.counts.retried += 1
            task = Task(task.key, task.pixels_digest, task.pixels, task.subject, task.asking, task.attempt + 1)
            self.under_way[ended.key] = planned, task
            self.again.append(task)
        else:
            self.counts.failed += 1
            self._settle(ended.key, failed_job(task, f"given up after {ATTEMPTS} tries: {ended.reason}").to_line())

    def _settle(self, key: bytes, line: bytes) -> None:
        self.journal.append(key, line)
        self.counts.done += 1
        del self.under_way[key]


def _write(
    out: Path,
    table: bool,
    pictures: Sequence[Picture],
    subjects: Sequence[Subject],
    asking: Asking,
    journal: Journal,
    lost: dict[bytes, str],
) -> tuple[dict[str, int], tuple[GeneratorSummary, ...]]:
    """Write the rows of all pictures; pictures by verdict, and what each generator came to."""
    verdicts: Counter[str] = Counter()
    states: dict[str, Counter[str]] = {subject.digest: Counter() for subject in subjects}
    named: Counter[str] = Counter()
    exact: Counter[str] = Counter()
    makers = [(subject, key_maker(subject, asking)) for subject in subjects]
    with writing(out / RESULTS, out / TABLE if table else None) as add:
        for picture in pictures:
            answers: list[tuple[Subject, Answer]] = []
            for subject, key_of in makers if picture.pixels is not None else ():
                key = key_of(picture.pixels or b"")
                job: AttributionJob | None = journal.get(key)
                answers.append((subject, lost.get(key, job or NOT_YET)))
            rows = judge(picture, answers, asking)
            verdicts[rows[0].verdict] += 1
            for row in rows:
                add(row)
                if row.model is not None:
                    states[row.model][row.state] += 1
                    named[row.model] += row.named
                    exact[row.model] += row.exact
    return dict(verdicts), tuple(
        GeneratorSummary(subject.name, subject.digest, dict(states[subject.digest]), named[subject.digest],
                         exact[subject.digest])
        for subject in subjects
    )  # fmt: skip
