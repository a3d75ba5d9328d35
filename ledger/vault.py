"""`vault.db`: the developer's private half of the log, and the durable queue in front of it.

A submission is written here first (step 1 of an append) and is taken into the chain by whoever sequences, in the order
of its id. A second process needs nothing else: its submission waits here until the lock's holder takes it.

Private: records hold seeds, prompts and states. A thief of this file reads them; he cannot forge entries. Erasing a
record removes it and its secret; what stays says only that something was committed to.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..schemas.errors import SetupError, UsageError
from .config import LAYOUT_VERSION
from .database import Database

VAULT_FILE = "vault.db"

GENERATION = "generation"
MODEL = "model"

VAULT_DDL = """
CREATE TABLE submission (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    key BLOB NOT NULL UNIQUE,           -- 16 random bytes: a journal flushed twice adds nothing
    kind TEXT NOT NULL,                 -- generation or model
    model BLOB NOT NULL,                -- model digest
    name TEXT NOT NULL,                 -- the model's name in this ledger
    draw INTEGER,
    pixels BLOB,
    file BLOB,
    commitment BLOB UNIQUE,
    secret BLOB,                        -- record secret; NULL once erased
    record BLOB                         -- plausible.record/1 as JCS; NULL once erased
) STRICT;
CREATE INDEX submission_pixels ON submission (pixels)
"""


@dataclass(frozen=True, slots=True)
class Submission:
    """One row: what an entry is made of, and for a generation the record and secret behind its commitment."""

    key: bytes
    kind: str
    model: bytes
    name: str
    draw: int | None = None
    pixels: bytes | None = None
    file: bytes | None = None
    commitment: bytes | None = None
    secret: bytes | None = None
    record: bytes | None = None
    id: int = 0


class Vault:
    """An open `vault.db`; any number of processes may add, each in its own transaction."""

    def __init__(self, path: Path, *, readonly: bool = False) -> None:
        self.db = Database(path, ddl=VAULT_DDL, version=LAYOUT_VERSION, readonly=readonly)

    @classmethod
    def create(cls, path: Path) -> Vault:
        """Make an empty vault. Never done implicitly: an emptied vault would hide that records are gone."""
        Database.create(path, ddl=VAULT_DDL, version=LAYOUT_VERSION)
        return cls(path)

    def close(self) -> None:
        """Close the database."""
        self.db.close()

    def add(self, submissions: Sequence[Submission]) -> None:
        """Make submissions durable in one transaction; those whose key is already there are left alone."""
        rows = [
            (s.key, s.kind, s.model, s.name, s.draw, s.pixels, s.file, s.commitment, s.secret, s.record)
            for s in submissions
        ]
        with self.db.transaction() as connection:
            connection.executemany(
                "INSERT INTO submission (key, kind, model, name, draw, pixels, file, commitment, secret, record) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO NOTHING",
                rows,
            )

    def after(self, submission: int, limit: int) -> list[Submission]:
        """The submissions with ids above `submission`, in their order, without record and secret; at most `limit`."""
        rows = self.db.rows(
            "SELECT key, kind, model, name, draw, pixels, file, commitment, NULL, NULL, id FROM submission "
            "WHERE id > ? ORDER BY id LIMIT ?",
            (submission, limit),
        )
        return [Submission(*row) for row in rows]

    def id_of(self, key: bytes) -> int | None:
        """The id under which a submission is stored."""
        row = self.db.row("SELECT id FROM submission WHERE key = ?", (key,))
        return None if row is None else row[0]

    def last(self) -> int:
        """The highest id ever given, 0 for an empty vault."""
        row = self.db.row("SELECT seq FROM sqlite_sequence WHERE name = 'submission'")
        return 0 if row is None else row[0]

    def record(self, commitment: bytes) -> tuple[bytes, bytes]:
        """(record JCS, record secret) behind a commitment; `SetupError` if absent, `UsageError` if erased."""
        row = self.db.row("SELECT record, secret FROM submission WHERE commitment = ?", (commitment,))
        if row is None:
            raise SetupError("this vault has no record behind that entry: it belongs to another writer")
        if row[0] is None or row[1] is None:
            raise UsageError("the record behind that entry was erased")
        return row[0], row[1]

    def generations(self) -> Iterator[tuple[bytes, bytes, bytes]]:
        """(commitment, record JCS, secret) of all generations that were not erased, in the order of submission."""
        last = 0
        while rows := self.db.rows(
            "SELECT id, commitment, record, secret FROM submission "
            "WHERE id > ? AND commitment IS NOT NULL AND record IS NOT NULL ORDER BY id LIMIT 256",
            (last,),
        ):
            for _, commitment, record, secret in rows:
                yield commitment, record, secret
            last = rows[-1][0]

    def submissions(self) -> Iterator[Submission]:
        """Every submission whole, records and secrets included, in the order of submission."""
        last = 0
        while rows := self.db.rows(
            "SELECT key, kind, model, name, draw, pixels, file, commitment, secret, record, id FROM submission "
            "WHERE id > ? ORDER BY id LIMIT 256",
            (last,),
        ):
            for row in rows:
                yield Submission(*row)
            last = rows[-1][10]

    def erase(self, commitment: bytes) -> None:
        """Delete a record and its secret, overwriting the pages. The log is never rewritten."""
        self.db.command("PRAGMA secure_delete = ON")
        with self.db.transaction() as connection:
            cursor = connection.execute(
                "UPDATE submission SET record = NULL, secret = NULL WHERE commitment = ?", (commitment,)
            )
            if cursor.rowcount != 1:
                raise SetupError("this vault has no record behind that entry")
        # the deleted text still stands in the write-ahead log until it is folded in and emptied
        self.db.command("PRAGMA wal_checkpoint(TRUNCATE)")
