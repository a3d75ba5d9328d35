"""The absence index as pages: incremental insertion, root and proofs, at a few pages per key whatever the size.

The map is a binary trie over 256-bit keys in which a subtree with one key is that key's leaf. A page stands at a
prefix of whole bytes and is one of

    bucket   0x00 || up to 64 keys, ascending: 32 B key | u64 count | u64 first | 32 B leaf hash
    branch   0x01 || 256 children: u8 0 without keys, 1 one key, 2 more | 32 B subtree hash

A bucket that grows past 64 keys becomes a branch of buckets. The page format is private to this machine; only hashes
and proofs leave it. What a key with several indices needs beside its page (their list and running hash) is kept by the
`PageStore`, so that a digest logged a million times costs each insertion the same.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

from ...schemas.errors import SetupError, UsageError
from ..wire import u64
from .keys import EMPTY, bit, key_hash, node_hash, run
from .proof import KeyProof, Occupant

BUCKET_KEYS = 64
_RECORD = 80
_CHILD = 33
_NONE, _ONE, _MORE = 0, 1, 2
_CACHED_BRANCHES = 1024


class PageStore(Protocol):
    """Where pages and the indices of repeated keys lie."""

    def page(self, prefix: bytes) -> bytes | None:
        """The page at a prefix, or None."""
        ...

    def put_page(self, prefix: bytes, data: bytes) -> None:
        """Keep a page."""
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
        self._pages: dict[bytes, bytes] = {}
        self._indices: dict[bytes, list[int]] = {}
        self._running: dict[bytes, bytes] = {}

    def page(self, prefix: bytes) -> bytes | None:
        """See `PageStore`."""
        return self._pages.get(prefix)

    def put_page(self, prefix: bytes, data: bytes) -> None:
        """See `PageStore`."""
        self._pages[prefix] = data

    def running(self, key: bytes) -> bytes | None:
        """See `PageStore`."""
        return self._running.get(key)

    def indices(self, key: bytes) -> list[int]:
        """See `PageStore`."""
        return self._indices.get(key, [])

    def put_indices(self, key: bytes, indices: Iterable[int], running: bytes) -> None:
        """See `PageStore`."""
        self._indices.setdefault(key, []).extend(indices)
        self._running[key] = running


@dataclass(slots=True)
class _Key:
    """One key of a bucket."""

    key: bytes
    count: int
    first: int
    hash: bytes


class _Branch:
    """256 children and the 255 nodes above them, in heap order: 1 is the top, child c is 256 + c."""

    def __init__(self, children: Iterable[tuple[int, int, bytes]] = ()) -> None:
        self.kind = bytearray(512)
        self.hash = [EMPTY] * 512
        touched: set[int] = set()
        for child, kind, value in children:
            self.set(child, kind, value)
            touched.add(256 + child)
        self.rehash(touched)

    def set(self, child: int, kind: int, value: bytes) -> None:
        self.kind[256 + child] = kind
        self.hash[256 + child] = value

    def rehash(self, touched: set[int]) -> None:
        """Recompute the nodes above these heap places of children."""
        kind, value = self.kind, self.hash
        while touched and 1 not in touched:
            touched = {place >> 1 for place in touched}
            for place in touched:
                left, right = 2 * place, 2 * place + 1
                if kind[left] + kind[right] <= _ONE:  # nothing, or one key alone, which rises
                    kind[place] = kind[left] + kind[right]
                    value[place] = value[left] if kind[left] else value[right]
                else:
                    kind[place] = _MORE
                    value[place] = node_hash(value[left], value[right])

    def encode(self) -> bytes:
        parts = [b"\x01"]
        for place in range(256, 512):
            parts += [self.kind[place : place + 1], self.hash[place]]
        return b"".join(parts)

    @classmethod
    def decode(cls, data: bytes) -> _Branch:
        children = ((c, data[1 + c * _CHILD], data[2 + c * _CHILD : 1 + (c + 1) * _CHILD]) for c in range(256))
        return cls(child for child in children if child[1])


_Bucket = dict[bytes, _Key]


class IndexMap:
    """The map over a `PageStore`. Not thread-safe: whoever owns it serialises."""

    def __init__(self, store: PageStore) -> None:
        self._store = store
        self._branches: OrderedDict[bytes, _Branch] = OrderedDict()

    def root(self) -> bytes:
        """The index root, 32 bytes."""
        page = self._page(b"")
        return page.hash[1] if isinstance(page, _Branch) else _fold(_sorted(page), 0)

    def add(self, items: Iterable[tuple[bytes, int]]) -> None:
        """Add indices to keys: (32-byte key, index); each key's indices come ascending, over all calls."""
        wanted: dict[bytes, list[int]] = {}
        for key, index in items:
            wanted.setdefault(key, []).append(index)
        if wanted:
            self._update(b"", wanted)

    def prove(self, key: bytes) -> KeyProof:
        """What stands at a key's place. Raises `SetupError` where the store contradicts itself."""
        siblings: list[bytes] = []
        prefix = b""
        while True:
            page = self._page(prefix)
            if not isinstance(page, _Branch):
                return self._prove_in_bucket(_sorted(page), key, siblings)
            place = 1
            while place < 256 and page.kind[place] == _MORE:
                right = bit(key, 8 * len(prefix) + place.bit_length() - 1)
                siblings.append(page.hash[2 * place + (1 - right)])
                place = 2 * place + right
            if page.kind[place] == _NONE:
                return KeyProof(tuple(siblings))
            if page.kind[place] == _ONE:
                while place < 256:
                    place = 2 * place + (0 if page.kind[2 * place] else 1)
                return self._terminal(self._only_key(prefix + bytes([place - 256])), key, siblings)
            prefix += bytes([place - 256])

    def indices(self, key: bytes) -> tuple[int, ...]:
        """The indices of a key, ascending; empty if it is absent. Proven by nothing."""
        return self.prove(key).indices

    def _prove_in_bucket(self, keys: list[_Key], key: bytes, siblings: list[bytes]) -> KeyProof:
        position = len(siblings)
        while len(keys) > 1:
            sides = _split(keys, position)
            right = bit(key, position)
            siblings.append(_fold(sides[1 - right], position + 1))
            keys = sides[right]
            position += 1
        if not keys:
            return KeyProof(tuple(siblings))
        return self._terminal(keys[0], key, siblings)

    def _terminal(self, found: _Key, key: bytes, siblings: list[bytes]) -> KeyProof:
        if found.key == key:
            indices = [found.first] if found.count == 1 else self._store.indices(key)
            if len(indices) != found.count:
                raise SetupError("the absence index contradicts itself: a key's list is not as long as its count")
            return KeyProof(tuple(siblings), tuple(indices))
        running = run([found.first]) if found.count == 1 else self._store.running(found.key)
        if running is None:
            raise SetupError("the absence index contradicts itself: a key's running hash is missing")
        return KeyProof(tuple(siblings), (), Occupant(found.key, found.count, found.first, running))

    def _only_key(self, prefix: bytes) -> _Key:
        page = self._page(prefix)
        if isinstance(page, _Branch) or len(page) != 1:
            raise SetupError("the absence index contradicts itself: a page does not hold the one key that is said")
        return next(iter(page.values()))

    def _page(self, prefix: bytes) -> _Branch | _Bucket:
        known = self._branches.get(prefix)
        if known is not None:
            self._branches.move_to_end(prefix)
            return known
        data = self._store.page(prefix)
        if data is None:
            return {}
        if data[:1] == b"\x01" and len(data) == 1 + 256 * _CHILD:
            return self._keep(prefix, _Branch.decode(data))
        if data[:1] == b"\x00" and len(data) % _RECORD == 1:
            return _decode_bucket(data)
        raise SetupError("the absence index contradicts itself: a page of it is damaged")

    def _keep(self, prefix: bytes, branch: _Branch) -> _Branch:
        self._branches[prefix] = branch
        self._branches.move_to_end(prefix)
        while len(self._branches) > _CACHED_BRANCHES:
            self._branches.popitem(last=False)
        return branch

    def _update(self, prefix: bytes, wanted: dict[bytes, list[int]]) -> tuple[int, bytes]:
        """Add to the page at a prefix; its (kind, hash) afterwards."""
        page = self._page(prefix)
        if isinstance(page, _Branch):
            groups: dict[int, dict[bytes, list[int]]] = {}
            for key, indices in wanted.items():
                groups.setdefault(key[len(prefix)], {})[key] = indices
            for child, group in groups.items():
                page.set(child, *self._update(prefix + bytes([child]), group))
            page.rehash({256 + child for child in groups})
            self._store.put_page(prefix, page.encode())
            self._keep(prefix, page)
            return _MORE, page.hash[1]
        for key, indices in wanted.items():
            page[key] = self._grown(page.get(key), key, indices)
        return self._write_bucket(prefix, _sorted(page))

    def _write_bucket(self, prefix: bytes, keys: list[_Key]) -> tuple[int, bytes]:
        if len(keys) <= BUCKET_KEYS:
            self._store.put_page(prefix, _encode_bucket(keys))
            return (_ONE if len(keys) == 1 else _MORE), _fold(keys, 8 * len(prefix))
        groups: dict[int, list[_Key]] = {}
        for item in keys:
            groups.setdefault(item.key[len(prefix)], []).append(item)
        branch = _Branch(
            (child, *self._write_bucket(prefix + bytes([child]), group)) for child, group in groups.items()
        )
        self._store.put_page(prefix, branch.encode())
        self._keep(prefix, branch)
        return _MORE, branch.hash[1]

    def _grown(self, known: _Key | None, key: bytes, indices: list[int]) -> _Key:
        if known is None and len(indices) == 1:
            return _Key(key, 1, indices[0], key_hash(key, 1, indices[0], run(indices)))
        if known is None:
            count, first, running, new = len(indices), indices[0], run(indices), indices
        else:
            count, first = known.count + len(indices), known.first
            if known.count == 1:
                before, new = run([first]), [first, *indices]
            else:
                before, new = self._store.running(key), indices
                if before is None:
                    raise SetupError("the absence index contradicts itself: a key's running hash is missing")
            running = run(indices, before)
        if any(a >= b for a, b in pairwise(new)):
            raise UsageError("indices are added to the absence index in ascending order")
        self._store.put_indices(key, new, running)
        return _Key(key, count, first, key_hash(key, count, first, running))


