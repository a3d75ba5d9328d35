"""fsck of the absence index: a false index root is named, and so is every changed bit of absence.db that is read."""

from __future__ import annotations

import contextlib
import random
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from plausible.ledger.absence.note import INDEX_NOTE, IndexHead, IndexPolicy
from plausible.ledger.absence.pages import ABSENCE_FILE
from plausible.ledger.absence.prove import kept, prove_absence, publish, recompute, sign_index
from plausible.ledger.absence.store import AbsenceStore
from plausible.ledger.entries.digests import pixel_digest
from plausible.ledger.fsck import Kind, Report, check_ledger, check_log
from plausible.ledger.merkle.reader import DirectorySource, TiledLog
from plausible.ledger.notes.checkpoint import Checkpoint
from plausible.ledger.notes.note import ED25519, Note, SignerKey
from plausible.schemas.errors import PlausibleError

from tests.ledger.studio import AUTHOR, make, picture

LOG_INDEX = SignerKey(f"{AUTHOR}/log/index", ED25519, bytes([3]) * 32)
MONITOR = SignerKey("monitor.example/index", ED25519, bytes([4]) * 32)
INDEX_POLICY = IndexPolicy.parse(f"log {LOG_INDEX.verifier}\nwitness m {MONITOR.verifier}\nquorum m\n".encode())


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty pictures, one of them three times; a note over all, absence.db over fewer."""
    path = tmp_path_factory.mktemp("fsck") / "a.ledger"
    with make(path) as ledger:
        for number in [*range(30), 4, 4]:
            ledger.append(image=picture(number, 5), model="m")
        ledger.flush()
        at = ledger.checkpoint().checkpoint
        store = AbsenceStore(path / ABSENCE_FILE, signer=LOG_INDEX)
        with store.at(ledger.log, at):
            pass
        for number in range(30, 35):
            ledger.append(image=picture(number, 5), model="m")
        ledger.flush()
        with store.at(ledger.log, ledger.checkpoint().checkpoint):
            pass
        for number in range(35, 40):
            ledger.append(image=picture(number, 5), model="m")
        ledger.flush()
        at = ledger.checkpoint().checkpoint
        note = sign_index(ledger.log, at, MONITOR, others=sign_index(ledger.log, at, LOG_INDEX))
        publish(ledger.public, note)
    return path


@pytest.fixture
def ledger(built: Path, tmp_path: Path) -> Path:
    """A copy for this test alone."""
    return Path(shutil.copytree(built, tmp_path / "a.ledger"))


def about(report: Report, file: str, kind: Kind = Kind.FALSE) -> list[str]:
    return [finding.what for finding in report.findings if finding.file == file and finding.kind == kind]


def false_note(ledger: Path, **changed: object) -> None:
    head = IndexHead.parse(Note.parse((ledger / "public" / INDEX_NOTE).read_bytes()).text)
    values = {"origin": head.origin, "size": head.size, "root": head.root, "index_root": head.index_root} | changed
    publish(ledger / "public", IndexHead(**values).sign(LOG_INDEX, MONITOR))  # type: ignore[arg-type]


def test_a_sound_index_passes_near_and_as_served(ledger: Path) -> None:
    for report in (
        check_ledger(ledger, index_policy=INDEX_POLICY),
        check_log(DirectorySource(ledger / "public"), index_policy=INDEX_POLICY),
    ):
        assert report.exit_code == 0, report.findings
        assert any("index root" in done for done in report.done)
        assert any("under the index policy" in done for done in report.done)
    assert any("absence.db" in done for done in check_ledger(ledger).done)
    assert any("signatures of index/latest" in name for name, _ in check_ledger(ledger).skipped)


def test_a_false_index_root_is_named_whoever_signed_it(ledger: Path) -> None:
    false_note(ledger, index_root=bytes(32))
    for report in (check_ledger(ledger), check_log(DirectorySource(ledger / "public"), index_policy=INDEX_POLICY)):
        assert report.exit_code == 1
        [what] = about(report, INDEX_NOTE)
        assert "is not what those entries give" in what


@pytest.mark.parametrize(
    ("changed", "why"),
    [({"root": bytes(32)}, "not that of the first"), ({"size": 99}, "the log has"), ({"origin": "b.example"}, "log")],
)
def test_an_index_note_of_another_tree_is_named(ledger: Path, changed: dict[str, object], why: str) -> None:
    false_note(ledger, **changed)
    report = check_ledger(ledger)
    assert report.exit_code == 1
    assert any(why in what for what in about(report, INDEX_NOTE)), report.findings


def test_signatures_count_under_an_index_policy(ledger: Path) -> None:
    path = ledger / "public" / INDEX_NOTE
    data = path.read_bytes()
    path.write_bytes(data[:-10] + (b"A" if data[-10:-9] != b"A" else b"B") + data[-9:])
    assert about(check_ledger(ledger, index_policy=INDEX_POLICY), INDEX_NOTE)
    note = Note.parse(data)
    path.write_bytes(Note(note.text).add(note.signatures[0]).encode())
    report = check_ledger(ledger, index_policy=INDEX_POLICY)
    assert report.exit_code == 5
    assert about(report, INDEX_NOTE, Kind.UNTRUSTED)
    path.write_bytes(b"no note")
    assert check_ledger(ledger).exit_code == 1


@pytest.mark.parametrize(
    "statement",
    [
        "update progress set size = size - 1",
        "update progress set size = 9999 where size = (select max(size) from progress)",
        "update progress set edge = 'x'",
        "update progress set index_root = zeroblob(32)",
        "update progress set edge = zeroblob(64)",
        "delete from progress",
        "delete from posting",
        "update posting set entry = entry + 100",
        "delete from running",
        "update running set value = zeroblob(32)",
        "update page set hash = zeroblob(32) where number = 1",
        "delete from page where number = (select max(number) from page)",
        "insert into page values (7, zeroblob(32), null)",
        "update progress set replaced = replaced + 1",
        "update progress set seal = zeroblob(32)",
        "delete from progress where size = (select min(size) from progress)",
        "delete from former",
        "update former set records = null where records is not null",
        "update former set until = until + 1",
        "drop table posting",
        "pragma user_version = 1",
    ],
)
def test_every_value_of_absence_db_is_held_against_the_entries(ledger: Path, statement: str) -> None:
    with sqlite3.connect(ledger / ABSENCE_FILE) as database:
        database.execute(statement)
    database.close()
    report = check_ledger(ledger)
    assert about(report, ABSENCE_FILE), statement
    assert report.exit_code == 1


def test_a_damaged_schema_is_named_whatever_bytes_it_has(ledger: Path) -> None:
    """SQLite quotes it in its message, which then is no text."""
    path = ledger / ABSENCE_FILE
    good = path.read_bytes()
    path.write_bytes(
        good.replace(b"posting (key blob", b"posting (k\xc5y blob").replace(b"key (key, entry)", b"key (k\xc5z, entry)")
    )
    assert path.read_bytes() != good
    assert about(check_ledger(ledger), ABSENCE_FILE)
    log = TiledLog(DirectorySource(ledger / "public"))
    at = Checkpoint.parse(Note.parse(log.checkpoint_bytes()).text)
    told: list[str] = []
    store = kept(ledger, at.origin, LOG_INDEX, told.append)
    assert recompute(log, at, store=store) == recompute(log, at)
    assert told


def contents(path: Path) -> object:
    """Everything that is ever read of absence.db."""
    tables = ("select * from page order by 1", "select * from running order by 1",
              "select * from posting order by 1, 2",
              "select * from progress", "select * from former order by 1, 2",
              "pragma user_version", "pragma application_id")  # fmt: skip
    with sqlite3.connect(path) as database:
        found = [database.execute(query).fetchall() for query in tables]
    database.close()
    return found


def flips(ledger: Path, count: int, seed: int) -> None:
    """Random bits of absence.db: each is found, or nothing that is read has changed; and no false proof is made."""
    path, rng = ledger / ABSENCE_FILE, random.Random(seed)
    log = TiledLog(DirectorySource(ledger / "public"))
    note, checkpoint = (ledger / "public" / INDEX_NOTE).read_bytes(), log.checkpoint_bytes()
    wanted: dict[str, Any] = {"pixels": pixel_digest(picture(4, 5)), "file": bytes(32)}
    proof = prove_absence(log, note, checkpoint, **wanted)
    good, expected = path.read_bytes(), contents(path)
    used = [at for at, byte in enumerate(good) if byte]
    for number in range(count):
        place = rng.choice(used) if number % 4 else rng.randrange(len(good))
        for left in ("-wal", "-shm"):
            Path(f"{path}{left}").unlink(missing_ok=True)
        path.write_bytes(good[:place] + bytes([good[place] ^ (1 << rng.randrange(8))]) + good[place + 1 :])
        report = check_ledger(ledger)
        if not about(report, ABSENCE_FILE):
            assert report.exit_code == 0, report.findings
            assert contents(path) == expected, f"byte {place} of {ABSENCE_FILE}"
        with contextlib.suppress(PlausibleError):
            assert prove_absence(log, note, checkpoint, store=AbsenceStore(path), **wanted) == proof


def test_flipped_bits_of_absence_db(ledger: Path) -> None:
    flips(ledger, 12, 1)


@pytest.mark.long
def test_many_flipped_bits_of_absence_db(ledger: Path) -> None:
    flips(ledger, 1000, 2)


def test_what_cannot_be_re_derived_is_said(ledger: Path) -> None:
    bundle = max((ledger / "public/tile/entries").rglob("*"), key=lambda f: f.stat().st_size if f.is_file() else 0)
    for file in bundle.parent.iterdir():
        file.unlink()
    report = check_ledger(ledger)
    assert about(report, INDEX_NOTE, Kind.UNREAD)
    assert about(report, ABSENCE_FILE, Kind.UNREAD)


def test_a_check_changes_nothing(ledger: Path) -> None:
    before = {f: f.read_bytes() for f in ledger.rglob("*") if f.is_file() and not f.name.endswith(("-wal", "-shm"))}
    try:
        check_ledger(ledger, index_policy=INDEX_POLICY)
    except PlausibleError:
        pytest.fail("a sound ledger raised")
    after = {f: f.read_bytes() for f in before}
    assert after == before
