"""The rightmost tiles of a tree: what a root says directly, and which of them is false if they do not lead to it.

The root of a tree of `size` is made of the items in the last, unfinished tile of each level. If those of the files do
not give it, what lies below (the roots of the full tiles, the entries of the last bundle) takes their place, level by
level in every combination, until one gives the root: then the file that was replaced is the false one.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..merkle.tiles import WIDTH, Tile, item_count, tile_at
from ..merkle.tree import CompactRange, MemoryTree, hash_leaf

if TYPE_CHECKING:
    from .walk import Files


@dataclass(frozen=True, slots=True)
class Edge:
    """(level, items of its unfinished tile, none if all are full) of every level from the top.

    `vouched` says that they lead to the root they are held against.
    """

    size: int
    levels: tuple[tuple[int, Sequence[bytes]], ...]
    vouched: bool

    def width(self, level: int) -> int:
        """How many items the unfinished tile of a level has."""
        return item_count(level, self.size) % WIDTH

    @classmethod
    def resolve(cls, files: Files, size: int, root: bytes) -> Edge:
        """The edge at `size` that leads to `root`, if the files hold one; differences become findings."""
        count = 0
        while item_count(count, size):
            count += 1
        numbers = list(reversed(range(count)))
        unfinished = [level for level in numbers if item_count(level, size) % WIDTH]
        served = {level: files.hashes(_tile(level, size)) for level in unfinished}
        chosen = tuple((level, served.get(level) or []) for level in numbers)
        if root_of(chosen, size) == root:
            return cls(size, chosen, True)
        options: dict[int, list[list[bytes]]] = {level: [[]] for level in numbers}
        for level in unfinished:
            options[level] = [items for items in (served[level], _below(files, level, size)) if items]
        for picked in itertools.product(*(options[level] for level in numbers)):
            chosen = tuple(zip(numbers, picked, strict=True))
            if root_of(chosen, size) == root:
                for level in unfinished:
                    files.differing(_tile(level, size), served[level] or [], dict(chosen)[level])
                return cls(size, chosen, True)
        return cls(size, tuple((level, options[level][0] if options[level] else []) for level in numbers), False)


def root_of(levels: Sequence[tuple[int, Sequence[bytes]]], size: int) -> bytes:
    """The root that the unfinished tiles of all levels give together."""
    items = dict(levels)
    range_ = CompactRange()
    for level in range(max(items, default=-1), -1, -1):
        range_ = CompactRange(range_.size * WIDTH, range_.edge)
        for item in items.get(level, ()):
            range_.append(item)
    return range_.root() if range_.size == size else b""


def _tile(level: int, size: int) -> Tile:
    return tile_at(level, item_count(level, size) // WIDTH, size)


def _below(files: Files, level: int, size: int) -> list[bytes] | None:
    """The items of a level's unfinished tile, derived from the files one level further down."""
    index = item_count(level, size) // WIDTH
    if level == 0:
        entries = files.entries(tile_at(None, index, size))
        return None if entries is None else [hash_leaf(entry) for entry in entries]
    derived: list[bytes] = []
    for place in range(item_count(level, size) % WIDTH):
        items = files.hashes(Tile(level - 1, index * WIDTH + place))
        if items is None:
            return None
        derived.append(MemoryTree(items).root())
    return derived
