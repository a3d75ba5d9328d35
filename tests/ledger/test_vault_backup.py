"""Backups of a vault: consistent while it is written to, of this ledger only, and nothing that is here is replaced."""

from __future__ import annotations

import shutil
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from plausible.ledger import Ledger
from plausible.ledger.fsck import check_ledger
from plausible.ledger.vault.backup import MAGIC, Manifest, read_manifest, restore_backup, write_backup
from plausible.ledger.vault.rekey import encrypt_vault, rotate_vault
from plausible.ledger.vault.vault import Vault
from plausible.ledger.vault.vaultkey import VaultKey
from plausible.schemas import jcs
from plausible.schemas.errors import EvidenceError, SetupError, UsageError

from tests.ledger.studio import make, picture

KEY = VaultKey(bytes(range(32)), passphrase=False)
OTHER = VaultKey(bytes(32), passphrase=False)


def record(path: Path, *numbers: int, key: VaultKey | None = None) -> None:
    with Ledger.open(path, vault_key=key) as ledger:
        for number in numbers:
            ledger.append(image=picture(number), model="m", extra={"n": number})


def indexes(path: Path, key: VaultKey | None = None) -> list[int]:
    with Ledger.open(path, mode="read", vault_key=key) as ledger:
        return [index for index, _, _ in ledger.records()]


def studio(tmp_path: Path) -> Path:
    path = tmp_path / "a.ledger"
    make(path, witnesses=()).close()
    record(path, 1, 2, 3)
    return path


def lose(path: Path) -> None:
    for file in path.glob("vault.db*"):
        file.unlink()


@pytest.mark.parametrize("key", [None, KEY], ids=["plain", "encrypted"])
def test_a_lost_vault_comes_back(tmp_path: Path, key: VaultKey | None) -> None:
    path, file = studio(tmp_path), tmp_path / "b" / "vault.backup"
    if key is not None:
        encrypt_vault(path, key)
    manifest = write_backup(path, file)
    assert (manifest.size, manifest.records, manifest.last) == (4, 3, 4)
    assert (manifest.vault is None) == (key is None)
    assert file.stat().st_mode & 0o777 == 0o600
    assert [p.name for p in file.parent.iterdir()] == ["vault.backup"]
    assert read_manifest(file) == manifest
    lose(path)
    with pytest.raises(SetupError, match="missing"):
        Ledger.open(path)
    done = restore_backup(path, file, key=key)
    assert (done.added, done.kept, done.lost, done.placed) == (4, 0, 0, True)
    record(path, 4, key=key)
    assert indexes(path, key) == [1, 2, 3, 4]


def test_a_write_ahead_log_of_the_lost_vault_is_not_applied(tmp_path: Path) -> None:
    path, file = studio(tmp_path), tmp_path / "vault.backup"
    write_backup(path, file)
    lose(path)
    (path / "vault.db-wal").write_bytes(b"left over")
    restore_backup(path, file)
    assert indexes(path) == [1, 2, 3]
    assert [p.read_bytes() for p in path.glob("vault.db-wal.lost-*")] == [b"left over"]


def test_only_what_is_missing_is_put_back(tmp_path: Path) -> None:
    path, file = studio(tmp_path), tmp_path / "vault.backup"
    write_backup(path, file)
    record(path, 4)
    with Ledger.open(path) as ledger:
        ledger.erase(2)
    vault = Vault(path / "vault.db")
    with vault.db.transaction() as connection:
        connection.execute("DELETE FROM submission WHERE id = 4")
    vault.close()
    assert indexes(path) == [1, 4]
    done = restore_backup(path, file)
    assert (done.added, done.kept, done.placed) == (1, 3, False)
    assert indexes(path) == [1, 3, 4], "the newer record stays, the erased one stays erased"
    assert restore_backup(path, file).added == 0


