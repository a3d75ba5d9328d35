"""An encrypted vault: what a thief of the file sees, what a tampered row does, and what a kill in a rotation leaves."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sqlite3
import time
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from plausible.ledger import Ledger
from plausible.ledger.entries.entry import parse_entry
from plausible.ledger.fsck import check_ledger
from plausible.ledger.merkle.tree import hash_leaf
from plausible.ledger.notes.proof import TlogProof, verify_proof
from plausible.ledger.recorder.journal import Journal
from plausible.ledger.vault.rekey import encrypt, encrypt_vault, rotate_data, rotate_vault, rotate_wrapping, status
from plausible.ledger.vault.vault import GENERATION, MODEL, Submission, Vault
from plausible.ledger.vault.vaultkey import KEY_VARIABLE, PASSPHRASE_VARIABLE, Header, Kdf, VaultKey, VaultLocked
from plausible.schemas.errors import EvidenceError, PlausibleError, SetupError, UsageError

from tests.ledger.processes import finish, first_line, start
from tests.ledger.studio import AUTHOR, make, manifest, picture

KEY = VaultKey(bytes(range(32)), passphrase=False)
OTHER = VaultKey(bytes(32), passphrase=False)
PASSPHRASE = VaultKey.from_passphrase("correct horse battery", scrypt_n=1 << 14)
TEXT = b"a prompt that nobody else may read"


@pytest.fixture(autouse=True)
def no_key_around(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    monkeypatch.delenv(PASSPHRASE_VARIABLE, raising=False)


def submission(number: int) -> Submission:
    digest = bytes([number % 256]) * 32
    return Submission(
        os.urandom(16), GENERATION, digest, "m", number, digest, None, os.urandom(32), os.urandom(32),
        TEXT + b" %d" % number,
    )  # fmt: skip


def filled(path: Path, count: int = 5, key: VaultKey | None = KEY) -> list[Submission]:
    """A vault with a model row and `count` generations, closed; what was put in."""
    rows = [Submission(os.urandom(16), MODEL, bytes(32), "m"), *(submission(number) for number in range(count))]
    vault = Vault.create(path, key=key)
    vault.add(rows)
    vault.close()
    return rows


def contents(path: Path, key: VaultKey | None) -> list[tuple[bytes, bytes, bytes]]:
    vault = Vault(path, key=key)
    try:
        return list(vault.generations())
    finally:
        vault.close()


def expected(rows: list[Submission]) -> list[tuple[Any, Any, Any]]:
    return [(row.commitment, row.record, row.secret) for row in rows if row.kind == GENERATION]


def on_disk(path: Path) -> bytes:
    return b"".join(file.read_bytes() for file in sorted(path.parent.glob(f"{path.name}*")))


def change(path: Path, *statements: str) -> None:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def test_records_come_back_and_are_not_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "vault.db"
    rows = filled(path)
    assert contents(path, KEY) == expected(rows)
    data = on_disk(path)
    assert TEXT not in data
    assert not any(row.secret in data for row in rows if row.secret is not None)
    filled(tmp_path / "plain.db", key=None)
    assert TEXT in on_disk(tmp_path / "plain.db"), "the control: a plain vault does hold it"


@pytest.mark.parametrize("key", [None, OTHER, PASSPHRASE], ids=["none", "another", "of the other kind"])
def test_without_the_right_key_it_does_not_open_and_nothing_changes(tmp_path: Path, key: VaultKey | None) -> None:
    path = tmp_path / "vault.db"
    rows = filled(path)
    before = path.read_bytes()
    with pytest.raises(SetupError, match=r"is encrypted and|the key is wrong"):
        Vault(path, key=key)
    assert path.read_bytes() == before
    assert contents(path, KEY) == expected(rows)


def test_a_passphrase_opens_and_another_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "vault.db"
    rows = filled(path, key=PASSPHRASE)
    assert contents(path, VaultKey.from_passphrase("correct horse battery")) == expected(rows)
    with pytest.raises(SetupError, match="passphrase is wrong"):
        Vault(path, key=VaultKey.from_passphrase("correct horse batterz"))
    monkeypatch.setenv(PASSPHRASE_VARIABLE, "correct horse battery")
    assert contents(path, None) == expected(rows)


def test_a_key_for_a_plain_vault_is_refused(tmp_path: Path) -> None:
    """Whoever puts a plain vault in the place of an encrypted one must not be written to."""
    filled(tmp_path / "vault.db", key=None)
    with pytest.raises(SetupError, match="not encrypted"):
        Vault(tmp_path / "vault.db", key=KEY)


def test_a_vault_whose_encryption_was_stripped_is_not_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a plain vault in its place nor an edited version makes a writer that has a key write in the clear."""
    filled(tmp_path / "plain.db", key=None)
    monkeypatch.setenv(PASSPHRASE_VARIABLE, "correct horse battery")
    with pytest.raises(SetupError, match="is not encrypted, but PD_VAULT_PASSPHRASE is set"):
        Vault(tmp_path / "plain.db")
    Vault(tmp_path / "plain.db", readonly=True).close()
    filled(tmp_path / "vault.db")
    change(tmp_path / "vault.db", "PRAGMA user_version = 1")
    monkeypatch.delenv(PASSPHRASE_VARIABLE)
    for key in (None, KEY):
        with pytest.raises(SetupError, match="has the header of an encrypted vault"):
            Vault(tmp_path / "vault.db", key=key)


