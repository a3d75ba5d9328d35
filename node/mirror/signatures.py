"""Every author's signature, checked in other processes: parsing and verifying an entry costs more than all the rest.

An entry that has the form of one must be signed by the author it names. Whether that author is anybody's choice is not
asked here: a mirror believes nobody. Leaves that are no entries are counted and copied; a log may hold anything.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from types import TracebackType
from typing import Self

from ...ledger.notes.note import VerifierKey
from ...schemas.errors import EvidenceError, SetupError
from ..log.admission import read_candidate

_TASK = 256
"""Entries that one process is given at a time."""


def check_signatures(start: int, leaves: Sequence[bytes]) -> tuple[int, str | None]:
    """(entries among these leaves, what is wrong with the first false one); `start` is the first leaf's index."""
    entries = 0
    for index, leaf in enumerate(leaves, start):
        try:
            entry = read_candidate(leaf)
        except EvidenceError:
            continue
        entries += 1
        try:
            entry.verify(_key(entry.author))
        except EvidenceError as error:
            return entries, f"entry {index}: {error}"
    return entries, None


@functools.lru_cache(maxsize=1024)
def _key(author: str) -> VerifierKey:
    return VerifierKey.parse(author)


class SignatureCheck:
    """A `LeafCheck` over `workers` processes (default: one for each processor). Close it to end them."""

    def __init__(self, workers: int | None = None) -> None:
        count = workers or os.cpu_count() or 1
        # not forked: the process that follows logs has threads
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(count, mp_context=context)
        self.entries = 0
        """Entries whose signature verified so far."""
        self.leaves = 0
        """Leaves that were looked at so far."""

    def check(self, start: int, leaves: Sequence[bytes]) -> None:
        """`EvidenceError` names the first entry from index `start` on whose signature is false."""
        places = range(0, len(leaves), _TASK)
        try:
            found = list(
                self._pool.map(
                    check_signatures,
                    [start + place for place in places],
                    [list(leaves[place : place + _TASK]) for place in places],
                )
            )
        except BrokenProcessPool as error:
            raise SetupError(f"the processes that verify signatures ended: {error}") from None
        for entries, problem in found:
            if problem is not None:
                raise EvidenceError(problem)
            self.entries += entries
        self.leaves += len(leaves)

    def close(self) -> None:
        """End the processes."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


__all__ = ["SignatureCheck", "check_signatures"]
