"""The `public/` folder: all that may be served, and nothing in it is trusted (readers re-hash it under a signed root).

    checkpoint            the last head that met the quorum
    checkpoint.pending    the last head that was signed
    checkpoints/SIZE      every head that met the quorum, by size: the first that covers an entry dates it
    tile/...              tiles and entry bundles (tiles.py)

Tiles never change; each partial width has a path of its own. With `strict` they are flushed before `write_tiles`
returns, otherwise at the next `sync`: until then state.db still holds what they are made of.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from ..storage.disk import remove_leftovers, storage, sync_file, sync_folder, sync_paths, write_file

PUBLIC_FOLDER = "public"
CHECKPOINT = "checkpoint"
PENDING = "checkpoint.pending"
CHECKPOINTS = "checkpoints"
PENDING_SECONDS = 0.1


class PublicFolder:
    """Writing side of `public/`; used by the one process that sequences."""

    def __init__(self, folder: Path, *, strict: bool) -> None:
        self.folder = folder
        self._strict = strict
        # kept in the order of writing; a folder needs flushing for each name made in it
        self._files: dict[Path, None] = {}
        self._folders: dict[Path, None] = {}
        self._seen: set[Path] = set()
        self._pending: bytes | None = None
        self._pending_at = -PENDING_SECONDS
        with storage(f"preparing {folder}"):
            (folder / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
        remove_leftovers(folder)

    def write_tiles(self, files: Iterable[tuple[str, bytes]]) -> None:
        """Write tiles and bundles by their paths, each atomically."""
        with storage(f"writing {self.folder}"):
            for name, data in files:
                path = self.folder / name
                if path.parent not in self._seen:
                    if path.parent.is_dir():
                        remove_leftovers(path.parent)
                    else:
                        self._make_folder(path.parent)
                    self._seen.add(path.parent)
                write_file(path, data, sync=False)
                self._files[path] = None
                self._folders[path.parent] = None
        if self._strict:
            self.sync()

    def sync(self) -> None:
        """Flush every tile written since the last call; after it they are durable."""
        with storage(f"flushing {self.folder}"):
            for flush, paths in ((sync_file, self._files), (sync_folder, self._folders)):
                sync_paths(list(paths), partial(_unless_collected, flush))
        self._files.clear()
        self._folders.clear()
        self.settle()

    @property
    def dirty(self) -> bool:
        """Whether a `sync` has something to do."""
        return bool(self._files) or self._pending is not None

    def write_pending(self, note: bytes) -> None:
        """Serve a signed head that waits for its quorum. Derived from state.db, so it need not be flushed.

        Of heads that follow each other within a tenth of a second only the first is written at once; the last is
        by the next `sync`, `settle` or `write_checkpoint`. With `strict` all are.
        """
        self._pending = note
        if self._strict or time.monotonic() - self._pending_at >= PENDING_SECONDS:
            self.settle()

    def settle(self) -> None:
        """Write the pending head that was put off, if one was."""
        if self._pending is None:
            return
        with storage(f"writing {self.folder / PENDING}"):
            write_file(self.folder / PENDING, self._pending, sync=self._strict)
        self._pending, self._pending_at = None, time.monotonic()

    def write_checkpoint(self, size: int, note: bytes) -> None:
        """Serve a head that met the quorum: first its dated copy, durably, then `checkpoint` moves."""
        self.settle()
        with storage(f"writing {self.folder / CHECKPOINT}"):
            copy = self.folder / CHECKPOINTS / str(size)
            # the first cosigned note of a size is the one that dates it
            if not copy.exists():
                write_file(copy, note)
            write_file(self.folder / CHECKPOINT, note, sync=self._strict)

    def _make_folder(self, folder: Path) -> None:
        if folder.is_dir():
            return
        self._make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        self._folders[folder.parent] = None


def _unless_collected(flush: Callable[[Path], None], path: Path) -> None:
    try:
        flush(path)
    except FileNotFoundError:
        if not _collected(path):
            raise


def _collected(path: Path) -> bool:
    """Whether `pd gc` may have taken a partial file or its folder since it was written: the full file is there."""
    folder = path if path.name.endswith(".p") else path.parent
    return folder.name.endswith(".p") and folder.with_name(folder.name.removesuffix(".p")).is_file()
