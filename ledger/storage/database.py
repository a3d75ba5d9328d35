"""A database of the ledger directory: explicit DDL with a version, WAL, synchronous=FULL, every pragma read back.

One connection, serialised by a lock. Connections must never live across a fork: SQLite's bookkeeping of file locks is
inherited, so the child would believe in locks that only its parent holds. `suspend` closes the connection before a fork
and the next use opens it again, in parent and child alike.

A flush or a read that fails ends the object: whatever SQLite says afterwards, the kernel may have dropped pages. SQLite
ignores a failed flush of the folder that its write-ahead log was made in, so that folder is flushed here, before the
first commit.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ...schemas.errors import SetupError, UsageError
from .disk import StorageBroken, storage, sync_folder

APPLICATION_ID = 0x706C6A01
"""PRAGMA application_id of the databases of a ledger directory."""

BUSY_MS = 30_000
"""How long a connection waits for another's transaction."""
LARGE_PAGES = 16384
_WAL_BYTES = 4 << 20
"""The write-ahead log is folded into the file when it is larger: at whatever page size, as SQLite does at 4,096."""


class Database:
    """A database file that is opened on first use; calls from any thread."""

    def __init__(
        self, path: Path, *, ddl: str, version: int, readonly: bool = False, pragmas: Sequence[str] = ()
    ) -> None:
        """Open an existing database; `SetupError` if it is absent, foreign, of a newer version or unreadable.

        `pragmas` are set on every connection that writes.
        """
        self.path = path
        self._ddl = ddl
        self._version = version
        self._readonly = readonly
        self._pragmas = tuple(pragmas)
        self._lock = threading.Lock()
        self._closed = False
        self._broken: StorageBroken | None = None
        self._connection: sqlite3.Connection | None = None
        self._folder_synced = False
        with self._lock:
            self._open()

    @classmethod
    def create(cls, path: Path, *, ddl: str, version: int, page_bytes: int = 4096) -> None:
        """Make the file with mode 0600 and its tables; `UsageError` if it exists.

        Large pages (`LARGE_PAGES`) suit what is written in bulk, small ones what is changed here and there.
        """
        try:
            with storage(f"creating {path}"):
                os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        except SetupError as error:
            if isinstance(error.__cause__, FileExistsError):
                raise UsageError(f"{path} exists") from None
            raise
        open_database(path, ddl=ddl, version=version, create=True, page_bytes=page_bytes).close()

    def _open(self) -> sqlite3.Connection:
        if self._closed:
            raise UsageError(f"{self.path} is closed")
        if self._broken is not None:
            raise self._broken
        if self._connection is None:
            if self._readonly:
                self._connection = open_database_readonly(self.path, version=self._version)
            else:
                self._connection = open_database(self.path, ddl=self._ddl, version=self._version)
                with storage(f"opening {self.path}"):
                    for pragma in self._pragmas:
                        self._connection.execute(f"PRAGMA {pragma}").fetchall()
                self._folder_synced = False
        return self._connection

    @contextlib.contextmanager
    def _fatal(self) -> Generator[None, None, None]:
        """After a failed flush nothing more is written through this object, whoever asks."""
        try:
            yield
        except StorageBroken as error:
            if not self._readonly and _is_io(error.__cause__):
                self._broken = error
            raise

    def rows(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        """All rows of a query."""
        with self._lock, self._fatal():
            connection = self._open()
            with storage(f"reading {self.path.name}"):
                return connection.execute(query, values).fetchall()

    def row(self, query: str, values: Sequence[Any] = ()) -> Any:
        """The first row of a query, or None."""
        with self._lock, self._fatal():
            connection = self._open()
            with storage(f"reading {self.path.name}"):
                return connection.execute(query, values).fetchone()

    @contextlib.contextmanager
    def transaction(self) -> Generator[sqlite3.Connection, None, None]:
        """One `BEGIN IMMEDIATE` transaction: durable when the block is left, undone by any exception."""
        with self._lock, self._fatal():
            connection = self._open()
            if not self._folder_synced:
                sync_folder_of(self.path)
                self._folder_synced = True
            with _begin(connection, self.path.name):
                yield connection

    @contextlib.contextmanager
    def snapshot(self) -> Generator[None, None, None]:
        """Everything read in the block is of one moment, for a `Database` that only one thread uses."""
        self.command("BEGIN")
        try:
            yield
        finally:
            with contextlib.suppress(SetupError):
                self.command("ROLLBACK")

    def command(self, statement: str) -> None:
        """A statement outside a transaction (a pragma)."""
        with self._lock, self._fatal():
            connection = self._open()
            with storage(f"writing {self.path.name}"):
                connection.execute(statement).fetchall()

    def suspend(self) -> None:
        """Close the connection and keep every thread out until `resume`: for the moment of a fork."""
        self._lock.acquire()
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None

    def resume(self) -> None:
        """Let threads in again."""
        self._lock.release()

    def close(self) -> None:
        """Close for good; the last connection folds the write-ahead log into the file."""
        with self._lock:
            self._closed = True
            if self._connection is not None:
                self._connection.close()
                self._connection = None


def sync_folder_of(path: Path) -> None:
    """Make the names of an open database and of its write-ahead log durable; SQLite's own try may fail unnoticed."""
    with storage(f"flushing {path.parent}"):
        sync_folder(path.parent)


def _is_io(error: BaseException | None) -> bool:
    """Whether the disk failed, and not what was asked of the database."""
    return isinstance(error, OSError) or getattr(error, "sqlite_errorname", "").startswith("SQLITE_IOERR")


def _is_file(path: Path) -> bool:
    with storage(f"opening {path}"):
        return path.is_file()


def open_database(
    path: Path, *, ddl: str, version: int, create: bool = False, page_bytes: int = 4096
) -> sqlite3.Connection:
    """Open a database for writing: WAL, synchronous=FULL, foreign keys, each pragma checked; 0600 when created.

    Transactions are explicit (`begin`). Raises `SetupError` if the file is absent and `create` is false, is no
    database of this project, or is of a newer version.
    """
    if not create and not _is_file(path):
        raise SetupError(f"{path} is missing: restore it from a backup, a ledger cannot go on without it")
    if create:
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    with storage(f"opening {path}"):
        connection = sqlite3.connect(path, timeout=BUSY_MS / 1000, isolation_level=None, check_same_thread=False)
    try:
        with storage(f"opening {path}"):
            if create:
                connection.execute(f"PRAGMA page_size = {page_bytes}")  # fixed for good by the first write
            _prepare(connection, path, ddl, version, create)
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, path: Path, ddl: str, version: int, create: bool) -> None:
    try:
        found = connection.execute("PRAGMA user_version").fetchone()[0]
        application = connection.execute("PRAGMA application_id").fetchone()[0]
    except sqlite3.DatabaseError as error:
        if getattr(error, "sqlite_errorname", "") == "SQLITE_NOTADB":
            raise SetupError(f"{path} is not a database") from None
        raise
    check_version(path, found, application, version, empty_ok=create)
    if connection.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
        raise SetupError(f"{path}: SQLite cannot use a write-ahead log here (a network file system?)")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA fullfsync = ON")  # macOS: fsync alone leaves data in the drive's cache
    connection.execute("PRAGMA foreign_keys = ON")
    page: int = connection.execute("PRAGMA page_size").fetchone()[0]
    connection.execute(f"PRAGMA wal_autocheckpoint = {_WAL_BYTES // page}")
    if connection.execute("PRAGMA synchronous").fetchone()[0] != 2:
        raise SetupError(f"{path}: SQLite did not accept synchronous = FULL")
    if found == 0:
        sync_folder_of(path)
        # one transaction: a killed creation leaves an empty file, which is then refused
        connection.executescript(
            f"BEGIN IMMEDIATE;\n{ddl};\nPRAGMA application_id = {APPLICATION_ID};\n"
            f"PRAGMA user_version = {version};\nCOMMIT;"
        )


