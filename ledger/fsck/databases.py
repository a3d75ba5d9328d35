"""SQLite files: is the structure whole, do indexes and tables agree, is the schema the one this program writes?

SQLite keeps no checksum of its pages, so a changed byte in a row shows only in what the row is compared with: its
index, its constraints, and the public files (state.py, vault.py, lookup.py). Free pages and the bytes between cells
hold nothing that is read.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path

from ...schemas.errors import SetupError
from ..storage.disk import SQLITE_FAILED
from .findings import Findings

_PROBLEMS = 20


def structure(path: Path, ddl: str | None, remedy: str, found: Findings) -> bool:
    """Check a database file by itself; False if it cannot be opened at all. `ddl`: the tables it must have."""
    name = path.name
    if not path.is_file():
        found.unread(name, "it is missing", remedy)
        return False
    # not by opening it: closing a file drops the locks SQLite holds on it elsewhere in this process
    if not os.access(path, os.R_OK):
        found.unread(name, "it cannot be read")
        return False
    try:
        with contextlib.closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as db:
            problems = [row[0] for row in db.execute(f"PRAGMA integrity_check({_PROBLEMS})")]
            for problem in problems if problems != ["ok"] else []:
                found.false(name, f"SQLite: {problem}", remedy)
            for table, rowid, parent, _ in db.execute("PRAGMA foreign_key_check"):
                found.false(name, f"row {rowid} of {table} names a row of {parent} that is not there", remedy)
            if ddl is not None and _shape(db) != _expected(ddl):
                found.false(name, "its tables are not those that this program makes", remedy)
    except SQLITE_FAILED as error:
        found.false(name, f"SQLite: {error}", remedy)
        return False
    return True


def version_of(path: Path) -> int:
    """PRAGMA user_version; `SetupError` if the file is no database."""
    try:
        with contextlib.closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as db:
            return db.execute("PRAGMA user_version").fetchone()[0]
    except SQLITE_FAILED as error:
        raise SetupError(f"{path.name}: {error}") from None


def _expected(ddl: str) -> object:
    with contextlib.closing(sqlite3.connect(":memory:")) as db:
        db.executescript(ddl)
        return _shape(db)


def _shape(db: sqlite3.Connection) -> object:
    """Tables with their columns and indexes, as SQLite understands them: comments and spacing do not count."""
    names = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
    shape: list[object] = []
    for name in names:
        columns = db.execute('SELECT name, type, "notnull", pk FROM pragma_table_xinfo(?) ORDER BY cid', (name,))
        indexes = db.execute('SELECT "unique", origin FROM pragma_index_list(?) ORDER BY name', (name,))
        shape.append((name, columns.fetchall(), indexes.fetchall()))
    return shape
