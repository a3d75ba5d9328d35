"""Durable files and databases: the few moves that everything stored goes through.

A file: temporary name in the same folder, write, fsync, rename, fsync the folder. A database: explicit DDL with a
version, WAL, synchronous=FULL, every pragma read back. Two kinds of failure are told apart:

* `StorageFull`: nothing was written (no space, read-only, too large); what is on the disk is still true, so the
  caller may try again or write elsewhere.
* `StorageBroken`: an fsync or a read failed. The kernel may have dropped pages it will never report again, so nothing
  may be acknowledged after it: the writer stops.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from ..schemas.errors import SetupError

APPLICATION_ID = 0x706C6A01
"""PRAGMA application_id of the databases of a ledger directory."""

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM}
_TEMPORARY = ".tmp-"


class StorageFull(SetupError):
    """The disk took nothing: full, over quota or read-only. What is stored is unharmed."""


class StorageBroken(SetupError):
    """A flush or a read failed: what is stored may not be what was written. The writer stops."""


def storage_error(error: OSError | sqlite3.Error, doing: str) -> SetupError:
    """The `SetupError` for a failed system call or SQLite call while `doing` ("writing state.db")."""
    if isinstance(error, OSError):
        text = error.strerror or str(error)
        if error.errno in _FULL:
            return StorageFull(f"{doing} failed: {text}")
        return StorageBroken(f"{doing} failed: {text}; the writer stops, check the disk and open the ledger again")
    name = getattr(error, "sqlite_errorname", None) or type(error).__name__
    if name.startswith(("SQLITE_FULL", "SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM", "SQLITE_BUSY")):
        return StorageFull(f"{doing} failed: {error} ({name})")
    # SQLite reports a full disk behind a file size limit or quota as a failed write
    if name in {"SQLITE_IOERR_WRITE", "SQLITE_IOERR_TRUNCATE", "SQLITE_IOERR_SHMSIZE"}:
        return StorageFull(f"{doing} failed: {error} ({name})")
    return StorageBroken(
        f"{doing} failed: {error} ({name}); the writer stops, check the disk and open the ledger again"
    )


@contextlib.contextmanager
def storage(doing: str) -> Iterator[None]:
    """Turn the operating system's and SQLite's errors into `StorageFull` or `StorageBroken`."""
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        raise storage_error(error, doing) from error


def sync_folder(folder: Path) -> None:
    """fsync a folder, so that the renames in it are durable."""
    descriptor = os.open(folder, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
    try:
        os.fsync(descriptor)
    except OSError as error:
        raise _flush_failed(folder, error) from error
    finally:
        os.close(descriptor)


def sync_file(path: Path) -> None:
    """fsync a file that was written before."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        raise _flush_failed(path, error) from error
    finally:
        os.close(descriptor)


def _flush_failed(path: Path, error: OSError) -> StorageBroken:
    # whatever errno says (ENOSPC included): after a failed fsync the kernel may call the lost pages clean
    return StorageBroken(
        f"flushing {path} failed: {error.strerror or error}; the writer stops, check the disk and open the ledger again"
    )


def write_file(path: Path, data: bytes, *, mode: int = 0o644, sync: bool = True, exclusive: bool = False) -> None:
    """Write a whole file so that readers see the old one or the new one, never a part.

    `sync=False` leaves the flushing of file and folder to the caller. `exclusive` refuses to replace an existing file
    (`FileExistsError`). Raises `OSError` for a failed write and `StorageBroken` for a failed flush.
    """
    temporary = path.with_name(f"{_TEMPORARY}{os.getpid():x}-{os.urandom(4).hex()}-{path.name}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
            if sync:
                try:
                    os.fsync(descriptor)
                except OSError as error:
                    raise _flush_failed(path, error) from error
        finally:
            os.close(descriptor)
        if exclusive:
            os.link(temporary, path)
            temporary.unlink()
        else:
            temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    if sync:
        sync_folder(path.parent)


def remove_leftovers(folder: Path) -> None:
    """Remove temporary files that a killed writer left in `folder` (not below it)."""
    with contextlib.suppress(OSError):
        for path in folder.glob(f"{_TEMPORARY}*"):
            with contextlib.suppress(OSError):
                path.unlink()


def open_database(path: Path, *, ddl: str, version: int, create: bool = False) -> sqlite3.Connection:
    """Open a database for writing: WAL, synchronous=FULL, foreign keys, each pragma checked; 0600 when created.

    Transactions are explicit (`begin`). Raises `SetupError` if the file is absent and `create` is false, is no
    database of this project, or is of a newer version.
    """
    if not create and not path.is_file():
        raise SetupError(f"{path} is missing: restore it from a backup, a ledger cannot go on without it")
    if create:
        with contextlib.suppress(FileExistsError):
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    with storage(f"opening {path}"):
        connection = sqlite3.connect(path, timeout=30.0, isolation_level=None, check_same_thread=False)
    try:
        with storage(f"opening {path}"):
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
    connection.execute("PRAGMA foreign_keys = ON")
    if connection.execute("PRAGMA synchronous").fetchone()[0] != 2:
        raise SetupError(f"{path}: SQLite did not accept synchronous = FULL")
    if found == 0:
        # executescript would commit first; one transaction makes a killed creation leave an empty file
        connection.execute("BEGIN IMMEDIATE")
        for statement in ddl.split(";"):
            if statement.strip():
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {version}")
        connection.execute("COMMIT")


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
    if not path.is_file():
        raise SetupError(f"{path} is missing")
    name = quote(str(path.resolve()))
    last: sqlite3.Error | None = None
    # A WAL database needs its -shm file even to read. Where none can be made (read-only file system, no writer),
    # `immutable` reads the file as it is: a cleanly closed ledger has nothing left in the WAL.
    for query in ("mode=ro", "mode=ro&immutable=1"):
        try:
            connection = sqlite3.connect(
                f"file:{name}?{query}", uri=True, timeout=30.0, isolation_level=None, check_same_thread=False
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
def begin(connection: sqlite3.Connection, what: str) -> Iterator[sqlite3.Connection]:
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
