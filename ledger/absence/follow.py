"""The absence index of a ledger that is in use: kept up beside its log and signed again when a head was witnessed.

    [index]                       # of log.toml
    follow = true
    key = "keys/index.key"        # an index key, named ORIGIN/index

A thread of the process that sequences looks at the checkpoint that is served, reads what came since from `public/`, and
serves a note over it as index/latest. It comes after publication and in nobody's way: it gives the interpreter away
between entries, signs at most once in `NOTE_SECONDS`, and writes absence.db when the log rests or much has gathered. A
log that grows faster than it can read leaves it behind; then it catches up when there is time. What goes wrong is
logged and shown (`Status.trouble`) and never stops the log: the index is derived, and tried again later.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ...schemas.errors import PlausibleError
from ..merkle.public import CHECKPOINT, PUBLIC_FOLDER
from ..merkle.reader import DirectorySource, TiledLog
from ..notes.note import MAX_NOTE_BYTES, Note, SignerKey
from ..notes.policy import Policy
from .note import IndexHead
from .pages import ABSENCE_FILE
from .prove import merged, publish, published, require_no_other_root
from .store import AbsenceStore, Paused

_log = logging.getLogger("plausible.ledger")

POLL_SECONDS = 0.1
"""How often it is looked whether a head was witnessed."""
NOTE_SECONDS = 1.0
"""A note is signed at most this often."""
REST_SECONDS = 2.0
"""How long after the last note what is in memory is written to absence.db."""
RETRY_SECONDS = 5.0
"""How long after a failure the next try is made."""
CLOSE_SECONDS = 5.0
"""How long closing goes on to catch up, at most."""
WORK_SECONDS = 0.0002
"""After so long the interpreter is given away."""
YIELD_SECONDS = 0.005
"""For how long, while there is something to record: then this thread has a few hundredths of the time."""


@dataclass(frozen=True, slots=True)
class Status:
    """How far the served index note goes, and why it does not go further, if something is wrong."""

    size: int
    trouble: str | None


class Follower:
    """See the module. Constructed by who sequences; `witnessed` says the size of the last head that met the quorum,
    `busy` whether somebody records at this moment."""

    def __init__(
        self,
        directory: Path,
        *,
        signer: SignerKey,
        policy: Policy,
        strict: bool,
        witnessed: Callable[[], int],
        busy: Callable[[], bool],
    ) -> None:
        self._public = directory / PUBLIC_FOLDER
        self._signer = signer
        self._policy = policy
        self._strict = strict
        self._witnessed = witnessed
        self._recording = busy
        self._log = TiledLog(DirectorySource(self._public), cache_tiles=64)
        self._store = AbsenceStore(
            directory / ABSENCE_FILE, lazy=True, signer=signer, anew=self._tell_anew, breathe=self._breathe
        )
        self._origin: str | None = None
        self._size = -1
        self._trouble: str | None = None
        self._busy = threading.Lock()
        self._pausing = threading.Event()
        self._closing = threading.Event()
        self._breathed = 0.0
        self._end: float | None = None
        self._thread = threading.Thread(target=self._run, name=f"plausible-index {directory.name}", daemon=True)
        self._thread.start()

    @property
    def status(self) -> Status:
        """How it stands."""
        return Status(max(self._size, 0), self._trouble)

    def suspend(self) -> None:
        """Come to rest and let go of the file, before a fork; `resume` goes on."""
        self._pausing.set()
        self._busy.acquire()
        self._store.close(self._origin)

    def resume(self) -> None:
        """Go on after `suspend`."""
        self._pausing.clear()
        self._busy.release()

    def close(self) -> None:
        """Catch up a last time, for a few seconds at most, and write what is not written."""
        self._closing.set()
        self._thread.join()
        self._end = time.monotonic() + CLOSE_SECONDS
        self._step()
        self._store.close(self._origin)

    # --- the thread ---

    def _run(self) -> None:
        due = 0.0
        flushed = True
        while not self._closing.wait(POLL_SECONDS):
            now = time.monotonic()
            with self._busy:
                if now >= due and (self._size < 0 or self._witnessed() > self._size):
                    due = now + (NOTE_SECONDS if self._step() else RETRY_SECONDS)
                    flushed = False
                elif not flushed and now >= due - NOTE_SECONDS + REST_SECONDS and self._origin is not None:
                    self._store.flush(self._origin)
                    flushed = True

    def _step(self) -> bool:
        """Catch up with the served checkpoint, sign and serve the note; False if it could not."""
        try:
            self._follow()
        except Paused:
            return True
        except PlausibleError as error:
            self._fail(str(error))
        except Exception as error:  # noqa: BLE001  (a derived index must not end the process that keeps the log)
            _log.exception("the absence index cannot be kept up")
            self._fail(f"{type(error).__name__}: {error}")
        else:
            self._trouble = None
            return True
        return False

    def _follow(self) -> None:
        data = self._log.source.fetch(CHECKPOINT, MAX_NOTE_BYTES)
        if data is None:
            return  # no head has met the quorum yet
        point = self._policy.check(data).checkpoint
        self._origin = point.origin
        if point.size == self._size:
            return
        with self._store.at(self._log, point, self._look_up) as index:
            head = IndexHead.of(point, index.root())
        note = head.sign(self._signer)
        served = published(self._log)
        if served is not None:
            before = Note.parse(served)
            known = IndexHead.parse(before.text)
            require_no_other_root(head, known)
            if known == head:
                note = merged(note, before)
        publish(self._public, note, sync=self._strict)
        self._size = point.size

    def _look_up(self, _done: int, _size: int) -> None:
        """Between two parts of the catching up: whether to stop."""
        if self._pausing.is_set() or (self._closing.is_set() and self._end is None):
            raise Paused
        if self._end is not None and time.monotonic() > self._end:
            raise Paused

    def _breathe(self) -> None:
        """Let the threads that record and sequence have the interpreter."""
        if self._pausing.is_set() or self._closing.is_set():
            return  # somebody waits for the end of this part
        if time.monotonic() - self._breathed > WORK_SECONDS:
            time.sleep(YIELD_SECONDS if self._recording() else 0.00005)
            self._breathed = time.monotonic()

    def _tell_anew(self, reason: str) -> None:
        _log.warning("%s; all entries are read again", reason)

    def _fail(self, reason: str) -> None:
        if reason != self._trouble:
            _log.error("the absence index of %s is not kept up: %s", self._public.parent, reason)
        self._trouble = reason


__all__ = ["Follower", "Status"]
