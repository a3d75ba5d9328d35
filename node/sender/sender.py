"""The thread that sends a ledger's entries to a log elsewhere, and believes nothing of what it answers.

The ledger's own log is the queue: what was accepted is durable there, in its order, and `sender.db` remembers how far
it was sent and where it stands. That file is derived: without it everything is sent again, and the log answers repeats
with the places they have. An entry counts as sequenced when the log says so, and as witnessed only after a checkpoint
met the sender's policy and the entry was proven to lie under its root.

Generation never waits for this thread. While the log is away it comes again after pauses that grow to a minute. If the
log lost entries that it had (a restored backup), it is sent them again; if it holds another history of the chain, a
second copy of this ledger has been writing, and nothing more is sent.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...ledger import Ledger
from ...ledger.entries.entry import parse_entry
from ...ledger.merkle.reader import TiledLog
from ...ledger.merkle.tiles import WIDTH
from ...ledger.merkle.tree import hash_leaf, verify_inclusion
from ...ledger.notes.policy import AcceptedCheckpoint
from ...ledger.notes.proof import make_proof
from ...ledger.storage.database import Database
from ...ledger.storage.state import State
from ...schemas.errors import EvidenceError, PeerError, PlausibleError, SetupError, UsageError
from ..client import HttpSource
from ..log.requests import MAX_BATCH_BYTES
from .client import Forked, LogClient
from .settings import SenderSettings, read_settings, write_settings

FILE = "sender.db"
_DDL = """
CREATE TABLE progress (id INTEGER PRIMARY KEY CHECK (id = 1), sent INTEGER NOT NULL, witnessed INTEGER NOT NULL) STRICT;
CREATE TABLE place (position INTEGER PRIMARY KEY, place INTEGER NOT NULL) STRICT
"""
_VERSION = 1
LOOK_SECONDS = 1.0
"""How often the log's checkpoint is looked at while entries wait to be witnessed."""
FIRST_PAUSE, LAST_PAUSE = 0.5, 60.0
CLOSE_SECONDS = 5.0

_log = logging.getLogger("plausible.sender")


