"""What different places show of one log: its own heads, its witnesses' and its mirrors'.

A head counts once a key of the log signed it; who showed it matters only for naming the place. Witnesses and mirrors
are asked before the log itself, so what they saw was signed before what the log shows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from ...ledger.absence.note import INDEX_NOTE
from ...ledger.fsck import Kind
from ...ledger.merkle.public import CHECKPOINT, PENDING
from ...ledger.merkle.reader import DirectorySource, Source, TiledLog
from ...ledger.notes.checkpoint import Checkpoint, open_checkpoint
from ...ledger.notes.note import MAX_NOTE_BYTES
from ...schemas.errors import EvidenceError, PeerError, PlausibleError, SetupError
from ..client import HttpSource
from .config import WatchedLog


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong at which place: `false` is proven, `untrusted` not accepted, `not read` could not be looked at."""

    kind: Kind
    place: str
    what: str

    def __str__(self) -> str:
        return f"{self.kind.value}: {self.place}: {self.what}"


@dataclass(frozen=True, slots=True)
class View:
    """A head that a key of the log signed, and who showed it."""

    place: str
    head: Checkpoint
    note: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Reader:
    """A place that may serve the log's entries: the log itself, or a mirror."""

    place: str
    log: TiledLog


@dataclass(slots=True)
class Views:
    """All that one look saw. `served` is the log's own checkpoint, None if it showed none."""

    heads: list[View] = field(default_factory=list[View])
    readers: list[Reader] = field(default_factory=list[Reader])
    served: View | None = None
    notes: list[tuple[str, bytes]] = field(default_factory=list[tuple[str, bytes]])
    """(place, index note) as served."""


class _Below:
    """A source below a folder of another one: what a mirror serves of a log."""

    def __init__(self, source: Source, folder: str) -> None:
        self._source, self._folder = source, folder

    def fetch(self, path: str, limit: int) -> bytes | None:
        """See `Source.fetch`."""
        return self._source.fetch(f"{self._folder}/{path}", limit)


def origin_hash(origin: str) -> str:
    """How witnesses and mirrors name a log in an address: lowercase hex SHA-256 of its origin."""
    return hashlib.sha256(origin.encode()).hexdigest()


@contextmanager
def look(log: WatchedLog, tell: Callable[[Finding], None]) -> Generator[Views]:
    """Ask every place; what could not be read, or is no head of this log, goes to `tell`."""
    with ExitStack() as stack:
        asking = _Asking(log, tell, stack)
        for witness in log.policy.witnesses:
            if witness.url is not None:
                asking.witness(f"witness {witness.name}", witness.url)
        for place in log.mirrors:
            asking.mirror(f"mirror {place if isinstance(place, str) else place.name}", place)
        asking.log()
        yield asking.seen


class _Asking:
    """One round of questions; `_head` says whether a place answered, and the head if it showed one that counts."""

    def __init__(self, log: WatchedLog, tell: Callable[[Finding], None], stack: ExitStack) -> None:
        self._log, self._tell, self._stack = log, tell, stack
        self._folder = origin_hash(log.origin)
        self.seen = Views()

    def witness(self, name: str, url: str) -> None:
        source = self._source(name, url)
        if source is None:
            return
        answered, head = self._head(name, source, f"{self._folder}/{CHECKPOINT}")
        if head is not None:
            self.seen.heads.append(head)
        elif answered:
            self._unread(name, "it shows no head of this log: is the address its monitoring prefix, does it watch?")

    def mirror(self, name: str, place: str | Path) -> None:
        whole = self._source(name, place)
        if whole is None:
            return
        source: Source = _Below(whole, self._folder)
        answered, head = self._head(name, source, CHECKPOINT)
        if answered and head is None:
            source = whole
            answered, head = self._head(name, source, CHECKPOINT)
        if head is not None:
            self.seen.heads.append(head)
            self.seen.readers.append(Reader(name, TiledLog(source)))
            self._index(name, source)
        elif answered:
            self._unread(name, "it shows no head of this log")

    def log(self) -> None:
        source = self._source("log", self._log.place)
        if source is None:
            return
        answered, head = self._head("log", source, CHECKPOINT)
        if not answered:
            return
        if head is None:
            self._unread("log", "it serves no checkpoint")
        else:
            self.seen.served = head
            self.seen.heads.append(head)
        _, pending = self._head("log, pending", source, PENDING)
        if pending is not None:
            self.seen.heads.append(pending)
        self.seen.readers.insert(0, Reader("log", TiledLog(source)))
        self._index("log", source)

    def _source(self, name: str, place: str | Path) -> Source | None:
        if isinstance(place, Path):
            inner = place / "public"
            return DirectorySource(inner if inner.is_dir() else place)
        try:
            return self._stack.enter_context(HttpSource(place, tries=2))
        except PlausibleError as error:
            self._unread(name, str(error))
            return None

    def _head(self, name: str, source: Source, path: str) -> tuple[bool, View | None]:
        try:
            note = source.fetch(path, MAX_NOTE_BYTES)
            if note is None:
                return True, None
            return True, View(name, open_checkpoint(note, self._log.keys, self._log.origin)[0], note)
        except (EvidenceError, PeerError, SetupError) as error:
            self._unread(name, str(error))
            return False, None

    def _index(self, name: str, source: Source) -> None:
        try:
            note = source.fetch(INDEX_NOTE, MAX_NOTE_BYTES)
        except (EvidenceError, PeerError, SetupError) as error:
            self._unread(name, str(error))
            return
        if note is not None:
            self.seen.notes.append((name, note))

    def _unread(self, name: str, what: str) -> None:
        self._tell(Finding(Kind.UNREAD, name, what))


__all__ = ["Finding", "Reader", "View", "Views", "look", "origin_hash"]
