"""`vault.db`: the developer's private half of the log, and the durable queue in front of it.

A submission is written here first (step 1 of an append) and is taken into the chain by whoever sequences, in the order
of its id. A second process needs nothing else: its submission waits here until the holder of the ledger's lock takes it.

Private: records hold seeds, prompts and states. A thief of this file reads them; he cannot forge entries. Erasing a
record removes it and its secret; what stays says only that something was committed to.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..schemas.errors import SetupError, UsageError
from .config import LAYOUT_VERSION
from .disk import begin, open_database, open_database_readonly, storage

VAULT_FILE = "vault.db"

GENERATION = "generation"
MODEL = "model"

_DDL = """
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

_COLUMNS = "id, key, kind, model, name, draw, pixels, file, commitment, secret, record"


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
        self.path = path
        if readonly:
            self._db = open_database_readonly(path, version=LAYOUT_VERSION)
        else:
            self._db = open_database(path, ddl=_DDL, version=LAYOUT_VERSION)
        self._lock = threading.Lock()

    @classmethod
    def create(cls, path: Path) -> None:
        """Make an empty vault. Never done implicitly: an emptied vault would hide that records are gone."""
        open_database(path, ddl=_DDL, version=LAYOUT_VERSION, create=True).close()

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._db.close()

    def add(self, submissions: Sequence[Submission]) -> None:
        """Make submissions durable in one transaction; those whose key is already there are left alone."""
        rows = [
            (s.key, s.kind, s.model, s.name, s.draw, s.pixels, s.file, s.commitment, s.secret, s.record)
            for s in submissions
        ]
        with self._lock, begin(self._db, VAULT_FILE) as connection:
            connection.executemany(
                "INSERT INTO submission (key, kind, model, name, draw, pixels, file, commitment, secret, record) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (key) DO NOTHING",
                rows,
            )

    def after(self, submission: int, limit: int) -> list[Submission]:
        """The submissions with ids above `submission`, in their order, without record and secret; at most `limit`."""
        with self._lock, storage(f"reading {VAULT_FILE}"):
            rows = self._db.execute(
                "SELECT id, key, kind, model, name, draw, pixels, file, commitment FROM submission "
                "WHERE id > ? ORDER BY id LIMIT ?",
                (submission, limit),
            ).fetchall()
        return [Submission(*row[1:], id=row[0]) for row in rows]

    def ids(self, keys: Sequence[bytes]) -> dict[bytes, int]:
        """Which of these keys are stored, and under which id."""
        found: dict[bytes, int] = {}
        with self._lock, storage(f"reading {VAULT_FILE}"):
            for key in keys:
                row = self._db.execute("SELECT id FROM submission WHERE key = ?", (key,)).fetchone()
                if row is not None:
                    found[key] = row[0]
        return found

    def last(self) -> int:
        """The highest id, 0 for an empty vault."""
        with self._lock, storage(f"reading {VAULT_FILE}"):
            return self._db.execute("SELECT coalesce(max(id), 0) FROM submission").fetchone()[0]

    def record(self, commitment: bytes) -> tuple[bytes, bytes]:
        """(record JCS, record secret) behind a commitment; `SetupError` if absent, `UsageError` if erased."""
        with self._lock, storage(f"reading {VAULT_FILE}"):
            row = self._db.execute(
                "SELECT record, secret FROM submission WHERE commitment = ?", (commitment,)
            ).fetchone()
        if row is None:
            raise SetupError("this vault has no record behind that entry: it belongs to another writer")
        if row[0] is None or row[1] is None:
            raise UsageError("the record behind that entry was erased")
        return row[0], row[1]

    def commitments(self) -> Iterator[bytes]:
        """Commitments of all generations, in the order of submission."""
        last = 0
        while True:
            with self._lock, storage(f"reading {VAULT_FILE}"):
                rows = self._db.execute(
                    "SELECT id, commitment FROM submission WHERE id > ? AND commitment IS NOT NULL ORDER BY id LIMIT 1000",
                    (last,),
                ).fetchall()
            if not rows:
                return
            for last, commitment in rows:  # noqa: B007 - the last id is where the next page starts
                yield commitment

    def erase(self, commitment: bytes) -> None:
        """Delete a record and its secret, overwriting the pages. The log is never rewritten."""
        with self._lock, storage(f"writing {VAULT_FILE}"):
            self._db.execute("PRAGMA secure_delete = ON")
        with self._lock, begin(self._db, VAULT_FILE) as connection:
            cursor = connection.execute(
                "UPDATE submission SET record = NULL, secret = NULL WHERE commitment = ?", (commitment,)
            )
            if cursor.rowcount != 1:
                raise SetupError("this vault has no record behind that entry")
        # the deleted text still stands in the write-ahead log until it is folded in and emptied
        with self._lock, storage(f"writing {VAULT_FILE}"):
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()

    def connection(self) -> sqlite3.Connection:
        """The connection itself, for the process that must forget it after a fork."""
        return self._db
