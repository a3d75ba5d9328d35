"""`state.db`: what must be atomic: chains, accepted entries not yet safe in files, the one head that was signed last.

Trusted for not signing twice: the head moves only by compare-and-set on (size, root), in the transaction that makes it
durable *before* anybody sees it. A restored backup of this file could fork the log, so the sequencer hears from the
witnesses before it signs (sequencer.py).

Entries stay here from acceptance until their whole bundle is on the disk (`synced_size`); after that the bundle is the
only copy and this file stays small. Uniqueness of (author key, chain, seq) follows from the counter in `chain`,
uniqueness of (author key, chain, draw) from the table `draw`.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..schemas.errors import SetupError
from .config import LAYOUT_VERSION
from .database import Database
from .disk import StorageBroken

STATE_FILE = "state.db"

STATE_DDL = """
CREATE TABLE log (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    origin TEXT NOT NULL,
    size INTEGER NOT NULL,              -- the last head that was signed: never goes back
    root BLOB NOT NULL,
    note BLOB NOT NULL,
    cosigned_size INTEGER NOT NULL,     -- the last head that met the quorum
    cosigned_note BLOB NOT NULL,
    synced_size INTEGER NOT NULL,       -- tiles and bundles up to here are on the disk
    accepted INTEGER NOT NULL,          -- number of accepted entries
    submission INTEGER NOT NULL         -- the vault's submissions up to this one are accepted
) STRICT;
CREATE TABLE chain (
    id INTEGER PRIMARY KEY,
    author TEXT NOT NULL,
    chain BLOB NOT NULL,
    seq INTEGER NOT NULL,               -- of the next entry
    prev BLOB NOT NULL,                 -- leaf hash of the last one, zeros before the first
    time INTEGER NOT NULL,              -- of the last one, microseconds since 1970
    draw INTEGER NOT NULL,              -- draws below this one are reserved
    UNIQUE (author, chain)
) STRICT;
CREATE TABLE entry (
    position INTEGER PRIMARY KEY,
    leaf BLOB NOT NULL,
    hash BLOB NOT NULL
) STRICT;
CREATE TABLE draw (
    chain INTEGER NOT NULL REFERENCES chain (id),
    draw INTEGER NOT NULL,
    position INTEGER NOT NULL,
    PRIMARY KEY (chain, draw)
) STRICT, WITHOUT ROWID;
CREATE TABLE model (
    name TEXT PRIMARY KEY,
    digest BLOB NOT NULL,
    position INTEGER NOT NULL
) STRICT
"""


@dataclass(frozen=True, slots=True)
class Head:
    """A signed tree head: size, root (32 bytes) and the note's bytes."""

    size: int
    root: bytes
    note: bytes


@dataclass(frozen=True, slots=True)
class ChainHead:
    """Where a chain goes on: the next `seq`, its `prev`, and the earliest time the next entry may carry (µs)."""

    author: str
    chain: bytes
    seq: int
    prev: bytes
    time: int


@dataclass(frozen=True, slots=True)
class ModelRow:
    """A registered model: the name used here, its digest, the index of its `model:v1` entry."""

    name: str
    digest: bytes
    position: int


