"""The absence index as pages: incremental insertion, root and proofs, at a few pages per key whatever the size.

The map is a binary trie over 256-bit keys in which a subtree with one key is that key's leaf. It is cut into pages at
every sixth bit. A page is one of

    bucket   up to 16 keys, ascending: 32 B key | u64 count | u64 first | 32 B leaf hash
    branch   64 pages six bits further down

A bucket that grows past 16 keys becomes a branch of buckets, down to bit 60, where it may grow on: seventeen keys of
chosen digests that share 60 bits are out of reach, and would only be slow. A page's number is its bits behind a leading
1, so the pages of one branch lie side by side. The `PageStore` keeps each page with the hash of its subtree: what a
branch needs to know of its pages is read without reading them, and an insertion writes its path and nothing else.

Pages are private to this machine; only hashes and proofs leave it. What a key with several indices needs beside its
page (their list and running hash) is kept by the `PageStore` too, so that a digest logged a million times costs each
insertion the same.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Iterable
from itertools import pairwise
from typing import Protocol

from ...schemas.errors import EvidenceError, SetupError, UsageError
from ..notes.wire import u64
from .keys import EMPTY, RUNNING_START, bit, key_hash, run
from .proof import MAX_INDICES, KeyProof, Occupant

BUCKET_KEYS = 16
STEP = 6
FAN = 1 << STEP
DEEPEST = 60
ROOT = 1
RECORD = 80
_NONE, _ONE, _MORE, _BRANCH = 0, 1, 2, 3
_CACHED_BRANCHES = 8192

Page = tuple[int, bytes, bytes | None]
"""A page as it is kept: its number, its subtree's hash, and the records of a bucket; None: a branch."""


class PageStore(Protocol):
    """Where pages and the indices of repeated keys lie."""

    def page(self, number: int) -> Page | None:
        """A page, or None."""
        ...

    def below(self, number: int) -> Iterable[tuple[int, bytes, int | None]]:
        """(number, hash, bytes of records, None for a branch) of the pages right below a branch."""
        ...

    def put(self, pages: Iterable[Page]) -> None:
        """Keep pages."""
        ...

    def running(self, key: bytes) -> bytes | None:
        """The running hash of a key with several indices."""
        ...

    def indices(self, key: bytes) -> list[int]:
        """All indices of a key with several, ascending."""
        ...

    def put_indices(self, key: bytes, indices: Iterable[int], running: bytes) -> None:
        """Add indices to a key, whose running hash is now this."""
        ...


class MemoryPages:
    """A `PageStore` in memory."""

    def __init__(self) -> None:
        self.pages: dict[int, Page] = {}
        self.postings: dict[bytes, list[int]] = {}
        self.runnings: dict[bytes, bytes] = {}

    def page(self, number: int) -> Page | None:
        """See `PageStore`."""
        return self.pages.get(number)

    def below(self, number: int) -> Iterable[tuple[int, bytes, int | None]]:
        """See `PageStore`."""
        for place in range(number << STEP, (number + 1) << STEP):
            page = self.pages.get(place)
            if page is not None:
                yield place, page[1], None if page[2] is None else len(page[2])

    def put(self, pages: Iterable[Page]) -> None:
        """See `PageStore`."""
        for page in pages:
            self.pages[page[0]] = page

    def running(self, key: bytes) -> bytes | None:
        """See `PageStore`."""
        return self.runnings.get(key)

    def indices(self, key: bytes) -> list[int]:
        """See `PageStore`."""
        return self.postings.get(key, [])

    def put_indices(self, key: bytes, indices: Iterable[int], running: bytes) -> None:
        """See `PageStore`."""
        self.postings.setdefault(key, []).extend(indices)
        self.runnings[key] = running


