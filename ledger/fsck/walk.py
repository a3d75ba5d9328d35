"""Every tile and bundle of a log, from the signed root downwards, in one pass from left to right.

The root vouches for the items of the rightmost tiles (`edge.py`), each item for the full tile below it, each leaf hash
for its entry. So of a tile and what lies below it the one that is wrong can be told: the one that does not hash to what
the item above says. Where the item above is itself in doubt, what lies below decides; if neither fits, both are named.

Memory: one tile of each level and one bundle. In a folder all older partial files are compared too.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...schemas.errors import EvidenceError
from ..merkle.reader import DirectorySource, Source, fetch_tile
from ..merkle.tiles import WIDTH, Tile, decode_bundle, decode_tile, item_count, parse_path, tile_at
from ..merkle.tree import CompactRange, MemoryTree, hash_leaf
from ..storage.lookup import unlike
from .edge import Edge
from .findings import RESTORE, Findings


@dataclass(frozen=True, slots=True)
class Group:
    """256 entries (fewer at the end) from `base` on.

    `entries[i]` is None if it is missing or false; `hashes` are the leaf hashes that stand, None if nothing tells;
    `whole` is the root of all 256, None for fewer or where nothing tells.
    """

    base: int
    width: int
    entries: Sequence[bytes | None]
    hashes: Sequence[bytes] | None
    whole: bytes | None


class Files:
    """Tiles and bundles as served, each read where it is needed; what cannot be read is a finding."""

    def __init__(self, source: Source, found: Findings) -> None:
        self._source = source
        self._found = found
        self._folder: Path | None = source.folder if isinstance(source, DirectorySource) else None

    def hashes(self, tile: Tile) -> list[bytes] | None:
        """The items of a tile, None if it is missing or malformed."""
        with self._found.reading(tile.path, RESTORE):
            data, width = fetch_tile(self._source, tile)
            return decode_tile(data, width)[: tile.width]
        return None

    def entries(self, tile: Tile) -> list[bytes] | None:
        """The entries of a bundle, None if it is missing or malformed."""
        with self._found.reading(tile.path, RESTORE):
            data, width = fetch_tile(self._source, tile)
            return decode_bundle(data, width)[: tile.width]
        return None

    def compare(self, level: int | None, index: int, true: Sequence[bytes]) -> None:
        """Hold every file of this tile or bundle that the folder has, at whatever width, against its true items."""
        for tile in self._versions(level, index):
            with self._found.reading(tile.path, RESTORE):
                data = self._source.fetch(tile.path, tile.max_bytes)
                if data is None:
                    continue
                if level is None:
                    for place in unlike(decode_bundle(data, tile.width), true):
                        self.false(tile, place)
                else:
                    self.differing(tile, decode_tile(data, tile.width), true)

    def differing(self, tile: Tile, items: Sequence[bytes], true: Sequence[bytes]) -> None:
        """Name the items that are not the true ones."""
        for place, (item, value) in enumerate(zip(items, true, strict=False)):
            if item != value:
                self.false(tile, place)

    def false(self, tile: Tile, place: int) -> None:
        """Name one item: by its entry in a bundle and at level 0, else by its place in the tile."""
        if tile.level:
            self._found.false(tile.path, f"item {place} is not the root of what lies below it", RESTORE)
        else:
            what = (
                "the entry does not hash to what the tree says" if tile.is_bundle else "the leaf hash is not the tree's"
            )
            self._found.false(tile.path, what, RESTORE, tile.index * WIDTH + place)

    def _versions(self, level: int | None, index: int) -> Iterator[Tile]:
        if self._folder is None:
            return
        full = Tile(level, index)
        if (self._folder / full.path).exists():
            yield full
        partial = self._folder / f"{full.path}.p"
        try:
            names = sorted(path.name for path in partial.iterdir())
        except FileNotFoundError:
            return
        except OSError as error:
            self._found.unread(f"{full.path}.p", f"the folder cannot be read: {error.strerror}")
            return
        for name in names:
            try:
                yield parse_path(f"{full.path}.p/{name}")
            except EvidenceError:
                self._found.notes.append(f"{full.path}.p/{name} is no file of a log")


class Walk:
    """One pass over the files of a log of `size` entries, held against `root`."""

    def __init__(self, source: Source, size: int, root: bytes, found: Findings) -> None:
        self._files = Files(source, found)
        self._found = found
        self._size = size
        self._edge = Edge.resolve(self._files, size, root)
        self.root: bytes | None = None
        """The root of what was read, once the pass is over; None if parts could not be read."""

    @property
    def vouched(self) -> bool:
        """Whether the rightmost tiles lead to the root: then each finding names the file that is wrong."""
        return self._edge.vouched

    def groups(self) -> Iterator[Group]:
        """All entries in order, with what stands behind them."""
        derived = CompactRange()
        unknown = False
        for level, items in self._edge.levels:
            first = item_count(level, self._size) // WIDTH * WIDTH
            derived = CompactRange(derived.size * WIDTH, derived.edge)
            true: list[bytes] = []
            if not self._edge.width(level):
                continue
            if level == 0:
                group = self._leaves(first // WIDTH, self._edge.width(0), None, items or None, None)
                true = list(group.hashes or [])
                unknown |= group.hashes is None
                yield group
            else:
                for place in range(self._edge.width(level)):
                    above = items[place] if items else None
                    vouched = above if self.vouched else None
                    value = yield from self._full(level - 1, first + place, vouched, above)
                    unknown |= value is None
                    true.append(value or above or bytes(32))
                if not unknown:
                    tile = tile_at(level, first // WIDTH, self._size)
                    self._files.differing(tile, items, true)
                    self._files.compare(level, first // WIDTH, true)
            unknown |= len(true) < self._edge.width(level)
            for value in true if not unknown else ():
                derived.append(value)
            if unknown:
                derived = CompactRange()
        self.root = None if unknown else derived.root()

    def _full(
        self, level: int, index: int, vouched: bytes | None, above: bytes | None
    ) -> Generator[Group, None, bytes | None]:
        """Go through a full tile; returns its true hash, None if nothing tells. `above` is what the item above says."""
        if level == 0:
            group = self._leaves(index, WIDTH, vouched, None, above)
            yield group
            return group.whole
        items = self._files.hashes(Tile(level, index))
        stands = items is not None and vouched is not None and MemoryTree(items).root() == vouched
        true: list[bytes | None] = []
        for place in range(WIDTH):
            item = items[place] if items is not None else None
            true.append((yield from self._full(level - 1, index * WIDTH + place, item if stands else None, item)))
        known = [value for value in true if value is not None]
        if len(known) == WIDTH:
            self._files.differing(Tile(level, index), items or [], known)
            self._files.compare(level, index, known)
            whole = MemoryTree(known).root()
            if vouched is not None and whole != vouched:
                what = "neither this tile nor the files below it hash to what the tile above says"
                self._found.false(Tile(level, index).path, what, RESTORE)
                return vouched
            return whole
        return vouched

    def _leaves(
        self, index: int, width: int, vouched: bytes | None, edge: Sequence[bytes] | None, above: bytes | None
    ) -> Group:
        """One bundle and its tile: `vouched` is the tile's hash if it is full, `edge` the true leaf hashes if not."""
        base = index * WIDTH
        tile, bundle = tile_at(0, index, self._size), tile_at(None, index, self._size)
        hashes, entries = self._files.hashes(tile), self._files.entries(bundle)
        own = None if entries is None else [hash_leaf(entry) for entry in entries]
        true = edge if self.vouched else None
        if true is None and width == WIDTH:
            wanted = vouched or above
            true = next((h for h in (hashes, own) if h is not None and MemoryTree(h).root() == wanted), None)
            if true is None and vouched is not None and (hashes or own):
                what = "neither this bundle nor its tile hash to what the tile above says"
                self._found.false(bundle.path, what, RESTORE, base)
        if true is None and hashes is not None and own is not None and hashes != own:
            for place in (p for p in range(width) if hashes[p] != own[p]):
                what = "the entry and its tile contradict each other, and nothing shows which is false"
                self._found.false(bundle.path, what, RESTORE, base + place)
        if true is None and vouched is None:
            true = own or hashes
        kept: list[bytes | None] = [None] * width
        if true is not None:
            self._files.compare(0, index, true)
            self._files.compare(None, index, true)
            self._files.differing(tile, hashes or [], true)
            if entries is not None and own is not None:
                self._files.differing(bundle, own, true)
                kept = [entry if h == t else None for entry, h, t in zip(entries, own, true, strict=True)]
        whole = MemoryTree(true).root() if true is not None and width == WIDTH else vouched
        return Group(base, width, kept, true, whole)


def beyond(folder: Path, size: int, found: Findings) -> None:
    """Count what the pass did not hold against anything: files beyond the signed head, and files of no log."""
    above = strangers = 0
    example = ""
    stack = [folder / "tile"]
    while stack:
        here = stack.pop()
        try:
            children = sorted(here.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            found.unread(str(here.relative_to(folder)), f"the folder cannot be read: {error.strerror}")
            continue
        for child in children:
            if child.is_dir():
                stack.append(child)
                continue
            name = child.relative_to(folder).as_posix()
            try:
                tile = parse_path(name)
            except EvidenceError:
                strangers, example = strangers + 1, name
                continue
            above += tile.index * WIDTH >= item_count(tile.level or 0, size)
    if above:
        found.notes.append(f"{above} files lie beyond the signed head; a start derives them again")
    if strangers:
        found.notes.append(f"{strangers} files below tile/ are none of a log, for instance {example}")
