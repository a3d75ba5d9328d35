"""One run of the hammer: start everybody, keep the counts, stop at the goal or at the first broken promise."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...schemas.errors import PeerError, PlausibleError, SetupError, UsageError
from ..merkle.public import PUBLIC_FOLDER
from ..merkle.reader import DirectorySource, NotServed, Source, TiledLog
from ..notes.policy import Policy
from .readers import Counts, Promises, RandomReader, Stop, Throttled, read_all
from .view import Broken, View
from .writers import MODEL, Acknowledged, Writers, manifest

_TICK = 0.05
_GRACE = 150.0
"""Seconds that writers have, once told to stop, to be answered for what they handed over."""


@dataclass(frozen=True, slots=True)
class Goal:
    """When a run ends: after `entries` written and verified (without writers: read at random), or `seconds`."""

    entries: int | None = None
    seconds: float | None = None


@dataclass(slots=True)
class Hammered:
    """What a run did and found. `broken` is evidence against the log; `failures` are what could not be done."""

    origin: str = ""
    first_size: int = 0
    size: int = 0
    seconds: float = 0.0
    written: int = 0
    reached: bool = False
    """Whether the goal was reached (without one: whether the run came to its end)."""
    counts: Counts = field(default_factory=Counts)
    checkpoints: int = 0
    proofs: int = 0
    fetched: int = 0
    fetched_bytes: int = 0
    latencies: list[float] = field(default_factory=list[float])
    failures: list[str] = field(default_factory=list[str])
    broken: Broken | None = None

    @property
    def exit_code(self) -> int:
        """1: the log broke what it signed; 4: something could not be done, or the goal was missed; else 0."""
        if self.broken is not None:
            return 1
        return 4 if self.failures or not self.reached else 0

    def to_json(self) -> dict[str, Any]:
        """The body of `pd hammer --json`."""
        waits = sorted(self.latencies)
        quantile = {q: waits[min(len(waits) - 1, int(q * len(waits)))] for q in (0.5, 0.95, 1.0)} if waits else {}
        seconds = max(self.seconds, 1e-9)
        return {
            "origin": self.origin,
            "exit_code": self.exit_code,
            "goal_reached": self.reached,
            "seconds": round(self.seconds, 3),
            "first_size": self.first_size,
            "size": self.size,
            "written": self.written,
            "written_per_second": round(self.written / seconds, 1),
            "promises_verified": self.counts.promised,
            "batch_seconds": {f"p{q * 100:g}": round(value, 4) for q, value in quantile.items()},
            "full_passes": self.counts.full_passes,
            "full_entries": self.counts.full_entries,
            "random_entries": self.counts.random_entries,
            "random_per_second": round(self.counts.random_entries / seconds, 1),
            "checkpoints": self.checkpoints,
            "consistency_proofs": self.proofs,
            "files_fetched": self.fetched,
            "bytes_fetched": self.fetched_bytes,
            "failures": self.failures,
            "broken": None if self.broken is None else str(self.broken),
        }

    def line(self) -> str:
        """How it goes, in one line."""
        return (
            f"{self.seconds:6.1f} s  {self.size} entries  written {self.written}, {self.counts.promised} verified  "
            f"full {self.counts.full_passes} ({self.counts.full_entries})  random {self.counts.random_entries}  "
            f"checkpoints {self.checkpoints}"
        )


def hammer(
    target: Source | Path,
    *,
    policy: Policy | None = None,
    goal: Goal,
    writers: int = 0,
    full_readers: int = 1,
    random_readers: int = 2,
    rate: float | None = None,
    seed: int = 0,
    progress: Callable[[Hammered], None] | None = None,
) -> Hammered:
    """Put load on a log and verify every answer, until the goal is reached or something is broken.

    `target` is a ledger directory (needed for writers, whose entries stay in it for good) or any source of a log's
    public files. `rate` bounds the files asked for in a second by all readers together. `progress` is told about twice
    a second. An interrupt ends the run like a goal that was missed. Raises what keeps the run from starting at all.
    """
    if writers and not isinstance(target, Path):
        raise UsageError("only a ledger's own folder can be written to")
    if min(writers, full_readers, random_readers) < 0 or not writers + full_readers + random_readers:
        raise UsageError("nobody to write or read")
    if goal.entries is not None and not writers and not random_readers:
        raise UsageError("a number of entries is a goal for writers or random readers")
    source = DirectorySource(target / PUBLIC_FOLDER) if isinstance(target, Path) else target
    if writers and isinstance(target, Path):
        _prepare(target)
    return _Run(Throttled(source, rate), policy, goal, seed, progress).go(
        target if isinstance(target, Path) else None, writers, full_readers, random_readers
    )


def _prepare(path: Path) -> None:
    """The writers' model, registered under a head of its own, so that there is a log to read."""
    from ..ledger import Ledger

    with Ledger.open(path) as ledger:
        ledger.register_model(MODEL, manifest=manifest()).wait("witnessed", 60)