def _sorted(bucket: _Bucket) -> list[_Key]:
    return [bucket[key] for key in sorted(bucket)]


def _split(keys: list[_Key], position: int) -> tuple[list[_Key], list[_Key]]:
    """Ascending keys that share all bits before `position`, by their bit there."""
    cut = 0
    while cut < len(keys) and not bit(keys[cut].key, position):
        cut += 1
    return keys[:cut], keys[cut:]


def _fold(keys: list[_Key], position: int) -> bytes:
    """Hash of the subtree of ascending keys that share all bits before `position`."""
    if not keys:
        return EMPTY
    if len(keys) == 1:
        return keys[0].hash
    left, right = _split(keys, position)
    return node_hash(_fold(left, position + 1), _fold(right, position + 1))


def _encode_bucket(keys: list[_Key]) -> bytes:
    return b"\x00" + b"".join(k.key + u64(k.count) + u64(k.first) + k.hash for k in keys)


def _decode_bucket(data: bytes) -> _Bucket:
    bucket: _Bucket = {}
    for at in range(1, len(data), _RECORD):
        key = data[at : at + 32]
        count = int.from_bytes(data[at + 32 : at + 40], "big")
        first = int.from_bytes(data[at + 40 : at + 48], "big")
        bucket[key] = _Key(key, count, first, data[at + 48 : at + _RECORD])
    return bucket
