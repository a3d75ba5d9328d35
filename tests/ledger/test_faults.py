"""Bad disks, bad files, bad versions: a clear sentence each, and nothing acknowledged is lost."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from plausible.ledger import Ledger
from plausible.ledger.entries.digests import pixel_digest
from plausible.ledger.recorder.journal import Journal
from plausible.ledger.storage import disk as disk_module
from plausible.ledger.witness import Witness
from plausible.schemas.errors import EvidenceError, PolicyError, SetupError

from tests.ledger.studio import WITNESSES, make, picture


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """A file system of a few MB: `small_disk("size=3m")` mounts it, `small_disk("remount,ro")` changes it."""
    folder = tmp_path / "disk"
    folder.mkdir()

    def mount(options: str) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        if options.startswith("remount"):
            command = ["mount", "-o", options, str(folder)]
        done = subprocess.run(command, capture_output=True, check=False)
        if done.returncode:
            pytest.skip(f"mounting a file system needs rights this user does not have: {done.stderr.decode()[:80]}")
        return folder

    yield mount
    subprocess.run(["umount", "-l", str(folder)], capture_output=True, check=False)


@contextlib.contextmanager
def file_size_limit(size: int) -> Generator[None, None, None]:
    """No file of this process grows beyond `size` bytes: the disk is full for large files only."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def fill(folder: Path) -> Path:
    """Take all the space there is."""
    path = folder / "filler"
    for block in (65536, 1):
        with contextlib.suppress(OSError), path.open("ab", buffering=0) as file:
            while file.write(b"\0" * block):
                pass
    return path


def append_until_it_fails(ledger: Ledger, start: int = 0) -> tuple[int, SetupError]:
    """(how many were acknowledged, what the next one died of)."""
    for number in range(start, start + 500):
        try:
            ledger.append(image=picture(number), model="m", extra="x" * 20_000).wait("accepted", 30)
        except SetupError as error:
            return number - start, error
    raise AssertionError("the disk never was full")


def test_a_full_disk_raises_one_sentence_and_keeps_what_was_acknowledged(small_disk: Callable[[str], Path]) -> None:
    path = small_disk("size=3m") / "a.ledger"
    ledger = make(path)
    count, error = append_until_it_fails(ledger)
    assert "full" in str(error) and "\n" not in str(error)
    filler = fill(path.parent)
    with pytest.raises(SetupError, match="full"):
        ledger.append(image=picture(5000), model="m").wait("accepted", 30)
    filler.unlink(missing_ok=True)
    with contextlib.suppress(SetupError):
        ledger.close()
    small_disk("remount,size=30m")
    with Ledger.open(path) as again:
        again.flush()
        assert all(again.find(pixels=pixel_digest(picture(number))) for number in range(count))
        assert again.append(image=picture(6000), model="m").wait("witnessed", 30).state == "witnessed"


def test_a_full_disk_spools_and_the_journal_is_flushed_later(small_disk: Callable[[str], Path], tmp_path: Path) -> None:
    path = small_disk("size=6m") / "a.ledger"
    with pytest.warns(RuntimeWarning, match="kept in"):
        ledger = make(path, on_error="spool", spool=tmp_path / "elsewhere" / "journal")
        fill(path.parent)
        # more than any space that a write-ahead log may have left in its file
        receipts = [ledger.append(image=picture(n), model="m", extra="x" * 100_000) for n in range(20)]
        deadline = time.monotonic() + 30
        while receipts[-1].state == "pending" and time.monotonic() < deadline:
            time.sleep(0.02)
        spooled = ledger.counters.spooled
    assert spooled > 0 and "spooled" in {receipt.state for receipt in receipts}
    (path.parent / "filler").unlink()
    receipts[-1].wait("witnessed", 30)
    ledger.flush()
    assert ledger.counters.flushed == spooled and ledger.counters.failed == 0
    assert [ledger.find(pixels=pixel_digest(picture(n))) == [r.index] for n, r in enumerate(receipts)] == [True] * 20
    ledger.close()
    assert not Journal(tmp_path / "elsewhere" / "journal").exists()


