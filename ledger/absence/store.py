"""`absence.db`: the absence index beside a log, derived from its entries and caught up with each checkpoint.

Every entry is hashed as received while it is indexed, and the hashes must give the root that the checkpoint signs:
tiles, lookup.db and this file are trusted for nothing. Delete it and it comes back. It is not silently rebuilt where it
speaks of another tree than the log, or of a longer one: a log that became shorter or other is what somebody must see.

Where the file cannot be written (read-only file system) the index is made in memory.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from typing import Any

from ...schemas.errors import EvidenceError, SetupError
from ..checkpoint import Checkpoint
from ..index import read_bundle
from ..reader import TiledLog
from ..tiles import WIDTH
from ..tree import CompactRange, hash_leaf
from ..wire import HASH_SIZE
from .keys import EMPTY, leaf_keys
from .trie import IndexMap

ABSENCE_FILE = "absence.db"
_VERSION = 1
_APPLICATION = 0x706C6A02
_BATCH = 64 * WIDTH
_DDL = """
create table page (prefix blob primary key, data blob not null);
create table running (key blob primary key, value blob not null) without rowid;
create table posting (key blob, entry integer, primary key (key, entry)) without rowid;
create table progress (id integer primary key check (id = 1), size integer, edge blob, index_root blob);
"""


class SqlitePages:
    """A `PageStore` in an open database; writes belong to the caller's transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def _one(self, query: str, key: bytes) -> bytes | None:
        row = self._connection.execute(query, (key,)).fetchone()
        return None if row is None else row[0]

    def page(self, prefix: bytes) -> bytes | None:
        """See `PageStore`."""
        return self._one("select data from page where prefix = ?", prefix)

    def put_page(self, prefix: bytes, data: bytes) -> None:
        """See `PageStore`."""
        self._connection.execute("insert or replace into page values (?, ?)", (prefix, data))

    def running(self, key: bytes) -> bytes | None:
        """See `PageStore`."""
        return self._one("select value from running where key = ?", key)

    def indices(self, key: bytes) -> list[int]:
        """See `PageStore`."""
        query = "select entry from posting where key = ? order by entry"
        return [row[0] for row in self._connection.execute(query, (key,))]

    def put_indices(self, key: bytes, indices: Iterable[int], running: bytes) -> None:
        """See `PageStore`."""
        self._connection.executemany("insert into posting values (?, ?)", ((key, index) for index in indices))
        self._connection.execute("insert or replace into running values (?, ?)", (key, running))


