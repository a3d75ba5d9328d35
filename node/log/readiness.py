"""Whether a log does what it is there for: not whether a process is alive, but whether what it serves holds.

Ready means: the checkpoint that readers get is signed by the log and cosigned by the policy's quorum, is no older than
the configured age by its cosigners' clocks, is the one this process published last, and entries can be stored. The file
is read as readers get it; its signatures are verified anew whenever its bytes changed.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...ledger.merkle.public import CHECKPOINT
from ...ledger.merkle.reader import DirectorySource, TiledLog
from ...ledger.notes.policy import AcceptedCheckpoint
from ...schemas.errors import PlausibleError
from .directory import OpenLog


@dataclass(frozen=True, slots=True)
class State:
    """Ready or not, and a line that says why."""

    ready: bool
    text: str


class Readiness:
    """Looks at an open log; calls from any thread."""

    def __init__(self, log: OpenLog) -> None:
        self._log = log
        self._reader = TiledLog(DirectorySource(log.public))
        self._verified: AcceptedCheckpoint | None = None

    def look(self, now: int) -> State:
        """The state at `now` (POSIX seconds)."""
        log = self._log
        if log.keeper.stopped is not None:
            return State(False, f"nothing is taken: {log.keeper.stopped}")
        size = log.keeper.witnessed
        try:
            note = self._reader.checkpoint_bytes(CHECKPOINT)
            known = self._verified
            if known is None or known.note != note:
                known = self._verified = log.policy.check(note, now=now)
        except PlausibleError as error:
            trouble = log.keeper.trouble
            return State(False, f"the served checkpoint does not hold: {error}" + (f" ({trouble})" if trouble else ""))
        if known.size < size:
            return State(False, f"the served checkpoint is of size {known.size}, size {size} was cosigned")
        if known.existence_time is None:
            return State(True, f"size {known.size}, no witness dates it")
        age = now - known.existence_time
        if age > log.config.max_age:
            trouble = log.keeper.trouble
            return State(
                False, f"the quorum's cosignatures are {age} seconds old" + (f" ({trouble})" if trouble else "")
            )
        return State(True, f"size {known.size}, cosigned {max(0, age)} seconds ago")
