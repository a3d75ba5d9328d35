"""absence.db: derived, incremental, and loud where it is of another log; proof files cut out of real ledgers."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plausible.ledger import Ledger
from plausible.ledger.absence.keys import PIXELS, index_key
from plausible.ledger.absence.note import INDEX_NOTE, IndexPolicy
from plausible.ledger.absence.pages import ABSENCE_FILE, PageFile, Progress
from plausible.ledger.absence.proof import verify_absence
from plausible.ledger.absence.prove import kept, prove_absence, publish, published, recompute, sign_index
from plausible.ledger.absence.store import AbsenceStore
from plausible.ledger.absence.trie import IndexMap, MemoryPages
from plausible.ledger.entries.digests import pixel_digest
from plausible.ledger.entries.entry import sign_entry
from plausible.ledger.merkle.reader import DirectorySource, TiledLog
from plausible.ledger.merkle.tiles import tiles_to_write
from plausible.ledger.merkle.tree import MemoryTree, hash_leaf
from plausible.ledger.notes.checkpoint import Checkpoint
from plausible.ledger.notes.note import ED25519, Note, SignerKey
from plausible.schemas.errors import EvidenceError, SetupError

from tests.ledger.keys import AUTHOR as AUTHOR_KEY
from tests.ledger.keys import generation
from tests.ledger.studio import AUTHOR, make, picture

LOG_INDEX = SignerKey(f"{AUTHOR}/log/index", ED25519, bytes([3]) * 32)
MONITOR = SignerKey("monitor.example/index", ED25519, bytes([4]) * 32)
INDEX_POLICY = IndexPolicy.parse(f"log {LOG_INDEX.verifier}\nwitness m {MONITOR.verifier}\nquorum m\n".encode())


def log_pictures(ledger: Ledger, *numbers: int) -> None:
    for number in numbers:
        ledger.append(image=picture(number), model="m")
    ledger.flush()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger with a model and three pictures."""
    path = tmp_path_factory.mktemp("absence") / "studio.ledger"
    with make(path) as ledger:
        log_pictures(ledger, 0, 1, 2)
    return path


@pytest.fixture
def path(finished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished, tmp_path / "studio.ledger"))


def root_of(path: Path, store: AbsenceStore | None = None) -> bytes:
    with Ledger.open(path, mode="read") as ledger:
        at = ledger.checkpoint().checkpoint
        with (store or AbsenceStore(path / ABSENCE_FILE)).at(ledger.log, at) as index:
            return index.root()


def test_incremental_is_from_scratch(path: Path) -> None:
    first = root_of(path)
    with Ledger.open(path) as ledger:
        log_pictures(ledger, 3, 1)  # one of them again
    grown = root_of(path)  # a store opened anew, resumed
    assert grown != first
    assert grown == root_of(path, AbsenceStore(None))
    (path / ABSENCE_FILE).unlink()
    assert root_of(path) == grown
    with Ledger.open(path, mode="read") as ledger:
        assert recompute(ledger.log, ledger.checkpoint().checkpoint).index_root == grown


def test_a_state_ahead_of_the_log_is_not_answered_from(path: Path, tmp_path: Path) -> None:
    old = shutil.copytree(path, tmp_path / "old.ledger")
    with Ledger.open(path) as ledger:
        log_pictures(ledger, 3)
    root_of(path)
    shutil.copy(path / ABSENCE_FILE, old / ABSENCE_FILE)
    with pytest.raises(SetupError, match="set back"):
        root_of(old)


def test_a_state_of_another_log_is_not_answered_from(path: Path, tmp_path: Path) -> None:
    with make(tmp_path / "other.ledger") as ledger:
        log_pictures(ledger, 7, 8, 9)
    root_of(tmp_path / "other.ledger")
    shutil.copy(tmp_path / "other.ledger" / ABSENCE_FILE, path / ABSENCE_FILE)
    with pytest.raises(SetupError, match="another log's"):
        root_of(path)