# --- tampering ---

_SWAPS = {
    "records swapped": "UPDATE submission SET record = (SELECT record FROM submission WHERE id = 5 - submission.id) "
    "WHERE id IN (2, 3)",
    "keys swapped": "UPDATE record_key SET wrapped = (SELECT wrapped FROM record_key k WHERE k.submission = "
    "5 - record_key.submission) WHERE submission IN (2, 3)",
    "record cut": "UPDATE submission SET record = substr(record, 1, 40) WHERE id = 2",
    "record emptied": "UPDATE submission SET record = x'' WHERE id = 2",
    "record gone, key kept": "UPDATE submission SET record = NULL WHERE id = 2",
    "key gone, record kept": "DELETE FROM record_key WHERE submission = 2",
    "key of another data key": "UPDATE record_key SET data_key = 77 WHERE submission = 2",
    "key cut": "UPDATE record_key SET wrapped = x'00' WHERE submission = 2",
}
_COLUMNS = {
    "key": "randomblob(16)", "kind": "'other'", "model": "randomblob(32)", "name": "'other'", "draw": "99",
    "pixels": "randomblob(32)", "file": "randomblob(32)", "commitment": "randomblob(32)",
}  # fmt: skip


@pytest.mark.parametrize("what", _SWAPS)
def test_moved_and_cut_rows_are_noticed(tmp_path: Path, what: str) -> None:
    filled(tmp_path / "vault.db")
    change(tmp_path / "vault.db", _SWAPS[what])
    with pytest.raises(SetupError, match="submission 2 "):
        contents(tmp_path / "vault.db", KEY)


@pytest.mark.parametrize("column", _COLUMNS)
def test_an_edited_column_is_noticed_before_it_is_logged(tmp_path: Path, column: str) -> None:
    path = tmp_path / "vault.db"
    filled(path)
    change(path, f"UPDATE submission SET {column} = {_COLUMNS[column]} WHERE id = 2")
    vault = Vault(path, key=KEY)
    faults = {row.id: row.fault for row in vault.after(0, 10)}
    assert [number for number, fault in faults.items() if fault is not None] == [2]
    with pytest.raises(SetupError, match="submission 2 "):
        list(vault.generations())
    vault.close()


def test_a_row_moved_to_another_id_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "vault.db"
    filled(path)
    change(
        path, "UPDATE submission SET id = 50 WHERE id = 2", "UPDATE record_key SET submission = 50 WHERE submission = 2"
    )
    with pytest.raises(SetupError, match="submission 50 "):
        contents(path, KEY)


