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
from ..absence.store import UNWRITTEN_PAGES, verify_seal
from ..absence.trie import IndexMap
from ..merkle.reader import Source, TiledLog
from ..merkle.tree import CompactRange
from ..notes.checkpoint import Checkpoint
from ..notes.note import MAX_NOTE_BYTES, Note
from ..notes.wire import HASH_SIZE
from ..storage.disk import SQLITE_FAILED
from .databases import structure
from .entries import Rows
from .findings import Findings
from .heads import KnownHead

DELETE_ABSENCE = f"delete {ABSENCE_FILE}: it is rebuilt from the entries"
SIGN_AGAIN = f"take {INDEX_NOTE} away and keep it as evidence; then sign a root that is recomputed: pd log index"
_BATCH = 4096
_TABLES = (
    ("page", "number, hash, records", "number"),
    ("running", "key, value", "key"),
    ("posting", "key, entry", "key, entry"),
)


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
    kept: tuple[Progress, ...]
    """The sizes that it can be read at, ascending; the last one is the file's."""

    @property
    def size(self) -> int:
        """Number of entries it was made from."""
        return self.kept[-1].size if self.kept else 0


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
            except SQLITE_FAILED as error:
                found.false(ABSENCE_FILE, f"SQLite: {error}", DELETE_ABSENCE)
        yield opened


def _held(database: sqlite3.Connection, found: Findings) -> AbsenceFile | None:
    database.execute("BEGIN")
    mark = tuple(database.execute(f"PRAGMA {name}").fetchone()[0] for name in ("user_version", "application_id"))
    if mark != ABSENCE_MARK:
        found.false(ABSENCE_FILE, "it is of another version or program", DELETE_ABSENCE)
        return None
    rows = database.execute("select size, edge, index_root, seal from progress order by size").fetchall()
    if any([type(value) for value in row] != [int, bytes, bytes, bytes] for row in rows):
        found.false(ABSENCE_FILE, "it does not say how far it goes", DELETE_ABSENCE)
        return None
    if not rows and database.execute("select exists (select 1 from page)").fetchone()[0]:
        found.false(ABSENCE_FILE, "it does not say how far it goes", DELETE_ABSENCE)
        return None
    return AbsenceFile(database, tuple(Progress(*row) for row in rows))


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
    if stored is not None and stored.kept and not 0 <= stored.kept[0].size <= stored.size <= size:
        found.false(ABSENCE_FILE, f"it goes up to entry {stored.size}, the log to {size}", DELETE_ABSENCE)
        stored = None
    if note is not None and note.head.size > size:
        note = None  # named with the heads: a root beyond the log
    if stored is not None and not stored.kept:
        stored = None  # made, and nothing written yet
    if note is None and stored is None:
        return
    if lost:
        if note is not None:
            found.unread(INDEX_NOTE, "its index root could not be re-derived, for want of entries", SIGN_AGAIN)
        if stored is not None:
            found.unread(ABSENCE_FILE, "it could not be re-derived, for want of entries", DELETE_ABSENCE)
        return
    if stored is not None:
        for progress in stored.kept:
            _check_tree(progress, log, head, found)
    with tempfile.TemporaryDirectory() as folder, contextlib.closing(PageFile(Path(folder) / "scratch.db")) as scratch:
        scratch.begin()
        index, done = IndexMap(scratch), 0
        kept = {progress.size: progress for progress in stored.kept} if stored else {}
        for until in sorted({note.head.size if note else size, *kept}):
            # written where the file was, so that what it keeps of earlier sizes can be compared too
            _grow(index, scratch, rows, done, until, bulk=not kept or until <= min(kept))
            done, root = until, index.root()
            if note is not None and note.head.size == until and note.head.index_root != root:
                what = f"the index root it signs for size {until} is not what those entries give: {root.hex()} is"
                found.false(INDEX_NOTE, what, SIGN_AGAIN)
            if until in kept:
                _write(index, scratch, until)
                if kept[until].index_root != root:
                    what = f"its index root of size {until} is not what the entries give"
                    found.false(ABSENCE_FILE, what, DELETE_ABSENCE)
            if stored is not None and stored.size == until:
                _check_pages(stored, Path(folder) / "scratch.db", found)
    if note is not None:
        found.done.append(f"the index root in {INDEX_NOTE}, re-derived from the entries")
    if stored is not None:
        found.done.append(f"every page of {ABSENCE_FILE}, re-derived from the entries")


def _grow(index: IndexMap, scratch: PageFile, rows: Rows, start: int, end: int, *, bulk: bool) -> None:
    """Add the entries from `start` to `end`; with `bulk` it is written down on the way where it becomes much."""
    for base in range(start, end, _BATCH):
        items: list[tuple[bytes, int]] = []
        query = "SELECT id, pixels, file FROM entry WHERE commitment IS NOT NULL AND id >= ? AND id < ? ORDER BY id"
        for place, pixels, file in rows.query(query, (base, min(base + _BATCH, end))):
            items.append((index_key(PIXELS, bytes.fromhex(pixels)), place))
            if file is not None:
                items.append((index_key(FILE, bytes.fromhex(file)), place))
        index.add(items)
        if bulk and scratch.unwritten > UNWRITTEN_PAGES and base + _BATCH < end:
            _write(index, scratch, base + _BATCH)


def _write(index: IndexMap, scratch: PageFile, size: int) -> None:
    if not scratch.flush(Progress(size, b"", index.root())):
        raise SetupError("the scratch file of this check was changed by another process")


def _check_tree(progress: Progress, log: TiledLog, head: tuple[int, bytes], found: Findings) -> None:
    """absence.db was made from this tree's entries, as far as its right edge says, and what was sealed is this."""
    # an earlier root is read from the tiles, which is worth something only where they were found to be true
    if progress.seal:
        with found.reading(ABSENCE_FILE, DELETE_ABSENCE):
            verify_seal(progress)
    size = progress.size
    if size != head[0] and any(finding.file.startswith("tile/") for finding in found.found):
        return
    hashes = [progress.edge[at : at + HASH_SIZE] for at in range(0, len(progress.edge), HASH_SIZE)]
    with found.reading(ABSENCE_FILE, DELETE_ABSENCE):
        if CompactRange(size, hashes).root() != (head[1] if size == head[0] else log.root(size)):
            raise EvidenceError(f"it was made from another tree of size {size}")


def _check_pages(stored: AbsenceFile, scratch: Path, found: Findings) -> None:
    oldest = stored.kept[0].size
    former, order = "select number, until, hash, records from former", "order by number, until"
    queries = [(table, f"select {columns} from {table} order by {by}") for table, columns, by in _TABLES]  # noqa: S608
    # what the scratch file kept of sizes before the oldest one is not looked for
    pairs = [(table, query, query) for table, query in queries]
    pairs.append(("former", f"{former} where until > {oldest} {order}", f"{former} {order}"))
    pairs.append(
        (
            "progress",
            f"select size, iif(size > {oldest}, replaced, 0) from progress where size >= {oldest} order by size",  # noqa: S608
            "select size, replaced from progress order by size",
        )
    )
    try:
        with contextlib.closing(sqlite3.connect(scratch, isolation_level=None)) as derived:
            for table, expected, given in pairs:
                mine: Iterator[object] = derived.execute(expected)
                theirs: Iterator[object] = stored.database.execute(given)
                if any(a != b for a, b in zip_longest(mine, theirs)):
                    found.false(ABSENCE_FILE, f"its table {table} is not what the entries give", DELETE_ABSENCE)
    except SQLITE_FAILED as error:
        found.false(ABSENCE_FILE, f"SQLite: {error}", DELETE_ABSENCE)