class AbsenceStore:
    """The index of one log in a file, or in memory where `path` is None or cannot be written. Thread-safe."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._memory: sqlite3.Connection | None = None
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def at(
        self, log: TiledLog, checkpoint: Checkpoint, progress: Callable[[int, int], None] | None = None
    ) -> Generator[IndexMap, None, None]:
        """The map over exactly the entries that a checkpoint covers, caught up first. The checkpoint is the caller's.

        Raises `EvidenceError` if the entries do not hash to the checkpoint's root, `SetupError` if the file is ahead of
        the checkpoint or contradicts itself, `PeerError` if entries are missing.
        """
        with self._lock:
            connection, index = self._ready(log, checkpoint, progress)
            try:
                yield index
            except sqlite3.Error as error:
                raise _failed(error) from error
            finally:
                self._leave(connection)

    def _ready(
        self, log: TiledLog, checkpoint: Checkpoint, progress: Callable[[int, int], None] | None
    ) -> tuple[sqlite3.Connection, IndexMap]:
        """A connection in a read transaction, and the map it sees."""
        for connection in self._connections():
            try:
                return connection, _caught_up(connection, log, checkpoint, progress)
            except sqlite3.OperationalError as error:
                self._leave(connection)
                if connection is self._memory:
                    raise _failed(error) from error
            except sqlite3.Error as error:
                self._leave(connection)
                raise _failed(error) from error
            except BaseException:
                self._leave(connection)
                raise
        raise SetupError(f"{ABSENCE_FILE} cannot be opened")

    def _connections(self) -> Generator[sqlite3.Connection, None, None]:
        """The file, and memory for where the file cannot be written."""
        if self._memory is None and self._path is not None:
            try:
                yield _prepared(sqlite3.connect(self._path, timeout=30.0, isolation_level=None))
            except sqlite3.OperationalError:
                pass
            except sqlite3.DatabaseError as error:
                raise _failed(error) from error
        if self._memory is None:
            memory = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
            self._memory = _prepared(memory)
        yield self._memory

    def _leave(self, connection: sqlite3.Connection) -> None:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        if connection is not self._memory:
            connection.close()


def _failed(error: sqlite3.Error) -> SetupError:
    return SetupError(f"{ABSENCE_FILE} failed: {error}; delete it, it is rebuilt")


def _prepared(connection: sqlite3.Connection) -> sqlite3.Connection:
    """Tables of this version; `SetupError` for a database of another program or version."""
    try:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        application = connection.execute("PRAGMA application_id").fetchone()[0]
        if (version, application) == (0, 0):
            connection.execute("PRAGMA journal_mode = WAL")
            connection.executescript(
                f"BEGIN IMMEDIATE;{_DDL}PRAGMA application_id = {_APPLICATION};PRAGMA user_version = {_VERSION};COMMIT;"
            )
        elif (version, application) != (_VERSION, _APPLICATION):
            raise SetupError(f"{ABSENCE_FILE} is of another version or program; delete it, it is rebuilt")
        # derived: a power cut may cost the last batch, never consistency
        connection.execute("PRAGMA synchronous = NORMAL")
    except BaseException:
        connection.close()
        raise
    return connection


def _progress(connection: sqlite3.Connection) -> tuple[CompactRange, bytes]:
    """(right edge of the entries indexed so far, index root over them)."""
    row: Any = connection.execute("select size, edge, index_root from progress").fetchone()
    if row is None:
        return CompactRange(), EMPTY
    size, edge, index_root = row
    try:
        return CompactRange(size, [edge[i : i + HASH_SIZE] for i in range(0, len(edge), HASH_SIZE)]), index_root
    except EvidenceError:
        raise SetupError(f"{ABSENCE_FILE} contradicts itself; delete it, it is rebuilt") from None


def _caught_up(
    connection: sqlite3.Connection,
    log: TiledLog,
    checkpoint: Checkpoint,
    progress: Callable[[int, int], None] | None,
) -> IndexMap:
    """The map over a checkpoint's entries; leaves a read transaction open, so that nobody moves it while it is used."""
    size, origin = checkpoint.size, checkpoint.origin
    while True:
        # one batch a transaction: a kill costs at most one, and two processes take turns
        connection.execute("BEGIN IMMEDIATE" if _seen(connection) < size else "BEGIN")
        edge, index_root = _progress(connection)
        index = IndexMap(SqlitePages(connection))
        if index.root() != index_root:
            raise SetupError(f"{ABSENCE_FILE} contradicts itself; delete it, it is rebuilt")
        if edge.size >= size:
            break
        _take(connection, log, index, edge, min(size, (edge.size // _BATCH + 1) * _BATCH), size)
        connection.execute("COMMIT")
        if progress is not None:
            progress(edge.size, size)
    if edge.size > size:
        raise SetupError(
            f"{ABSENCE_FILE} has seen {edge.size} entries and the checkpoint of {origin} covers {size}: the log was "
            f"set back, or {ABSENCE_FILE} is another log's; once you know which, delete it, it is rebuilt"
        )
    if edge.root() != checkpoint.root:
        raise EvidenceError(
            f"the entries that {ABSENCE_FILE} was made from do not hash to the root of the checkpoint of {origin} of "
            f"size {size}: the log contradicts itself, or was another one; once you know which, delete {ABSENCE_FILE}"
        )
    return index


def _seen(connection: sqlite3.Connection) -> int:
    row = connection.execute("select size from progress").fetchone()
    return 0 if row is None else row[0]


def _take(
    connection: sqlite3.Connection, log: TiledLog, index: IndexMap, edge: CompactRange, end: int, size: int
) -> None:
    """Index the entries from the edge to `end` of a tree of `size`; the edge moves along."""
    items: list[tuple[bytes, int]] = []
    start = edge.size
    for number in range(start // WIDTH, (end + WIDTH - 1) // WIDTH):
        for place, leaf in enumerate(read_bundle(log, number, size), number * WIDTH):
            if start <= place < end:
                edge.append(hash_leaf(leaf))
                items += [(key, place) for key in leaf_keys(leaf)]
    index.add(items)
    connection.execute(
        "insert or replace into progress values (1, ?, ?, ?)", (edge.size, b"".join(edge.edge), index.root())
    )
