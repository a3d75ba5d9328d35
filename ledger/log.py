"""The bare log: opaque leaves in, a signed head over their Merkle tree out, durable in one commit; files follow.

    with Log.create("things.log", SignerKey.generate("log.example/things")) as log:
        head = log.append([b"one", b"two"])     # stored, in the tree, under a signed head: one commit of state.db
        log.publish()                           # tiles, bundles and checkpoint.pending for readers
        log.sync()                              # those on the disk; state.db forgets what they hold

A ledger is this log with an author's chain in front and witnesses behind it (sequencer.py), which accepts first and
signs later: `sequence` writes the files *before* the head that names them is signed. Here `publish` may come whenever
it suits: until their bundle is on the disk, entries stay in state.db, and what `public/` holds above `synced_size` is
made again from there after a kill.

Opening checks what cannot be made again: the tiles on the right edge and the entries kept in state.db must give the
root that was signed last, and nothing served may be newer than state.db, or the log does not open (a ledger opens, and
signs nothing: sequencer.py). Whoever needs
protection against a restored backup of the whole folder needs witnesses, hence a ledger.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from ..schemas.errors import EvidenceError, PeerError, SetupError, UsageError
from .merkle.public import CHECKPOINT, PENDING, PUBLIC_FOLDER, PublicFolder
from .merkle.reader import DirectorySource, TiledLog
from .merkle.tiles import HEIGHT, MAX_ENTRY_BYTES, WIDTH, bundle_files, item_count, tile_files
from .merkle.tree import EMPTY_ROOT, CompactRange, complete_root, hash_leaf, hash_leaves
from .notes.checkpoint import Checkpoint, open_checkpoint
from .notes.note import SignerKey
from .storage.disk import storage, sync_folder
from .storage.lock import LOCK_FILE, SequencerLock
from .storage.store import STATE_FILE, Head, LogStore

Row = tuple[bytes, bytes]
"""(leaf, leaf hash)."""

_CHUNK = 16 * WIDTH
"""Entries read, hashed and written at once where many wait; also how many are kept in memory beside state.db."""


@dataclass(frozen=True, slots=True)
class RightEdge:
    """The unfinished tiles and bundle of a tree, in memory: all that appending needs. Never changed once made."""

    range: CompactRange
    items: tuple[tuple[bytes, ...], ...]
    """Of each tile level, the hashes in its unfinished tile."""
    entries: tuple[bytes, ...] = field(repr=False)
    """The entries in the unfinished bundle."""

    @classmethod
    def read(cls, log: TiledLog, base: int) -> RightEdge:
        """The edge at `base` (a multiple of 256) from the tiles above level 0; their hashes are not yet verified."""
        items: list[tuple[bytes, ...]] = [()]
        level = 1
        while (count := item_count(level, base)) > 0:
            first = count - count % WIDTH
            items.append(tuple(log.hash(level * HEIGHT, index, base) for index in range(first, count)))
            level += 1
        return cls(log.right_edge(base), tuple(items), ())

    @property
    def size(self) -> int:
        """Number of leaves."""
        return self.range.size

    def grown(self, rows: Sequence[Row]) -> Growth:
        """What these rows make of it; every node of the tree is hashed once."""
        range_ = self.range.copy()
        new: list[bytes] = [leaf_hash for _, leaf_hash in rows]
        added: list[list[bytes]] = []
        items: list[tuple[bytes, ...]] = []
        full = range_.extend(new, HEIGHT)
        level = 0
        while new or level < len(self.items):
            old = self.items[level] if level < len(self.items) else ()
            both = (*old, *new)
            added.append(new)
            items.append(both[len(both) - len(both) % WIDTH :])
            if level:
                full = [complete_root(both[place : place + WIDTH]) for place in range(0, len(both) - WIDTH + 1, WIDTH)]
            new, level = full, level + 1
        kept = (*self.entries, *(leaf for leaf, _ in rows))
        return Growth(self, RightEdge(range_, tuple(items), kept[len(kept) - range_.size % WIDTH :]), rows, added)


@dataclass(frozen=True, slots=True)
class Growth:
    """The step from one edge to the next."""

    old: RightEdge
    new: RightEdge
    rows: Sequence[Row] = field(repr=False)
    added: Sequence[Sequence[bytes]] = field(repr=False)
    """New items of each tile level."""

    def files(self) -> Iterator[tuple[str, bytes]]:
        """(path, content) of the files it makes: bundles, then tiles upwards."""
        size = self.old.size
        yield from bundle_files(size, self.old.entries, [leaf for leaf, _ in self.rows])
        for level, new in enumerate(self.added):
            if new:
                shared = self.old.items[level] if level < len(self.old.items) else ()
                yield from tile_files(level, item_count(level, size), shared, new)


class Log:
    """See the module. Used by one thread of the one process that holds the folder's lock."""

    def __init__(self, store: LogStore, key: SignerKey | Sequence[SignerKey], public: PublicFolder) -> None:
        """Go on with what is stored; use `create` or `open` for a log by itself. The caller holds the lock.

        Raises `SetupError` if files, state.db and what was signed do not agree. Writes nothing.
        """
        self.store = store
        self.public = public
        self.reader = TiledLog(DirectorySource(public.folder))
        self._keys = (key,) if isinstance(key, SignerKey) else tuple(key)
        self._lock: SequencerLock | None = None
        self._head = store.head
        self._accepted = store.accepted
        self._recent: list[Row] = []
        self._grown: Growth | None = None
        self._edge, self._range = self._start()
        self.behind = self._newer_than_state()
        """What `public/` serves that state.db does not know: state.db is a restored backup, nothing may be signed."""

    # --- by itself ---

    @classmethod
    def create(cls, folder: Path | str, key: SignerKey, *, strict: bool = False) -> Self:
        """Make a log in a new folder; its origin is the key's name. The key is the caller's to keep."""
        path = Path(folder)
        with storage(f"making {path}"):
            taken = path.exists() and (not path.is_dir() or any(path.iterdir()))
        if taken:
            raise UsageError(f"{path} exists and is not empty: choose a new directory")
        with storage(f"making {path}"):
            path.mkdir(parents=True, exist_ok=True)
            note = Checkpoint(key.name, 0, EMPTY_ROOT).sign(key).encode()
            LogStore.create_log(path / STATE_FILE, head=Head(0, EMPTY_ROOT, note), origin=key.name).close()
            sync_folder(path)
        return cls.open(path, key, strict=strict)

    @classmethod
    def open(cls, folder: Path | str, key: SignerKey, *, strict: bool = False) -> Self:
        """Open a log for appending; `SetupError` while another process has it open. `strict` as in `PublicFolder`."""
        path = Path(folder)
        lock = SequencerLock(path / LOCK_FILE)
        if not lock.acquire():
            raise SetupError(f"another process writes to {path}")
        store: LogStore | None = None
        try:
            store = LogStore(path / STATE_FILE)
            if store.origin != key.name:
                raise SetupError(f"{path} is the log {store.origin}, the key is that of {key.name}")
            log = cls(store, key, PublicFolder(path / PUBLIC_FOLDER, strict=strict))
            if log.behind is not None:
                raise SetupError(
                    f"{log.behind}: state.db was restored from a backup; signing would fork the log, so it stays shut"
                )
        except BaseException:
            if store is not None:
                store.close()
            lock.release()
            raise
        log._lock = lock
        return log

    def close(self) -> None:
        """Close database and lock. What is not published stays in state.db."""
        try:
            self.public.settle()
        finally:
            self.store.close()
            if self._lock is not None:
                self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- where it stands ---

    @property
    def head(self) -> Head:
        """The last signed head."""
        return self._head

    @property
    def size(self) -> int:
        """Entries under it."""
        return self._head.size

    @property
    def accepted(self) -> int:
        """Accepted entries."""
        return self._accepted

    # --- growing ---

    def append(self, leaves: Sequence[bytes]) -> Head:
        """Store leaves (each at most 65,535 bytes) and sign the head over all entries: durable when this returns."""
        if self._accepted != self._head.size:
            raise UsageError("entries wait to be sequenced: sequence them first")
        longest = max(map(len, leaves), default=0)
        if longest > MAX_ENTRY_BYTES:
            raise UsageError(f"an entry has at most {MAX_ENTRY_BYTES} bytes, not {longest}")
        rows = list(zip(leaves, hash_leaves(leaves), strict=True))
        if not rows:
            return self._head
        grown, range_ = self._extended(rows)
        head = self._signed(range_)
        self.store.append(self._head, rows, head)
        self.took(rows)
        self._head, self._range, self._grown = head, range_, grown
        return head

    def took(self, rows: Sequence[Row]) -> None:
        """These rows were accepted in state.db, after all others; `sequence` signs for them."""
        self._accepted += len(rows)
        self._recent += rows
        if len(self._recent) > _CHUNK:
            del self._recent[: len(self._recent) - _CHUNK]

    def sequence(self) -> bool:
        """Write the files of what was accepted, sign the head, durably, and serve it as pending; False if none was."""
        if self._accepted == self._head.size:
            return False
        self._write(self._accepted)
        range_ = self._edge.range
        head = self._signed(range_)
        self.store.sign_head(self._head, head)
        self._head, self._range = head, range_
        self.public.write_pending(head.note)
        return True

    def publish(self) -> None:
        """Write the files of everything under the signed head and serve it as pending."""
        self._write(self._head.size)
        self.public.write_pending(self._head.note)

    def resume(self) -> None:
        """After opening: make again what is above `synced_size`, and what of the edge below it is not as it should be.

        The files are flushed then, so that state.db need not hold their entries.
        """
        if self.store.synced_size < self._head.size:
            self.publish()
            self.sync()
            return
        self._write(self._head.size, changed=True)
        self.public.sync()
        self.public.write_pending(self._head.note)

    def sync(self) -> None:
        """Flush written files to the disk and let state.db forget the whole bundles they hold."""
        self.public.sync()
        done = min(self._edge.size, self._head.size)
        if self.store.synced_size < done:
            self.store.set_synced(done)

    def _signed(self, range_: CompactRange) -> Head:
        root = range_.root()
        return Head(range_.size, root, Checkpoint(self._keys[0].name, range_.size, root).sign(*self._keys).encode())

    def _extended(self, rows: Sequence[Row]) -> tuple[Growth | None, CompactRange]:
        """The range after `rows`; where the files have kept up, also all that they need."""
        if self._edge.size == self._head.size:
            grown = self._edge.grown(rows)
            return grown, grown.new.range
        range_ = self._range.copy()
        range_.extend([leaf_hash for _, leaf_hash in rows])
        return None, range_

    def _write(self, end: int, *, changed: bool = False) -> None:
        """Files for all entries below `end`, in steps that end with a whole tile; `changed`: only those that differ."""
        while (start := self._edge.size) < end:
            known = self._grown
            if known is None or known.old is not self._edge or known.new.size > end:
                stop = min(end, (start // _CHUNK + 1) * _CHUNK)
                known = self._edge.grown(self._rows(start, stop))
            self.public.write_tiles(filter(self._differs, known.files()) if changed else known.files())
            self._edge, self._grown = known.new, None

    def _differs(self, file: tuple[str, bytes]) -> bool:
        name, data = file
        try:
            return self.reader.source.fetch(name, len(data)) != data
        except EvidenceError:  # it is longer
            return True

    def _rows(self, start: int, end: int) -> Sequence[Row]:
        first = self._accepted - len(self._recent)
        if start >= first:
            return self._recent[start - first : end - first]
        return self.store.entries(start, end)

    # --- opening ---

    def _start(self) -> tuple[RightEdge, CompactRange]:
        """(the edge that tiles on the disk give, the range at the head), the head's root made again from both."""
        head, synced = self._head, self.store.synced_size
        base = synced - synced % WIDTH
        try:
            edge = RightEdge.read(self.reader, base)
            range_ = edge.range.copy()
            for start in range(base, head.size, _CHUNK):
                rows = self.store.entries(start, min(head.size, start + _CHUNK))
                if any(hash_leaf(leaf) != leaf_hash for leaf, leaf_hash in rows):
                    raise SetupError("state.db is damaged: an entry does not have its own hash")
                range_.extend([leaf_hash for _, leaf_hash in rows])
        except (EvidenceError, PeerError) as error:
            raise SetupError(
                f"the ledger does not open: {error}; restore public/ from a mirror or backup (nothing was signed)"
            ) from error
        if range_.root() != head.root:
            raise SetupError(
                f"the tiles on the right edge do not give the root that was signed for size {head.size}: a file in "
                "public/tile was changed or state.db is not this log's; restore public/ from a mirror or backup"
            )
        return edge, range_

    def _newer_than_state(self) -> str | None:
        """What this log has served and signed is never served backwards: what is newer than state.db, in words."""
        head = self._head
        for path in (CHECKPOINT, PENDING):
            try:
                found, _ = open_checkpoint(self.reader.checkpoint_bytes(path), [key.verifier for key in self._keys])
            except (EvidenceError, PeerError):
                continue  # absent or not ours: it is written anew
            if found.size > head.size or (found.size == head.size and found.root != head.root):
                return f"public/{path} has size {found.size} and this log's signature, state.db knows size {head.size}"
        return None


__all__ = ["Growth", "Log", "RightEdge", "Row"]