class Acceptance:
    """One transaction that takes submissions into the own chain; nothing of it is visible before it commits."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection
        row = connection.execute("SELECT id, author, chain, seq, prev, time FROM chain WHERE id = 1").fetchone()
        if row is None:
            raise SetupError("state.db has no chain: it was not made by pd init")
        self._id, self._author, self._chain, self._seq, self._prev, self._time = row
        self._position: int = connection.execute("SELECT accepted FROM log").fetchone()[0]

    def next(self) -> ChainHead:
        """Header values of the next entry; its time is now, but never before its predecessor's."""
        now = max(time.time_ns() // 1000, self._time)
        return ChainHead(self._author, self._chain, self._seq, self._prev, now)

    def draw_used(self, draw: int) -> bool:
        """Whether an accepted generation of this chain has this draw."""
        row = self._db.execute("SELECT 1 FROM draw WHERE chain = ? AND draw = ?", (self._id, draw)).fetchone()
        return row is not None

    def add(self, head: ChainHead, leaf: bytes, leaf_hash: bytes, draw: int | None = None) -> int:
        """Take the signed entry that carries `head`; returns its index in the log."""
        position = self._position
        self._db.execute("INSERT INTO entry (position, leaf, hash) VALUES (?, ?, ?)", (position, leaf, leaf_hash))
        if draw is not None:
            self._db.execute("INSERT INTO draw (chain, draw, position) VALUES (?, ?, ?)", (self._id, draw, position))
        self._position += 1
        self._seq, self._prev, self._time = head.seq + 1, leaf_hash, head.time
        return position

    def add_model(self, name: str, digest: bytes, position: int) -> None:
        """Remember under which name and index a model was registered; a later registration of the name wins."""
        self._db.execute(
            "INSERT INTO model (name, digest, position) VALUES (?, ?, ?) "
            "ON CONFLICT (name) DO UPDATE SET digest = excluded.digest, position = excluded.position",
            (name, digest, position),
        )

    def finish(self, submission: int) -> None:
        """Everything up to this submission of the vault has been taken."""
        self._db.execute(
            "UPDATE chain SET seq = ?, prev = ?, time = ? WHERE id = ?", (self._seq, self._prev, self._time, self._id)
        )
        self._db.execute("UPDATE log SET accepted = ?, submission = ?", (self._position, submission))


class State:
    """An open `state.db`. Calls are serialised by an internal lock; one process at a time may sequence (lock.py)."""

    def __init__(self, path: Path, *, readonly: bool = False) -> None:
        self.db = Database(path, ddl=STATE_DDL, version=LAYOUT_VERSION, readonly=readonly)

    @classmethod
    def create(cls, path: Path, *, author: str, chain: bytes, head: Head, origin: str) -> State:
        """Make a new state.db with an empty chain and a signed head of size 0. Never done implicitly by `open`."""
        Database.create(path, ddl=STATE_DDL, version=LAYOUT_VERSION)
        state = cls(path)
        with state.db.transaction() as connection:
            connection.execute(
                "INSERT INTO log (id, origin, size, root, note, cosigned_size, cosigned_note, synced_size, accepted, "
                "submission) VALUES (1, ?, ?, ?, ?, 0, ?, 0, 0, 0)",
                (origin, head.size, head.root, head.note, b""),
            )
            connection.execute(
                "INSERT INTO chain (id, author, chain, seq, prev, time, draw) VALUES (1, ?, ?, 0, ?, 0, 0)",
                (author, chain, bytes(32)),
            )
        return state

    def close(self) -> None:
        """Close the database."""
        self.db.close()

    @contextmanager
    def accepting(self) -> Generator[Acceptance, None, None]:
        """A transaction that accepts entries; committed at the end of the block, else nothing of it happened."""
        with self.db.transaction() as connection:
            yield Acceptance(connection)

    def reserve_draws(self, count: int) -> int:
        """Reserve `count` draws of the own chain durably; returns the first. Reserved and unused ones are gaps."""
        with self.db.transaction() as connection:
            first: int = connection.execute("SELECT draw FROM chain WHERE id = 1").fetchone()[0]
            connection.execute("UPDATE chain SET draw = ? WHERE id = 1", (first + count,))
            return first

    def sign_head(self, old: Head, new: Head) -> None:
        """Make `new` the signed head if `old` still is; else `StorageBroken`, since somebody else signs this log."""
        with self.db.transaction() as connection:
            cursor = connection.execute(
                "UPDATE log SET size = ?, root = ?, note = ? WHERE size = ? AND root = ? AND accepted >= ?",
                (new.size, new.root, new.note, old.size, old.root, new.size),
            )
            if cursor.rowcount != 1:
                raise StorageBroken(
                    "state.db's head is not the one this writer signed last: another writer signs this log, stopping"
                )

    def set_cosigned(self, size: int, note: bytes) -> None:
        """Keep the last note that met the quorum; never goes back."""
        with self.db.transaction() as connection:
            connection.execute(
                "UPDATE log SET cosigned_size = ?, cosigned_note = ? WHERE cosigned_size <= ?", (size, note, size)
            )

    def set_synced(self, size: int) -> None:
        """Files up to `size` are on the disk: entries of whole bundles below it need not be kept here any more."""
        with self.db.transaction() as connection:
            connection.execute("UPDATE log SET synced_size = ? WHERE synced_size <= ?", (size, size))
            connection.execute("DELETE FROM entry WHERE position < ?", (size // 256 * 256,))

    def _log(self, columns: str) -> Any:
        row = self.db.row(f"SELECT {columns} FROM log")  # noqa: S608  (column names from this file)
        if row is None:
            raise SetupError(f"{self.db.path} holds no log: it was not made by pd init")
        return row

    def _chain(self, columns: str) -> Any:
        row = self.db.row(f"SELECT {columns} FROM chain WHERE id = 1")  # noqa: S608  (column names from this file)
        if row is None:
            raise SetupError(f"{self.db.path} holds no chain: it was not made by pd init")
        return row

    @property
    def origin(self) -> str:
        """The log's origin as it was created."""
        return self._log("origin")[0]

    @property
    def chain(self) -> ChainHead:
        """The own chain as it stands now."""
        return ChainHead(*self._chain("author, chain, seq, prev, time"))

    @property
    def head(self) -> Head:
        """The last signed head."""
        return Head(*self._log("size, root, note"))

    @property
    def cosigned(self) -> tuple[int, bytes]:
        """Size and note of the last head that met the quorum; (0, b"") before the first."""
        return self._log("cosigned_size, cosigned_note")

    @property
    def synced_size(self) -> int:
        """Tiles and bundles up to here are on the disk."""
        return self._log("synced_size")[0]

    @property
    def accepted(self) -> int:
        """Number of accepted entries."""
        return self._log("accepted")[0]

    @property
    def submission(self) -> int:
        """The vault's submissions up to this one are accepted."""
        return self._log("submission")[0]

    @property
    def reserved_draws(self) -> int:
        """Draws below this one are reserved."""
        return self._chain("draw")[0]

    def entries(self, start: int, end: int) -> list[tuple[bytes, bytes]]:
        """(leaf, hash) of the accepted entries [start, end); `SetupError` if one of them is no longer kept here."""
        rows = self.db.rows(
            "SELECT leaf, hash FROM entry WHERE position >= ? AND position < ? ORDER BY position", (start, end)
        )
        if len(rows) != end - start:
            raise SetupError(f"state.db does not hold all of the entries {start} to {end - 1}")
        return rows

    def kept(self) -> tuple[int, int]:
        """[first, end) of the accepted entries that are kept here; end is `accepted`, whatever is kept."""
        accepted = self.accepted
        row = self.db.row("SELECT min(position), max(position), count(*) FROM entry")
        if row[2] == 0:
            return accepted, accepted
        if row[1] != accepted - 1 or row[2] != accepted - row[0]:
            raise SetupError(
                f"state.db has accepted {accepted} entries and keeps {row[2]} of them, from {row[0]} to {row[1]}"
            )
        return row[0], accepted

    def draws(self) -> Iterator[tuple[int, int]]:
        """(draw, index) of every accepted generation of the own chain, in the order of the draws."""
        last = -1
        while rows := self.db.rows(
            "SELECT draw, position FROM draw WHERE chain = 1 AND draw > ? ORDER BY draw LIMIT 1024", (last,)
        ):
            yield from rows
            last = rows[-1][0]

    def index_of_draw(self, draw: int) -> int | None:
        """The index of the own generation with this draw, if it was accepted."""
        row = self.db.row("SELECT position FROM draw WHERE chain = 1 AND draw = ?", (draw,))
        return None if row is None else row[0]

    def models(self) -> list[ModelRow]:
        """All registered models by name."""
        return [ModelRow(*row) for row in self.db.rows("SELECT name, digest, position FROM model ORDER BY name")]
