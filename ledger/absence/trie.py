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
from collections.abc import Iterable
from itertools import pairwise

from ...schemas.errors import EvidenceError, SetupError, UsageError
from ..notes.wire import u64
from .branch import BRANCH, MORE, NONE, ONE, Branch
from .bucket import BUCKET_KEYS, DAMAGED, RECORD, Added, cut, fold, split
from .keys import EMPTY, RUNNING_START, bit, key_hash, run
from .layout import FAN, ROOT, STEP, MemoryPages, Page, PageStore, Unfit
from .proof import MAX_INDICES, KeyProof, Occupant

DEEPEST = 60
_CACHED_BRANCHES = 8192

_Wanted = list[tuple[int, bytes, list[int]]]
"""Keys with the indices they gain: (first 64 bits, key, indices)."""


class IndexMap:
    """The map over a `PageStore`. Not thread-safe, and alone with its store: whoever owns it serialises."""

    def __init__(self, store: PageStore) -> None:
        self._store = store
        self._branches: dict[int, Branch] = {}
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
            # ascending, as the pages lie in the file: what is read next is near what was read last
            wanted = [(int.from_bytes(key[:8], "big"), key, gained[key]) for key in sorted(gained)]
            kind = NONE if self._store.page(ROOT) is None else MORE if self._branch(ROOT) is None else BRANCH
            self._update(ROOT, 0, kind, wanted)
            self._store.put(self._written)
            self._written = []

    def prove(self, key: bytes) -> KeyProof:
        """What stands at a key's place. Raises `SetupError` where the store contradicts itself."""
        try:
            return self._prove(key)
        except EvidenceError as error:  # a proof of no possible shape
            raise Unfit(f"the absence index contradicts itself: {error}") from None

    def _prove(self, key: bytes) -> KeyProof:
        siblings: list[bytes] = []
        number, position = ROOT, 0
        while True:
            branch = self._branch(number)
            if branch is None:
                return self._prove_in_bucket(self._records(number), key, siblings)
            place = 1
            while place < FAN and branch.kind[place] == MORE:
                right = bit(key, position + place.bit_length() - 1)
                place = 2 * place + right
                siblings.append(branch.hash[place ^ 1])
            if branch.kind[place] == NONE:
                return KeyProof(tuple(siblings))
            if branch.kind[place] == ONE:
                while place < FAN:
                    place = 2 * place + (0 if branch.kind[2 * place] else 1)
                records = self._records((number << STEP) + place - FAN)
                if len(records) != 1:
                    raise Unfit("the absence index contradicts itself: a page does not hold the one key")
                return self._terminal(records[0], key, siblings)
            number, position = (number << STEP) + place - FAN, position + STEP

    def indices(self, key: bytes) -> tuple[int, ...]:
        """The indices of a key, ascending; empty if it is absent. Proven by nothing."""
        return self.prove(key).indices

    def _prove_in_bucket(self, records: list[bytes], key: bytes, siblings: list[bytes]) -> KeyProof:
        position = len(siblings)
        while len(records) > 1:
            middle = cut(records, 0, len(records), position)
            right = bit(key, position)
            position += 1
            if right:
                siblings.append(fold(records, 0, middle, position))
                records = records[middle:]
            else:
                siblings.append(fold(records, middle, len(records), position))
                records = records[:middle]
        return self._terminal(records[0], key, siblings) if records else KeyProof(tuple(siblings))

    def _terminal(self, record: bytes, key: bytes, siblings: list[bytes]) -> KeyProof:
        found, count, first = _read(record)
        if found == key:
            if count > MAX_INDICES:
                raise SetupError(f"{count} entries name this image, more than a proof of presence can list")
            indices = [first] if count == 1 else self._store.indices(key)
            if len(indices) != count:
                raise Unfit("the absence index contradicts itself: a key's list is not as long as its count")
            return KeyProof(tuple(siblings), tuple(indices))
        running = run([first]) if count == 1 else self._store.running(found)
        if running is None:
            raise Unfit("the absence index contradicts itself: a key's running hash is missing")
        return KeyProof(tuple(siblings), (), Occupant(found, count, first, running))

    def _records(self, number: int) -> list[bytes]:
        page = self._store.page(number)
        if page is None:
            return []
        data = page[2]
        if not data:
            raise Unfit(DAMAGED)
        records = split(data)
        # they all belong here, too
        position = number.bit_length() - 1
        for record in (records[0], records[-1]):
            if (int.from_bytes(record[:8], "big") >> (64 - position)) | (1 << position) != number:
                raise Unfit(DAMAGED)
        return records

    def _branch(self, number: int) -> Branch | None:
        """The branch at a page number, or None for a bucket or nothing."""
        known = self._branches.get(number)
        if known is not None:
            return known
        page = self._store.page(number)
        if page is None or page[2] is not None:
            return None
        branch, places = Branch(), set[int]()
        for child, value, length in self._store.below(number):
            place = child - (number << STEP) + FAN
            branch.kind[place] = BRANCH if length is None else ONE if length == RECORD else MORE
            branch.hash[place] = value
            places.add(place)
        branch.rehash(places)
        if branch.hash[1] != page[1]:
            raise Unfit("the absence index contradicts itself: a branch is not what its pages give")
        return self._keep(number, branch)

    def _keep(self, number: int, branch: Branch) -> Branch:
        self._branches[number] = branch
        if len(self._branches) > _CACHED_BRANCHES:
            del self._branches[next(iter(self._branches))]
        return branch

    def _below(self, number: int) -> Branch:
        branch = self._branch(number)
        if branch is None:
            raise Unfit("the absence index contradicts itself: a branch of it is missing")
        return branch

    def _update(self, number: int, position: int, kind: int, wanted: _Wanted) -> tuple[int, bytes]:
        """Add to the page `number` of this kind, which stands at bit `position`; its (kind, hash) afterwards."""
        if kind != BRANCH:
            return self._fill(number, position, kind, wanted)
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
        return BRANCH, values[1]

    def _update_one(self, number: int, position: int, wanted: _Wanted) -> tuple[int, bytes]:
        """`_update` of a branch by one key: down to its bucket and up again."""
        path: list[tuple[Branch, int, int]] = []
        bits, kind = wanted[0][0], BRANCH
        while kind == BRANCH:
            branch = self._below(number)
            place = ((bits >> (64 - STEP - position)) & (FAN - 1)) + FAN
            path.append((branch, place, number))
            number, position, kind = (number << STEP) + place - FAN, position + STEP, branch.kind[place]
        kind, value = self._fill(number, position, kind, wanted)
        for branch, place, above in reversed(path):
            branch.set(place, kind, value)
            kind, value = BRANCH, branch.hash[1]
            self._written.append((above, value, None))
        return kind, value

    def _fill(self, number: int, position: int, kind: int, wanted: _Wanted) -> tuple[int, bytes]:
        """`_update` of a page that is no branch."""
        if not kind:
            return self._write(number, position, self._grown([], wanted))
        page = self._store.page(number)
        data = page[2] if page is not None else None
        if page is None or not data or len(data) % RECORD:
            raise Unfit(DAMAGED)
        [(bits, key, indices), *more] = wanted
        if not more and len(indices) == 1 and len(data) < BUCKET_KEYS * RECORD:
            record = _new_record(key, indices[0])
            try:
                added = Added(data, position, bits, record)
            except KeyError:
                pass
            else:
                at = added.at * RECORD
                if added.before != page[1]:
                    raise Unfit(DAMAGED)
                self._check(added.nearest)
                self._written.append((number, added.after, data[:at] + record + data[at:]))
                return MORE, added.after
        records = split(data)
        if fold(records, 0, len(records), position) != page[1]:
            raise Unfit(DAMAGED)
        for record in records:
            self._check(record)
        return self._write(number, position, self._grown(records, wanted))

    def _check(self, record: bytes) -> None:
        """`Unfit` unless a record's leaf hash is that of its key, count and first index."""
        if record[32:40] == _COUNT_1:
            running = hashlib.sha256(_RUN_1 + record[40:48]).digest()
            if hashlib.sha256(b"\x11" + record[:48] + running).digest() != record[48:]:
                raise Unfit(DAMAGED)
            return
        key, count, first = _read(record)
        running = self._store.running(key)
        if running is None or key_hash(key, count, first, running) != record[48:]:
            raise Unfit(DAMAGED)

    def _write(self, number: int, position: int, records: list[bytes]) -> tuple[int, bytes]:
        """Put ascending records at a page that is no branch, as a bucket or, if they are too many, as a new branch."""
        if len(records) <= BUCKET_KEYS or position >= DEEPEST:
            value = fold(records, 0, len(records), position)
            self._written.append((number, value, b"".join(records)))
            return (ONE if len(records) == 1 else MORE), value
        groups: dict[int, list[bytes]] = {}
        shift = 64 - STEP - position
        for record in records:
            place = ((int.from_bytes(record[:8], "big") >> shift) & (FAN - 1)) + FAN
            groups.setdefault(place, []).append(record)
        branch, below = Branch(), (number << STEP) - FAN
        for place, group in groups.items():
            branch.kind[place], branch.hash[place] = self._write(below + place, position + STEP, group)
        branch.rehash(groups)
        self._keep(number, branch)
        self._written.append((number, branch.hash[1], None))
        return BRANCH, branch.hash[1]

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
            return _new_record(key, indices[0])
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
                    raise Unfit("the absence index contradicts itself: a key's running hash is missing")
            running = run(indices, so_far)
        if any(a >= b for a, b in pairwise(new)):
            raise UsageError("indices are added to the absence index in ascending order")
        self._store.put_indices(key, new, running)
        return key + u64(count) + u64(first) + key_hash(key, count, first, running)


_COUNT_1 = u64(1)
_RUN_1 = b"\x13" + RUNNING_START


def _new_record(key: bytes, index: int) -> bytes:
    """The record of a key with one index."""
    packed = u64(index)
    head = key + _COUNT_1 + packed
    return head + hashlib.sha256(b"\x11" + head + hashlib.sha256(_RUN_1 + packed).digest()).digest()


def _read(record: bytes) -> tuple[bytes, int, int]:
    """(key, count, first) of a record."""
    return record[:32], int.from_bytes(record[32:40], "big"), int.from_bytes(record[40:48], "big")


__all__ = ["IndexMap", "MemoryPages"]
