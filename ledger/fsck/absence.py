"""The absence index: is the root that `index/latest` signs, and everything in absence.db, what the entries give?

The map is made anew from the entries that the tree vouches for, in a scratch file, up to the size of the note and up to
the size of absence.db. The root over the same entries is all that a note says beside its origin; the pages of
absence.db are a function of the keys alone, so each must be the scratch file's, byte for byte.
"""

from __future__ import annotations

import contextlib
import sqlite3
import tempfile
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from ...schemas.errors import EvidenceError, SetupError
from ..absence.keys import FILE, PIXELS, index_key
from ..absence.note import INDEX_NOTE, IndexHead, IndexPolicy
from ..absence.pages import ABSENCE_DDL, ABSENCE_FILE, ABSENCE_MARK, PageFile, Progress
from ..absence.store import UNWRITTEN_PAGES
from ..absence.trie import IndexMap
from ..merkle.reader import Source, TiledLog
from ..merkle.tree import CompactRange
from ..notes.checkpoint import Checkpoint
from ..notes.note import MAX_NOTE_BYTES, Note
from ..notes.wire import HASH_SIZE
from .databases import structure
from .entries import Rows
from .findings import Findings
from .heads import KnownHead

DELETE_ABSENCE = f"delete {ABSENCE_FILE}: it is rebuilt from the entries"
SIGN_AGAIN = f"take {INDEX_NOTE} away and keep it as evidence; then sign a root that is recomputed: pd log index"
_BATCH = 4096
_TABLES = (("page", "number, hash, records"), ("running", "key, value"), ("posting", "key, entry"))


@dataclass(frozen=True, slots=True)
class IndexNote:
    """The index note that a log serves, and what it says as a head of the log's tree."""

    head: IndexHead
    known: KnownHead


def read_index_note(source: Source, policy: IndexPolicy | None, found: Findings) -> IndexNote | None:
    """The served index note, None where there is none; its form and, under a policy, its signatures are checked."""
    data: bytes | None = None
    with found.reading(INDEX_NOTE, SIGN_AGAIN):
        data = source.fetch(INDEX_NOTE, MAX_NOTE_BYTES)
    if data is None:
        return None
    note: IndexNote | None = None
    with found.reading(INDEX_NOTE, SIGN_AGAIN):
        head = IndexHead.parse(Note.parse(data).text)
        checkpoint = Checkpoint(head.origin, head.size, head.root)
        checkpoint.require_empty_root()
        note = IndexNote(head, KnownHead(INDEX_NOTE, checkpoint, False))
        if policy is None:
            found.skipped.append(
                (f"signatures of {INDEX_NOTE}", "no index policy given: nobody says whose would count")
            )
        else:
            policy.check(data)
            found.done.append(f"signatures of {INDEX_NOTE} under the index policy")
    return note


@dataclass(frozen=True, slots=True)
class AbsenceFile:
    """absence.db held still, and how far it says that it goes."""

    database: sqlite3.Connection
    progress: Progress | None

    @property
    def size(self) -> int:
        """Number of entries it was made from."""
        return self.progress.size if self.progress is not None else 0


@contextlib.contextmanager
def open_absence(directory: Path, found: Findings) -> Generator[AbsenceFile | None, None, None]:
    """absence.db as it is now, until the block ends; None if there is none, or nothing can be compared."""
    path = directory / ABSENCE_FILE
    if not path.exists():
        yield None
        return
    with contextlib.ExitStack() as stack:
        opened: AbsenceFile | None = None
        if structure(path, ABSENCE_DDL, DELETE_ABSENCE, found):
            try:
                database = sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None)
                stack.enter_context(contextlib.closing(database))
                opened = _held(database, found)
            except sqlite3.Error as error:
                found.false(ABSENCE_FILE, f"SQLite: {error}", DELETE_ABSENCE)
        yield opened


def _held(database: sqlite3.Connection, found: Findings) -> AbsenceFile | None:
    database.execute("BEGIN")
    mark = tuple(database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("user_version", "application_id"))
    if mark != ABSENCE_MARK:
        found.false(ABSENCE_FILE, "it is of another version or program", DELETE_ABSENCE)
        return None
    row = database.execute("select size, edge, index_root from progress").fetchone()
    if row is not None and [type(value) for value in row] != [int, bytes, bytes]:
        found.false(ABSENCE_FILE, "it does not say how far it goes", DELETE_ABSENCE)
        return None
    return AbsenceFile(database, None if row is None else Progress(*row))


