"""The small private files of a ledger directory: log.toml, policy and authors, keys, witnesses, journal, models.

log.toml, policy.txt and authors.txt hold choices of people and no signature: what reads well and fits the keys stands.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from ...schemas.errors import EvidenceError, PlausibleError, SetupError
from ..config import CONFIG_FILE, LedgerConfig, WitnessConfig, ledger_path
from ..entries.authors import Authors
from ..entries.weights import MANIFEST_FILE, WEIGHTS_FILE, check_weights
from ..keys.authorkeys import FIRST_KEY, KEYS_FOLDER, REVOKED_FOLDER
from ..keys.keyfile import check_roles, read_key
from ..keys.logkeys import RETIRED_FOLDER
from ..layout import AUTHOR_KEY, AUTHORS_FILE, LOG_KEY, POLICY_FILE
from ..merkle.public import CHECKPOINT, CHECKPOINTS, PENDING, PUBLIC_FOLDER
from ..notes.checkpoint import Checkpoint
from ..notes.note import Note, SignerKey, VerifierKey
from ..notes.policy import Policy
from ..recorder.journal import Journal
from ..storage.disk import SQLITE_FAILED
from ..storage.state import ModelRow
from ..vault.sealing import Seal
from ..vault.vaultkey import VaultLocked
from ..witness import WITNESS_DDL, WITNESS_VERSION
from ..writing.registry import MODELS_FOLDER, RegisteredModel
from .databases import structure, version_of
from .entries import Chains
from .findings import Findings, Kind
from .heads import KnownHead, check_head
from .vault import GIVE_KEY

_RESTORE = "restore the file from a backup"
_NEW_WITNESS = "stop using this witness: make a new one with a new key, and change the policy"


def read_config(directory: Path, found: Findings) -> LedgerConfig | None:
    """log.toml, or None if it does not read; `SetupError` if there is none: then this is no ledger."""
    try:
        return LedgerConfig.read(directory)
    except SetupError as error:
        if not (directory / CONFIG_FILE).is_file():
            raise
        found.false(CONFIG_FILE, str(error), _RESTORE)
        return None


def read_policy(directory: Path, found: Findings) -> Policy | None:
    """policy.txt."""
    data = _read(directory / POLICY_FILE, found)
    if data is not None:
        with found.reading(POLICY_FILE, _RESTORE):
            return Policy.parse(data)
    return None


def retired_log_keys(directory: Path, found: Findings) -> list[VerifierKey]:
    """Keys that signed this log's heads before the one in use."""
    keys: list[VerifierKey] = []
    for path in sorted((directory / KEYS_FOLDER / RETIRED_FOLDER).glob("*.key")):
        key = _key(path, f"{KEYS_FOLDER}/{RETIRED_FOLDER}/{path.name}", found)
        if key is not None:
            keys.append(key.verifier)
    return keys


def check_people(
    directory: Path,
    config: LedgerConfig | None,
    policy: Policy | None,
    authors: Sequence[str],
    chains: Chains,
    found: Findings,
) -> None:
    """Keys are whole, serve one role each and are those that policy, authors and state.db name.

    `authors`: who signed for this directory, oldest first; the last one signs now.
    """
    data = _read(directory / AUTHORS_FILE, found)
    if data is not None:
        with found.reading(AUTHORS_FILE, _RESTORE):
            known = Authors.parse(data)
            for author in authors:
                if known.find(author) is None:
                    found.false(AUTHORS_FILE, f"it does not name the author of this ledger's chain, {author}", _RESTORE)
    roles = _author_keys(directory, config, authors, chains, found)
    files = config.log_keys if config is not None else (LOG_KEY,)
    for file in files:
        log_key = _key(ledger_path(directory, file), file, found)
        if log_key is None:
            continue
        roles.append(("log", log_key.verifier.public))
        if policy is not None and log_key.verifier not in [log.key for log in policy.logs]:
            found.false(file, "the policy does not name this log key", _RESTORE)
        if config is not None and log_key.name != config.origin:
            found.false(file, "it is not the key of log.toml's origin", _RESTORE)
        if len(files) > 1:
            _check_signed(directory, file, log_key, found)
    for witness in config.witnesses if config is not None else ():
        for file in witness.key_files:
            key = _key(ledger_path(directory, file), file, found)
            if key is None:
                continue
            roles.append((f"witness {key.name}", key.verifier.public))
            if key.name != witness.name:
                found.false(file, f"it is the key of {key.name}, not of {witness.name}", _RESTORE)
            elif policy is not None and key.verifier not in [known.key for known in policy.witnesses]:
                found.notes.append(f"the policy does not name the witness {key.name} with the key of {file}")
    with found.reading("keys/", _RESTORE):
        check_roles(roles)


