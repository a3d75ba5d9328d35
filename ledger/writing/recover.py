"""When `state.db` is older than what was signed: noticing it, and going on from a copy of the log.

A directory that was restored from a backup does not know the entries signed since. Signing on from it would make two
histories of one log, so the sequencer that finds a newer head (in `public/`, or cosigned by a witness) is *held*: it
gives no entry a place and signs nothing; what is recorded waits durably in the vault.

`recover` takes the missing entries from a copy of the log, a mirror or a newer `public/`, where every one of them is
checked against a head this log signed. It trusts the copy for nothing and signs nothing itself. Whoever holds the
directory and no copy cannot go on with this log and starts a new one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from ...schemas.errors import EvidenceError, PeerError, SetupError
from ...schemas.text import parse_time
from ..config import ledger_path
from ..entries.digests import model_digest
from ..entries.entry import Entry, parse_entry
from ..entries.statements import EPOCH
from ..entries.weights import MANIFEST_FILE
from ..keys.keyfile import read_key
from ..layout import read_directory
from ..merkle.public import CHECKPOINT, PENDING, PUBLIC_FOLDER
from ..merkle.reader import DirectorySource, Source, TiledLog
from ..merkle.tree import hash_leaf
from ..notes.checkpoint import Checkpoint, open_checkpoint
from ..notes.note import VerifierKey
from ..storage.disk import storage
from ..storage.lock import LOCK_FILE, SequencerLock
from ..storage.state import STATE_FILE, Adopted, Head, State
from ..vault.vault import GENERATION, MODEL, VAULT_FILE, Submission, Vault
from ..vault.vaultkey import VaultKey
from .registry import MODELS_FOLDER, read_manifest

_NEWER = "no ledger is recovered over a change of its author's keys or seed epochs: restore a backup made after it"

Progress = Callable[[int, int], None]
"""(entries read, entries to read)."""


@dataclass(frozen=True, slots=True)
class Recovered:
    """What `recover` did: from which size to which, entries whose record is not here, submissions that wait now.

    `renumbered` of those that wait had a place before that no head had signed: it is another's, they get a new one.
    """

    old_size: int
    size: int
    without_record: int
    waiting: int
    renumbered: int


def _silent(_done: int, _total: int) -> None: ...


def recover(
    path: Path | str,
    source: Source | None = None,
    *,
    progress: Progress = _silent,
    vault_key: VaultKey | None = None,
) -> Recovered:
    """Bring `state.db` to the newest head that `source` (default: the directory's own `public/`) serves.

    The ledger must be closed. Nothing is changed unless the copy continues the head `state.db` knows and every missing
    entry lies under a head with this log's signature. Files are written by the next `Ledger.open`, which also asks the
    witnesses again. `vault_key` opens an encrypted vault. Raises `EvidenceError` for a copy that is another history,
    `SetupError` if it is not newer.
    """
    folder = Path(path)
    config = read_directory(folder).config
    log_keys = [read_key(ledger_path(folder, file)).verifier for file in config.log_keys]
    lock = SequencerLock(folder / LOCK_FILE)
    if not lock.acquire():
        raise SetupError(f"another process writes to {folder}: close it first")
    try:
        with contextlib.ExitStack() as opened:
            state = State(folder / STATE_FILE)
            opened.callback(state.close)
            vault = Vault(folder / VAULT_FILE, key=vault_key)
            opened.callback(vault.close)
            copy = TiledLog(source if source is not None else DirectorySource(folder / PUBLIC_FOLDER))
            return _recover(folder, state, vault, copy, log_keys, progress)
    finally:
        lock.release()


def _recover(
    folder: Path, state: State, vault: Vault, copy: TiledLog, log_keys: Sequence[VerifierKey], progress: Progress
) -> Recovered:
    head = state.head
    newest = _newest_head(copy, log_keys)
    if newest.size <= head.size:
        raise SetupError(
            f"the copy serves a head of size {newest.size}, this ledger has {head.size}: there is nothing to take from "
            "it; name a newer copy (a mirror, or a newer public/)"
        )
    if head.size and copy.root(head.size) != head.root:
        raise EvidenceError(
            f"the copy is another history: its first {head.size} entries do not give the root this ledger signed; "
            "nothing was changed"
        )
    adopted, commitments = _read(folder, state, copy, newest, progress)
    below = {draw for _, draw, position in state.draws() if position < head.size}
    unsigned = {draw for _, draw, position in state.draws() if position >= head.size}
    logged = {item.draw for item in adopted if item.draw is not None}
    models = {(row.name, row.digest) for row in state.models() if row.position < head.size}
    models |= {item.model for item in adopted if item.model is not None}
    # whatever of the vault is not in the log is taken up again, from the first such submission on
    taken = state.submission
    unlogged = [s.id for s in _submissions(vault) if not _is_logged(s, taken, below | logged, models)]
    state.adopt(head, newest, adopted, min(unlogged, default=vault.last() + 1) - 1)
    missing = sum(not vault.has(commitment) for commitment in commitments)
    return Recovered(head.size, newest.size, missing, len(unlogged), len(unsigned - logged))


def _newest_head(copy: TiledLog, log_keys: Sequence[VerifierKey]) -> Head:
    """The largest head with this log's signature that the copy serves."""
    found: list[Head] = []
    for path in (CHECKPOINT, PENDING):
        try:
            note = copy.checkpoint_bytes(path)
            checkpoint: Checkpoint = open_checkpoint(note, log_keys)[0]
        except PeerError:
            continue
        found.append(Head(checkpoint.size, checkpoint.root, note))
    if not found:
        raise SetupError("the copy serves no checkpoint: name a public/ folder, a ledger or the address of a mirror")
    return max(found, key=lambda head: head.size)


def _read(
    folder: Path, state: State, copy: TiledLog, newest: Head, progress: Progress
) -> tuple[list[Adopted], list[bytes]]:
    """The missing entries, each under the newest head, and the commitments of the generations among them."""
    start = state.head.size
    own = {(chain.head.author, chain.head.chain.hex()): chain.id for chain in state.chains()}
    for leaf, _ in state.entries(start, state.accepted):
        _require_plain(parse_entry(leaf), "an entry that was accepted and not signed")
    range_ = copy.right_edge(start)
    names = _model_names(folder)
    adopted: list[Adopted] = []
    commitments: list[bytes] = []
    for index, leaf in enumerate(copy.entries(start, newest.size, newest.size), start):
        leaf_hash = hash_leaf(leaf)
        range_.append(leaf_hash)
        entry = parse_entry(leaf)
        header, generation = entry.header, entry.generation
        number = own.get((header.author, header.chain))
        if number is None:
            raise SetupError(f"entry {index} of the copy is of a chain that state.db does not know; {_NEWER}")
        _require_plain(entry, f"entry {index} of the copy")
        if generation is not None:
            commitments.append(generation.commitment)
        model = None if entry.model is None else names.get(entry.model.manifest)
        time = (parse_time(header.time) - EPOCH) // timedelta(microseconds=1)
        draw = None if generation is None else generation.draw
        adopted.append(Adopted(number, leaf, leaf_hash, header.seq, time, draw, model))
        progress(index + 1 - start, newest.size - start)
    if range_.root() != newest.root:
        raise EvidenceError("the entries of the copy do not give the root its head signs; nothing was changed")
    return adopted, commitments


def _require_plain(entry: Entry, what: str) -> None:
    """What changed keys or epochs since the backup is not taken over: its private half is not in it either."""
    if entry.generation is None and entry.model is None:
        raise SetupError(f"{what} is of the kind {entry.kind}; {_NEWER}")


def _model_names(folder: Path) -> dict[bytes, tuple[str, bytes]]:
    """digest -> (name, digest) of the model folders that lie here: an entry has the digest only."""
    names: dict[bytes, tuple[str, bytes]] = {}
    with storage(f"reading {folder / MODELS_FOLDER}"):
        folders = sorted((folder / MODELS_FOLDER).glob("[!.]*"))
    for path in folders:
        with contextlib.suppress(SetupError, EvidenceError):
            digest = model_digest(read_manifest(path / MANIFEST_FILE))
            names[digest] = (path.name, digest)
    return names


def _submissions(vault: Vault) -> Iterator[Submission]:
    last = 0
    while rows := vault.after(last, 1000):
        yield from rows
        last = rows[-1].id


def _is_logged(submission: Submission, taken: int, draws: set[int], models: set[tuple[str, bytes]]) -> bool:
    if submission.kind == MODEL:
        return (submission.name, submission.model) in models
    return submission.draw in draws if submission.kind == GENERATION else submission.id <= taken
