"""The copy of one log: tiles and bundles of everything verified so far, and how far that is on the disk.

    logs/HASH/public/     what is served: checkpoint, checkpoints/SIZE, tile/..., index/latest
    logs/HASH/progress    size and root of the entries that are on the disk, written after they were flushed
    logs/HASH/absence.db  derived

Nothing is written that was not verified under a head the log signed; whoever calls `write` has done that. A kill leaves
files above `progress`, which are written again with the same bytes. Nothing here is trusted: when a copy is opened its
tiles and its unfinished bundle must give the root that `progress` names, and before a head is cosigned they must give
that head's root. Delete `progress` and the copy is made anew, file by file.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from pathlib import Path

from ...ledger.log import Growth, RightEdge
from ...ledger.merkle.public import CHECKPOINT, PUBLIC_FOLDER, PublicFolder
from ...ledger.merkle.reader import DirectorySource, TiledLog
from ...ledger.merkle.tiles import WIDTH, Tile, encode_bundle, encode_tile, item_count
from ...ledger.merkle.tree import EMPTY_ROOT, CompactRange, hash_leaves
from ...ledger.notes.checkpoint import Checkpoint
from ...ledger.notes.note import Note
from ...ledger.notes.wire import decode_hash, encode_base64, parse_decimal
from ...ledger.storage.disk import StorageBroken, storage, write_file
from ...schemas.errors import EvidenceError, PeerError, SetupError

PROGRESS = "progress"


class Copy:
    """The files of one log below `folder`. Callers hold `lock` while they grow it or rely on its size."""

    def __init__(self, folder: Path) -> None:
        """Open, or begin at 0; `SetupError` if the files do not give the root that `progress` names."""
        self.folder = folder
        self.lock = threading.RLock()
        with storage(f"preparing {folder}"):
            folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        self.public = PublicFolder(folder / PUBLIC_FOLDER, strict=False)
        self.log = TiledLog(DirectorySource(self.public.folder), cache_tiles=64, cache_bundles=2)
        self._edge = self._read()
        self._flushed = self._edge.size
        self._broken: StorageBroken | None = None

    @property
    def size(self) -> int:
        """Entries that are verified and written: the protocol's next entry."""
        return self._edge.size

    @property
    def edge(self) -> RightEdge:
        """What appending needs."""
        return self._edge

    def grown(self, leaves: Sequence[bytes], hashes: Sequence[bytes] | None = None) -> Growth:
        """What these leaves would make of it; nothing is written."""
        rows = list(zip(leaves, hash_leaves(leaves) if hashes is None else hashes, strict=True))
        return self._edge.grown(rows)

    def write(self, growth: Growth, files: Iterable[tuple[str, bytes]] | None = None) -> None:
        """Write the files of verified entries (`files`, where the caller made them). Durable after `flush`."""
        self._require_whole()
        if growth.old is not self._edge:
            raise SetupError(f"{self.folder} grew meanwhile")
        self.public.write_tiles(growth.files() if files is None else files)
        self._edge = growth.new

    def flush(self) -> None:
        """Everything written is on the disk, and `progress` says so, when this returns."""
        self._require_whole()
        if self._flushed == self.size and (self.folder / PROGRESS).exists():
            return
        try:
            self.public.sync()
            text = f"{self.size}\n{encode_base64(self._edge.range.root())}\n"
            with storage(f"writing {self.folder / PROGRESS}"):
                write_file(self.folder / PROGRESS, text.encode("ascii"))
        except StorageBroken as error:
            # the kernel may call lost pages clean: a second flush that succeeds would say nothing
            self._broken = StorageBroken(
                f"{error}; this copy takes and cosigns nothing until the mirror is started again"
            )
            raise
        self._flushed = self.size

    def _require_whole(self) -> None:
        if self._broken is not None:
            raise self._broken

    def hashes(self, start: int, end: int) -> list[bytes]:
        """Leaf hashes of the entries [start, end) that are here, within one tile."""
        base = self.size - self.size % WIDTH
        if start >= base:
            return list(self._edge.items[0][start - base : end - base]) if self._edge.items else []
        return [self.log.hash(0, index, self.size) for index in range(start, end)]

    def root(self, size: int) -> bytes:
        """The root of the first `size` entries, from the files; the partial files of that size are there then."""
        if size == 0:
            return EMPTY_ROOT
        self._cut(size)
        return self.log.root(size)

    def consistency(self, old: int, new: int) -> list[bytes]:
        """Consistency proof between two sizes that `root` was asked about."""
        return self.log.consistency(old, new) if 0 < old < new else []

    def serve(self, size: int, note: bytes) -> None:
        """Serve a cosigned head; its first note of a size is kept under `checkpoints/`."""
        self.public.write_checkpoint(size, note)

    def served(self) -> tuple[Checkpoint, Note] | None:
        """The head that is served now, unverified; None if there is none that can be read."""
        try:
            note = Note.parse(self.log.checkpoint_bytes(CHECKPOINT))
            return Checkpoint.parse(note.text), note
        except (EvidenceError, PeerError):
            return None

    # --- opening, and the partial files of earlier sizes ---

    def _read(self) -> RightEdge:
        path = self.folder / PROGRESS
        try:
            with storage(f"reading {path}"):
                text = path.read_text("ascii")
        except SetupError as error:
            if isinstance(error.__cause__, FileNotFoundError):
                return RightEdge(CompactRange(), ((),), ())
            raise
        remedy = f"delete {path}, then the copy is made anew"
        try:
            lines = text.split("\n")
            size = parse_decimal(lines[0], "the size in progress")
            root = decode_hash(lines[1], "the root in progress")
            base = size - size % WIDTH
            edge = RightEdge.read(self.log, base)
            if size > base:
                leaves = list(self.log.entries(base, size, size))
                edge = edge.grown(list(zip(leaves, hash_leaves(leaves), strict=True))).new
        except (EvidenceError, PeerError, IndexError) as error:
            raise SetupError(f"the copy in {self.folder} cannot be read: {error}; {remedy}") from None
        if edge.range.root() != root:
            raise SetupError(f"the files in {self.folder} do not give the root that was verified; {remedy}")
        return edge

    def _cut(self, size: int) -> None:
        """Write the partial tiles and bundle of an earlier size that are not there, out of the wider ones."""
        made: list[tuple[str, bytes]] = []
        level = 0
        while (count := item_count(level, size)) > 0:
            index, width = divmod(count, WIDTH)
            if width:
                made += self._partial(Tile(level, index, width))
                if level == 0:
                    made += self._partial(Tile(None, index, width))
            level += 1
        if made:
            self.public.write_tiles(made)
            self.public.sync()

    def _partial(self, tile: Tile) -> list[tuple[str, bytes]]:
        if (self.public.folder / tile.path).is_file() or (self.public.folder / tile.full.path).is_file():
            return []
        # neither of this width nor full: then it is the unfinished one, which is in memory
        if tile.is_bundle:
            return [(tile.path, encode_bundle(self._edge.entries[: tile.width]))]
        return [(tile.path, encode_tile(self._edge.items[tile.level or 0][: tile.width]))]


__all__ = ["PROGRESS", "Copy"]
