"""Reading any tiled log, near or far, without trusting what it serves (C2SP tlog-tiles).

A `Source` gives files by path: a folder here, HTTP in the node room. `TiledLog` turns tiles into the complete-subtree
hashes that proofs are made of. Nothing read is trusted: entries are hashed and compared with their tile, inclusion
paths are led back to the root that the tiles give, and that root must still be compared with a signed checkpoint, as
`verify_inclusion` and `verify_consistency` do. Malformed files are `EvidenceError`, missing ones `PeerError`.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from ...schemas.errors import EvidenceError, PeerError, SetupError, UsageError
from ..notes.note import MAX_NOTE_BYTES
from ..notes.wire import HASH_SIZE
from . import tree
from .tiles import HEIGHT, WIDTH, Tile, decode_bundle, decode_tile, tile_at

_SPINES = 16
"""Tree sizes whose right edge is kept."""
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
            root = os.path.realpath(self.folder)
            target = os.path.realpath(f"{root}/{path}")
            if not target.startswith(f"{root.rstrip('/')}/"):
                raise EvidenceError(f"{path[:80]!r} leads out of the log's folder")
            with open(target, "rb", buffering=0) as file:  # noqa: PTH123  (a proof reads several tiles)
                data = file.read(limit + 1)
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            return None
        except OSError as error:
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


class _Nodes:
    """A tile and, from the first time they are wanted, the complete subtrees inside it: 8 kB, then 16."""

    __slots__ = ("_levels", "_width")

    def __init__(self, hashes: bytes, width: int) -> None:
        self._levels = [hashes]
        self._width = width

    def __len__(self) -> int:
        return self._width

    def get(self, inner: int, place: int) -> bytes:
        """Root of the complete subtree of 2**inner items that is number `place` of its level."""
        levels = self._levels
        if inner >= len(levels):
            # a list of its own, put in place when whole: another thread may read meanwhile
            levels = [self._levels[0]]
            sha256 = hashlib.sha256
            while (below := levels[-1]) and len(below) >= 2 * HASH_SIZE:
                pairs = range(0, len(below) - 2 * HASH_SIZE + 1, 2 * HASH_SIZE)
                levels.append(b"".join([sha256(b"\x01" + below[at : at + 2 * HASH_SIZE]).digest() for at in pairs]))
            self._levels = levels
        return levels[inner][place * HASH_SIZE : (place + 1) * HASH_SIZE]

    def hashes(self) -> list[bytes]:
        """The tile's items."""
        return decode_tile(self._levels[0], self._width)


@dataclass(frozen=True, slots=True)
class _Spine:
    """The complete subtrees that a size consists of, largest first, and the roots of what each begins."""

    levels: tuple[int, ...]
    tops: tuple[bytes, ...]
    rests: tuple[bytes, ...]
    """Root over this subtree and all those right of it; the first is the tree's."""


_T = TypeVar("_T", bound=Sized)


