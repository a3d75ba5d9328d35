"""A ledger whose disk is gone, made again: the public half from a copy of its log, the private one from what was kept.

Needed are the keys (the author's and the log's, kept elsewhere) and a copy of the log, best a mirror's; the vault comes
out of a backup, or the records stay lost. The copy is trusted for nothing: its head must carry this log's own signature
and every file must hash into it (`export_log`, `import_log`). From the entries state.db is written anew.

What the log signed or accepted after the copy was made cannot be known. So nothing old is gone on with: the ledger gets
the mark `restored` and signs nothing before a quorum of its witnesses showed that they know of nothing newer
(cosigning.py); with `quorum none` nobody can show it, and nothing is signed until a person removes the mark. The old
chains end where the copy ends and a new one begins, because their next numbers may have been given out. Draws go on far
above the highest, and epochs count as used up, because seeds may have been used.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from ...schemas.errors import EvidenceError, PeerError, PolicyError, UsageError
from ...schemas.statement import SeedEpochStatement
from ...schemas.text import parse_digest, parse_time
from ..config import CONFIG_FILE, LedgerConfig
from ..entries.entry import Entry, parse_entry
from ..entries.statements import EPOCH
from ..keys.keyfile import check_roles, read_key, write_key
from ..layout import AUTHORS_FILE, POLICY_FILE
from ..merkle.public import CHECKPOINT, PENDING, PUBLIC_FOLDER
from ..merkle.reader import DirectorySource, Source, TiledLog
from ..merkle.tiles import WIDTH
from ..merkle.tree import EMPTY_ROOT, hash_leaf
from ..notes.checkpoint import Checkpoint, open_checkpoint
from ..notes.note import Note, SignerKey
from ..notes.policy import Policy
from ..storage.disk import staged_folder, storage, write_file
from ..storage.refill import Refill
from ..storage.state import STATE_FILE, Head, State
from ..vault.backup import opened_backup, restore_backup
from ..vault.vault import GENERATION, MODEL, VAULT_FILE, Vault
from ..vault.vaultkey import VaultKey
from ..writing.registry import MODELS_FOLDER
from ..writing.sequencer import SKIPPED_DRAWS
from ..writing.witnessed import RESTORED_MARK
from .container import Members
from .exporting import export_log
from .importing import import_into

Progress = Callable[[int, int], None]

_MARK = b"""This ledger was made again from a copy of its log. Until a quorum of witnesses has shown that it knows of
nothing newer, it signs nothing. With `quorum none` nobody can show that: if you are sure that the lost ledger signed
nothing after the copy was made and never will again, remove this file.
"""


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What was made: the log's size, own entries in it, and how many of their records came out of the backup.

    `reachable` says whether the policy's quorum can be met by witnesses that have an address; those that ran in the
    lost ledger's own process are gone.
    """

    origin: str
    size: int
    own: int
    generations: int
    records: int
    reachable: bool


def _silent(_done: int, _total: int) -> None: ...


