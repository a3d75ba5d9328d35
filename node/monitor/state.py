"""monitor.db: how far each log was checked and under which head, what its chains said last, and what was found.

Everything that a batch of entries changes is one durable transaction, so a kill costs a batch, never an entry. What
was found stays until a person lifts it. A thief of the file can make the monitor overlook what he likes; a restored
backup makes it look at some entries twice, which is harmless.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ...ledger.entries.entry import parse_entry
from ...ledger.keys.keyhistory import KeyHistory
from ...ledger.merkle.tree import CompactRange
from ...ledger.notes.wire import HASH_SIZE
from ...ledger.storage.database import Database
from ...schemas.text import format_time, now

VERSION = 1
DDL = """
CREATE TABLE log (
    origin TEXT PRIMARY KEY, size INTEGER NOT NULL, edge BLOB NOT NULL, anchor BLOB, strangers INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE look (
    origin TEXT PRIMARY KEY, time TEXT NOT NULL, code INTEGER NOT NULL, sound TEXT, findings TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE chain (
    id INTEGER PRIMARY KEY, origin TEXT NOT NULL, author TEXT NOT NULL, chain TEXT NOT NULL,
    seq INTEGER NOT NULL, leaf BLOB NOT NULL, time TEXT NOT NULL, place INTEGER NOT NULL,
    UNIQUE (origin, author, chain)
);
CREATE TABLE draw (chain INTEGER, draw INTEGER, place INTEGER NOT NULL, PRIMARY KEY (chain, draw)) WITHOUT ROWID;
CREATE TABLE told (origin TEXT, place INTEGER, leaf BLOB NOT NULL, PRIMARY KEY (origin, place)) WITHOUT ROWID;
CREATE TABLE open_head (
    origin TEXT, size INTEGER, root BLOB, place TEXT NOT NULL, note BLOB NOT NULL, PRIMARY KEY (origin, size, root)
) WITHOUT ROWID;
CREATE TABLE index_seen (
    origin TEXT, size INTEGER, index_root BLOB, PRIMARY KEY (origin, size, index_root)
) WITHOUT ROWID;
CREATE TABLE found (
    id INTEGER PRIMARY KEY, origin TEXT NOT NULL, accused TEXT NOT NULL, kind TEXT NOT NULL, subject TEXT NOT NULL,
    what TEXT NOT NULL, file TEXT, time TEXT NOT NULL, stops INTEGER NOT NULL,
    told INTEGER NOT NULL, tries INTEGER NOT NULL, lifted TEXT,
    UNIQUE (origin, kind, subject)
);
"""


@dataclass(frozen=True, slots=True)
class Checked:
    """How far a log was checked: the tree of the entries that were, and the signed head that vouches for them."""

    edge: CompactRange
    anchor: bytes | None
    strangers: int


@dataclass(slots=True)
class Chain:
    """A chain's last entry; `id` is the row, 0 for a new one."""

    id: int
    seq: int
    leaf_hash: bytes
    time: str
    place: int


@dataclass(frozen=True, slots=True)
class Found:
    """Something that was found. `stops`: the log itself is caught, and not followed before a person lifts it."""

    id: int
    origin: str
    accused: str
    kind: str
    what: str
    file: str | None
    time: str
    stops: bool
    told: bool
    tries: int
    lifted: str | None


@dataclass(frozen=True, slots=True)
class Look:
    """The last look at a log: when, its exit code, when it was last sound, what was found in words."""

    time: str
    code: int
    sound: str | None
    findings: tuple[str, ...]


class MonitorState:
    """The database; threads share one."""

    def __init__(self, path: Path, *, readonly: bool = False) -> None:
        """Open it, making it where there is none: a new monitor starts from every log's first entry."""
        if not path.exists() and not readonly:
            Database.create(path, ddl=DDL, version=VERSION)
        self._db = Database(path, ddl=DDL, version=VERSION, readonly=readonly)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    @contextmanager
    def transaction(self) -> Generator[sqlite3.Connection]:
        """One durable transaction; the calls below that take a `db` go into it."""
        with self._db.transaction() as db:
            yield db

    # --- how far a log was checked ---

    def checked(self, origin: str) -> Checked:
        """Where the check of a log goes on."""
        row = self._db.row("SELECT size, edge, anchor, strangers FROM log WHERE origin = ?", (origin,))
        if row is None:
            return Checked(CompactRange(), None, 0)
        hashes = [row[1][at : at + HASH_SIZE] for at in range(0, len(row[1]), HASH_SIZE)]
        return Checked(CompactRange(row[0], hashes), row[2], row[3])

    def advance(self, db: sqlite3.Connection, origin: str, checked: Checked) -> None:
        """Move on."""
        edge = checked.edge
        values = (origin, edge.size, b"".join(edge.edge), checked.anchor, checked.strangers)
        db.execute("INSERT OR REPLACE INTO log VALUES (?, ?, ?, ?, ?)", values)

    def forget(self, origin: str) -> None:
        """Begin with a log from its first entry; what was found stays."""
        with self._db.transaction() as db:
            db.execute("DELETE FROM draw WHERE chain IN (SELECT id FROM chain WHERE origin = ?)", (origin,))
            for table in ("log", "chain", "told", "open_head", "index_seen"):
                db.execute(f"DELETE FROM {table} WHERE origin = ?", (origin,))  # noqa: S608  (names of our own)

    # --- chains ---

    def chain(self, origin: str, author: str, chain: str) -> Chain | None:
        """A chain's last entry."""
        query = "SELECT id, seq, leaf, time, place FROM chain WHERE origin = ? AND author = ? AND chain = ?"
        row = self._db.row(query, (origin, author, chain))
        return None if row is None else Chain(*row)

    def keep_chain(self, db: sqlite3.Connection, origin: str, author: str, chain: str, last: Chain) -> int:
        """Keep a chain's last entry; its row."""
        row = db.execute(
            "INSERT INTO chain (origin, author, chain, seq, leaf, time, place) VALUES (?, ?, ?, ?, ?, ?, ?) "
            "ON CONFLICT (origin, author, chain) DO UPDATE SET "
            "seq = excluded.seq, leaf = excluded.leaf, time = excluded.time, place = excluded.place RETURNING id",
            (origin, author, chain, last.seq, last.leaf_hash, last.time, last.place),
        ).fetchone()
        return int(row[0])

    def drawn(self, chain: int, draw: int) -> int | None:
        """The index of the entry that used a draw."""
        row = self._db.row("SELECT place FROM draw WHERE chain = ? AND draw = ?", (chain, draw))
        return None if row is None else int(row[0])

    def keep_draws(self, db: sqlite3.Connection, chain: int, draws: Sequence[tuple[int, int]]) -> None:
        """Keep (draw, index) pairs; the first use stays."""
        db.executemany("INSERT OR IGNORE INTO draw VALUES (?, ?, ?)", [(chain, *one) for one in draws])

    def told(self, origin: str) -> list[tuple[int, bytes]]:
        """(index, leaf) of the entries about keys and epochs."""
        return self._db.rows("SELECT place, leaf FROM told WHERE origin = ? ORDER BY place", (origin,))

    def keep_told(self, db: sqlite3.Connection, origin: str, rows: Sequence[tuple[int, bytes]]) -> None:
        """Keep entries about keys and epochs."""
        db.executemany("INSERT OR IGNORE INTO told VALUES (?, ?, ?)", [(origin, *row) for row in rows])

    def history(self, origin: str) -> KeyHistory:
        """What the entries so far say about keys."""
        history = KeyHistory()
        for place, leaf in self.told(origin):
            history.pass_by(place, parse_entry(leaf))
        return history

    # --- heads and index roots ---

    def open_heads(self, origin: str) -> list[tuple[str, bytes]]:
        """(place, note) of heads that could not be compared yet."""
        return self._db.rows("SELECT place, note FROM open_head WHERE origin = ? ORDER BY size", (origin,))

    def set_open_heads(self, origin: str, heads: Sequence[tuple[int, bytes, str, bytes]]) -> None:
        """Replace them: (size, root, place, note)."""
        if not heads and not self.open_heads(origin):
            return
        with self._db.transaction() as db:
            db.execute("DELETE FROM open_head WHERE origin = ?", (origin,))
            db.executemany("INSERT OR IGNORE INTO open_head VALUES (?, ?, ?, ?, ?)", [(origin, *one) for one in heads])

    def index_seen(self, origin: str, size: int, index_root: bytes) -> bool:
        """Whether this index root was recomputed before."""
        query = "SELECT 1 FROM index_seen WHERE origin = ? AND size = ? AND index_root = ?"
        return self._db.row(query, (origin, size, index_root)) is not None

    def keep_index(self, origin: str, size: int, index_root: bytes) -> None:
        """An index root was recomputed."""
        with self._db.transaction() as db:
            db.execute("INSERT OR IGNORE INTO index_seen VALUES (?, ?, ?)", (origin, size, index_root))

    # --- what was found ---

    def keep_found(
        self, db: sqlite3.Connection, origin: str, *, accused: str, kind: str, subject: str, what: str,
        file: str | None, stops: bool,
    ) -> bool:  # fmt: skip
        """Keep what was found; False if it is known, lifted or not."""
        time = format_time(now())
        done = db.execute(
            "INSERT OR IGNORE INTO found (origin, accused, kind, subject, what, file, time, stops, told, tries) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, 0, 0)",
            (origin, accused, kind, subject, what, file, time, stops),
        )
        return done.rowcount == 1

    def known(self, origin: str, kind: str, subject: str) -> bool:
        """Whether this was found before."""
        query = "SELECT 1 FROM found WHERE origin = ? AND kind = ? AND subject = ?"
        return self._db.row(query, (origin, kind, subject)) is not None

    def found(self, origin: str | None = None, *, lifted: bool = False) -> list[Found]:
        """What stands against a log (None: all), oldest first; `lifted`: what no longer stands too."""
        rows = self._db.rows(
            "SELECT id, origin, accused, kind, what, file, time, stops, told, tries, lifted FROM found "
            "WHERE (? IS NULL OR origin = ?) AND (? OR lifted IS NULL) ORDER BY id",
            (origin, origin, lifted),
        )
        return [
            Found(number, name, accused, kind, what, file, time, bool(stops), bool(told), tries, gone)
            for number, name, accused, kind, what, file, time, stops, told, tries, gone in rows
        ]

    def lift(self, origin: str) -> int:
        """Nothing stands against a log any more, by a person's decision; how much did."""
        with self._db.transaction() as db:
            query = "UPDATE found SET lifted = ? WHERE origin = ? AND lifted IS NULL"
            return db.execute(query, (format_time(now()), origin)).rowcount

    def hooked(self, number: int, told: bool) -> None:
        """The hook ran for something found; `told`: with success."""
        with self._db.transaction() as db:
            db.execute("UPDATE found SET tries = tries + 1, told = ? WHERE id = ?", (told, number))

    # --- looks ---

    def look(self, origin: str) -> Look | None:
        """The last look at a log."""
        row = self._db.row("SELECT time, code, sound, findings FROM look WHERE origin = ?", (origin,))
        return None if row is None else Look(row[0], row[1], row[2], tuple(json.loads(row[3])))

    def keep_look(self, origin: str, code: int, findings: Sequence[str]) -> None:
        """A look ended now."""
        time = format_time(now())
        with self._db.transaction() as db:
            db.execute(
                "INSERT INTO look VALUES (?, ?, ?, ?, ?) ON CONFLICT (origin) DO UPDATE SET time = excluded.time, "
                "code = excluded.code, sound = coalesce(excluded.sound, sound), findings = excluded.findings",
                (origin, time, code, time if code == 0 else None, json.dumps(list(findings))),
            )


__all__ = ["Chain", "Checked", "Found", "Look", "MonitorState"]
