"""The absence index beside a log, derived from its entries and caught up with each checkpoint.

Every entry is hashed as received while it is indexed, and the hashes must give the root that the checkpoint signs:
tiles, lookup.db and absence.db are trusted for nothing. Delete absence.db and it comes back. It is not silently rebuilt
where it speaks of another tree than the log, or of a longer one: a log that became shorter or other is what somebody
must see.

Where the file cannot be written (read-only file system) the index is made in memory.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path

from ...schemas.errors import EvidenceError, SetupError
from ..merkle.reader import TiledLog
from ..merkle.tiles import WIDTH
from ..merkle.tree import CompactRange, hash_leaf
from ..notes.checkpoint import Checkpoint
from ..notes.wire import HASH_SIZE
from ..storage.lookup import read_bundle
from .keys import EMPTY, leaf_keys
from .pages import ABSENCE_FILE, PageFile, Progress
from .trie import IndexMap, MemoryPages

_BATCH = 16 * WIDTH
UNWRITTEN_PAGES = 96 * 1024
_BROKEN = f"{ABSENCE_FILE} contradicts itself; delete it, it is rebuilt"


@dataclass(slots=True)
class _View:
    """A map, and the tree of the entries it was made from."""

    index: IndexMap
    edge: CompactRange
    file: PageFile | None

    def flush(self) -> bool:
        """Write what is not written; False if another process moved the file on meanwhile."""
        if self.file is None or not self.file.unwritten:
            return True
        return self.file.flush(Progress(self.edge.size, b"".join(self.edge.edge), self.index.root()))


class AbsenceStore:
    """The index of one log in a file, or in memory where `path` is None or cannot be written. Thread-safe.

    With `lazy` changes are written when they have become many, and at `close`: for who keeps up with a growing log.
    """

    def __init__(self, path: Path | None, *, lazy: bool = False) -> None:
        self._path = path
        self._lazy = lazy
        self._view: _View | None = None
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def at(
        self, log: TiledLog, checkpoint: Checkpoint, progress: Callable[[int, int], None] | None = None
    ) -> Generator[IndexMap, None, None]:
        """The map over exactly the entries that a checkpoint covers, caught up first. The checkpoint is the caller's.

        Raises `EvidenceError` if the entries do not hash to the checkpoint's root, `SetupError` if the file is ahead of
        the checkpoint or contradicts itself, `PeerError` if entries are missing.
        """
        with self._lock:
            try:
                view = self._caught_up(log, checkpoint, progress)
                yield view.index
            except sqlite3.Error as error:
                self._drop()
                raise SetupError(f"{ABSENCE_FILE} failed: {error}; delete it, it is rebuilt") from error
            except BaseException:
                self._drop()
                raise
            finally:
                if self._view is not None and self._view.file is not None:
                    if self._lazy:
                        self._view.file.end()
                    else:
                        self._drop()

    def close(self) -> None:
        """Write what is not written, and let go of the file."""
        with self._lock:
            view, self._view = self._view, None
            if view is not None and view.file is not None:
                with contextlib.closing(view.file), contextlib.suppress(sqlite3.OperationalError):
                    view.flush()

    def _drop(self) -> None:
        view, self._view = self._view, None
        if view is not None and view.file is not None:
            view.file.close()

    def _caught_up(self, log: TiledLog, checkpoint: Checkpoint, progress: Callable[[int, int], None] | None) -> _View:
        """A view over a checkpoint's entries, its file held still."""
        size, origin = checkpoint.size, checkpoint.origin
        view = self._begin()
        while view.edge.size < size:
            try:
                _take(view, log, min(size, (view.edge.size // _BATCH + 1) * _BATCH), size)
                last = view.edge.size >= size
                if last:
                    _require_root(view, checkpoint)  # before anything of it is written
                due = view.file is not None and view.file.unwritten > UNWRITTEN_PAGES
                if (due or (last and not self._lazy)) and not view.flush():
                    view = self._begin()  # another process was faster: go on from what it wrote
            except sqlite3.OperationalError:
                if view.file is None:
                    raise
                self._drop()  # nothing can be written here: make it in memory
                view = self._view = _View(IndexMap(MemoryPages()), CompactRange(), None)
            if progress is not None:
                progress(view.edge.size, size)
        if view.edge.size > size:
            raise SetupError(
                f"{ABSENCE_FILE} has seen {view.edge.size} entries and the checkpoint of {origin} covers {size}: the "
                f"log was set back, or {ABSENCE_FILE} is another log's; once you know which, delete it, it is rebuilt"
            )
        _require_root(view, checkpoint)
        return view

    def _begin(self) -> _View:
        """The view as it was left, or anew from what the file holds now."""
        if self._view is None:
            self._view = self._opened()
        file = self._view.file
        if file is None:
            return self._view
        file.end()
        found, other = file.begin()
        if other or self._view.edge.size == 0:
            index = IndexMap(file)
            edge, index_root = CompactRange(), EMPTY
            if found is not None:
                index_root = found.index_root
                hashes = [found.edge[i : i + HASH_SIZE] for i in range(0, len(found.edge), HASH_SIZE)]
                try:
                    edge = CompactRange(found.size, hashes)
                except EvidenceError:
                    raise SetupError(_BROKEN) from None
            if index.root() != index_root:
                raise SetupError(_BROKEN)
            self._view = _View(index, edge, file)
        return self._view

    def _opened(self) -> _View:
        if self._path is not None:
            try:
                file = PageFile(self._path)
            except sqlite3.OperationalError:  # it cannot be written
                pass
            else:
                return _View(IndexMap(file), CompactRange(), file)
        return _View(IndexMap(MemoryPages()), CompactRange(), None)


def _require_root(view: _View, checkpoint: Checkpoint) -> None:
    if view.edge.root() != checkpoint.root:
        raise EvidenceError(
            f"the entries that the absence index was made from do not hash to the root of the checkpoint of "
            f"{checkpoint.origin} of size {checkpoint.size}: the log contradicts itself, or {ABSENCE_FILE} is another "
            f"log's; once you know which, delete {ABSENCE_FILE}"
        )


def _take(view: _View, log: TiledLog, end: int, size: int) -> None:
    """Index the entries from the edge to `end` of a tree of `size`; the edge moves along."""
    items: list[tuple[bytes, int]] = []
    start = view.edge.size
    for number in range(start // WIDTH, (end + WIDTH - 1) // WIDTH):
        for place, leaf in enumerate(read_bundle(log, number, size), number * WIDTH):
            if start <= place < end:
                view.edge.append(hash_leaf(leaf))
                items += [(key, place) for key in leaf_keys(leaf)]
    view.index.add(items)
