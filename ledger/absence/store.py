"""The absence index beside a log, derived from its entries and caught up with each checkpoint.

Only entries that came after the file's are read. Every one is hashed as received while it is indexed, and the hashes
must give the root that the checkpoint signs: tiles, lookup.db and absence.db are trusted for nothing. The file's own
part of that is held together by hashes: what it says of its entries' tree must lead to the checkpoint, its pages to the
index root beside it (bucket.py, trie.py), and that root counts, for who signs roots, only where the same key signed it
before. So a damaged file is noticed before anything is signed or proven from it.

The file then is of no use, and `anew` says what happens: it is made again from the first entry, and the caller is told
why, or the error is the caller's. It is not silently rebuilt where it speaks of another tree than the log, or of a
longer one: a log that became shorter or other is what somebody must see.

Where the file cannot be written (read-only file system) the index is made in memory.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path

from ...schemas.errors import EvidenceError, PlausibleError, SetupError
from ..merkle.reader import TiledLog
from ..merkle.tiles import WIDTH
from ..merkle.tree import CompactRange, consistency_path, hash_leaf, verify_consistency
from ..notes.checkpoint import Checkpoint
from ..notes.note import Note, SignerKey, VerifierKey
from ..notes.wire import HASH_SIZE
from ..storage.disk import SQLITE_FAILED
from ..storage.lookup import read_bundle
from .keys import EMPTY, leaf_keys
from .layout import MemoryPages, Unfit
from .note import IndexHead
from .pages import ABSENCE_FILE, PageFile, Progress, remove_file
from .trie import IndexMap

_BATCH = 16 * WIDTH
_SHARED = 16
"""Keys that are added between two breaths."""
UNWRITTEN_PAGES = 96 * 1024
_BROKEN = f"{ABSENCE_FILE} contradicts itself; delete it, it is rebuilt"


class Paused(Exception):  # noqa: N818  (named by what happened)
    """Raised by a caller's `progress`: what was caught up so far is kept, and gone on from the next time."""


@dataclass(slots=True)
class _View:
    """A map, and the tree of the entries it was made from."""

    index: IndexMap
    edge: CompactRange
    file: PageFile | None = None
    writes: bool = False
    """Whether the file is this store's to write: what a signer sealed is only read by others."""
    written: int = 0
    """How far the file goes."""


