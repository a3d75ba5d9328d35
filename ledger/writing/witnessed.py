"""A log under witnesses: from accepted entries to a head that its policy's quorum cosigned, in an order no kill breaks.

    3 tiles      public/tile/...
    4 sequence   head signed, durable in state.db by compare-and-set on (size, root), then served as pending
    5 witness    cosignatures meet the quorum, durable, then `checkpoint` moves
    6 complete   cosignatures that come later, durable, then in `checkpoint` too

Who accepts the entries is another question: a ledger's sequencer takes them from its vault (sequencer.py), a log
service from its authors' requests (node/log). Everything in `public/` above `synced_size` is re-derived from state.db
at the start, so files may reach the disk later than the head that names them. What cannot be re-derived is checked: the
tiles on the right edge must give the root that was signed last, or nothing starts.

A restored backup of state.db could sign a second history. So before anything is signed the witnesses are asked how far
they have cosigned; if any is ahead, or `public/` is, the log is *held*: it signs nothing. While those that could not be
asked could meet the quorum without the others, no head is signed. With `quorum none` a full restore cannot be detected.

Used by one thread of the one process that holds the folder's lock.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from pathlib import Path

from ...schemas.errors import PolicyError
from ..log import Log
from ..merkle.public import PUBLIC_FOLDER, PublicFolder
from ..notes.note import Note, NoteSignature, SignerKey
from ..notes.policy import AcceptedCheckpoint, Policy
from ..storage.disk import storage
from ..storage.state import RolledBack
from ..storage.store import LogStore
from .cosigning import MAX_REST_SECONDS, PATIENCE_SECONDS, REST_SECONDS, Ahead, Cosigner, Cosigners

_log = logging.getLogger("plausible.ledger")

RESTORED_MARK = "restored"
"""A file in the ledger's folder: its state came from a backup (`pd import --private`), no witness was heard since."""
SYNC_SECONDS = 1.0
"""With lazy sync, tiles are flushed at most this long after the head that names them."""