def rebuild(
    target: Path,
    source: Source,
    *,
    keys: Path,
    policy: bytes,
    backup: Path | None = None,
    vault_key: VaultKey | None = None,
    backup_key: VaultKey | None = None,
    progress: Progress = _silent,
) -> Rebuilt:
    """Make the ledger `target` (absent or an empty folder) from a copy of its log; all of it, or nothing.

    `keys` is a folder with `author*.key` and `log*.key`, `policy` the ledger's policy.txt. `backup` is of the vault, in
    the clear or opened by `backup_key` (default `vault_key`). Raises `UsageError` where something of that is missing,
    `EvidenceError` for a copy or backup that is false, `PolicyError` if the policy is of another log.
    """
    signers = _read_keys(keys)
    logs = [key for name, key in signers if name.startswith("log")]
    authors = [key for name, key in signers if name.startswith("author")]
    chosen = Policy.parse(policy)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError(f"{target} exists and is not empty: choose a new directory")
    current = _log_keys(TiledLog(source), logs, chosen)
    origin = current[0].name
    own = Policy.parse("".join(f"log {key.verifier}\n" for key in current).encode() + b"quorum none\n")
    with staged_folder(target, f"making {target}") as staging:
        with tempfile.TemporaryFile(dir=staging) as file:
            export_log(TiledLog(source), file, policy=own)
            file.seek(0)
            done = import_into(Members(file), staging, own, progress)
        _keep_pending(source, staging / PUBLIC_FOLDER, current, done.accepted.size)
        _write_texts(staging, signers, current, authors, policy)
        with contextlib.ExitStack() as stack:
            held = None
            if backup is not None:
                held = stack.enter_context(opened_backup(backup, backup_key or vault_key, staging / VAULT_FILE))
            note = (staging / PUBLIC_FOLDER / CHECKPOINT).read_bytes()
            head = Head(done.accepted.size, done.accepted.root, note)
            found = _write_state(staging, current[0], authors, head, chosen, held)
        if backup is None:
            Vault.create(staging / VAULT_FILE, key=vault_key).close()
            records = 0
        else:
            restored = restore_backup(staging, backup, key=vault_key, backup_key=backup_key, accept_loss=True)
            records = restored.added + restored.kept
        with storage(f"making {target}"):
            (staging / "witnesses").mkdir(mode=0o700, exist_ok=True)
            (staging / MODELS_FOLDER).mkdir(exist_ok=True)
            write_file(staging / RESTORED_MARK, _MARK, mode=0o600)
    reachable = chosen.quorum is None or chosen.satisfied_by(w.name for w in chosen.witnesses if w.url)
    return Rebuilt(origin, head.size, found.own, found.generations, records, reachable)


# --- what was kept ---


def _read_keys(folder: Path) -> list[tuple[str, SignerKey]]:
    """(file name, key) of every key in a folder; `UsageError` without an author's and a log's, or for two authors."""
    with storage(f"reading {folder}"):
        paths = sorted(folder.glob("*.key"))
    found = [(path.name, read_key(path)) for path in paths]
    for role in ("author", "log"):
        names = {key.name for name, key in found if name.startswith(role)}
        if len(names) != 1:
            raise UsageError(
                f"{folder} holds {role} keys of {len(names)} names: put the {role}*.key files of one ledger into it"
            )
    check_roles((name.split("-")[0].removesuffix(".key"), key.verifier.public) for name, key in found)
    return found


def _log_keys(copy: TiledLog, keys: Sequence[SignerKey], policy: Policy) -> list[SignerKey]:
    """The log's keys that signed the head of the copy, in the order of their signatures."""
    note = copy.checkpoint_bytes()
    open_checkpoint(note, [key.verifier for key in keys], keys[0].name)
    by_identity = {(key.name, key.verifier.key_id): key for key in keys}
    lines = [(line.name, line.key_id) for line in Note.parse(note).signatures]
    found = [by_identity[line] for line in lines if line in by_identity]
    if not any(log.key == key.verifier for log in policy.logs for key in found):
        raise PolicyError(f"the policy does not name the key of {keys[0].name} that signs its head")
    return found


def _keep_pending(source: Source, public: Path, keys: Sequence[SignerKey], size: int) -> None:
    """A newer head that the log signed and no quorum cosigned binds all the same: with it here, the ledger is held."""
    try:
        note = TiledLog(source).checkpoint_bytes(PENDING)
        checkpoint = open_checkpoint(note, [key.verifier for key in keys], keys[0].name)[0]
    except (EvidenceError, PeerError):
        return
    if checkpoint.size > size:
        with storage(f"writing {public / PENDING}"):
            write_file(public / PENDING, note)


def _write_texts(
    folder: Path,
    keys: Sequence[tuple[str, SignerKey]],
    logs: Sequence[SignerKey],
    authors: Sequence[SignerKey],
    policy: bytes,
) -> None:
    for name, key in keys:
        write_key(folder / "keys" / name, key)
    files = tuple(f"keys/{name}" for log in logs for name, key in keys if key == log)
    config = LedgerConfig(author=authors[0].name, origin=logs[0].name, log_keys=files)
    with storage(f"making {folder}"):
        folder.chmod(0o700)
        write_file(folder / CONFIG_FILE, config.to_toml().encode("utf-8"))
        write_file(folder / POLICY_FILE, policy)
        write_file(folder / AUTHORS_FILE, "".join(f"author {key.verifier}\n" for key in authors).encode())