def test_every_flipped_bit_of_a_sealed_row_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "vault.db"
    filled(path, 1)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        record, wrapped = connection.execute(
            "SELECT record, wrapped FROM submission JOIN record_key ON submission = id WHERE id = 2"
        ).fetchone()
        for column, data in (("record", record), ("wrapped", wrapped)):
            table, number = ("submission", "id") if column == "record" else ("record_key", "submission")
            for position in range(0, len(data), 7):
                bad = bytearray(data)
                bad[position] ^= 1 << position % 8
                connection.execute(f"UPDATE {table} SET {column} = ? WHERE {number} = 2", (bytes(bad),))
                connection.commit()
                with pytest.raises(SetupError, match="submission 2 "):
                    contents(path, KEY)
            connection.execute(f"UPDATE {table} SET {column} = ? WHERE {number} = 2", (data,))
            connection.commit()
    assert len(contents(path, KEY)) == 1


def test_a_row_written_without_the_key_is_not_logged(tmp_path: Path) -> None:
    path = tmp_path / "vault.db"
    filled(path)
    change(
        path,
        "INSERT INTO submission (key, kind, model, name, draw, pixels, commitment, secret, record) VALUES "
        "(randomblob(16), 'generation', randomblob(32), 'm', 9, randomblob(32), randomblob(32), randomblob(32), x'00')",
    )
    vault = Vault(path, key=KEY)
    assert [row.id for row in vault.after(0, 10) if row.fault is not None] == [7]
    vault.close()


def test_a_row_of_another_vault_under_the_same_key_is_noticed(tmp_path: Path) -> None:
    filled(tmp_path / "a.db")
    filled(tmp_path / "b.db")
    change(
        tmp_path / "a.db",
        f"ATTACH '{tmp_path / 'b.db'}' AS b",
        "UPDATE submission SET record = (SELECT record FROM b.submission WHERE id = 2) WHERE id = 2",
        "UPDATE record_key SET wrapped = (SELECT wrapped FROM b.record_key WHERE submission = 2) WHERE submission = 2",
    )
    with pytest.raises(SetupError, match="submission 2 "):
        contents(tmp_path / "a.db", KEY)


# --- the header ---


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"complete":true', b'"complete":false'),
        (b'"n":16384', b'"n":32768'),
        (b'"p":1', b'"p":2'),
        (b'"r":8', b'"r":9'),
        (b'"salt":"', b'"salt":"00'),
        (b'"id":"', b'"id":"00'),
        (b'"name":"scrypt"', b'"name":"none"'),
        (b"/1", b"/2"),
        (b'"n":16384', b'"n":1073741824'),
        (b'"n":16384', b'"n":2'),
        (b'"n":16384', b'"n":20000'),
        (b'"n":16384', b'"n":1.5'),
        (b'"r":8', b'"r":1000000'),
        (b'"p":1', b'"p":0'),
        (b'"p":1', b'"p":true'),
    ],
)
def test_an_edited_header_does_not_open(tmp_path: Path, old: bytes, new: bytes) -> None:
    path = tmp_path / "vault.db"
    filled(path, 1, PASSPHRASE)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        header: bytes = connection.execute("SELECT header FROM vault_header").fetchone()[0]
        changed = header.replace(old, new)
        if new.endswith(b'"00'):
            at = header.index(old) + len(old)
            changed = header[:at] + bytes([header[at] ^ 1]) + header[at + 1 :]
        assert changed != header
        connection.execute("UPDATE vault_header SET header = ?", (changed,))
        connection.commit()
    with pytest.raises(SetupError, match="does not open"):
        Vault(path, key=VaultKey.from_passphrase("correct horse battery"))


def test_headers_hold_to_their_bounds() -> None:
    good = Header(bytes(16), Kdf.scrypt(1 << 14))
    assert Header.parse(good.encode()) == good
    for n, r, p in ((1 << 13, 8, 1), (1 << 23, 8, 1), (1 << 22, 32, 1), (1 << 14, 33, 1), (1 << 14, 8, 17)):
        with pytest.raises(EvidenceError, match="out of bounds"):
            Header.parse(Header(bytes(16), Kdf("scrypt", bytes(16), n, r, p)).encode())
    for data in (b"", b"{}", b"[]", b"null", b"\xff", good.encode() + b" "):
        with pytest.raises(EvidenceError):
            Header.parse(data)


def test_a_lost_data_key_is_said(tmp_path: Path) -> None:
    filled(tmp_path / "vault.db")
    change(tmp_path / "vault.db", "DELETE FROM vault_key")
    with pytest.raises(SetupError, match="data keys are gone"):
        Vault(tmp_path / "vault.db", key=KEY)


