"""Every new entry of a log, in batches: each batch is led to the signed head before anything in it is believed.

What is checked: the author's signature; the chain (one place once, numbers without gaps, `prev`, times); draws and
epochs, each once; keys that were revoked. Leaves that are no entries are counted: anyone may log anything. After a
false entry its chain goes on from the next one, so that one lie is found once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ...ledger import contradiction
from ...ledger.contradiction import broken_alone
from ...ledger.entries.entry import Entry, parse_entry
from ...ledger.keys.keyhistory import KEY_KINDS
from ...ledger.merkle.reader import TiledLog
from ...ledger.merkle.tree import consistency_path, hash_leaf, verify_consistency
from ...ledger.notes.note import VerifierKey
from ...schemas.errors import EvidenceError
from ...schemas.statement import SEED_EPOCH
from ...schemas.text import parse_digest
from .compare import Caught
from .state import Chain, Checked, MonitorState
from .views import View

BATCH = 1024
"""Entries at once: 64 MiB if each is as large as an entry may be."""
MAX_CAUGHT = 16
"""Files written for one batch; a log that is false in more entries is caught all the same."""


@dataclass(slots=True)
class Batch:
    """What a batch of entries gave; nothing of it is stored yet."""

    checked: Checked
    caught: list[Caught] = field(default_factory=list[Caught])
    revoked: dict[str, tuple[str, int]] = field(default_factory=dict[str, tuple[str, int]])
    """Revoked key -> (its name, the first entry it signed after that)."""
    told: list[tuple[int, bytes]] = field(default_factory=list[tuple[int, bytes]])
    chains: dict[tuple[str, str], Chain] = field(default_factory=dict[tuple[str, str], Chain])
    draws: dict[tuple[str, str], dict[int, int]] = field(default_factory=dict[tuple[str, str], dict[int, int]])


class Follower:
    """Goes on with one log under one head. `store` makes a batch durable."""

    def __init__(
        self, origin: str, keys: Sequence[VerifierKey], state: MonitorState, measure: View, log: TiledLog
    ) -> None:
        self._origin, self._keys, self._state = origin, keys, state
        self._measure, self._log = measure, log
        self._history = state.history(origin)
        self._epochs = [(place, parse_entry(leaf)) for place, leaf in state.told(origin)]

    def next(self, checked: Checked) -> Batch | None:
        """The next batch, or None at the head. `EvidenceError` if the entries do not hash into the head."""
        head, start = self._measure.head, checked.edge.size
        if start >= head.size:
            return None
        end = min(head.size, (start // BATCH + 1) * BATCH)
        leaves = list(self._log.entries(start, end, head.size))
        edge = checked.edge.copy()
        edge.extend([hash_leaf(leaf) for leaf in leaves])
        path = consistency_path(lambda level, index: self._log.hash(level, index, head.size), end, head.size)
        try:
            verify_consistency(end, edge.root(), head.size, head.root, path)
        except EvidenceError:
            raise EvidenceError(f"its entries up to {end} do not hash into the head of size {head.size}") from None
        batch = Batch(Checked(edge, self._measure.note, checked.strangers))
        strangers = 0
        for index, leaf in enumerate(leaves, start):
            try:
                entry = parse_entry(leaf)
            except EvidenceError:
                strangers += 1
                continue
            self._entry(batch, index, entry)
        batch.checked = Checked(edge, self._measure.note, checked.strangers + strangers)
        return batch

    def _entry(self, batch: Batch, index: int, entry: Entry) -> None:
        broken = broken_alone(entry)
        if broken is not None:
            self._catch(batch, "false-entry", f"entry {index}", f"entry {index}: {broken}", lambda: (
                contradiction.false_entry(self._keys, self._measure.note, self._log, index)
            ))  # fmt: skip
            return
        header = entry.header
        if self._history.counts_no_more(header.author, index):
            batch.revoked.setdefault(header.author, (entry.author.name, index))
        self._history.pass_by(index, entry)
        if entry.kind in (*KEY_KINDS, SEED_EPOCH):
            batch.told.append((index, entry.leaf))
        place = (header.author, header.chain)
        last = batch.chains.get(place) or self._state.chain(self._origin, *place)
        self._in_chain(batch, index, entry, last)
        draws = batch.draws.setdefault(place, {})
        if entry.generation is not None:
            draw = entry.generation.predicate.draw
            before = draws.get(draw)
            if before is None and last is not None and last.id:
                before = self._state.drawn(last.id, draw)
            if before is not None:
                self._pair(batch, before, index, f"draw {draw} used twice")
            draws.setdefault(draw, index)
        if entry.kind == SEED_EPOCH:
            for earlier, other in self._epochs:
                if contradiction.broken_together(other, entry) is not None:
                    self._pair(batch, earlier, index, "epochs that overlap")
            self._epochs.append((index, entry))
        number = last.id if last is not None else 0
        batch.chains[place] = Chain(number, header.seq, entry.leaf_hash, header.time, index)

    def _in_chain(self, batch: Batch, index: int, entry: Entry, last: Chain | None) -> None:
        header = entry.header
        start = last.place if last is not None else 0
        if header.seq > (last.seq + 1 if last is not None else 0):
            what = f"entry {index}: seq {header.seq} of {entry.author.name} leaves a gap in its chain"
            self._catch(batch, "chain-gap", f"entries {start} {index}", what, lambda: (
                contradiction.chain_gap(self._keys, self._measure.note, self._log, start, index + 1)
            ))  # fmt: skip
        elif last is not None:
            follows = header.seq == last.seq + 1 and parse_digest(header.prev) == last.leaf_hash
            if not follows or header.time < last.time:
                self._pair(batch, last.place, index, f"seq {header.seq} does not follow seq {last.seq}")

    def _pair(self, batch: Batch, first: int, second: int, what: str) -> None:
        self._catch(batch, "entry-pair", f"entries {first} {second}", f"entries {first} and {second}: {what}", lambda: (
            contradiction.entry_pair(self._keys, self._measure.note, self._log, first, second)
        ))  # fmt: skip

    def _catch(self, batch: Batch, kind: str, subject: str, what: str, make: Callable[[], bytes]) -> None:
        known = any((one.kind, one.subject) == (kind, subject) for one in batch.caught)
        if known or len(batch.caught) >= MAX_CAUGHT or self._state.known(self._origin, kind, subject):
            return
        batch.caught.append(Caught(kind, self._origin, subject, what, make()))


def store(state: MonitorState, origin: str, batch: Batch) -> None:
    """Make a batch durable: how far the log was checked, its chains, draws, keys and epochs."""
    with state.transaction() as db:
        for (author, chain), last in batch.chains.items():
            number = state.keep_chain(db, origin, author, chain, last)
            state.keep_draws(db, number, list(batch.draws.get((author, chain), {}).items()))
        state.keep_told(db, origin, batch.told)
        for vkey, (name, index) in batch.revoked.items():
            what = f"entry {index} is signed by the revoked key {vkey}: it counts for nothing; who has the key?"
            state.keep_found(
                db, origin, accused=name, kind="revoked-key", subject=vkey, what=what, file=None, stops=False
            )
        state.advance(db, origin, batch.checked)


__all__ = ["BATCH", "Batch", "Follower", "store"]
