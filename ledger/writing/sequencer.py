"""The sequencing writer of a ledger: from submissions in the vault to entries of the log, beneath `WitnessedLog`.

    2 accept     state.db commit: seq, prev, time, signed entry, index
    3, 4, 5      tiles, head, cosignatures: witnessed.py

A writer that is *held* (state.db is older than what was signed) gives no entry a place any more and signs nothing;
submissions wait in the vault, and recover.py says how to go on. While too few witnesses have answered it accepts
entries but signs no head.

Used by one thread of the one process that holds the ledger's lock.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...schemas.errors import PlausibleError, SetupError, UsageError
from ..entries.entry import parse_entry, sign_entry
from ..entries.statements import KEY_SUBMISSIONS, REVOCATION, ROTATION, build_statement
from ..keys.authorkeys import AuthorKeys
from ..merkle.tree import hash_leaf
from ..notes.note import SignerKey
from ..notes.policy import Policy
from ..storage.state import Acceptance, ChainHead, State
from ..vault.vault import GENERATION, MODEL, SEED_EPOCH, Submission, Vault
from .cosigning import Cosigner
from .witnessed import WitnessedLog

_log = logging.getLogger("plausible.ledger")

SKIPPED_DRAWS = 1 << 32
"""More draws than a ledger gives out between two backups."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """A submission that has its place: its key, its index in the log, its leaf hash."""

    key: bytes
    index: int
    leaf: bytes


class Sequencer(WitnessedLog):
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
        self._breathe = breathe
        self._refused: list[tuple[bytes, str]] = []
        if vault.last() < state.submission:
            raise SetupError(
                f"{vault.db.path} is older than state.db (a restored backup?): the records behind some entries "
                "are gone, restore the newer vault"
            )
        super().__init__(directory, state, log_keys=log_keys, policy=policy, witnesses=witnesses, strict=strict)

    def _hold(self, what: str) -> None:
        super()._hold(what)
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
        self.log.took(acceptance.rows)
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
            leaf = acceptance.leaf(index) or self.log.reader.entry(index, self.log.size)
            generation = parse_entry(leaf).generation
            if generation is None or generation.commitment != submission.commitment:
                return self._refuse(submission, f"its draw {draw} was used before")
            return Accepted(submission.key, index, hash_leaf(leaf))
        if submission.kind == MODEL and (known := acceptance.model(submission.name)) is not None:
            digest, index = known
            if digest == submission.model:  # registered twice at the same time, or met again after `recover`
                leaf = acceptance.leaf(index) or self.log.reader.entry(index, self.log.size)
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


__all__ = ["Accepted", "Sequencer"]
