"""absence.db: the pages of the index in SQLite, with what was changed last kept in memory until it is written.

A batch of keys changes as many pages as it has keys, each elsewhere in the file, and most of what an update costs is
writing them. What is derived need not be durable at once: changes gather in memory and go to the file in one
transaction together with how far they reach (`Progress`). A kill costs what was not written, never consistency, and
the entries give it back.

Proofs are asked for under the last signed root, and the log moves on meanwhile. So a write that changes few pages keeps
what they were: the map at the sizes that were written last (`former`) can still be read, up to a number of pages.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from ..notes.wire import HASH_SIZE
from .keys import run
from .layout import FAN, STEP, MemoryPages, Overlay, Page, Unfit

ABSENCE_FILE = "absence.db"
_VERSION, _APPLICATION = ABSENCE_MARK = (3, 0x706C6A02)
"""PRAGMA user_version and application_id of the file."""
_PAGE_BYTES = 16384
_CACHE_KIB = 32 * 1024
_CHECKPOINT_BYTES = 64 * 1024 * 1024
FORMER_SIZES = 16
"""How many sizes are kept at most, the last one included."""
FORMER_PAGES = 32 * 1024
"""How many pages are kept as they were at most; a write that changes more of them keeps none."""
ABSENCE_DDL = """
create table page (number integer primary key, hash blob not null, records blob);
create table running (key blob primary key, value blob not null) without rowid;
create table posting (key blob, entry integer, primary key (key, entry)) without rowid;
create table progress (size integer primary key, edge blob not null, index_root blob not null, seal blob not null,
    replaced integer not null);
