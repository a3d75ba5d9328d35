"""The log's part of `state.db`: accepted entries that are not yet safe in files, and the one head that was signed last.

Trusted for not signing twice: the head moves only by compare-and-set on (size, root), in the transaction that makes it
durable *before* anybody sees it. A restored backup of this file could fork the log, so a ledger hears from the
witnesses before it signs (sequencer.py). Leaves are whatever was given; nothing here looks into them.

Entries stay here from acceptance until their whole bundle is on the disk (`synced_size`); after that the bundle is the
only copy and this file stays small.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from ...schemas.errors import SetupError
from ..config import LAYOUT_VERSION
from . import pieces
from .database import LARGE_PAGES, Database
from .disk import StorageBroken
from .pieces import PIECES_DDL

STATE_FILE = "state.db"

LOG_DDL = f"""
CREATE TABLE log (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    origin TEXT NOT NULL,
    size INTEGER NOT NULL,              -- the last head that was signed: never goes back
    root BLOB NOT NULL,
    note BLOB NOT NULL,
    cosigned_size INTEGER NOT NULL,     -- the last head that met the quorum
    cosigned_note BLOB NOT NULL,
    synced_size INTEGER NOT NULL,       -- tiles and bundles up to here are on the disk
    accepted INTEGER NOT NULL,          -- number of accepted entries
    submission INTEGER NOT NULL         -- the vault's submissions up to this one are accepted
) STRICT;
{PIECES_DDL.strip()}
"""


@dataclass(frozen=True, slots=True)
class Head:
    """A signed tree head: size, root (32 bytes) and the note's bytes."""

    size: int
    root: bytes
    note: bytes


# Entries are public: what is deleted here stands in a bundle, so nothing is gained by overwriting it, and overwriting
# costs as much as writing. The cache holds what a second of appending adds.
_PRAGMAS = ("secure_delete = OFF", "cache_size = -16384")


class LogStore:
    """An open log database. Calls are serialised by an internal lock; one process at a time may sequence (lock.py)."""

    ddl: ClassVar[str] = LOG_DDL

    def __init__(self, path: Path, *, readonly: bool = False) -> None:
        self.db = Database(path, ddl=self.ddl, version=LAYOUT_VERSION, readonly=readonly, pragmas=_PRAGMAS)
        if self._has_table("entry"):  # made before entries were kept in pieces
            if readonly:
                raise SetupError(f"{path} is of an older layout: open the ledger for writing once, then read it")
            with self.db.transaction() as connection:
                pieces.upgrade(connection)

    @classmethod
    def create_log(cls, path: Path, *, head: Head, origin: str) -> LogStore:
        """Make a new database with a signed head of size 0. Never done implicitly by opening one."""
        Database.create(path, ddl=cls.ddl, version=LAYOUT_VERSION, page_bytes=LARGE_PAGES)
        store = cls(path)
        with store.db.transaction() as connection:
            insert_log(connection, head, origin)
        return store

    def _has_table(self, name: str) -> bool:
        return self.db.row("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (name,)) is not None

    def close(self) -> None:
        """Close the database."""
        self.db.close()

    def sign_again(self, note: bytes, cosigned: bytes) -> None:
        """Keep the same two heads under further signatures; the caller holds the lock and added nothing else."""
        with self.db.transaction() as connection:
            connection.execute("UPDATE log SET note = ?, cosigned_note = ?", (note, cosigned))

    def append(self, old: Head, rows: Sequence[tuple[bytes, bytes]], new: Head) -> None:
        """Accept (leaf, hash) rows after all accepted ones and make `new` the signed head over all, in one commit.

        `StorageBroken`, and nothing happened, unless `old` still is the signed head and `new` covers all entries.
        """
        with self.db.transaction() as connection:
            pieces.insert(connection, new.size - len(rows), rows)
            cursor = connection.execute(
                "UPDATE log SET size = ?, root = ?, note = ?, accepted = ? "
                "WHERE size = ? AND root = ? AND accepted = ?",
                (new.size, new.root, new.note, new.size, old.size, old.root, new.size - len(rows)),
            )
            if cursor.rowcount != 1:
                raise another_writer()

    def sign_head(self, old: Head, new: Head) -> None:
        """Make `new` the signed head if `old` still is; else `StorageBroken`, since somebody else signs this log."""
        with self.db.transaction() as connection:
            cursor = connection.execute(
                "UPDATE log SET size = ?, root = ?, note = ? WHERE size = ? AND root = ? AND accepted >= ?",
                (new.size, new.root, new.note, old.size, old.root, new.size),
            )
            if cursor.rowcount != 1:
                raise another_writer()

    def set_cosigned(self, size: int, note: bytes) -> None:
        """Keep the last note that met the quorum; never goes back."""
        with self.db.transaction() as connection:
            connection.execute(
                "UPDATE log SET cosigned_size = ?, cosigned_note = ? WHERE cosigned_size <= ?", (size, note, size)
            )

    def set_synced(self, size: int) -> None:
        """Files up to `size` are on the disk: entries of whole bundles below it need not be kept here any more."""
        with self.db.transaction() as connection:
            connection.execute("UPDATE log SET synced_size = ? WHERE synced_size <= ?", (size, size))
            pieces.forget(connection, size)

    def _log(self, columns: str) -> Any:
        row = self.db.row(f"SELECT {columns} FROM log")  # noqa: S608  (column names from this file)
        if row is None:
            raise SetupError(f"{self.db.path} holds no log: it was not made by pd init")
        return row

    @property
    def origin(self) -> str:
        """The log's origin as it was created."""
        return self._log("origin")[0]

    @property
    def head(self) -> Head:
        """The last signed head."""
        return Head(*self._log("size, root, note"))

    @property
    def cosigned(self) -> tuple[int, bytes]:
        """Size and note of the last head that met the quorum; (0, b"") before the first."""
        return self._log("cosigned_size, cosigned_note")

    @property
    def synced_size(self) -> int:
        """Tiles and bundles up to here are on the disk."""
        return self._log("synced_size")[0]

    @property
    def accepted(self) -> int:
        """Number of accepted entries."""
        return self._log("accepted")[0]

    def entries(self, start: int, end: int) -> list[tuple[bytes, bytes]]:
        """(leaf, hash) of the accepted entries [start, end); `SetupError` if one of them is no longer kept here."""
        return pieces.read(self.db, start, end)

    def kept(self) -> tuple[int, int]:
        """[first, end) of the accepted entries that are kept here; end is `accepted`, whatever is kept."""
        return pieces.span(self.db, self.accepted)


def insert_log(connection: sqlite3.Connection, head: Head, origin: str) -> None:
    """The one row of a new log."""
    connection.execute(
        "INSERT INTO log (id, origin, size, root, note, cosigned_size, cosigned_note, synced_size, accepted, "
        "submission) VALUES (1, ?, ?, ?, ?, 0, ?, 0, 0, 0)",
        (origin, head.size, head.root, head.note, b""),
    )


def another_writer() -> StorageBroken:
    """The head is not the one that was signed last."""
    return StorageBroken(
        "state.db's head is not the one this writer signed last: another writer signs this log, stopping"
    )
