"""One branch of the absence index: 64 pages and the nodes above them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from .keys import EMPTY
from .layout import FAN

NONE, ONE, MORE, BRANCH = 0, 1, 2, 3
"""What stands at a place: nothing, one key, several keys, several keys below another branch."""


class Branch:
    """64 pages and the 63 nodes above them, in heap order: 1 is the top, page s is 64 + s.

    `full`: all 63 nodes have two or more keys below, which then stays so. Here is where an update's time goes, hence
    the loops without calls.
    """

    __slots__ = ("full", "hash", "kind")

    def __init__(self) -> None:
        self.kind = bytearray(2 * FAN)
        self.hash = [EMPTY] * (2 * FAN)
        self.full = False

    def rehash(self, places: Iterable[int]) -> None:
        """Recompute the nodes above these heap places of pages."""
        kind, value, sha256 = self.kind, self.hash, hashlib.sha256
        level = {place >> 1 for place in places}
        while level:
            for place in level:
                left = place << 1
                if kind[left] + kind[left + 1] > ONE:
                    kind[place] = MORE
                    value[place] = sha256(b"\x10" + value[left] + value[left + 1]).digest()
                else:  # nothing, or one key alone, which rises
                    kind[place] = kind[left] + kind[left + 1]
                    value[place] = value[left] if kind[left] else value[left + 1]
            level = {place >> 1 for place in level} if 1 not in level else None
        self.full = kind.count(MORE, 1, FAN) == FAN - 1

    def set(self, place: int, kind: int, value: bytes) -> None:
        """Change one page and recompute the nodes above it."""
        kinds, values, sha256 = self.kind, self.hash, hashlib.sha256
        kinds[place], values[place] = kind, value
        if self.full:
            while place > 1:
                pair, place = place & ~1, place >> 1
                values[place] = sha256(b"\x10" + values[pair] + values[pair + 1]).digest()
            return
        while place > 1:
            pair, place = place & ~1, place >> 1
            of_left, of_right = kinds[pair], kinds[pair + 1]
            if of_left + of_right > ONE:
                kinds[place] = MORE
                values[place] = sha256(b"\x10" + values[pair] + values[pair + 1]).digest()
            else:
                kinds[place] = of_left + of_right
                values[place] = values[pair] if of_left else values[pair + 1]
        self.full = kinds.count(MORE, 1, FAN) == FAN - 1
