"""The folder of a mirror: its settings, keys, states and copies.

mirror.toml      name, key files, guard
keys/            mirror.key (cosignatures), index.key (notes about the absence index), 0600
pending.db       the newest head of each log (ledger/witness, without keys)
mirror.db        what was cosigned (ledger/witness); never restored from a backup
logs/HASH/       log.toml, and the copy of one log (copy.py); HASH is the SHA-256 of its origin
elsewhere        the guard: a counter that notices if mirror.db was restored
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path

from ...ledger.absence.note import KEY_SUFFIX
from ...ledger.keys.keyfile import check_roles, read_key, write_key
from ...ledger.notes.note import ED25519, SignerKey
from ...ledger.storage.disk import storage, write_file
from ...ledger.storage.lock import LOCK_FILE, SequencerLock
from ...ledger.witness import Witness
from ...schemas.errors import SetupError
from ..cosigner import make_keys, write_config
from ..cosigner import read_config as read_settings
from ..settings import quoted, read_table

CONFIG = "mirror.toml"
STATE = "mirror.db"
PENDING = "pending.db"
LOGS = "logs"
LOG_CONFIG = "log.toml"
_INDEX_KEY = "keys/index.key"


@dataclass(frozen=True, slots=True)
class MirrorConfig:
    """mirror.toml. `guard` is None if the mirror was made without one."""

    name: str
    keys: tuple[str, ...]
    index_key: str
    guard: Path | None


@dataclass(frozen=True, slots=True)
class LogSettings:
    """How one log is mirrored: where it is read from (a URL or a folder; "": it is pushed), and what is asked of it.

    With `signatures` every entry's signature by the author that it names must verify, or the copy ends before it.
    """

    origin: str
    source: str = ""
    signatures: bool = False


def make(
    folder: Path, name: str, *, keys: tuple[str, ...] = ("ed25519",), guard: Path | None, guarded: bool = True
) -> MirrorConfig:
    """Make a mirror: fresh keys, empty states, a guard at 0. `UsageError` if the folder holds something.

    `guard` None takes a file in the user's state folder, unless not `guarded`.
    """
    signers, config = make_keys(folder, name, "mirror", keys=keys, guard=guard, guarded=guarded)
    with storage(f"making {folder}"):
        (folder / LOGS).mkdir()
    write_key(folder / _INDEX_KEY, SignerKey.generate(name + KEY_SUFFIX, ED25519))
    Witness.create(name, signers, folder / STATE, guard=config.guard).close()
    Witness.create(name, (), folder / PENDING).close()
    write_config(folder / CONFIG, replace(config, more=(("index_key", _INDEX_KEY),)))
    return read_config(folder)


def read_config(folder: Path) -> MirrorConfig:
    """Read mirror.toml; `SetupError` if it is missing or says anything unknown."""
    found = read_settings(folder / CONFIG, "mirror", ("index_key",))
    return MirrorConfig(found.name, found.keys, dict(found.more)["index_key"], found.guard)


@contextlib.contextmanager
def locked(folder: Path) -> Generator[None]:
    """The right to write the copies of a mirror; `SetupError` while another process has it."""
    if not (folder / CONFIG).is_file():
        read_config(folder)
    lock = SequencerLock(folder / LOCK_FILE)
    if not lock.acquire():
        raise SetupError(f"another process runs the mirror in {folder}")
    try:
        yield
    finally:
        lock.release()


def read_keys(folder: Path, config: MirrorConfig) -> tuple[tuple[SignerKey, ...], SignerKey]:
    """(cosignature keys, index key) of a mirror; `SetupError` if one is missing or serves two roles."""
    signers = tuple(read_key(folder / file) for file in config.keys)
    index = read_key(folder / config.index_key)
    check_roles([("mirror", signer.verifier.public) for signer in signers] + [("index", index.verifier.public)])
    if index.name != config.name + KEY_SUFFIX or index.kind != ED25519:
        raise SetupError(f"{folder / config.index_key} is not the Ed25519 key of {config.name}{KEY_SUFFIX}")
    return signers, index


def read_log(folder: Path) -> LogSettings:
    """The settings of one log's folder; `SetupError` for anything missing or unknown in them."""
    path = folder / LOG_CONFIG
    table = read_table(path, {"origin", "source", "signatures"}, f"{path} is missing")
    origin, source, signatures = table.get("origin"), table.get("source", ""), table.get("signatures", False)
    if not isinstance(origin, str) or not isinstance(source, str) or not isinstance(signatures, bool):
        raise SetupError(f"{path} needs an origin, a source that is a text, and signatures that is true or false")
    return LogSettings(origin, source, signatures)


def write_log(folder: Path, settings: LogSettings) -> None:
    """Write the settings of one log's folder, made if it is not there."""
    text = f"version = 1\norigin = {quoted(settings.origin)}\n"
    text += f"source = {quoted(settings.source)}\nsignatures = {str(settings.signatures).lower()}\n"
    with storage(f"writing {folder / LOG_CONFIG}"):
        folder.mkdir(parents=True, exist_ok=True)
        write_file(folder / LOG_CONFIG, text.encode("utf-8"))