def test_a_file_size_limit_is_a_full_disk(tmp_path: Path) -> None:
    ledger = make(tmp_path / "a.ledger")
    ledger.flush()
    with file_size_limit(600_000):
        count, error = append_until_it_fails(ledger)
    assert "failed" in str(error)
    # the limit is gone: what waited is written, nothing that was acknowledged is missing
    ledger.append(image=picture(9000), model="m").wait("witnessed", 60)
    assert all(ledger.find(pixels=pixel_digest(picture(number))) for number in range(count))
    with contextlib.suppress(SetupError):
        ledger.close()


def test_an_unawaited_failure_is_raised_by_the_next_call(tmp_path: Path) -> None:
    ledger = make(tmp_path / "a.ledger")
    ledger.flush()
    with file_size_limit(100_000):
        receipt = ledger.append(image=picture(1), model="m", extra="x" * 200_000)
        deadline = time.monotonic() + 30
        while receipt.error is None and time.monotonic() < deadline:
            time.sleep(0.01)
        with pytest.raises(SetupError, match="not on the record"):
            ledger.append(image=picture(2), model="m")
    assert ledger.counters.failed == 1
    # reported once; then the ledger goes on
    ledger.append(image=picture(3), model="m").wait("accepted", 30)
    ledger.close()


def test_a_failed_flush_is_fatal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = make(tmp_path / "a.ledger")
    first = ledger.append(image=picture(1), model="m").wait("witnessed", 30)

    def fails(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(disk_module.os, "fsync", fails)
    receipt = ledger.append(image=picture(2), model="m")
    with pytest.raises(SetupError, match="writer stops"):
        receipt.wait("witnessed", 30)
    monkeypatch.undo()
    with pytest.raises(SetupError):
        ledger.append(image=picture(3), model="m").wait("accepted", 30)
    with contextlib.suppress(SetupError):
        ledger.close()
    with Ledger.open(tmp_path / "a.ledger") as again:
        again.flush()
        assert first.index == 1 and again.find(pixels=pixel_digest(picture(2))) == [2]


def test_a_read_only_file_system_can_be_read(small_disk: Callable[[str], Path]) -> None:
    path = small_disk("size=20m") / "a.ledger"
    with make(path) as ledger:
        ledger.append(image=picture(1), model="m")
    (path / "lookup.db").unlink(missing_ok=True)
    small_disk("remount,ro")
    with Ledger.open(path, mode="read") as reader:
        assert reader.find(pixels=pixel_digest(picture(1))) == [1]
        assert reader.opening(1) and reader.proof(1)
        assert [model.name for model in reader.models()] == ["m"]
    for mode in ("raise", "spool"):
        with pytest.raises(SetupError, match=r"[Rr]ead-only|readonly|unable to open"):
            Ledger.open(path, on_error=mode)


@pytest.mark.parametrize("name", ["vault.db", "state.db", "log.toml", "policy.txt", "keys/log.key"])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.ledger"
    make(path).close()
    (path / name).unlink()
    with pytest.raises(SetupError, match=name.replace(".", r"\.")):
        Ledger.open(path)
    assert not (path / name).exists(), "nothing is made anew behind the user's back"


@pytest.mark.parametrize("name", ["vault.db", "state.db"])
def test_a_file_that_is_no_database_is_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.ledger"
    make(path).close()
    (path / name).write_bytes(b"not a database at all, but long enough to look like one" * 40)
    with pytest.raises(SetupError, match="not a database"):
        Ledger.open(path)


@pytest.mark.parametrize("name", ["vault.db", "state.db"])
@pytest.mark.parametrize("mode", ["append", "read"])
def test_a_newer_version_is_refused(tmp_path: Path, name: str, mode: str) -> None:
    path = tmp_path / "a.ledger"
    make(path).close()
    with contextlib.closing(sqlite3.connect(path / name)) as connection:
        connection.execute("PRAGMA user_version = 9")
        connection.commit()
    with pytest.raises(SetupError, match="newer plausible-deniability"):
        Ledger.open(path, mode=mode)


def test_a_newer_log_toml_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.ledger"
    make(path).close()
    text = (path / "log.toml").read_text()
    (path / "log.toml").write_text(text.replace("version = 1", "version = 2"))
    with pytest.raises(SetupError, match="upgrade to open it"):
        Ledger.open(path)


def test_a_restored_vault_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.ledger"
    make(path).close()
    shutil.copy(path / "vault.db", tmp_path / "old")
    with Ledger.open(path) as ledger:
        ledger.append(image=picture(1), model="m")
    for file in path.glob("vault.db*"):
        file.unlink()
    shutil.copy(tmp_path / "old", path / "vault.db")
    with pytest.raises(SetupError, match="older than state"):
        Ledger.open(path)


def test_a_witness_that_fails_is_outvoted_and_two_that_fail_are_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "a.ledger"
    make(path).close()
    names = [name.replace("/", "-") for name in WITNESSES]
    (path / f"witnesses/{names[0]}.db").rename(tmp_path / "one")
    with Ledger.open(path) as ledger:
        ledger.append(image=picture(1), model="m").wait("witnessed", 30)
        assert {cosigner.key.name for cosigner in ledger.checkpoint().cosigners} == set(WITNESSES[1:])
    (path / f"witnesses/{names[1]}.db").rename(tmp_path / "two")
    ledger = Ledger.open(path)
    receipt = ledger.append(image=picture(2), model="m").wait("accepted", 30)
    # two of three could have cosigned something this ledger does not know: nothing is signed before they answer
    with pytest.raises(SetupError, match="no head is signed"):
        receipt.wait("sequenced", 1.5)
    ledger.close()
    (tmp_path / "two").rename(path / f"witnesses/{names[1]}.db")
    with Ledger.open(path) as ledger:
        ledger.flush()
        assert ledger.find(pixels=pixel_digest(picture(2))) == [2]


def test_entries_are_sequenced_while_witnesses_fail_and_witnessed_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with make(tmp_path / "a.ledger") as ledger:
        ledger.flush()
        original: Any = Witness.add_checkpoint

        def fails(self: Witness, *args: Any) -> Any:
            if self.name == WITNESSES[0]:
                return original(self, *args)
            raise SetupError("the witness is out of order")

        monkeypatch.setattr(Witness, "add_checkpoint", fails)
        receipt = ledger.append(image=picture(1), model="m").wait("sequenced", 30)
        with pytest.raises(SetupError, match="is sequenced, not witnessed"):
            receipt.wait("witnessed", 0.5)
        assert ledger.checkpoint().size == 1
        monkeypatch.undo()
        receipt.wait("witnessed", 30)
        assert ledger.checkpoint().size == 2


@pytest.mark.parametrize("level", ["1/000.p/1", "0/000"])
def test_a_damaged_tile_on_the_right_edge_is_refused(tmp_path: Path, level: str) -> None:
    path = tmp_path / "a.ledger"
    with make(path) as ledger:
        for number in range(300):
            ledger.append(image=picture(number, 2), model="m")
    tile = path / "public/tile" / level
    data = bytearray(tile.read_bytes())
    data[5] ^= 1
    tile.write_bytes(data)
    if level.startswith("1"):
        with pytest.raises(SetupError, match="right edge"):
            Ledger.open(path)
        tile.unlink()
        with pytest.raises(SetupError, match="does not serve tile/1"):
            Ledger.open(path)
    else:
        # a full tile below the edge is not read to go on; whoever reads it finds out
        with Ledger.open(path) as ledger:
            assert len(ledger.damaged()) == 256


def test_an_edited_entry_is_found_and_contradicts_the_checkpoint(tmp_path: Path) -> None:
    """Somebody edits one entry in the served bundle: the lookup still finds it, and it does not hash into the tree."""
    from plausible.ledger.merkle.tree import hash_leaf
    from plausible.ledger.notes.proof import TlogProof, verify_proof

    path = tmp_path / "a.ledger"
    with make(path) as ledger:
        for number in range(5):
            ledger.append(image=picture(number), model="m")
    bundle = path / "public/tile/entries/000.p/6"
    data = bundle.read_bytes()
    # the third entry's payload, one base64 character of it
    place = data.index(b'"payload":"', 3000) + 600
    edited = data[:place] + (b"B" if data[place : place + 1] != b"B" else b"C") + data[place + 1 :]
    for lookup in ("kept", "rebuilt"):
        bundle.write_bytes(data)
        with Ledger.open(path, mode="read") as reader:
            assert reader.damaged() == []
            [index] = reader.find(pixels=pixel_digest(picture(1)))
        bundle.write_bytes(edited)
        if lookup == "rebuilt":
            (path / "lookup.db").unlink()
        with Ledger.open(path, mode="read") as reader:
            damaged = [at for at in range(6) if _false(reader, at)]
            assert len(damaged) == 1
            if lookup == "rebuilt":
                assert [damage.index for damage in reader.damaged()] == damaged
            proof = TlogProof.parse(reader.proof(damaged[0]))
            assert proof.extra is not None
            with pytest.raises(EvidenceError, match="inclusion"):
                verify_proof(proof, hash_leaf(proof.extra), reader.policy)
            assert index == 2


def _false(reader: Ledger, index: int) -> bool:
    try:
        reader.log.entry(index, reader.checkpoint().size)
    except EvidenceError:
        return True
    return False


def test_a_forged_checkpoint_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "a.ledger"
    make(path).close()
    note = (path / "public/checkpoint").read_bytes()
    (path / "public/checkpoint").write_bytes(note.replace(b"\n1\n", b"\n2\n", 1))
    with Ledger.open(path, mode="read") as reader, pytest.raises((EvidenceError, PolicyError)):
        reader.checkpoint()


def test_a_deleted_lookup_comes_back_and_a_broken_one_too(tmp_path: Path) -> None:
    path = tmp_path / "a.ledger"
    with make(path) as ledger:
        ledger.append(image=picture(1), model="m")
        ledger.flush()
        for damage in (lambda p: p.unlink(), lambda p: p.write_bytes(b"rubbish" * 1000), lambda p: p.write_bytes(b"")):  # pyright: ignore
            assert ledger.find(pixels=pixel_digest(picture(1))) == [1]
            damage(path / "lookup.db")
        assert ledger.find(pixels=pixel_digest(picture(1))) == [1]


def test_private_modes_survive_a_loose_umask(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        make(tmp_path / "a.ledger").close()
    finally:
        os.umask(old)
    assert all(p.stat().st_mode & 0o077 == 0 for p in (tmp_path / "a.ledger").glob("keys/*"))


def test_a_doctored_submission_does_not_stop_those_behind_it(tmp_path: Path) -> None:
    path = tmp_path / "a.ledger"
    with make(path) as ledger:
        ledger.append(image=picture(1), model="m")
    with contextlib.closing(sqlite3.connect(path / "vault.db")) as connection:
        columns = "kind, model, name, draw, pixels, file, commitment, secret, record"
        # a copy of an accepted generation under another key, and a row without its commitment
        copied = columns.replace("commitment", "randomblob(32)")
        gutted = columns.replace("commitment", "NULL").replace("draw", "999999")
        for change in (f"randomblob(16), {copied}", f"randomblob(16), {gutted}"):
            connection.execute(f"INSERT INTO submission (key, {columns}) SELECT {change} FROM submission WHERE id = 2")
        connection.commit()
    with Ledger.open(path) as ledger:
        assert ledger.append(image=picture(2), model="m").wait("witnessed", 30).index == 2
        assert ledger.find(pixels=pixel_digest(picture(1))) == [1]


def test_waiting_for_witnesses_that_do_not_answer_is_no_busy_loop(tmp_path: Path) -> None:
    path = tmp_path / "a.ledger"
    make(path).close()
    for name in WITNESSES[:2]:
        (path / f"witnesses/{name.replace('/', '-')}.db").unlink()
    ledger = Ledger.open(path)
    receipt = ledger.append(image=picture(2), model="m").wait("accepted", 30)
    began = time.process_time()
    with pytest.raises(SetupError, match="no head is signed"):
        receipt.wait("sequenced", 2.0)
    assert time.process_time() - began < 0.5
    ledger.close()
