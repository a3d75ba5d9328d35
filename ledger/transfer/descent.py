"""A log's files from its root downwards, so that each is verified on arrival and what follows it is known in advance.

Order for a tree of SIZE entries: the partial tiles at the right edge from the top level down, which together give the
root; then, below each of their items from left to right, the full tile of that hash, and below it the same again down
to level 0, where the tile is followed by its bundle; last the bundle of the partial tile at level 0. Bundles so come in
ascending order. Nothing that does not hash into the root is passed on; memory is one tile a level and one bundle.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ...schemas.errors import EvidenceError
from ..merkle.tiles import HEIGHT, WIDTH, Tile, decode_bundle, decode_tile, item_count, tile_at
from ..merkle.tree import CompactRange, MemoryTree, hash_leaf

Get = Callable[[Tile], bytes]
"""The bytes of a file, exactly as it is at this width; raises what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Verified:
    """A tile or bundle that hashes into the root. `hashes`: a tile's items, a bundle's leaf hashes."""

    tile: Tile
    data: bytes
    hashes: Sequence[bytes]


def descend(size: int, root: bytes, get: Get) -> Iterator[Verified]:
    """Every file of a tree of `size`, verified under `root`, in the order of the module; else `EvidenceError`."""
    edge: dict[int, Verified] = {}
    for level in reversed(range(_levels(size))):
        count = item_count(level, size)
        if count % WIDTH:
            tile = tile_at(level, count // WIDTH, size)
            data = get(tile)
            edge[level] = Verified(tile, data, decode_tile(data, tile.width))
    if CompactRange.read(lambda level, index: _subtree(edge, level, index), size).root() != root:
        raise EvidenceError(f"the partial tiles at the right edge do not give the root that is signed for size {size}")
    yield from edge.values()
    for level, found in edge.items():
        if level == 0:
            yield _bundle(Tile(None, found.tile.index, found.tile.width), found.hashes, get)
            continue
        for place, item in enumerate(found.hashes, found.tile.index * WIDTH):
            yield from _full(Tile(level - 1, place), item, get)


def _levels(size: int) -> int:
    """How many levels of tiles a tree has."""
    levels = 0
    while item_count(levels, size):
        levels += 1
    return levels


def _subtree(edge: dict[int, Verified], level: int, index: int) -> bytes:
    """Hash of a complete subtree of the right edge, from its partial tile."""
    tile_level, inner = divmod(level, HEIGHT)
    place = (index << inner) % WIDTH
    part = edge[tile_level].hashes[place : place + (1 << inner)]
    return MemoryTree(part).root()


def _full(tile: Tile, item: bytes, get: Get) -> Iterator[Verified]:
    data = get(tile)
    hashes = decode_tile(data, WIDTH)
    if MemoryTree(hashes).root() != item:
        raise EvidenceError(f"{tile.path} does not hash to what the tile above says")
    yield Verified(tile, data, hashes)
    if tile.level == 0:
        yield _bundle(Tile(None, tile.index), hashes, get)
        return
    for place, below in enumerate(hashes, tile.index * WIDTH):
        yield from _full(Tile((tile.level or 0) - 1, place), below, get)


def _bundle(tile: Tile, hashes: Sequence[bytes], get: Get) -> Verified:
    data = get(tile)
    for place, (entry, leaf_hash) in enumerate(zip(decode_bundle(data, tile.width), hashes, strict=True)):
        if hash_leaf(entry) != leaf_hash:
            raise EvidenceError(f"{tile.path}: entry {tile.index * WIDTH + place} does not hash into the tree")
    return Verified(tile, data, hashes)


class Roots:
    """The root at any size, in ascending order, as the bundles go by."""

    def __init__(self) -> None:
        self._groups = CompactRange()
        self._inside = CompactRange()
        self._hashes: Sequence[bytes] = ()

    @property
    def size(self) -> int:
        """Entries that went by."""
        return self._groups.size * WIDTH + (len(self._hashes) if len(self._hashes) < WIDTH else 0)

    def pass_by(self, hashes: Sequence[bytes]) -> None:
        """The leaf hashes of the next bundle."""
        # shifted by eight levels, the right edge over groups of 256 is that over their entries
        self._inside = CompactRange(self._groups.size * WIDTH, self._groups.edge)
        self._hashes = hashes
        if len(hashes) == WIDTH:
            self._groups.append(MemoryTree(hashes).root())

    def root_at(self, size: int) -> bytes:
        """The root of the first `size` entries; ascending, and each in the bundle that went by last."""
        place = self._inside.size % WIDTH
        while self._inside.size < size and place < len(self._hashes):
            self._inside.append(self._hashes[place])
            place += 1
        if self._inside.size != size:
            raise EvidenceError(f"the head of size {size} does not stand behind the bundle that it ends in")
        return self._inside.root()


__all__ = ["Get", "Roots", "Verified", "descend"]
