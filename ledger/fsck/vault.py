"""vault.db against the entries: every record opens its entry's commitment, and every own entry has its row.

An erased record is no finding: its row stays, without record and secret. A record that is there is committed to again,
field by field, and its stored values are held against their digests. Of an encrypted vault that does not open with what
was given only the columns in the clear are checked, and a finding says that the records were not read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...schemas.errors import EvidenceError, PlausibleError, SetupError
from ...schemas.record import Record
from ...schemas.statement import AUTHOR_KEY, AUTHOR_REVOCATION
from ...schemas.text import digest_text
from ..entries.record import commit, open_record
from ..entries.statements import KEY_SUBMISSIONS, REVOCATION
from ..notes.note import VerifierKey
from ..seeds.epochs import EpochSeeds
from ..storage.state import ModelRow
from ..vault.sealing import SEALED_VERSION, SEALING_DDL, Seal
from ..vault.vault import GENERATION, MODEL, SEED_EPOCH, VAULT_DDL, VAULT_FILE, Submission, Vault
from ..vault.vaultkey import VaultKey, VaultLocked
from .databases import structure, version_of
from .entries import Rows
from .findings import RESTORE_VAULT, Findings, Progress
from .sealed import check_sealing
from .state import Snapshot

MAX_RECORD = 64 * 1024 * 1024


GIVE_KEY = "name its key (PD_VAULT_KEY, PD_VAULT_PASSPHRASE or vault_key) and check again"


@dataclass(frozen=True, slots=True)
class Checked:
    """How far the vault was read: `records` is false if none were, `seal` opens what the journal holds."""

    records: bool
    seal: Seal | None = None


def check_vault(
    directory: Path,
    snapshot: Snapshot | None,
    rows: Rows,
    lost: int,
    found: Findings,
    progress: Progress,
    key: VaultKey | None = None,
) -> Checked:
    """Hold every row of the vault against its entry, and the own chain's entries against the vault."""
    path = directory / VAULT_FILE
    try:
        version = version_of(path) if path.is_file() else 1
        ddl = VAULT_DDL if version < SEALED_VERSION else ";\n".join((VAULT_DDL, *SEALING_DDL))
        if not structure(path, ddl, RESTORE_VAULT, found):
            return Checked(records=False)
        if version < 1:
            found.false(VAULT_FILE, "it says that it has no version", RESTORE_VAULT)
        vault, locked = _open(path, key)
    except SetupError as error:
        found.false(VAULT_FILE, str(error), RESTORE_VAULT)
        return Checked(records=False)
    try:
        with vault.db.snapshot():
            if version >= SEALED_VERSION:
                check_sealing(vault.db, found)
            sealed = _Check(snapshot, rows, lost, found, locked).run(vault, progress)
        if locked:
            what = f"{sealed} of its rows are encrypted and were not read: {locked}"
            found.unread(VAULT_FILE, what, GIVE_KEY)
        return Checked(not locked, vault.seal)
    except SetupError as error:
        found.false(VAULT_FILE, str(error), RESTORE_VAULT)
        return Checked(records=False)
    finally:
        vault.close()


def _open(path: Path, key: VaultKey | None) -> tuple[Vault, str]:
    """The vault, and why it stays locked: "" if it does not."""
    try:
        return Vault(path, readonly=True, key=key), ""
    except VaultLocked as error:
        return Vault(path, readonly=True, locked=True), str(error)