# --- state.db ---


@dataclass(slots=True)
class _Own:
    own: int = 0
    generations: int = 0


def _write_state(
    folder: Path,
    log: SignerKey,
    authors: Sequence[SignerKey],
    head: Head,
    policy: Policy,
    held: Vault | None,
) -> _Own:
    """state.db from the entries in public/: chains, draws, models, epochs, and the head."""
    empty = Head(0, EMPTY_ROOT, Checkpoint(log.name, 0, EMPTY_ROOT).sign(log).encode())
    first = authors[0].verifier.encode()
    state = State.create(folder / STATE_FILE, author=first, chain=os.urandom(16), head=empty, origin=log.name)
    try:
        names = {} if held is None else {row.model: row.name for row in held.submissions() if row.kind == MODEL}
        copy, found = TiledLog(DirectorySource(folder / PUBLIC_FOLDER)), _Own()
        tail: list[tuple[bytes, bytes]] = []
        base = head.size - head.size % WIDTH
        with state.db.transaction() as connection:
            refill, draws, digests = Refill(connection), dict[int, bytes](), set[bytes]()
            for index, leaf in enumerate(copy.entries(0, head.size, head.size)):
                if index >= base:
                    tail.append((leaf, hash_leaf(leaf)))
                entry = _own_entry(leaf, authors)
                if entry is None:
                    continue
                found.own += 1
                _take(refill, index, entry, names)
                if entry.generation is not None:
                    found.generations += 1
                    draws[entry.generation.draw] = entry.generation.commitment
                elif entry.model is not None:
                    digests.add(entry.model.manifest)
            submission = 0 if held is None else _last_logged(held, draws, digests)
            try:
                cosigned = policy.check(head.note).note
            except PolicyError:  # a mirror that was pushed to has the log's signature alone: the witnesses are asked
                cosigned = b""
            refill.finish(
                head,
                tail,
                author=refill.authors[-1] if refill.authors else first,
                chain=os.urandom(16),
                skip=SKIPPED_DRAWS,
                submission=submission,
                cosigned=cosigned,
            )
    finally:
        state.close()
    return found


def _own_entry(leaf: bytes, authors: Sequence[SignerKey]) -> Entry | None:
    """The entry in a leaf if one of these keys signed it; a log may hold anybody's."""
    try:
        entry = parse_entry(leaf)
        if entry.author not in {key.verifier for key in authors}:
            return None
        entry.envelope.verify(entry.author)
    except EvidenceError:
        return None
    return entry


def _take(refill: Refill, index: int, entry: Entry, names: Mapping[bytes, str]) -> None:
    header, generation, model = entry.header, entry.generation, entry.model
    time = (parse_time(header.time) - EPOCH) // timedelta(microseconds=1)
    chain = refill.take(header.author, header.chain, header.seq, parse_digest(header.prev), entry.leaf_hash, time)
    if generation is not None:
        refill.generation(chain, generation.draw, index)
    elif model is not None:
        refill.model(names.get(model.manifest, f"model-{model.manifest.hex()[:12]}"), model.manifest, index)
    elif isinstance(entry.statement, SeedEpochStatement):
        said = entry.statement.predicate
        refill.epoch(chain, said.first_draw, said.count, parse_digest(said.root), index)


def _last_logged(vault: Vault, draws: Mapping[int, bytes], models: set[bytes]) -> int:
    """The last submission of a backup that stands in the log: those before it were taken, or refused."""
    last = 0
    for row in vault.submissions():
        logged = row.kind == GENERATION and row.draw is not None and draws.get(row.draw) == row.commitment
        if logged or (row.kind == MODEL and row.model in models):
            last = max(last, row.id)
    return last


__all__ = ["Rebuilt", "rebuild"]
