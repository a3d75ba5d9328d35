"""absence.db: the pages of the index in SQLite, with what was changed last kept in memory until it is written.

A batch of keys changes as many pages as it has keys, each elsewhere in the file, and most of what an update costs is
writing them. What is derived need not be durable at once: changes gather in memory and go to the file in one
transaction together with how far they reach (`Progress`). A kill costs what was not written, never consistency, and
the entries give it back.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from ...schemas.errors import SetupError
from ..notes.wire import HASH_SIZE
from .trie import FAN, STEP, MemoryPages, Page

ABSENCE_FILE = "absence.db"
_VERSION, _APPLICATION = ABSENCE_MARK = (2, 0x706C6A02)
"""PRAGMA user_version and application_id of the file."""
_CACHE_KIB = 32 * 1024
_CHECKPOINT_PAGES = 16 * 1024
ABSENCE_DDL = """
create table page (number integer primary key, hash blob not null, records blob);
create table running (key blob primary key, value blob not null) without rowid;
create table posting (key blob, entry integer, primary key (key, entry)) without rowid;
create table progress (id integer primary key check (id = 1), size integer, edge blob, index_root blob);
"""


_BROKEN = f"{ABSENCE_FILE} contradicts itself; delete it, it is rebuilt"


class Progress(NamedTuple):
    """How far an index reaches: number of entries, the right edge of their tree, the index root over them."""

    size: int
    edge: bytes
    index_root: bytes


class PageFile:
    """A `PageStore` in a file. Reads see the file as it was at `begin`, and what was put since; `flush` writes that."""

    def __init__(self, path: Path) -> None:
        """Open or make the file; `SetupError` for another version or program, `sqlite3.Error` for what SQLite says."""
        self._connection = _prepared(sqlite3.connect(path, timeout=30.0, isolation_level=None, check_same_thread=False))
        self._base: Progress | None = None
        self._changed = MemoryPages()

    def begin(self) -> tuple[Progress | None, bool]:
        """What the file holds from now until `end`; True if that is not what this object knew: forget all of it."""
        self._connection.execute("BEGIN")
        found = self._progress()
        if found == self._base:
            return found, False
        self._base, self._changed = found, MemoryPages()
        return found, True

    def end(self) -> None:
        """Let go of the file; what was put is kept for the next `begin`."""
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    @property
    def unwritten(self) -> int:
        """Pages put and not written yet."""
        return len(self._changed.pages)

    def flush(self, progress: Progress) -> bool:
        """Write what was put, durably enough; False if somebody else moved the file on: then it is all forgotten."""
        self.end()
        self._connection.execute("BEGIN IMMEDIATE")
        moved = self._progress() != self._base
        if not moved:
            changed = self._changed
            # in the file's order: neighbours share its pages
            pages = (changed.pages[number] for number in sorted(changed.pages))
            self._connection.executemany("insert or replace into page values (?, ?, ?)", pages)
            postings = ((key, index) for key, indices in changed.postings.items() for index in indices)
            self._connection.executemany("insert into posting values (?, ?)", postings)
            self._connection.executemany("insert or replace into running values (?, ?)", changed.runnings.items())
            self._connection.execute("insert or replace into progress values (1, ?, ?, ?)", progress)
            self._connection.execute("COMMIT")
            self._base = progress
        self._changed = MemoryPages()
        self.end()
        self._connection.execute("BEGIN")
        return not moved

    def close(self) -> None:
        """Close the file; what was not written is gone."""
        self._connection.close()

    def _progress(self) -> Progress | None:
        row = self._connection.execute("select size, edge, index_root from progress").fetchone()
        if row is None:
            return None
        if not (isinstance(row[0], int) and isinstance(row[1], bytes) and isinstance(row[2], bytes)):
            raise SetupError(_BROKEN)
        return Progress(*row)

    def page(self, number: int) -> Page | None:
        """See `PageStore`."""
        found = self._changed.pages.get(number)
        if found is not None:
            return found
        query = "select number, hash, records from page where number = ?"
        row: Any = self._connection.execute(query, (number,)).fetchone()
        if row is not None and not (_is_hash(row[1]) and (row[2] is None or isinstance(row[2], bytes))):
            raise SetupError(_BROKEN)
        return row

    def below(self, number: int) -> Iterable[tuple[int, bytes, int | None]]:
        """See `PageStore`."""
        query = "select number, hash, length(records) from page where number between ? and ?"
        rows = self._connection.execute(query, (number << STEP, (number << STEP) + FAN - 1))
        known: dict[int, tuple[int, bytes, int | None]] = {row[0]: row for row in rows}
        if not all(_is_hash(row[1]) for row in known.values()):
            raise SetupError(_BROKEN)
        known.update((row[0], row) for row in self._changed.below(number))
        return known.values()

    def put(self, pages: Iterable[Page]) -> None:
        """See `PageStore`."""
        self._changed.put(pages)

    def running(self, key: bytes) -> bytes | None:
        """See `PageStore`."""
        found = self._changed.running(key)
        if found is not None:
            return found
        row = self._connection.execute("select value from running where key = ?", (key,)).fetchone()
        if row is not None and not _is_hash(row[0]):
            raise SetupError(_BROKEN)
        return None if row is None else row[0]

    def indices(self, key: bytes) -> list[int]:
        """See `PageStore`."""
        query = "select entry from posting where key = ? order by entry"
        stored = [row[0] for row in self._connection.execute(query, (key,))]
        if not all(isinstance(entry, int) for entry in stored):
            raise SetupError(_BROKEN)
        return stored + self._changed.indices(key)

    def put_indices(self, key: bytes, indices: Iterable[int], running: bytes) -> None:
        """See `PageStore`."""
        self._changed.put_indices(key, indices, running)


def _is_hash(value: object) -> bool:
    return isinstance(value, bytes) and len(value) == HASH_SIZE


def _prepared(connection: sqlite3.Connection) -> sqlite3.Connection:
    """Tables of this version; `SetupError` for a database of another program or version."""
    try:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        if (version, application) == (0, 0):
            connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(
                f"BEGIN IMMEDIATE;{ABSENCE_DDL}PRAGMA application_id = {_APPLICATION};"
                f"PRAGMA user_version = {_VERSION};COMMIT;"
            )
        elif (version, application) != (_VERSION, _APPLICATION):
            raise SetupError(f"{ABSENCE_FILE} is of another version or program; delete it, it is rebuilt")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
    except BaseException:
        connection.close()
        raise
    return connection
