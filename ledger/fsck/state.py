"""state.db against the public files: the head, the chain, the entries it still keeps, draws and models.

Returns what later checks need of it. A process may be appending meanwhile: everything is read in one snapshot.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

from ...schemas.errors import EvidenceError, SetupError
from ...schemas.text import format_time
from ..entries.statements import EPOCH
from ..keys.keyhistory import KeyHistory
from ..merkle.tree import hash_leaf
from ..notes.policy import Policy
from ..seeds.epochs import EpochIndex
from ..storage.lookup import row_of
from ..storage.pieces import PieceDamaged, Row
from ..storage.state import STATE_DDL, STATE_FILE, EpochRow, Head, ModelRow, OwnChain, State
from .databases import structure, version_of
from .entries import Chains, Rows
from .findings import RESTORE_STATE, Findings
from .heads import KnownHead, check_head
from .walk import Group

_BATCH = 256


@dataclass(frozen=True, slots=True)
class Snapshot:
    """state.db at one moment. `kept` is the first entry it holds itself; entries from there to `accepted` follow."""

    origin: str
    head: Head
    cosigned: tuple[int, bytes]
    synced: int
    accepted: int
    submission: int
    chains: Sequence[OwnChain]
    reserved: int
    models: Sequence[ModelRow]
    epochs: Sequence[EpochRow]
    kept: int

    @property
    def author(self) -> str:
        """The author whose chain goes on."""
        return self.chains[-1].head.author


def read_state(directory: Path, found: Findings) -> tuple[State, Snapshot] | None:
    """An open state.db inside a snapshot, and what stands in it; None if that cannot be read."""
    path = directory / STATE_FILE
    if not structure(path, STATE_DDL, RESTORE_STATE, found):
        return None
    state: State | None = None
    try:
        if version_of(path) < 1:
            found.false(STATE_FILE, "it says that it has no version", RESTORE_STATE)
        state = State(path, readonly=True)
        state.db.command("BEGIN")
        snapshot = Snapshot(
            state.origin, state.head, state.cosigned, state.synced_size, state.accepted, state.submission,
            state.chains(), state.reserved_draws, state.models(),
            state.epochs(), state.kept()[0],
        )  # fmt: skip
    except SetupError as error:
        found.false(STATE_FILE, str(error), RESTORE_STATE)
        if state is not None:
            state.close()
        return None
    return state, snapshot


def state_heads(snapshot: Snapshot, policy: Policy | None, found: Findings) -> list[KnownHead]:
    """The heads that state.db keeps, their notes checked."""
    heads: list[KnownHead] = []
    head = check_head(STATE_FILE, snapshot.head.note, policy, found, quorum=False, remedy=RESTORE_STATE)
    if head is not None:
        heads.append(head)
        if (head.checkpoint.size, head.checkpoint.root) != (snapshot.head.size, snapshot.head.root):
            found.false(STATE_FILE, "its size and root are not those of its signed note", RESTORE_STATE)
    size, note = snapshot.cosigned
    if note:
        cosigned = check_head(STATE_FILE, note, policy, found, quorum=True, remedy=RESTORE_STATE)
        if cosigned is not None:
            heads.append(cosigned)
            if cosigned.checkpoint.size != size:
                found.false(STATE_FILE, "cosigned_size is not that of the cosigned note", RESTORE_STATE)
    elif size:
        found.false(STATE_FILE, f"cosigned_size is {size} without a note", RESTORE_STATE)
    return heads


def check_counters(snapshot: Snapshot, origin: str, public: Sequence[KnownHead], found: Findings) -> None:
    """What must hold between the numbers of state.db, and between them and the served heads."""
    s = snapshot
    order = (s.cosigned[0], s.head.size, s.accepted)
    if list(order) != sorted(order) or not 0 <= s.synced <= s.head.size:
        what = f"cosigned {order[0]}, signed {order[1]}, accepted {order[2]}, synced {s.synced} cannot all be"
        found.false(STATE_FILE, what, RESTORE_STATE)
    elif s.kept != min(s.synced // 256 * 256, s.accepted):
        what = f"entries are kept from {s.kept} on, files are flushed up to {s.synced} only"
        found.false(STATE_FILE, what, RESTORE_STATE)
    if s.synced < s.head.size:
        found.notes.append(
            f"state.db: files are flushed up to entry {s.synced} of {s.head.size}; the next start goes on"
        )
    if s.origin != origin:
        found.false(STATE_FILE, f"its log is {s.origin!r}, log.toml's {origin!r}", RESTORE_STATE)
    for head in public:
        if head.signed and head.checkpoint.size > s.head.size:
            what = f"{head.file} has size {head.checkpoint.size} and a good signature, state.db {s.head.size} entries"
            found.false(STATE_FILE, what, "it was restored from a backup: signing would fork the log, do not open it")


def compare_group(state: State, snapshot: Snapshot, group: Group, found: Findings) -> None:
    """The entries of a group that state.db still keeps are those of the log."""
    first, end = max(group.base, snapshot.kept), group.base + group.width
    if first >= end:
        return
    with found.reading(STATE_FILE, RESTORE_STATE):
        for index, (leaf, value) in enumerate(_kept(state, first, end), first):
            if hash_leaf(leaf) != value:
                found.false(STATE_FILE, "the kept entry does not have its own hash", RESTORE_STATE, index)
            elif group.hashes is not None and group.hashes[index - group.base] != value:
                found.false(STATE_FILE, "the kept entry is not the log's", RESTORE_STATE, index)


def _kept(state: State, first: int, end: int) -> list[Row]:
    try:
        return state.entries(first, end)
    except PieceDamaged as error:
        raise EvidenceError(str(error)) from None


def check_accepted(state: State, snapshot: Snapshot, size: int, chains: Chains, rows: Rows, found: Findings) -> None:
    """Accepted entries above the signed head: their hashes, form, signatures and chains."""
    for first in range(size, snapshot.accepted, _BATCH):
        with found.reading(STATE_FILE, RESTORE_STATE):
            batch = _kept(state, first, min(first + _BATCH, snapshot.accepted))
            rows.add(row_of(index, leaf) for index, (leaf, _) in enumerate(batch, first))
            for index, (leaf, value) in enumerate(batch, first):
                chains.entry(index, leaf, STATE_FILE)
                if hash_leaf(leaf) != value:
                    found.false(STATE_FILE, "the accepted entry does not have its own hash", RESTORE_STATE, index)


def check_chain(state: State, snapshot: Snapshot, rows: Rows, lost: int, found: Findings) -> None:
    """The own chains' counters, their draws and the models against the entries."""
    for number, own in enumerate(snapshot.chains):
        _check_counters(own, rows, lost, found)
        if own.end_draw < own.first_draw:
            what = f"chain {number + 1} has draws up to {own.end_draw}, the one before it up to {own.first_draw}"
            found.false(STATE_FILE, what, RESTORE_STATE)
    _check_draws(state, snapshot, rows, lost, found)
    for model in snapshot.models:
        row = rows.one("SELECT kind, model FROM entry WHERE id = ?", (model.position,))
        if row is None and lost:
            continue
        if row is None or not row[0].endswith(":model:v1") or row[1] != model.digest.hex():
            what = f"model {model.name!r} is said to be registered there with digest {model.digest.hex()}"
            found.false(STATE_FILE, what, RESTORE_STATE, model.position)


