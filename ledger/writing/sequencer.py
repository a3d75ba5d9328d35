"""The sequencing writer: from submissions in the vault to a witnessed head, in an order that a kill cannot break.

    2 accept     state.db commit: seq, prev, time, signed entry, index
    3 tiles      public/tile/...
    4 sequence   head signed, durable in state.db by compare-and-set on (size, root), then served as pending
    5 witness    cosignatures meet the quorum, durable, then `checkpoint` moves

Everything in `public/` above `synced_size` is re-derived from state.db when the writer starts, so files may reach the
disk later than the head that names them. What cannot be re-derived is checked: the tiles on the right edge must give
the root that was signed last, or the writer refuses to start.

A restored backup of state.db could sign a second history. So before it signs anything the writer asks the witnesses
how far they have cosigned; if any is ahead of it, or `public/` is, it is *held*: it gives no entry a place any more and
signs nothing, and submissions wait in the vault (recover.py says how to go on). While those it could not ask could
meet the quorum without the others, it accepts entries but signs no head. With `quorum none` a full restore cannot be
detected.

Used by one thread of the one process that holds the ledger's lock.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...schemas.errors import PlausibleError, PolicyError, SetupError, UsageError
from ..entries.entry import parse_entry, sign_entry
from ..entries.statements import KEY_SUBMISSIONS, REVOCATION, ROTATION, build_statement
from ..keys.authorkeys import AuthorKeys
from ..log import Log
from ..merkle.public import PUBLIC_FOLDER, PublicFolder
from ..merkle.tree import hash_leaf
from ..notes.note import Note, NoteSignature, SignerKey
from ..notes.policy import AcceptedCheckpoint, Policy
from ..storage.disk import storage
from ..storage.state import Acceptance, ChainHead, RolledBack, State
from ..vault.vault import GENERATION, MODEL, SEED_EPOCH, Submission, Vault
from .cosigning import PATIENCE_SECONDS, Ahead, Cosigner, Cosigners

_log = logging.getLogger("plausible.ledger")

RESTORED_MARK = "restored"
"""A file in the ledger's folder: its state came from a backup (`pd import --private`), no witness was heard since."""

