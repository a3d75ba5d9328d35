"""Export and import: the same log gives the same bytes and the same folder; what somebody tampered with, cut off or
blew up leaves nothing behind."""

from __future__ import annotations

import functools
import io
import json
import os
import random
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plausible.ledger.absence.keys import leaf_keys
from plausible.ledger.absence.note import IndexHead
from plausible.ledger.absence.trie import IndexMap, MemoryPages
from plausible.ledger.entries.entry import sign_entry
from plausible.ledger.fsck import check_log
from plausible.ledger.merkle.reader import DirectorySource, TiledLog
from plausible.ledger.merkle.tiles import Tile, tiles_at, tiles_to_write
from plausible.ledger.merkle.tree import MemoryTree, hash_leaf
from plausible.ledger.notes.checkpoint import Checkpoint
from plausible.ledger.notes.note import ED25519, SignerKey
from plausible.ledger.notes.policy import Policy
from plausible.ledger.storage.archive import kept_sizes
from plausible.ledger.storage.gc import collect
from plausible.ledger.transfer import export_log, import_log
from plausible.ledger.transfer.container import END, Members, header, write_member
from plausible.ledger.transfer.descent import Roots, descend
from plausible.schemas.errors import EvidenceError, PeerError, PlausibleError, PolicyError, UsageError

from tests.ledger.keys import AUTHOR, generation
from tests.ledger.studio import make, picture

LOG = SignerKey("log.example/a", ED25519, bytes(range(7, 39)))
INDEX = SignerKey("log.example/a/index", ED25519, bytes(range(8, 40)))
OTHER_INDEX = SignerKey("log.example/b/index", ED25519, bytes(range(9, 41)))
TRUST = f"log {LOG.verifier}\nquorum none\n".encode()
POLICY = Policy.parse(TRUST)
SIZES = [0, 1, 2, 255, 256, 257, 300, 511, 512, 700]


def lay(folder: Path, size: int, kept: tuple[int, ...] = (), salt: str = "") -> TiledLog:
    """A public folder of `size` small entries, with kept heads and their partial tiles, all signed by `LOG`."""
    return lay_entries(folder, [f"entry {index} {salt}".encode() for index in range(size)], kept)


def lay_entries(folder: Path, entries: list[bytes], kept: tuple[int, ...] = ()) -> TiledLog:
    """The same of these entries."""
    size = len(entries)
    tree = MemoryTree(map(hash_leaf, entries))
    (folder / "checkpoints").mkdir(parents=True)
    last = 0
    for head in sorted({*kept, size}):
        for name, data in tiles_to_write(
            last, entries[last:head], tree.get, lambda i: entries[i]
        ) if head > last else ():  # fmt: skip
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
        last = head
        note = Checkpoint("log.example/a", head, tree.root(head)).sign(LOG).encode()
        (folder / "checkpoints" / str(head)).write_bytes(note)
        (folder / "checkpoint").write_bytes(note)
    return TiledLog(DirectorySource(folder))


def exported(log: TiledLog, policy: Policy | None = POLICY) -> bytes:
    out = io.BytesIO()
    export_log(log, out, policy=policy)
    return out.getvalue()


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return exported(lay(tmp_path_factory.mktemp("log") / "public", 600, (0, 5, 256, 515, 590)))


# --- the way there and back ---


@pytest.mark.parametrize("size", SIZES)
def test_there_and_back(tmp_path: Path, size: int) -> None:
    kept = tuple(head for head in (0, 1, 3, 256, 300, 513, 520, 699) if head <= size)
    log = lay(tmp_path / "public", size, kept)
    data = exported(log)
    assert exported(log) == data
    done = import_log(io.BytesIO(data), tmp_path / "copy", POLICY)
    assert (done.accepted.size, done.checkpoints, done.left_out, done.bytes) == (
        size, len({*kept, size}), 0, len(data)
    )  # fmt: skip
    copy = tmp_path / "copy/public"
    assert exported(TiledLog(DirectorySource(copy))) == data
    # without the partial files that full ones made needless, the folder is the same, byte for byte
    collect(tmp_path / "public", remove=True)
    assert files(copy) == files(tmp_path / "public")
    assert check_log(DirectorySource(copy), policy=POLICY).findings == ()


