"""Receipts: what a writer holds while its entry moves from accepted to sequenced to witnessed.

    accepted    durable in vault.db and state.db; index and leaf hash are fixed and survive a kill
    sequenced   under a head this log has signed: there is a tlog-proof
    witnessed   under a head that met the quorum: evidence for third parties

Before `accepted` a receipt is `pending` (in this process's memory: a kill loses it), `spooled` (durable in the local
journal) or `queued` (durable in the vault, waiting for the process that sequences), and has no document yet.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

from ...schemas import receipt as document
from ...schemas.errors import PlausibleError, SetupError, UsageError
from ...schemas.text import digest_text

PENDING, SPOOLED, QUEUED = "pending", "spooled", "queued"
ACCEPTED, SEQUENCED, WITNESSED = "accepted", "sequenced", "witnessed"
_ORDER = {PENDING: 0, SPOOLED: 1, QUEUED: 2, ACCEPTED: 3, SEQUENCED: 4, WITNESSED: 5}
AWAITABLE = (ACCEPTED, SEQUENCED, WITNESSED)


class NotYet(SetupError, TimeoutError):  # noqa: N818  (says what is the case)
    """The state was not reached within the time given; the entry is not lost, ask again."""


class Progress:
    """How far the log is, shared by a writer and its receipts."""

    def __init__(self) -> None:
        self.condition = threading.Condition()
        self.sequenced = 0
        self.witnessed = 0
        self.waiting = 0
        """Threads inside `Receipt.wait`: the writer then does not wait for company before it works."""
        self.wanted = threading.Event()
        self.stopped: PlausibleError | None = None
        self.stalled: PlausibleError | None = None
        """Why nothing moves at the moment, with on_error="raise": those who wait are told instead of kept waiting."""
        self.failures: list[PlausibleError] = []
        """What submissions died of and nobody was told yet."""
        self.trouble: str | None = None
        self.place: Callable[[int], tuple[int, int] | None] | None = None
        """Where the entries go to a log elsewhere: (index, size) there of one of this ledger's; see sending.py."""
        self.pid = os.getpid()

    def advance(self, sequenced: int, witnessed: int, trouble: str | None) -> None:
        """Publish new sizes and wake the waiting."""
        with self.condition:
            self.sequenced, self.witnessed, self.trouble = sequenced, witnessed, trouble
            self.condition.notify_all()

    def stop(self, error: PlausibleError) -> None:
        """Nothing more will move: wake everybody with the reason."""
        with self.condition:
            self.stopped = error
            self.condition.notify_all()


class Receipt:
    """The promise for one append; `.state` moves on by itself, `.wait` waits for it."""

    __slots__ = ("_error", "_index", "_leaf", "_progress", "_state", "key")

    def __init__(self, key: bytes, progress: Progress) -> None:
        self.key = key
        self._progress = progress
        self._state = PENDING
        self._index: int | None = None
        self._leaf: bytes | None = None
        self._error: PlausibleError | None = None

    @property
    def state(self) -> str:
        """pending, spooled, queued, accepted, sequenced or witnessed."""
        index = self._index
        if index is None:
            return self._state
        if index < self._progress.witnessed:
            return WITNESSED
        return SEQUENCED if index < self._progress.sequenced else ACCEPTED

    @property
    def leaf(self) -> bytes | None:
        """The entry's leaf hash, from `accepted` on."""
        return self._leaf

    @property
    def index(self) -> int | None:
        """The entry's index in the ledger's own log, from `accepted` on; it never changes."""
        return self._index

    @property
    def size(self) -> int | None:
        """Size of the last head that covers the entry, from `sequenced` on."""
        state = self.state
        if state == WITNESSED:
            return self._progress.witnessed
        return self._progress.sequenced if state == SEQUENCED else None

    @property
    def error(self) -> PlausibleError | None:
        """Why this entry could not be stored; None if it was, or is on its way."""
        return self._error

    def wait(self, state: str = WITNESSED, timeout: float | None = None) -> Receipt:
        """Wait until the entry has reached `state`; returns itself.

        Raises the error that kept the entry from being stored, `NotYet` after `timeout` seconds, `SetupError` if the
        ledger was closed or stopped before.
        """
        if state not in AWAITABLE:
            raise UsageError(f"a receipt can wait for {', '.join(AWAITABLE)}, not {state!r}")
        progress = self._progress
        if progress.pid != os.getpid():
            raise UsageError("this receipt was made before a fork: it belongs to the parent process")
        deadline = None if timeout is None else time.monotonic() + timeout
        with progress.condition:
            progress.waiting += 1
            progress.wanted.set()
            try:
                while _ORDER[self.state] < _ORDER[state]:
                    if self._error is not None:
                        if self._error in progress.failures:
                            progress.failures.remove(self._error)
                        raise self._error
                    if progress.stopped is not None:
                        raise SetupError(
                            f"the entry is {self.state} and will not move on here: {progress.stopped}"
                        ) from progress.stopped
                    if progress.stalled is not None and self.state != PENDING:
                        if progress.stalled in progress.failures:
                            progress.failures.remove(progress.stalled)
                        raise NotYet(
                            f"the entry is {self.state} (durable, it will be taken up again), not {state}: "
                            f"{progress.stalled}"
                        ) from progress.stalled
                    left = None if deadline is None else deadline - time.monotonic()
                    if left is not None and left <= 0:
                        reason = f" ({progress.trouble})" if progress.trouble else ""
                        raise NotYet(f"the entry is {self.state}, not {state}, after {timeout} s{reason}")
                    progress.condition.wait(left)
            finally:
                progress.waiting -= 1
        return self

    def to_document(self) -> document.Receipt:
        """The receipt as `plausible.receipt/1`; `UsageError` before the entry is accepted."""
        state, size, index, leaf = self.state, self.size, self._index, self._leaf
        if leaf is None:
            raise UsageError(f"the entry is {state}: there is no receipt before it is accepted")
        known = state != ACCEPTED
        if known and self._progress.place is not None and self._index is not None:
            index, size = self._progress.place(self._index) or (None, None)
        return document.Receipt.model_validate(
            {
                "leaf": digest_text(leaf),
                "state": state,
                "index": index if known else None,
                "size": size if known else None,
            }
        )

    # --- the writer's side ---

    def moved_to(self, state: str) -> None:
        """The entry is now spooled or queued."""
        self._state = state

    def accepted_as(self, index: int, leaf: bytes) -> None:
        """The entry has its index and leaf hash."""
        # leaf first: a reader that sees an index must find the leaf
        self._leaf = leaf
        self._index = index
        self._state = ACCEPTED

    def failed_with(self, error: PlausibleError) -> None:
        """The entry could not be stored."""
        self._error = error

    def __repr__(self) -> str:
        return f"<Receipt {self.state}{'' if self._index is None else f' index {self._index}'}>"