def test_records_go_back_into_a_vault_that_was_encrypted_since(tmp_path: Path) -> None:
    path, file = studio(tmp_path), tmp_path / "vault.backup"
    write_backup(path, file)
    encrypt_vault(path, KEY)
    locked = tmp_path / "locked.backup"
    write_backup(path, locked)
    rotate_vault(path, KEY, new_key=OTHER, data_key=True)
    for source, backup_key in ((file, None), (locked, KEY)):
        vault = Vault(path / "vault.db", key=OTHER)
        with vault.db.transaction() as connection:
            connection.execute("DELETE FROM submission WHERE id = 3")
            connection.execute("DELETE FROM record_key WHERE submission = 3")
        vault.close()
        assert indexes(path, OTHER) == [1, 3]
        assert restore_backup(path, source, key=OTHER, backup_key=backup_key).added == 1
        assert indexes(path, OTHER) == [1, 2, 3]


def test_a_plain_backup_is_not_put_in_the_clear_where_a_key_is_named(tmp_path: Path) -> None:
    path, file = studio(tmp_path), tmp_path / "vault.backup"
    write_backup(path, file)
    lose(path)
    assert restore_backup(path, file, key=KEY).placed
    assert b'"rng"' not in (path / "vault.db").read_bytes()
    assert indexes(path, KEY) == [1, 2, 3]
    assert check_ledger(path, vault_key=KEY).findings == ()


def test_a_restored_vault_signs_nothing_twice(tmp_path: Path) -> None:
    """With all it waits for in the backup, and the log further by then: every entry stays the one that was signed."""
    path, file = studio(tmp_path), tmp_path / "vault.backup"
    write_backup(path, file)
    record(path, 4)
    with Ledger.open(path, mode="read") as ledger:
        before = [ledger.entry(index) for index in range(5)]
    lose(path)
    (path / "vault.db").write_bytes(file.read_bytes()[-read_manifest(file).length :])
    with pytest.raises(SetupError, match="is older than state"):
        Ledger.open(path)
    lose(path)
    restore_backup(path, file, accept_loss=True)
    record(path, 5)
    with Ledger.open(path, mode="read") as ledger:
        assert [ledger.entry(index) for index in range(5)] == before
        assert ledger.checkpoint().size == 6
    found = check_ledger(path).findings
    assert [finding.file for finding in found] == ["vault.db"] and "1 own entries" in found[0].what


@pytest.mark.parametrize("gone", [False, True], ids=["merged", "placed"])
@pytest.mark.parametrize("key", [None, KEY], ids=["plain", "encrypted"])
def test_a_backup_in_the_clear_brings_nothing_that_is_then_signed(
    tmp_path: Path, key: VaultKey | None, gone: bool
) -> None:
    """Whoever can write to a plain backup could else have any entry logged in the author's name."""
    path, file = studio(tmp_path), tmp_path / "vault.backup"
    if key is not None:
        encrypt_vault(path, key)
    shutil.copy(path / "vault.db", tmp_path / "kept.db")
    vault = Vault(path / "vault.db", key=key)
    waiting = replace(vault.rows_after(3)[0], key=bytes(16), draw=4000, commitment=bytes(32), record=None, secret=None)
    vault.add([replace(waiting, kind="model", name="forged", draw=None, pixels=None, commitment=None)])
    vault.close()
    write_backup(path, file)
    lose(path)
    if not gone:
        shutil.copy(tmp_path / "kept.db", path / "vault.db")
    done = restore_backup(path, file, key=key)
    assert done.unlogged == (0 if key is not None else 1)
    record(path, 4, key=key)
    with Ledger.open(path, mode="read", vault_key=key) as ledger:
        assert any(model.name == "forged" for model in ledger.models()) == (key is not None)
        assert ledger.checkpoint().size == (6 if key is not None else 5)


def test_a_vault_older_than_the_log_is_taken_only_when_asked(tmp_path: Path) -> None:
    path, file = studio(tmp_path), tmp_path / "vault.backup"
    write_backup(path, file)
    record(path, 4, 5)
    lose(path)
    with pytest.raises(UsageError, match="ends 2 submissions before"):
        restore_backup(path, file)
    assert not (path / "vault.db").exists()
    assert restore_backup(path, file, accept_loss=True).lost == 2
    record(path, 6)
    assert indexes(path) == [1, 2, 3, 6]


