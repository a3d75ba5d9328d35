"""The state of a witness: one SQLite file, its schema, and write transactions that are durable when they are left.

A flush or a read that fails ends the object: no cosignature leaves after it until the state is opened again.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ...schemas.errors import SetupError, UsageError
from ..storage.database import sync_folder_of
from ..storage.disk import StorageBroken, storage, storage_error
from .guard import Guard

WITNESS_VERSION = 3
WITNESS_DDL = """
CREATE TABLE witness (
    name TEXT NOT NULL,
    commits INTEGER NOT NULL DEFAULT 0, -- write transactions so far: compared with the guard outside this file
    frozen TEXT,                        -- why this witness signs nothing any more; NULL while it does
    commits_again INTEGER NOT NULL DEFAULT 0    -- the same number: nothing else here would show a flipped bit
) STRICT;
CREATE TABLE logs (
    origin TEXT PRIMARY KEY,
    keys TEXT NOT NULL,             -- verifier keys, one a line; empty: not watched any more
    size INTEGER NOT NULL,          -- of the last checkpoint cosigned; 0 with the empty root before the first
    root BLOB NOT NULL,
    note BLOB                       -- that checkpoint with the log's and our own signatures; NULL before the first
) STRICT;
CREATE TABLE conflicts (            -- two checkpoints signed by the log that cannot both be true
    origin TEXT NOT NULL,
    time INTEGER NOT NULL,
    ours BLOB NOT NULL,
    theirs BLOB NOT NULL
) STRICT;
"""
_UPGRADES = {
    1: "ALTER TABLE witness ADD COLUMN commits INTEGER NOT NULL DEFAULT 0; ALTER TABLE witness ADD COLUMN frozen TEXT;",
    2: "ALTER TABLE witness ADD COLUMN commits_again INTEGER NOT NULL DEFAULT 0; "
    "UPDATE witness SET commits_again = commits;",
}


class WitnessState:
    """The open state file. Threads share one; each process opens its own."""

    def __init__(self, path: Path, name: str, guard: Guard | None) -> None:
        """Open; `SetupError` if it is missing, another witness's, unreadable, or older than the guard."""
        self.path, self._guard = path, guard
        self._lock = threading.Lock()
        self._broken: SetupError | None = None
        self._folder_synced = False
        with storage(f"opening {path}"):
            found = path.is_file()
        if not found:
            raise SetupError(
                f"there is no witness state at {path}: make a new witness with a new key, and never let one "
                "that lost its state sign again"
            )
        self._db = _connect(path)
        try:
            self._upgrade()
            self._check(name)
        except BaseException:
            self._db.close()
            raise

    @staticmethod
    def create(path: Path, name: str) -> None:
        """Make the file of a new witness; `UsageError` if it exists."""
        try:
            path.touch(mode=0o600, exist_ok=False)
        except FileExistsError:
            raise UsageError(f"{path} exists already: open it, or choose another place") from None
        except OSError as error:
            raise SetupError(f"cannot create {path}: {error.strerror}") from None
        sync_folder_of(path)  # SQLite does it with its first commits, and ignores failure
        db = _connect(path)
        try:
            sync_folder_of(path)
            # one transaction: a file that is half made has version 0 and is refused
            db.executescript(f"BEGIN IMMEDIATE;\n{WITNESS_DDL}\nPRAGMA user_version = {WITNESS_VERSION};")
            db.execute("INSERT INTO witness (name) VALUES (?)", (name,))
            db.execute("COMMIT")
        finally:
            db.close()

    def _upgrade(self) -> None:
        """Bring the file of an earlier version up to date, in one transaction."""
        try:
            while (version := self._version()) in _UPGRADES:
                self._db.execute("BEGIN IMMEDIATE")
                if self._version() == version:
                    for statement in _UPGRADES[version].split(";")[:-1]:
                        self._db.execute(statement)
                    self._db.execute(f"PRAGMA user_version = {version + 1}")
                self._db.execute("COMMIT")
        except sqlite3.Error as error:
            if self._db.in_transaction:
                self._db.rollback()
            raise SetupError(f"{self.path} is not a witness state file: {error}") from None

    def _version(self) -> int:
        return self._db.execute("PRAGMA user_version").fetchone()[0]

    def _check(self, name: str) -> None:
        try:
            version = self._version()
            if version != WITNESS_VERSION:
                raise SetupError(
                    f"{self.path} has state version {version}; this program reads version {WITNESS_VERSION}"
                )
            stored, commits, again = self._db.execute("SELECT name, commits, commits_again FROM witness").fetchone()
        except sqlite3.Error as error:
            raise SetupError(f"{self.path} is not a witness state file: {error}") from None
        if stored != name:
            raise SetupError(f"{self.path} is the state of the witness {stored}, not of {name}")
        if commits != again:
            raise SetupError(
                f"{self.path} is damaged: it says it has made {commits} commits, and {again}; make a new witness with "
                "a new key"
            )
        if self._guard is not None and commits < self._guard.count:
            raise SetupError(
                f"{self.path} has made {commits} commits, its guard {self._guard.path} counted {self._guard.count}: "
                "the state was restored from a backup, and signing from it could cosign a fork; make a new witness "
                "with a new key"
            )

    def close(self) -> None:
        """Close the files."""
        with self._lock:
            self._db.close()
            if self._guard is not None:
                self._guard.close()

    @contextmanager
    def transaction(self) -> Generator[sqlite3.Connection]:
        """A write transaction that has the file to itself; committed, durable and counted when the block is left."""
        with self._lock:
            commits: int | None = None
            if self._broken is not None:
                raise self._broken
            if not self._folder_synced:
                self._sync_folder()
            try:
                self._db.execute("BEGIN IMMEDIATE")
                before = self._db.total_changes
                try:
                    yield self._db
                    # what changed nothing is not counted: a request that is refused costs no flush
                    if self._db.total_changes != before:
                        (commits,) = self._db.execute(
                            "UPDATE witness SET commits = commits + 1, commits_again = commits + 1 RETURNING commits"
                        ).fetchone()
                except BaseException:
                    self._db.execute("ROLLBACK")
                    raise
                self._db.execute("COMMIT")
            except sqlite3.Error as error:
                failed = self._failed(error)
                if self._db.in_transaction:
                    with suppress(sqlite3.Error):
                        self._db.rollback()
                raise failed from None
            if self._guard is not None and commits is not None:
                self._guard.advance(commits)

    def _sync_folder(self) -> None:
        """As in `create`. A flush that failed once says nothing by succeeding later."""
        try:
            sync_folder_of(self.path)
        except StorageBroken as error:
            self._broken = SetupError(f"{error}; this witness cosigns no more until it is opened again")
            raise
        self._folder_synced = True

    def read(self, query: str, *values: str) -> list[Any]:
        """Rows of a query."""
        with self._lock:
            try:
                return self._db.execute(query, values).fetchall()
            except sqlite3.Error as error:
                raise self._failed(error) from None

    def _failed(self, error: sqlite3.Error) -> SetupError:
        """What is raised for a failed call; a failed flush or read is remembered."""
        text = f"the witness state {self.path} failed: {error}"
        if isinstance(storage_error(error, ""), StorageBroken):
            self._broken = SetupError(f"{text}; this witness cosigns no more until it is opened again")
        return SetupError(text)


def _connect(path: Path) -> sqlite3.Connection:
    """A connection whose commits are on the disk when they return; `SetupError` if SQLite would not promise it."""
    with storage(f"opening {path}"):
        db = sqlite3.connect(path, timeout=30, isolation_level=None, check_same_thread=False)
    try:
        mode = db.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        db.execute("PRAGMA synchronous = FULL")
        db.execute("PRAGMA fullfsync = ON")  # macOS: fsync alone leaves data in the drive's cache
        synchronous = db.execute("PRAGMA synchronous").fetchone()[0]
        if (mode, synchronous) != ("wal", 2):
            raise SetupError(f"SQLite cannot keep {path} durable here (journal {mode}, synchronous {synchronous})")
    except sqlite3.Error as error:
        db.close()
        raise SetupError(f"{path} is not a usable state file: {error}") from None
    except BaseException:
        db.close()
        raise
    return db
