"""That nothing of what was erased stands in `vault.db` any more, in pages that are in use or in those that are not.

SQLite overwrites what it frees (`secure_delete`), but moves rows between pages without wiping where they stood, and its
write-ahead log keeps the old ones until it is emptied. So the file is searched for what must be gone, and rewritten if
that is found.
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from ..storage.database import BUSY_MS, Database
from ..storage.disk import storage

_log = logging.getLogger("plausible.ledger")

_PIECE, _PAGE, _CHUNK = 32, 4096, 1 << 20
_FOLD_MS = 500
_raw: dict[tuple[int, int], int] = {}
"""Vault files that were searched, kept open: to close one would drop the locks SQLite holds on it in this process."""


def wiped(db: Database, pieces: Sequence[bytes], *, sealed: bool) -> bool:
    """Wipe what was deleted; False if one of `pieces` still stands somewhere, or a reader keeps old bytes in use."""
    if sealed and fold(db) and not stands(db.path, pieces):
        return True
    db.command("VACUUM")
    return fold(db) and not stands(db.path, pieces)


def fold(db: Database) -> bool:
    """Empty the write-ahead log, where deleted bytes still stand; False if a reader kept it from being emptied."""
    # a reader is waited for, but not as long as a writer would be
    db.command(f"PRAGMA busy_timeout = {_FOLD_MS}")
    try:
        if db.rows("PRAGMA wal_checkpoint(TRUNCATE)")[0][0] == 0:
            return True
    finally:
        db.command(f"PRAGMA busy_timeout = {BUSY_MS}")
    _log.warning("%s-wal is in use and keeps what was deleted until its last user closes it", db.path)
    return False


def pieces_of(connection: sqlite3.Connection, number: int, *, sealed: bool) -> list[bytes]:
    """What must not be found in the file any more: secret or key, and of a sealed record the part beside it."""
    row = connection.execute("SELECT secret, record FROM submission WHERE id = ?", (number,)).fetchone()
    if row is None:
        return []
    secret, record = row
    pieces: list[bytes] = [] if secret is None else [secret]
    if sealed:
        found = connection.execute("SELECT wrapped FROM record_key WHERE submission = ?", (number,)).fetchone()
        pieces += [] if found is None else [found[0]]
    if sealed and record is not None:
        # the rest lies in overflow pages, which SQLite never moves and wipes when they are freed. Records in the clear
        # resemble each other: there only the secret is telling
        pieces += [record[start : start + _PIECE] for start in range(0, min(len(record), _PAGE), _PAGE // 8)]
    return [piece for piece in pieces if len(piece) >= _PIECE // 2]


def stands(path: Path, pieces: Sequence[bytes]) -> bool:
    """Whether one of these pieces stands anywhere in the file, in use or not."""
    if not pieces:
        return False
    found = path.stat()
    descriptor = _raw.get((found.st_dev, found.st_ino))
    if descriptor is None:
        descriptor = _raw[found.st_dev, found.st_ino] = os.open(path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    overlap, position, tail = max(map(len, pieces)) - 1, 0, b""
    with storage(f"reading {path}"):
        while chunk := os.pread(descriptor, _CHUNK, position):
            data = tail + chunk
            if any(piece in data for piece in pieces):
                return True
            tail, position = data[len(data) - overlap :], position + len(chunk)
    return False