def check_version(path: Path, found: int, application: int, version: int, *, empty_ok: bool) -> None:
    """Refuse databases of other programs and of newer versions with a `SetupError` that says which."""
    if found == 0 and application == 0 and empty_ok:
        return
    if application != APPLICATION_ID:
        raise SetupError(f"{path} is not a database of a ledger")
    if found > version:
        raise SetupError(
            f"{path} is of version {found}, this program knows {version}: the ledger was made by a newer "
            "plausible-deniability; upgrade to open it"
        )


def open_database_readonly(path: Path, *, version: int) -> sqlite3.Connection:
    """Open a database for reading, also on a read-only file system. Raises `SetupError` if it is absent or foreign."""
    if not _is_file(path):
        raise SetupError(f"{path} is missing")
    name = quote(str(path.resolve()))
    last: sqlite3.Error | None = None
    # A WAL database needs its -shm file even to read. Where none can be made (read-only file system, no writer),
    # `immutable` reads the file as it is: a cleanly closed ledger has nothing left in the WAL.
    for query in ("mode=ro", "mode=ro&immutable=1"):
        try:
            connection = sqlite3.connect(
                f"file:{name}?{query}", uri=True, timeout=BUSY_MS / 1000, isolation_level=None, check_same_thread=False
            )
        except sqlite3.Error as error:
            last = error
            continue
        try:
            found = connection.execute("PRAGMA user_version").fetchone()[0]
            application = connection.execute("PRAGMA application_id").fetchone()[0]
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
            check_version(path, found, application, version, empty_ok=False)
        except sqlite3.Error as error:
            last = error
            connection.close()
            continue
        except SetupError:
            connection.close()
            raise
        return connection
    raise SetupError(f"{path} cannot be read: {last}") from last


@contextlib.contextmanager
def _begin(connection: sqlite3.Connection, what: str) -> Generator[sqlite3.Connection, None, None]:
    """One `BEGIN IMMEDIATE` transaction: committed at the end, rolled back on any exception.

    A failed COMMIT is a `StorageFull` only where SQLite says that nothing was written; else `StorageBroken`.
    """
    with storage(f"writing {what}"):
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                with contextlib.suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
            raise
