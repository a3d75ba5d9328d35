"""The bare log: what it stores in one commit, what readers find in its files, and what it refuses to go on from."""

from __future__ import annotations

import os
import random
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plausible.ledger.log import Log
from plausible.ledger.merkle.public import PENDING, PUBLIC_FOLDER
from plausible.ledger.merkle.reader import DirectorySource, TiledLog
from plausible.ledger.merkle.tiles import tiles_at, tiles_to_write
from plausible.ledger.merkle.tree import (
    EMPTY_ROOT,
    CompactRange,
    MemoryTree,
    complete_root,
    hash_leaf,
    verify_inclusion,
)
from plausible.ledger.notes.checkpoint import open_checkpoint
from plausible.ledger.notes.note import SignerKey
from plausible.ledger.storage.disk import StorageBroken
from plausible.ledger.storage.store import STATE_FILE, Head, LogStore
from plausible.schemas.errors import PeerError, SetupError, UsageError

KEY = SignerKey("log.example/bare", 1, bytes(range(32)))


def leaf(number: int) -> bytes:
    return b"leaf %d " % number + b"x" * (number % 40)


def tree(size: int) -> MemoryTree:
    return MemoryTree(hash_leaf(leaf(number)) for number in range(size))


def leaves(start: int, end: int) -> list[bytes]:
    return [leaf(number) for number in range(start, end)]


def read(folder: Path) -> TiledLog:
    return TiledLog(DirectorySource(folder / PUBLIC_FOLDER))


@pytest.mark.parametrize("steps", [(1, 1, 1, 254), (255, 1, 257), (256, 256, 512), (1000, 3, 1000), (700,)])
def test_roots_and_files_are_those_of_a_naive_tree(tmp_path: Path, steps: tuple[int, ...]) -> None:
    with Log.create(tmp_path / "log", KEY) as log:
        size = 0
        for step in steps:
            head = log.append(leaves(size, size + step))
            size += step
            assert (head.size, head.root) == (size, tree(size).root())
            checkpoint, _ = open_checkpoint(head.note, [KEY.verifier])
            assert (checkpoint.size, checkpoint.root) == (size, head.root)
            if step != 3:  # one step's files come with the next one's
                log.publish()
        log.sync()
        log.publish()
        served = read(tmp_path / "log")
        assert open_checkpoint(served.checkpoint_bytes(PENDING), [KEY.verifier])[0].size == size
        assert served.root(size) == log.head.root
        assert list(served.entries(0, size, size)) == leaves(0, size)
        assert all((log.public.folder / tile.path).is_file() for tile in tiles_at(size))
        index = size * 2 // 3
        path = served.inclusion(index, size)
        verify_inclusion(index, size, hash_leaf(leaf(index)), path, log.head.root)


def test_state_db_forgets_whole_bundles_only_once_they_are_flushed(tmp_path: Path) -> None:
    with Log.create(tmp_path / "log", KEY) as log:
        log.append(leaves(0, 600))
        log.sync()
        assert log.store.kept() == (0, 600)
        log.publish()
        assert log.store.kept() == (0, 600)
        log.sync()
        assert (log.store.kept(), log.store.synced_size) == ((512, 600), 600)


def test_it_goes_on_where_it_was_whatever_was_published(tmp_path: Path) -> None:
    rng = random.Random(3)
    size, folder = 0, tmp_path / "log"
    Log.create(folder, KEY).close()
    for _ in range(12):
        with Log.open(folder, KEY) as log:
            assert (log.size, log.head.root) == (size, tree(size).root())
            for _ in range(rng.randrange(3)):
                step = rng.choice([1, 7, 256, 300, 5000])
                log.append(leaves(size, size + step))
                size += step
            if rng.random() < 0.5:
                log.publish()
            if rng.random() < 0.5:
                log.sync()
    with Log.open(folder, KEY) as log:
        log.publish()
        assert list(read(folder).entries(0, size, size)) == leaves(0, size)


def test_an_append_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Log.create(tmp_path / "log", KEY) as log:
        head = log.append(leaves(0, 300))
        with pytest.raises(UsageError):
            log.append([b"fits", bytes(65_536)])
        with monkeypatch.context() as patch:
            patch.setattr(log.store, "append", _fails)
            with pytest.raises(SetupError):
                log.append(leaves(300, 310))
        assert (log.head, log.accepted, log.store.head) == (head, 300, head)
        assert log.append([]) is head
        assert log.append(leaves(300, 301)).root == tree(301).root()
        log.publish()
        assert read(tmp_path / "log").root(301) == tree(301).root()


def _fails(*_: object) -> None:
    raise SetupError("the disk is full")


def test_a_head_that_somebody_else_moved_stops_it(tmp_path: Path) -> None:
    with Log.create(tmp_path / "log", KEY) as log:
        log.append(leaves(0, 5))
        old = log.store.head
        log.store.append(old, [(b"x", hash_leaf(b"x"))], Head(6, bytes(32), b"another note"))
        with pytest.raises(StorageBroken):
            log.append(leaves(5, 6))
        with pytest.raises(StorageBroken):  # for good
            log.append(leaves(5, 6))
    found = LogStore(tmp_path / "log" / STATE_FILE, readonly=True)
    assert (found.head.note, found.accepted) == (b"another note", 6)
    found.close()


def test_one_process_has_it_open(tmp_path: Path) -> None:
    with Log.create(tmp_path / "log", KEY), pytest.raises(SetupError, match="another process"):
        Log.open(tmp_path / "log", KEY)
    with pytest.raises(SetupError, match="the key is that of"):
        Log.open(tmp_path / "log", SignerKey("other.example", 1, bytes(32)))
    with pytest.raises(UsageError):
        Log.create(tmp_path / "log", KEY)
    Log.open(tmp_path / "log", KEY).close()


