"""Reading a tiled log from a folder: right where it is right, and an EvidenceError for every byte that is not."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plausible.ledger.merkle import tiles
from plausible.ledger.merkle.reader import DirectorySource, TiledLog
from plausible.ledger.merkle.tree import MemoryTree, hash_leaf, verify_consistency, verify_inclusion
from plausible.schemas.errors import EvidenceError, PeerError, SetupError, UsageError


def entry(index: int) -> bytes:
    return b"entry %d" % index


def grow(size: int, cuts: tuple[int, ...] = ()) -> tuple[dict[str, bytes], MemoryTree]:
    """The files of a log that published at each of `cuts` and at `size`, and its tree."""
    files: dict[str, bytes] = {}
    grown = MemoryTree()
    for stop in (*cuts, size):
        added = [entry(i) for i in range(grown.size, stop)]
        files.update(tiles.tiles_to_write(grown.size, added, grown.get, entry))
        for data in added:
            grown.append(hash_leaf(data))
    return files, grown


class Memory:
    """A source over a dict that counts fetches."""

    def __init__(self, files: dict[str, bytes]) -> None:
        self.files = files
        self.fetched: list[str] = []

    def fetch(self, path: str, limit: int) -> bytes | None:
        self.fetched.append(path)
        data = self.files.get(path)
        if data is not None and len(data) > limit:
            raise EvidenceError("too long")
        return data


SIZE = 600
FILES, TREE = grow(SIZE, (5, 256, 300))


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_proofs_from_tiles_equal_those_from_memory(data: st.DataObject) -> None:
    log = TiledLog(Memory(FILES), cache_tiles=data.draw(st.sampled_from([1, 2, 100])))
    size = data.draw(st.sampled_from([5, 256, 300, SIZE]))
    assert log.root(size) == TREE.root(size)
    index = data.draw(st.integers(0, size - 1))
    assert log.inclusion(index, size) == TREE.inclusion(index, size)
    verify_inclusion(index, size, hash_leaf(log.entry(index, size)), log.inclusion(index, size), TREE.root(size))
    old = data.draw(st.integers(0, size))
    proof = log.consistency(old, size) if old in (0, 5, 256, 300, SIZE) else None
    if proof is not None:
        verify_consistency(old, TREE.root(old), size, TREE.root(size), proof)
    edge = log.right_edge(size)
    assert (edge.size, edge.root()) == (size, TREE.root(size))


def test_sizes_that_were_never_published_are_served_by_wider_tiles() -> None:
    """A partial tile that is gone, or never was, is read from the full one."""
    log = TiledLog(Memory(FILES))
    assert log.root(100) == TREE.root(100)
    assert log.consistency(77, SIZE) == TREE.consistency(77, SIZE)
    with pytest.raises(PeerError, match=r"tile/entries/002\.p/80"):
        log.entry(590, 592)  # entries 512.. exist at width 88 only


def test_entries_in_order() -> None:
    log = TiledLog(Memory(FILES))
    assert list(log.entries(0, SIZE, SIZE)) == [entry(i) for i in range(SIZE)]
    assert list(log.entries(250, 260, 300)) == [entry(i) for i in range(250, 260)]
    assert list(log.entries(7, 7, SIZE)) == []


def test_a_tile_is_fetched_once() -> None:
    source = Memory(FILES)
    log = TiledLog(source)
    for index in range(0, SIZE, 50):
        log.inclusion(index, SIZE)
    assert len(source.fetched) == len(set(source.fetched))
    log.forget()
    log.root(SIZE)
    assert len(source.fetched) > len(set(source.fetched))


def test_every_changed_byte_of_a_small_log_is_found() -> None:
    """Flip each byte of each file in turn: reading all entries and comparing the root with the signed one fails."""
    files, grown = grow(7)
    for path, data in files.items():
        for place in range(len(data)):
            bent = bytearray(data)
            bent[place] ^= 0x40
            log = TiledLog(Memory({**files, path: bytes(bent)}))
            with pytest.raises(EvidenceError):
                assert list(log.entries(0, 7, 7)) == [entry(i) for i in range(7)]
                for index in range(7):
                    leaf = hash_leaf(log.entry(index, 7))
                    verify_inclusion(index, 7, leaf, log.inclusion(index, 7), grown.root())


@pytest.mark.parametrize("level", ["entries", "0", "1"])
@pytest.mark.parametrize("change", [lambda d: d[:-1], lambda d: d + b"\0", lambda d: b"", lambda d: b"\xff" * len(d)])
def test_malformed_tiles(level: str, change: Any) -> None:
    files = {path: change(data) if path.startswith(f"tile/{level}/") else data for path, data in FILES.items()}
    log = TiledLog(Memory(files))
    with pytest.raises(EvidenceError):
        verify_inclusion(3, SIZE, hash_leaf(log.entry(3, SIZE)), log.inclusion(3, SIZE), TREE.root())


def test_wrong_use() -> None:
    log = TiledLog(Memory(FILES))
    for call in (
        lambda: log.entry(SIZE, SIZE),
        lambda: log.hash(1, 2, 5),
        lambda: log.inclusion(5, 5),
        lambda: list(log.entries(0, 6, 5)),
        lambda: log.consistency(6, 5),
    ):
        with pytest.raises(UsageError):
            call()
    with pytest.raises(PeerError, match="checkpoint"):
        log.checkpoint_bytes()


def test_threads_share_a_log() -> None:
    log = TiledLog(Memory(FILES), cache_tiles=1, cache_bundles=1)
    wrong: list[int] = []

    def read(offset: int) -> None:
        wrong.extend(
            index
            for index in range(offset, SIZE, 37)
            if log.entry(index, SIZE) != entry(index) or log.inclusion(index, SIZE) != TREE.inclusion(index)
        )

    threads = [threading.Thread(target=read, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_real_log_in_a_folder(vectors: Any, tmp_path: Path) -> None:
    known = vectors("tiled_log_15_entries.json")
    for path, data in {**known["tiles_hex"], **known["entry_bundles_hex"]}.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(bytes.fromhex(data))
    (tmp_path / "checkpoint").write_text(known["checkpoints"]["15"], encoding="utf-8")
    log = TiledLog(DirectorySource(tmp_path))
    assert log.checkpoint_bytes() == known["checkpoints"]["15"].encode()
    assert [e.decode() for e in log.entries(0, 15, 15)] == known["entries_utf8"]
    grown = MemoryTree(hash_leaf(text.encode()) for text in known["entries_utf8"])
    for size in range(16):
        assert log.root(size) == grown.root(size)
        assert log.consistency(size, 15) == grown.consistency(size)


def test_no_path_leads_out_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    public = tmp_path / "public"
    (public / "tile").mkdir(parents=True)
    (public / "checkpoint").write_bytes(b"fine")
    (public / "link").symlink_to(tmp_path / "secret")
    (public / "loop").symlink_to(public / "loop")
    source = DirectorySource(public)
    assert source.fetch("checkpoint", 10) == b"fine"
    assert source.fetch("tile", 10) is None
    assert source.fetch("checkpoint/000", 10) is None
    assert source.fetch("absent", 10) is None
    outside = ["../secret", "tile/../../secret", str(tmp_path / "secret"), "link", "..", "."]
    for path in (*outside, "", "tile//x", "a\\b", "a\0b", ".hidden"):
        with pytest.raises(EvidenceError):
            source.fetch(path, 10)
    with pytest.raises(SetupError, match="loop"):
        source.fetch("loop", 10)
    with pytest.raises(EvidenceError, match="more than 3 bytes"):
        source.fetch("checkpoint", 3)