def test_an_edited_state_or_entry_is_found(path: Path) -> None:
    root_of(path)
    with sqlite3.connect(path / ABSENCE_FILE) as database:
        (data,) = database.execute("select hash from page").fetchone()
        database.execute("update page set hash = ?", (data[:-1] + bytes([data[-1] ^ 1]),))
    database.close()
    with pytest.raises(SetupError, match="contradicts itself"):
        root_of(path)
    (path / ABSENCE_FILE).write_bytes(b"no database at all, and long enough to be read as one" * 40)
    with pytest.raises(SetupError, match="delete it"):
        root_of(path)
    (path / ABSENCE_FILE).unlink()
    bundle = next(f for f in (path / "public/tile/entries").rglob("*") if f.is_file() and f.name == "4")
    data = bundle.read_bytes()
    bundle.write_bytes(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
    with pytest.raises(EvidenceError, match="do not hash to the root"):
        root_of(path)


def test_a_proof_from_a_log_to_an_offline_verifier(path: Path) -> None:
    with Ledger.open(path, mode="read") as ledger:
        at, store = ledger.checkpoint(), AbsenceStore(path / ABSENCE_FILE)
        assert published(ledger.log) is None
        alone = sign_index(ledger.log, at.checkpoint, LOG_INDEX)
        both = sign_index(ledger.log, at.checkpoint, MONITOR, others=alone)
        publish(ledger.public, both)
        note = published(ledger.log)
        assert note is not None
        assert note == both.encode()
        assert (path / "public" / INDEX_NOTE).read_bytes() == note
        for number, present in ((2, (3,)), (99, ())):
            pixels = pixel_digest(picture(number))
            data = prove_absence(ledger.log, note, at.note, pixels=pixels, file=None, store=store).encode()
            found = verify_absence(data, pixels=pixels, file=None, policy=ledger.policy, index_policy=INDEX_POLICY)
            assert (found.indices, found.size, found.weakness) == (present, 4, None)


def test_a_note_that_the_log_has_outgrown_still_proves_its_size(path: Path) -> None:
    with Ledger.open(path) as ledger:
        at = ledger.checkpoint()
        note = sign_index(ledger.log, at.checkpoint, LOG_INDEX).add(
            *sign_index(ledger.log, at.checkpoint, MONITOR).signatures
        )
        log_pictures(ledger, 50)
        pixels, now = pixel_digest(picture(50)), ledger.checkpoint()
        data = prove_absence(ledger.log, note.encode(), now.note, pixels=pixels, file=None).encode()
        found = verify_absence(data, pixels=pixels, file=None, policy=ledger.policy, index_policy=INDEX_POLICY)
    assert (found.size, found.absent) == (4, True)  # as true as it was: absent from the first four


def test_nobody_signs_or_proves_under_a_false_root(path: Path) -> None:
    with Ledger.open(path, mode="read") as ledger:
        at = ledger.checkpoint()
        true = recompute(ledger.log, at.checkpoint)
        false = type(true)(true.origin, true.size, true.root, bytes(32)).sign(LOG_INDEX)
        with pytest.raises(EvidenceError, match="do not give"):
            sign_index(ledger.log, at.checkpoint, MONITOR, others=Note.parse(false.encode()))
        with pytest.raises(EvidenceError, match="is not what"):
            prove_absence(ledger.log, false.encode(), at.note, pixels=bytes(32), file=None)


def test_what_a_lazy_store_has_not_written_is_derived_again(path: Path) -> None:
    store = AbsenceStore(path / ABSENCE_FILE, lazy=True)
    first = root_of(path, store)
    with sqlite3.connect(path / ABSENCE_FILE) as database:
        assert database.execute("select size from progress").fetchone() is None
    database.close()
    with Ledger.open(path) as ledger:
        log_pictures(ledger, 3)
    grown = root_of(path, store)  # goes on from what it holds in memory
    assert grown != first
    store.close()
    with sqlite3.connect(path / ABSENCE_FILE) as database:
        assert database.execute("select size, index_root from progress").fetchone() == (5, grown)
    database.close()
    assert root_of(path) == grown == root_of(path, AbsenceStore(None))


def test_two_stores_over_one_file_agree(path: Path) -> None:
    """A lazy one that another process overtakes forgets what it had and goes on from the file."""
    slow = AbsenceStore(path / ABSENCE_FILE, lazy=True)
    root_of(path, slow)
    with Ledger.open(path) as ledger:
        log_pictures(ledger, 3)
    overtaken = root_of(path)
    assert root_of(path, slow) == overtaken
    with Ledger.open(path) as ledger:
        log_pictures(ledger, 4, 5)
    last = root_of(path, slow)
    slow.close()
    assert root_of(path) == last == root_of(path, AbsenceStore(None))


def test_a_read_only_folder_is_answered_from_memory(path: Path) -> None:
    expected = root_of(path, AbsenceStore(None))
    missing = AbsenceStore(path / "no such folder" / ABSENCE_FILE)
    assert root_of(path, missing) == expected


def test_a_page_that_is_not_what_was_folded_gives_no_proof(path: Path) -> None:
    """One flipped bit in a bucket: the root above it is unchanged, so only the proof itself shows it."""
    root_of(path)
    with Ledger.open(path, mode="read") as ledger:
        at = ledger.checkpoint()
        note = sign_index(ledger.log, at.checkpoint, LOG_INDEX).encode()
        with sqlite3.connect(path / ABSENCE_FILE) as database:
            (data,) = database.execute("select records from page").fetchone()
            for place in range(0, len(data), 80):  # the index in each record
                data = data[: place + 47] + bytes([data[place + 47] ^ 1]) + data[place + 48 :]
            database.execute("update page set records = ?", (data,))
        database.close()
        with pytest.raises(SetupError, match="contradicts itself"):
            prove_absence(
                ledger.log, note, at.note, pixels=pixel_digest(picture(99)), file=None,
                store=AbsenceStore(path / ABSENCE_FILE),
            )  # fmt: skip


def test_a_false_root_in_the_file_is_not_blamed_on_the_log(path: Path) -> None:
    root_of(path)
    with Ledger.open(path, mode="read") as ledger:
        at = ledger.checkpoint()
        note = sign_index(ledger.log, at.checkpoint, LOG_INDEX).encode()
        with sqlite3.connect(path / ABSENCE_FILE) as database:
            database.execute("update page set hash = ? where number = 1", (bytes(32),))
            database.execute("update progress set index_root = ?", (bytes(32),))
        database.close()
        with pytest.raises(SetupError, match="delete it"):
            prove_absence(
                ledger.log, note, at.note, pixels=bytes(32), file=None, store=AbsenceStore(path / ABSENCE_FILE)
            )


# --- kept for who signs ---


def lay(public: Path, entries: list[bytes]) -> None:
    """A log's folder with these entries, on top of what is there."""
    tree = MemoryTree(map(hash_leaf, entries))
    for name, data in tiles_to_write(0, entries, tree.get, lambda index: entries[index]):
        (public / name).parent.mkdir(parents=True, exist_ok=True)
        (public / name).write_bytes(data)
    note = Checkpoint(f"{AUTHOR}/log", len(entries), tree.root()).sign(SignerKey(f"{AUTHOR}/log", ED25519, bytes(32)))
    (public / "checkpoint").write_bytes(note.encode())


class Counting(DirectorySource):
    """A log's folder that counts what is read of its entries."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.bundles = 0

    def fetch(self, path: str, limit: int) -> bytes | None:
        self.bundles += path.startswith("tile/entries/")
        return super().fetch(path, limit)


def signed_root(path: Path, told: list[str], signer: SignerKey = LOG_INDEX) -> bytes:
    """The index root under the served checkpoint, as the key's holder computes it with what the folder keeps."""
    log = TiledLog(DirectorySource(path / "public"))
    at = Checkpoint.parse(Note.parse(log.checkpoint_bytes()).text)
    store = kept(path, at.origin, signer, told.append)
    return recompute(log, at, store=store).index_root


def derived(path: Path) -> bytes:
    log = TiledLog(DirectorySource(path / "public"))
    return recompute(log, Checkpoint.parse(Note.parse(log.checkpoint_bytes()).text)).index_root


def test_only_entries_that_came_since_are_read(tmp_path: Path) -> None:
    entries = [
        sign_entry(generation(bytes(32), hashlib.sha256(b"%d" % index).digest()), AUTHOR_KEY) for index in range(1030)
    ]
    lay(tmp_path / "public", entries[:1026])
    told: list[str] = []
    signed_root(tmp_path, told)
    lay(tmp_path / "public", entries)
    source = Counting(tmp_path / "public")
    log = TiledLog(source)
    at = Checkpoint.parse(Note.parse(log.checkpoint_bytes()).text)
    root = recompute(log, at, store=kept(tmp_path, at.origin, LOG_INDEX, told.append)).index_root
    assert (source.bundles, told) == (1, [])
    assert root == recompute(log, at).index_root


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("update page set hash = zeroblob(32) where number = 1", "contradicts itself"),
        ("update progress set index_root = zeroblob(32)", "not made under the key"),
        ("update progress set edge = zeroblob(length(edge))", "not made under the key"),
        ("update progress set seal = x''", "not made under the key"),
        ("update page set records = zeroblob(160)", "damaged"),
        ("update page set records = cast(substr(records, 1, 47) || x'7f' || substr(records, 49) as blob)", "damaged"),
        ("drop table running", "contradicts itself"),
        ("pragma user_version = 2", "another version"),
        (b"no database at all, and long enough to be read as one" * 40, "not a database"),
        (b"", None),
    ],
)
def test_a_file_that_is_of_no_use_is_made_again_and_the_reason_told(
    path: Path, change: str | bytes, why: str | None
) -> None:
    told: list[str] = []
    signed_root(path, told)
    with Ledger.open(path) as ledger:
        log_pictures(ledger, 3, 1, 2)  # two of them again: their records are changed, not only those beside them
    if isinstance(change, bytes):
        (path / ABSENCE_FILE).write_bytes(change)
    else:
        with sqlite3.connect(path / ABSENCE_FILE) as database:
            database.execute(change)
        database.close()
    assert signed_root(path, told) == derived(path)
    assert len(told) == (why is not None)
    assert why is None or why in told[0]
    assert signed_root(path, told) == derived(path)
    assert len(told) == (why is not None), "what was made again is of use"


