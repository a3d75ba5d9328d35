"""Tiles and entry bundles: how a tree lies in immutable files (C2SP tlog-tiles).

    tile/0/x001/x234/067        a full tile: 256 hashes, 8,192 bytes
    tile/0/000.p/15             a partial tile of 15 hashes
    tile/entries/000.p/15       the same 15 entries, each u16 length + bytes

Item i of tile (L, N) is the root of the entries [(256 N + i) 256**L, (256 N + i + 1) 256**L). A level above 0 holds
roots of full tiles only; empty tiles do not exist. Paths and contents have one spelling each: what `encode` would not
give again is an `EvidenceError`. Files are not trusted for anything: readers re-hash them against a signed root.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ...schemas.errors import EvidenceError, UsageError
from ..notes.wire import HASH_SIZE
from .tree import complete_root, hash_leaf

HEIGHT = 8
WIDTH = 1 << HEIGHT
MAX_LEVEL = 63
MAX_ENTRY_BYTES = 0xFFFF
MAX_TILE_BYTES = WIDTH * HASH_SIZE
MAX_BUNDLE_BYTES = WIDTH * (2 + MAX_ENTRY_BYTES)

_MAX_INDEX = 10**18 - 1  # six groups of three digits
_PATH = re.compile(
    r"tile/(?P<level>entries|0|[1-9][0-9]?)/(?P<index>(?:x[0-9]{3}/){0,5}[0-9]{3})(?:\.p/(?P<width>[1-9][0-9]{0,2}))?",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class Tile:
    """Which tile: `level` 0..63, or None for the entry bundle beside level 0; `width` 1..256, 256 is full."""

    level: int | None
    index: int
    width: int = WIDTH

    def __post_init__(self) -> None:
        if self.level is not None and not 0 <= self.level <= MAX_LEVEL:
            raise EvidenceError(f"a tile level lies between 0 and {MAX_LEVEL}, not at {self.level}")
        if not 0 <= self.index <= _MAX_INDEX:
            raise EvidenceError(f"a tile index lies between 0 and {_MAX_INDEX}, not at {self.index}")
        if not 1 <= self.width <= WIDTH:
            raise EvidenceError(f"a tile has 1 to {WIDTH} items, not {self.width}")

    @property
    def is_bundle(self) -> bool:
        """Whether this is an entry bundle."""
        return self.level is None

    @property
    def full(self) -> Tile:
        """The full tile that this one grows into."""
        return Tile(self.level, self.index)

    @property
    def max_bytes(self) -> int:
        """The most bytes this file can have."""
        return self.width * (2 + MAX_ENTRY_BYTES if self.is_bundle else HASH_SIZE)

    @property
    def path(self) -> str:
        """The path below the log's prefix."""
        groups = [f"{self.index % 1000:03d}"]
        rest = self.index // 1000
        while rest:
            groups.append(f"x{rest % 1000:03d}")
            rest //= 1000
        kind = "entries" if self.level is None else str(self.level)
        partial = "" if self.width == WIDTH else f".p/{self.width}"
        return f"tile/{kind}/{'/'.join(reversed(groups))}{partial}"


def parse_path(path: str) -> Tile:
    """The tile or entry bundle that a path names; `EvidenceError` for every other spelling."""
    match = _PATH.fullmatch(path)
    if match is None:
        raise EvidenceError(f"{path[:80]!r} is not the path of a tile or entry bundle")
    level = None if match["level"] == "entries" else int(match["level"])
    tile = Tile(level, int(match["index"].replace("x", "").replace("/", "")), int(match["width"] or WIDTH))
    if tile.path != path:  # 256 as a partial width, or groups of zeros in front
        raise EvidenceError(f"{path[:80]!r} is not how that tile is spelt")
    return tile


def item_count(level: int, size: int) -> int:
    """How many items all tiles of a level hold together at a tree size: floor(size / 256**level)."""
    return size >> (HEIGHT * level)


def tile_at(level: int | None, index: int, size: int) -> Tile:
    """Tile (level, index) as it stands at a tree size; `UsageError` if it does not exist there."""
    width = min(WIDTH, item_count(level or 0, size) - index * WIDTH)
    if index < 0 or width < 1:
        raise UsageError(f"tile {'entries' if level is None else level}/{index} does not exist at size {size}")
    return Tile(level, index, width)


