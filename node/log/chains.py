"""`state.db` of a log with many authors: each author's chains, beside the log that `LogStore` keeps in the same file.

An entry is taken only as the next one of its chain: `seq` follows, `prev` is the hash of the one before, its time is
not earlier, its draw was not used. An entry that was taken before is met again with its index; anything else at a known
`seq`, or beyond the next one, is out of step, and the answer is where the chain stands. Entries and the chains they
move are one transaction with their places in the log.

Trusted for: not giving an index twice, and not taking two entries for one place of a chain. It can be made again from
the log's own entries; a thief of it learns nothing that the log does not serve.
"""

from __future__ import annotations

import copy
import sqlite3
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

from ...ledger.config import LAYOUT_VERSION
from ...ledger.entries.entry import parse_entry
from ...ledger.keys.keyhistory import KeyHistory
from ...ledger.storage import pieces
from ...ledger.storage.database import Database
from ...ledger.storage.store import LOG_DDL, Head, LogStore, insert_log
from .admission import Candidate

CHAINS_DDL = f"""{LOG_DDL};
CREATE TABLE chain (
    id INTEGER PRIMARY KEY,
    author TEXT NOT NULL,
    chain BLOB NOT NULL,
    seq INTEGER NOT NULL,               -- of the last entry
    leaf BLOB NOT NULL,                 -- its leaf hash: the next one's prev
    time TEXT NOT NULL,                 -- its time
    UNIQUE (author, chain)
) STRICT;
CREATE TABLE place (
    chain INTEGER NOT NULL REFERENCES chain (id),
    seq INTEGER NOT NULL,
    position INTEGER NOT NULL,          -- in the log
    PRIMARY KEY (chain, seq)
) STRICT, WITHOUT ROWID;
CREATE TABLE draw (
    chain INTEGER NOT NULL REFERENCES chain (id),
    draw INTEGER NOT NULL,
    PRIMARY KEY (chain, draw)
) STRICT, WITHOUT ROWID;
CREATE TABLE key_entry (
    position INTEGER PRIMARY KEY,       -- of an entry about a key; there are few
    leaf BLOB NOT NULL
) STRICT
"""


@dataclass(frozen=True, slots=True)
class Taken:
    """The entries have their places: their indexes in the log, in the order given; `new` of them had none before."""

    positions: tuple[int, ...]
    new: int


@dataclass(frozen=True, slots=True)
class OutOfStep:
    """Not the next entry of its chain: the chain goes on with `seq` after the entry `prev` (zeros before the first)."""

    author: str
    chain: str
    seq: int
    prev: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class Refused:
    """Never to be taken: the HTTP status and why."""

    status: int
    reason: str


@dataclass(frozen=True, slots=True)
class Chain:
    """Where a chain stands; `id` 0 before it has an entry, `seq` that of its last entry or -1."""

    id: int
    author: str
    chain: str
    seq: int = -1
    leaf: bytes = bytes(32)
    time: str = ""
    highest: int = -1
    """Its highest draw: draws mostly ascend, only those below need looking up."""


KEPT_CHAINS = 4096
"""How many chains are kept in memory, about: who wrote lately will write again."""
LeafHash = Callable[[int], bytes | None]
"""The leaf hash of an entry that is under the signed head."""


@dataclass(slots=True)
class _Steps:
    """What one request adds to one chain, before it is known that all of it fits."""

    chain: Chain
    first: int
    entries: list[Candidate] = field(default_factory=list["Candidate"])
    draws: set[int] = field(default_factory=set[int])


