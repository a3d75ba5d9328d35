"""Draws: the numbers seeds are derived for, reserved durably in blocks before any of them is used.

A block that is reserved and not used up leaves a gap; a draw is never given out twice, whatever dies when. Each draw
belongs to the chain it was reserved for: after a rotation of the author's key new draws are those of the new chain, and
what was recorded under an old draw is still the old chain's.
"""

from __future__ import annotations

import threading

from ...schemas.errors import UsageError
from ..storage.state import DRAW_BLOCK as BLOCK
from ..storage.state import ChainHead, OwnChain, State, whole_blocks


class DrawPool:
    """Reserved draws of this process, refilled from state.db; calls from any thread."""

    def __init__(self, state: State, *, keep: int = BLOCK // 2, blocks: int = 1) -> None:
        """Refill when fewer than `keep` are left, by `blocks` blocks of 1,024 at once."""
        self._state = state
        self._keep = keep
        self._blocks = blocks
        self._lock = threading.Lock()
        self._ranges: list[range] = []
        self._chains: list[OwnChain] = []
        self._top = 0
        self._load()

    def take(self, count: int) -> list[int]:
        """`count` draws, ascending; reserves more if needed (`StorageFull` where nothing can be written)."""
        if count < 1:
            raise UsageError("at least one draw is taken")
        with self._lock:
            if count == 1 and self._ranges and len(self._ranges[0]) > 1:
                first, self._ranges[0] = self._ranges[0], self._ranges[0][1:]
                return [first[0]]
            if self._left() < count:
                self._reserve(count)
            taken: list[int] = []
            while len(taken) < count:
                first = self._ranges[0]
                part = first[: count - len(taken)]
                taken.extend(part)
                self._ranges[0] = first[len(part) :]
                if not self._ranges[0]:
                    self._ranges.pop(0)
            return taken

    def refill(self) -> None:
        """Reserve ahead, so that `take` seldom has to wait for the disk; drop draws of a chain that ended meanwhile."""
        with self._lock:
            if self._state.chain_id != self._chains[-1].id:
                self._ranges.clear()
                self._load()
            if self._left() < self._keep:
                self._reserve(0)

    def reserve_apart(self, count: int) -> int:
        """Reserve draws that `take` never gives out, in whole blocks: those of an epoch; the first of them."""
        with self._lock:
            first = self._state.reserve_draws((count + BLOCK - 1) // BLOCK * BLOCK)
            self._load()
            return first

    @property
    def chain(self) -> ChainHead:
        """The chain that new draws are of, as far as this process knows (author and chain; not its head)."""
        return self._chains[-1].head

    def chain_of(self, draw: int) -> ChainHead:
        """The chain (author and chain; not its head) that a draw was reserved for."""
        if draw >= self._top:  # of another process
            self._load()
        for chain in self._chains[:-1]:
            if draw < chain.end_draw:
                return chain.head
        return self._chains[-1].head

    def _load(self) -> None:
        self._chains = self._state.chains()
        self._top = self._chains[-1].end_draw

    def forget(self) -> None:
        """Give out no draw that was reserved so far."""
        with self._lock:
            self._ranges.clear()

    def _left(self) -> int:
        return sum(len(part) for part in self._ranges)

    def _reserve(self, count: int) -> None:
        size = max(self._blocks * BLOCK, whole_blocks(count))
        first = self._state.reserve_draws(size)
        if self._state.chain_id != self._chains[-1].id:
            self._load()
            self._ranges = [part for part in self._ranges if part.start >= self._chains[-1].first_draw]
        self._top = max(self._top, first + size)
        self._ranges.append(range(first, first + size))