def test_what_another_made_is_not_signed(path: Path) -> None:
    """Nobody signs what he did not recompute: not what a reader of the folder derived, nor what another key signed."""
    root_of(path)
    told: list[str] = []
    assert signed_root(path, told) == derived(path)
    assert "not made under the key" in told[0]
    other = SignerKey(LOG_INDEX.verifier.name, ED25519, bytes([9]) * 32)
    signed_root(path, told, other)
    assert len(told) == 2
    root_of(path)  # a reader uses it and leaves it as it is
    with Ledger.open(path) as ledger:
        log_pictures(ledger, 3)
    assert root_of(path) == derived(path)
    signed_root(path, told, other)
    assert len(told) == 2


def test_a_log_that_was_set_back_or_is_another_is_indexed_anew(path: Path, tmp_path: Path) -> None:
    old = shutil.copytree(path, tmp_path / "old.ledger")
    with make(tmp_path / "other.ledger") as ledger:
        log_pictures(ledger, *range(7, 12))
    with Ledger.open(path) as ledger:
        log_pictures(ledger, 3)
    told: list[str] = []
    signed_root(path, told)
    for folder, why in ((old, "set back"), (tmp_path / "other.ledger", "another")):
        shutil.copy(path / ABSENCE_FILE, folder / ABSENCE_FILE)
        assert signed_root(folder, told) == derived(folder)
        assert why in told[-1]
    assert len(told) == 2