def _check_signed(directory: Path, file: str, key: SignerKey, found: Findings) -> None:
    """While one log key follows another every head that is kept or served carries both signatures."""
    public = directory / PUBLIC_FOLDER
    heads = [public / CHECKPOINT, public / PENDING, *sorted((public / CHECKPOINTS).glob("[0-9]*"))]
    for path in heads:
        with contextlib.suppress(OSError, EvidenceError):  # missing and malformed heads are found elsewhere
            if not Note.parse(path.read_bytes()).known_signatures([key.verifier]):
                name = path.relative_to(public).as_posix()
                found.add(Kind.UNTRUSTED, name, f"it lacks the signature of {file}", "pd keys rotate-log: once more")


def _author_keys(
    directory: Path, config: LedgerConfig | None, authors: Sequence[str], chains: Chains, found: Findings
) -> list[tuple[str, bytes]]:
    """The author's private keys are those of the own chains or their successors; a revoked one is not in use."""
    roles: list[tuple[str, bytes]] = []
    here: set[str] = set()
    # the first key's file is missed by its name, as long as its chain is the one that goes on
    paths = {path.name: path for path in (directory / KEYS_FOLDER).glob("author*.key")}
    if len(authors) < 2:
        paths.setdefault(FIRST_KEY, directory / AUTHOR_KEY)
    for name, path in sorted(paths.items()):
        file = f"{KEYS_FOLDER}/{name}"
        key = _key(path, file, found)
        if key is None:
            continue
        vkey = key.verifier.encode()
        here.add(vkey)
        roles.append(("author", key.verifier.public))
        named = any(vkey in successors for successors in chains.history.successors.values())
        if (authors and vkey not in authors and not named and name == FIRST_KEY) or (
            config is not None and key.name != config.author
        ):
            found.false(file, "it is not the author's key of log.toml and state.db", _RESTORE)
        elif authors and vkey not in authors and not named:
            found.notes.append(f"{file} is a key that no entry names yet")
        elif vkey in chains.history.revoked:
            found.notes.append(f"{file} was revoked and can still sign here: move it to {KEYS_FOLDER}/{REVOKED_FOLDER}")
    if authors and authors[-1] not in here and len(authors) > 1:
        found.unread(KEYS_FOLDER, f"the private key of {authors[-1]}, which signs now, is missing", _RESTORE)
    return roles


def witness_heads(directory: Path, config: LedgerConfig, policy: Policy | None, found: Findings) -> list[KnownHead]:
    """The heads that this process's own witnesses keep; each is checked like a served one."""
    heads: list[KnownHead] = []
    for witness in config.witnesses:
        path = ledger_path(directory, witness.state)
        if structure(path, WITNESS_DDL, _NEW_WITNESS, found):
            try:
                heads += _witness(path, witness, config.origin, policy, found)
            except (*SQLITE_FAILED, EvidenceError, SetupError) as error:
                found.false(path.name, str(error), _NEW_WITNESS)
    return heads


