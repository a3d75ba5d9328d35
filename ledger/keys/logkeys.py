"""Changing a log's key under its old name: a time in which heads carry both signatures, then the new one alone.

    begin    a second key of the same name; policy.txt names both, the witnesses in this directory accept both, every
             kept head gets the new key's signature beside the old one's, and so do all heads from now on
    (verifiers move: a policy with either key, or with both, accepts every head)
    finish   policy.txt, witnesses and new heads know the new key alone; the old private key is set aside

A log's identity is its origin, and what it may never do is contradict itself: the key only says who speaks, the quorum
who listened. So nothing of the tree changes, and cosignatures stay good, since they cover the text and no signature.
Evidence made before keeps its old signature and fits old policies; kept heads are signed again, so that evidence made
later fits the new ones. Whoever has not moved when the old key falls silent refuses newer heads, and nothing else.

Each step is durable before the next and is made again by calling `begin` or `finish` again after a kill. Both need the
ledger for themselves. Source: docs/spec/log-keys.md.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path

from ...schemas.errors import EvidenceError, SetupError, UsageError
from ..config import CONFIG_FILE, LedgerConfig, ledger_path
from ..layout import POLICY_FILE, read_directory, read_keys
from ..merkle.public import CHECKPOINT, CHECKPOINTS, PENDING, PUBLIC_FOLDER
from ..notes.checkpoint import Checkpoint
from ..notes.note import ED25519, Note, SignerKey, VerifierKey
from ..notes.policy import Policy
from ..storage.disk import storage, sync_folder, write_file
from ..storage.lock import LOCK_FILE, SequencerLock
from ..storage.state import STATE_FILE, State
from ..witness import Witness
from .keyfile import read_key, write_key

KEYS_FOLDER = "keys"
RETIRED_FOLDER = "retired"


@dataclass(frozen=True, slots=True)
class LogKeys:
    """The keys that sign a log's heads now, oldest first."""

    origin: str
    keys: tuple[VerifierKey, ...]


def begin(directory: Path) -> LogKeys:
    """Have a second key sign the log beside its key; again after a kill: goes on. `SetupError` while it is in use."""
    with _alone(directory):
        config = LedgerConfig.read(directory)
        old = read_key(ledger_path(directory, config.log_keys[0]))
        file, new = _second_key(directory, config, old)
        both = [old.verifier, new.verifier]
        _change_policy(directory, config.origin, both)
        _change_witnesses(directory, config, both)
        _sign_again(directory, new)
        _set_log_keys(directory, (config.log_keys[0], file))
        read_keys(directory, LedgerConfig.read(directory))
        _cosign_again(directory, config)
        return LogKeys(config.origin, tuple(both))


def finish(directory: Path) -> LogKeys:
    """Let the newest key sign alone; `UsageError` if there is no second key, `SetupError` if a kept head lacks it."""
    with _alone(directory):
        config = LedgerConfig.read(directory)
        if len(config.log_keys) < 2:
            raise UsageError(f"{directory} has one log key: begin a rotation first")
        *before, last = config.log_keys
        new = read_key(ledger_path(directory, last))
        for path in _heads(directory):
            if not _signed_by(path.read_bytes(), new.verifier):
                raise SetupError(f"{path} lacks the new key's signature: begin the rotation again, then finish it")
        _change_policy(directory, config.origin, [new.verifier])
        _change_witnesses(directory, config, [new.verifier])
        _set_log_keys(directory, (last,))
        for file in before:
            _retire(directory, ledger_path(directory, file))
        return LogKeys(config.origin, (new.verifier,))


@contextlib.contextmanager
def _alone(directory: Path) -> Generator[None, None, None]:
    LedgerConfig.read(directory)
    lock = SequencerLock(directory / LOCK_FILE)
    if not lock.acquire():
        raise SetupError(f"another process writes to {directory}: close it while the log's key changes")
    try:
        yield
    finally:
        lock.release()


def _second_key(directory: Path, config: LedgerConfig, old: SignerKey) -> tuple[str, SignerKey]:
    """The next key and its file: the one a killed attempt made, or a fresh one."""
    if len(config.log_keys) > 1:
        return config.log_keys[-1], read_key(ledger_path(directory, config.log_keys[-1]))
    for path in sorted((directory / KEYS_FOLDER).glob("log-*.key")):
        if f"{KEYS_FOLDER}/{path.name}" not in config.log_keys:
            return f"{KEYS_FOLDER}/{path.name}", read_key(path)
    new = SignerKey.generate(old.name, ED25519)
    file = f"{KEYS_FOLDER}/log-{new.verifier.key_id.hex()}.key"
    write_key(directory / file, new)
    return file, new