class _Run:
    def __init__(
        self, source: Throttled, policy: Policy | None, goal: Goal, seed: int,
        progress: Callable[[Hammered], None] | None,
    ) -> None:  # fmt: skip
        self._source = source
        self._goal = goal
        self._seed = seed
        self._tell = progress
        self._view = View(TiledLog(source, cache_tiles=256, cache_bundles=1), policy)
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._result = Hammered(origin=self._view.common.checkpoint.origin, first_size=self._view.common.size)
        self._promises = Promises(source, self._view, self._result.counts)

    def go(self, path: Path | None, writers: int, full_readers: int, random_readers: int) -> Hammered:
        began = time.monotonic()
        threads = [threading.Thread(target=self._guard, args=(self._full,), daemon=True) for _ in range(full_readers)]
        threads += [
            threading.Thread(target=self._guard, args=(self._at_random, self._seed + number), daemon=True)
            for number in range(random_readers)
        ]
        for thread in threads:
            thread.start()
        pool = Writers(path, writers, self._goal.entries) if writers and path is not None else None
        try:
            self._watch(pool, began)
            self._stop.set()
            if pool is not None:
                self._drain(pool)
        except KeyboardInterrupt:
            self._fail("interrupted")
        finally:
            self._stop.set()
            if pool is not None:
                pool.kill()
            for thread in threads:
                thread.join(60)
        self._count(began)
        return self._result

    def _watch(self, pool: Writers | None, began: float) -> None:
        """Until the goal, the time, or the first failure."""
        result, goal = self._result, self._goal
        told = 0.0
        while not self._over():
            time.sleep(_TICK)
            if pool is not None:
                self._hear(pool)
            self._count(began)
            if self._tell is not None and result.seconds - told >= 0.5:
                told = result.seconds
                self._tell(result)
            if goal.entries is not None:
                done = result.counts.promised if pool is not None else result.counts.random_entries
                if done >= goal.entries:
                    result.reached = True
                    return
            if goal.seconds is not None and result.seconds >= goal.seconds:
                result.reached = goal.entries is None
                return

    def _drain(self, pool: Writers) -> None:
        """Let writers be answered for what they handed over, and verify it."""
        pool.stop()
        end = time.monotonic() + _GRACE
        while (pool.alive or self._promises.waiting) and not self._over() and time.monotonic() < end:
            self._hear(pool)
            time.sleep(_TICK)
        self._hear(pool)
        if self._promises.waiting and not self._over():
            self._fail(f"{self._promises.waiting} acknowledged entries are under no checkpoint yet")
        for code in pool.dead():
            self._fail(f"a writer ended with exit code {code}")

    def _hear(self, pool: Writers) -> None:
        result = self._result
        try:
            for report in pool.heard():
                if isinstance(report, Acknowledged):
                    result.latencies.append(report.seconds)
                    result.written += len(report.entries)
                    for index, leaf in report.entries:
                        self._promises.take(index, leaf)
                else:
                    self._fail(report.message)
            self._promises.check()
        except Broken as error:
            self._break(error)
        except (PeerError, SetupError) as error:
            self._fail(str(error))

    def _full(self) -> None:
        while not self._stop.is_set():
            read_all(self._source, self._view, self._result.counts, self._stop)

    def _at_random(self, seed: int) -> None:
        reader = RandomReader(self._source, self._view, self._result.counts, seed)
        while not self._stop.is_set():
            if not reader.step():
                self._stop.wait(0.2)

    def _guard(self, work: Callable[..., None], *arguments: Any) -> None:
        try:
            work(*arguments)
        except Stop:
            return
        except Broken as error:
            self._break(error)
        except NotServed as error:
            self._break(Broken(f"the log does not serve what it must: {error}"))
        except PlausibleError as error:
            self._fail(str(error))

    def _over(self) -> bool:
        return self._result.broken is not None or bool(self._result.failures)

    def _break(self, error: Broken) -> None:
        with self._lock:
            self._result.broken = self._result.broken or error
        self._stop.set()

    def _fail(self, message: str) -> None:
        with self._lock:
            if len(self._result.failures) < 20:
                self._result.failures.append(message)
        self._stop.set()

    def _count(self, began: float) -> None:
        result = self._result
        result.seconds = time.monotonic() - began
        result.size = self._view.common.size
        result.checkpoints, result.proofs = self._view.checkpoints, self._view.proofs
        result.fetched, result.fetched_bytes = self._source.fetched, self._source.bytes


__all__ = ["Goal", "Hammered", "hammer"]
