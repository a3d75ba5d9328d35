"""The order of the checks: heads, the tree, entries and chains, then what is private.

Public files are read before state.db, state.db before the vault: a ledger that another process appends to meanwhile
only ever knows more in what is read later. Nothing is written.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from ..absence.note import INDEX_NOTE, IndexPolicy
from ..merkle.public import CHECKPOINT, PENDING, PUBLIC_FOLDER
from ..merkle.reader import DirectorySource, Source, TiledLog
from ..merkle.tiles import Tile
from ..merkle.tree import EMPTY_ROOT
from ..notes.policy import Policy
from ..storage.state import State
from ..vault.vaultkey import VaultKey
from ..writing.succession import check_predecessor, read_predecessor
from . import cross
from .absence import SIGN_AGAIN, IndexNote, check_absence, open_absence, read_index_note
from .edge import Edge
from .entries import Chains, Rows
from .findings import KEPT, RESTORE, Findings, Progress, Report
from .heads import KnownHead, Roots, read_heads, widest
from .lookup import check_lookup
from .private import (
    check_journal,
    check_models,
    check_people,
    read_config,
    read_policy,
    retired_log_keys,
    witness_heads,
)
from .state import (
    Snapshot,
    check_accepted,
    check_chain,
    check_counters,
    check_epochs,
    check_keys,
    check_prev,
    compare_group,
    read_state,
    state_heads,
)
from .vault import check_vault
from .walk import Files, Walk, beyond

_ANCHORS = 8
"""How many heads are tried before the tree is held against the widest one, whatever it is worth."""


def _silent(_stage: str, _done: int, _total: int) -> None: ...


def check_log(
    source: Source,
    *,
    policy: Policy | None = None,
    index_policy: IndexPolicy | None = None,
    cross_check: bool = False,
    progress: Progress = _silent,
) -> Report:
    """Check a public log, near (`DirectorySource` of its public folder) or far: everything that can be re-derived.

    Without a policy signatures of checkpoints are skipped, without an index policy those of the index note, and the
    report says so. Never raises for what it finds.
    """
    found = Findings()
    folder = source.folder if isinstance(source, DirectorySource) else None
    note = read_index_note(source, index_policy, found)
    heads = read_heads(source, folder, policy, found)
    names = {head.file for head in heads}
    if names == {PENDING}:
        found.notes.append("no checkpoint has met the quorum yet: held against the log's own head")
    elif CHECKPOINT not in names:
        found.unread(CHECKPOINT, "the log serves no checkpoint", RESTORE)
    with Rows() as rows:
        size, root, chains = _public(source, heads, rows, note, None, None, found, cross_check, progress, policy)
        check_absence(note, None, TiledLog(source), rows, (size, root), chains.lost, found)
    found.skipped.append(("state, vault, lookup index", "they are private; this is a log as it is served"))
    origins = {head.checkpoint.origin for head in (*heads, *([note.known] if note is not None else []))}
    if len(origins) > 1:
        found.false(CHECKPOINT, f"the heads are of several logs: {', '.join(sorted(origins))}", RESTORE)
    return found.report(min(origins, default=None), size, root)


def check_ledger(
    directory: Path,
    *,
    policy: Policy | None = None,
    index_policy: IndexPolicy | None = None,
    cross_check: bool = False,
    progress: Progress = _silent,
    vault_key: VaultKey | None = None,
) -> Report:
    """Check a ledger directory, public and private half; `SetupError` if it is none. `policy`: not the directory's.

    `vault_key` opens an encrypted vault (None: what the environment names); without it a finding says that its records
    were not read, and the rest is checked.
    """
    found = Findings()
    config = read_config(directory, found)
    policy = policy or read_policy(directory, found)
    found.retired = retired_log_keys(directory, found)
    folder = directory / PUBLIC_FOLDER
    if not folder.is_dir():
        found.unread(PUBLIC_FOLDER, "the folder is missing", "restore public/ from a mirror or backup")
    source = DirectorySource(folder)
    note = read_index_note(source, index_policy, found)
    public = read_heads(source, folder, policy, found)
    if config is not None:
        public += witness_heads(directory, config, policy, found)
    with contextlib.ExitStack() as stack:
        rows = stack.enter_context(Rows())
        stored = stack.enter_context(open_absence(directory, found))
        opened = read_state(directory, found)
        state, snapshot = opened or (None, None)
        heads = list(public)
        if state is not None and snapshot is not None:
            stack.callback(state.close)
            heads += state_heads(snapshot, policy, found)
            check_counters(snapshot, config.origin if config else snapshot.origin, public, found)
            if snapshot.cosigned[1] and not any(head.file == CHECKPOINT for head in public):
                found.unread(CHECKPOINT, "it is missing", "open the ledger once: it is written anew from state.db")
        size, root, chains = _public(source, heads, rows, note, state, snapshot, found, cross_check, progress, policy)
        if state is not None and snapshot is not None:
            with found.reading("state.db", "restore state.db from a backup"):
                check_chain(state, snapshot, rows, chains.lost, found)
            for own in snapshot.chains:
                last = chains.last(own.head.author, own.head.chain.hex())
                if last is not None:
                    check_prev(own, *last, found)
            check_keys(snapshot, chains.history, chains.lost, found)
            check_epochs(snapshot, rows, chains.epochs, chains.lost, found)
            found.done.append("state.db against the entries")
        checked = check_vault(directory, snapshot, rows, chains.lost, found, progress, vault_key)
        if checked.records:
            found.done.append("every record in vault.db against its entry's commitment")
        check_lookup(directory, TiledLog(source), rows, (size, root), chains.lost, found)
        found.done.append("lookup.db against the entries")
        check_absence(note, stored, TiledLog(source), rows, (size, root), chains.lost, found)
        if note is not None and config is not None and note.head.origin != config.origin:
            found.false(INDEX_NOTE, f"it is of the log {note.head.origin}", SIGN_AGAIN)
        check_people(
            directory, config, policy, [own.head.author for own in snapshot.chains] if snapshot else [], chains, found
        )
        if config is not None:
            check_journal(directory, config, checked.seal, found)
        if snapshot is not None:
            check_models(directory, snapshot.models, found)
        found.done.append("keys, witnesses, journal, manifests and weights of the registered models")
    return found.report(config.origin if config else None, size, root)


def _public(
    source: Source,
    heads: Sequence[KnownHead],
    rows: Rows,
    note: IndexNote | None,
    state: State | None,
    snapshot: Snapshot | None,
    found: Findings,
    cross_check: bool,
    progress: Progress,
    policy: Policy | None,
) -> tuple[int, bytes, Chains]:
    """Tree, entries and chains; (size, root) of the head they were held against, and the chains."""
    anchor = _anchor(source, heads)
    size, root = (anchor.checkpoint.size, anchor.checkpoint.root) if anchor else (0, EMPTY_ROOT)
    walk = Walk(source, size, root, found)
    # the index note's tree is one more history to agree with; nothing is held against it
    roots = Roots([*heads, *([note.known] if note is not None else [])], found)
    chains = Chains(rows, found)
    merkly = cross.load() if cross_check else None
    other = cross.CrossCheck(merkly) if merkly is not None else None
    whole = True
    for group in walk.groups():
        roots.pass_by(group.base, group.hashes, group.whole)
        chains.pass_by(group)
        if state is not None and snapshot is not None:
            compare_group(state, snapshot, group, found)
        known = [entry for entry in group.entries if entry is not None]
        whole &= len(known) == group.width
        if other is not None and whole:
            other.pass_by(known)
        progress("entries", group.base + group.width, size)
    roots.finish(size)
    if anchor is not None and not walk.vouched and walk.root is not None and walk.root != root:
        what = f"neither the tiles nor the entries give the root that it signs for size {size}"
        found.false(anchor.file, what, "restore public/ from a mirror or a backup")
    if state is not None and snapshot is not None:
        check_accepted(state, snapshot, size, chains, rows, found)
    chains.finish()
    if isinstance(source, DirectorySource):
        beyond(source.folder, size, found)
    found.done.append(
        f"every tile and bundle of {size} entries under the root of {anchor.file if anchor else 'no head'}"
    )
    found.done.append("the root of every head, re-derived from the entries")
    found.done.append("form, signature and chain of every entry; draws")
    for ignored in chains.history.ignored[:KEPT]:
        found.notes.append(f"entry {ignored.index} says nothing about keys: {ignored.reason}")
    for vkey, index in chains.history.revoked.items():
        found.notes.append(f"{vkey} counts no more from entry {index} on")
    if anchor is not None and chains.first is not None:
        _predecessor(chains, anchor.checkpoint.origin, policy, found)
    if chains.strangers:
        found.notes.append(f"{chains.strangers} leaves are no entries of this format; anyone may log anything")
    _cross(other, cross_check, whole, root, anchor, found)
    return size, root, chains


def _predecessor(chains: Chains, origin: str, policy: Policy | None, found: Findings) -> None:
    """What entry 0 carries of a log that this one continues."""
    carried = read_predecessor(chains.first or b"", origin)
    if carried is None:
        return
    chains.strangers -= 1
    file = Tile(None, 0, min(256, chains.read)).path
    with found.reading(file, "the log carries a checkpoint that does not count: keep it, and ask who made it", 0):
        if policy is not None and check_predecessor(carried, policy) is None:
            found.notes.append(f"the policy does not name {carried.origin}, which this log continues: not checked")
    found.notes.append(f"entry 0: it continues {carried.origin}, which was closed with {carried.size} entries")


def _cross(
    other: cross.CrossCheck | None, wanted: bool, whole: bool, root: bytes, anchor: KnownHead | None, found: Findings
) -> None:
    if not wanted:
        return
    if other is None:
        found.skipped.append(("cross-check", "merkly is not installed: pip install --no-deps merkly pycryptodome"))
    elif not whole:
        found.skipped.append(("cross-check", "entries are missing or false"))
    elif other.root() != root:
        what = "merkly gets another root from the same entries"
        found.false(anchor.file if anchor else CHECKPOINT, what, "report this with the log: one of the two is wrong")
    else:
        found.done.append("the root once more, by merkly")


def _anchor(source: Source, heads: Sequence[KnownHead]) -> KnownHead | None:
    """The head that the tree is held against: the widest signed one that the files lead to, else the widest."""
    candidates: dict[tuple[int, bytes], KnownHead] = {}
    for head in widest(heads):
        candidates.setdefault((head.checkpoint.size, head.checkpoint.root), head)
    for head in list(candidates.values())[:_ANCHORS]:
        # what is wrong with the files is found in the pass itself
        if Edge.resolve(Files(source, Findings()), head.checkpoint.size, head.checkpoint.root).vouched:
            return head
    return next(iter(candidates.values()), None)
