"""Reading any tiled log, near or far, without trusting what it serves (C2SP tlog-tiles).

A `Source` gives files by path: a folder here, HTTP in the node room. `TiledLog` turns tiles into the complete-subtree
hashes that proofs are made of. Nothing read is trusted: entries are hashed and compared with their tile, inclusion
paths are led back to the root that the tiles give, and that root must still be compared with a signed checkpoint, as
`verify_inclusion` and `verify_consistency` do. Malformed files are `EvidenceError`, missing ones `PeerError`.
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from ..schemas.errors import EvidenceError, PeerError, SetupError, UsageError
from . import tree
from .note import MAX_NOTE_BYTES
from .tiles import HEIGHT, WIDTH, Tile, decode_bundle, decode_tile, tile_at

_SEGMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", re.ASCII)


class NotServed(PeerError):  # noqa: N818  (named by what happened)
    """The log answered, and says that it has no such file."""


class Source(Protocol):
    """Where a log's files come from."""

    def fetch(self, path: str, limit: int) -> bytes | None:
        """The file at `path` (forward slashes, relative), or None if there is none.

        Raises `EvidenceError` if it has more than `limit` bytes, `PeerError` or `SetupError` if it cannot be read.
        """
        ...


class DirectorySource:
    """A log's `public/` folder on this machine. No path leads out of it, by dots, slashes or links."""

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)

    def fetch(self, path: str, limit: int) -> bytes | None:
        """See `Source.fetch`; a path with anything but plain segments is an `EvidenceError`."""
        if not all(_SEGMENT.fullmatch(segment) for segment in path.split("/")):
            raise EvidenceError(f"{path[:80]!r} is not a path inside a log")
        try:
            root = self.folder.resolve()
            target = (root / path).resolve()
            if not target.is_relative_to(root):
                raise EvidenceError(f"{path[:80]!r} leads out of the log's folder")
            with target.open("rb") as file:
                data = file.read(limit + 1)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
        except (OSError, RuntimeError) as error:  # RuntimeError: how pathlib reports a loop of links before 3.13
            raise SetupError(f"cannot read {self.folder / path}: {error}") from None
        if len(data) > limit:
            raise EvidenceError(f"{path} has more than {limit} bytes")
        return data


def fetch_tile(source: Source, tile: Tile) -> tuple[bytes, int]:
    """A tile's or bundle's file and its width: the partial one if it is still there, else the full one it grew into."""
    data = source.fetch(tile.path, tile.max_bytes)
    if data is not None:
        return data, tile.width
    full = tile.full
    if full != tile and (data := source.fetch(full.path, full.max_bytes)) is not None:
        return data, full.width
    raise NotServed(f"the log does not serve {tile.path}")


class _Cache:
    """The least recently used of the widest versions seen of each tile: a log only appends, so one serves all sizes."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._items: OrderedDict[tuple[int | None, int], list[bytes]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: tuple[int | None, int], width: int) -> list[bytes] | None:
        with self._lock:
            found = self._items.get(key)
            if found is None or len(found) < width:
                return None
            self._items.move_to_end(key)
            return found

    def put(self, key: tuple[int | None, int], value: list[bytes]) -> None:
        with self._lock:
            if len(self._items.get(key, ())) <= len(value):
                self._items[key] = value
            self._items.move_to_end(key)
            while len(self._items) > self._capacity:
                self._items.popitem(last=False)

    def clear(self) -> None:
        with self._lock:
            self._items.clear()


class TiledLog:
    """A tiled log behind a source. Safe to share between threads; keeps `cache_tiles` tiles (8 kB each) in memory."""

    def __init__(self, source: Source, *, cache_tiles: int = 1024, cache_bundles: int = 16) -> None:
        self.source = source
        self._tiles = _Cache(cache_tiles)
        self._bundles = _Cache(cache_bundles)

    def checkpoint_bytes(self, path: str = "checkpoint") -> bytes:
        """The signed checkpoint as served (or `checkpoint.pending`, `checkpoints/SIZE`); `PeerError` if absent."""
        data = self.source.fetch(path, MAX_NOTE_BYTES)
        if data is None:
            raise NotServed(f"the log serves no {path}")
        return data

    def hash(self, level: int, index: int, size: int) -> bytes:
        """Hash of the complete subtree (level, index), read from the tiles of a tree of `size`."""
        if level < 0 or index < 0 or (index + 1) << level > size:
            raise UsageError(f"there is no complete subtree ({level}, {index}) at size {size}")
        tile_level, inner = divmod(level, HEIGHT)
        first = index << inner
        items = self._tile(tile_at(tile_level, first >> HEIGHT, size))
        place = first % WIDTH
        part = items[place : place + (1 << inner)]
        return part[0] if inner == 0 else tree.MemoryTree(part).root()

    def root(self, size: int) -> bytes:
        """The root that the tiles give for a tree of `size`; believe it only if a checkpoint says the same."""
        return tree.subtree_root(lambda level, index: self.hash(level, index, size), 0, size)

    def right_edge(self, size: int) -> tree.CompactRange:
        """The compact range at `size`, to append from."""
        return tree.CompactRange.read(lambda level, index: self.hash(level, index, size), size)

    def inclusion(self, index: int, size: int) -> list[bytes]:
        """Inclusion path of leaf `index`, checked against the tiles' own root of `size`."""
        path = tree.inclusion_path(lambda level, i: self.hash(level, i, size), index, size)
        tree.verify_inclusion(index, size, self.hash(0, index, size), path, self.root(size))
        return path

    def consistency(self, old_size: int, new_size: int) -> list[bytes]:
        """Consistency proof between two sizes, checked against the tiles' own roots."""
        path = tree.consistency_path(lambda level, i: self.hash(level, i, new_size), old_size, new_size)
        tree.verify_consistency(old_size, self.root(old_size), new_size, self.root(new_size), path)
        return path

    def entry(self, index: int, size: int) -> bytes:
        """Entry `index` of a tree of `size`; its hash equals the tile's, or an `EvidenceError`."""
        if not 0 <= index < size:
            raise UsageError(f"entry {index} is not in a tree of size {size}")
        return next(self.entries(index, index + 1, size))

    def entries(self, start: int, end: int, size: int) -> Iterator[bytes]:
        """Entries `start` to `end` - 1 in order, each compared with its hash in the tile."""
        if not 0 <= start <= end <= size:
            raise UsageError(f"[{start}, {end}) does not lie in a tree of size {size}")
        for number in range(start // WIDTH, (end + WIDTH - 1) // WIDTH):
            bundle = self._bundle(tile_at(None, number, size))
            hashes = self._tile(tile_at(0, number, size))
            base = number * WIDTH
            for place in range(max(start - base, 0), min(end - base, len(bundle))):
                if tree.hash_leaf(bundle[place]) != hashes[place]:
                    raise EvidenceError(f"entry {base + place} does not hash to what its tile says")
                yield bundle[place]

    def forget(self) -> None:
        """Empty the caches: everything is fetched anew."""
        self._tiles.clear()
        self._bundles.clear()

    def _tile(self, tile: Tile) -> list[bytes]:
        known = self._tiles.get((tile.level, tile.index), tile.width)
        if known is None:
            data, width = fetch_tile(self.source, tile)
            known = decode_tile(data, width)
            self._tiles.put((tile.level, tile.index), known)
        return known[: tile.width]

    def _bundle(self, tile: Tile) -> list[bytes]:
        known = self._bundles.get((None, tile.index), tile.width)
        if known is None:
            data, width = fetch_tile(self.source, tile)
            known = decode_bundle(data, width)
            self._bundles.put((None, tile.index), known)
        return known[: tile.width]
