"""Tiles: paths, contents, and that what a writer adds is exactly what a tree of that size needs."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plausible.ledger.merkle import tiles
from plausible.ledger.merkle.tiles import Tile, decode_bundle, decode_tile, encode_bundle, encode_tile, parse_path
from plausible.ledger.merkle.tree import MemoryTree, hash_leaf
from plausible.schemas.errors import EvidenceError, UsageError


def entry(index: int) -> bytes:
    return b"entry %d" % index * (index % 4)


def files_at(size: int) -> dict[str, bytes]:
    """Every file of a tree of `size`, computed from the definition of a tile."""
    hashed = [hash_leaf(entry(i)) for i in range(size)]
    files: dict[str, bytes] = {}
    for tile in tiles.tiles_at(size):
        if tile.level is None:
            start = tile.index * 256
            files[tile.path] = encode_bundle([entry(i) for i in range(start, start + tile.width)])
            continue
        span = 256**tile.level
        starts = [(256 * tile.index + i) * span for i in range(tile.width)]
        files[tile.path] = encode_tile([MemoryTree(hashed[start : start + span]).root() for start in starts])
    return files


def test_published_paths(vectors: Any) -> None:
    known = vectors("tile_paths.json")
    for case in known["tile_path"]:
        tile = Tile(case["level"], case["index"], case["width"] or 256)
        assert tile.path == case["path"]
        assert parse_path(case["path"]) == tile
    for case in known["entry_bundle_for_index"]:
        tile = tiles.tile_at(None, case["index"] // 256, case["log_size"])
        assert tile.path == case["path"]
        assert parse_path(case["path"]) == tile
    for case in known["spec_examples"]:
        assert Tile(0, case["index"]).path == f"tile/0/{case['encoded']}"
    bad = 0
    for case in known["parse"]:
        path = f"tile/{case['level']}/{case['n']}"
        if case.get("error"):
            bad += 1
            with pytest.raises(EvidenceError):
                parse_path(path)
        else:
            assert parse_path(path) == Tile(case["want_level"], case["want_index"], case["want_width"] or 256)
    assert bad == 15


def test_published_shapes(vectors: Any) -> None:
    known = vectors("tile_paths.json")
    shape = known["spec_tree_70000"]
    found = list(tiles.tiles_at(shape["tree_size"]))
    for level, full, width in (
        (None, shape["level0_full"], shape["level0_partial_width"]),
        (0, shape["level0_full"], shape["level0_partial_width"]),
        (1, shape["level1_full"], shape["level1_partial_width"]),
        (2, 0, shape["level2_partial_width"]),
    ):
        widths = [tile.width for tile in found if tile.level == level]
        assert widths == [256] * full + [width]
    assert [t.path for t in tiles.tiles_at(256)] == ["tile/entries/000", "tile/0/000", "tile/1/000.p/1"]
    assert list(tiles.tiles_at(0)) == []


@pytest.mark.parametrize(
    "path",
    [
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/000.p/01",
        "tile/0/x000/001",
        "tile/00/001",
        "tile/entries/x000/001",
        "tile/data/000",
        "tile/0/../0/000",
        "/tile/0/000",
        "tile/0/000/",
        "tile/0/000\n",
        "tile/0/00\u0661",
        "tile/0/X001/000",
        "",
    ],
)
def test_other_spellings(path: str) -> None:
    with pytest.raises(EvidenceError):
        parse_path(path)


def test_a_real_log(vectors: Any) -> None:
    log = vectors("tiled_log_15_entries.json")
    entries = [text.encode() for text in log["entries_utf8"]]
    served = {**log["tiles_hex"], **log["entry_bundles_hex"]} if "tiles_hex" in log else None
    assert served is not None, sorted(log)
    written: dict[str, str] = {}
    grown = MemoryTree()
    for size, added in enumerate(entries):
        for path, data in tiles.tiles_to_write(size, [added], grown.get, entries.__getitem__):
            written[path] = data.hex()
        grown.append(hash_leaf(added))
    assert written == served
    for path, data in log["entry_bundles_hex"].items():
        width = parse_path(path).width
        assert decode_bundle(bytes.fromhex(data), width) == entries[:width]


@pytest.mark.parametrize(("old", "new"), [(0, 1), (0, 256), (255, 256), (255, 257), (256, 512), (3, 700), (300, 301)])
def test_writes_what_is_missing(old: int, new: int) -> None:
    check_growth(old, new)


def test_writes_level_two() -> None:
    check_growth(65_400, 65_600)


@given(st.integers(0, 900), st.integers(1, 700))
@settings(max_examples=15, deadline=None)
def test_writes_what_is_missing_anywhere(old: int, count: int) -> None:
    check_growth(old, old + count)


def check_growth(old: int, new: int) -> None:
    """Growing from `old` to `new` writes the files of `new` that `old` lacked, bit for bit, and reads little."""
    before = MemoryTree(hash_leaf(entry(i)) for i in range(old))
    asked: list[tuple[int, int]] = []

    def get(level: int, index: int) -> bytes:
        asked.append((level, index))
        return before.get(level, index)

    def get_entry(index: int) -> bytes:
        assert old - old % 256 <= index < old
        return entry(index)

    written = dict(tiles.tiles_to_write(old, [entry(i) for i in range(old, new)], get, get_entry))
    needed = files_at(new)
    present = {tile.path for tile in tiles.tiles_at(old)}
    assert {path: data for path, data in needed.items() if path not in present}.items() <= written.items()
    # the rest are full tiles and partial ones that the new size has, nothing else
    assert written.keys() <= needed.keys()
    assert all(level % 8 == 0 for level, _ in asked)
    assert len(asked) <= 2 * 255 * 3


def test_nothing_new_writes_nothing() -> None:
    assert list(tiles.tiles_to_write(5, [], MemoryTree().get, entry)) == []
    with pytest.raises(UsageError):
        list(tiles.tiles_to_write(0, [b"x"], MemoryTree().get, entry, leaf_hashes=[]))


def test_known_leaf_hashes_are_used() -> None:
    given_hash = hash_leaf(b"x")
    files = dict(tiles.tiles_to_write(0, [b"x"], MemoryTree().get, entry, leaf_hashes=[given_hash]))
    assert files == {"tile/entries/000.p/1": b"\0\1x", "tile/0/000.p/1": given_hash}


def test_strict_contents() -> None:
    hashes = [hash_leaf(b"a"), hash_leaf(b"b")]
    assert decode_tile(encode_tile(hashes), 2) == hashes
    for data, width in ((encode_tile(hashes), 1), (encode_tile(hashes)[:-1], 2), (b"", 0), (b"", 1)):
        with pytest.raises(EvidenceError):
            decode_tile(data, width)
    for wrong in ([], [b"short"], [hashes[0]] * 257):
        with pytest.raises(EvidenceError):
            encode_tile(wrong)
    largest = b"x" * 65_535
    assert decode_bundle(encode_bundle([b"", largest]), 2) == [b"", largest]
    for entries in ([], [largest + b"x"], [b""] * 257):
        with pytest.raises(EvidenceError):
            encode_bundle(entries)
    for data, width in ((b"\0\1x", 2), (b"\0\1x\0", 1), (b"\0\2x", 1), (b"\0", 1), (b"", 1), (b"", 0)):
        with pytest.raises(EvidenceError):
            decode_bundle(data, width)


def test_tiles_that_do_not_exist() -> None:
    for level, index, size in ((0, 0, 0), (0, 1, 256), (1, 0, 255), (None, -1, 5)):
        with pytest.raises(UsageError):
            tiles.tile_at(level, index, size)
    for level, index, width in ((64, 0, 1), (-1, 0, 1), (0, 10**18, 1), (0, -1, 1), (0, 0, 0), (0, 0, 257)):
        with pytest.raises(EvidenceError):
            Tile(level, index, width)


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_a_path_has_one_spelling(data: st.DataObject) -> None:
    level = data.draw(st.one_of(st.none(), st.integers(0, 63)))
    tile = Tile(level, data.draw(st.integers(0, 10**18 - 1)), data.draw(st.integers(1, 256)))
    assert parse_path(tile.path) == tile
    place = data.draw(st.integers(0, len(tile.path)))
    bent = tile.path[:place] + data.draw(st.text("0129xp./e", max_size=2)) + tile.path[place + 1 :]
    with suppress(EvidenceError):
        assert parse_path(bent).path == bent


@given(st.binary(max_size=40), st.integers(-1, 300))
def test_only_evidence_error_escapes_from_bundles(data: bytes, width: int) -> None:
    with suppress(EvidenceError):
        assert encode_bundle(decode_bundle(data, width)) == data