def test_any_tar_program_unpacks_a_log_that_can_be_served(tmp_path: Path, good: bytes) -> None:
    with tarfile.open(fileobj=io.BytesIO(good)) as tar:
        names = tar.getnames()
        tar.extractall(tmp_path / "public", filter="data")
    assert names[:2] == ["plausible-export.json", "checkpoint"]
    assert {tile.path for tile in tiles_at(600)} <= set(names)
    manifest = json.loads((tmp_path / "public/plausible-export.json").read_bytes())
    log = TiledLog(DirectorySource(tmp_path / "public"))
    assert (manifest["format"], manifest["size"], manifest["root"]) == (
        "plausible.export/1", 600, f"sha256:{log.root(600).hex()}"
    )  # fmt: skip
    assert check_log(DirectorySource(tmp_path / "public"), policy=POLICY).exit_code == 0


def test_a_real_ledger_goes_there_and_back(tmp_path: Path) -> None:
    with make(tmp_path / "a.ledger") as ledger:
        for number in range(5):
            ledger.append(image=picture(number), model="m").wait("witnessed", 20)
        policy = ledger.policy
    data = exported(TiledLog(DirectorySource(tmp_path / "a.ledger/public")), policy)
    done = import_log(io.BytesIO(data), tmp_path / "copy", policy)
    assert done.accepted.existence_time is not None
    assert kept_sizes(tmp_path / "copy/public") == kept_sizes(tmp_path / "a.ledger/public")
    assert check_log(DirectorySource(tmp_path / "copy/public"), policy=policy).findings == ()
    with pytest.raises(PolicyError):
        import_log(io.BytesIO(data), tmp_path / "other", POLICY)
    assert not (tmp_path / "other").exists()


@functools.cache
def same_entries() -> MemoryTree:
    """70,000 equal entries: two levels of full tiles."""
    return MemoryTree([hash_leaf(b"x")] * 70_000)


def index_note(entries: list[bytes], size: int, **changed: bytes) -> bytes:
    """A signed note over the absence index of the first entries, or a false one."""
    index = IndexMap(MemoryPages())
    index.add((key, place) for place, leaf in enumerate(entries[:size]) for key in leaf_keys(leaf))
    roots = {"root": MemoryTree(map(hash_leaf, entries)).root(size), "index_root": index.root()} | changed
    return IndexHead("log.example/a", size, **roots).sign(INDEX).encode()


def with_index(folder: Path, note: bytes) -> TiledLog:
    (folder / "index").mkdir(exist_ok=True)
    (folder / "index/latest").write_bytes(note)
    return TiledLog(DirectorySource(folder))


@pytest.mark.parametrize("size", [0, 1, 256, 300, 520])
def test_a_signed_absence_index_goes_along_and_is_recomputed(tmp_path: Path, size: int) -> None:
    entries = [sign_entry(generation(bytes(32), bytes([i % 200]) * 32), AUTHOR) for i in range(520)]
    note = index_note(entries, size)
    lay_entries(tmp_path / "log", entries, (3, 256))
    data = exported(with_index(tmp_path / "log", note))
    done = import_log(io.BytesIO(data), tmp_path / "copy", POLICY)
    assert done.index == size
    assert files(tmp_path / "copy")["public/index/latest"] == note
    assert not list((tmp_path / "copy").glob(".*")), "nothing but the copy"
    assert exported(TiledLog(DirectorySource(tmp_path / "copy/public"))) == data
    # what somebody puts in its place is refused, by the reader at least
    parts = members(data)
    other = index_note(entries, min(size, 519) + 1)
    for false, why in (
        (index_note(entries, size, index_root=bytes(32)), "do not give"),
        (index_note(entries, size, root=bytes(32)), "another tree"),
        (IndexHead("log.example/b", size, bytes(32), bytes(32)).sign(OTHER_INDEX).encode(), "of 'log.example/b'"),
        (IndexHead("log.example/a", 521, bytes(32), bytes(32)).sign(INDEX).encode(), "size 521"),
        (b"no note", "note"),
    ):
        changed = [(name, false if name == "index/latest" else content) for name, content in parts]
        with pytest.raises(EvidenceError, match=why):
            import_log(io.BytesIO(packed(changed)), tmp_path / "false", POLICY)
        assert not (tmp_path / "false").exists()
    import_log(
        io.BytesIO(packed([(n, other if n == "index/latest" else c) for n, c in parts])), tmp_path / "new", POLICY
    )
    with pytest.raises(EvidenceError, match="another tree"):
        exported(with_index(tmp_path / "log", index_note(entries, size, root=bytes(32))))
    with_index(tmp_path / "log", IndexHead("log.example/a", 521, bytes(32), bytes(32)).sign(INDEX).encode())
    assert b"index/latest" not in exported(TiledLog(DirectorySource(tmp_path / "log"))), "newer than the checkpoint"