def _change_policy(directory: Path, origin: str, keys: list[VerifierKey]) -> None:
    """The lines of this log become those of `keys`, where the first of them stood; addresses and all else stay."""
    path = directory / POLICY_FILE
    lines = path.read_bytes().decode("ascii").split("\n")
    ours = [
        n for n, line in enumerate(lines) if line.split()[:1] == ["log"] and line.split()[1].startswith(f"{origin}+")
    ]
    if not ours:
        raise SetupError(f"{path} has no line for the log {origin}")
    url = lines[ours[0]].split()[2:]
    wanted = [" ".join(["log", key.encode(), *url]) for key in keys]
    kept = [line for n, line in enumerate(lines) if n not in ours]
    data = "\n".join([*kept[: ours[0]], *wanted, *kept[ours[0] :]]).encode("ascii")
    try:
        Policy.parse(data)
    except EvidenceError as error:
        raise SetupError(f"{path} does not take the new key: {error}") from None
    with storage(f"writing {path}"):
        write_file(path, data)


def _change_witnesses(directory: Path, config: LedgerConfig, keys: list[VerifierKey]) -> None:
    for witness in _witnesses(directory, config):
        witness.change_keys(config.origin, keys)


def _witnesses(directory: Path, config: LedgerConfig) -> Iterator[Witness]:
    for item in config.witnesses:
        keys = tuple(read_key(ledger_path(directory, file)) for file in item.key_files)
        with Witness(item.name, keys, ledger_path(directory, item.state)) as witness:
            yield witness


def _heads(directory: Path) -> list[Path]:
    public = directory / PUBLIC_FOLDER
    kept = sorted((p for p in (public / CHECKPOINTS).iterdir() if p.name.isdecimal()), key=lambda p: int(p.name))
    return [*kept, *(path for name in (CHECKPOINT, PENDING) if (path := public / name).is_file())]


def _signed_by(note: bytes, key: VerifierKey) -> bool:
    return bool(Note.parse(note).known_signatures([key]))


def _also_signed(note: bytes, signer: SignerKey) -> bytes:
    parsed = Note.parse(note)
    if any((s.name, s.key_id) == (signer.name, signer.verifier.key_id) for s in parsed.signatures):
        return note
    return parsed.add(signer.sign(parsed.text)).encode()


def _sign_again(directory: Path, new: SignerKey) -> None:
    """The new key's line beside the others, in every head that is kept or served: the texts were signed before."""
    for path in _heads(directory):
        with storage(f"writing {path}"):
            write_file(path, _also_signed(path.read_bytes(), new))
    state = State(directory / STATE_FILE)
    try:
        cosigned = state.cosigned[1]
        state.sign_again(_also_signed(state.head.note, new), _also_signed(cosigned, new) if cosigned else b"")
    finally:
        state.close()


def _cosign_again(directory: Path, config: LedgerConfig) -> None:
    """Witnesses of this directory keep the head they cosigned last with both signatures, too."""
    state = State(directory / STATE_FILE, readonly=True)
    try:
        note = state.head.note
    finally:
        state.close()
    size = Checkpoint.parse(Note.parse(note).text).size
    for witness in _witnesses(directory, config):
        if any(log.origin == config.origin and log.size == size for log in witness.logs()):
            witness.add_checkpoint(size, [], note)


def _set_log_keys(directory: Path, files: tuple[str, ...]) -> None:
    """One line of log.toml; comments and all else stay as people wrote them."""
    path = directory / CONFIG_FILE
    text = path.read_text(encoding="utf-8")
    line = f"log_keys = {json.dumps(list(files))}\n"
    changed, count = re.subn(r"^log_keys *=.*\n", lambda _: line, text, flags=re.MULTILINE)
    if not count:
        changed = re.sub(r"^(origin *=.*\n)", lambda found: found[1] + line, text, count=1, flags=re.MULTILINE)
    if LedgerConfig.parse(changed, str(path)).log_keys != files:
        raise SetupError(f"{path}: write {line.strip()} into it by hand, and do this again")
    with storage(f"writing {path}"):
        write_file(path, changed.encode("utf-8"))
    read_directory(directory)


def _retire(directory: Path, path: Path) -> None:
    folder = directory / KEYS_FOLDER / RETIRED_FOLDER
    with storage(f"setting {path} aside"):
        folder.mkdir(mode=0o700, exist_ok=True)
        if path.exists():
            path.rename(folder / path.name)
        sync_folder(folder)
        sync_folder(path.parent)


__all__ = ["LogKeys", "begin", "finish"]