def _witness(
    path: Path, witness: WitnessConfig, origin: str, policy: Policy | None, found: Findings
) -> list[KnownHead]:
    file = witness.state
    if version_of(path) != WITNESS_VERSION:
        found.false(file, f"it is not of version {WITNESS_VERSION}", _NEW_WITNESS)
    with contextlib.closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as db:
        own = db.execute("SELECT name, commits, commits_again FROM witness").fetchall()
        logs = db.execute("SELECT origin, keys, size, root, note FROM logs").fetchall()
        conflicts = db.execute("SELECT origin FROM conflicts").fetchall()
    if [name for name, _, _ in own] != [witness.name]:
        found.false(file, f"it is the state of the witness {', '.join(str(row[0]) for row in own)}", _NEW_WITNESS)
    for _, commits, again in own:
        if commits != again:
            found.false(file, f"it says it has made {commits} commits, and {again}", _NEW_WITNESS)
    for (name,) in conflicts:
        what = f"it keeps two heads of {name} that cannot both be true"
        found.false(file, what, "two histories of one log: keep every copy, tell the witnesses")
    heads: list[KnownHead] = []
    if origin not in [row[0] for row in logs]:
        watched = ", ".join(repr(row[0]) for row in logs) or "nothing"
        found.false(file, f"it watches {watched}, which is not this log", _NEW_WITNESS)
    for name, keys, size, root, note in logs:
        if name != origin:
            # one witness may watch several logs, this one's predecessor or successor among them
            continue
        if policy is not None and not set(keys.split("\n")) <= {log.key.encode() for log in policy.logs}:
            found.false(file, "it watches this log under a key that the policy does not name", _NEW_WITNESS)
        if note is None:
            claimed = Checkpoint(origin, size, root)
            claimed.require_empty_root()
            if size:
                found.false(file, f"it has cosigned size {size} and kept no note", _NEW_WITNESS)
            continue
        head = check_head(file, note, policy, found, quorum=False, remedy=_NEW_WITNESS)
        if head is None:
            continue
        heads.append(head)
        if (head.checkpoint.size, head.checkpoint.root) != (size, root):
            found.false(file, "its size and root are not those of the note it cosigned", _NEW_WITNESS)
    return heads


def check_journal(directory: Path, config: LedgerConfig, seal: Seal | None, found: Findings) -> None:
    """The spool: whole submissions only. `seal` opens what was sealed."""
    journal = Journal(ledger_path(directory, config.spool), lambda: seal)
    try:
        contents = journal.read()
    except VaultLocked as error:
        found.unread(config.spool, str(error), GIVE_KEY)
        return
    except SetupError as error:
        found.false(config.spool, str(error), "keep the file; what is whole in it can still be taken up")
        return
    if contents.submissions:
        found.notes.append(f"{len(contents.submissions)} generations wait in {config.spool} for the next open")
    if contents.torn:
        what = f"it ends in {contents.torn} bytes that are no whole generation"
        found.false(config.spool, what, "the next open sets them aside and takes up the whole ones before them")


def check_models(directory: Path, models: Sequence[ModelRow], found: Findings) -> None:
    """Manifests are those whose digests were logged, and weights are the manifests'."""
    for model in models:
        folder = directory / MODELS_FOLDER / model.name
        file = f"{MODELS_FOLDER}/{model.name}/{MANIFEST_FILE}"
        manifest = None
        try:
            manifest = RegisteredModel(model.name, model.digest, model.position, folder).manifest()
        except PlausibleError as error:
            kind = found.false if (folder / MANIFEST_FILE).is_file() else found.unread
            kind(file, str(error), "restore the model's folder: its entries cannot be replayed without it")
        weights = folder / WEIGHTS_FILE
        if manifest is not None and weights.is_file():
            with found.reading(f"{MODELS_FOLDER}/{model.name}/{WEIGHTS_FILE}", "restore the model's folder"):
                check_weights(weights, manifest)


def _key(path: Path, name: str, found: Findings) -> SignerKey | None:
    try:
        return read_key(path)
    except SetupError as error:
        try:
            SignerKey.parse(path.read_text(encoding="utf-8").strip())
        except (EvidenceError, UnicodeError):
            found.false(name, str(error), _RESTORE)
        except OSError:
            found.unread(name, str(error), _RESTORE)
        else:
            found.unread(name, str(error), "chmod 600 it")
        return None


def _read(path: Path, found: Findings) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError as error:
        found.unread(path.name, f"it cannot be read: {error.strerror}", _RESTORE)
        return None