create table former (number integer, until integer, hash blob, records blob, primary key (number, until)) without rowid;
"""
# former: a page as it was at sizes below `until`, the size of the write that replaced it; no hash: it was not there.
# progress: the sizes that can be read, the largest is the file's; `replaced` pages of `former` have it as `until`.

_TABLES = ABSENCE_DDL.count("create table")
_BROKEN = f"{ABSENCE_FILE} contradicts itself; delete it, it is rebuilt"


class Progress(NamedTuple):
    """How far an index reaches: number of entries, the right edge of their tree, the index root over them.

    `seal`: the verifier key of who made the file, and behind a line's end a note over all that; empty if nobody did.
    """

    size: int
    edge: bytes
    index_root: bytes
    seal: bytes = b""


class PageFile:
    """A `PageStore` in a file. Reads see the file as it was at `begin`, and what was put since; `flush` writes that."""

    def __init__(self, path: Path) -> None:
        """Open or make the file; `Unfit` for another version or program, `sqlite3.Error` for what SQLite says."""
        self._connection = _prepared(sqlite3.connect(path, timeout=30.0, isolation_level=None, check_same_thread=False))
        self._base: Progress | None = None
        self._pages = Overlay(_StoredPages(self._connection))
        self.page, self.below, self.put = self._pages.page, self._pages.below, self._pages.put
        self.running, self.indices = self._pages.running, self._pages.indices
        self.put_indices = self._pages.put_indices

    def begin(self) -> tuple[Progress | None, bool]:
        """What the file holds from now until `end`; True if that is not what this object knew: forget all of it."""
        self._connection.execute("BEGIN")
        found = self._progress()
        if found == self._base:
            return found, False
        self._base = found
        self._pages.forget()
        return found, True

    def end(self) -> None:
        """Let go of the file; what was put is kept for the next `begin`."""
        if self._connection.in_transaction:
            self._connection.execute("ROLLBACK")

    @property
    def unwritten(self) -> int:
        """Pages put and not written yet."""
        return len(self._pages.changed.pages)

    def flush(self, progress: Progress) -> bool:
        """Write what was put, durably enough; False if somebody else moved the file on: then it is all forgotten.

        What reaches no further than the file does is in it already.
        """
        self.end()
        self._connection.execute("BEGIN IMMEDIATE")
        moved = self._progress() != self._base
        if not moved and (self._base is None or progress.size > self._base.size):
            self._write(progress, self._pages.changed)
            self._connection.execute("COMMIT")
            self._base = progress
        self._pages.forget()
        self.end()
        self._connection.execute("BEGIN")
        return not moved

    def _write(self, progress: Progress, changed: MemoryPages) -> None:
        execute, many = self._connection.execute, self._connection.executemany
        numbers = sorted(changed.pages)  # in the file's order: neighbours share its pages
        replaced = 0
        if len(numbers) > FORMER_PAGES:
            execute("delete from former")
            execute("delete from progress")
        elif self._base is not None:
            was = "insert into former select ?1, ?2, hash, records from (select 1) left join page on number = ?1"
            many(was, ((number, progress.size) for number in numbers))
            replaced = len(numbers)
        execute("insert into progress values (?, ?, ?, ?, ?)", (*progress, replaced))
        self._drop_oldest()
        many("insert or replace into page values (?, ?, ?)", (changed.pages[number] for number in numbers))
        postings = ((key, index) for key, indices in changed.postings.items() for index in indices)
        many("insert into posting values (?, ?)", postings)
        many("insert or replace into running values (?, ?)", changed.runnings.items())

    def _drop_oldest(self) -> None:
        """Keep the latest sizes whose former pages are not too many."""
        pages = kept = oldest = 0
        for size, replaced in self._connection.execute("select size, replaced from progress order by size desc"):
            if kept == FORMER_SIZES or pages > FORMER_PAGES:
                break
            pages, kept, oldest = pages + replaced, kept + 1, size
        if self._connection.execute("delete from progress where size < ?", (oldest,)).rowcount:
            self._connection.execute("delete from former where until <= ?", (oldest,))
            self._connection.execute("update progress set replaced = 0 where size = ?", (oldest,))

    def former(self, size: int) -> tuple[Progress, Overlay] | None:
        """The map as it was at the largest kept size up to `size`, and that size; what is put there is never written.

        Until `end` or `flush`. None if no such size is kept.
        """
        found = self._row("where size <= ? order by size desc limit 1", (size,))
        return None if found is None else (found, Overlay(_StoredPages(self._connection, found.size)))

    def close(self) -> None:
        """Close the file; what was not written is gone."""
        self._connection.close()

    def _progress(self) -> Progress | None:
        return self._row("order by size desc limit 1", ())

    def _row(self, which: str, values: tuple[int, ...]) -> Progress | None:
        query = f"select size, edge, index_root, seal from progress {which}"  # noqa: S608  (one of the two above)
        row: Any = self._connection.execute(query, values).fetchone()
        if row is None:
            return None
        if not isinstance(row[0], int) or not all(isinstance(value, bytes) for value in row[1:]):
            raise Unfit(_BROKEN)
        return Progress(*row)


_READ = "select number, hash, records from page where number = ?"


class _StoredPages:
    """The pages that the file holds: as they are, or as they were at a size."""

    def __init__(self, connection: sqlite3.Connection, size: int | None = None) -> None:
        self._connection = connection
        self._size = size
        self._reading = connection.cursor()

    def page(self, number: int) -> Page | None:
        """See `PageStore`."""
        row: Any = None
        if self._size is not None:
            query = "select number, hash, records from former where number = ? and until > ? order by until limit 1"
            row = self._reading.execute(query, (number, self._size)).fetchone()
            if row is not None and row[1] is None:
                return None
        if row is None:
            row = self._reading.execute(_READ, (number,)).fetchone()
            if row is None:
                return None
        _, value, records = row
        if type(value) is bytes and len(value) == HASH_SIZE and (records is None or type(records) is bytes):
            return row
        raise Unfit(_BROKEN)

    def below(self, number: int) -> Iterable[tuple[int, bytes, int | None]]:
        """See `PageStore`."""
        first, last = number << STEP, (number << STEP) + FAN - 1
        query = "select number, hash, length(records) from page where number between ? and ?"
        known: dict[int, Any] = {row[0]: row for row in self._connection.execute(query, (first, last))}
        if self._size is not None:
            query = (
                "select number, hash, length(records) from former where number between ? and ? and until > ? "
                "order by until desc"  # the earliest is the last to be taken
            )
            known.update((row[0], row) for row in self._connection.execute(query, (first, last, self._size)))
            known = {number: row for number, row in known.items() if row[1] is not None}
        if not all(_is_hash(row[1]) for row in known.values()):
            raise Unfit(_BROKEN)
        return known.values()

    def running(self, key: bytes) -> bytes | None:
        """See `PageStore`."""
        if self._size is not None:
            indices = self.indices(key)
            return run(indices) if indices else None
        row = self._connection.execute("select value from running where key = ?", (key,)).fetchone()
        if row is not None and not _is_hash(row[0]):
            raise Unfit(_BROKEN)
        return None if row is None else row[0]

    def indices(self, key: bytes) -> list[int]:
        """See `PageStore`."""
        query = "select entry from posting where key = ? order by entry"
        stored: list[Any] = [row[0] for row in self._connection.execute(query, (key,))]
        if not all(isinstance(entry, int) for entry in stored):
            raise Unfit(_BROKEN)
        if self._size is None:
            return stored
        earlier = [entry for entry in stored if entry < self._size]
        return earlier if len(earlier) > 1 else []  # a key with one index has no list


def remove_file(path: Path) -> None:
    """Remove an absence.db, so that it is made from the first entry on."""
    # the write-ahead log first: what is left of the file without it is damaged, and found to be
    for suffix in ("-wal", "-shm", ""):
        Path(f"{path}{suffix}").unlink(missing_ok=True)


def _is_hash(value: object) -> bool:
    return isinstance(value, bytes) and len(value) == HASH_SIZE


def _prepared(connection: sqlite3.Connection) -> sqlite3.Connection:
    """Tables of this version; `Unfit` for a database of another program or version."""
    try:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        if (version, application) == (0, 0):
            connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(
                f"BEGIN IMMEDIATE;{ABSENCE_DDL}PRAGMA application_id = {_APPLICATION};"
                f"PRAGMA user_version = {_VERSION};COMMIT;"
            )
        elif (version, application) != (_VERSION, _APPLICATION):
            raise Unfit(f"{ABSENCE_FILE} is of another version or program; delete it, it is rebuilt")
        elif connection.execute("select count(*) from sqlite_master where type = 'table'").fetchone()[0] != _TABLES:
            raise Unfit(_BROKEN)
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_BYTES // _PAGE_BYTES}")
    except BaseException:
        connection.close()
        raise
    return connection