@settings(max_examples=12)
@given(st.one_of(st.integers(0, 2000), st.sampled_from([65_535, 65_536, 65_537, 65_792, 70_000])), st.data())
def test_the_order_is_that_of_the_tree(size: int, data: st.DataObject) -> None:
    """Bundles ascend, every file of the log comes once, and a root can be had at any size in the bundle gone by."""
    made = same_entries()
    seen: list[Tile] = []
    wanted = data.draw(st.integers(0, size))
    roots = Roots()

    def get(tile: Tile) -> bytes:
        if tile.level is None:
            return b"\0\1x" * tile.width
        first = tile.index * 256
        return b"".join(made.get(8 * tile.level, first + place) for place in range(tile.width))

    for found in descend(size, made.root(size), get):
        seen.append(found.tile)
        if found.tile.is_bundle:
            before = roots.size
            roots.pass_by(found.hashes)
            if before < wanted <= roots.size:
                assert roots.root_at(wanted) == made.root(wanted)
    bundles = [tile.index for tile in seen if tile.is_bundle]
    assert bundles == sorted(bundles)
    assert len(seen) == len(set(seen))
    assert set(seen) == set(tiles_at(size))


# --- exporting what is damaged ---


@pytest.mark.parametrize("name", ["tile/0/001", "tile/1/000.p/2", "tile/entries/000", "tile/entries/002.p/88"])
def test_a_damaged_log_is_not_exported(tmp_path: Path, name: str) -> None:
    log = lay(tmp_path / "public", 600, (5,))
    path = tmp_path / "public" / name
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)
    with pytest.raises(EvidenceError):
        exported(log)
    path.unlink()
    log.forget()
    with pytest.raises(PeerError):
        exported(log)


def test_two_histories_are_not_exported(tmp_path: Path) -> None:
    log = lay(tmp_path / "a", 300, (5,))
    lay(tmp_path / "b", 300, (5,), salt="other")
    shutil.copy(tmp_path / "b/checkpoints/5", tmp_path / "a/checkpoints/5")
    with pytest.raises(EvidenceError, match="two histories"):
        exported(log)


# --- importing what somebody made ---


def refused(data: bytes, folder: Path, policy: Policy = POLICY) -> PlausibleError:
    """The error of an import that must fail, and that it left nothing: no target, no leftovers."""
    before = sorted(folder.iterdir())
    with pytest.raises(PlausibleError) as caught:
        import_log(io.BytesIO(data), folder / "copy", policy)
    assert sorted(folder.iterdir()) == before
    return caught.value


def members(data: bytes) -> list[tuple[str, bytes]]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return [(item.name, getattr(tar.extractfile(item), "read", bytes)()) for item in tar]


def packed(parts: list[tuple[str, bytes]]) -> bytes:
    out = io.BytesIO()
    for name, data in parts:
        write_member(out, name, data)
    return out.getvalue() + END


def test_every_cut_is_noticed(tmp_path: Path, good: bytes) -> None:
    rng = random.Random(5)
    for cut in [0, 1, 511, 512, 513, len(good) - 1, len(good) - 512, len(good) - 1024,
                *(rng.randrange(len(good)) for _ in range(25))]:  # fmt: skip
        assert isinstance(refused(good[:cut], tmp_path), EvidenceError)
    assert "follow" in str(refused(good + b"\0", tmp_path))


