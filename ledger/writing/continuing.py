"""Closing a ledger's log and going on in a new directory, with the same author, policy and witnesses.

    1  everything recorded is accepted and witnessed
    2  log.toml of the old directory names the successor: from then on no process signs for it any more
    3  the new directory is made, all or nothing: a log key of its own, entry 0 accepted, nothing signed but size 0
    4  its first open signs the head that covers entry 0

After a kill between 2 and 4 the same call goes on: a closed log goes on only under the name it was closed with. The
witnesses of the old directory stay where they are and watch both logs: one state file each, which is never copied.
Models are registered again, since "registered before" is about one log's order. Source: docs/spec/succession.md.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from ...schemas.errors import EvidenceError, SetupError, UsageError
from ..config import CONFIG_FILE, LedgerConfig, WitnessConfig, ledger_path
from ..entries.entry import MAX_ENTRY_BYTES
from ..keys.authorkeys import AuthorKeys
from ..keys.keyfile import read_key, write_key
from ..layout import AUTHOR_KEY, AUTHORS_FILE, LOG_KEY, POLICY_FILE, read_directory, write_index_key
from ..ledger import Ledger
from ..merkle.public import CHECKPOINT, CHECKPOINTS, PUBLIC_FOLDER
from ..merkle.tree import EMPTY_ROOT, hash_leaf
from ..notes.checkpoint import Checkpoint
from ..notes.note import ED25519, SignerKey
from ..notes.policy import Policy
from ..storage.disk import staged_folder, storage, write_file
from ..storage.state import STATE_FILE, Head, State
from ..vault.vault import VAULT_FILE, Vault
from ..vault.vaultkey import VaultKey
from ..witness import Witness
from .receipt import WITNESSED, NotYet
from .succession import read_predecessor


def continue_log(old: Path, new: Path, *, origin: str, vault_key: VaultKey | None = None) -> Ledger:
    """Close the log of the ledger `old` and open a new one in `new` under the name `origin`, carrying its last head.

    The old ledger stays readable, and its records stay in its vault. `UsageError` if it was closed under another name
    or `new` holds something, `SetupError` while another process has it open or its last head does not meet the quorum.
    """
    if new.exists() and (not new.is_dir() or any(new.iterdir())):
        raise UsageError(f"{new} exists and is not empty: choose a new directory")
    contents = read_directory(old)
    if origin == contents.config.origin:
        raise UsageError(f"the new log needs a name of its own, not {origin}")
    try:
        log_key = SignerKey.generate(origin, ED25519)
    except EvidenceError as error:
        raise UsageError(str(error)) from None
    carried = close_log(old, origin, vault_key=vault_key)
    if read_predecessor(carried, origin) is None:
        raise SetupError(f"{old} has no entries: there is nothing to continue")
    with staged_folder(new, f"making {new}") as temporary:
        _fill(temporary, new, old, log_key, carried, vault_key)
    ledger = Ledger.open(new, vault_key=vault_key)
    with contextlib.suppress(NotYet):  # witnesses elsewhere must be told of the new log before they cosign it
        ledger.flush()
    return ledger


def close_log(directory: Path, successor: str, *, vault_key: VaultKey | None = None) -> bytes:
    """Sign no more for this log: it continues as `successor`. Its last witnessed checkpoint, as served.

    Again with the same name: the same checkpoint.
    """
    known = LedgerConfig.read(directory).successor
    if known and known != successor:
        raise UsageError(f"{directory} was closed already: it continues as {known}")
    if not known:
        with Ledger.open(directory, second_writer="error", vault_key=vault_key) as ledger:
            ledger.flush(WITNESSED)
            _name_successor(directory, successor)
    state = State(directory / STATE_FILE, readonly=True)
    try:
        accepted, (cosigned, note) = state.accepted, state.cosigned
    finally:
        state.close()
    served = directory / PUBLIC_FOLDER / CHECKPOINT
    if cosigned != accepted or not served.is_file():
        raise SetupError(f"{directory}: not every accepted entry is under a head that met the quorum")
    if len(note) > MAX_ENTRY_BYTES:
        raise SetupError(f"the last checkpoint has {len(note)} bytes, an entry at most {MAX_ENTRY_BYTES}")
    return note


def _name_successor(directory: Path, successor: str) -> None:
    path = directory / CONFIG_FILE
    config = LedgerConfig.read(directory)
    text = path.read_text(encoding="utf-8")
    head, mark, tail = text.partition(f"origin = {_toml(config.origin)}\n")
    changed = f"{head}{mark}successor = {_toml(successor)}\n{tail}"
    if not mark or LedgerConfig.parse(changed, str(path)).successor != successor:
        raise SetupError(
            f"{path} does not take the line `successor = ...`: write it below origin by hand, and try again"
        )
    with storage(f"writing {path}"):
        write_file(path, changed.encode("utf-8"))


def _toml(text: str) -> str:
    config = LedgerConfig(text, text)
    return next(line for line in config.to_toml().splitlines() if line.startswith("origin = ")).removeprefix(
        "origin = "
    )


def _fill(folder: Path, new: Path, old: Path, log: SignerKey, carried: bytes, vault_key: VaultKey | None) -> None:
    contents = read_directory(old)
    state = State(old / STATE_FILE, readonly=True)
    try:
        author = AuthorKeys(old, contents.config.author).require(state.chain.author)
    finally:
        state.close()
    (folder / PUBLIC_FOLDER / CHECKPOINTS).mkdir(parents=True)
    (folder / "keys").mkdir(mode=0o700)
    write_key(folder / AUTHOR_KEY, author)
    write_key(folder / LOG_KEY, log)
    witnesses: list[WitnessConfig] = []
    for item in contents.config.witnesses:
        files = [ledger_path(old, file) for file in item.key_files]
        keys = tuple(read_key(file) for file in files)
        with Witness(item.name, keys, ledger_path(old, item.state)) as witness:
            witness.add_log(log.name, [log.verifier])
        key, *more = (os.path.relpath(file.resolve(), new.resolve()) for file in files)
        place = os.path.relpath(ledger_path(old, item.state).resolve(), new.resolve())
        witnesses.append(WitnessConfig(item.name, key, place, tuple(more)))
    follow = contents.config.index_follow
    if follow:
        write_index_key(folder, log.name)
    config = LedgerConfig(author=author.name, origin=log.name, witnesses=tuple(witnesses), index_follow=follow)
    write_file(folder / CONFIG_FILE, config.to_toml().encode("utf-8"))
    write_file(folder / POLICY_FILE, _policy(contents.policy, log))
    write_file(folder / AUTHORS_FILE, contents.authors.source)
    note = Checkpoint(log.name, 0, EMPTY_ROOT).sign(log).encode()
    made = State.create(
        folder / STATE_FILE,
        author=author.verifier.encode(),
        chain=os.urandom(16),
        head=Head(0, EMPTY_ROOT, note),
        origin=log.name,
    )
    try:
        made.accept_first(carried, hash_leaf(carried))
    finally:
        made.close()
    Vault.create(folder / VAULT_FILE, key=vault_key).close()


def _policy(policy: Policy, log: SignerKey) -> bytes:
    """The old policy with one line more: it goes on naming the old log, whose entries still count."""
    return f"log {log.verifier}\n".encode() + policy.source


__all__ = ["close_log", "continue_log"]