def tiles_at(size: int) -> Iterator[Tile]:
    """Every tile and bundle of a tree of `size`: bundles first, then levels upwards; full ones and the partial end."""
    level: int | None = None
    while (count := item_count(level or 0, size)) > 0:
        for index in range((count + WIDTH - 1) // WIDTH):
            yield tile_at(level, index, size)
        level = 0 if level is None else level + 1


def encode_tile(hashes: Sequence[bytes]) -> bytes:
    """1 to 256 hashes of 32 bytes, one after another."""
    if not 1 <= len(hashes) <= WIDTH or any(len(value) != HASH_SIZE for value in hashes):
        raise EvidenceError(f"a tile holds 1 to {WIDTH} hashes of {HASH_SIZE} bytes")
    return b"".join(hashes)


def decode_tile(data: bytes, width: int) -> list[bytes]:
    """The `width` hashes of a tile of exactly that width."""
    if not 1 <= width <= WIDTH or len(data) != width * HASH_SIZE:
        raise EvidenceError(f"a tile of {width} hashes has {width * HASH_SIZE} bytes, not {len(data)}")
    return [data[place : place + HASH_SIZE] for place in range(0, len(data), HASH_SIZE)]


def encode_bundle(entries: Sequence[bytes]) -> bytes:
    """1 to 256 entries of at most 65,535 bytes, each after its u16 length."""
    if not 1 <= len(entries) <= WIDTH:
        raise EvidenceError(f"an entry bundle holds 1 to {WIDTH} entries, not {len(entries)}")
    if max(map(len, entries)) > MAX_ENTRY_BYTES:
        raise EvidenceError(f"an entry has at most {MAX_ENTRY_BYTES} bytes, not {max(map(len, entries))}")
    parts: list[bytes] = []
    for entry in entries:
        parts += (len(entry).to_bytes(2, "big"), entry)
    return b"".join(parts)


def encode_entry(entry: bytes) -> bytes:
    """One entry as it stands in a bundle."""
    if len(entry) > MAX_ENTRY_BYTES:
        raise EvidenceError(f"an entry has at most {MAX_ENTRY_BYTES} bytes, not {len(entry)}")
    return len(entry).to_bytes(2, "big") + entry


def decode_entries(data: bytes, place: int, count: int) -> tuple[list[bytes], int]:
    """`count` entries from byte `place` on, and the place after them; `EvidenceError` if the data ends before."""
    entries: list[bytes] = []
    for _ in range(count):
        start = place + 2
        end = start + int.from_bytes(data[place:start], "big")
        if start > len(data) or end > len(data):
            raise EvidenceError(f"the data ends inside entry {len(entries)} of {count}")
        entries.append(data[start:end])
        place = end
    return entries, place


def decode_bundle(data: bytes, width: int) -> list[bytes]:
    """The `width` entries of a bundle, with nothing after them."""
    if not 1 <= width <= WIDTH:
        raise EvidenceError(f"an entry bundle holds 1 to {WIDTH} entries, not {width}")
    entries, end = decode_entries(data, 0, width)
    if end != len(data):
        raise EvidenceError(f"{len(data) - end} bytes follow the {width} entries of a bundle")
    return entries


def tiles_to_write(
    old_size: int,
    entries: Sequence[bytes],
    get_hash: Callable[[int, int], bytes],
    get_entry: Callable[[int], bytes],
    leaf_hashes: Sequence[bytes] | None = None,
) -> Iterator[tuple[str, bytes]]:
    """(path, content) of every file that appending `entries` to a tree of `old_size` adds: bundles, then tiles upwards.

    `get_hash(level, index)` and `get_entry(index)` read the tree at `old_size`; they are asked only for what shares a
    tile with something new (at most 255 of each, and 255 hashes a level). `leaf_hashes` saves hashing the entries
    again. Existing files are never changed: each partial width has a path of its own.
    """
    if not entries:
        return
    if leaf_hashes is not None and len(leaf_hashes) != len(entries):
        raise UsageError(f"{len(leaf_hashes)} leaf hashes for {len(entries)} entries")
    new_size = old_size + len(entries)
    new = [hash_leaf(entry) for entry in entries] if leaf_hashes is None else list(leaf_hashes)
    shared = [get_entry(index) for index in range(old_size - old_size % WIDTH, old_size)]
    yield from bundle_files(old_size, shared, entries)
    level = 0
    while item_count(level, new_size) > (old_count := item_count(level, old_size)):
        shared = [get_hash(level * HEIGHT, index) for index in range(old_count - old_count % WIDTH, old_count)]
        yield from tile_files(level, old_count, shared, new)
        # the roots of the tiles that are now full are the next level's new items
        items = [*shared, *new]
        full = item_count(level + 1, new_size) - old_count // WIDTH
        new = [complete_root(items[place : place + WIDTH]) for place in range(0, full * WIDTH, WIDTH)]
        level += 1


def bundle_files(old_size: int, shared: Sequence[bytes], new: Sequence[bytes]) -> Iterator[tuple[str, bytes]]:
    """The bundles that `new` entries add to `old_size`; `shared` are the old entries in the unfinished bundle."""
    yield from _files(None, old_size, [*shared, *new], encode_bundle)


def tile_files(
    level: int, old_count: int, shared: Sequence[bytes], new: Sequence[bytes]
) -> Iterator[tuple[str, bytes]]:
    """The tiles of a level that `new` items add to `old_count`; `shared` are the old items in the unfinished tile."""
    yield from _files(level, old_count, [*shared, *new], encode_tile)


def _files(
    level: int | None, old_count: int, items: Sequence[bytes], encode: Callable[[Sequence[bytes]], bytes]
) -> Iterator[tuple[str, bytes]]:
    first = old_count // WIDTH
    for place in range(0, len(items), WIDTH):
        part = items[place : place + WIDTH]
        yield Tile(level, first + place // WIDTH, len(part)).path, encode(part)