class _Cache(Generic[_T]):
    """The least recently used of the widest versions seen of each tile: a log only appends, so one serves all sizes."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._items: OrderedDict[tuple[int | None, int], _T] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: tuple[int | None, int], width: int) -> _T | None:
        with self._lock:
            found = self._items.get(key)
            if found is None or len(found) < width:
                return None
            self._items.move_to_end(key)
            return found

    def put(self, key: tuple[int | None, int], value: _T) -> None:
        with self._lock:
            known = self._items.get(key)
            if known is None or len(known) <= len(value):
                self._items[key] = value
            self._items.move_to_end(key)
            while len(self._items) > self._capacity:
                self._items.popitem(last=False)

    def clear(self) -> None:
        with self._lock:
            self._items.clear()


class TiledLog:
    """A tiled log behind a source. Safe to share between threads; keeps `cache_tiles` tiles (16 kB each) in memory."""

    def __init__(self, source: Source, *, cache_tiles: int = 1024, cache_bundles: int = 16) -> None:
        self.source = source
        self._tiles = _Cache[_Nodes](cache_tiles)
        self._bundles = _Cache[list[bytes]](cache_bundles)
        self._spines: dict[int, _Spine] = {}

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
        return self._tile(tile_at(tile_level, first >> HEIGHT, size)).get(inner, first % WIDTH >> inner)

    def root(self, size: int) -> bytes:
        """The root that the tiles give for a tree of `size`; believe it only if a checkpoint says the same."""
        return self._spine(size).rests[0] if size else tree.EMPTY_ROOT

    def right_edge(self, size: int) -> tree.CompactRange:
        """The compact range at `size`, to append from."""
        return tree.CompactRange(size, self._spine(size).tops)

    def path(self, index: int, size: int) -> list[bytes]:
        """Inclusion path of leaf `index` as the tiles give it, led back to nothing: whoever receives it checks it."""
        if not 0 <= index < size:
            raise UsageError(f"leaf {index} is not in a tree of size {size}")
        spine = self._spine(size)
        start, number = 0, 0
        while index >= start + (1 << spine.levels[number]):
            start += 1 << spine.levels[number]
            number += 1
        # inside the complete subtree that holds the leaf, a tile at a time
        top = spine.levels[number]
        path: list[bytes] = []
        for level in range(0, top, HEIGHT):
            item = index >> level
            nodes = self._tile(tile_at(level // HEIGHT, item >> HEIGHT, size))
            path += [nodes.get(inner, item % WIDTH >> inner ^ 1) for inner in range(min(HEIGHT, top - level))]
        # then all that is right of it as one, then what is left of it, the nearest first
        path += spine.rests[number + 1 : number + 2]
        path += reversed(spine.tops[:number])
        return path

    def inclusion(self, index: int, size: int) -> list[bytes]:
        """Inclusion path of leaf `index`, checked against the tiles' own root of `size`."""
        path = self.path(index, size)
        tree.verify_inclusion(index, size, self.hash(0, index, size), path, self.root(size))
        return path

    def _spine(self, size: int) -> _Spine:
        found = self._spines.get(size)
        if found is None:
            edge = tree.right_edge(size)
            tops = [self.hash(level, index, size) for level, index in edge]
            rests = tops[-1:]
            for top in reversed(tops[:-1]):
                rests.append(tree.hash_node(top, rests[-1]))
            found = _Spine(tuple(level for level, _ in edge), tuple(tops), tuple(reversed(rests)))
            if len(self._spines) >= _SPINES:
                self._spines = {}
            self._spines[size] = found
        return found

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
            hashes = self._tile(tile_at(0, number, size)).hashes()
            base = number * WIDTH
            for place in range(max(start - base, 0), min(end - base, len(bundle))):
                if tree.hash_leaf(bundle[place]) != hashes[place]:
                    raise EvidenceError(f"entry {base + place} does not hash to what its tile says")
                yield bundle[place]

    def forget(self) -> None:
        """Empty the caches: everything is fetched anew."""
        self._tiles.clear()
        self._bundles.clear()
        self._spines = {}

    def _tile(self, tile: Tile) -> _Nodes:
        known = self._tiles.get((tile.level, tile.index), tile.width)
        if known is None:
            data, width = fetch_tile(self.source, tile)
            if len(data) != width * HASH_SIZE:
                raise EvidenceError(f"a tile of {width} hashes has {width * HASH_SIZE} bytes, not {len(data)}")
            known = _Nodes(data, width)
            self._tiles.put((tile.level, tile.index), known)
        return known

    def _bundle(self, tile: Tile) -> list[bytes]:
        known = self._bundles.get((None, tile.index), tile.width)
        if known is None:
            data, width = fetch_tile(self.source, tile)
            known = decode_bundle(data, width)
            self._bundles.put((None, tile.index), known)
        return known[: tile.width]
