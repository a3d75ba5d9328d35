"""lookup.db against the entries. It is derived: whatever is wrong with it, deleting it is the cure."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

from ..merkle.reader import TiledLog
from ..storage.disk import SQLITE_FAILED
from ..storage.lookup import COLUMNS, LOOKUP_FILE, LOOKUP_VERSION
from .databases import structure, version_of
from .entries import Rows
from .findings import DELETE_LOOKUP, Findings


def check_lookup(
    directory: Path, log: TiledLog, rows: Rows, head: tuple[int, bytes], lost: int, found: Findings
) -> None:
    """Every row of the lookup index is what its entry says, up to the size it was made for."""
    path = directory / LOOKUP_FILE
    if not path.exists():
        found.notes.append(f"{LOOKUP_FILE} is not there: it is made at the first look-up")
        return
    if not structure(path, None, DELETE_LOOKUP, found):
        return
    if version_of(path) != LOOKUP_VERSION:
        found.notes.append(f"{LOOKUP_FILE} is of another version: it is made anew at the next look-up")
        return
    try:
        with contextlib.closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as db:
            db.execute("BEGIN")
            _check(db, log, rows, head, lost, found)
    except SQLITE_FAILED as error:
        found.false(LOOKUP_FILE, f"SQLite: {error}", DELETE_LOOKUP)


def _check(
    db: sqlite3.Connection, log: TiledLog, rows: Rows, head: tuple[int, bytes], lost: int, found: Findings
) -> None:
    size, signed = head
    indexed = db.execute("SELECT id, size, root FROM indexed").fetchall()
    until, root = (indexed[0][1], indexed[0][2]) if indexed else (0, "")
    if len(indexed) > 1 or (indexed and indexed[0][0] != 1):
        found.false(LOOKUP_FILE, "it says more than once how far it goes", DELETE_LOOKUP)
    if not isinstance(until, int) or not 0 <= until <= size:
        found.false(LOOKUP_FILE, f"it goes up to entry {until!r}, the log to {size}", DELETE_LOOKUP)
        return
    # an earlier root is read from the tiles, which is worth something only where they were found to be true
    believable = until == size or not any(finding.file.startswith("tile/") for finding in found.found)
    if until and believable:
        with found.reading(LOOKUP_FILE, DELETE_LOOKUP):
            if (signed if until == size else log.root(until)).hex() != root:
                found.false(LOOKUP_FILE, f"it was made for another root of size {until}", DELETE_LOOKUP)
    columns = ", ".join(COLUMNS)
    mine = rows.query(f"SELECT {columns} FROM entry WHERE id < ? ORDER BY id", (until,))  # noqa: S608
    theirs = iter(db.execute(f"SELECT {columns} FROM entry ORDER BY id"))  # noqa: S608
    entry, row = next(mine, None), next(theirs, None)
    while entry is not None or row is not None:
        index = (entry or row or (None,))[0]
        if row is None or (entry is not None and isinstance(row[0], int) and entry[0] < row[0]):
            found.false(LOOKUP_FILE, "the entry is missing from the index", DELETE_LOOKUP, index)
            entry = next(mine, None)
        elif entry is None or row[0] != entry[0]:
            # what could not be read now may have been when it was indexed
            if not lost or not isinstance(row[0], int) or not 0 <= row[0] < until:
                what = f"it has a row {row[0]!r} that is no entry's"
                found.false(LOOKUP_FILE, what, DELETE_LOOKUP)
            row = next(theirs, None)
        else:
            if row != entry:
                wrong = ", ".join(n for n, a, b in zip(COLUMNS, row, entry, strict=True) if a != b)
                found.false(LOOKUP_FILE, f"{wrong}: not what the entry says", DELETE_LOOKUP, index)
            entry, row = next(mine, None), next(theirs, None)
    if not lost:
        for index, reason in db.execute("SELECT id, reason FROM damaged LIMIT 1000"):
            what = f"it says that the entry is damaged ({reason}), which it is not"
            found.false(LOOKUP_FILE, what, DELETE_LOOKUP, index)
