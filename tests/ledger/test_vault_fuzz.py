"""Whatever stands in a vault, its header, a backup, a key file or a sealed journal: only the project's errors escape.

The quick runs are short slices of the long ones, which make at least 100,000 mutations of each text.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from plausible.ledger.fsck import check_ledger
from plausible.ledger.recorder.journal import Journal, parse
from plausible.ledger.vault.backup import Manifest, read_manifest, restore_backup, write_backup
from plausible.ledger.vault.rekey import encrypt_vault, status
from plausible.ledger.vault.sealing import Seal
from plausible.ledger.vault.vault import GENERATION, Submission, Vault
from plausible.ledger.vault.vaultkey import Header, Kdf, VaultKey
from plausible.schemas.errors import EvidenceError, PlausibleError, SetupError

from tests.ledger.studio import make, picture

KEY = VaultKey(bytes(range(32)), passphrase=False)
QUICK, LONG = 2_000, 100_000
COUNTS = [QUICK, pytest.param(LONG, marks=pytest.mark.long)]

HEADER = Header(bytes(range(16)), Kdf.scrypt(1 << 14)).encode()
MANIFEST = (
    b'{"author":"a+00000000+AA==","bytes":40960,"chain":"000102030405060708090a0b0c0d0e0f",'
    b'"format":"plausible.vault-backup/1","last":41,"origin":"a/log","records":40,"root":"sha256:'
    + b"0" * 64 + b'","sha256":"sha256:' + b"1" * 64 + b'","size":42,"time":"2026-01-01T00:00:00.000000Z","vault":null}'
)  # fmt: skip


def mutated(data: bytes, random: Random) -> bytes:
    """One to four changes: a bit, a byte, a cut, a piece twice, a number made large, a word of JSON."""
    value = bytearray(data)
    for _ in range(random.randint(1, 4)):
        at, end = sorted((random.randrange(len(value) + 1), random.randrange(len(value) + 1)))
        kind = random.randrange(6)
        if kind == 0 and at < len(value):
            value[at] ^= 1 << random.randrange(8)
        elif kind == 1:
            value[at:at] = random.randbytes(random.randint(1, 4))
        elif kind == 2:
            del value[at:end]
        elif kind == 3:
            value[at:at] = value[at : min(end, at + 64)]
        elif kind == 4:
            value[at : at + 1] = random.choice((b"9" * 30, b"-1", b"1e9", b"0.5", b"18446744073709551616"))
        else:
            value[at:at] = random.choice((b"null", b"{}", b"[]", b'""', b"true", b"[" * 50, b'"\\ud800"', b"\xff"))
    return bytes(value)


def parse_header(data: bytes) -> None:
    header = Header.parse(data)
    assert header.encode() == data
    assert header.kdf.name == "file" or 128 * header.kdf.n * header.kdf.r <= 1 << 30


def parse_manifest(data: bytes) -> None:
    Manifest.parse(data)


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("data, read", [(HEADER, parse_header), (MANIFEST, parse_manifest)], ids=["header", "manifest"])
def test_texts(data: bytes, read: Callable[[bytes], None], count: int) -> None:
    read(data)
    random, refused = Random(count), 0
    for _ in range(count):
        try:
            read(mutated(data, random))
        except EvidenceError:
            refused += 1
    assert refused > count // 2


@pytest.fixture(scope="module")
def seal(tmp_path_factory: pytest.TempPathFactory) -> Seal:
    vault = Vault.create(tmp_path_factory.mktemp("v") / "vault.db", key=KEY)
    vault.close()
    assert vault.seal is not None
    return vault.seal


@pytest.mark.parametrize("count", COUNTS)
def test_sealed_rows(seal: Seal, count: int) -> None:
    row = Submission(bytes(16), GENERATION, bytes(32), "m", 1, bytes(32), None, bytes(32), bytes(32), b"{}")
    key, record = seal.seal_record(row)
    assert record is not None
    wrapped = seal.seal_key(7, row, key)
    assert seal.open_record(7, row, seal.open_key(7, row, seal.current, wrapped), record) == (b"{}", bytes(32))
    random = Random(count)
    for _ in range(count):
        bad = mutated(wrapped, random)
        if bad != wrapped:
            with pytest.raises(SetupError):
                seal.open_key(7, row, seal.current, bad)
        bad = mutated(record, random)
        if bad != record:
            with pytest.raises(SetupError):
                seal.open_record(7, row, key, bad)


@pytest.mark.parametrize("count", COUNTS)
def test_sealed_journals(seal: Seal, count: int, tmp_path: Path) -> None:
    rows = [
        Submission(os.urandom(16), GENERATION, bytes(32), "m", n, bytes(32), None, bytes(32), bytes(32), b"{}")
        for n in range(2)
    ]
    Journal(tmp_path / "j", lambda: seal).append(rows)
    data = (tmp_path / "j").read_bytes()
    random, whole = Random(count), 0
    for _ in range(count):
        with contextlib.suppress(SetupError):
            found = parse(mutated(data, random), seal=seal).submissions
            assert all(row in rows for row in found), "nothing is made up"
            whole += len(found) == 2
    assert whole < count // 2
    for _ in range(count // 10):
        with contextlib.suppress(EvidenceError):
            seal.open_frame(b"\x01" + random.randbytes(random.randint(0, 80)))


@pytest.mark.parametrize("count", [300, pytest.param(20_000, marks=pytest.mark.long)])
def test_key_files(count: int, tmp_path: Path) -> None:
    path = tmp_path / "k"
    VaultKey.make_file(path)
    data, random = path.read_bytes(), Random(count)
    for _ in range(count):
        path.write_bytes(mutated(data, random))
        with contextlib.suppress(SetupError):
            VaultKey.from_file(path)


# --- whole files: tables that are not strict, values of any type ---


@pytest.fixture(scope="module")
def loose(tmp_path_factory: pytest.TempPathFactory) -> Callable[[bool], Path]:
    """`loose(encrypted)`: a ledger of four pictures and the tables of its vault without types."""

    @functools.cache
    def built(encrypted: bool) -> Path:
        path = tmp_path_factory.mktemp("loose") / "a.ledger"
        with make(path, witnesses=()) as ledger:
            for number in range(4):
                ledger.append(image=picture(number), model="m")
        if encrypted:
            encrypt_vault(path, KEY)
        with contextlib.closing(sqlite3.connect(path / "vault.db")) as db:
            db.execute("PRAGMA writable_schema = ON")
            db.execute(
                "UPDATE sqlite_master SET sql = replace(replace(replace(replace(sql, 'STRICT', ''), "
                "' TEXT', ''), ' BLOB', ''), ' NOT NULL', '') WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
            )
            db.execute("PRAGMA writable_schema = RESET")
            db.commit()
        return path

    return built


_VALUES = (
    None, -1, 0, 1, 1 << 62, 1.5, "", "x", "18446744073709551616", b"", b"\x00", bytes(12), bytes(60), bytes(32),
    b"{}", b"\xff" * 2000,
)  # fmt: skip
_PLACES = {
    "submission": ("id", "key", "kind", "model", "name", "draw", "pixels", "file", "commitment", "secret", "record"),
    "record_key": ("submission", "data_key", "wrapped"),
    "vault_key": ("id", "purpose", "wrapped"),
    "vault_header": ("header",),
    "sqlite_sequence": ("name", "seq"),
}


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "encrypted"])
@pytest.mark.parametrize("count", [25, pytest.param(400, marks=pytest.mark.long)])
def test_whole_files(loose: Callable[[bool], Path], tmp_path: Path, encrypted: bool, count: int) -> None:
    random, refused = Random(count + encrypted), 0
    ledger = Path(shutil.copytree(loose(encrypted), tmp_path / "a.ledger"))
    path, good = ledger / "vault.db", (ledger / "vault.db").read_bytes()
    key = KEY if encrypted else None
    for number in range(count):
        path.write_bytes(good)
        with contextlib.closing(sqlite3.connect(path)) as db:
            for _ in range(random.randint(1, 3)):
                table = random.choice(list(_PLACES)[:: 1 if encrypted else 4])
                with contextlib.suppress(sqlite3.IntegrityError):
                    column, value = random.choice(_PLACES[table]), random.choice(_VALUES)
                    where = f"rowid = (SELECT rowid FROM {table} ORDER BY random() LIMIT 1)"
                    db.execute(f"UPDATE {table} SET {column} = ? WHERE {where}", (value,))
            db.commit()
        for read in (status, functools.partial(_read_all, key=key), functools.partial(_read_all, key=None)):
            try:
                read(path)
            except PlausibleError:
                refused += 1
        if number % 5 == 0:
            check_ledger(ledger, vault_key=key)
            file = tmp_path / "b"
            with contextlib.suppress(PlausibleError):
                write_backup(ledger, file, force=True)
                read_manifest(file)
                path.unlink()
                restore_backup(ledger, file, key=key, accept_loss=True)
    assert refused > count // 4


def _read_all(path: Path, key: VaultKey | None) -> None:
    vault = Vault(path, key=key, locked=key is None)
    try:
        list(vault.submissions())
        vault.last()
        vault.after(0, 10)
        for commitment, _, _ in vault.generations():
            vault.record(commitment)
    finally:
        vault.close()