def check_epochs(snapshot: Snapshot, rows: Rows, index: EpochIndex, lost: int, found: Findings) -> None:
    """The epochs of state.db are those of the own chains' entries, and none gave out a draw twice or too many."""
    chains = {own.id: own.head for own in snapshot.chains}
    published = {entry.index: entry for entry in index.entries.values()}
    for epoch in snapshot.epochs:
        entry, head = published.get(epoch.position), chains.get(epoch.chain)
        said = (epoch.first_draw, epoch.count, epoch.root)
        if entry is None and lost:
            continue
        if (
            entry is None
            or head is None
            or (entry.first_draw, entry.count, entry.root) != said
            or (entry.author, entry.chain) != (head.author, head.chain.hex())
        ):
            what = "a seed epoch is said to be published there that is not"
            found.false(STATE_FILE, what, RESTORE_STATE, epoch.position)
            continue
        used = rows.one(
            "SELECT max(draw) FROM entry WHERE author = ? AND chain = ? AND draw >= ? AND draw < ?",
            (entry.author, entry.chain, epoch.first_draw, epoch.first_draw + epoch.count),
        )[0]
        if not 0 <= epoch.taken <= epoch.count or (used is not None and used >= epoch.first_draw + epoch.taken):
            what = f"of its epoch {epoch.taken} of {epoch.count} draws are said to be given out; more were used"
            found.false(STATE_FILE, what, RESTORE_STATE, epoch.position)