def test_every_flipped_bit_is_noticed_or_changes_nothing(tmp_path: Path, good: bytes) -> None:
    """A flip in the signature of a kept head leaves that head out; every other one is refused."""
    rng = random.Random(6)
    for _ in range(60):
        at = rng.randrange(len(good))
        changed = bytearray(good)
        changed[at] ^= 1 << rng.randrange(8)
        target = tmp_path / "copy"
        try:
            done = import_log(io.BytesIO(changed), target, POLICY)
        except PlausibleError:
            assert not target.exists()
        else:
            assert done.left_out == 1, f"byte {at}"
            assert check_log(DirectorySource(target / "public"), policy=POLICY).findings == ()
            shutil.rmtree(target)
    assert list(tmp_path.iterdir()) == []


def test_members_come_in_one_order_only(tmp_path: Path, good: bytes) -> None:
    parts = members(good)
    assert packed(parts) == good, "the tests below change what they say and nothing else"
    for at in range(len(parts) - 1):
        swapped = [*parts[:at], parts[at + 1], parts[at], *parts[at + 2 :]]
        refused(packed(swapped), tmp_path)
        if not parts[at][0].startswith("checkpoints/"):
            refused(packed([*parts[:at], *parts[at + 1 :]]), tmp_path)
        refused(packed([*parts[: at + 1], *parts[at:]]), tmp_path)


@pytest.mark.parametrize(
    "name", ["../evil", "/etc/evil", "tile/0/../../evil", "public/evil", "checkpoints/../evil", "checkpoints/05",
             "checkpoints/", "checkpoints/99999999999999999999", "tile/0/000", "keys/log.key"]
)  # fmt: skip
def test_no_other_name_is_taken(tmp_path: Path, good: bytes, name: str) -> None:
    parts = members(good)
    for at in (0, 2, 6, len(parts)):
        refused(packed([*parts[:at], (name, b"evil"), *parts[at:]]), tmp_path)


def edited(data: bytes, at: int, change: Callable[[bytearray], None]) -> bytes:
    """`data` with the header at `at` changed and its checksum made right again."""
    block = bytearray(data[at : at + 512])
    change(block)
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return data[:at] + bytes(block) + data[at + 512 :]


@pytest.mark.parametrize(
    ("place", "value"),
    [(156, b"1"), (156, b"2"), (156, b"5"), (156, b"x"), (156, b"g"), (156, b"L"), (156, b"S"), (156, b"\0"),
     (157, b"target"), (345, b"prefix"), (100, b"0000777\0"), (108, b"0000001\0"), (136, b"00000000001\0"),
     (257, b"ustar  \0"), (265, b"root\0")]
)  # fmt: skip
def test_links_folders_extensions_and_attributes_are_refused(
    tmp_path: Path, good: bytes, place: int, value: bytes
) -> None:
    def change(block: bytearray) -> None:
        block[place : place + len(value)] = value

    for at in (0, 1024):
        refused(edited(good, at, change), tmp_path)


@pytest.mark.parametrize("size", [b"77777777777\0", b"\x80" + bytes(10) + b"\xff", b"00000000 10\0", b"-0000000001\0"])
def test_no_size_makes_it_read_more_than_can_be(tmp_path: Path, good: bytes, size: bytes) -> None:
    def change(block: bytearray) -> None:
        block[124:136] = size

    for at in (0, 1024):
        refused(edited(good, at, change), tmp_path)


class Endless(io.RawIOBase):
    """A stream that never ends; counts what was asked of it."""

    def __init__(self, start: bytes) -> None:
        self._start = io.BytesIO(start)
        self.served = 0

    def read(self, size: int = -1, /) -> bytes:
        part = self._start.read(size) or bytes(size)
        self.served += len(part)
        assert self.served < 20 << 20, "it goes on reading"
        return part


def test_an_endless_stream_is_left_soon(tmp_path: Path, good: bytes) -> None:
    parts = members(good)
    big = header("tile/entries/000", 256 * 65537)
    for start in (b"", good[:1024], packed(parts[:6])[:-1024] + big, good):
        with pytest.raises(EvidenceError):
            import_log(Endless(start), tmp_path / "copy", POLICY)  # type: ignore[arg-type]
        assert not (tmp_path / "copy").exists()


