"""The ledger's part of `state.db`: the author's chain, its draws and models, beside the log that store.py keeps there.

An entry is accepted in one transaction with the chain's next `seq` and `prev`. Uniqueness of (author key, chain, seq)
follows from the counter in `chain`, uniqueness of (author key, chain, draw) from the table `draw`.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

from ...schemas.errors import SetupError
from ..config import LAYOUT_VERSION
from . import pieces
from .database import LARGE_PAGES, Database
from .store import LOG_DDL, STATE_FILE, Head, LogStore, another_writer, insert_log

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
) STRICT;
CREATE TABLE epoch (
    id INTEGER PRIMARY KEY,
    chain INTEGER NOT NULL REFERENCES chain (id),
    first_draw INTEGER NOT NULL,
    count INTEGER NOT NULL,
    root BLOB NOT NULL,
    position INTEGER NOT NULL,          -- of its entry
    taken INTEGER NOT NULL              -- draws given out, counted from the first: each at most once
) STRICT
"""


DRAW_BLOCK = 1024
"""Draws are reserved in whole blocks of so many."""


def whole_blocks(count: int) -> int:
    """`count` rounded up to whole blocks of draws."""
    return -(-count // DRAW_BLOCK) * DRAW_BLOCK


@dataclass(frozen=True, slots=True)
class ChainHead:
    """Where a chain goes on: the next `seq`, its `prev`, and the earliest time the next entry may carry (µs)."""

    author: str
    chain: bytes
    seq: int
    prev: bytes
    time: int


@dataclass(frozen=True, slots=True)
class OwnChain:
    """A chain of this directory, in the order in which the author's keys followed each other.

    Its draws are [first_draw, end_draw): every draw belongs to one chain, whenever its entry is accepted.
    """

    id: int
    head: ChainHead
    first_draw: int
    end_draw: int


@dataclass(frozen=True, slots=True)
class ModelRow:
    """A registered model: the name used here, its digest, the index of its `model:v1` entry."""

    name: str
    digest: bytes
    position: int


@dataclass(frozen=True, slots=True)
class EpochRow:
    """A published seed epoch of an own chain: its draws, its root, its entry's index, and how many draws were taken."""

    id: int
    chain: int
    first_draw: int
    count: int
    root: bytes
    position: int
    taken: int

    @property
    def left(self) -> int:
        """Draws that were not given out yet."""
        return self.count - self.taken


@dataclass(frozen=True, slots=True)
class Adopted:
    """An entry of an own chain (by id) taken from a copy of the log: `time` in µs, `model` (name, digest) if any."""

    chain: int
    leaf: bytes
    hash: bytes
    seq: int
    time: int
    draw: int | None
    model: tuple[str, bytes] | None


class RolledBack(SetupError):  # noqa: N818  (named by what happened)
    """`state.db` does not know a head that was signed or cosigned; nothing may be signed from it."""

    def __init__(self, what: str, folder: Path, remedy: str | None = None) -> None:
        """`what` was found newer than state.db, as the beginning of a sentence; `remedy` where it is no ledger's."""
        remedy = remedy or (
            f"Nothing is signed; what is recorded waits in vault.db. To go on, close the ledger and run: pd recover "
            f"{folder} --from COPY (a mirror's address or a newer copy of public/; without --from its own public/). "
            "Without any copy of the missing entries this log has ended: start a new one with pd init"
        )
        super().__init__(
            f"{what}: this directory was restored from a backup or copied, and signing on would fork the log. {remedy}"
        )


class Acceptance:
    """One transaction that takes submissions into the own chains; nothing of it is visible before it commits."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection
        self._chains = _read_chains(connection.execute(_CHAINS).fetchall())
        if not self._chains:
            raise SetupError("state.db has no chain: it was not made by pd init")
        self._changed: set[int] = set()
        self._position: int = connection.execute("SELECT accepted FROM log").fetchone()[0]
        self._first = self._position
        self._rows: list[tuple[bytes, bytes]] = []
        self._draws: dict[int, tuple[int, int]] = {}
        # draws mostly ascend: only those below the highest one need looking up
        highest = [
            connection.execute("SELECT max(draw) FROM draw WHERE chain = ?", (chain.id,)).fetchone()[0]
            for chain in self._chains
        ]
        self._highest = max((draw for draw in highest if draw is not None), default=-1)

    @property
    def authors(self) -> tuple[str, ...]:
        """The authors of the own chains, each once, oldest first; the last one's is the chain that goes on."""
        return tuple(dict.fromkeys(chain.head.author for chain in self._chains))

    def next(self, draw: int | None = None, author: str | None = None) -> ChainHead:
        """Header values of the next entry; its time is now, but never before its predecessor's.

        The chain is the one `draw` was reserved for, or the newest of `author`, or the newest of all.
        """
        head = self._chains[self._place(draw, author)].head
        return replace(head, time=max(time.time_ns() // 1000, head.time))

    def _place(self, draw: int | None, author: str | None) -> int:
        last = len(self._chains) - 1
        if draw is not None:
            return next((n for n, chain in enumerate(self._chains) if draw < chain.end_draw), last)
        if author is not None:
            found = [n for n, chain in enumerate(self._chains) if chain.head.author == author]
            if not found:
                raise SetupError(f"no chain of this ledger is signed by {author}")
            return found[-1]
        return last

    def index_of_draw(self, draw: int) -> int | None:
        """The index of the accepted generation of this ledger that has this draw."""
        if draw in self._draws:
            return self._draws[draw][1]
        return _draw_position(self._db.execute, draw) if draw <= self._highest else None

    def leaf(self, position: int) -> bytes | None:
        """An accepted entry, if it is still kept here."""
        if position >= self._first:
            return self._rows[position - self._first][0]
        kept = self._db.execute("SELECT min(position) FROM piece").fetchone()[0]
        return None if kept is None or position < kept else pieces.read(self._db, position, position + 1)[0][0]

    def model(self, name: str) -> tuple[bytes, int] | None:
        """(digest, index) of the model registered under this name."""
        return self._db.execute("SELECT digest, position FROM model WHERE name = ?", (name,)).fetchone()

    def add(self, head: ChainHead, leaf: bytes, leaf_hash: bytes, draw: int | None = None) -> int:
        """Take the signed entry that carries `head`; returns its index in the log. Written by `finish`."""
        position = self._position
        place = next(
            n for n, own in enumerate(self._chains) if (own.head.author, own.head.chain) == (head.author, head.chain)
        )
        chain = self._chains[place]
        self._rows.append((leaf, leaf_hash))
        if draw is not None:
            self._draws[draw] = (chain.id, position)
        self._position += 1
        self._chains[place] = replace(chain, head=replace(head, seq=head.seq + 1, prev=leaf_hash))
        self._changed.add(place)
        return position

    @property
    def rows(self) -> list[tuple[bytes, bytes]]:
        """(leaf, hash) of what was taken so far."""
        return self._rows

    def rotate(self, author: str) -> None:
        """Begin a new chain under `author`: it takes over the draws that are not reserved yet."""
        last = self._chains[-1]
        head = ChainHead(author, os.urandom(16), 0, bytes(32), last.head.time)
        number: int = self._db.execute(
            "INSERT INTO chain (author, chain, seq, prev, time, draw) VALUES (?, ?, ?, ?, ?, ?) RETURNING id",
            (author, head.chain, 0, head.prev, head.time, last.end_draw),
        ).fetchone()[0]
        self._chains.append(OwnChain(number, head, last.end_draw, last.end_draw))

    def add_epoch(self, head: ChainHead, first_draw: int, count: int, root: bytes, position: int) -> None:
        """Remember an epoch of the chain that `head` is of; from now on its draws can be taken."""
        number = next(own.id for own in self._chains if (own.head.author, own.head.chain) == (head.author, head.chain))
        self._db.execute(
            "INSERT INTO epoch (chain, first_draw, count, root, position, taken) VALUES (?, ?, ?, ?, ?, 0)",
            (number, first_draw, count, root, position),
        )

    def add_model(self, name: str, digest: bytes, position: int) -> None:
        """Remember under which name and index a model was registered; a later registration of the name wins."""
        self._db.execute(
            "INSERT INTO model (name, digest, position) VALUES (?, ?, ?) "
            "ON CONFLICT (name) DO UPDATE SET digest = excluded.digest, position = excluded.position",
            (name, digest, position),
        )

    def finish(self, submission: int) -> None:
        """Write what was taken; everything up to this submission of the vault has been."""
        pieces.insert(self._db, self._first, self._rows)
        self._db.executemany(
            "INSERT INTO draw (chain, draw, position) VALUES (?, ?, ?)",
            ((chain, draw, position) for draw, (chain, position) in self._draws.items()),
        )
        for place in self._changed:
            chain = self._chains[place]
            self._db.execute(
                "UPDATE chain SET seq = ?, prev = ?, time = ? WHERE id = ?",
                (chain.head.seq, chain.head.prev, chain.head.time, chain.id),
            )
        self._db.execute("UPDATE log SET accepted = ?, submission = ?", (self._position, submission))


class State(LogStore):
    """An open `state.db` of a ledger: its log and its own chain."""

    ddl: ClassVar[str] = STATE_DDL

    def __init__(self, path: Path, *, readonly: bool = False) -> None:
        super().__init__(path, readonly=readonly)
        if not readonly and not self._has_epochs():
            with self.db.transaction() as connection:  # made before there were epochs
                connection.execute("CREATE TABLE" + STATE_DDL.rsplit("CREATE TABLE", 1)[1])

    def _has_epochs(self) -> bool:
        return self._has_table("epoch")

    @classmethod
    def create(cls, path: Path, *, author: str, chain: bytes, head: Head, origin: str) -> State:
        """Make a new state.db with an empty chain and a signed head of size 0. Never done implicitly by `open`."""
        Database.create(path, ddl=STATE_DDL, version=LAYOUT_VERSION, page_bytes=LARGE_PAGES)
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

    def accept_first(self, leaf: bytes, leaf_hash: bytes) -> None:
        """Accept a leaf that is no author's entry as entry 0 of a new log (succession.py)."""
        with self.db.transaction() as connection:
            if connection.execute("SELECT accepted FROM log").fetchone()[0]:
                raise SetupError(f"{self.db.path} has entries already")
            pieces.insert(connection, 0, [(leaf, leaf_hash)])
            connection.execute("UPDATE log SET accepted = 1")

    def reserve_draws(self, count: int) -> int:
        """Reserve `count` draws of the newest chain durably; returns the first. Reserved and unused ones are gaps."""
        with self.db.transaction() as connection:
            number, first = connection.execute("SELECT id, draw FROM chain ORDER BY id DESC LIMIT 1").fetchone()
            connection.execute("UPDATE chain SET draw = ? WHERE id = ?", (first + count, number))
            return first

    def skip_draws(self, count: int) -> None:
        """Leave a gap of at least `count` draws after the last accepted one: a newer state may have given them out.

        Epochs count as used up.
        """
        with self.db.transaction() as connection:
            connection.execute("UPDATE epoch SET taken = count")
            number, used = connection.execute("SELECT max(id), (SELECT max(draw) FROM draw) FROM chain").fetchone()
            first = whole_blocks((-1 if used is None else used) + 1 + count)
            connection.execute("UPDATE chain SET draw = ? WHERE id = ? AND draw < ?", (first, number, first))

    def adopt(self, old: Head, new: Head, entries: Sequence[Adopted], submission: int) -> None:
        """Put `entries` in the place of everything above the signed head `old`; `new` is their signed head.

        The vault's submissions above `submission` are taken again. By compare-and-set, like `sign_head`.
        """
        with self.db.transaction() as connection:
            cursor = connection.execute(
                "UPDATE log SET size = ?, root = ?, note = ?, accepted = ?, submission = ? WHERE size = ? AND root = ?",
                (new.size, new.root, new.note, new.size, submission, old.size, old.root),
            )
            if cursor.rowcount != 1:
                raise another_writer()
            pieces.cut(connection, old.size)
            for table in ("draw", "model"):
                connection.execute(f"DELETE FROM {table} WHERE position >= ?", (old.size,))  # noqa: S608  (from above)
            pieces.insert(connection, old.size, [(item.leaf, item.hash) for item in entries])
            for position, item in enumerate(entries, old.size):
                draw = -1 if item.draw is None else item.draw
                connection.execute(
                    "UPDATE chain SET seq = ?, prev = ?, time = ?, draw = max(draw, ?) WHERE id = ?",
                    (item.seq + 1, item.hash, item.time, whole_blocks(draw + 1), item.chain),
                )
                if item.draw is not None:
                    connection.execute("INSERT INTO draw VALUES (?, ?, ?)", (item.chain, item.draw, position))
                if item.model is not None:
                    connection.execute("INSERT OR REPLACE INTO model VALUES (?, ?, ?)", (*item.model, position))

    def _chain(self, columns: str) -> Any:
        query = f"SELECT {columns} FROM chain ORDER BY id DESC LIMIT 1"  # noqa: S608  (column names from this file)
        row = self.db.row(query)
        if row is None:
            raise SetupError(f"{self.db.path} holds no chain: it was not made by pd init")
        return row

    @property
    def chain(self) -> ChainHead:
        """The newest own chain as it stands now: the one that goes on."""
        return ChainHead(*self._chain("author, chain, seq, prev, time"))

    @property
    def chain_id(self) -> int:
        """Which of the own chains is the newest; changes with a rotation of the author's key."""
        return self._chain("id")[0]

    def chains(self) -> list[OwnChain]:
        """The own chains, oldest first."""
        return _read_chains(self.db.rows(_CHAINS))

    @property
    def submission(self) -> int:
        """The vault's submissions up to this one are accepted."""
        return self._log("submission")[0]

    @property
    def reserved_draws(self) -> int:
        """Draws below this one are reserved."""
        return self._chain("draw")[0]

    def draws(self) -> Iterator[tuple[int, int, int]]:
        """(chain's id, draw, index) of every accepted generation of the own chains, in the order of chain and draw."""
        last = (-1, -1)
        while rows := self.db.rows(
            "SELECT chain, draw, position FROM draw WHERE (chain, draw) > (?, ?) ORDER BY chain, draw LIMIT 1024", last
        ):
            yield from rows
            last = rows[-1][:2]

    def index_of_draw(self, draw: int) -> int | None:
        """The index of the own generation with this draw, if it was accepted."""
        return _draw_position(self.db.rows, draw)

    def epochs(self) -> list[EpochRow]:
        """All own seed epochs, oldest first."""
        if not self._has_epochs():
            return []
        query = "SELECT id, chain, first_draw, count, root, position, taken FROM epoch ORDER BY id"
        return [EpochRow(*row) for row in self.db.rows(query)]

    def take_epoch_draws(self, number: int, count: int) -> int | None:
        """Give out `count` draws of an epoch durably; the first of them, or None if it has not so many left."""
        with self.db.transaction() as connection:
            row = connection.execute(
                "UPDATE epoch SET taken = taken + ? WHERE id = ? AND taken + ? <= count RETURNING first_draw + taken",
                (count, number, count),
            ).fetchone()
            return None if row is None else row[0] - count

    def models(self) -> list[ModelRow]:
        """All registered models by name."""
        return [ModelRow(*row) for row in self.db.rows("SELECT name, digest, position FROM model ORDER BY name")]


_CHAINS = "SELECT id, author, chain, seq, prev, time, draw FROM chain ORDER BY id"


def _read_chains(rows: Sequence[Any]) -> list[OwnChain]:
    found: list[OwnChain] = []
    for number, author, chain, seq, prev, moment, draw in rows:
        # a chain reserves only while it is the newest: where the one before it stopped, its own draws begin
        first = found[-1].end_draw if found else 0
        found.append(OwnChain(number, ChainHead(author, chain, seq, prev, moment), first, draw))
    return found


def _draw_position(query: Callable[[str, tuple[int]], Iterable[Any]], draw: int) -> int | None:
    """Draws are numbered through all chains of a directory, so the chain need not be known."""
    rows = query("SELECT position FROM draw WHERE chain IN (SELECT id FROM chain) AND draw = ?", (draw,))
    return next((row[0] for row in rows), None)


__all__ = [
    "STATE_DDL",
    "STATE_FILE",
    "Acceptance",
    "Adopted",
    "ChainHead",
    "EpochRow",
    "Head",
    "ModelRow",
    "OwnChain",
    "RolledBack",
    "State",
]
