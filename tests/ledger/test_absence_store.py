"""absence.db: derived, incremental, and loud where it is of another log; proof files cut out of real ledgers."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest
from plausible.ledger import Ledger
from plausible.ledger.absence.note import INDEX_NOTE, IndexPolicy
from plausible.ledger.absence.pages import ABSENCE_FILE
from plausible.ledger.absence.proof import verify_absence
from plausible.ledger.absence.prove import prove_absence, publish, published, recompute, sign_index
from plausible.ledger.absence.store import AbsenceStore
from plausible.ledger.entries.digests import pixel_digest
from plausible.ledger.notes.note import ED25519, Note, SignerKey
from plausible.schemas.errors import EvidenceError, SetupError

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
    with pytest.raises(EvidenceError, match="do not hash to the root"):
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