def test_entries_of_another_log_stop_at_the_first_bundle(tmp_path: Path, good: bytes) -> None:
    """A genuine checkpoint before false files: nothing beyond what cannot be verified is stored."""
    other = members(exported(lay(tmp_path / "other", 600, salt="other")))
    mixed = [*members(good)[:2], *other[2:]]
    shutil.rmtree(tmp_path / "other")
    assert "right edge" in str(refused(packed(mixed), tmp_path))


def test_a_checkpoint_of_another_history_is_refused(tmp_path: Path, good: bytes) -> None:
    other = dict(members(exported(lay(tmp_path / "other", 600, (5,), salt="other"))))
    shutil.rmtree(tmp_path / "other")
    parts = [(name, other[name] if name == "checkpoints/5" else data) for name, data in members(good)]
    assert "two histories" in str(refused(packed(parts), tmp_path))


def test_an_unsigned_kept_checkpoint_is_left_out(tmp_path: Path, good: bytes) -> None:
    stranger = SignerKey("log.example/a", ED25519, bytes(32))
    parts = members(good)
    place = next(at for at, (name, _) in enumerate(parts) if name == "checkpoints/5")
    root = Checkpoint.parse(parts[place][1].decode().split("\n\n")[0] + "\n").root
    parts[place] = ("checkpoints/5", Checkpoint("log.example/a", 5, root).sign(stranger).encode())
    done = import_log(io.BytesIO(packed(parts)), tmp_path / "copy", POLICY)
    assert (done.left_out, done.checkpoints) == (1, 5)
    assert 5 not in kept_sizes(tmp_path / "copy/public")
    parts[place : place + 1] = [parts[place]] * 3
    refused(packed(parts), tmp_path)


def test_the_manifest_says_what_is_there_and_which_version_reads_it(tmp_path: Path, good: bytes) -> None:
    parts = members(good)
    other = json.loads(parts[0][1])
    for key, value, says in [("size", 601, "does not describe"), ("format", "plausible.export/2", "export/2")]:
        text = json.dumps({**other, key: value}, separators=(",", ":"), sort_keys=True).encode()
        assert says in str(refused(packed([(parts[0][0], text), *parts[1:]]), tmp_path))
    assert "does not read" in str(refused(packed([(parts[0][0], b"{}  "), *parts[1:]]), tmp_path))


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path, good: bytes) -> None:
    (tmp_path / "copy").mkdir()
    import_log(io.BytesIO(good), tmp_path / "copy", POLICY)
    before = files(tmp_path)
    with pytest.raises(UsageError, match="not empty"):
        import_log(io.BytesIO(good), tmp_path / "copy", POLICY)
    assert files(tmp_path) == before


def test_what_a_killed_import_left_is_removed_by_the_next_and_a_running_one_is_left_alone(
    tmp_path: Path, good: bytes
) -> None:
    code = (
        "import sys; from pathlib import Path; from plausible.ledger.notes.policy import Policy\n"
        "from plausible.ledger.transfer import import_log\n"
        f"import_log(sys.stdin.buffer, Path({str(tmp_path / 'copy')!r}), Policy.parse({TRUST!r}))"
    )
    path = os.pathsep.join(entry for entry in sys.path if entry)
    (tmp_path / ".tmp-1-00000000-other").mkdir()  # of another target: somebody else's
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, env={**os.environ, "PYTHONPATH": path}
    ) as child:
        assert child.stdin is not None
        child.stdin.write(good[: len(good) // 2])
        child.stdin.flush()
        while not (found := list(tmp_path.glob(".tmp-*-copy/public/tile"))):
            assert child.poll() is None
            time.sleep(0.01)
        with pytest.raises(EvidenceError):
            import_log(io.BytesIO(good[:-1]), tmp_path / "copy", POLICY)
        assert found[0].is_dir()
        child.kill()
    assert list(tmp_path.glob(".tmp-*-copy")), "a kill leaves the folder"
    import_log(io.BytesIO(good), tmp_path / "copy", POLICY)
    assert sorted(item.name for item in tmp_path.iterdir()) == [".tmp-1-00000000-other", "copy"]


def test_a_member_reader_counts_what_it_read(good: bytes) -> None:
    stream = Members(io.BytesIO(good))
    stream.take("plausible-export.json", 1000)
    assert stream.bytes == 512 + 512 + 512
    assert stream.name == "checkpoint"