class _Branch:
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
                if kind[left] + kind[left + 1] > _ONE:
                    kind[place] = _MORE
                    value[place] = sha256(b"\x10" + value[left] + value[left + 1]).digest()
                else:  # nothing, or one key alone, which rises
                    kind[place] = kind[left] + kind[left + 1]
                    value[place] = value[left] if kind[left] else value[left + 1]
            level = {place >> 1 for place in level} if 1 not in level else None
        self.full = kind.count(_MORE, 1, FAN) == FAN - 1

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
            if of_left + of_right > _ONE:
                kinds[place] = _MORE
                values[place] = sha256(b"\x10" + values[pair] + values[pair + 1]).digest()
            else:
                kinds[place] = of_left + of_right
                values[place] = values[pair] if of_left else values[pair + 1]
        self.full = kinds.count(_MORE, 1, FAN) == FAN - 1


_DAMAGED = "the absence index contradicts itself: a page of it is damaged"

_Wanted = list[tuple[int, bytes, list[int]]]
"""Keys with the indices they gain: (first 64 bits, key, indices)."""


class IndexMap:
    """The map over a `PageStore`. Not thread-safe, and alone with its store: whoever owns it serialises."""

    def __init__(self, store: PageStore) -> None:
        self._store = store
        self._branches: OrderedDict[int, _Branch] = OrderedDict()
        self._written: list[Page] = []

    def root(self) -> bytes:
        """The index root, 32 bytes."""
        page = self._store.page(ROOT)
        return EMPTY if page is None else page[1]

    def add(self, items: Iterable[tuple[bytes, int]]) -> None:
        """Add indices to keys: (32-byte key, index); each key's indices come ascending, over all calls.

        After an error neither the map nor what its store was given in this call may be used on.
        """
        gained: dict[bytes, list[int]] = {}
        for key, index in items:
            known = gained.get(key)
            if known is None:
                gained[key] = [index]
            else:
                known.append(index)
        if gained:
            self._written = []
            wanted = [(int.from_bytes(key[:8], "big"), key, indices) for key, indices in gained.items()]
            self._update(ROOT, 0, _BRANCH if self._branch(ROOT) is not None else _MORE, wanted)
            self._store.put(self._written)
            self._written = []

    def prove(self, key: bytes) -> KeyProof:
        """What stands at a key's place. Raises `SetupError` where the store contradicts itself."""
        try:
            return self._prove(key)
        except EvidenceError as error:  # a proof of no possible shape
            raise SetupError(f"the absence index contradicts itself: {error}") from None

    def _prove(self, key: bytes) -> KeyProof:
        siblings: list[bytes] = []
        number, position = ROOT, 0
        while True:
            branch = self._branch(number)
            if branch is None:
                return self._prove_in_bucket(self._records(number), key, siblings)
            place = 1
            while place < FAN and branch.kind[place] == _MORE:
                right = bit(key, position + place.bit_length() - 1)
                place = 2 * place + right
                siblings.append(branch.hash[place ^ 1])
            if branch.kind[place] == _NONE:
                return KeyProof(tuple(siblings))
            if branch.kind[place] == _ONE:
                while place < FAN:
                    place = 2 * place + (0 if branch.kind[2 * place] else 1)
                records = self._records((number << STEP) + place - FAN)
                if len(records) != 1:
                    raise SetupError("the absence index contradicts itself: a page does not hold the one key")
                return self._terminal(records[0], key, siblings)
            number, position = (number << STEP) + place - FAN, position + STEP

    def indices(self, key: bytes) -> tuple[int, ...]:
        """The indices of a key, ascending; empty if it is absent. Proven by nothing."""
        return self.prove(key).indices

    def _prove_in_bucket(self, records: list[bytes], key: bytes, siblings: list[bytes]) -> KeyProof:
        position = len(siblings)
        while len(records) > 1:
            cut = _cut(records, 0, len(records), position)
            right = bit(key, position)
            position += 1
            if right:
                siblings.append(_fold(records, 0, cut, position))
                records = records[cut:]
            else:
                siblings.append(_fold(records, cut, len(records), position))
                records = records[:cut]
        return self._terminal(records[0], key, siblings) if records else KeyProof(tuple(siblings))

    def _terminal(self, record: bytes, key: bytes, siblings: list[bytes]) -> KeyProof:
        found, count, first = _read(record)
        if found == key:
            if count > MAX_INDICES:
                raise SetupError(f"{count} entries name this image, more than a proof of presence can list")
            indices = [first] if count == 1 else self._store.indices(key)
            if len(indices) != count:
                raise SetupError("the absence index contradicts itself: a key's list is not as long as its count")
            return KeyProof(tuple(siblings), tuple(indices))
        running = run([first]) if count == 1 else self._store.running(found)
        if running is None:
            raise SetupError("the absence index contradicts itself: a key's running hash is missing")
        return KeyProof(tuple(siblings), (), Occupant(found, count, first, running))

    def _records(self, number: int) -> list[bytes]:
        page = self._store.page(number)
        if page is None:
            return []
        data = page[2]
        if not data or len(data) % RECORD:
            raise SetupError(_DAMAGED)
        records = [data[at : at + RECORD] for at in range(0, len(data), RECORD)]
        # distinct keys that all belong here: what folds them counts on it
        position = number.bit_length() - 1
        for record in (records[0], records[-1]):
            if (int.from_bytes(record[:8], "big") >> (64 - position)) | (1 << position) != number:
                raise SetupError(_DAMAGED)
        if any(a[:32] >= b[:32] for a, b in pairwise(records)):
            raise SetupError(_DAMAGED)
        return records

    def _branch(self, number: int) -> _Branch | None:
        """The branch at a page number, or None for a bucket or nothing."""
        known = self._branches.get(number)
        if known is not None:
            self._branches.move_to_end(number)
            return known
        page = self._store.page(number)
        if page is None or page[2] is not None:
            return None
        branch, places = _Branch(), set[int]()
        for child, value, length in self._store.below(number):
            place = child - (number << STEP) + FAN
            branch.kind[place] = _BRANCH if length is None else _ONE if length == RECORD else _MORE
            branch.hash[place] = value
            places.add(place)
        branch.rehash(places)
        if branch.hash[1] != page[1]:
            raise SetupError("the absence index contradicts itself: a branch is not what its pages give")
        return self._keep(number, branch)

    def _keep(self, number: int, branch: _Branch) -> _Branch:
        self._branches[number] = branch
        if len(self._branches) > _CACHED_BRANCHES:
            self._branches.popitem(last=False)
        return branch

    def _below(self, number: int) -> _Branch:
        branch = self._branch(number)
        if branch is None:
            raise SetupError("the absence index contradicts itself: a branch of it is missing")
        return branch

    def _update(self, number: int, position: int, kind: int, wanted: _Wanted) -> tuple[int, bytes]:
        """Add to the page `number` of this kind, which stands at bit `position`; its (kind, hash) afterwards."""
        if kind != _BRANCH:
            return self._write(number, position, self._grown(self._records(number) if kind else [], wanted))
        if len(wanted) == 1:
            return self._update_one(number, position, wanted)
        branch = self._below(number)
        groups: dict[int, _Wanted] = {}
        shift = 64 - STEP - position
        for item in wanted:
            place = ((item[0] >> shift) & (FAN - 1)) + FAN
            known = groups.get(place)
            if known is None:
                groups[place] = [item]
            else:
                known.append(item)
        kinds, values, below = branch.kind, branch.hash, (number << STEP) - FAN
        for place, group in groups.items():
            kinds[place], values[place] = self._update(below + place, position + STEP, kinds[place], group)
        branch.rehash(groups)
        self._written.append((number, values[1], None))
        return _BRANCH, values[1]

    def _update_one(self, number: int, position: int, wanted: _Wanted) -> tuple[int, bytes]:
        """`_update` of a branch by one key: down to its bucket and up again."""
        path: list[tuple[_Branch, int, int]] = []
        bits, kind = wanted[0][0], _BRANCH
        while kind == _BRANCH:
            branch = self._below(number)
            place = ((bits >> (64 - STEP - position)) & (FAN - 1)) + FAN
            path.append((branch, place, number))
            number, position, kind = (number << STEP) + place - FAN, position + STEP, branch.kind[place]
        kind, value = self._write(number, position, self._grown(self._records(number) if kind else [], wanted))
        for branch, place, above in reversed(path):
            branch.set(place, kind, value)
            kind, value = _BRANCH, branch.hash[1]
            self._written.append((above, value, None))
        return kind, value

    def _write(self, number: int, position: int, records: list[bytes]) -> tuple[int, bytes]:
        """Put ascending records at a page that is no branch, as a bucket or, if they are too many, as a new branch."""
        if len(records) <= BUCKET_KEYS or position >= DEEPEST:
            value = _fold(records, 0, len(records), position)
            self._written.append((number, value, b"".join(records)))
            return (_ONE if len(records) == 1 else _MORE), value
        groups: dict[int, list[bytes]] = {}
        shift = 64 - STEP - position
        for record in records:
            place = ((int.from_bytes(record[:8], "big") >> shift) & (FAN - 1)) + FAN
            groups.setdefault(place, []).append(record)
        branch, below = _Branch(), (number << STEP) - FAN
        for place, group in groups.items():
            branch.kind[place], branch.hash[place] = self._write(below + place, position + STEP, group)
        branch.rehash(groups)
        self._keep(number, branch)
        self._written.append((number, branch.hash[1], None))
        return _BRANCH, branch.hash[1]

    def _grown(self, records: list[bytes], wanted: _Wanted) -> list[bytes]:
        """Ascending records with indices added."""
        if len(wanted) > 4 * BUCKET_KEYS:  # many new keys at once: one sort is cheaper than many insertions
            kept = {record[:32]: record for record in records}
            for _, key, indices in wanted:
                kept[key] = self._record(kept.get(key), key, indices)
            return sorted(kept.values())
        for _, key, indices in wanted:
            at = bisect_left(records, key)  # a record begins with its key, so it sorts after it
            if at < len(records) and records[at][:32] == key:
                records[at] = self._record(records[at], key, indices)
            else:
                records.insert(at, self._record(None, key, indices))
        return records

    def _record(self, known: bytes | None, key: bytes, indices: list[int]) -> bytes:
        if known is None and len(indices) == 1:
            packed = u64(indices[0])
            running = hashlib.sha256(b"\x13" + RUNNING_START + packed).digest()
            head = key + _COUNT_1 + packed
            return head + hashlib.sha256(b"\x11" + head + running).digest()
        if known is None:
            count, first, running, new = len(indices), indices[0], run(indices), indices
        else:
            _, before, first = _read(known)
            count = before + len(indices)
            if before == 1:
                so_far, new = run([first]), [first, *indices]
            else:
                so_far, new = self._store.running(key), indices
                if so_far is None:
                    raise SetupError("the absence index contradicts itself: a key's running hash is missing")
            running = run(indices, so_far)
        if any(a >= b for a, b in pairwise(new)):
            raise UsageError("indices are added to the absence index in ascending order")
        self._store.put_indices(key, new, running)
        return key + u64(count) + u64(first) + key_hash(key, count, first, running)


_COUNT_1 = u64(1)


def _read(record: bytes) -> tuple[bytes, int, int]:
    """(key, count, first) of a record."""
    return record[:32], int.from_bytes(record[32:40], "big"), int.from_bytes(record[40:48], "big")


def _cut(records: list[bytes], start: int, end: int, position: int) -> int:
    """Where those of ascending records from `start` to `end`, alike before bit `position`, begin to have a 1 there."""
    byte, mask = position >> 3, 0x80 >> (position & 7)
    while start < end and not records[start][byte] & mask:
        start += 1
    return start


def _fold(records: list[bytes], start: int, end: int, position: int) -> bytes:
    """Hash of the subtree of the ascending records from `start` to `end`, which share all bits before `position`."""
    if end - start == 1:
        return records[start][48:]
    if start == end:
        return EMPTY
    cut = _cut(records, start, end, position)
    left, right = _fold(records, start, cut, position + 1), _fold(records, cut, end, position + 1)
    return hashlib.sha256(b"\x10" + left + right).digest()