class LogSender:
    """See the module; a `ledger.writing.sending.Sender`. `open_ledger` makes one."""

    def __init__(self, folder: Path, settings: SenderSettings) -> None:
        self._folder = folder
        self.settings = settings
        path = folder / FILE
        if not path.exists():
            Database.create(path, ddl=_DDL, version=_VERSION)
        self._db = Database(path, ddl=_DDL, version=_VERSION)
        with self._db.transaction() as connection:
            connection.execute("INSERT OR IGNORE INTO progress VALUES (1, 0, 0)")
        self._client = LogClient(settings.url)
        self._source = HttpSource(settings.url, tries=1)
        self._remote = TiledLog(self._source)
        self._accepted: AcceptedCheckpoint | None = None
        self._trouble: str | None = None
        self._wake, self._end = threading.Event(), threading.Event()
        self._forked: str | None = None
        self._looked_at = 0.0
        self._thread: threading.Thread | None = None
        self._sent, self._witnessed = self._read()

    # --- what the writer asks ---

    @property
    def sequenced(self) -> int:
        """Entries that the log has under a signed head, by its own word."""
        return self._counts()[0]

    @property
    def witnessed(self) -> int:
        """Entries proven to be under a head that met the policy."""
        return self._counts()[1]

    @property
    def trouble(self) -> str | None:
        """Why nothing gets through at the moment."""
        return self._trouble

    def place(self, position: int) -> tuple[int, int] | None:
        """(index, size) in the log elsewhere; see `Sender.place`."""
        row = self._db.row("SELECT place FROM place WHERE position = ?", (position,))
        if row is None:
            return None
        size = 0 if self._accepted is None else self._accepted.size
        return row[0], max(size, row[0] + 1)

    def start(self, state: State, log: TiledLog, moved: Callable[[], None]) -> None:
        """Begin to send."""
        self._state, self._own, self._moved = state, log, moved
        self._sent, self._witnessed = self._read()
        self._thread = threading.Thread(target=self._run, name="plausible-sender", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        """There may be something to send."""
        self._wake.set()

    def suspend(self) -> None:
        """Hold no database open for the moment of a fork."""
        self._db.suspend()

    def resume(self) -> None:
        """Go on after a fork."""
        self._db.resume()

    def forget(self) -> None:
        """In a forked child: the thread and its connections are the parent's."""
        self._db.resume()
        self._thread = None
        self._wake, self._end = threading.Event(), threading.Event()
        self._client, self._source = LogClient(self.settings.url), HttpSource(self.settings.url, tries=1)
        self._remote = TiledLog(self._source)

    def close(self) -> None:
        """Send what can be sent in a few seconds, then stop."""
        if self._thread is not None:
            end = time.monotonic() + CLOSE_SECONDS
            self._wake.set()
            while self._sent < self._state.accepted and self._trouble is None and time.monotonic() < end:
                time.sleep(0.02)
            self._end.set()
            self._wake.set()
            self._thread.join(CLOSE_SECONDS)
            self._thread = None
        self._client.close()
        self._source.close()
        self._db.close()

    # --- for evidence ---

    def checkpoint(self) -> AcceptedCheckpoint:
        """The log's checkpoint as it is served now, under the sender's policy."""
        note = self._remote.checkpoint_bytes()
        known = self._accepted
        if known is None or known.note != note:
            accepted = self.settings.policy.check(note, now=int(time.time()))
            if known is not None and accepted.size < known.size:
                raise PeerError(f"{self.settings.url} serves size {accepted.size} after size {known.size}")
            known = self._accepted = accepted
        return known

    def proof(self, position: int) -> bytes:
        """The tlog-proof, verified, of this ledger's entry `position` in the log elsewhere."""
        row = self._db.row("SELECT place FROM place WHERE position = ?", (position,))
        at = self.checkpoint()
        if row is None or row[0] >= at.size:
            raise SetupError(f"entry {position} is not witnessed at {self.settings.url} yet")
        [leaf] = self._leaves(position, position + 1)
        path = self._remote.path(row[0], at.size)
        verify_inclusion(row[0], at.size, hash_leaf(leaf), path, at.root)
        return make_proof(row[0], path, at.note, leaf).encode()

    # --- the thread ---

    def _run(self) -> None:
        pause = 0.0
        while not self._end.is_set():
            try:
                busy = self._step()
            except PlausibleError as error:
                if str(error) != self._trouble:
                    _log.warning("%s", error)
                self._trouble = str(error)
                pause = min(LAST_PAUSE, 2 * pause or FIRST_PAUSE)
                self._moved()
                self._end.wait(pause * random.uniform(0.5, 1.0))
                continue
            except Exception as error:  # noqa: BLE001  a bug must not end recording: what is accepted stays here
                _log.exception("sending stops")
                self._trouble = f"sending stopped: {type(error).__name__}"
                self._moved()
                return
            pause, self._trouble = 0.0, self._forked
            self._moved()
            if not busy:
                waits = self._witnessed < self._sent and self._forked is None
                self._wake.wait(LOOK_SECONDS / 4 if waits else LOOK_SECONDS)
                self._wake.clear()

    def _step(self) -> bool:
        """Send one batch and look at the checkpoint if it is time; whether there may be more to do at once."""
        before = self._sent
        if self._forked is None and self._sent < self._state.accepted:
            self._send()
        if self._witnessed < self._sent and time.monotonic() - self._looked_at >= LOOK_SECONDS / 4:
            self._looked_at = time.monotonic()
            self._look()
        return self._forked is None and before < self._sent < self._state.accepted

    def _send(self) -> None:
        leaves = self._batch()
        try:
            indexes = self._client.send(leaves).indexes
        except Forked as error:
            self._rewind(error)
            return
        if indexes is None:
            raise PeerError(f"{self.settings.url} has accepted entries that it does not sequence yet")
        with self._db.transaction() as connection:
            rows = list(enumerate(indexes, self._sent))
            connection.executemany("INSERT OR REPLACE INTO place (position, place) VALUES (?, ?)", rows)
            connection.execute("UPDATE progress SET sent = ?", (self._sent + len(leaves),))
        self._sent += len(leaves)

    def _batch(self) -> list[bytes]:
        """The next entries to send: of one chain, and within a request's bounds."""
        end = min(self._state.accepted, self._sent + WIDTH)
        taken: list[bytes] = []
        size, chain = 0, None
        for leaf in self._leaves(self._sent, end):
            header = parse_entry(leaf).header
            size += 2 + len(leaf)
            if (chain is not None and (header.author, header.chain) != chain) or size > MAX_BATCH_BYTES:
                break
            chain = header.author, header.chain
            taken.append(leaf)
        return taken

    def _rewind(self, error: Forked) -> None:
        """Go back to where the log's chain stands, if it is our history; else send nothing any more."""
        head = error.head
        for position in range(self._sent - 1, -1, -1):
            [leaf] = self._leaves(position, position + 1)
            header = parse_entry(leaf).header
            if (header.author, header.chain) != (head.author, head.chain) or header.seq >= head.seq:
                continue
            if hash_leaf(leaf) != head.prev:
                break
            return self._go_back(position + 1)
        if head.seq == 0:
            first = next(p for p in range(self._sent + 1) if self._chain_at(p) == (head.author, head.chain))
            return self._go_back(first)
        self._forked = (
            f"{error}; it goes on with seq {head.seq} after an entry that is not this ledger's: another copy of this "
            "ledger has been writing there. Nothing more is sent"
        )
        _log.error("%s", self._forked)
        return None

    def _go_back(self, position: int) -> None:
        if position >= self._sent:
            raise PeerError(f"{self.settings.url} says that its chain stands where we send, and takes nothing")
        _log.warning("%s has lost entries that it had: sending again from entry %d", self.settings.url, position)
        with self._db.transaction() as connection:
            connection.execute("UPDATE progress SET sent = ?, witnessed = min(witnessed, ?)", (position, position))
        self._sent, self._witnessed = position, min(self._witnessed, position)

    def _chain_at(self, position: int) -> tuple[str, str]:
        [leaf] = self._leaves(position, position + 1)
        header = parse_entry(leaf).header
        return header.author, header.chain

    def _look(self) -> None:
        """Prove what is under the log's checkpoint."""
        at = self.checkpoint()
        rows = self._db.rows(
            "SELECT position, place FROM place WHERE position >= ? AND position < ? ORDER BY position LIMIT 4096",
            (self._witnessed, self._sent),
        )
        done = self._witnessed
        for position, place in rows:
            if place >= at.size:
                break
            [leaf] = self._leaves(position, position + 1)
            try:
                verify_inclusion(place, at.size, hash_leaf(leaf), self._remote.path(place, at.size), at.root)
            except EvidenceError as error:
                self._forked = (
                    f"{self.settings.url} said that entry {position} stands at {place}, and it does not: {error}"
                )
                raise PeerError(self._forked) from None
            done = position + 1
        if done > self._witnessed:
            with self._db.transaction() as connection:
                connection.execute("UPDATE progress SET witnessed = ?", (done,))
            self._witnessed = done

    def _leaves(self, start: int, end: int) -> list[bytes]:
        try:
            return [leaf for leaf, _ in self._state.entries(start, end)]
        except SetupError:  # their bundles are on the disk already
            size = self._state.synced_size
            files = list(self._own.entries(start, min(end, size), size))
            return files + [leaf for leaf, _ in self._state.entries(start + len(files), end)]

    def _counts(self) -> tuple[int, int]:
        return (self._sent, self._witnessed) if self._thread is not None else self._read()

    def _read(self) -> tuple[int, int]:
        sent, witnessed = self._db.row("SELECT sent, witnessed FROM progress")
        return sent, witnessed


def open_ledger(url: str, folder: Path | str, *, policy: bytes | None = None, **options: Any) -> Ledger:
    """Open the ledger in `folder` so that its entries go to the log at `url` too; `Ledger.open` takes the options.

    With `policy` (tlog-policy lines: the log's key, its witnesses, the quorum) the ledger sends there from now on;
    without it `folder` says so already (`pd init --send-to`). `await_state` waits for the log elsewhere: "sequenced"
    and "witnessed" are its; with "none" and "accepted" generation never waits for the network.
    """
    path = Path(folder)
    if policy is not None:
        write_settings(path, url, policy)
    settings = read_settings(path)
    if settings.url != url.rstrip("/"):
        raise UsageError(f"{path} sends to {settings.url}, not to {url}")
    return Ledger.open(path, sender=LogSender(path, settings), **options)