def check_keys(snapshot: Snapshot, history: KeyHistory, lost: int, found: Findings) -> None:
    """Each own chain after the first is signed by a key that the one before it named, or by the same (rebuild.py)."""
    for before, after in pairwise(snapshot.chains):
        named = {before.head.author, *history.successors.get(before.head.author, {})}
        if after.head.author not in named and not lost:
            what = f"it signs with {after.head.author}, which no entry of {before.head.author} names"
            found.false(STATE_FILE, what, RESTORE_STATE)


def _check_counters(own_chain: OwnChain, rows: Rows, lost: int, found: Findings) -> None:
    chain = own_chain.head
    own = (chain.author, chain.chain.hex())
    last = rows.one("SELECT seq, time, id FROM entry WHERE author = ? AND chain = ? ORDER BY id DESC LIMIT 1", own)
    if last is None:
        if chain.seq and not lost:
            found.false(STATE_FILE, f"its chain {own[1]} has {chain.seq} entries, the log none of it", RESTORE_STATE)
        elif not chain.seq and (chain.prev != bytes(32) or (chain.time and own_chain.id == 1)):
            found.false(STATE_FILE, "its chain is empty and yet has a predecessor or a time", RESTORE_STATE)
    else:
        seq, time, index = last
        said = (chain.seq, _time(chain.time))
        if said != (seq + 1, time) and not lost:
            what = f"its chain goes on at seq {said[0]} after {said[1]}; the log's last entry of it is {seq} at {time}"
            found.false(STATE_FILE, what, RESTORE_STATE, index)


def check_prev(chain: OwnChain, index: int, leaf_hash: bytes, found: Findings) -> None:
    """`prev` is the leaf hash of the own chain's last entry, where that was read."""
    if chain.head.prev != leaf_hash:
        found.false(STATE_FILE, "its chain's prev is not the hash of the chain's last entry", RESTORE_STATE, index)


def _check_draws(state: State, snapshot: Snapshot, rows: Rows, lost: int, found: Findings) -> None:
    count = top = 0
    chains = {chain.id: chain for chain in snapshot.chains}
    for number, draw, position in state.draws():
        count, top = count + 1, max(top, draw)
        row = rows.one("SELECT draw, author, chain FROM entry WHERE id = ?", (position,))
        own = chains.get(number)
        wanted = None if own is None else (draw, own.head.author, own.head.chain.hex())
        if (row is None and not lost) or (row is not None and row != wanted):
            what = f"draw {draw} is said to be that of an entry which has another"
            found.false(STATE_FILE, what, RESTORE_STATE, position)
        elif own is not None and not own.first_draw <= draw < own.end_draw:
            what = f"draw {draw} was reserved for another of its chains than the entry's"
            found.false(STATE_FILE, what, RESTORE_STATE, position)
    used = highest = 0
    for own in snapshot.chains:
        there = rows.one(
            "SELECT count(draw), max(draw) FROM entry WHERE author = ? AND chain = ?",
            (own.head.author, own.head.chain.hex()),
        )
        used, highest = used + there[0], max(highest, there[1] or 0)
    if used != count and not lost:
        found.false(STATE_FILE, f"it knows {count} used draws, the log {used}", RESTORE_STATE)
    if snapshot.reserved % 1024 or snapshot.reserved <= max(top, highest) * bool(count):
        what = f"draws below {snapshot.reserved} are reserved: not whole blocks of 1,024, or not all that were used"
        found.false(STATE_FILE, what, RESTORE_STATE)


def _time(microseconds: int) -> str:
    try:
        return format_time(EPOCH + timedelta(microseconds=microseconds))
    except OverflowError:
        return f"{microseconds} µs"
