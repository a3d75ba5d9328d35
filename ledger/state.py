"""The ledger's part of `state.db`: the author's chain, its draws and models, beside the log that store.py keeps there.

An entry is accepted in one transaction with the chain's next `seq` and `prev`. Uniqueness of (author key, chain, seq)
follows from the counter in `chain`, uniqueness of (author key, chain, draw) from the table `draw`.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from ..schemas.errors import SetupError
from .config import LAYOUT_VERSION
from .database import Database
from .store import LOG_DDL, STATE_FILE, Head, LogStore, insert_entries, insert_log

STATE_DDL = f"""{LOG_DDL};
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
        self._first = self._position
        self._rows: list[tuple[bytes, bytes]] = []
        self._draws: dict[int, int] = {}
        # draws mostly ascend: only those below the highest one need looking up
        highest: int | None = connection.execute("SELECT max(draw) FROM draw WHERE chain = ?", (self._id,)).fetchone()[
            0
        ]
        self._highest = -1 if highest is None else highest

    def next(self) -> ChainHead:
        """Header values of the next entry; its time is now, but never before its predecessor's."""
        now = max(time.time_ns() // 1000, self._time)
        return ChainHead(self._author, self._chain, self._seq, self._prev, now)

    def draw_used(self, draw: int) -> bool:
        """Whether an accepted generation of this chain has this draw."""
        if draw in self._draws:
            return True
        if draw > self._highest:
            return False
        row = self._db.execute("SELECT 1 FROM draw WHERE chain = ? AND draw = ?", (self._id, draw)).fetchone()
        return row is not None

    def add(self, head: ChainHead, leaf: bytes, leaf_hash: bytes, draw: int | None = None) -> int:
        """Take the signed entry that carries `head`; returns its index in the log. Written by `finish`."""
        position = self._position
        self._rows.append((leaf, leaf_hash))
        if draw is not None:
            self._draws[draw] = position
        self._position += 1
        self._seq, self._prev, self._time = head.seq + 1, leaf_hash, head.time
        return position

    @property
    def rows(self) -> list[tuple[bytes, bytes]]:
        """(leaf, hash) of what was taken so far."""
        return self._rows

    def add_model(self, name: str, digest: bytes, position: int) -> None:
        """Remember under which name and index a model was registered; a later registration of the name wins."""
        self._db.execute(
            "INSERT INTO model (name, digest, position) VALUES (?, ?, ?) "
            "ON CONFLICT (name) DO UPDATE SET digest = excluded.digest, position = excluded.position",
            (name, digest, position),
        )

    def finish(self, submission: int) -> None:
        """Write what was taken; everything up to this submission of the vault has been."""
        insert_entries(self._db, self._first, self._rows)
        self._db.executemany(
            "INSERT INTO draw (chain, draw, position) VALUES (?, ?, ?)",
            ((self._id, draw, position) for draw, position in self._draws.items()),
        )
        self._db.execute(
            "UPDATE chain SET seq = ?, prev = ?, time = ? WHERE id = ?", (self._seq, self._prev, self._time, self._id)
        )
        self._db.execute("UPDATE log SET accepted = ?, submission = ?", (self._position, submission))


class State(LogStore):
    """An open `state.db` of a ledger: its log and its own chain."""

    ddl: ClassVar[str] = STATE_DDL

    @classmethod
    def create(cls, path: Path, *, author: str, chain: bytes, head: Head, origin: str) -> State:
        """Make a new state.db with an empty chain and a signed head of size 0. Never done implicitly by `open`."""
        Database.create(path, ddl=STATE_DDL, version=LAYOUT_VERSION)
        state = cls(path)
        with state.db.transaction() as connection:
            insert_log(connection, head, origin)
            connection.execute(
                "INSERT INTO chain (id, author, chain, seq, prev, time, draw) VALUES (1, ?, ?, 0, ?, 0, 0)",
                (author, chain, bytes(32)),
            )
        return state

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

    def _chain(self, columns: str) -> Any:
        row = self.db.row(f"SELECT {columns} FROM chain WHERE id = 1")  # noqa: S608  (column names from this file)
        if row is None:
            raise SetupError(f"{self.db.path} holds no chain: it was not made by pd init")
        return row

    @property
    def chain(self) -> ChainHead:
        """The own chain as it stands now."""
        return ChainHead(*self._chain("author, chain, seq, prev, time"))

    @property
    def submission(self) -> int:
        """The vault's submissions up to this one are accepted."""
        return self._log("submission")[0]

    @property
    def reserved_draws(self) -> int:
        """Draws below this one are reserved."""
        return self._chain("draw")[0]

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


__all__ = ["STATE_DDL", "STATE_FILE", "Acceptance", "ChainHead", "Head", "ModelRow", "State"]