def test_a_ledger_signs_and_serves_its_index(path: Path) -> None:
    with Ledger.open(path) as ledger:
        first = ledger.sign_index(LOG_INDEX)
        assert ledger.sign_index(MONITOR).signatures[1] == first.signatures[0], "others' signatures stay"
        log_pictures(ledger, 3)
        second = ledger.sign_index(LOG_INDEX)
        assert (path / "public" / INDEX_NOTE).read_bytes() == second.encode()
        assert ledger.sign_index(LOG_INDEX, anew=True).encode() == second.encode() != first.encode()


def test_the_latest_sizes_can_be_proven(path: Path) -> None:
    """A proof under a root signed before the log moved on is made from what the file keeps of that size."""
    told: list[str] = []
    notes: list[tuple[bytes, int, set[int]]] = []
    logged = {0, 1, 2}
    for number in (None, 50, 1, 51, 52):
        with Ledger.open(path) as ledger:
            if number is not None:
                log_pictures(ledger, number)
                logged.add(number)
            at = ledger.checkpoint().checkpoint
            store = kept(path, at.origin, LOG_INDEX, told.append)
            note = sign_index(ledger.log, at, LOG_INDEX, store=store)
            notes.append((note.add(*sign_index(ledger.log, at, MONITOR).signatures).encode(), at.size, set(logged)))
    with Ledger.open(path, mode="read") as ledger:
        now = ledger.checkpoint()
        for note, size, present in notes:
            source = Counting(ledger.public)
            for number in (0, 1, 50, 51, 52, 99):
                pixels = pixel_digest(picture(number))
                data = prove_absence(
                    TiledLog(source), note, now.note, pixels=pixels, file=None, store=AbsenceStore(path / ABSENCE_FILE)
                )
                found = verify_absence(data, pixels=pixels, file=None, policy=ledger.policy, index_policy=INDEX_POLICY)
                assert (found.size, not found.absent) == (size, number in present)
            assert source.bundles == 0, "nothing is read again"
    assert not told


