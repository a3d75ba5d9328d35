"""Index notes against the entries: is the signed root what everybody must compute?

A note's tree must be the log's; then its index root is recomputed from the entries, in a file beside the state that is
derived and may be deleted. Who signed a false one is who is caught: a mirror's lie says nothing against the log.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator
from pathlib import Path

from ...ledger import contradiction
from ...ledger.absence.note import KEY_SUFFIX, IndexHead, IndexPolicy
from ...ledger.absence.prove import recompute
from ...ledger.absence.store import AbsenceStore
from ...ledger.fsck import Kind
from ...ledger.merkle.reader import TiledLog
from ...ledger.merkle.tree import EMPTY_ROOT
from ...ledger.notes.checkpoint import Checkpoint
from ...ledger.notes.note import Note, VerifierKey
from ...schemas.errors import EvidenceError, PeerError, SetupError, UsageError
from .compare import Caught, beginning
from .config import WatchedLog
from .state import MonitorState
from .views import Finding, View


class Indexes:
    """Checks the index notes of one log under one head."""

    def __init__(
        self, log: WatchedLog, state: MonitorState, file: Path, measure: View, reader: TiledLog,
        tell: Callable[[Finding], None],
    ) -> None:  # fmt: skip
        self._watched, self._state, self._file = log, state, file
        self._measure, self._reader, self._tell = measure, reader, tell

    def check(self, notes: list[tuple[str, bytes]]) -> list[Caught]:
        """What is proven false in the notes that (place, note) served."""
        policy = self._watched.index_policy
        if policy is None:
            return []
        if not any(place == "log" for place, _ in notes):
            self._tell(Finding(Kind.UNREAD, "log", "it serves no index note, and an index policy was given"))
        caught: dict[str, Caught] = {}
        for place, data in notes:
            with self._reading(place):
                for one in self._note(data, policy):
                    caught.setdefault(one.subject, one)
        return list(caught.values())

    @contextlib.contextmanager
    def _reading(self, place: str) -> Generator[None]:
        try:
            yield
        except (EvidenceError, PeerError, SetupError, UsageError) as error:
            self._tell(Finding(Kind.UNREAD, place, f"its index note cannot be checked: {error}"))

    def _note(self, data: bytes, policy: IndexPolicy) -> list[Caught]:
        note = Note.parse(data)
        head = IndexHead.parse(note.text)
        if head.origin != self._watched.origin:
            raise EvidenceError(f"it is of the log {head.origin}")
        given = policy.policy
        keys = [one.key for one in (*given.logs, *given.witnesses)]
        signed = [one.key for one in note.known_signatures(keys)]
        if not signed:
            raise EvidenceError("no key of the index policy signed it")
        measure = self._measure.head
        if head.size > measure.size:
            raise EvidenceError(f"it is about {head.size} entries; {measure.size} are served")
        if beginning(self._reader, head.size, measure) != head.root:
            what = f"the index note of size {head.size} is over another tree"
            return [self._caught("index-tree", key, head, what, lambda key=key: contradiction.index_tree(
                self._watched.keys, self._measure.note, key, data, self._reader
            )) for key in signed]  # fmt: skip
        if self._recomputed(head) == head.index_root:
            self._state.keep_index(head.origin, head.size, head.index_root)
            return []
        what = f"the index root of size {head.size} is not what the entries give"
        return [self._caught("index-root", key, head, what, lambda key=key: (
            contradiction.index_root(key, data, self._reader)
        )) for key in signed]  # fmt: skip

    def _recomputed(self, head: IndexHead) -> bytes:
        """The index root over the first entries, up to the note's size."""
        if self._state.index_seen(head.origin, head.size, head.index_root):
            return head.index_root
        point = Checkpoint(head.origin, head.size, head.root if head.size else EMPTY_ROOT)
        store = AbsenceStore(self._file)
        try:
            with store.at(self._reader, point) as index:
                return index.root()
        except SetupError:  # the file is ahead of this note, or damaged: it decides nothing
            return recompute(self._reader, point).index_root
        finally:
            store.close()

    def _caught(self, kind: str, key: VerifierKey, head: IndexHead, what: str, make: Callable[[], bytes]) -> Caught:
        accused = key.name.removesuffix(KEY_SUFFIX)
        subject = f"{key.name} {head.size} {head.index_root.hex()[:16]} {head.root.hex()[:16]}"
        known = self._state.known(head.origin, kind, subject)
        # a file is made once; what is known already stands in the state
        return Caught(kind, accused, subject, what, b"" if known else make(), accused == self._watched.origin)


__all__ = ["Indexes"]