class _Check:
    def __init__(self, snapshot: Snapshot | None, rows: Rows, lost: int, found: Findings, locked: str) -> None:
        self._locked = bool(locked)
        self._snapshot = snapshot
        self._rows = rows
        self._lost = lost
        self._found = found
        self._models: dict[str, ModelRow] = {m.name: m for m in snapshot.models} if snapshot else {}
        self._registered: set[str] = set()

    def run(self, vault: Vault, progress: Progress) -> int:
        """Check every row; how many there are."""
        last, top = vault.last(), 0
        taken = self._snapshot.submission if self._snapshot else None
        seen = count = 0
        for submission in vault.submissions():
            top = submission.id
            count += 1
            if submission.fault is not None:
                self._found.false(VAULT_FILE, submission.fault, RESTORE_VAULT)
            seen += self._row(submission, taken)
            progress("vault", top, last)
        if last < top or (taken is not None and last < taken):
            what = f"it has given out {last} numbers, but {max(top, taken or 0)} was used"
            self._found.false(VAULT_FILE, what, RESTORE_VAULT)
        if self._snapshot is not None:
            own = 0
            for chain in self._snapshot.chains:
                own += self._rows.one(
                    "SELECT count(commitment) FROM entry WHERE author = ? AND chain = ?",
                    (chain.head.author, chain.head.chain.hex()),
                )[0]
            if seen < own:
                what = f"{own - seen} own entries about images have no row here"
                self._found.false(VAULT_FILE, what, RESTORE_VAULT)
            for name in sorted(set(self._models) - self._registered):
                what = f"model {name!r} is registered in state.db and was never submitted here"
                self._found.false(VAULT_FILE, what, RESTORE_VAULT)
        return count

    def _false(self, submission: Submission, what: str, index: int | None = None) -> None:
        self._found.false(VAULT_FILE, f"submission {submission.id}: {what}", RESTORE_VAULT, index)

    def _row(self, submission: Submission, taken: int | None) -> bool:
        """Check one row; whether it is behind an entry about an image."""
        waiting = taken is not None and submission.id > taken
        if len(submission.key) != 16:
            self._false(submission, "its key has not 16 bytes")
        # the model's column of a key's row holds no digest
        digests = (submission.pixels, submission.file, submission.commitment)
        if submission.kind not in KEY_SUBMISSIONS:
            digests += (submission.model,)
        if any(value is not None and len(value) != 32 for value in digests):
            self._false(submission, "a digest has not 32 bytes")
            return False
        if submission.kind == MODEL:
            self._model(submission, waiting)
            return False
        if submission.kind in KEY_SUBMISSIONS:
            self._key_entry(submission, waiting)
            return False
        if submission.kind == SEED_EPOCH:
            self._epoch(submission, waiting)
            return False
        if submission.kind != GENERATION or submission.commitment is None:
            self._false(submission, f"it is a {submission.kind!r} without a form that this program writes")
            return False
        known = self._models.get(submission.name)
        if self._snapshot is not None and (known is None or known.digest != submission.model):
            self._false(submission, f"no model {submission.name!r} with its digest is registered")
        row = self._rows.one(
            "SELECT id, model, draw, pixels, file, author, chain FROM entry WHERE commitment = ?",
            (submission.commitment.hex(),),
        )
        index = None if row is None else row[0]
        if row is None and not waiting and not self._lost:
            self._false(submission, "it was taken, and no entry has its commitment")
        elif row is not None and waiting:
            self._false(submission, "an entry has its commitment, and state.db has not taken it", index)
        said = (submission.model.hex(), submission.draw, _hex(submission.pixels), _hex(submission.file))
        if row is not None and said != row[1:5]:
            self._false(submission, "its model, draw, pixels or file are not its entry's", index)
        self._record(submission, row, index)
        return row is not None

    def _record(self, submission: Submission, row: Sequence[Any] | None, index: int | None) -> None:
        if submission.record is None or submission.secret is None:
            if submission.record is not submission.secret:
                self._false(submission, "of record and secret one is there and the other erased", index)
            return
        try:
            record = Record.parse(submission.record, limit=MAX_RECORD)
            if commit(record, submission.secret) != submission.commitment:
                self._false(submission, "record and secret do not give the entry's commitment", index)
                return
            open_record(record)
        except PlausibleError as error:
            self._false(submission, str(error), index)
            return
        context = record.context
        said = (context.model, context.draw, context.pixels, context.file)
        wanted = (
            digest_text(submission.model), submission.draw, _text(submission.pixels), _text(submission.file),
        )  # fmt: skip
        if said != wanted or (row is not None and (context.author, context.chain) != tuple(row[5:7])):
            self._false(submission, "its record is about another image, model, draw or chain", index)

    def _model(self, submission: Submission, waiting: bool) -> None:
        known = self._models.get(submission.name)
        if not waiting and self._snapshot is not None:
            self._registered.add(submission.name)
            if known is None or known.digest != submission.model:
                self._false(submission, f"model {submission.name!r} is not registered with its digest")
        others = (submission.draw, submission.pixels, submission.file, submission.commitment, submission.record)
        if any(value is not None for value in others):
            self._false(submission, "it registers a model and carries what belongs to an image")

    def _key_entry(self, submission: Submission, waiting: bool) -> None:
        kind = AUTHOR_REVOCATION if submission.kind == REVOCATION else AUTHOR_KEY
        others = (submission.draw, submission.pixels, submission.file, submission.commitment, submission.record)
        if submission.model or any(value is not None for value in others):
            self._false(submission, "it is about a key and carries what belongs to an image")
        try:
            VerifierKey.parse(submission.name)
        except EvidenceError as error:
            self._false(submission, str(error))
        if self._snapshot is None or waiting or self._lost:
            return
        for chain in self._snapshot.chains:
            own = (kind, chain.head.author, chain.head.chain.hex())
            if self._rows.one("SELECT 1 FROM entry WHERE kind = ? AND author = ? AND chain = ?", own):
                return
        self._found.notes.append(f"submission {submission.id} of vault.db is about a key and was not taken")

    def _epoch(self, submission: Submission, waiting: bool) -> None:
        if submission.record is not None:
            try:
                seeds = EpochSeeds.decode(submission.record)
                if seeds.root != submission.model or str(len(seeds.seeds)) != submission.name:
                    self._false(submission, "its seeds do not give the epoch's root")
            except EvidenceError as error:
                self._false(submission, str(error))
        elif not self._locked and submission.fault is None:
            self._false(submission, "the seeds of an epoch are gone")
        if self._snapshot is None or waiting:
            return
        said = (submission.draw, submission.name, submission.model)
        if said not in [(row.first_draw, str(row.count), row.root) for row in self._snapshot.epochs]:
            self._found.notes.append(f"submission {submission.id} of vault.db is an epoch that was not taken")


def _hex(value: bytes | None) -> str | None:
    return None if value is None else value.hex()


def _text(value: bytes | None) -> str | None:
    return None if value is None else digest_text(value)