class AbsenceStore:
    """The index of one log in a file, or in memory where `path` is None or cannot be written. Thread-safe.

    lazy    changes are written when they have become many, and at `close`: for who keeps up with a growing log
    signer  who signs the roots: what is in the file counts only where this key signed it, and is signed when written
    anew    called with the reason when the file is of no use, which is then made from the first entry on; without it
            that is an error
    breathe called between entries, by who shares the interpreter; `progress` is then called after each bundle
    """

    def __init__(
        self,
        path: Path | None,
        *,
        lazy: bool = False,
        signer: SignerKey | None = None,
        anew: Callable[[str], None] | None = None,
        breathe: Callable[[], None] | None = None,
    ) -> None:
        self._breathe = breathe
        self._path = path
        self._lazy = lazy
        self._signer = signer
        self._anew = anew
        self._view: _View | None = None
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def at(
        self, log: TiledLog, checkpoint: Checkpoint, progress: Callable[[int, int], None] | None = None
    ) -> Generator[IndexMap, None, None]:
        """The map over exactly the entries that a checkpoint covers, caught up first. The checkpoint is the caller's.

        One that the log and the file have outgrown is answered from the last sizes that the file keeps. Raises
        `EvidenceError` if the entries do not hash to the checkpoint's root, `SetupError` if the file is ahead of the
        log or contradicts itself, `PeerError` if entries are missing.
        """
        with self._lock:
            try:
                view = self._fitting(log, checkpoint, progress)
                yield view.index
            except SQLITE_FAILED as error:
                self._drop()
                raise SetupError(f"{ABSENCE_FILE} failed: {error}; delete it, it is rebuilt") from error
            except Paused:
                raise
            except BaseException:
                self._drop()
                raise
            finally:
                if self._view is not None and self._view.file is not None:
                    if self._lazy:
                        self._view.file.end()
                    else:
                        self._drop()

    def flush(self, origin: str) -> None:
        """Write what a lazy store has not written; what cannot be written is kept."""
        with self._lock:
            if self._view is not None and self._view.file is not None:
                try:
                    self._flush(self._view, origin)
                except (*SQLITE_FAILED, Unfit):
                    self._drop()
                else:
                    self._view.file.end()

    def close(self, origin: str | None = None) -> None:
        """Write what is not written (a store with a signer must be told the log's origin), and let go of the file."""
        with self._lock:
            view, self._view = self._view, None
            if view is not None and view.file is not None:
                with contextlib.closing(view.file), contextlib.suppress(*SQLITE_FAILED, Unfit):
                    if origin is not None or self._signer is None:
                        self._flush(view, origin or "")

    def _drop(self) -> None:
        view, self._view = self._view, None
        if view is not None and view.file is not None:
            view.file.close()

    def _fitting(self, log: TiledLog, checkpoint: Checkpoint, progress: Callable[[int, int], None] | None) -> _View:
        """`_caught_up`, from the first entry on if the file is of no use and that is wanted."""
        if self._anew is None:
            return self._caught_up(log, checkpoint, progress)
        try:
            return self._caught_up(log, checkpoint, progress)
        except (Unfit, sqlite3.DatabaseError, UnicodeDecodeError) as error:
            if isinstance(error, sqlite3.OperationalError) or self._path is None:
                raise
            reason = str(error) if isinstance(error, PlausibleError) else f"{ABSENCE_FILE} failed: {error}"
        self._drop()
        remove_file(self._path)
        self._anew(reason)
        return self._caught_up(log, checkpoint, progress)

    def _caught_up(self, log: TiledLog, checkpoint: Checkpoint, progress: Callable[[int, int], None] | None) -> _View:
        """A view over a checkpoint's entries, its file held still."""
        size, origin = checkpoint.size, checkpoint.origin
        view = self._begin(origin)
        if view.edge.size > size:
            view = self._former(view, log, checkpoint)
        if view.edge.size:
            _require_history(view, log, checkpoint)
        batch = _BATCH if self._breathe is None else WIDTH
        while view.edge.size < size:
            try:
                _take(view, log, min(size, (view.edge.size // batch + 1) * batch), size, self._breathe)
                last = view.edge.size >= size
                due = view.writes and view.file is not None and view.file.unwritten > UNWRITTEN_PAGES
                if last or due:
                    _require_root(view, log, checkpoint)  # before anything of it is written
                if (due or (last and not self._lazy)) and not self._flush(view, origin):
                    view = self._begin(origin)  # another process was faster: go on from what it wrote
                    if view.edge.size > size:
                        view = self._former(view, log, checkpoint)
                    _require_history(view, log, checkpoint)
            except sqlite3.OperationalError:
                if view.file is None:
                    raise
                self._drop()  # nothing can be written here: make it in memory
                view = self._view = _View(IndexMap(MemoryPages()), CompactRange())
            if progress is not None:
                try:
                    progress(view.edge.size, size)
                except Paused:
                    _require_root(view, log, checkpoint)  # `close` may write it
                    raise
        _require_root(view, log, checkpoint)
        return view

    def _begin(self, origin: str) -> _View:
        """The view as it was left, or anew from what the file holds now."""
        if self._view is None:
            self._view = self._opened()
        file = self._view.file
        if file is None:
            return self._view
        file.end()
        found, other = file.begin()
        if other or self._view.edge.size == 0:
            self._view = _View(IndexMap(file), CompactRange(), file, True)
            if found is not None:
                self._view.edge, self._view.written = _edge(found), found.size
                self._view.writes = self._signer is not None or not found.seal
                self._check_seal(found, origin)
            if self._view.index.root() != (EMPTY if found is None else found.index_root):
                raise Unfit(_BROKEN)
        return self._view

    def _opened(self) -> _View:
        if self._path is not None:
            try:
                file = PageFile(self._path)
            except sqlite3.OperationalError:  # it cannot be written
                pass
            else:
                return _View(IndexMap(file), CompactRange(), file)
        return _View(IndexMap(MemoryPages()), CompactRange())

    def _check_seal(self, found: Progress, origin: str) -> None:
        """`Unfit` unless this signer made the file, if there is one."""
        if self._signer is None:
            return
        try:
            if verify_seal(found, origin) == self._signer.verifier:
                return
        except EvidenceError:
            pass
        name = self._signer.verifier.name
        raise Unfit(f"{ABSENCE_FILE} was not made under the key {name}, which signs only what it recomputed")

    def _flush(self, view: _View, origin: str) -> bool:
        """Write what is not written; False if another process moved the file on meanwhile."""
        if view.file is None or not view.writes or view.written >= view.edge.size:
            return True
        root, seal = view.index.root(), b""
        if self._signer is not None:
            note = IndexHead(origin, view.edge.size, view.edge.root(), root).sign(self._signer)
            seal = f"{self._signer.verifier}\n".encode() + note.encode()
        view.written = view.edge.size
        return view.file.flush(Progress(view.edge.size, b"".join(view.edge.edge), root, seal))

    def _former(self, view: _View, log: TiledLog, checkpoint: Checkpoint) -> _View:
        """The map at a size that the file has gone beyond, if the log has too; what is added stays in memory."""
        size, ahead = checkpoint.size, view.edge.size
        served = Checkpoint.parse(Note.parse(log.checkpoint_bytes()).text).size
        if served < ahead:
            raise Unfit(
                f"{ABSENCE_FILE} has seen {ahead} entries and the checkpoint of {checkpoint.origin} covers {served}: "
                f"the log was set back, or {ABSENCE_FILE} is another log's; once you know which, delete it: it is "
                "rebuilt"
            )
        found = view.file.former(size) if view.file is not None else None
        if found is None:
            return _View(IndexMap(MemoryPages()), CompactRange())
        progress, pages = found
        former = _View(IndexMap(pages), _edge(progress))
        if former.index.root() != progress.index_root:
            raise Unfit(_BROKEN)
        return former


def verify_seal(found: Progress, origin: str | None = None) -> VerifierKey:
    """Whose signature stands under a file's state (of the log `origin`); `EvidenceError` if it is over another one."""
    vkey, _, note = found.seal.partition(b"\n")
    try:
        key, sealed = VerifierKey.parse(vkey.decode("utf-8")), Note.parse(note)
    except UnicodeDecodeError:
        raise EvidenceError("the seal names no key") from None
    sealed.verify([key])
    head = IndexHead.parse(sealed.text)
    if head != IndexHead(origin or head.origin, found.size, _edge(found).root(), found.index_root):
        raise EvidenceError("the seal is over another state")
    return key


def _edge(found: Progress) -> CompactRange:
    """The right edge that a file names; `Unfit` if it is none."""
    try:
        return CompactRange(
            found.size, [found.edge[at : at + HASH_SIZE] for at in range(0, len(found.edge), HASH_SIZE)]
        )
    except EvidenceError:
        raise Unfit(_BROKEN) from None


def _require_history(view: _View, log: TiledLog, checkpoint: Checkpoint) -> None:
    """`Unfit` if the log's own tiles, true under the checkpoint, show that the map is of another history."""
    size, end = view.edge.size, checkpoint.size
    if log.root(end) != checkpoint.root or log.root(size) == view.edge.root():
        return  # that of the tiles is what the entries are read for
    verify_consistency(size, log.root(size), end, checkpoint.root, log.consistency(size, end))
    raise Unfit(
        f"the entries that {ABSENCE_FILE} was made from do not hash to the root of {checkpoint.origin} at size {size}: "
        f"it is another log's, or that of another history; once you know which, delete it, it is rebuilt"
    )


def _require_root(view: _View, log: TiledLog, checkpoint: Checkpoint) -> None:
    """The entries so far lead to the checkpoint's root; `EvidenceError` if not."""
    size, end = view.edge.size, checkpoint.size
    try:
        if size == end:
            if view.edge.root() != checkpoint.root:
                raise EvidenceError("the root is another one")
        else:
            path = consistency_path(lambda level, index: log.hash(level, index, end), size, end)
            verify_consistency(size, view.edge.root(), end, checkpoint.root, path)
    except EvidenceError as error:
        raise EvidenceError(
            f"the first {size} entries do not hash to the root of the checkpoint of {checkpoint.origin} of size {end}: "
            f"the log contradicts itself ({error})"
        ) from None


def _take(view: _View, log: TiledLog, end: int, size: int, breathe: Callable[[], None] | None) -> None:
    """Index the entries from the edge to `end` of a tree of `size`; the edge moves along."""
    items: list[tuple[bytes, int]] = []
    start = view.edge.size
    for number in range(start // WIDTH, (end + WIDTH - 1) // WIDTH):
        for place, leaf in enumerate(read_bundle(log, number, size), number * WIDTH):
            if start <= place < end:
                view.edge.append(hash_leaf(leaf))
                items += [(key, place) for key in leaf_keys(leaf)]
                if breathe is not None:
                    breathe()
    if breathe is None:
        view.index.add(items)
        return
    for start in range(0, len(items), _SHARED):
        view.index.add(items[start : start + _SHARED])
        breathe()
