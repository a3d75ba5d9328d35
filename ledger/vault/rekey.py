"""Encrypting a vault, and rotating its keys: in steps, every one a transaction, so that a kill loses nothing.

* `encrypt` turns a plain vault into an encrypted one. From its first step on new rows are sealed; the old ones follow
  in batches, then the file is rewritten without its free pages, and only then the header says `complete`. Interrupted,
  both kinds of row open with the key, and the same call goes on.
* rotating the wrapping key wraps the data keys anew: one transaction, whatever the size of the vault.
* rotating the data key adds a new one, wraps every record key anew in batches, and deletes the old one last.
  Interrupted, both are there, and the next rotation finishes this one first.

A rotation protects what is recorded from then on, and what is here from those who get only the new file. Whoever has an
old copy of the file *and* an old key has read what was in it. The functions that take a ledger directory hold its lock:
no other process sequences meanwhile, and one that only enqueues notices (`Vault.refresh`).
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...schemas.errors import SetupError, UsageError
from ..config import LedgerConfig, ledger_path
from ..recorder.journal import Journal
from ..storage.database import Database
from ..storage.lock import LOCK_FILE, SequencerLock
from .sealing import JOURNAL, RECORDS, SEALED_VERSION, SEALING_DDL, Seal, read_header
from .vault import GENERATION, VAULT_DDL, VAULT_FILE, Submission, Vault
from .vaultkey import Header, Kdf, VaultKey, unwrap, wrap

BATCH = 200

Step = Callable[[str], None]
"""Called with the name of each step that is durable; for progress, and for tests that stop there."""


@dataclass(frozen=True, slots=True)
class VaultStatus:
    """What a vault says without its key. `left`: rows that an interrupted encryption or rotation has not reached."""

    encrypted: bool
    complete: bool
    kdf: Kdf | None
    records: int
    erased: int
    data_keys: int
    left: int


def encrypt_vault(folder: Path | str, key: VaultKey, *, step: Step | None = None) -> VaultStatus:
    """Encrypt the vault of a ledger directory, or go on with it; what is spooled in the clear is taken in.

    Raises `UsageError` if it is encrypted already, `SetupError` while another process writes.
    """
    with _alone(Path(folder)) as path:
        encrypt(path, key, step=step)
        vault = Vault(path, key=key)
        try:
            spool = ledger_path(path.parent, LedgerConfig.read(path.parent).spool)
            Journal(spool, lambda: vault.seal).flush(vault.add)
        finally:
            vault.close()
        return status(path)


def rotate_vault(
    folder: Path | str,
    key: VaultKey,
    *,
    new_key: VaultKey | None = None,
    data_key: bool = False,
    step: Step | None = None,
) -> VaultStatus:
    """Give a vault another wrapping key, a fresh data key, or both; an interrupted rotation is finished first.

    Raises `UsageError` if nothing is asked for or the vault is plain, `SetupError` for a wrong key or while another
    process writes.
    """
    if new_key is None and not data_key:
        raise UsageError("say what to rotate: the key that opens the vault, the data key inside, or both")
    with _alone(Path(folder)) as path:
        found = status(path)
        if not found.encrypted:
            raise UsageError(f"{path} is not encrypted: pd vault encrypt makes it so")
        if not found.complete:
            raise UsageError(f"{path} is only half encrypted: finish that first with pd vault encrypt")
        if data_key or found.data_keys > 1:
            rotate_data(path, key, step=step)
        if new_key is not None:
            rotate_wrapping(path, key, new_key, step=step)
        return status(path)


def vault_status(folder: Path | str) -> VaultStatus:
    """How the vault of a ledger directory is kept; needs no key."""
    return status(Path(folder) / VAULT_FILE)


@contextlib.contextmanager
def _alone(folder: Path) -> Generator[Path]:
    LedgerConfig.read(folder)
    lock = SequencerLock(folder / LOCK_FILE)
    if not lock.acquire():
        raise SetupError(f"another process writes to {folder}: close it first")
    try:
        yield folder / VAULT_FILE
    finally:
        lock.release()


def status(path: Path) -> VaultStatus:
    """`vault_status` of a vault file."""
    db = Database(path, ddl=VAULT_DDL, version=SEALED_VERSION, readonly=True)
    try:
        records, erased = db.row(
            "SELECT count(record), count(*) - count(record) FROM submission WHERE kind = ?", (GENERATION,)
        )
        if db.row("PRAGMA user_version")[0] < SEALED_VERSION:
            return VaultStatus(False, True, None, records, erased, 0, 0)
        row = db.row("SELECT header FROM vault_header")
        if row is None:
            raise SetupError(f"{path} is damaged: its header is gone")
        header = read_header(row[0], path)
        keys, current = db.row("SELECT count(*), max(id) FROM vault_key WHERE purpose = ?", (RECORDS,))
        plain = 0 if header.complete else db.row(f"SELECT count(*) {_UNSEALED}")[0]
        stale = db.row("SELECT count(*) FROM record_key WHERE data_key <> ?", (current,))[0]
        return VaultStatus(True, header.complete, header.kdf, records, erased, keys, plain + stale)
    finally:
        db.close()


# --- a vault file ---

_UNSEALED = (
    "FROM submission s LEFT JOIN record_key k ON k.submission = s.id "
    "WHERE k.submission IS NULL AND (s.record IS NOT NULL OR s.kind <> 'generation')"
)
_COLUMNS = "s.key, s.kind, s.model, s.name, s.draw, s.pixels, s.file, s.commitment, s.secret, s.record, s.id"


def encrypt(path: Path, key: VaultKey, *, step: Step | None = None) -> None:
    """`encrypt_vault` of a vault file nobody else writes to."""
    say = step or _nothing
    db = Database(path, ddl=VAULT_DDL, version=SEALED_VERSION)
    try:
        if db.row("PRAGMA user_version")[0] < SEALED_VERSION:
            header = Header(os.urandom(16), key.new_kdf(), complete=False)
            wrapping = key.wrapping_key(header.kdf, path)
            with db.transaction() as connection:
                for statement in SEALING_DDL:
                    connection.execute(statement)
                Seal.create(connection, header, wrapping)
                connection.execute(f"PRAGMA user_version = {SEALED_VERSION}")
            say("keys")
    finally:
        db.close()
    vault = Vault(path, key=key)
    try:
        header = vault.header()
        if header.complete:
            raise UsageError(f"{path} is encrypted already; pd vault rotate changes its keys")
        while _seal_batch(vault):
            say("batch")
        # free pages may hold records in the clear from before
        vault.db.command("VACUUM")
        vault.require_folded("every record is sealed", "and run this again")
        say("rewritten")
        _rewrap(vault, key, replace(header, complete=True), key)
        say("complete")
    finally:
        vault.close()


def _seal_batch(vault: Vault) -> int:
    seal = vault.refresh()
    if seal is None:
        raise SetupError(f"{vault.db.path} lost its header meanwhile")
    with vault.db.transaction() as connection:
        rows: list[Any] = connection.execute(f"SELECT {_COLUMNS} {_UNSEALED} ORDER BY s.id LIMIT {BATCH}").fetchall()
        for columns in rows:
            row = Submission(*columns)
            record_key, record = seal.seal_record(row)
            connection.execute("UPDATE submission SET secret = NULL, record = ? WHERE id = ?", (record, row.id))
            connection.execute(
                "INSERT INTO record_key (submission, data_key, wrapped) VALUES (?, ?, ?)",
                (row.id, seal.current, seal.seal_key(row.id, row, record_key)),
            )
    return len(rows)


def rotate_wrapping(path: Path, key: VaultKey, new_key: VaultKey, *, step: Step | None = None) -> None:
    """Wrap the data keys with another key: one transaction."""
    vault = Vault(path, key=key)
    try:
        header = vault.header()
        _rewrap(vault, key, replace(header, kdf=new_key.new_kdf()), new_key)
        (step or _nothing)("wrapped")
    finally:
        vault.close()


def _rewrap(vault: Vault, key: VaultKey, new: Header, new_key: VaultKey) -> None:
    """Replace the header and every wrapped data key, which are bound to it, in one transaction."""
    path = vault.db.path
    old = vault.header()
    opening, closing = key.wrapping_key(old.kdf, path), new_key.wrapping_key(new.kdf, path)
    with vault.db.transaction() as connection:
        _rewrap_rows(connection, path, (old, opening), (new, closing))
    # the old wrapping must not stay readable beside the new one
    vault.require_folded("the new key opens it", "then they are gone")


def _rewrap_rows(
    connection: sqlite3.Connection, path: Path, old: tuple[Header, bytes], new: tuple[Header, bytes]
) -> None:
    for number, purpose, wrapped in connection.execute("SELECT id, purpose, wrapped FROM vault_key").fetchall():
        data_key = unwrap(old[1], old[0], purpose, number, wrapped, path)
        again = wrap(new[1], new[0], purpose, number, data_key)
        connection.execute("UPDATE vault_key SET wrapped = ? WHERE id = ?", (again, number))
    connection.execute("UPDATE vault_header SET header = ? WHERE id = 1", (new[0].encode(),))


def rotate_data(path: Path, key: VaultKey, *, step: Step | None = None) -> None:
    """Replace the data key; finishes an interrupted rotation instead of starting another."""
    say = step or _nothing
    vault = Vault(path, key=key)
    try:
        seal = vault.refresh()
        if seal is None:
            raise UsageError(f"{path} is not encrypted")
        if len(seal.keys) == 1:
            wrapping = key.wrapping_key(seal.header.kdf, path)
            with vault.db.transaction() as connection:
                Seal.add_key(connection, seal.header, wrapping, RECORDS)
                # the old journal keys stay: what was spooled under them must open
                Seal.add_key(connection, seal.header, wrapping, JOURNAL)
            say("keys")
        seal = vault.refresh()
        if seal is None:
            raise SetupError(f"{path} lost its header meanwhile")
        while _rotate_batch(vault, seal):
            say("batch")
        with vault.db.transaction() as connection:
            # a row that was added meanwhile under the old key would be lost with it
            left = connection.execute("SELECT count(*) FROM record_key WHERE data_key <> ?", (seal.current,)).fetchone()
            if left[0]:
                raise SetupError(f"{path}: {left[0]} rows were added under the old data key meanwhile; rotate again")
            connection.execute("DELETE FROM vault_key WHERE purpose = ? AND id <> ?", (RECORDS, seal.current))
        vault.require_folded("the data key is replaced", "then they are gone")
        say("complete")
    finally:
        vault.close()


def _rotate_batch(vault: Vault, seal: Seal) -> int:
    with vault.db.transaction() as connection:
        rows: list[Any] = connection.execute(
            f"SELECT {_COLUMNS.replace('s.record', 'NULL')}, k.data_key, k.wrapped "  # noqa: S608
            "FROM record_key k JOIN submission s ON s.id = k.submission "
            f"WHERE k.data_key <> ? ORDER BY k.submission LIMIT {BATCH}",
            (seal.current,),
        ).fetchall()
        for *columns, data_key, wrapped in rows:
            row = Submission(*columns)
            record_key = seal.open_key(row.id, row, data_key, wrapped)
            connection.execute(
                "UPDATE record_key SET data_key = ?, wrapped = ? WHERE submission = ?",
                (seal.current, seal.seal_key(row.id, row, record_key), row.id),
            )
    return len(rows)


def _nothing(_step: str) -> None:
    """No step is watched."""
