"""`lookup.db`: which entry is about this picture, this model, this author. Derived from public/ and never trusted.

Delete it and it comes back: a reader catches up with the checkpoint before it answers. Where it cannot be written
(read-only file system) it is built in memory. What is found through it is checked like anything else; while catching up
every entry is held against its tile, and every tile against the signed root, and what does not fit is kept in
`damaged`, since a log with such an entry contradicts itself.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlite_utils import Database

from ...schemas.errors import EvidenceError, SetupError
from ...schemas.statement import GENERATION
from ..entries.entry import parse_entry
from ..merkle.reader import TiledLog, fetch_tile
from ..merkle.tiles import HEIGHT, WIDTH, decode_bundle, tile_at
from ..merkle.tree import MemoryTree, hash_leaf

LOOKUP_FILE = "lookup.db"
LOOKUP_VERSION = 2
COLUMNS = ("id", "kind", "pixels", "file", "model", "author", "chain", "seq", "draw", "time", "commitment")

_FEW = f"kind <> '{GENERATION}'"


@dataclass(frozen=True, slots=True)
class Damage:
    """An entry that does not lie in the tree the checkpoint signs: `index`, and what does not fit."""

    index: int
    reason: str


def read_bundle(log: TiledLog, number: int, size: int) -> list[bytes]:
    """The entries of bundle `number` at a tree size as they are served, compared with nothing and never cached."""
    tile = tile_at(None, number, size)
    data, width = fetch_tile(log.source, tile)
    return decode_bundle(data, width)[: tile.width]


def unlike(entries: Sequence[bytes], hashes: Sequence[bytes]) -> list[int]:
    """Places at which an entry does not have the leaf hash beside it: what `damaged` and fsck call a false entry."""
    return [place for place, (leaf, value) in enumerate(zip(entries, hashes, strict=False)) if hash_leaf(leaf) != value]


class Lookup:
    """The lookup index of one log."""

    def __init__(self, path: Path | None) -> None:
        """Use the file at `path`, or memory only where `path` is None or cannot be written."""
        self._path = path
        self._memory: Database | None = None
        self.lock = threading.Lock()

    def find(self, log: TiledLog, size: int, root: bytes, **columns: str) -> list[int]:
        """Indexes of the entries below `size` whose columns have these values, ascending."""
        where = " and ".join(f"{name} = :{name}" for name in columns)
        with self._current(log, size, root) as db:
            rows = db.table("entry").rows_where(f"{where} and id < :size", {**columns, "size": size}, order_by="id")
            return [row["id"] for row in rows]

    def of_kinds(self, log: TiledLog, size: int, root: bytes, kinds: Sequence[str]) -> list[int]:
        """Indexes of the entries below `size` of these types (not generations, which are most), ascending."""
        with self._current(log, size, root) as db:
            places = ", ".join("?" for _ in kinds)
            query = f"select id from entry where {_FEW} and kind in ({places}) and id < ? order by id"  # noqa: S608
            return [row["id"] for row in db.query(query, [*kinds, size])]

    def indexes(self, log: TiledLog, size: int, root: bytes) -> dict[str, int]:
        """Commitment (hex) -> index of every generation below `size`."""
        with self._current(log, size, root) as db:
            rows = db.query("select commitment, id from entry where commitment is not null and id < ?", [size])
            return {row["commitment"]: row["id"] for row in rows}

    def damaged(self, log: TiledLog, size: int, root: bytes) -> list[Damage]:
        """Entries below `size` that do not hash into the tree, as found when they were indexed."""
        with self._current(log, size, root) as db:
            rows = db.table("damaged").rows_where("id < ?", [size], order_by="id")
            return [Damage(row["id"], row["reason"]) for row in rows]

    @contextlib.contextmanager
    def _current(self, log: TiledLog, size: int, root: bytes) -> Generator[Database, None, None]:
        with self.lock:
            db = self._open()
            try:
                try:
                    _catch_up(db, log, size, root)
                except sqlite3.OperationalError:
                    # nothing can be written here: answer from memory
                    db.close()
                    db = self._memory = self._memory or _prepared(Database(memory=True))
                    _catch_up(db, log, size, root)
                yield db
            except sqlite3.Error as error:
                raise SetupError(f"{LOOKUP_FILE} failed: {error}; delete it, it is rebuilt") from error
            finally:
                if db is not self._memory:
                    db.close()

    def _open(self) -> Database:
        if self._memory is not None or self._path is None:
            self._memory = self._memory or _prepared(Database(memory=True))
            return self._memory
        for attempt in (1, 2):
            db: Database | None = None
            try:
                db = Database(sqlite3.connect(self._path, timeout=30.0, isolation_level=None))
                db.conn.execute("PRAGMA synchronous = NORMAL")
                if db.conn.execute("PRAGMA user_version").fetchone()[0] == LOOKUP_VERSION:
                    return db
                return _prepared(db)
            except sqlite3.OperationalError:
                if db is not None:
                    db.close()
                break
            except sqlite3.DatabaseError:  # not a database any more: it is derived, so make it again
                if db is not None:
                    db.close()
                with contextlib.suppress(OSError):
                    self._path.unlink()
                if attempt == 2:
                    break
        self._memory = _prepared(Database(memory=True))
        return self._memory


def _prepared(db: Database) -> Database:
    """Empty tables of this version, whatever was there before."""
    with _transaction(db):
        for table in db.table_names():
            db[table].drop()
        text, number = str, int
        db.table("entry").create(
            {
                "id": number, "kind": text, "pixels": text, "file": text, "model": text, "author": text, "chain": text,
                "seq": number, "draw": number, "time": text, "commitment": text,
            },
            pk="id",
        )  # fmt: skip
        for columns in (["pixels"], ["file"], ["model"], ["author"], ["chain", "seq"], ["commitment"]):
            db.table("entry").create_index(columns)
        # without it a look for the few entries about keys and epochs would read the whole table
        db.conn.execute(f"CREATE INDEX entry_few ON entry (kind, id) WHERE {_FEW}")
        db.table("damaged").create({"id": number, "reason": text}, pk="id")
        db.table("indexed").create({"id": number, "size": number, "root": text}, pk="id")
        db.conn.execute(f"PRAGMA user_version = {LOOKUP_VERSION}")
    return db


@contextlib.contextmanager
def _transaction(db: Database) -> Generator[None, None, None]:
    # sqlite-utils commits through `with conn`, which leaves an open transaction of ours alone only if it is nested
    db.conn.execute("BEGIN IMMEDIATE")
    try:
        yield
        if db.conn.in_transaction:
            db.conn.execute("COMMIT")
    except BaseException:
        if db.conn.in_transaction:
            db.conn.execute("ROLLBACK")
        raise


def _indexed(db: Database) -> tuple[int, str]:
    row = next(iter(db.table("indexed").rows), None)
    return (0, "") if row is None else (row["size"], row["root"])


def _catch_up(db: Database, log: TiledLog, size: int, root: bytes) -> None:
    known, known_root = _indexed(db)
    if known >= size and known_root:
        return
    if known and log.root(known).hex() != known_root:
        _prepared(db)  # the index of another log, or of tiles that were changed since
        known = 0
    if log.root(size) != root:
        raise EvidenceError(f"the tiles do not give the root that the checkpoint of size {size} signs")
    rows: list[dict[str, Any]] = []
    damaged: list[dict[str, Any]] = []
    for number in range(known // WIDTH, (size + WIDTH - 1) // WIDTH):
        base = number * WIDTH
        width = min(WIDTH, size - base)
        hashes = [log.hash(0, base + place, size) for place in range(width)]
        whole = width < WIDTH or MemoryTree(hashes).root() == log.hash(HEIGHT, number, size)
        try:
            entries = read_bundle(log, number, size)
        except EvidenceError as error:
            entries = []
            damaged += [{"id": base + place, "reason": str(error)} for place in range(width)]
        false = set(unlike(entries, hashes))
        for place, leaf in enumerate(entries):
            index = base + place
            if index < known:
                continue
            rows.append(row_of(index, leaf))
            if place in false:
                damaged.append({"id": index, "reason": "the entry does not hash to what its tile says"})
            elif not whole:
                damaged.append({"id": index, "reason": "the entry's tile does not hash to what the tree says"})
    with _transaction(db):
        if _indexed(db)[0] == known:  # else another process was faster, with the same rows
            db.table("entry").insert_all(rows, replace=True)
            db.table("damaged").insert_all(damaged, replace=True)
            db.table("indexed").insert({"id": 1, "size": size, "root": root.hex()}, replace=True)


def row_of(index: int, leaf: bytes) -> dict[str, Any]:
    """What the lookup index keeps of an entry; of a leaf that is none, that it is `unknown`."""
    row: dict[str, Any] = dict.fromkeys(COLUMNS)
    row["id"] = index
    try:
        entry = parse_entry(leaf)
    except EvidenceError:
        row["kind"] = "unknown"  # anyone's leaf is allowed in a log; it just is about nothing we know
        return row
    header = entry.header
    row |= {
        "kind": entry.kind, "author": header.author, "chain": header.chain, "seq": header.seq, "time": header.time,
    }  # fmt: skip
    generation, model = entry.generation, entry.model
    if generation is not None:
        row |= {
            "pixels": generation.pixels.hex(),
            "file": None if generation.file is None else generation.file.hex(),
            "model": generation.model.hex(),
            "draw": generation.draw,
            "commitment": generation.commitment.hex(),
        }
    elif model is not None:
        row["model"] = model.manifest.hex()
    return row
