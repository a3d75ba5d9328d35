"""What a process that does not sequence sees of what the sequencing one does: in state.db and in `public/`."""

from __future__ import annotations

from pathlib import Path

from ...schemas.errors import EvidenceError, PeerError, SetupError
from ..entries.entry import parse_entry
from ..entries.statements import says
from ..merkle.public import PUBLIC_FOLDER
from ..merkle.reader import DirectorySource, TiledLog
from ..notes.checkpoint import Checkpoint
from ..notes.note import Note
from ..storage.state import State
from ..vault.vault import GENERATION, MODEL, Submission

RECENT = 4096
"""How many entries back an entry about a key is looked for."""


class Following:
    """Reads only; every call looks anew."""

    def __init__(self, directory: Path, state: State) -> None:
        self._state = state
        self.log = TiledLog(DirectorySource(directory / PUBLIC_FOLDER))

    def index_of(self, submission: Submission) -> int | None:
        """Where an accepted submission stands in the log; None if the sequencing process did not take it."""
        if submission.kind == GENERATION:
            return None if submission.draw is None else self._state.index_of_draw(submission.draw)
        if submission.kind != MODEL:
            return self._recent(submission)
        rows = [row for row in self._state.models() if (row.name, row.digest) == (submission.name, submission.model)]
        return rows[0].position if rows else None

    def _recent(self, submission: Submission) -> int | None:
        """The last entry that says what a submission about a key says: state.db has no table of these few."""
        end = self._state.accepted
        for index in range(end - 1, max(-1, end - RECENT), -1):
            try:
                statement = parse_entry(self.leaf(index)).statement
            except EvidenceError:
                continue
            if says(statement, submission):
                return index
        return None

    def leaf(self, index: int) -> bytes:
        """Leaf bytes of an accepted entry."""
        try:
            return self._state.entries(index, index + 1)[0][0]
        except SetupError:  # its bundle is on the disk already
            return self.log.entry(index, self._state.synced_size)

    def leaf_hash(self, index: int) -> bytes:
        """Leaf hash of an accepted entry."""
        try:
            return self._state.entries(index, index + 1)[0][1]
        except SetupError:  # its bundle is on the disk already
            return self.log.hash(0, index, self._state.synced_size)

    def witnessed(self, known: int) -> int:
        """The size that counts as witnessed, `known` before: state.db has it a moment before `checkpoint` does."""
        size = self._state.cosigned[0]
        if size <= known:
            return size
        try:
            served = self.log.checkpoint_bytes()
            return min(size, Checkpoint.parse(Note.parse(served).text).size)
        except (EvidenceError, PeerError):
            return known
