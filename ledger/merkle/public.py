"""The `public/` folder: all that may be served, and nothing in it is trusted (readers re-hash it under a signed root).

    checkpoint            the last head that met the quorum
    checkpoint.pending    the last head that was signed
    checkpoints/SIZE      every head that met the quorum, by size: the first that covers an entry dates it
    tile/...              tiles and entry bundles (tiles.py)

Tiles never change; each partial width has a path of its own. With `strict` they are flushed before `write_tiles`
returns, otherwise at the next `sync`: until then state.db still holds what they are made of.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ..storage.disk import remove_leftovers, storage, sync_file, sync_folder, write_file

PUBLIC_FOLDER = "public"
CHECKPOINT = "checkpoint"
PENDING = "checkpoint.pending"
CHECKPOINTS = "checkpoints"


class PublicFolder:
    """Writing side of `public/`; used by the one process that sequences."""

    def __init__(self, folder: Path, *, strict: bool) -> None:
        self.folder = folder
        self._strict = strict
        # kept in the order of writing; a folder needs flushing for each name made in it
        self._files: dict[Path, None] = {}
        self._folders: dict[Path, None] = {}
        self._seen: set[Path] = set()
        with storage(f"preparing {folder}"):
            (folder / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
        remove_leftovers(folder)

    def write_tiles(self, files: Iterable[tuple[str, bytes]]) -> None:
        """Write tiles and bundles by their paths, each atomically."""
        with storage(f"writing {self.folder}"):
            for name, data in files:
                path = self.folder / name
                if path.parent not in self._seen:
                    self._make_folder(path.parent)
                    remove_leftovers(path.parent)
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
                for path in paths:
                    try:
                        flush(path)
                    except FileNotFoundError:
                        if not _collected(path):
                            raise
        self._files.clear()
        self._folders.clear()

    @property
    def dirty(self) -> bool:
        """Whether a `sync` has something to do."""
        return bool(self._files)

    def write_pending(self, note: bytes) -> None:
        """Serve a signed head that waits for its quorum. Derived from state.db, so it need not be flushed."""
        with storage(f"writing {self.folder / PENDING}"):
            write_file(self.folder / PENDING, note, sync=self._strict)

    def write_checkpoint(self, size: int, note: bytes) -> None:
        """Serve a head that met the quorum: first its dated copy, durably, then `checkpoint` moves."""
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


def _collected(path: Path) -> bool:
    """Whether `pd gc` may have taken a partial file or its folder since it was written: the full file is there."""
    folder = path if path.name.endswith(".p") else path.parent
    return folder.name.endswith(".p") and folder.with_name(folder.name.removesuffix(".p")).is_file()
