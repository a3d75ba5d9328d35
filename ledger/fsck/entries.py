"""Every entry: its form, its author's signature, its place in its chain, its draw; what the index would hold.

Chains are checked only over entries that the tree vouches for. What does not read as an entry is counted: anyone's
leaf is allowed in a log, it is just about nothing we know. After a missing or false entry each chain goes on from its
next entry, so that one loss is one finding.

Rows go to a private database that SQLite keeps in a temporary file: memory stays bounded, and state, vault and lookup
index are compared with it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from ...schemas.errors import EvidenceError
from ...schemas.statement import NO_PREVIOUS
from ..entries.entry import Entry, check_succession, parse_entry
from ..keys.keyhistory import KeyHistory
from ..merkle.tiles import Tile
from ..seeds.epochs import EpochIndex
from ..storage.lookup import COLUMNS, row_of
from .findings import Findings, Kind
from .walk import Group

_FORGED = "the log holds what its author did not do: keep it as it is, and ask who could write to it"


_REVOKED = "keep it as it is: verifiers refuse it; ask who still has the revoked key"


class Rows:
    """What the entries say, by index, in a private database."""

    def __init__(self) -> None:
        self._db = sqlite3.connect("", isolation_level=None)
        self._db.execute("PRAGMA synchronous = OFF")
        self._db.execute("PRAGMA journal_mode = OFF")
        types = {"id": "INTEGER PRIMARY KEY", "seq": "INTEGER", "draw": "INTEGER"}
        columns = ", ".join(f"{name} {types.get(name, 'TEXT')}" for name in COLUMNS)
        self._db.execute(f"CREATE TABLE entry ({columns})")
        self._insert = f"INSERT INTO entry VALUES ({', '.join(f':{name}' for name in COLUMNS)})"  # noqa: S608

    def add(self, rows: Iterable[dict[str, Any]]) -> None:
        """Take rows of `row_of`."""
        self._db.execute("BEGIN")
        self._db.executemany(self._insert, rows)
        self._db.execute("COMMIT")

    def index(self) -> None:
        """Make it quick to find rows by commitment, once all are there."""
        self._db.execute("CREATE INDEX by_commitment ON entry (commitment)")
        self._db.execute("CREATE INDEX by_draw ON entry (author, chain, draw)")

    def query(self, sql: str, values: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
        """Rows of a query, as they come."""
        return iter(self._db.execute(sql, values))

    def one(self, sql: str, values: tuple[Any, ...] = ()) -> Any:
        """The first row of a query, or None."""
        return self._db.execute(sql, values).fetchone()

    def close(self) -> None:
        """Drop everything."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


@dataclass(slots=True)
class _Last:
    """The last entry of a chain, and its index."""

    entry: Entry
    index: int


class Chains:
    """Checks entries in the order of the log, each against its predecessor in its chain."""

    def __init__(self, rows: Rows, found: Findings) -> None:
        self._rows = rows
        self._found = found
        self._last: dict[tuple[str, str], _Last] = {}
        self._lost = -1
        self.history = KeyHistory()
        """What the entries say about their authors' keys."""
        self.epochs = EpochIndex()
        """The seed epochs that they publish; of one log, so by no origin."""
        self.first: bytes | None = None
        """Entry 0, if it is no entry of this format."""
        self.strangers = 0
        """Leaves that are no entries of this format."""
        self.lost = 0
        """Entries that are missing or false."""
        self.read = 0
        """Entries that were read and vouched for."""

    def pass_by(self, group: Group) -> None:
        """Check the entries of a group."""
        rows: list[dict[str, Any]] = []
        file = Tile(None, group.base // 256, group.width).path
        for index, leaf in enumerate(group.entries, group.base):
            if leaf is None:
                self._lost = index
                self.lost += 1
            else:
                rows.append(row_of(index, leaf))
                self.entry(index, leaf, file)
        self._rows.add(rows)

    def entry(self, index: int, leaf: bytes, file: str) -> None:
        """Check one entry; `file` is where it stands."""
        self.read += 1
        try:
            entry = parse_entry(leaf)
        except EvidenceError:
            if index == 0:
                self.first = leaf
            self.strangers += 1
            return
        try:
            entry.envelope.verify(entry.author)
        except EvidenceError as error:
            self._found.false(file, str(error), _FORGED, index)
        header = entry.header
        if self.history.counts_no_more(header.author, index):
            what = f"its author's key was revoked by entry {self.history.revoked[header.author]}"
            self._found.add(Kind.UNTRUSTED, file, f"{what}: the entry counts for nothing", _REVOKED, index)
        self.history.pass_by(index, entry)
        self.epochs.pass_by("", index, entry, self.history)
        key = (header.author, header.chain)
        last = self._last.get(key)
        self._last[key] = _Last(entry, index)
        try:
            if last is not None and last.index > self._lost:
                check_succession(entry, last.entry)
            elif last is not None:
                _check_later(entry, last.entry)
            elif self._lost < 0:
                _check_first(entry)
        except EvidenceError as error:
            self._found.false(file, str(error), _FORGED, index)

    def last(self, author: str, chain: str) -> tuple[int, bytes] | None:
        """(index, leaf hash) of the last entry of a chain, if nothing after it was lost."""
        found = self._last.get((author, chain))
        return None if found is None or found.index < self._lost else (found.index, found.entry.leaf_hash)

    def finish(self) -> None:
        """What shows only over the whole log: a draw that was used twice, two epochs for one draw."""
        self._rows.index()
        for entry, other in self.epochs.overlaps():
            what = f"its epoch fixes seeds for draws that entry {other.index} had fixed others for"
            self._found.false(Tile(None, entry.index // 256).path, what, _FORGED, entry.index)
        twice = self._rows.query(
            "SELECT draw, min(id), max(id) FROM entry WHERE draw IS NOT NULL GROUP BY author, chain, draw "
            "HAVING count(*) > 1 LIMIT 1000"
        )
        for draw, first, second in twice:
            what = f"draw {draw} was used before in its chain, by entry {first}"
            self._found.false(Tile(None, second // 256).path, what, _FORGED, second)


def _check_first(entry: Entry) -> None:
    header = entry.header
    if header.seq != 0 or header.prev != NO_PREVIOUS:
        raise EvidenceError(f"chain: it begins with seq {header.seq}, not with 0 and no predecessor")


def _check_later(entry: Entry, before: Entry) -> None:
    """What still holds across entries that could not be read."""
    if entry.header.seq <= before.header.seq or entry.header.time < before.header.time:
        raise EvidenceError(f"chain: seq {entry.header.seq} or its time lies before what stands earlier in the log")


__all__ = ["Chains", "Rows"]
