"""Accepted entries in `state.db`: one row for all entries of a bundle that one commit brought.

A row holds them as they will stand in the bundle (tiles.py), so a batch of 1,000 entries is five rows, and forgetting a
flushed bundle is forgetting a few. No row crosses the end of a bundle.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from ...schemas.errors import EvidenceError, SetupError
from ..merkle.tiles import WIDTH, decode_bundle, encode_bundle
from ..merkle.tree import HASH_SIZE

if TYPE_CHECKING:
    from .database import Database

Row = tuple[bytes, bytes]
"""(leaf, leaf hash)."""


class PieceDamaged(SetupError):  # noqa: N818  (named by what happened)
    """What state.db keeps are not entries with their hashes."""


PIECES_DDL = """
CREATE TABLE piece (
    position INTEGER PRIMARY KEY,       -- of its first entry
    count INTEGER NOT NULL,             -- 1 to 256
    leaves BLOB NOT NULL,               -- each after its u16 length
    hashes BLOB NOT NULL                -- the leaf hashes
) STRICT
"""


def insert(connection: sqlite3.Connection, first: int, rows: Sequence[Row]) -> None:
    """Rows from position `first` on; whoever calls moves `accepted` in the same transaction."""
    pieces: list[tuple[int, int, bytes, bytes]] = []
    start = 0
    while start < len(rows):
        position = first + start
        part = rows[start : start + WIDTH - position % WIDTH]
        leaves, hashes = zip(*part, strict=True)
        pieces.append((position, len(part), encode_bundle(leaves), b"".join(hashes)))
        start += len(part)
    connection.executemany("INSERT INTO piece (position, count, leaves, hashes) VALUES (?, ?, ?, ?)", pieces)


def read(database: Database | sqlite3.Connection, start: int, end: int) -> list[Row]:
    """The entries [start, end); `SetupError` if one of them is not kept (any more) or a piece is no piece."""
    query = "SELECT position, count, leaves, hashes FROM piece WHERE position > ? AND position < ? ORDER BY position"
    values = (start - WIDTH, end)
    if isinstance(database, sqlite3.Connection):
        found = cast("list[tuple[int, int, bytes, bytes]]", database.execute(query, values).fetchall())
    else:
        found = cast("list[tuple[int, int, bytes, bytes]]", database.rows(query, values))
    rows: list[Row] = []
    place = start
    for position, count, leaves, hashes in found:
        if position + count <= start:
            continue
        if position > place:
            break
        rows += _decode(position, count, leaves, hashes)[place - position : end - position]
        place = position + count
    if len(rows) != max(0, end - start):
        raise SetupError(f"state.db does not hold all of the entries {start} to {end - 1}")
    return rows


def forget(connection: sqlite3.Connection, end: int) -> None:
    """Entries of whole bundles below `end` are in files on the disk now."""
    connection.execute("DELETE FROM piece WHERE position < ?", (end // WIDTH * WIDTH,))


def cut(connection: sqlite3.Connection, end: int) -> None:
    """Drop every entry from `end` on."""
    connection.execute("DELETE FROM piece WHERE position >= ?", (end,))
    last = connection.execute("SELECT position, count FROM piece ORDER BY position DESC LIMIT 1").fetchone()
    if last is not None and last[0] + last[1] > end:
        kept = read(connection, last[0], end)
        connection.execute("DELETE FROM piece WHERE position = ?", (last[0],))
        insert(connection, last[0], kept)


def span(database: Database, accepted: int) -> tuple[int, int]:
    """[first, accepted) of the entries kept here; `SetupError` unless they are without a gap the last ones."""
    row = database.row("SELECT min(position), max(position + count), sum(count) FROM piece")
    if row[0] is None:
        return accepted, accepted
    if row[1] != accepted or row[2] != accepted - row[0]:
        raise SetupError(
            f"state.db has accepted {accepted} entries and keeps {row[2]} of them, from {row[0]} to {row[1] - 1}"
        )
    return row[0], accepted


def upgrade(connection: sqlite3.Connection) -> None:
    """From one row an entry, as it was before, within the caller's transaction."""
    first = connection.execute("SELECT min(position) FROM entry").fetchone()[0]
    rows = connection.execute("SELECT leaf, hash FROM entry ORDER BY position").fetchall()
    connection.execute(PIECES_DDL)
    insert(connection, first or 0, rows)
    connection.execute("DROP TABLE entry")


def _decode(position: int, count: int, leaves: bytes, hashes: bytes) -> list[Row]:
    try:
        found = decode_bundle(leaves, count)
    except EvidenceError as error:
        raise PieceDamaged(
            f"state.db is damaged: the entries kept from {position} on are not readable: {error}"
        ) from None
    if len(hashes) != count * HASH_SIZE or position % WIDTH + count > WIDTH:
        raise PieceDamaged(
            f"state.db is damaged: the entries kept from {position} on are not {count} with their hashes"
        )
    return [(leaf, hashes[place * HASH_SIZE : (place + 1) * HASH_SIZE]) for place, leaf in enumerate(found)]