def check_absence(
    note: IndexNote | None,
    stored: AbsenceFile | None,
    log: TiledLog,
    rows: Rows,
    head: tuple[int, bytes],
    lost: int,
    found: Findings,
) -> None:
    """Compare both with the map over the entries. `head`: (size, root) the entries were held against; `lost` of them
    are missing or false, and then nothing can be re-derived."""
    size, _ = head
    if stored is not None and not 0 <= stored.size <= size:
        found.false(ABSENCE_FILE, f"it goes up to entry {stored.size}, the log to {size}", DELETE_ABSENCE)
        stored = None
    if note is not None and note.head.size > size:
        note = None  # named with the heads: a root beyond the log
    if note is None and stored is None:
        return
    if lost:
        if note is not None:
            found.unread(INDEX_NOTE, "its index root could not be re-derived, for want of entries", SIGN_AGAIN)
        if stored is not None:
            found.unread(ABSENCE_FILE, "it could not be re-derived, for want of entries", DELETE_ABSENCE)
        return
    if stored is not None:
        _check_tree(stored, log, head, found)
    with tempfile.TemporaryDirectory() as folder, contextlib.closing(PageFile(Path(folder) / "scratch.db")) as scratch:
        scratch.begin()
        index, done = IndexMap(scratch), 0
        for until in sorted({note.head.size if note else size, stored.size if stored else size}):
            _grow(index, scratch, rows, done, until)
            done, root = until, index.root()
            if note is not None and note.head.size == until and note.head.index_root != root:
                what = f"the index root it signs for size {until} is not what those entries give: {root.hex()} is"
                found.false(INDEX_NOTE, what, SIGN_AGAIN)
            if stored is not None and stored.size == until:
                _check_pages(stored, Path(folder) / "scratch.db", root, found)
    if note is not None:
        found.done.append(f"the index root in {INDEX_NOTE}, re-derived from the entries")
    if stored is not None:
        found.done.append(f"every page of {ABSENCE_FILE}, re-derived from the entries")


def _grow(index: IndexMap, scratch: PageFile, rows: Rows, start: int, end: int) -> None:
    """Add the entries from `start` to `end`, and write it all down."""
    for base in range(start, end, _BATCH):
        items: list[tuple[bytes, int]] = []
        query = "SELECT id, pixels, file FROM entry WHERE commitment IS NOT NULL AND id >= ? AND id < ? ORDER BY id"
        for place, pixels, file in rows.query(query, (base, min(base + _BATCH, end))):
            items.append((index_key(PIXELS, bytes.fromhex(pixels)), place))
            if file is not None:
                items.append((index_key(FILE, bytes.fromhex(file)), place))
        index.add(items)
        if scratch.unwritten > UNWRITTEN_PAGES:
            _write(index, scratch, end)
    _write(index, scratch, end)


def _write(index: IndexMap, scratch: PageFile, size: int) -> None:
    if not scratch.flush(Progress(size, b"", index.root())):
        raise SetupError("the scratch file of this check was changed by another process")


def _check_tree(stored: AbsenceFile, log: TiledLog, head: tuple[int, bytes], found: Findings) -> None:
    """absence.db was made from this tree's entries, as far as its right edge says."""
    progress = stored.progress or Progress(0, b"", b"")
    # an earlier root is read from the tiles, which is worth something only where they were found to be true
    if stored.size != head[0] and any(finding.file.startswith("tile/") for finding in found.found):
        return
    hashes = [progress.edge[at : at + HASH_SIZE] for at in range(0, len(progress.edge), HASH_SIZE)]
    with found.reading(ABSENCE_FILE, DELETE_ABSENCE):
        if CompactRange(stored.size, hashes).root() != (head[1] if stored.size == head[0] else log.root(stored.size)):
            raise EvidenceError(f"it was made from another tree of size {stored.size}")


def _check_pages(stored: AbsenceFile, scratch: Path, root: bytes, found: Findings) -> None:
    if stored.progress is not None and stored.progress.index_root != root:
        found.false(ABSENCE_FILE, f"its index root of size {stored.size} is not what the entries give", DELETE_ABSENCE)
    try:
        with contextlib.closing(sqlite3.connect(scratch, isolation_level=None)) as derived:
            for table, columns in _TABLES:
                query = f"select {columns} from {table} order by {columns.replace(', hash, records', '')}"  # noqa: S608
                mine: Iterator[object] = derived.execute(query)
                theirs: Iterator[object] = stored.database.execute(query)
                if any(a != b for a, b in zip_longest(mine, theirs)):
                    found.false(ABSENCE_FILE, f"its table {table} is not what the entries give", DELETE_ABSENCE)
    except sqlite3.Error as error:
        found.false(ABSENCE_FILE, f"SQLite: {error}", DELETE_ABSENCE)