def test_a_file_that_keeps_no_earlier_size_does_without(path: Path) -> None:
    with Ledger.open(path) as ledger:
        at = ledger.checkpoint()
        log_pictures(ledger, 50)
    root_of(path)
    log = TiledLog(DirectorySource(path / "public"))
    with AbsenceStore(path / ABSENCE_FILE).at(log, at.checkpoint) as index:
        assert index.root() == recompute(log, at.checkpoint).index_root


@settings(max_examples=25, deadline=None)
@given(
    digests=st.lists(st.integers(0, 30), max_size=60),
    stops=st.lists(st.integers(0, 60), max_size=8),
    asked=st.integers(0, 60),
)
def test_a_kept_index_is_the_recomputed_one_at_every_kept_size(
    digests: list[int], stops: list[int], asked: int
) -> None:
    """Batches of any sizes, digests that come again, files opened anew between them."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        items = [(index_key(PIXELS, bytes([digest]) * 32), index) for index, digest in enumerate(digests)]
        kept_sizes: list[int] = []
        for stop in sorted({min(stop, len(items)) for stop in stops} | {len(items)}):
            with contextlib.closing(PageFile(folder / ABSENCE_FILE)) as file:
                before, _ = file.begin()
                start = 0 if before is None else before.size
                index = IndexMap(file)
                index.add(items[start:stop])
                if stop > start:
                    file.flush(Progress(stop, b"", index.root()))
                    kept_sizes.append(stop)
                fresh = IndexMap(MemoryPages())
                fresh.add(items[:stop])
                assert index.root() == fresh.root()
                found = file.former(asked)
                largest = max((size for size in kept_sizes if size <= asked), default=None)
                assert (None if found is None else found[0].size) == largest
                if found is not None:
                    former = IndexMap(found[1])
                    former.add(items[found[0].size : asked])  # and on from there, in memory
                    fresh = IndexMap(MemoryPages())
                    fresh.add(items[: max(asked, found[0].size)])
                    assert former.root() == fresh.root()
                    for key in {key for key, _ in items}:
                        assert former.indices(key) == fresh.indices(key)


CHILD = """
import sys
from pathlib import Path
from plausible.ledger.absence import pages
from plausible.ledger.absence.prove import kept, recompute
from plausible.ledger.merkle.reader import DirectorySource, TiledLog
from plausible.ledger.notes.checkpoint import Checkpoint
from plausible.ledger.entries.entry import sign_entry
from plausible.ledger.merkle.reader import DirectorySource, TiledLog
from plausible.ledger.merkle.tiles import tiles_to_write
from plausible.ledger.merkle.tree import MemoryTree, hash_leaf
from plausible.ledger.notes.checkpoint import Checkpoint
from plausible.ledger.notes.note import ED25519, Note, SignerKey
folder, point = Path(sys.argv[1]), int(sys.argv[2])
calls = 0
def step(statement):
    # SQLite says which statement it begins; the process dies before the one of this number
    global calls
    calls += 1
    if calls == point:
        import os, signal
        os.kill(os.getpid(), signal.SIGKILL)
prepared = pages._prepared
def traced(connection):
    connection.set_trace_callback(step)
    return prepared(connection)
pages._prepared = traced
log = TiledLog(DirectorySource(folder / "public"))
at = Checkpoint.parse(Note.parse(log.checkpoint_bytes()).text)
signer = SignerKey(at.origin + "/index", ED25519, bytes([3]) * 32)
print(recompute(log, at, store=kept(folder, at.origin, signer, lambda reason: print("anew", reason))).index_root.hex())
print(calls)
"""


def test_a_kill_at_any_statement_leaves_it_usable(path: Path, tmp_path: Path) -> None:
    told: list[str] = []
    signed_root(path, told)
    with Ledger.open(path) as ledger:
        log_pictures(ledger, 3, 1, 4)
    expected = derived(path).hex()

    def run(folder: Path, point: int) -> subprocess.CompletedProcess[str]:
        where = os.pathsep.join(entry for entry in sys.path if entry)
        return subprocess.run(
            [sys.executable, "-c", CHILD, str(folder), str(point)],
            capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": where},
        )  # fmt: skip

    whole = run(shutil.copytree(path, tmp_path / "whole"), 0)
    root, steps = whole.stdout.split()
    assert root == expected, whole.stderr
    for point in sorted({*range(8, int(steps) + 1, max(1, int(steps) // 6)), int(steps) - 2, int(steps) - 1}):
        folder = shutil.copytree(path, tmp_path / f"killed {point}")
        assert run(folder, point).returncode == -signal.SIGKILL
        assert signed_root(folder, told).hex() == expected
    assert not told, "a kill costs what was not written, and no more"