def test_a_backup_of_another_ledger_is_refused(tmp_path: Path) -> None:
    path, file = studio(tmp_path), tmp_path / "vault.backup"
    write_backup(path, file)
    (tmp_path / "other").mkdir()
    other = studio(tmp_path / "other")
    before = (other / "vault.db").read_bytes()
    with pytest.raises(EvidenceError, match="another ledger"):
        restore_backup(other, file)
    assert (other / "vault.db").read_bytes() == before


def rewritten(file: Path, **changes: object) -> None:
    """The backup with other values in its manifest, otherwise whole."""
    data = file.read_bytes()
    start = len(MAGIC) + 4
    length = int.from_bytes(data[len(MAGIC) : start], "big")
    manifest = Manifest.parse(data[start : start + length]).to_json()
    text = jcs.encode({**manifest, **changes})
    file.write_bytes(MAGIC + len(text).to_bytes(4, "big") + text + data[start + length :])


def test_a_backup_of_another_history_is_refused(tmp_path: Path) -> None:
    path, file = studio(tmp_path), tmp_path / "vault.backup"
    write_backup(path, file)
    rewritten(file, size=3)
    with pytest.raises(EvidenceError, match="another history"):
        restore_backup(path, file)
    rewritten(file, size=400)
    with pytest.raises(SetupError, match="older than this backup"):
        restore_backup(path, file)


def test_a_record_that_is_not_the_committed_one_is_refused(tmp_path: Path) -> None:
    path, file = studio(tmp_path), tmp_path / "vault.backup"
    kept = tmp_path / "kept.db"
    shutil.copy(path / "vault.db", kept)
    vault = Vault(path / "vault.db")
    with vault.db.transaction() as connection:
        connection.execute("UPDATE submission SET secret = zeroblob(32) WHERE id = 3")
    vault.close()
    write_backup(path, file)
    lose(path)
    shutil.copy(kept, path / "vault.db")
    with pytest.raises(EvidenceError, match="submission 3 in the backup is not the committed one"):
        restore_backup(path, file)


def test_a_damaged_backup_is_refused(tmp_path: Path) -> None:
    path, file = studio(tmp_path), tmp_path / "vault.backup"
    write_backup(path, file)
    data = file.read_bytes()
    for position in (0, 30, 60, len(data) // 2, len(data) - 1):
        bad = bytearray(data)
        bad[position] ^= 1
        file.write_bytes(bad)
        with pytest.raises((EvidenceError, SetupError)):
            restore_backup(path, file)
    for cut in (b"", data[:10], data[:-1], data + b"x"):
        file.write_bytes(cut)
        with pytest.raises(EvidenceError):
            restore_backup(path, file)
    assert indexes(path) == [1, 2, 3]


def test_refusals_beside_the_content(tmp_path: Path) -> None:
    path, file = studio(tmp_path), tmp_path / "vault.backup"
    write_backup(path, file)
    with pytest.raises(UsageError, match="exists already"):
        write_backup(path, file)
    write_backup(path, file, force=True)
    with pytest.raises(UsageError, match="is no file"):
        restore_backup(path, tmp_path / "none")
    with Ledger.open(path), pytest.raises(SetupError, match="another process writes"):
        restore_backup(path, file)


def test_a_backup_while_generations_are_recorded(tmp_path: Path) -> None:
    """Every one of them holds all records under the head it names."""
    path = studio(tmp_path)
    stop = threading.Event()
    files: list[Path] = []

    def back_up() -> None:
        while not stop.is_set() and len(files) < 5:
            file = tmp_path / f"{len(files)}.backup"
            write_backup(path, file)
            files.append(file)

    with Ledger.open(path) as ledger:
        thread = threading.Thread(target=back_up)
        thread.start()
        for number in range(10, 40):
            ledger.append(image=picture(number), model="m").wait("accepted", 60)
        stop.set()
        thread.join()
    assert files
    for file in files:
        manifest = read_manifest(file)
        assert manifest.last >= manifest.size, "one submission an entry"
        lose(path)
        restore_backup(path, file, accept_loss=True)
        assert len(indexes(path)) >= manifest.size - 1