class Acceptance:
    """One transaction that takes entries; nothing of it is visible before it commits."""

    def __init__(
        self, connection: sqlite3.Connection, history: KeyHistory, known: LeafHash, chains: dict[tuple[str, str], Chain]
    ) -> None:
        """`known(position)` is the leaf hash of an entry under the signed head, None for one that is not.

        `chains` are those that were read before, as they stand.
        """
        self._db = connection
        self._known = known
        self._first: int = connection.execute("SELECT accepted FROM log").fetchone()[0]
        self._before = chains
        self.chains: dict[tuple[str, str], Chain] = {}
        """Those that moved."""
        self.rows: list[tuple[bytes, bytes]] = []
        """(leaf, hash) of what was taken so far."""
        self.history = history

    def take(self, entries: Sequence[Candidate]) -> Taken | OutOfStep | Refused:
        """Take entries of one chain in their order, all of them or none. Their signatures are the caller's."""
        key = entries[0].author, entries[0].chain
        chain = self.chains.get(key) or self._before.get(key) or self._read(*key)
        steps = _Steps(chain, self._first + len(self.rows))
        positions: list[int] = []
        for entry in entries:
            if (entry.author, entry.chain) != key:
                return Refused(422, "the entries of one request are of one author and one chain")
            seq = entry.seq
            if seq <= steps.chain.seq:
                position = self._place(steps, seq)
                if self._hash(steps, position) != entry.leaf_hash:
                    return self._out_of_step(chain, f"another entry has seq {seq} of this chain")
                positions.append(position)
                continue
            refusal = self._next(steps, entry)
            if refusal is not None:
                return self._out_of_step(chain, refusal) if isinstance(refusal, str) else refusal
            positions.append(steps.first + len(steps.entries) - 1)
        self._apply(key, steps)
        return Taken(tuple(positions), len(steps.entries))

    def _next(self, steps: _Steps, entry: Candidate) -> str | Refused | None:
        """Take the entry into `steps`; else why it is out of step, or refused."""
        chain = steps.chain
        if entry.seq != chain.seq + 1:
            return f"seq {entry.seq} does not follow {chain.seq}" if chain.seq >= 0 else "a chain begins with seq 0"
        if entry.prev != chain.leaf:
            return f"prev of seq {entry.seq} is not the hash of the entry before it"
        if entry.time < chain.time:
            return Refused(422, f"seq {entry.seq} was accepted before its predecessor")
        if self.history.counts_no_more(entry.author, steps.first + len(steps.entries)):
            return Refused(403, "the key of this author was revoked in this log")
        draw, highest = entry.draw, chain.highest
        if draw is not None:
            if draw in steps.draws or (draw <= highest and self._used(chain.id, draw)):
                return Refused(422, f"draw {draw} of this chain was used before")
            steps.draws.add(draw)
            highest = max(highest, draw)
        steps.entries.append(entry)
        steps.chain = replace(chain, seq=entry.seq, leaf=entry.leaf_hash, time=entry.time, highest=highest)
        return None

    def _apply(self, key: tuple[str, str], steps: _Steps) -> None:
        if not steps.entries:
            return
        last = steps.chain
        number = last.id
        if number == 0:
            number = self._db.execute(
                "INSERT INTO chain (author, chain, seq, leaf, time) VALUES (?, ?, ?, ?, ?) RETURNING id",
                (last.author, bytes.fromhex(last.chain), last.seq, last.leaf, last.time),
            ).fetchone()[0]
        else:
            self._db.execute(
                "UPDATE chain SET seq = ?, leaf = ?, time = ? WHERE id = ?", (last.seq, last.leaf, last.time, number)
            )
        places = [(number, entry.seq, steps.first + n) for n, entry in enumerate(steps.entries)]
        self._db.executemany("INSERT INTO place (chain, seq, position) VALUES (?, ?, ?)", places)
        self._db.executemany("INSERT INTO draw (chain, draw) VALUES (?, ?)", [(number, d) for d in steps.draws])
        self.chains[key] = replace(last, id=number)
        self.rows += [(entry.leaf, entry.leaf_hash) for entry in steps.entries]
        about_keys = [(place[2], entry.about_keys) for place, entry in zip(places, steps.entries, strict=True)]
        if any(entry is not None for _, entry in about_keys):
            self.history = copy.deepcopy(self.history)  # the store's stays as it is until this is committed
        for position, entry in about_keys:
            if entry is not None:
                self.history.pass_by(position, entry)
                self._db.execute("INSERT INTO key_entry (position, leaf) VALUES (?, ?)", (position, entry.leaf))

    def finish(self) -> None:
        """Write what was taken into the log."""
        pieces.insert(self._db, self._first, self.rows)
        self._db.execute("UPDATE log SET accepted = ?", (self._first + len(self.rows),))

    def _read(self, author: str, chain: str) -> Chain:
        row = self._db.execute(
            "SELECT id, seq, leaf, time, (SELECT max(draw) FROM draw WHERE draw.chain = chain.id) FROM chain "
            "WHERE author = ? AND chain = ?",
            (author, bytes.fromhex(chain)),
        ).fetchone()
        if row is None:
            return Chain(0, author, chain)
        return Chain(row[0], author, chain, row[1], row[2], row[3], -1 if row[4] is None else row[4])

    def _place(self, steps: _Steps, seq: int) -> int:
        new = steps.chain.seq - len(steps.entries)  # the last seq that has its place already
        if seq > new:
            return steps.first + seq - new - 1
        query = "SELECT position FROM place WHERE chain = ? AND seq = ?"
        return self._db.execute(query, (steps.chain.id, seq)).fetchone()[0]

    def _hash(self, steps: _Steps, position: int) -> bytes:
        if position >= steps.first:
            return steps.entries[position - steps.first].leaf_hash
        if position >= self._first:
            return self.rows[position - self._first][1]
        return self._known(position) or pieces.read(self._db, position, position + 1)[0][1]

    def _used(self, chain: int, draw: int) -> bool:
        query = "SELECT 1 FROM draw WHERE chain = ? AND draw = ?"
        return self._db.execute(query, (chain, draw)).fetchone() is not None

    @staticmethod
    def _out_of_step(chain: Chain, reason: str) -> OutOfStep:
        return OutOfStep(chain.author, chain.chain, chain.seq + 1, chain.leaf, reason)


