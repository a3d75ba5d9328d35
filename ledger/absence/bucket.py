"""One bucket of the absence index: its keys side by side, ascending, and the hash of the subtree that they make.

    record   32 B key | u64 count | u64 first | 32 B leaf hash

What is read from a file is not believed: whoever changes a bucket first has it folded to the hash that its branch
knows, which fixes where each leaf hash stands, and recomputes the leaf hash of the key that is nearest to a new one,
which fixes the rest: only at its place could a changed key stand in for the new one, or hide that it is there. So a
changed bit stops an update; it never gets into a root that somebody signs.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise
from struct import Struct

from .keys import EMPTY
from .layout import Unfit

BUCKET_KEYS = 16
RECORD = 80
DAMAGED = "the absence index contradicts itself: a page of it is damaged"

_LAYOUTS = [Struct(">" + "Q40x32s" * count) for count in range(BUCKET_KEYS + 1)]
"""The first 64 bits and the leaf hash of each record of a bucket."""


def split(data: bytes) -> list[bytes]:
    """The records of a bucket, of distinct keys ascending, on which folding them counts; else `Unfit`."""
    records = [data[at : at + RECORD] for at in range(0, len(data), RECORD)]
    if len(data) % RECORD or any(a[:32] >= b[:32] for a, b in pairwise(records)):
        raise Unfit(DAMAGED)
    return records


def cut(records: Sequence[bytes], start: int, end: int, position: int) -> int:
    """Where those of ascending records from `start` to `end`, alike before bit `position`, begin to have a 1 there."""
    byte, mask = position >> 3, 0x80 >> (position & 7)
    while start < end and not records[start][byte] & mask:
        start += 1
    return start


def fold(records: Sequence[bytes], start: int, end: int, position: int) -> bytes:
    """Hash of the subtree of the ascending records from `start` to `end`, which share all bits before `position`."""
    if end - start == 1:
        return records[start][48:]
    if start == end:
        return EMPTY
    middle = cut(records, start, end, position)
    left, right = fold(records, start, middle, position + 1), fold(records, middle, end, position + 1)
    return hashlib.sha256(b"\x10" + left + right).digest()


class Added:
    """A bucket of `data` at bit `position`, and one record added: the hash `before`, the hash `after`, `at`, the number
    of records before the new one, and `nearest`, the record that shares most bits with it. Here is where an update's
    time goes, hence the numbers instead of records.

    `KeyError` if two keys share their first 64 bits, or the bucket holds more than it may above `DEEPEST`: then `fold`
    does it record by record.
    """

    __slots__ = ("_bits", "_hashes", "_new", "_new_bits", "after", "at", "before", "nearest")

    def __init__(self, data: bytes, position: int, bits: int, record: bytes) -> None:
        count = len(data) // RECORD
        if count > BUCKET_KEYS:
            raise KeyError(count)
        fields = _LAYOUTS[count].unpack(data)
        self._bits: tuple[int, ...] = fields[0::2]
        self._hashes: tuple[bytes, ...] = fields[1::2]
        self._new_bits, self._new = bits, record[48:]
        self.at = bisect_left(self._bits, bits)
        if self.at < count and self._bits[self.at] == bits:
            raise KeyError(bits)
        near = self.at
        if near == count or (near and bits ^ self._bits[near - 1] < bits ^ self._bits[near]):
            near -= 1
        self.nearest = data[near * RECORD : (near + 1) * RECORD]
        self.before, self.after = self._both(0, count, 1 << (63 - position))

    def _fold(self, start: int, end: int, mask: int) -> bytes:
        """`fold` of two records and more."""
        if not mask:
            raise KeyError(start)
        bits, middle = self._bits, start
        while middle < end and not bits[middle] & mask:
            middle += 1
        left, right = middle - start, end - middle
        mask >>= 1
        return hashlib.sha256(
            b"\x10"
            + (EMPTY if not left else self._hashes[start] if left == 1 else self._fold(start, middle, mask))
            + (EMPTY if not right else self._hashes[middle] if right == 1 else self._fold(middle, end, mask))
        ).digest()

    def _both(self, start: int, end: int, mask: int) -> tuple[bytes, bytes]:
        """The hash of a subtree that the new key belongs to, without it and with it."""
        if start == end:
            return EMPTY, self._new
        if end - start == 1:
            return self._hashes[start], self._pair(start, mask)
        if not mask:
            raise KeyError(start)
        bits, middle = self._bits, start
        while middle < end and not bits[middle] & mask:
            middle += 1
        if self._new_bits & mask:
            count = middle - start
            left = EMPTY if not count else self._hashes[start] if count == 1 else self._fold(start, middle, mask >> 1)
            old, new = self._both(middle, end, mask >> 1)
            left = b"\x10" + left
            return hashlib.sha256(left + old).digest(), hashlib.sha256(left + new).digest()
        count = end - middle
        right = EMPTY if not count else self._hashes[middle] if count == 1 else self._fold(middle, end, mask >> 1)
        old, new = self._both(start, middle, mask >> 1)
        return hashlib.sha256(b"\x10" + old + right).digest(), hashlib.sha256(b"\x10" + new + right).digest()

    def _pair(self, place: int, mask: int) -> bytes:
        """The hash of the subtree of one record and the new one, from the bit of `mask` on."""
        bits, other, new = self._new_bits, self._hashes[place], self._new
        differ = 1 << ((bits ^ self._bits[place]).bit_length() - 1)
        value = hashlib.sha256(b"\x10" + other + new if bits & differ else b"\x10" + new + other).digest()
        while differ < mask:
            differ <<= 1
            value = hashlib.sha256(b"\x10" + EMPTY + value if bits & differ else b"\x10" + value + EMPTY).digest()
        return value
