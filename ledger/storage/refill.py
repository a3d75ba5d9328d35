"""Writing `state.db` anew from the entries of a log, in one transaction: for a ledger whose disk is gone."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass

from ...schemas.errors import EvidenceError
from . import pieces
from .state import Head, whole_blocks


@dataclass(slots=True)
class OldChain:
    """A chain of the lost directory as the log shows it: the next `seq`, its `prev`, the last entry's time (µs)."""

    number: int
    author: str
    chain: str
    seq: int
    prev: bytes
    time: int
    draws: int
    """Draws below this one were used, or stand in an epoch."""


class Refill:
    """Takes a log's own entries, ascending; `finish` makes the state whole. Used inside a transaction of `State.db`."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection
        self._chains: dict[tuple[str, str], OldChain] = {}
        for table in ("draw", "model", "epoch", "chain"):
            connection.execute(f"DELETE FROM {table}")  # noqa: S608  (from above)

    @property
    def authors(self) -> list[str]:
        """The authors of the chains so far, oldest chain first."""
        return [chain.author for chain in self._chains.values()]

    def take(self, author: str, chain: str, seq: int, prev: bytes, leaf_hash: bytes, time: int) -> OldChain:
        """The chain of an own entry, moved on by it; `EvidenceError` if the entry does not follow."""
        found = self._chains.get((author, chain))
        if found is None:
            found = OldChain(len(self._chains) + 1, author, chain, 0, bytes(32), 0, 0)
            self._chains[author, chain] = found
            self._insert(found.number, author, bytes.fromhex(chain))
        if (seq, prev) != (found.seq, found.prev):
            raise EvidenceError(f"the chain {chain} of {author.split('+', maxsplit=1)[0]} breaks at its entry {seq}")
        found.seq, found.prev, found.time = seq + 1, leaf_hash, max(time, found.time)
        return found

    def generation(self, chain: OldChain, draw: int, position: int) -> None:
        """The entry just taken is a generation."""
        self._db.execute("INSERT INTO draw VALUES (?, ?, ?)", (chain.number, draw, position))
        chain.draws = max(chain.draws, draw + 1)

    def model(self, name: str, digest: bytes, position: int) -> None:
        """The entry just taken registers a model; a later registration of the name wins."""
        self._db.execute("INSERT OR REPLACE INTO model VALUES (?, ?, ?)", (name, digest, position))

    def epoch(self, chain: OldChain, first_draw: int, count: int, root: bytes, position: int) -> None:
        """The entry just taken publishes an epoch. It counts as used up: its seeds may have been given out."""
        self._db.execute(
            "INSERT INTO epoch (chain, first_draw, count, root, position, taken) VALUES (?, ?, ?, ?, ?, ?)",
            (chain.number, first_draw, count, root, position, count),
        )
        chain.draws = max(chain.draws, first_draw + count)

    def finish(
        self,
        head: Head,
        tail: Sequence[tuple[bytes, bytes]],
        *,
        author: str,
        chain: bytes,
        skip: int,
        submission: int,
        cosigned: bytes,
    ) -> None:
        """`head` is the signed one, `tail` the (leaf, hash) of its unfinished bundle; all its files are on the disk.

        A new chain of `author` begins, whose draws lie `skip` above every earlier one. `cosigned` is the note that met
        the quorum, b"" if none did. The vault's submissions up to `submission` are in the log.
        """
        top, time = 0, 0
        for old in self._chains.values():
            top, time = max(top, whole_blocks(old.draws)), max(time, old.time)
            self._move(old.number, old.seq, old.prev, old.time, top)
        number = len(self._chains) + 1
        self._insert(number, author, chain)
        self._move(number, 0, bytes(32), time, whole_blocks(top + skip))
        self._db.execute(
            "UPDATE log SET size = ?, root = ?, note = ?, accepted = ?, synced_size = ?, submission = ?, "
            "cosigned_size = ?, cosigned_note = ?",
            (
                head.size, head.root, head.note, head.size, head.size, submission,
                head.size if cosigned else 0, cosigned,
            ),
        )  # fmt: skip
        pieces.insert(self._db, head.size - len(tail), tail)

    def _insert(self, number: int, author: str, chain: bytes) -> None:
        self._db.execute(
            "INSERT INTO chain (id, author, chain, seq, prev, time, draw) VALUES (?, ?, ?, 0, ?, 0, 0)",
            (number, author, chain, bytes(32)),
        )

    def _move(self, number: int, seq: int, prev: bytes, time: int, draw: int) -> None:
        self._db.execute(
            "UPDATE chain SET seq = ?, prev = ?, time = ?, draw = ? WHERE id = ?", (seq, prev, time, draw, number)
        )


__all__ = ["OldChain", "Refill"]
