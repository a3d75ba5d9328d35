"""A vault's backup in one file, and putting back what is missing: it belongs to this ledger, and replaces nothing.

    plausible.vault-backup/1\\n || u32 length || manifest (JCS) || an SQLite database

    {"author": VKEY, "bytes": 40960, "chain": "32 hex", "format": "plausible.vault-backup/1", "last": 41,
     "origin": "...", "records": 40, "root": D, "sha256": D, "size": 42, "time": T, "vault": "32 hex" | null}

`size` and `root` are the signed head, read before the vault is copied: every record behind an entry under it is inside.
`bytes` and `sha256` are the database's, `last` its highest submission, `vault` its id if it is encrypted. Writing one
needs no key: an encrypted vault stays encrypted in it. The manifest is not signed: restoring checks each record against
its commitment and each commitment against the log.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from ...schemas import jcs
from ...schemas.errors import EvidenceError, SetupError, UsageError
from ...schemas.record import Record
from ...schemas.text import digest_text, format_time, now, parse_digest, parse_hex, parse_time
from ..config import LedgerConfig
from ..entries.entry import parse_entry
from ..entries.record import commit
from ..merkle.public import PUBLIC_FOLDER
from ..merkle.reader import DirectorySource, TiledLog
from ..merkle.tiles import WIDTH
from ..merkle.tree import EMPTY_ROOT, subtree_root
from ..storage.database import open_database_readonly
from ..storage.disk import storage, sync_folder
from ..storage.lock import LOCK_FILE, SequencerLock
from ..storage.lookup import read_bundle
from ..storage.state import STATE_FILE, State
from .rekey import encrypt
from .sealing import SEALED_VERSION, read_header
from .vault import GENERATION, VAULT_FILE, Submission, Vault
from .vaultkey import VaultKey

FORMAT = "plausible.vault-backup/1"
MAGIC = FORMAT.encode() + b"\n"
_MAX_MANIFEST = 65_536
_MAX_RECORD = 64 * 1024 * 1024
_CHUNK = 1 << 20
_FIELDS = {"author", "bytes", "chain", "format", "last", "origin", "records", "root", "sha256", "size", "time", "vault"}


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a backup says about itself; see the module."""

    origin: str
    author: str
    chain: bytes
    size: int
    root: bytes
    last: int
    records: int
    vault: bytes | None
    length: int
    sha256: bytes
    time: str

    def to_json(self) -> dict[str, Any]:
        """The manifest's members."""
        return {
            "format": FORMAT, "origin": self.origin, "author": self.author, "chain": self.chain.hex(),
            "size": self.size, "root": digest_text(self.root), "last": self.last, "records": self.records,
            "vault": None if self.vault is None else self.vault.hex(), "bytes": self.length,
            "sha256": digest_text(self.sha256), "time": self.time,
        }  # fmt: skip

    @classmethod
    def parse(cls, data: bytes) -> Manifest:
        """Read a manifest; `EvidenceError` for anything that is not one."""
        value: Any = jcs.decode(data, limit=_MAX_MANIFEST, what="the backup's manifest")
        table = cast("dict[str, Any]", value) if isinstance(value, dict) else {}
        if set(table) != _FIELDS or table["format"] != FORMAT:
            raise EvidenceError("the backup's manifest is of another format")
        texts = ("origin", "author", "chain", "root", "sha256", "time")
        if not all(isinstance(table[name], str) for name in texts):
            raise EvidenceError("a field of the backup's manifest is not a text")
        numbers = [table[name] for name in ("size", "last", "records", "bytes")]
        if not all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in numbers):
            raise EvidenceError("a field of the backup's manifest is not a number")
        vault = table["vault"]
        if vault is not None and not isinstance(vault, str):
            raise EvidenceError("the vault's id in the backup's manifest is not a text")
        parse_time(table["time"])
        return cls(
            table["origin"], table["author"], parse_hex(table["chain"], 16, "the chain"), table["size"],
            parse_digest(table["root"]), table["last"], table["records"],
            None if vault is None else parse_hex(vault, 16, "the vault's id"), table["bytes"],
            parse_digest(table["sha256"]), table["time"],
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore did: rows `added`, rows `kept` because they were here, and accepted ones that are `lost`."""

    added: int
    kept: int
    lost: int
    placed: bool
    unlogged: int = 0
    """Rows that waited to be logged when a backup in the clear was made: nothing vouches for them, they stay out."""


def write_backup(folder: Path | str, file: Path | str, *, force: bool = False) -> Manifest:
    """Back up a ledger's vault while it is written to; consistent, mode 0600, whole or not at all.

    Raises `UsageError` if the file exists and `force` is not given, `SetupError` for what cannot be read or written.
    """
    folder, file = Path(folder), Path(file)
    LedgerConfig.read(folder)
    if file.exists() and not force:
        raise UsageError(f"{file} exists already; name another file or pass --force")
    state = State(folder / STATE_FILE, readonly=True)
    try:
        head, chain, origin = state.head, state.chain, state.origin
    finally:
        state.close()
    with storage(f"writing {file}"):
        file.parent.mkdir(parents=True, exist_ok=True)
        with _temporary(file) as copy, _temporary(file) as whole:
            last, records, vault = _copy(folder / VAULT_FILE, copy)
            length, digest = copy.stat().st_size, _digest(copy)
            manifest = Manifest(
                origin, chain.author, chain.chain, head.size, head.root, last, records, vault, length, digest,
                format_time(now()),
            )  # fmt: skip
            data = jcs.encode(manifest.to_json())
            with whole.open("r+b") as out, copy.open("rb") as source:
                out.write(MAGIC + len(data).to_bytes(4, "big") + data)
                while chunk := source.read(_CHUNK):
                    out.write(chunk)
                out.flush()
                os.fsync(out.fileno())
            if force:
                whole.replace(file)
            else:
                _place(whole, file)
            sync_folder(file.parent)
    return manifest


def _place(temporary: Path, path: Path) -> None:
    try:
        os.link(temporary, path)
    except FileExistsError:
        raise UsageError(f"{path} exists already; nothing was replaced") from None


def _copy(source: Path, target: Path) -> tuple[int, int, bytes | None]:
    """SQLite's online backup in one step: a snapshot, whatever is committed meanwhile."""
    reading = open_database_readonly(source, version=SEALED_VERSION)
    with contextlib.closing(reading), contextlib.closing(sqlite3.connect(target, isolation_level=None)) as writing:
        reading.backup(writing)
        # a single file: the copy must not ask for a write-ahead log beside it
        writing.execute("PRAGMA journal_mode = DELETE").fetchall()
        row = writing.execute("SELECT seq FROM sqlite_sequence WHERE name = 'submission'").fetchone()
        records = writing.execute("SELECT count(record) FROM submission WHERE kind = ?", (GENERATION,)).fetchone()[0]
        vault = None
        if writing.execute("PRAGMA user_version").fetchone()[0] >= SEALED_VERSION:
            vault = read_header(writing.execute("SELECT header FROM vault_header").fetchone()[0], source).vault
    return 0 if row is None else row[0], records, vault


@contextlib.contextmanager
def _temporary(beside: Path) -> Generator[Path]:
    path = beside.with_name(f".tmp-{os.getpid():x}-{os.urandom(4).hex()}-{beside.name}")
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        yield path
    finally:
        for name in (path, path.with_name(path.name + "-journal")):
            with contextlib.suppress(OSError):
                name.unlink()


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


# --- reading ---


def read_manifest(file: Path | str) -> Manifest:
    """The manifest of a backup, its database unchecked; `EvidenceError` if the file is none."""
    with storage(f"reading {file}"), Path(file).open("rb") as source:
        return _manifest(source, Path(file))


def _manifest(source: BinaryIO, file: Path) -> Manifest:
    if source.read(len(MAGIC)) != MAGIC:
        raise EvidenceError(f"{file} is no backup of a vault")
    length = int.from_bytes(source.read(4), "big")
    if length > _MAX_MANIFEST:
        raise EvidenceError(f"the manifest of {file} has {length} bytes")
    return Manifest.parse(source.read(length))


def _unpack(file: Path, target: Path) -> Manifest:
    """Copy the database out of a backup; `EvidenceError` unless length and digest are the manifest's."""
    digest, length = hashlib.sha256(), 0
    with storage(f"reading {file}"), file.open("rb") as source, target.open("r+b") as out:
        manifest = _manifest(source, file)
        while chunk := source.read(_CHUNK):
            digest.update(chunk)
            length += len(chunk)
            if length > manifest.length:
                break
            out.write(chunk)
        out.flush()
        os.fsync(out.fileno())
    if length != manifest.length or digest.digest() != manifest.sha256:
        raise EvidenceError(f"{file} is damaged: its database is not the one its manifest names")
    return manifest


@contextlib.contextmanager
def opened_backup(file: Path | str, key: VaultKey | None, beside: Path) -> Generator[Vault]:
    """The vault in a backup, to read from, unpacked `beside` a path while the block lasts.

    `EvidenceError` if the file is damaged or none.
    """
    file = Path(file)
    if not file.is_file():
        raise UsageError(f"{file} is no file")
    with _temporary(beside) as copy:
        manifest = _unpack(file, copy)
        vault = Vault(copy, readonly=True, key=None if manifest.vault is None else key)
        try:
            yield vault
        finally:
            vault.close()


# --- restoring ---


def restore_backup(
    folder: Path | str,
    file: Path | str,
    *,
    key: VaultKey | None = None,
    backup_key: VaultKey | None = None,
    accept_loss: bool = False,
) -> Restored:
    """Put back the records that are missing here; what is here is kept, erased records stay erased.

    The backup must be of this ledger: same origin, author and chain; its head one that this log signed; every record
    opening its commitment, and every commitment in the log; what had not been logged yet comes back only from an
    encrypted backup. A vault that is gone altogether is replaced by the
    backup's, and encrypted with `key` if the backup was in the clear; one that was encrypted opens with the key that it
    had. `key` opens the vault here (default: the environment's), `backup_key` the backup where that is another.

    Raises `EvidenceError` for a backup that is damaged or of another ledger, `UsageError` where accepted entries would
    stay without their records and `accept_loss` is not given, `SetupError` while another process writes.
    """
    folder, file = Path(folder), Path(file)
    LedgerConfig.read(folder)
    if not file.is_file():
        raise UsageError(f"{file} is no file")
    lock = SequencerLock(folder / LOCK_FILE)
    if not lock.acquire():
        raise SetupError(f"another process writes to {folder}: close it first")
    try:
        state = State(folder / STATE_FILE, readonly=True)
        try:
            with _temporary(folder / VAULT_FILE) as copy:
                manifest = _unpack(file, copy)
                _check_ledger(manifest, state, folder)
                opening = None if manifest.vault is None else backup_key or key
                backup = Vault(copy, readonly=True, key=opening)
                try:
                    _check_records(backup, state, folder)
                    return _put_back(folder / VAULT_FILE, copy, backup, state, key, accept_loss)
                finally:
                    backup.close()
        finally:
            state.close()
    finally:
        lock.release()


def _check_ledger(manifest: Manifest, state: State, folder: Path) -> None:
    head = state.head
    # made before a rotation of the author's key it names a chain that ended meanwhile
    own = [(state.origin, chain.head.author, chain.head.chain) for chain in state.chains()]
    if (manifest.origin, manifest.author, manifest.chain) not in own:
        raise EvidenceError(f"the backup is of another ledger: {manifest.origin}, author {manifest.author}")
    if manifest.size > head.size:
        raise SetupError(
            f"state.db is older than this backup (size {head.size}, the backup's {manifest.size}): restore it first"
        )
    if manifest.size in (0, head.size):
        root = head.root if manifest.size else EMPTY_ROOT
    else:
        # through the tiles of the head that is served: those of an older one need not be there any more
        log = TiledLog(DirectorySource(folder / PUBLIC_FOLDER))
        root = subtree_root(lambda level, index: log.hash(level, index, head.size), 0, manifest.size)
    if root != manifest.root:
        raise EvidenceError(f"the backup is of another history: this log never had its root at size {manifest.size}")


def _check_records(backup: Vault, state: State, folder: Path) -> None:
    log = TiledLog(DirectorySource(folder / PUBLIC_FOLDER))
    size, accepted = state.head.size, state.submission
    number, bundle = -1, list[bytes]()
    last = 0
    while rows := backup.rows_after(last):
        for row in rows:
            if row.kind != GENERATION or row.commitment is None:
                continue
            if row.record is not None and row.secret is not None:
                record = Record.parse(row.record, limit=_MAX_RECORD)
                if commit(record, row.secret) != row.commitment:
                    raise EvidenceError(f"the record of submission {row.id} in the backup is not the committed one")
            if row.id > accepted:
                continue
            index = None if row.draw is None else state.index_of_draw(row.draw)
            # not logged: a row that was refused then is put back and stays refused
            if index is None or index >= size:
                continue
            if number != index // WIDTH:
                number = index // WIDTH
                bundle = read_bundle(log, number, size)
            generation = parse_entry(bundle[index % WIDTH]).generation
            if generation is None or generation.commitment != row.commitment:
                raise EvidenceError(f"submission {row.id} of the backup is not behind entry {index} of this log")
        last = rows[-1].id


def _put_back(path: Path, copy: Path, backup: Vault, state: State, key: VaultKey | None, accept_loss: bool) -> Restored:
    here = Vault(path, key=key) if path.exists() else None
    try:
        # a row that waits is signed as it stands: only sealed ones are known to be the author's own
        vouched = backup.encrypted and backup.header().complete
        unlogged = 0 if vouched else sum(1 for row in _rows(backup) if row.id > state.submission and _new(row, here))
        newest = max(backup.last(), 0 if here is None else here.last())
        lost = max(0, state.submission - newest)
        if lost and not accept_loss:
            raise UsageError(
                f"the backup ends {lost} submissions before the log does: their records would stay lost; "
                "look for a newer backup, or pass --accept-loss to go on without them"
            )
        if here is None:
            count = sum(1 for _ in _rows(backup))
            encrypted = backup.encrypted
            backup.close()
            if unlogged:
                with contextlib.closing(sqlite3.connect(copy, isolation_level=None)) as connection:
                    connection.execute("DELETE FROM submission WHERE id > ?", (state.submission,))
                count -= unlogged
            key = key or VaultKey.from_environment()
            if key is not None and not encrypted:
                # whoever names a key does not expect a vault in the clear
                encrypt(copy, key)
            _replace_missing(path, copy, state.submission if lost else 0)
            return Restored(count, 0, lost, True, unlogged)
        added = kept = 0
        for rows in _batches(backup):
            missing: list[Submission] = []
            for row in rows:
                number = here.id_of(row.key)
                if number is None and (vouched or row.id <= state.submission):
                    missing.append(row)
                elif number is None:
                    continue
                elif number != row.id:
                    raise EvidenceError(f"submission {row.id} of the backup has number {number} here")
                else:
                    kept += 1
            here.put_back(missing)
            added += len(missing)
        if lost:
            with here.db.transaction() as connection:
                _skip_to(connection, state.submission)
        return Restored(added, kept, lost, False, unlogged)
    finally:
        if here is not None:
            here.close()


def _replace_missing(path: Path, copy: Path, skip_to: int) -> None:
    """Put the backup's database where none is; what the lost one left beside it is moved aside, never applied."""
    if skip_to:
        with contextlib.closing(sqlite3.connect(copy, isolation_level=None)) as connection:
            _skip_to(connection, skip_to)
    with storage(f"writing {path}"):
        for ending in ("-wal", "-shm", "-journal"):
            leftover = path.with_name(path.name + ending)
            if leftover.exists():
                leftover.rename(leftover.with_name(f"{leftover.name}.lost-{os.urandom(4).hex()}"))
        with copy.open("rb") as file:
            os.fsync(file.fileno())
        _place(copy, path)
        sync_folder(path.parent)


def _skip_to(connection: sqlite3.Connection, number: int) -> None:
    """New submissions get numbers the log has not taken yet."""
    cursor = connection.execute("UPDATE sqlite_sequence SET seq = ? WHERE name = 'submission'", (number,))
    if cursor.rowcount == 0:
        connection.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('submission', ?)", (number,))


def _new(row: Submission, here: Vault | None) -> bool:
    return here is None or here.id_of(row.key) is None


def _batches(vault: Vault) -> Generator[list[Submission]]:
    last = 0
    while rows := vault.rows_after(last):
        yield rows
        last = rows[-1].id


def _rows(vault: Vault) -> Generator[Submission]:
    for rows in _batches(vault):
        yield from rows
