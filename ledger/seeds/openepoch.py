"""Opening a seed epoch and drawing from it: the writing side of epochs.py.

open     draws are reserved in whole blocks, fresh seeds go to the vault with the submission, the entry publishes
         their root; the call returns once the entry is witnessed, and only then are draws given out: until others
         had seen the epoch its author could still have chosen another one
take     draws are counted in state.db before they are used, in their order, each once; those of a program that died
         are gaps. An epoch ends with its last draw, or when the author's key is rotated: the next one is another
         chain's
erase    erasing a record also takes its seed out of the epoch's row; the leaf hash stays, other paths need it
"""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from typing import TYPE_CHECKING

from ...schemas.errors import SetupError, UsageError
from ..entries.entry import parse_entry
from ..storage.state import EpochRow
from ..vault.vault import SEED_EPOCH, Submission
from ..writing.receipt import WITNESSED
from .epochs import MAX_COUNT, EpochSeeds, OpenEpoch, Seed

if TYPE_CHECKING:
    from ..ledger import Ledger


def open_epoch(ledger: Ledger, count: int) -> OpenEpoch:
    """Fix the seeds of `count` draws of the author's chain and publish their root; waits until it is witnessed.

    With `quorum none` nobody dates the epoch: then it shows only that the choice was made before the image's entry.
    """
    if not 1 <= count <= MAX_COUNT:
        raise UsageError(f"an epoch has 1 to {MAX_COUNT} seeds, not {count}")
    seeds = EpochSeeds.generate(count)
    first = ledger.reserve_epoch_draws(count)
    ledger.submit_entry(
        Submission(
            os.urandom(16), SEED_EPOCH, seeds.root, str(count), draw=first, secret=os.urandom(32), record=seeds.encode()
        )
    )
    ledger.flush(WITNESSED)
    row = next(row for row in ledger.epochs() if row.root == seeds.root)
    return _opened(ledger, row, seeds)


def _opened(ledger: Ledger, row: EpochRow, seeds: EpochSeeds) -> OpenEpoch:
    entry = parse_entry(ledger.entry(row.position)).leaf_hash
    return OpenEpoch(row.id, row.first_draw, row.count, entry, seeds)


class EpochPool:
    """Gives out the draws of the newest chain's epochs, oldest epoch first; calls from any thread."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._lock = threading.Lock()
        self._known: dict[int, OpenEpoch] = {}

    def take(self, count: int) -> list[Seed]:
        """`count` draws with their seeds; `SetupError` that says how to go on if no epoch has so many left."""
        if count < 1:
            raise UsageError("at least one draw is taken")
        with self._lock:
            for row in self._usable():
                first = self._ledger.take_epoch_draws(row.id, count) if row.left >= count else None
                if first is not None:
                    epoch = self._open(row)
                    return [epoch.seed(draw) for draw in range(first, first + count)]
        raise SetupError(
            f"no open seed epoch has {count} draws left: open one first, ledger.open_epoch() or pd log epoch"
        )

    def _usable(self) -> list[EpochRow]:
        rows = self._ledger.epochs()
        if not rows:
            return []
        newest, size = self._ledger.newest_chain_id(), self._ledger.checkpoint().size
        return [row for row in rows if row.chain == newest and row.position < size]

    def _open(self, row: EpochRow) -> OpenEpoch:
        found = self._known.get(row.id)
        if found is None:
            data = self._ledger.vault.epoch(row.root).record or b""
            found = self._known[row.id] = _opened(self._ledger, row, EpochSeeds.decode(data))
        return found


def erase_seed(ledger: Ledger, draw: int) -> bool:
    """Take the seed of a draw out of its epoch's row, if an epoch fixed it; False as for `Vault.erase`."""
    gone = True
    for row in ledger.epochs():
        if row.first_draw <= draw < row.first_draw + row.count:
            stored = ledger.vault.epoch(row.root)
            seeds = EpochSeeds.decode(stored.record or b"").without(draw - row.first_draw)
            gone = ledger.vault.rewrite(replace(stored, record=seeds.encode())) and gone
    return gone


__all__ = ["EpochPool", "erase_seed", "open_epoch"]