# --- key files ---


def test_key_files(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "vault.key"
    made = VaultKey.make_file(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert VaultKey.from_file(path) == made
    with pytest.raises(UsageError, match="never replaced"):
        VaultKey.make_file(path)
    assert repr(made) == "<VaultKey file>"
    path.chmod(0o644)
    with pytest.raises(SetupError, match="chmod 600"):
        VaultKey.from_file(path)
    path.chmod(0o600)
    for text in (b"", b"plausible-vault-key-1", b"plausible-vault-key-1 AAAA", b"\xff\xfe", b"x " + b"A" * 44):
        path.write_bytes(text)
        with pytest.raises(SetupError, match="no key file"):
            VaultKey.from_file(path)
    with pytest.raises(SetupError, match="missing"):
        VaultKey.from_file(tmp_path / "none")
    with pytest.raises(UsageError, match="8 characters"):
        Vault.create(tmp_path / "vault.db", key=VaultKey.from_passphrase("short"))


# --- erasing ---


def raw(path: Path, number: int) -> list[bytes]:
    """What must be gone when this row is erased, as it stands in the file: its key or secret, and its record."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        record, secret = connection.execute("SELECT record, secret FROM submission WHERE id = ?", (number,)).fetchone()
        if version == 1:
            return [record, secret]
        return [
            record,
            connection.execute("SELECT wrapped FROM record_key WHERE submission = ?", (number,)).fetchone()[0],
        ]


@pytest.mark.parametrize("key", [None, KEY], ids=["plain", "encrypted"])
def test_an_erased_record_leaves_no_bytes_and_no_key(tmp_path: Path, key: VaultKey | None) -> None:
    path = tmp_path / "vault.db"
    rows = filled(path, key=key)
    pieces = raw(path, 3)
    assert all(piece in on_disk(path) for piece in pieces)
    vault = Vault(path, key=key)
    assert rows[2].commitment is not None
    assert vault.erase(rows[2].commitment)
    assert not any(piece in on_disk(path) for piece in pieces)
    with pytest.raises(UsageError, match="erased"):
        vault.record(rows[2].commitment)
    assert list(vault.generations()) == [row for row in expected(rows) if row[0] != rows[2].commitment]
    with pytest.raises(SetupError, match="no record"):
        vault.erase(bytes(32))
    vault.close()


@pytest.mark.parametrize("key", [None, KEY], ids=["plain", "encrypted"])
def test_erased_records_leave_nothing_however_sqlite_moved_them(tmp_path: Path, key: VaultKey | None) -> None:
    """Pages merge while their neighbours are erased, and rows are put back between others: copies must not stay."""
    path, random = tmp_path / "vault.db", Random(5)
    sizes = [random.choice((40, 300, 900, 5000, 20000)) for _ in range(60)]
    rows = [replace(submission(number), record=random.randbytes(size)) for number, size in enumerate(sizes)]
    vault = Vault.create(path, key=key)
    vault.add(rows)
    back = random.sample(range(60), 15)
    with vault.db.transaction() as connection:
        for number in back:
            connection.execute("DELETE FROM submission WHERE id = ?", (number + 1,))
            if key is not None:
                connection.execute("DELETE FROM record_key WHERE submission = ?", (number + 1,))
    vault.put_back([replace(rows[number], id=number + 1) for number in back])
    pieces: list[bytes] = []
    for number in random.sample(range(60), 40):
        pieces += raw(path, number + 1)
        commitment = rows[number].commitment
        assert commitment is not None
        assert vault.erase(commitment)
    data = on_disk(path)
    for piece in pieces:
        assert not any(piece[start : start + 32] in data for start in range(0, max(1, len(piece) - 31), 32))
    assert len(list(vault.generations())) == 20
    vault.close()


def test_a_reader_that_keeps_the_old_bytes_is_said(tmp_path: Path) -> None:
    path = tmp_path / "vault.db"
    rows = filled(path)
    pieces = raw(path, 3)
    vault, reader = Vault(path, key=KEY), Vault(path, key=KEY, readonly=True)
    with reader.db.snapshot():
        reader.last()
        assert rows[2].commitment is not None
        assert not vault.erase(rows[2].commitment)
        assert any(piece in on_disk(path) for piece in pieces)
        with pytest.raises(SetupError, match="another process reads"):
            rotate_wrapping(path, KEY, OTHER)
    reader.close()
    vault.close()
    assert not any(piece in on_disk(path) for piece in pieces), "they go with the write-ahead log"
    assert len(contents(path, OTHER)) == 4


@pytest.mark.parametrize("key", [None, KEY], ids=["plain", "encrypted"])
def test_an_erased_record_is_nowhere_in_a_ledger(tmp_path: Path, key: VaultKey | None) -> None:
    """Every file of the directory is searched, while the writer runs; the log stays sound, a proof stays good."""
    path = tmp_path / "a.ledger"
    with Ledger.init(path, author=AUTHOR, witnesses=("w.example/1",), vault_key=key) as ledger:
        ledger.register_model("m", manifest=manifest())
        for number in (1, 2):
            prompt = f"{TEXT.decode()} {number}"
            ledger.append(image=picture(number), model="m", extra={"prompt": prompt}).wait(timeout=60)
        commitment = parse_entry(ledger.entry(1)).generation
        assert commitment is not None
        record, secret = ledger.vault.record(commitment.commitment)
        # a copy in the journal too, as a kill between taking it into the vault and emptying the journal leaves it
        row = next(r for r in ledger.vault.rows_after(0) if r.commitment == commitment.commitment)
        Journal(path / "spool.journal", lambda: ledger.vault.seal).append([row])
        pieces = [record[:400], secret, *raw(path / "vault.db", row.id)]
        proof = ledger.proof(1)
        assert ledger.erase(1)
        everything = b"".join(file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file())
        assert not any(piece in everything for piece in pieces)
        assert b"prompt that nobody else may read 1" not in everything
        with pytest.raises(UsageError, match="erased"):
            ledger.opening(1)
        assert ledger.proof(1) == proof
        assert verify_proof(TlogProof.parse(proof), hash_leaf(ledger.entry(1)), ledger.policy)
        assert ledger.opening(2)
    assert check_ledger(path, vault_key=key).findings == ()


# --- encrypting and rotating ---


class Stopped(Exception):  # noqa: N818
    """Raised by a step hook."""


def stop_at(number: int) -> Any:
    seen: list[str] = []

    def step(name: str) -> None:
        seen.append(name)
        if len(seen) == number:
            raise Stopped(name)

    return step


def test_a_plain_vault_is_encrypted_whole(tmp_path: Path) -> None:
    path = tmp_path / "vault.db"
    rows = filled(path, 450, key=None)
    assert rows[3].commitment is not None
    vault = Vault(path)
    vault.erase(rows[3].commitment)
    vault.close()
    encrypt(path, KEY)
    assert TEXT not in on_disk(path)
    assert contents(path, KEY) == [row for row in expected(rows) if row[0] != rows[3].commitment]
    vault = Vault(path, key=KEY)
    assert not any(row.fault for row in vault.after(0, 3))
    assert vault.last() == 451
    vault.close()
    with pytest.raises(UsageError, match="already"):
        encrypt(path, KEY)


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5])
def test_an_encryption_that_stops_goes_on(tmp_path: Path, number: int) -> None:
    path = tmp_path / "vault.db"
    rows = filled(path, 300, key=None)
    with pytest.raises(Stopped):
        encrypt(path, KEY, step=stop_at(number))
    assert contents(path, KEY) == expected(rows), "half way every record opens"
    late = submission(7)
    vault = Vault(path, key=KEY)
    vault.add([late])
    vault.close()
    done = status(path).complete
    assert done == (number == 5)
    if not done:
        with pytest.raises(SetupError, match="the key is wrong"):
            encrypt(path, OTHER)
        encrypt(path, KEY)
    assert TEXT not in on_disk(path)
    assert contents(path, KEY) == expected([*rows, late])


@pytest.mark.parametrize("number", [1, 2, 3, 4])
def test_a_rotation_that_stops_goes_on(tmp_path: Path, number: int) -> None:
    path = tmp_path / "vault.db"
    rows = filled(path, 300)
    with pytest.raises(Stopped):
        rotate_data(path, KEY, step=stop_at(number))
    assert contents(path, KEY) == expected(rows)
    late = submission(7)
    vault = Vault(path, key=KEY)
    vault.add([late])
    vault.close()
    assert (status(path).data_keys > 1) == (number < 4)
    rotate_data(path, KEY)
    assert status(path).data_keys == 1 and status(path).left == 0
    assert contents(path, KEY) == expected([*rows, late])


def test_the_wrapping_key_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "vault.db"
    rows = filled(path)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        wrapped = connection.execute("SELECT wrapped FROM vault_key").fetchone()[0]
    rotate_wrapping(path, KEY, PASSPHRASE)
    with pytest.raises(SetupError, match="opens with its passphrase"):
        Vault(path, key=KEY)
    assert contents(path, PASSPHRASE) == expected(rows)
    assert wrapped not in on_disk(path), "the old wrapping is not left in the file"


def test_a_rotated_vault_does_not_open_with_the_data_key_of_before(tmp_path: Path) -> None:
    path = tmp_path / "vault.db"
    filled(path)
    old = Vault(path, key=KEY)
    assert old.seal is not None
    before = old.seal
    old.close()
    rotate_data(path, KEY)
    vault = Vault(path, key=KEY)
    assert vault.seal is not None
    assert set(vault.seal.keys).isdisjoint(before.keys)
    vault.close()


def test_open_vaults_follow_a_rotation(tmp_path: Path) -> None:
    """...and one whose key no longer opens what it needs says so instead of writing what nobody can read."""
    path = tmp_path / "vault.db"
    rows = filled(path)
    running = Vault(path, key=KEY)
    rotate_data(path, KEY)
    rows.append(submission(20))
    running.add(rows[-1:])
    rotate_wrapping(path, KEY, OTHER)
    rows.append(submission(21))
    running.add(rows[-1:])
    assert list(running.generations()) == expected(rows), "the data key is still the one in hand"
    rotate_data(path, OTHER)
    with pytest.raises(SetupError, match="rotated by another process"):
        running.add([submission(22)])
    running.close()
    assert contents(path, OTHER) == expected(rows)


def test_an_open_plain_vault_notices_that_it_was_encrypted(tmp_path: Path) -> None:
    path = tmp_path / "vault.db"
    rows = filled(path, key=None)
    running = Vault(path)
    encrypt(path, KEY)
    for use in (lambda: running.add([submission(9)]), lambda: running.after(0, 9), lambda: list(running.generations())):
        with pytest.raises(SetupError, match="was encrypted by another process"):
            use()
    running.close()
    assert contents(path, KEY) == expected(rows)


@pytest.mark.long
def test_kills_at_any_moment_lose_nothing(tmp_path: Path) -> None:
    """Also in the middle of a transaction: 12 runs each, killed after 0 to 120 ms of work."""
    random = Random(3)
    for what, first in (("encrypt", None), ("rotate", KEY), ("both", KEY)):
        for number in range(12):
            path = tmp_path / f"{what}-{number}" / "vault.db"
            path.parent.mkdir()
            rows = filled(path, 900, first)
            child = start(path, "rekey", what, "0")
            assert first_line(child) == "starting"
            time.sleep(random.random() * 0.12)
            child.kill()
            finish(child)
            # the new key opens it if the last step was reached, the old one before it
            key = KEY
            with contextlib.suppress(SetupError):
                Vault(path, key=OTHER).close()
                key = OTHER
            if not status(path).encrypted:
                assert contents(path, None) == expected(rows), "nothing had begun"
                continue
            assert contents(path, key) == expected(rows)
            if not status(path).complete:
                encrypt(path, key)
            rotate_data(path, key)
            found = status(path)
            assert (found.complete, found.data_keys, found.left) == (True, 1, 0)
            assert contents(path, key) == expected(rows)
            assert TEXT not in on_disk(path)


@pytest.mark.parametrize("number", [1, 2, 3, 4])
@pytest.mark.parametrize("what", ["encrypt", "rotate"])
def test_a_kill_at_every_step_loses_nothing(tmp_path: Path, what: str, number: int) -> None:
    path = tmp_path / "vault.db"
    rows = filled(path, 300, None if what == "encrypt" else KEY)
    child = start(path, "rekey", what, str(number))
    assert first_line(child).startswith("dying at")
    finish(child)
    assert child.returncode == -9
    assert contents(path, KEY) == expected(rows)
    if what == "encrypt":
        encrypt(path, KEY)
    else:
        rotate_data(path, KEY)
    assert contents(path, KEY) == expected(rows)
    assert TEXT not in on_disk(path)


# --- a ledger ---


def test_an_encrypted_ledger_records_and_reads(tmp_path: Path) -> None:
    path = tmp_path / "a.ledger"
    VaultKey.make_file(tmp_path / "vault.key")
    with Ledger.init(path, author=AUTHOR, vault_key=tmp_path / "vault.key") as ledger:
        ledger.register_model("m", manifest=manifest())
        for number in (1, 2):
            ledger.append(image=picture(number), model="m", extra={"prompt": TEXT.decode()}).wait(timeout=60)
        ledger.erase(1)
        with pytest.raises(UsageError, match="erased"):
            ledger.opening(1)
        assert ledger.opening(2)
    assert TEXT not in on_disk(path / "vault.db")
    for mode in ("append", "read"):
        with pytest.raises(SetupError, match="is encrypted and no key was given"):
            Ledger.open(path, mode=mode)
    with Ledger.open(path, mode="read", vault_key=tmp_path / "vault.key") as ledger:
        assert [index for index, _, _ in ledger.records()] == [2]


def test_an_edited_waiting_row_does_not_get_logged(tmp_path: Path) -> None:
    path = tmp_path / "a.ledger"
    Ledger.init(path, author=AUTHOR, vault_key=KEY).close()
    good, bad = submission(1), submission(2)
    vault = Vault(path / "vault.db", key=KEY)
    vault.add([bad, good])
    vault.close()
    change(path / "vault.db", "UPDATE submission SET pixels = zeroblob(32) WHERE id = 1")
    with Ledger.open(path, vault_key=KEY) as ledger:
        ledger.flush()
        assert ledger.checkpoint().size == 1
        assert good.pixels is not None
        assert ledger.find(pixels=good.pixels) == [0] and ledger.find(pixels=bytes(32)) == []


def test_what_is_spooled_is_sealed_and_waits_for_the_key(tmp_path: Path) -> None:
    path = tmp_path / "a.ledger"
    make(path, witnesses=()).close()
    encrypt_vault(path, KEY)
    rows = [submission(number) for number in range(3)]
    vault = Vault(path / "vault.db", key=KEY)
    journal = Journal(path / "spool.journal", lambda: vault.seal)
    journal.append(rows)
    vault.close()
    data = (path / "spool.journal").read_bytes()
    assert TEXT not in data
    for key in (None, OTHER):
        with pytest.raises(SetupError, match=r"encrypted|wrong"):
            Ledger.open(path, on_error="spool", vault_key=key)
        assert (path / "spool.journal").read_bytes() == data, "nothing of it is lost while the key is missing"
    with pytest.raises(VaultLocked, match="not opened with a key"):
        Journal(path / "spool.journal").read()
    rotate_vault(path, KEY, new_key=OTHER, data_key=True)
    with Ledger.open(path, vault_key=OTHER) as ledger:
        ledger.flush()
        assert ledger.counters.flushed == 3
        for row in rows:
            assert row.commitment is not None
            assert ledger.vault.record(row.commitment) == (row.record, row.secret)


def test_a_journal_key_is_replaced_with_the_data_key(tmp_path: Path) -> None:
    """Whoever has an old key must not read what is spooled later; what was spooled before still opens."""
    path = tmp_path / "vault.db"
    filled(path)
    running = Vault(path, key=KEY)
    old = running.seal
    assert old is not None
    before, after, late = submission(20), submission(21), submission(22)
    journal = Journal(tmp_path / "journal", lambda: running.seal)
    journal.append([before])
    rotate_data(path, KEY)
    journal.append([late])  # a process that has not noticed yet
    now = Vault(path, key=KEY)
    Journal(tmp_path / "journal", lambda: now.seal).append([after])
    assert Journal(tmp_path / "journal", lambda: now.seal).read().submissions == (before, late, after)
    with pytest.raises(SetupError, match="changed"):
        Journal(tmp_path / "journal", lambda: old).read()
    running.refresh()
    assert journal.flush(running.add) == (3, 0)
    now.close()
    running.close()


def test_a_spool_in_the_clear_is_taken_in_when_the_vault_is_encrypted(tmp_path: Path) -> None:
    path = tmp_path / "a.ledger"
    make(path, witnesses=()).close()
    row = submission(3)
    Journal(path / "spool.journal").append([row])
    encrypt_vault(path, KEY)
    assert TEXT not in on_disk(path / "vault.db") + (path / "spool.journal").read_bytes()
    vault = Vault(path / "vault.db", key=KEY)
    assert row.commitment is not None
    assert vault.record(row.commitment) == (row.record, row.secret)
    vault.close()


@pytest.mark.parametrize("on_error", ["raise", "spool"])
def test_a_vault_encrypted_under_a_running_writer_loses_nothing(tmp_path: Path, on_error: str) -> None:
    path = tmp_path / "a.ledger"
    make(path, witnesses=()).close()
    ledger = Ledger.open(path, on_error=on_error)
    encrypt(path / "vault.db", KEY)
    counters = ledger.counters
    warned = pytest.warns(RuntimeWarning) if on_error == "spool" else contextlib.nullcontext()
    with warned, contextlib.suppress(PlausibleError):
        ledger.append(image=picture(1), model="m")
        ledger.close()
    spooled = counters.spooled
    with Ledger.open(path, vault_key=KEY) as again:
        again.flush()
        assert again.checkpoint().size == 1 + spooled
    assert spooled == (1 if on_error == "spool" else 0)


def _append_in_child(ledger: Ledger, pipe: Any) -> None:
    receipt = ledger.append(image=picture(7), model="m", extra={"prompt": TEXT.decode()}).wait("witnessed", 60)
    pipe.send((receipt.state, ledger.sequencing))
    pipe.close()
    ledger.close()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_has_the_key(tmp_path: Path) -> None:
    """Given as a value, which no environment variable and no terminal gives a child again."""
    path = tmp_path / "a.ledger"
    context = multiprocessing.get_context("fork")
    with Ledger.init(path, author=AUTHOR, vault_key=PASSPHRASE) as ledger:
        ledger.register_model("m", manifest=manifest())
        before = ledger.append(image=picture(1), model="m")
        here, there = context.Pipe()
        child = context.Process(target=_append_in_child, args=(ledger, there))
        child.start()
        assert here.recv() == ("witnessed", False)
        child.join(60)
        assert child.exitcode == 0
        assert before.wait("witnessed", 60).index in (1, 2)
        assert sorted(record.extra is not None for _, _, record in ledger.records()) == [False, True]
    assert TEXT not in on_disk(path / "vault.db")


def test_a_second_process_takes_the_key_from_its_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.ledger"
    key = VaultKey.make_file(tmp_path / "k")
    with Ledger.init(path, author=AUTHOR, vault_key=key) as ledger:
        ledger.register_model("m", manifest=manifest())
        child = start(path, "append", "2")
        _, errors = finish(child)
        assert child.returncode != 0 and "no key was given" in errors
        monkeypatch.setenv(KEY_VARIABLE, str(tmp_path / "k"))
        output, errors = finish(start(path, "append", "2"))
        assert output.split()[::2] == ["witnessed", "witnessed"], errors
        assert len(list(ledger.records())) == 2


def test_a_key_in_the_environment_encrypts_a_new_ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PASSPHRASE_VARIABLE, "correct horse battery")
    Ledger.init(tmp_path / "a.ledger", author=AUTHOR).close()
    assert status(tmp_path / "a.ledger" / "vault.db").encrypted


def test_nobody_rotates_beside_a_writer(tmp_path: Path) -> None:
    path = tmp_path / "a.ledger"
    with Ledger.init(path, author=AUTHOR, vault_key=KEY), pytest.raises(SetupError, match="another process writes"):
        rotate_vault(path, KEY, data_key=True)
    with pytest.raises(UsageError, match="what to rotate"):
        rotate_vault(tmp_path / "a.ledger", KEY)