def test_it_refuses_what_does_not_give_the_signed_root(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    with Log.create(folder, KEY) as log:
        log.append(leaves(0, 600))
        log.publish()
        log.sync()
    tile = folder / PUBLIC_FOLDER / "tile/1/000.p/2"
    sound = tile.read_bytes()
    tile.write_bytes(bytes([sound[0] ^ 1]) + sound[1:])
    with pytest.raises(SetupError, match="right edge"):
        Log.open(folder, KEY)
    tile.write_bytes(sound)
    Log.open(folder, KEY).close()
    with sqlite3.connect(folder / "state.db") as db:
        db.execute("UPDATE piece SET leaves = CAST(substr(leaves, 1, length(leaves) - 1) || 'y' AS BLOB)")
    with pytest.raises(SetupError, match="damaged"):
        Log.open(folder, KEY)


def test_a_restored_state_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    with Log.create(folder, KEY) as log:
        log.append(leaves(0, 10))
        log.publish()
        log.sync()
    backup = (folder / "state.db").read_bytes()
    with Log.open(folder, KEY) as log:
        log.append(leaves(10, 20))
        log.publish()
        log.sync()
    (folder / "state.db").write_bytes(backup)
    with pytest.raises(SetupError, match="restored from a backup"):
        Log.open(folder, KEY)


@settings(max_examples=60)
@given(st.lists(st.integers(0, 700), max_size=6), st.integers(0, 9))
def test_extending_a_range_is_appending_to_it(steps: list[int], height: int) -> None:
    whole, one = CompactRange(), CompactRange()
    hashes = [hash_leaf(b"%d" % number) for number in range(sum(steps))]
    done: list[bytes] = []
    start = 0
    for step in steps:
        part = hashes[start : start + step]
        done += whole.extend(part, height)
        for value in part:
            one.append(value)
        start += step
    assert (whole.size, whole.edge, whole.root()) == (one.size, one.edge, one.root())
    width = 1 << height
    assert done == [complete_root(hashes[i : i + width]) for i in range(0, len(hashes) - width + 1, width)]


def test_complete_roots() -> None:
    hashes = [os.urandom(32) for _ in range(64)]
    assert complete_root(hashes) == MemoryTree(hashes).root()
    assert complete_root(hashes[:1]) == hashes[0]
    for wrong in (0, 3, 63):
        with pytest.raises(UsageError):
            complete_root(hashes[:wrong])
    assert CompactRange().root() == EMPTY_ROOT


def test_resuming_restores_the_edge_and_leaves_what_is_right_alone(tmp_path: Path) -> None:
    folder = tmp_path / "log"
    with Log.create(folder, KEY) as log:
        log.append(leaves(0, 600))
        log.publish()
        log.sync()
    public = folder / PUBLIC_FOLDER
    changed, missing, right = public / "tile/0/002.p/88", public / "tile/entries/002.p/88", public / "tile/1/000.p/2"
    sound = {path: path.read_bytes() for path in (changed, missing, right)}
    changed.write_bytes(sound[changed] + b"more")
    missing.unlink()
    inode = right.stat().st_ino
    with Log.open(folder, KEY) as log:
        log.resume()
        assert log.append(leaves(600, 601)).root == tree(601).root()
    assert {path: path.read_bytes() for path in sound} == sound
    assert right.stat().st_ino == inode


@settings(max_examples=40)
@given(st.integers(1, 1400), st.data())
def test_paths_from_tiles_are_those_of_the_tree(size: int, data: st.DataObject) -> None:
    files: dict[str, bytes] = {}
    whole = tree(size)
    files.update(tiles_to_write(0, leaves(0, size), whole.get, leaf))
    log = TiledLog(_Files(files))
    for _ in range(3):
        at = data.draw(st.integers(1, size))
        index = data.draw(st.integers(0, at - 1))
        try:
            path = log.path(index, at)
        except PeerError:  # a smaller size asks for partial tiles that this log never had
            continue
        assert path == whole.inclusion(index, at)
        assert log.inclusion(index, at) == path
        assert log.root(at) == whole.root(at)
        assert log.right_edge(at).root() == whole.root(at)
    assert log.path(size - 1, size) == whole.inclusion(size - 1)


class _Files:
    def __init__(self, files: dict[str, bytes]) -> None:
        self._files = files

    def fetch(self, path: str, limit: int) -> bytes | None:
        return self._files.get(path)


def test_a_log_that_kept_one_row_an_entry_is_taken_over(tmp_path: Path) -> None:
    """state.db as it was before entries were kept in pieces."""
    with Log.create(tmp_path / "log", KEY) as log:
        log.append(leaves(0, 300))
    database = sqlite3.connect(tmp_path / "log" / "state.db")
    database.executescript(
        "DROP TABLE piece; CREATE TABLE entry (position INTEGER PRIMARY KEY, leaf BLOB NOT NULL, hash BLOB NOT NULL)"
    )
    rows = [(position, leaf, hash_leaf(leaf)) for position, leaf in enumerate(leaves(0, 300))]
    database.executemany("INSERT INTO entry VALUES (?, ?, ?)", rows)
    database.commit()
    database.close()
    with pytest.raises(SetupError, match="older layout"):
        LogStore(tmp_path / "log" / "state.db", readonly=True)
    with Log.open(tmp_path / "log", KEY) as log:
        assert [leaf for leaf, _ in log.store.entries(0, 300)] == leaves(0, 300)
        assert log.append(leaves(300, 301)).size == 301
        assert log.store.kept() == (0, 301)