class WitnessedLog:
    """See the module. Construct it only while holding the folder's lock."""

    def __init__(
        self,
        directory: Path,
        store: LogStore,
        *,
        log_keys: Sequence[SignerKey],
        policy: Policy,
        witnesses: Sequence[Cosigner],
        strict: bool,
        remedy: str | None = None,
    ) -> None:
        """Go on with the log in `directory`; `SetupError` if files, state.db and what was signed do not agree.

        `remedy` says what to do if it was restored from a backup, where it is no ledger.
        """
        self._remedy = remedy
        self._directory = directory
        self._store = store
        self._policy = policy
        self.held: RolledBack | None = None
        """Why nothing is accepted or signed here, if state.db is older than what was signed."""
        self.trouble: str | None = None
        """Why the last attempt to sequence or witness did not get through; None when all is well."""
        self.log = Log(store, log_keys, PublicFolder(directory / PUBLIC_FOLDER, strict=strict))
        self._cosigners = Cosigners(policy, witnesses, self.log.reader.consistency)
        self._cosigned, note = store.cosigned
        self._restored = directory / RESTORED_MARK
        if self.log.behind is not None:
            self._hold(self.log.behind)
        else:
            self.log.resume()
            if note:
                self.log.public.write_checkpoint(self._cosigned, note)
        self._served = note
        self._hear_at, self._hear_pause = 0.0, REST_SECONDS
        self._may_sign = False
        self._synced_at = time.monotonic()

    def replace_witnesses(self, witnesses: Sequence[Cosigner]) -> None:
        """Use these connections from now on (theirs were closed for a fork)."""
        self._cosigners.replace(witnesses)

    @property
    def size(self) -> int:
        """Entries under the last signed head."""
        return self.log.size

    @property
    def cosigned_size(self) -> int:
        """Entries under the last head that met the quorum."""
        return self._cosigned

    @property
    def accepted(self) -> int:
        """Accepted entries."""
        return self.log.accepted

    def hear_witnesses(self, patience: float = PATIENCE_SECONDS) -> bool:
        """Whether enough witnesses said how far they have cosigned, and none is ahead; needed before signing.

        From then on the sequencer is held if one has cosigned what this state.db does not know.
        """
        with storage(f"reading {self._directory}"):
            restored = not self._may_sign and self._policy.quorum is None and self._restored.exists()
        if restored:
            self.trouble = (
                f"state.db came from a backup and there is no witness to ask whether it signed more since: nothing is "
                f"signed while {self._restored} is there"
            )
            return False
        if self.held is None and not self._may_sign:
            try:
                self._may_sign = self._cosigners.heard(self.log.head, patience)
            except Ahead as reason:
                self._hold(str(reason))
                return False
            if not self._may_sign:
                self.trouble = self._cosigners.trouble
            elif self._policy.quorum is not None:
                with storage(f"removing {self._restored}"):  # enough witnesses know of nothing newer
                    self._restored.unlink(missing_ok=True)
        return self.held is None and self._may_sign

    def _hold(self, what: str) -> None:
        """Sign nothing any more: `what` is newer than state.db."""
        self.held = RolledBack(what, self._directory, self._remedy)
        self.trouble = str(self.held)
        _log.error("%s", self.held)

    # --- steps 3 and 4 ---

    def sequence(self) -> bool:
        """Write tiles for what was accepted and sign the new head; False if there was nothing or it may not sign."""
        if self.log.accepted == self.log.size or not self.hear_witnesses():
            return False
        return self.log.sequence()

    # --- step 5 ---

    def witness(self, patience: float = PATIENCE_SECONDS, *, again: bool = False) -> bool:
        """Collect cosignatures for a signed head; True if one met the quorum now. Witnesses that fail are retried.

        `again`: also for a head that has met the quorum, so that its cosignatures tell a later time.
        """
        if self.held is not None or (not again and self._cosigned == self.log.size and self._store.cosigned[1]):
            return False
        head, signatures = self.log.head, list[NoteSignature]()
        if self._policy.quorum is not None:
            found = self._cosigners.collect(head, patience)
            if found is None:
                return False
            head, signatures = found
        data = Note.parse(head.note).add(*signatures).encode()
        try:
            accepted: AcceptedCheckpoint = self._policy.check(data)
        except PolicyError as error:
            self.trouble = self._cosigners.trouble or str(error)
            return False
        self._serve(accepted.size, data)
        self.trouble = self._cosigners.trouble = None
        return True

    def _serve(self, size: int, note: bytes) -> None:
        self._store.set_cosigned(size, note)
        self.log.public.write_checkpoint(size, note)
        self._cosigned, self._served = size, note

    # --- step 6 ---

    def complete(self) -> bool:
        """Show a head that met the quorum to the witnesses that have not cosigned it, now and then; never waits.

        True if `checkpoint` gained signatures. Its dated copy stays as it is: it tells when the quorum was met.
        """
        if self._policy.quorum is None or self.held is not None or not self._served:
            return False
        if not self._cosigned == self.log.size == self.log.accepted:  # a newer head comes, and asks everybody
            return False
        if not self._may_sign and not self._heard_later():
            return False
        signatures = self._cosigners.rest(self.log.head, self._served)
        if not signatures:
            return False
        data = Note.parse(self._served).add(*signatures).encode()
        self._serve(self._policy.check(data).size, data)
        return True

    def _heard_later(self) -> bool:
        """Ask again those who said nothing at the start: before that, a head they do not know may be a restored one."""
        now = time.monotonic()
        if now < self._hear_at:
            return False
        self._hear_at, self._hear_pause = now + self._hear_pause, min(2 * self._hear_pause, MAX_REST_SECONDS)
        if self.hear_witnesses(0.0):
            self.trouble = None
        return self._may_sign

    @property
    def cosigning(self) -> bool:
        """Whether witnesses were asked and some have not answered yet: come back soon."""
        return self._cosigners.busy

    def close(self) -> None:
        """Ask nobody any more."""
        self._cosigners.close()

    # --- files ---

    def sync(self, *, force: bool = False) -> None:
        """Flush tiles and let state.db forget what they hold, if it is time or `force`."""
        if self.held is not None or (not force and time.monotonic() - self._synced_at < SYNC_SECONDS):
            return
        self.log.sync()
        self._synced_at = time.monotonic()

    @property
    def unsynced(self) -> bool:
        """Whether tiles wait for their flush."""
        return self.log.public.dirty


__all__ = ["RESTORED_MARK", "WitnessedLog"]