SKIPPED_DRAWS = 1 << 32
"""More draws than a ledger gives out between two backups."""
SYNC_SECONDS = 1.0
"""With lazy sync, tiles are flushed at most this long after the head that names them."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """A submission that has its place: its key, its index in the log, its leaf hash."""

    key: bytes
    index: int
    leaf: bytes


class Sequencer:
    """See the module. Construct it only while holding the ledger's lock."""

    def __init__(
        self,
        directory: Path,
        *,
        state: State,
        vault: Vault,
        authors: AuthorKeys,
        log_keys: Sequence[SignerKey],
        policy: Policy,
        witnesses: Sequence[Cosigner],
        strict: bool,
        breathe: Callable[[], None],
    ) -> None:
        """`breathe` is called between entries: the moment at which other threads get their turn."""
        self._state = state
        self._vault = vault
        self._authors = authors
        self._policy = policy
        self._breathe = breathe
        if vault.last() < state.submission:
            raise SetupError(
                f"{vault.db.path} is older than state.db (a restored backup?): the records behind some entries "
                "are gone, restore the newer vault"
            )
        self._directory = directory
        self.held: RolledBack | None = None
        """Why nothing is accepted or signed here, if state.db is older than what was signed."""
        self.trouble: str | None = None
        """Why the last attempt to sequence or witness did not get through; None when all is well."""
        self._log = Log(state, log_keys, PublicFolder(directory / PUBLIC_FOLDER, strict=strict))
        self._cosigners = Cosigners(policy, witnesses, self._log.reader.consistency)
        self._cosigned, note = state.cosigned
        self._restored = directory / RESTORED_MARK
        if self._log.behind is not None:
            self._hold(RolledBack(self._log.behind, directory))
        else:
            self._log.resume()
            if note:
                self._log.public.write_checkpoint(self._cosigned, note)
        self._may_sign = False
        self._refused: list[tuple[bytes, str]] = []
        self._synced_at = time.monotonic()

    def replace_witnesses(self, witnesses: Sequence[Cosigner]) -> None:
        """Use these connections from now on (theirs were closed for a fork)."""
        self._cosigners.replace(witnesses)

    @property
    def size(self) -> int:
        """Entries under the last signed head."""
        return self._log.size

    @property
    def cosigned_size(self) -> int:
        """Entries under the last head that met the quorum."""
        return self._cosigned

    @property
    def accepted(self) -> int:
        """Accepted entries."""
        return self._log.accepted

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
                self._may_sign = self._cosigners.heard(self._log.head, patience)
            except Ahead as reason:
                self._hold(RolledBack(str(reason), self._directory))
                return False
            if not self._may_sign:
                self.trouble = self._cosigners.trouble
            elif self._policy.quorum is not None:
                with storage(f"removing {self._restored}"):  # enough witnesses know of nothing newer
                    self._restored.unlink(missing_ok=True)
        return self.held is None and self._may_sign

    def _hold(self, reason: RolledBack) -> None:
        self.held, self.trouble = reason, str(reason)
        _log.error("%s", reason)
        # the seeds of these draws may have been used after the backup was made
        self._state.skip_draws(SKIPPED_DRAWS)

    # --- step 2 ---

    def accept(self, limit: int) -> list[Accepted]:
        """Take waiting submissions of the vault into the chain, durably; at most `limit`, in their order."""
        waiting = [] if self.held is not None else self._vault.after(self._state.submission, limit)
        if not waiting:
            return []
        accepted: list[Accepted] = []
        with self._state.accepting() as acceptance:
            for submission in waiting:
                found = self._accept_one(acceptance, submission)
                if found is not None:
                    accepted.append(found)
                # signing is Python around a short C call: let recording threads in
                self._breathe()
            acceptance.finish(waiting[-1].id)
        self._log.took(acceptance.rows)
        for submission in waiting:
            # only now: had the commit failed, the key would still be needed
            if submission.kind == REVOCATION and any(item.key == submission.key for item in accepted):
                self._authors.set_aside(submission.name)
        return accepted

    def _accept_one(self, acceptance: Acceptance, submission: Submission) -> Accepted | None:
        """One entry, or None for a submission that cannot become one: it must not stop those behind it."""
        # none of this happens with what this program writes into the vault
        if submission.fault is not None:
            return self._refuse(submission, submission.fault)
        draw = submission.draw if submission.kind == GENERATION else None
        index = None if draw is None else acceptance.index_of_draw(draw)
        if index is not None:
            # after `recover` the vault's own generations are met again in the log
            leaf = acceptance.leaf(index) or self._log.reader.entry(index, self._log.size)
            generation = parse_entry(leaf).generation
            if generation is None or generation.commitment != submission.commitment:
                return self._refuse(submission, f"its draw {draw} was used before")
            return Accepted(submission.key, index, hash_leaf(leaf))
        if submission.kind == MODEL and (known := acceptance.model(submission.name)) is not None:
            digest, index = known
            if digest == submission.model:  # registered twice at the same time, or met again after `recover`
                leaf = acceptance.leaf(index) or self._log.reader.entry(index, self._log.size)
                return Accepted(submission.key, index, hash_leaf(leaf))
        try:
            if submission.kind in KEY_SUBMISSIONS:
                self._check_key_submission(acceptance, submission)
            head: ChainHead = acceptance.next(submission.draw, self._revoker(acceptance, submission))
            leaf = sign_entry(build_statement(head, submission), self._authors.require(head.author))
        except (PlausibleError, ValueError) as error:
            return self._refuse(submission, str(error))
        leaf_hash = hash_leaf(leaf)
        index = acceptance.add(head, leaf, leaf_hash, draw)
        if submission.kind == MODEL:
            acceptance.add_model(submission.name, submission.model, index)
        elif submission.kind == SEED_EPOCH and submission.draw is not None:
            acceptance.add_epoch(head, submission.draw, int(submission.name), submission.model, index)
        elif submission.kind == ROTATION:
            acceptance.rotate(submission.name)
        return Accepted(submission.key, index, leaf_hash)

    def _check_key_submission(self, acceptance: Acceptance, submission: Submission) -> None:
        """What would make the entry worthless or leave this ledger without a key; `UsageError` says which."""
        vkey, authors = submission.name, acceptance.authors
        if submission.kind == REVOCATION:
            if vkey not in authors[:-1]:
                raise UsageError(f"{vkey} is no former key of this ledger's author: rotate before a key is revoked")
            return
        if vkey in authors:
            raise UsageError(f"{vkey} is or was a key of this ledger's author: a successor is a new key")
        if submission.kind == ROTATION:
            self._authors.require(vkey)

    def _revoker(self, acceptance: Acceptance, submission: Submission) -> str | None:
        """Who signs a revocation: the successor that the key named by rotating, or the key itself once that is gone."""
        if submission.kind != REVOCATION:
            return None
        authors = acceptance.authors
        successor = authors[authors.index(submission.name) + 1]
        return successor if self._authors.find(successor) is not None else submission.name

    def _refuse(self, submission: Submission, reason: str) -> None:
        text = f"submission {submission.id} of vault.db is not logged: {reason}"
        _log.error("%s", text)
        self._refused.append((submission.key, text))

    def take_refused(self) -> list[tuple[bytes, str]]:
        """(key, reason) of the submissions refused since the last call."""
        refused, self._refused = self._refused, []
        return refused

    # --- steps 3 and 4 ---

    def sequence(self) -> bool:
        """Write tiles for what was accepted and sign the new head; False if there was nothing or it may not sign."""
        if self._log.accepted == self._log.size or not self.hear_witnesses():
            return False
        return self._log.sequence()

    # --- step 5 ---

    def witness(self, patience: float = PATIENCE_SECONDS) -> bool:
        """Collect cosignatures for a signed head; True if one met the quorum now. Witnesses that fail are retried."""
        if self.held is not None or (self._cosigned == self._log.size and self._state.cosigned[1]):
            return False
        head, signatures = self._log.head, list[NoteSignature]()
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
        self._state.set_cosigned(accepted.size, data)
        self._log.public.write_checkpoint(accepted.size, data)
        self._cosigned = accepted.size
        self.trouble = self._cosigners.trouble = None
        return True

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
        self._log.sync()
        self._synced_at = time.monotonic()

    @property
    def unsynced(self) -> bool:
        """Whether tiles wait for their flush."""
        return self._log.public.dirty


__all__ = ["Accepted", "Sequencer"]
