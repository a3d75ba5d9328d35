"""`vault.db`: the developer's private half of the log, and the durable queue in front of it.

A submission is written here first (step 1 of an append) and is taken into the chain by whoever sequences, in the order
of its id. A second process needs nothing else: its submission waits here until the lock's holder takes it.

Private: records hold seeds, prompts and states. A thief of this file reads them unless it is encrypted (sealing.py); he
cannot forge entries. Erasing a record removes it, its secret and its key; what stays says only that something was
committed to.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...schemas.errors import SetupError, UsageError
from ..config import LAYOUT_VERSION
from ..storage.database import LARGE_PAGES, Database
from . import wiping
from .rows import GENERATION, MODEL, SEED_EPOCH, VAULT_DDL, Submission
from .sealing import SEALED_VERSION, RowChanged, Seal, read_header
from .vaultkey import KEY_VARIABLE, PASSPHRASE_VARIABLE, Header, VaultKey, VaultLocked, wanted

_log = logging.getLogger("plausible.ledger")

VAULT_FILE = "vault.db"
_COLUMNS = "s.key, s.kind, s.model, s.name, s.draw, s.pixels, s.file, s.commitment, s.secret, s.record, s.id"
_SEALED = f"SELECT {_COLUMNS}, k.data_key, k.wrapped FROM submission s LEFT JOIN record_key k ON k.submission = s.id"  # noqa: S608
_PLAIN = f"SELECT {_COLUMNS}, NULL, NULL FROM submission s"  # noqa: S608  (column names from this file)
_BYTES, _INT = (bytes, type(None)), (int, type(None))
_TYPES = (bytes, str, bytes, str, _INT, _BYTES, _BYTES, _BYTES, _BYTES, _BYTES, int, _INT, _BYTES)
_INSERT = (
    "INSERT INTO submission (key, kind, model, name, draw, pixels, file, commitment, secret, record) "
    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO NOTHING"
)


class Vault:
    """An open `vault.db`; any number of processes may add, each in its own transaction."""

    def __init__(
        self, path: Path, *, readonly: bool = False, key: VaultKey | None = None, locked: bool = False
    ) -> None:
        """Open a vault; an encrypted one with `key`, or what the environment names (`VaultKey.from_environment`).

        `locked` leaves an encrypted one shut: only `submissions` and what needs no key can be asked.
        `SetupError` if it is absent or damaged, or plain although a key is given; `VaultLocked` if the key is missing
        or wrong.
        """
        # for every write, not for erasing alone: what is freed is wiped
        self.db = Database(
            path, ddl=VAULT_DDL, version=SEALED_VERSION, readonly=readonly, pragmas=("secure_delete = ON",)
        )
        self._key = key
        self._seal: Seal | None = None
        self._locked = False
        try:
            if not self.encrypted:
                self._refuse_stripped(key, readonly)
                return
            if locked:
                self._locked = True
                return
            if self._key is None:
                self._key = VaultKey.from_environment()
            self._seal = self._load(self.db.rows)
        except BaseException:
            self.db.close()
            raise

    def _refuse_stripped(self, key: VaultKey | None, readonly: bool) -> None:
        """Who can write to the file could put a plain vault in its place, to have the next records in the clear."""
        path = self.db.path
        if self.db.row("SELECT count(*) FROM sqlite_master WHERE name = 'vault_header'")[0]:
            raise SetupError(f"{path} is damaged: it says that it is plain and has the header of an encrypted vault")
        if key is not None:
            raise SetupError(f"{path} is not encrypted, but a key was given: pd vault encrypt makes it so")
        if not readonly:
            for name in (KEY_VARIABLE, PASSPHRASE_VARIABLE):
                if os.environ.get(name):
                    raise SetupError(
                        f"{path} is not encrypted, but {name} is set: pd vault encrypt makes it so, or unset {name}"
                    )

    @classmethod
    def create(cls, path: Path, *, key: VaultKey | None = None) -> Vault:
        """Make an empty vault. Never done implicitly: an emptied vault would hide that records are gone."""
        Database.create(path, ddl=VAULT_DDL, version=LAYOUT_VERSION, page_bytes=LARGE_PAGES)
        if key is None:
            return cls(path)
        from .rekey import encrypt

        encrypt(path, key)
        return cls(path, key=key)

    def close(self) -> None:
        """Close the database."""
        self.db.close()

    # --- keys ---

    @property
    def encrypted(self) -> bool:
        """Whether records are sealed here, as the file says now."""
        return self.db.row("PRAGMA user_version")[0] >= SEALED_VERSION

    @property
    def seal(self) -> Seal | None:
        """The opened keys; None for a plain vault."""
        return self._seal

    @property
    def key(self) -> VaultKey | None:
        """What opened this vault."""
        return self._key

    def header(self) -> Header:
        """The header of an encrypted vault, as the file says now."""
        row = self.db.row("SELECT header FROM vault_header")
        if row is None:
            raise SetupError(f"{self.db.path} is damaged: its header is gone")
        return read_header(row[0], self.db.path)

    def refresh(self, rows: Callable[[str], list[Any]] | None = None) -> Seal | None:
        """The keys as they stand now: another process may have encrypted the vault, or rotated its keys.

        After a rotation of the wrapping key alone what is open here stays valid; else the key in hand must open the new
        keys, or `SetupError` says to open the ledger again.
        """
        read = self.db.rows if rows is None else rows
        if self._seal is None:
            if read("PRAGMA user_version")[0][0] >= SEALED_VERSION:
                raise SetupError(
                    f"{self.db.path} was encrypted by another process: open the ledger again, with its key"
                )
            return None
        found = read("SELECT header, (SELECT max(id) FROM vault_key WHERE purpose = 'records') FROM vault_header")
        if not found:
            raise SetupError(f"{self.db.path} is damaged: its header is gone")
        stored, current = found[0]
        if stored == self._seal.stored and current == self._seal.current:
            return self._seal
        try:
            self._seal = self._load(read)
        except SetupError as error:
            if current != self._seal.current:
                raise SetupError(
                    f"the keys of {self.db.path} were rotated by another process: open the ledger again ({error})"
                ) from error
            self._seal = replace(self._seal, stored=stored)
        return self._seal

    def _load(self, read: Callable[[str], list[Any]]) -> Seal:
        found = read("SELECT header FROM vault_header")
        if not found:
            raise SetupError(f"{self.db.path} is damaged: its header is gone")
        if self._key is None:
            raise VaultLocked(wanted(self.db.path, read_header(found[0][0], self.db.path).kdf))
        return Seal.load(found[0][0], read("SELECT id, purpose, wrapped FROM vault_key"), self._key, self.db.path)

    # --- rows ---

    def add(self, submissions: Sequence[Submission]) -> None:
        """Make submissions durable in one transaction; those whose key is already there are left alone."""
        sealed = [] if self._seal is None else [self._seal.seal_record(s) for s in submissions]
        with self.db.transaction() as connection:
            seal = self.refresh(lambda query: connection.execute(query).fetchall())
            if seal is None:
                connection.executemany(_INSERT, [(*_clear(s), s.secret, s.record) for s in submissions])
                return
            keys: list[tuple[int, int, bytes]] = []
            for submission, (key, record) in zip(submissions, sealed, strict=True):
                cursor = connection.execute(_INSERT, (*_clear(submission), None, record))
                if cursor.rowcount == 1 and cursor.lastrowid is not None:
                    number = cursor.lastrowid
                    keys.append((number, seal.current, seal.seal_key(number, submission, key)))
            connection.executemany("INSERT INTO record_key (submission, data_key, wrapped) VALUES (?, ?, ?)", keys)

    def put_back(self, submissions: Sequence[Submission]) -> None:
        """Rows of a backup under the ids they had; `SetupError` if another row stands there. Nothing is replaced."""
        with self.db.transaction() as connection:
            seal = self.refresh(lambda query: connection.execute(query).fetchall())
            for row in submissions:
                secret, record = row.secret, row.record
                key = None
                if seal is not None and not (row.kind == GENERATION and record is None):
                    key, record = seal.seal_record(row)
                    secret = None
                try:
                    if seal is not None and key is not None:
                        connection.execute(
                            "INSERT INTO record_key (submission, data_key, wrapped) VALUES (?, ?, ?)",
                            (row.id, seal.current, seal.seal_key(row.id, row, key)),
                        )
                    connection.execute(
                        "INSERT INTO submission (key, kind, model, name, draw, pixels, file, commitment, secret, "
                        "record, id) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                        (*_clear(row), secret, record, row.id),
                    )
                except sqlite3.IntegrityError:
                    raise SetupError(
                        f"another row stands where submission {row.id} was: nothing was put back"
                    ) from None

    def after(self, submission: int, limit: int) -> list[Submission]:
        """The submissions with ids above `submission`, in their order, without record and secret; at most `limit`.

        Of an encrypted vault each row is held against its seal; one that was changed carries a `fault`.
        """
        # while rows are still being sealed a plain one is told by its secret; the record itself is not needed
        seal, rows = self._read("WHERE s.id > ? ORDER BY s.id LIMIT ?", (submission, limit), record="NULL")
        found: list[Submission] = []
        for *columns, data_key, wrapped in rows:
            row = Submission(*columns)
            fault = None
            if seal is not None and wrapped is not None:
                try:
                    seal.open_key(row.id, row, data_key, wrapped)
                except RowChanged as error:
                    fault = str(error)
            elif seal is not None and seal.header.complete:
                # an erased record has no key either, but it was taken long before: nothing erased waits
                fault = f"submission {row.id} of vault.db stands in the clear in an encrypted vault"
            found.append(replace(row, secret=None, fault=fault))
        return found

    def rows_after(self, submission: int, limit: int = 256) -> list[Submission]:
        """Whole rows with ids above `submission`, opened; record and secret are None where they were erased.

        `RowChanged` if one of them is not what was sealed.
        """
        seal, rows = self._read("WHERE s.id > ? ORDER BY s.id LIMIT ?", (submission, limit))
        return [self._opened(seal, row) for row in rows]

    def _read(self, where: str, values: Sequence[Any], *, record: str = "s.record") -> tuple[Seal | None, list[Any]]:
        """Rows as stored, and the keys that open them, also while another process encrypts or rotates."""
        rows: list[Any] = []
        for _ in range(3):
            seal = self.refresh()
            query = (_PLAIN if seal is None else _SEALED).replace("s.record", record)
            rows = self.db.rows(f"{query} {where}", values)
            for row in rows:
                _check_types(row)
            if seal is None:
                self.refresh()  # were they sealed between the two, this says so: they must not look erased
                return None, rows
            if all(row[-2] is None or row[-2] in seal.keys for row in rows):
                return seal, rows
        return self._seal, rows  # of a data key that is not there: `open_key` refuses the row

    def _opened(self, seal: Seal | None, columns: Sequence[Any]) -> Submission:
        *clear, data_key, wrapped = columns
        row = Submission(*clear)
        if seal is None:
            return row
        if wrapped is None:
            if (row.record is not None or row.kind != GENERATION) and seal.header.complete:
                raise RowChanged(f"submission {row.id} of vault.db stands in the clear in an encrypted vault")
            return row
        key = seal.open_key(row.id, row, data_key, wrapped)
        if row.record is None:
            if row.kind == GENERATION:
                raise RowChanged(f"the record of submission {row.id} of vault.db is gone, but it was not erased")
            return row
        record, secret = seal.open_record(row.id, row, key, row.record)
        return replace(row, record=record, secret=secret)

    def id_of(self, key: bytes) -> int | None:
        """The id under which a submission is stored."""
        row = self.db.row("SELECT id FROM submission WHERE key = ?", (key,))
        return None if row is None else row[0]

    def has(self, commitment: bytes) -> bool:
        """Whether there is a row behind this commitment, erased or not."""
        return self.db.row("SELECT 1 FROM submission WHERE commitment = ?", (commitment,)) is not None

    def last(self) -> int:
        """The highest id ever given, 0 for an empty vault."""
        row = self.db.row("SELECT seq FROM sqlite_sequence WHERE name = 'submission'")
        if row is not None and not isinstance(row[0], int):
            raise SetupError(f"{self.db.path} is damaged: its last number is none")
        return 0 if row is None else row[0]

    def record(self, commitment: bytes) -> tuple[bytes, bytes]:
        """(record JCS, record secret) behind a commitment; `SetupError` if absent, `UsageError` if erased."""
        seal, rows = self._read("WHERE s.commitment = ?", (commitment,))
        if not rows:
            raise SetupError("this vault has no record behind that entry: it belongs to another writer")
        found = self._opened(seal, rows[0])
        if found.record is None or found.secret is None:
            raise UsageError("the record behind that entry was erased")
        return found.record, found.secret

    def generations(self) -> Iterator[tuple[bytes, bytes, bytes]]:
        """(commitment, record JCS, secret) of all generations that were not erased, in the order of submission."""
        last = 0
        while rows := self.rows_after(last):
            for row in rows:
                if row.commitment is not None and row.record is not None and row.secret is not None:
                    yield row.commitment, row.record, row.secret
            last = rows[-1].id

    def submissions(self) -> Iterator[Submission]:
        """Every submission whole, records and secrets included and opened, in the order of submission.

        One that is not what was sealed comes without record and secret, and with a `fault`. Of a vault that was opened
        `locked` all come without record and secret.
        """
        if self._locked:
            yield from self._clear_submissions()
            return
        last = 0
        while found := self._read("WHERE s.id > ? ORDER BY s.id LIMIT ?", (last, 256)):
            seal, rows = found
            if not rows:
                return
            for columns in rows:
                try:
                    yield self._opened(seal, columns)
                except RowChanged as error:
                    yield replace(Submission(*columns[:-2]), secret=None, record=None, fault=str(error))
            last = rows[-1][10]

    def _clear_submissions(self) -> Iterator[Submission]:
        last = 0
        query = _PLAIN.replace("s.secret, s.record", "NULL, NULL") + " WHERE s.id > ? ORDER BY s.id LIMIT 256"
        while rows := self.db.rows(query, (last,)):
            for columns in rows:
                _check_types(columns)
                yield Submission(*columns[:-2])
            last = rows[-1][10]

    def epoch(self, root: bytes) -> Submission:
        """The row that keeps the seeds of the epoch with this root, opened; `SetupError` if it is not here."""
        seal, rows = self._read("WHERE s.model = ? AND s.kind = ?", (root, SEED_EPOCH))
        if not rows:
            raise SetupError("this vault does not keep the seeds of that epoch: it belongs to another writer")
        found = self._opened(seal, rows[0])
        if found.record is None:
            raise SetupError("the seeds of that epoch are gone from the vault")
        return found

    def rewrite(self, row: Submission) -> bool:
        """Put another record under a row that is here, sealed anew where the vault is; False as for `erase`."""
        with self.db.transaction() as connection:
            seal = self.refresh(lambda query: connection.execute(query).fetchall())
            pieces = wiping.pieces_of(connection, row.id, sealed=seal is not None)
            record = row.record
            if seal is not None:
                key, record = seal.seal_record(row)
                connection.execute(
                    "UPDATE record_key SET data_key = ?, wrapped = ? WHERE submission = ?",
                    (seal.current, seal.seal_key(row.id, row, key), row.id),
                )
            connection.execute("UPDATE submission SET record = ? WHERE id = ?", (record, row.id))
        if seal is None:
            # the row keeps its secret, so nothing tells what is left of the old record from the new one
            pieces = []
        return wiping.wiped(self.db, pieces, sealed=seal is not None)

    def erase(self, commitment: bytes) -> bool:
        """Delete a record, its secret and its key, overwriting the pages. The log is never rewritten.

        SQLite moves rows between pages without wiping where they stood. So a plain vault's file is then rewritten
        (VACUUM: as long as copying it, and as much space); an encrypted one's is searched for the sealed record and its
        key, and rewritten only if one is found. False if they are still there then, or stand in a write-ahead log that
        another process keeps in use: erase again when it is closed.
        """
        with self.db.transaction() as connection:
            seal = self.refresh(lambda query: connection.execute(query).fetchall())
            found = connection.execute("SELECT id FROM submission WHERE commitment = ?", (commitment,)).fetchone()
            if found is None:
                raise SetupError("this vault has no record behind that entry")
            pieces = wiping.pieces_of(connection, found[0], sealed=seal is not None)
            if seal is not None:
                connection.execute("DELETE FROM record_key WHERE submission = ?", found)
            connection.execute("UPDATE submission SET record = NULL, secret = NULL WHERE id = ?", found)
        return wiping.wiped(self.db, pieces, sealed=seal is not None)

    def fold(self) -> bool:
        """`wiping.fold`."""
        return wiping.fold(self.db)

    def require_folded(self, done: str, then: str) -> None:
        """`fold`, or `SetupError`: what was replaced must not stay readable beside what replaces it."""
        if not self.fold():
            raise SetupError(
                f"{done}, but another process reads {self.db.path} and the old bytes stand in its write-ahead log: "
                f"close it, {then}"
            )


def _check_types(columns: Sequence[Any]) -> None:
    """A file that others made need not have strict tables; `RowChanged` for values of other types than theirs."""
    *_, number, data_key, wrapped = columns
    fits = all(isinstance(value, kinds) for value, kinds in zip(columns, _TYPES, strict=True))
    if not fits or number < 0 or (data_key is None) != (wrapped is None):
        raise RowChanged(f"submission {number!r} of vault.db has values of other types than its columns")


def _clear(row: Submission) -> tuple[Any, ...]:
    """The columns that stay in the clear."""
    return (row.key, row.kind, row.model, row.name, row.draw, row.pixels, row.file, row.commitment)


__all__ = ["GENERATION", "MODEL", "SEED_EPOCH", "VAULT_DDL", "VAULT_FILE", "Submission", "Vault"]
