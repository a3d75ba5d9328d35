"""fsck of an encrypted vault: with the key it reads every record, without it it says what it did not read."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Generator
from pathlib import Path

import pytest
from plausible.ledger import Ledger
from plausible.ledger.fsck import Kind, Report, check_ledger
from plausible.ledger.recorder.journal import Journal
from plausible.ledger.vault.rekey import encrypt_vault, rotate_data
from plausible.ledger.vault.vault import GENERATION, Submission, Vault
from plausible.ledger.vault.vaultkey import KEY_VARIABLE, PASSPHRASE_VARIABLE, VaultKey

from tests.ledger.studio import make, picture

KEY = VaultKey(bytes(range(32)), passphrase=False)
OTHER = VaultKey(bytes(32), passphrase=False)


@pytest.fixture(autouse=True)
def no_key_around(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    monkeypatch.delenv(PASSPHRASE_VARIABLE, raising=False)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An encrypted ledger of a model and five pictures, the record of the fourth entry erased."""
    path = tmp_path_factory.mktemp("built") / "a.ledger"
    with make(path) as ledger:
        for number in range(5):
            ledger.append(image=picture(number), model="m", latent=[0.5] * 8)
        ledger.flush()
        ledger.erase(3)
    encrypt_vault(path, KEY)
    return path


@pytest.fixture
def ledger(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "a.ledger"))


def change(path: Path, *statements: str) -> None:
    with contextlib.closing(sqlite3.connect(path / "vault.db")) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


@contextlib.contextmanager
def opened(ledger: Path) -> Generator[Vault]:
    vault = Vault(ledger / "vault.db", key=KEY)
    try:
        yield vault
    finally:
        vault.close()


def said(report: Report, kind: Kind, file: str = "vault.db") -> str:
    """What the findings of a kind about a file say; at least one, or the test fails."""
    found = [finding.what for finding in report.findings if finding.file == file and finding.kind == kind]
    assert found, report.findings
    return "\n".join(found)


def test_with_the_key_every_record_is_read(ledger: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    report = check_ledger(ledger, vault_key=KEY)
    assert report.findings == ()
    assert "every record in vault.db against its entry's commitment" in report.done
    VaultKey.make_file(tmp_path / "k")
    rotate_data(ledger / "vault.db", KEY)
    monkeypatch.setenv(KEY_VARIABLE, str(tmp_path / "k"))
    assert check_ledger(ledger, vault_key=KEY).findings == ()
    report = check_ledger(ledger)
    assert "the key is wrong" in said(report, Kind.UNREAD), "the environment's key is another"


@pytest.mark.parametrize("key", [None, OTHER, VaultKey.from_passphrase("some words")], ids=["none", "wrong", "kind"])
def test_without_the_key_it_is_never_sound(ledger: Path, key: VaultKey | None) -> None:
    report = check_ledger(ledger, vault_key=key)
    assert "6 of its rows are encrypted and were not read" in said(report, Kind.UNREAD)
    assert {finding.kind for finding in report.findings} == {Kind.UNREAD}
    assert report.exit_code == 4
    assert not any("record in vault.db" in line for line in report.done)
    assert any("every tile and bundle" in line for line in report.done), "the rest was checked"


@pytest.mark.parametrize(
    ("statements", "locked"),
    [
        (["UPDATE submission SET pixels = zeroblob(32) WHERE id = 2"], True),
        (["UPDATE submission SET commitment = zeroblob(32) WHERE id = 2"], True),
        (["DELETE FROM submission WHERE id = 2"], True),
        (["UPDATE submission SET record = NULL WHERE id = 2"], True),
        (["UPDATE submission SET record = substr(record, 1, 20) WHERE id = 2"], True),
        (["UPDATE submission SET secret = zeroblob(32) WHERE id = 2"], True),
        (["DELETE FROM record_key WHERE submission = 2"], True),
        (["DELETE FROM record_key WHERE submission = 1"], True),
        (["UPDATE record_key SET submission = 90 WHERE submission = 2"], True),
        (["UPDATE record_key SET data_key = 90 WHERE submission = 2"], True),
        (["UPDATE record_key SET wrapped = x'00' WHERE submission = 2"], True),
        (["DELETE FROM vault_header"], True),
        (["UPDATE vault_header SET header = x'7b7d'"], True),
        (["DROP TABLE record_key"], True),
        (["PRAGMA user_version = 1"], True),
        (["UPDATE record_key SET wrapped = zeroblob(60) WHERE submission = 2"], False),
        (["UPDATE submission SET record = zeroblob(length(record)) WHERE id = 2"], False),
        (["UPDATE submission SET key = zeroblob(16) WHERE id = 2"], False),
        (
            [
                "CREATE TEMP TABLE t AS SELECT id, record AS r FROM submission WHERE id IN (2, 3)",
                "UPDATE submission SET record = (SELECT r FROM t WHERE t.id = 5 - submission.id) WHERE id IN (2, 3)",
            ],
            False,
        ),
    ],
)
def test_what_was_changed_is_false(ledger: Path, statements: list[str], locked: bool) -> None:
    """`locked`: whether it shows without the key too."""
    change(ledger, *statements)
    assert said(check_ledger(ledger, vault_key=KEY), Kind.FALSE)
    report = check_ledger(ledger)
    assert report.exit_code == (1 if locked else 4), report.findings


def test_a_changed_header_that_reads_is_said(ledger: Path) -> None:
    """It cannot be told from a wrong key, so it is "not read", and never sound."""
    with contextlib.closing(sqlite3.connect(ledger / "vault.db")) as connection:
        header: bytes = connection.execute("SELECT header FROM vault_header").fetchone()[0]
    at = header.index(b'"id":"') + 6
    digit = b"1" if header[at : at + 1] == b"0" else b"0"
    change(ledger, f"UPDATE vault_header SET header = x'{(header[:at] + digit + header[at + 1 :]).hex()}'")
    report = check_ledger(ledger, vault_key=KEY)
    assert "or the vault's header was changed" in said(report, Kind.UNREAD)
    assert report.exit_code == 4


def test_a_sealed_journal_is_read_with_the_key_only(ledger: Path) -> None:
    with opened(ledger) as vault:
        row = Submission(
            os.urandom(16), GENERATION, bytes(32), "m", 90, bytes(32), None, os.urandom(32), os.urandom(32), b"{}"
        )
        Journal(ledger / "spool.journal", lambda: vault.seal).append([row])
    report = check_ledger(ledger, vault_key=KEY)
    assert report.findings == () and any("1 generations wait" in note for note in report.notes)
    report = check_ledger(ledger)
    assert "holds a sealed record" in said(report, Kind.UNREAD, "spool.journal")
    data = bytearray((ledger / "spool.journal").read_bytes())
    with Ledger.open(ledger, vault_key=KEY) as again:
        assert again.counters.flushed == 1
    data[-1] ^= 1
    (ledger / "spool.journal").write_bytes(data)
    assert said(check_ledger(ledger, vault_key=KEY), Kind.FALSE, "spool.journal")
