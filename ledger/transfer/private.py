"""A ledger at rest in one file: state and vault in front of the public export. A backup of its own operator, mode 0600.

    plausible-private.json, log.toml, policy.txt, authors.txt, state.db, vault.db, then `plausible.export/1`

Keys are not in it: whoever finds the file must not be able to sign. Nor are the databases of witnesses in this process,
which must never go back, nor the model folders with their weights. An encrypted vault stays encrypted, any other one is
as readable as it was.

An imported state is a restored one: the original may have signed more since. So the import leaves the mark `restored`,
and nothing is signed before a quorum of witnesses showed that they know of nothing newer (cosigning.py); with `quorum
none` nobody can show it, and nothing is signed until a person removes the mark (sequencer.py).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from ...schemas import jcs
from ...schemas.errors import EvidenceError, SetupError, UsageError
from ...schemas.text import digest_text, parse_digest
from ..config import CONFIG_FILE, LedgerConfig, ledger_path
from ..layout import AUTHORS_FILE, POLICY_FILE, read_directory
from ..merkle.public import PUBLIC_FOLDER
from ..merkle.reader import DirectorySource, TiledLog
from ..notes.policy import Policy
from ..storage.database import open_database_readonly
from ..storage.disk import storage, write_file
from ..storage.lock import LOCK_FILE, SequencerLock
from ..storage.state import STATE_FILE, State
from ..vault.sealing import SEALED_VERSION
from ..vault.vault import VAULT_FILE
from ..writing.witnessed import RESTORED_MARK
from .container import Members, write_stream
from .exporting import Exported, export_log
from .importing import Imported, import_into, placing

FORMAT = "plausible.private-export/1"
MANIFEST = "plausible-private.json"
_FILES = (CONFIG_FILE, POLICY_FILE, AUTHORS_FILE, STATE_FILE, VAULT_FILE)
_MAX_TEXT = 1 << 24
_MARK = b"""state.db came from a backup. Until a quorum of witnesses has shown that it knows of nothing newer, this
ledger signs nothing. With `quorum none` nobody can show that: if you are sure that the original signed nothing after
the backup was made and never will again, remove this file.
"""


@dataclass(frozen=True, slots=True)
class _File:
    name: str
    bytes: int
    sha256: bytes


def export_private(folder: Path, out: BinaryIO, *, progress: Callable[[int, int], None] | None = None) -> Exported:
    """Write a ledger at rest to `out`, its public part verified under its own policy.

    At rest: no process has it open for writing, everything accepted is under a head that met the quorum, and the
    journal is empty; else `UsageError` or `SetupError` that says what is in the way. `pd vault backup` backs up the
    records of a ledger in use.
    """
    config = LedgerConfig.read(folder)
    lock = SequencerLock(folder / LOCK_FILE)
    if not lock.acquire():
        raise UsageError(f"another process writes to {folder}: close it there first")
    try:
        with tempfile.TemporaryDirectory(prefix=".tmp-export-", dir=folder) as name:
            _at_rest(folder, config)
            copies = {file: folder / file for file in _FILES}
            for file in (STATE_FILE, VAULT_FILE):
                copies[file] = Path(name) / file
                _copy_database(folder / file, copies[file])
            files = [_File(file, path.stat().st_size, _digest(path)) for file, path in copies.items()]
            written = 0
            with tempfile.TemporaryFile(dir=name) as text:
                data = jcs.encode(
                    {"files": [{"bytes": file.bytes, "name": file.name, "sha256": digest_text(file.sha256)}
                               for file in files], "format": FORMAT, "origin": config.origin}
                )  # fmt: skip
                text.write(data)
                text.seek(0)
                written += write_stream(out, MANIFEST, text, len(data))
            for file in files:
                with copies[file.name].open("rb") as stream:
                    written += write_stream(out, file.name, stream, file.bytes)
            policy = Policy.parse((folder / POLICY_FILE).read_bytes())
            done = export_log(TiledLog(DirectorySource(folder / PUBLIC_FOLDER)), out, policy=policy, progress=progress)
            return Exported(
                done.origin, done.size, done.root, done.checkpoints, written + done.bytes, done.accepted, done.index
            )
    finally:
        lock.release()


def import_private(
    source: BinaryIO, target: Path, policy: Policy, *, progress: Callable[[int, int], None] | None = None
) -> Imported:
    """Make a ledger directory from a private export, its public part verified under `policy`, marked as restored.

    Keys, model folders and the databases of witnesses that ran in the ledger's process are put back by hand. Raises as
    `import_log` does, and `EvidenceError` where state.db is not that of the log behind it. TARGET is then as it was.
    """
    with placing(target, mode=0o700) as staging:
        members = Members(source)
        files, origin = _manifest(members.take(MANIFEST, _MAX_TEXT))
        for file in files:
            limit = _MAX_TEXT if file.name in (CONFIG_FILE, POLICY_FILE, AUTHORS_FILE) else file.bytes
            descriptor = os.open(staging / file.name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with storage(f"importing into {target}"), os.fdopen(descriptor, "wb") as out:
                found = members.take_into(file.name, limit, out)
                out.flush()
                os.fsync(out.fileno())
            if found != (file.bytes, file.sha256):
                raise EvidenceError(f"{file.name} is not the file that {MANIFEST} describes")
        done = import_into(members, staging, policy, progress)
        for name in ("keys", "witnesses"):
            (staging / name).mkdir(mode=0o700)
        contents = read_directory(staging)
        state = State(staging / STATE_FILE, readonly=True)
        try:
            head, found_origin, synced = state.head, state.origin, state.synced_size
        finally:
            state.close()
        at = done.accepted
        if {origin, contents.config.origin, found_origin} != {at.origin}:
            raise EvidenceError("the private files are of another log than the public ones")
        if (head.size, head.root, synced) != (at.size, at.root, at.size):
            raise EvidenceError(f"state.db stands at size {head.size}, the checkpoint behind it at {at.size}")
        with storage(f"importing into {target}"):
            write_file(staging / RESTORED_MARK, _MARK, mode=0o600)
        return done


def _at_rest(folder: Path, config: LedgerConfig) -> None:
    spool = ledger_path(folder, config.spool)
    if spool.exists() and spool.stat().st_size:
        raise SetupError(f"{spool} holds what was not recorded yet: open the ledger once and flush it")
    state = State(folder / STATE_FILE, readonly=True)
    try:
        sizes = {state.accepted, state.head.size, state.cosigned[0], state.synced_size}
    finally:
        state.close()
    if len(sizes) != 1:
        raise SetupError(
            f"{folder} is not at rest: not everything accepted is under a head that met the quorum; open it and flush"
        )


def _copy_database(source: Path, target: Path) -> None:
    """One moment of a database, in one file."""
    with storage(f"copying {source}"):
        reading = open_database_readonly(source, version=SEALED_VERSION)
        with contextlib.closing(reading), contextlib.closing(sqlite3.connect(target, isolation_level=None)) as writing:
            reading.backup(writing)
            writing.execute("PRAGMA journal_mode = DELETE").fetchall()


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _manifest(data: bytes) -> tuple[list[_File], str]:
    """The files in their order, all of them and no other, and the log's origin."""
    value: Any = jcs.decode(data, limit=_MAX_TEXT, what=MANIFEST)
    table = cast("dict[str, Any]", value) if isinstance(value, dict) else {}
    if table.get("format") != FORMAT or set(table) != {"files", "format", "origin"}:
        raise EvidenceError(f"the file is of format {str(table.get('format'))[:80]!r}, this program reads {FORMAT}")
    rows: Any = table["files"]
    files: list[_File] = []
    for row in cast("list[Any]", rows) if isinstance(rows, list) else ():
        item = cast("dict[str, Any]", row) if isinstance(row, dict) else {}
        size, digest = item.get("bytes"), item.get("sha256")
        if set(item) != {"bytes", "name", "sha256"} or type(size) is not int or not isinstance(digest, str):
            raise EvidenceError(f"a row of {MANIFEST} does not describe a file")
        files.append(_File(str(item["name"]), size, parse_digest(digest)))
    if tuple(file.name for file in files) != _FILES or not isinstance(table["origin"], str):
        raise EvidenceError(f"{MANIFEST} names other files than {', '.join(_FILES)}")
    return files, table["origin"]


__all__ = ["FORMAT", "MANIFEST", "export_private", "import_private"]
