"""A bounded queue in which every author has a turn.

Each author's requests wait in a line of their own; whoever takes goes round the lines, one request of each, so that an
author with a thousand waiting delays another's one by no more than a request of each line. A line is bounded, and so
are all together, in entries and in bytes: beyond that a request is turned away at once and may come again.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from typing import Generic, Protocol, TypeVar

ENTRIES = 8192
"""Entries that wait at most, of all authors together."""
PER_AUTHOR = 2048
BYTES = 64 * 1024 * 1024


class Weighed(Protocol):
    """A request: how many entries it has, and how many bytes."""

    @property
    def count(self) -> int:
        """Entries."""
        ...

    @property
    def size(self) -> int:
        """Bytes."""
        ...


_T = TypeVar("_T", bound=Weighed)


class FairQueue(Generic[_T]):
    """See the module; calls from any thread, taking from one."""

    def __init__(self, *, entries: int = ENTRIES, per_author: int = PER_AUTHOR, size: int = BYTES) -> None:
        self._limits = entries, per_author, size
        self._lines: OrderedDict[bytes, deque[_T]] = OrderedDict()
        self._counts: dict[bytes, int] = {}
        self._entries = self._bytes = 0
        self._woken = False
        self._something = threading.Condition()

    def __len__(self) -> int:
        """Entries that wait."""
        return self._entries

    def put(self, author: bytes, item: _T) -> bool:
        """Let a request wait in its author's line; False if there is no room."""
        entries, per_author, size = self._limits
        with self._something:
            waiting = self._counts.get(author, 0)
            # an empty line takes anything that the rest of the queue has room for
            if self._entries + item.count > entries or self._bytes + item.size > size:
                return False
            if waiting and waiting + item.count > per_author:
                return False
            self._lines.setdefault(author, deque()).append(item)
            self._counts[author] = waiting + item.count
            self._entries += item.count
            self._bytes += item.size
            self._something.notify()
        return True

    def take(self, count: int, seconds: float) -> list[_T]:
        """Requests of about `count` entries in all, one of each line in turn; waits up to `seconds` for the first."""
        taken: list[_T] = []
        with self._something:
            if not self._lines and not self._woken and seconds > 0:
                self._something.wait(seconds)
            self._woken = False
            while self._lines and count > 0:
                author, line = next(iter(self._lines.items()))
                item = line.popleft()
                taken.append(item)
                count -= item.count
                self._entries -= item.count
                self._bytes -= item.size
                self._counts[author] -= item.count
                if line:
                    self._lines.move_to_end(author)
                else:
                    del self._lines[author], self._counts[author]
        return taken

    def gather(self, count: int, seconds: float) -> None:
        """Wait until `count` entries wait, or for so long."""
        with self._something:
            self._something.wait_for(lambda: self._entries >= count or self._woken, seconds)

    def wake(self) -> None:
        """Let `take` (this one or the next) return at once, with nothing if nothing waits."""
        with self._something:
            self._woken = True
            self._something.notify()
