"""What each service says about itself in its metrics: read from its state when somebody scrapes, nothing kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from ..ledger.merkle.public import CHECKPOINT, PENDING
from ..ledger.merkle.reader import DirectorySource
from ..ledger.notes.checkpoint import Checkpoint
from ..ledger.notes.note import MAX_NOTE_BYTES, Note
from ..ledger.witness import Witness
from ..schemas.text import parse_time, posix_microseconds
from .log.directory import OpenLog
from .metrics import Gauge
from .monitor.config import MonitorConfig
from .monitor.state import MonitorState
from .monitor.status import read_status


def of_public(folder: Path) -> Iterator[Gauge]:
    """A log's `public/` folder: its two heads."""
    source = DirectorySource(folder)
    for file, name in ((CHECKPOINT, "log_witnessed_entries"), (PENDING, "log_sequenced_entries")):
        data = source.fetch(file, MAX_NOTE_BYTES)
        if data is not None:
            head = Checkpoint.parse(Note.parse(data).text)
            yield Gauge(name, f"Entries under {file}.", head.size, {"origin": head.origin})


def of_log(log: OpenLog) -> Iterator[Gauge]:
    """A log with many authors: its heads, whose entries it takes, whether it may go on."""
    yield from of_public(log.public)
    yield Gauge("log_stopped", "1 once nothing is taken any more.", float(log.keeper.stopped is not None))
    yield Gauge(
        "log_in_trouble", "1 while something keeps heads from being signed.", float(log.keeper.trouble is not None)
    )
    yield Gauge("log_authors", "Author keys whose entries are taken.", len(log.allowlist.authors.authors))


def of_witness(witness: Witness) -> Iterator[Gauge]:
    """A witness: is it able to sign, how many logs, how many of them were caught."""
    yield Gauge("witness_frozen", "1 once it may not sign any more.", float(witness.frozen is not None))
    yield Gauge("witness_logs", "Logs ever watched.", witness.count())
    yield Gauge("witness_conflicts", "Pairs of contradicting heads kept.", len(witness.conflicts()))


class Watched(Protocol):
    """A mirror, as far as its metrics go."""

    @property
    def frozen(self) -> str | None:
        """Why it may not sign any more."""
        ...

    def count(self) -> int:
        """How many logs it mirrors."""
        ...

    def origins(self) -> Sequence[str]:
        """Their origins."""
        ...


def of_mirror(mirror: Watched) -> Iterator[Gauge]:
    """A mirror: is it able to sign, how many logs."""
    yield Gauge("mirror_frozen", "1 once it may not sign any more.", float(mirror.frozen is not None))
    yield Gauge("mirror_logs", "Logs mirrored.", mirror.count())


def of_monitor(config: MonitorConfig, state: MonitorState) -> Iterator[Gauge]:
    """A monitor: for each log how the last look ended, when, and what stands against it. Old looks count as 4."""
    for row in read_status(config, state):
        at = {"origin": row.origin}
        yield Gauge("monitor_exit_code", "0 sound, 1 false, 5 not accepted, 4 not looked at.", row.code, at)
        yield Gauge("monitor_entries", "Entries checked.", row.size, at)
        for name, what, time in (
            ("monitor_last_look_time_seconds", "When it was last looked at.", row.time),
            ("monitor_last_sound_time_seconds", "When it was last sound.", row.sound),
        ):
            seconds = posix_microseconds(parse_time(time)) / 1e6 if time is not None else 0.0
            yield Gauge(name, what, seconds, at)
        yield Gauge("monitor_found", "Findings that nobody lifted.", len(state.found(row.origin)), at)


__all__ = ["of_log", "of_mirror", "of_monitor", "of_public", "of_witness"]