class ChainStore(LogStore):
    """An open `state.db` of a log with many authors. One thread accepts."""

    ddl: ClassVar[str] = CHAINS_DDL

    def __init__(self, path: Path, *, readonly: bool = False) -> None:
        super().__init__(path, readonly=readonly)
        self._chains: dict[tuple[str, str], Chain] = {}
        self.history = KeyHistory()
        """What the accepted entries say about keys."""
        for position, leaf in self.db.rows("SELECT position, leaf FROM key_entry ORDER BY position"):
            self.history.pass_by(position, parse_entry(leaf))

    @classmethod
    def create_chains(cls, path: Path, *, head: Head, origin: str) -> None:
        """Make a new database with a signed head of size 0. Never done implicitly by opening one."""
        Database.create(path, ddl=CHAINS_DDL, version=LAYOUT_VERSION)
        store = cls(path)
        with store.db.transaction() as connection:
            insert_log(connection, head, origin)
        store.close()

    @contextmanager
    def accepting(self, known: LeafHash) -> Generator[Acceptance]:
        """A transaction that accepts entries; committed at the end of the block, else nothing of it happened."""
        with self.db.transaction() as connection:
            acceptance = Acceptance(connection, self.history, known, self._chains)
            yield acceptance
            acceptance.finish()
        self.history = acceptance.history
        if len(self._chains) > KEPT_CHAINS:
            self._chains = {}
        self._chains |= acceptance.chains

    def authors(self) -> list[tuple[str, int]]:
        """(author's verifier key text, entries) of everybody who has written, most entries first."""
        query = "SELECT author, sum(seq + 1) AS n FROM chain GROUP BY author ORDER BY n DESC, author"
        return self.db.rows(query)
