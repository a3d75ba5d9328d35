"""The Merkle tree of RFC 6962 section 2.1 (SHA-256), strict.

Promises: a proof's length follows from index and size and is checked before anything is hashed; every hash has
exactly 32 bytes; `verify_*` return nothing and raise `EvidenceError`, so that a forgotten `if` cannot turn a false
proof into a true one. Nobody is trusted: whoever calls brings the root that was signed.

A *complete subtree* (level, index) covers the 2**level leaves from index * 2**level on. Proofs are made from a reader
`get(level, index) -> bytes` of complete subtrees, which tiles, SQLite and plain lists can all be.

*Subtrees* [start, end) are those of C2SP tlog-cosignature and tlog-mirror: start is a multiple of the smallest power
of two that is not below end - start. A tree of size n is the subtree [0, n).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence

from ...schemas.errors import EvidenceError, UsageError
from ..notes.wire import HASH_SIZE, MAX_SIZE

EMPTY_ROOT = hashlib.sha256(b"").digest()
"""Root of the tree without leaves."""


def hash_leaf(data: bytes) -> bytes:
    """SHA-256(0x00 || data): the hash of an entry as received."""
    return hashlib.sha256(b"\x00" + data).digest()


def hash_leaves(leaves: Sequence[bytes]) -> list[bytes]:
    """`hash_leaf` of each."""
    sha256 = hashlib.sha256
    return [sha256(b"\x00" + data).digest() for data in leaves]


def hash_node(left: bytes, right: bytes) -> bytes:
    """SHA-256(0x01 || left || right)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def _split(size: int) -> int:
    """The largest power of two smaller than `size` (at least 2): where RFC 6962 cuts a tree in two."""
    return 1 << ((size - 1).bit_length() - 1)


def _require_hashes(hashes: Iterable[bytes], what: str) -> None:
    for value in hashes:
        if len(value) != HASH_SIZE:
            raise EvidenceError(f"{what}: a hash has {len(value)} bytes, not {HASH_SIZE}")


def _require_equal(computed: bytes, claimed: bytes, what: str) -> None:
    if computed != claimed:
        raise EvidenceError(f"{what} proof does not lead to the claimed root")


# --- roots ---


def complete_root(hashes: Sequence[bytes]) -> bytes:
    """Root of a complete subtree from its 2**k leaf hashes (or roots of equal height), each of 32 bytes."""
    if not hashes or len(hashes) & (len(hashes) - 1):
        raise UsageError(f"a complete subtree has a power of two of leaves, not {len(hashes)}")
    sha256 = hashlib.sha256
    while len(hashes) > 1:
        pairs = iter(hashes)
        hashes = [sha256(b"\x01" + left + right).digest() for left, right in zip(pairs, pairs, strict=True)]
    return hashes[0]


class CompactRange:
    """The right edge of a growing tree: enough to append and to know the root, at most 63 hashes.

    `edge` holds the complete subtrees that size's binary digits name, largest (leftmost) first.
    """

    __slots__ = ("_edge", "_size")

    def __init__(self, size: int = 0, edge: Sequence[bytes] = ()) -> None:
        """Continue at `size` from its right edge; raises `EvidenceError` if the number of hashes does not fit."""
        if not 0 <= size <= MAX_SIZE:
            raise EvidenceError(f"a tree cannot have {size} leaves")
        if len(edge) != size.bit_count():
            raise EvidenceError(f"the right edge of size {size} has {size.bit_count()} hashes, not {len(edge)}")
        _require_hashes(edge, "right edge")
        self._size = size
        self._edge = list(edge)

    @classmethod
    def read(cls, get: Callable[[int, int], bytes], size: int) -> CompactRange:
        """The range of the first `size` leaves behind a reader of complete subtrees."""
        return cls(size, [get(level, index) for level, index in right_edge(size)])

    @property
    def size(self) -> int:
        """Number of leaves."""
        return self._size

    @property
    def edge(self) -> tuple[bytes, ...]:
        """The right edge, largest subtree first."""
        return tuple(self._edge)

    def append(self, leaf_hash: bytes) -> None:
        """Add one leaf hash (32 bytes)."""
        _require_hashes((leaf_hash,), "leaf")
        carry = self._size
        while carry & 1:
            leaf_hash = hash_node(self._edge.pop(), leaf_hash)
            carry >>= 1
        self._edge.append(leaf_hash)
        self._size += 1

    def extend(self, leaf_hashes: Sequence[bytes], height: int = 8) -> list[bytes]:
        """Add leaf hashes; returns the roots of the complete subtrees of this height that they finished, in order.

        Every node is hashed once. With height 8 these are the items of the next level's tiles.
        """
        _require_hashes(leaf_hashes, "leaf")
        done: list[bytes] = []
        width, place, count = 1 << height, 0, len(leaf_hashes)
        while place < count:
            # an aligned run is reduced as a whole, the rest leaf by leaf
            if self._size % width == 0 and count - place >= width:
                value, level = complete_root(leaf_hashes[place : place + width]), height
                done.append(value)
            else:
                value, level = leaf_hashes[place], 0
            added = 1 << level
            carry = self._size >> level
            while carry & 1:
                value = hash_node(self._edge.pop(), value)
                level += 1
                carry >>= 1
                if level == height:
                    done.append(value)
            self._edge.append(value)
            self._size += added
            place += added
        return done

    def root(self) -> bytes:
        """The RFC 6962 root of all leaves so far."""
        if not self._edge:
            return EMPTY_ROOT
        root = self._edge[-1]
        for left in reversed(self._edge[:-1]):
            root = hash_node(left, root)
        return root

    def copy(self) -> CompactRange:
        """An independent range at the same size."""
        return CompactRange(self._size, self._edge)


def right_edge(size: int) -> list[tuple[int, int]]:
    """(level, index) of the complete subtrees that make up the first `size` leaves, largest first."""
    edge: list[tuple[int, int]] = []
    start = 0
    while start < size:
        level = (size - start).bit_length() - 1
        edge.append((level, start >> level))
        start += 1 << level
    return edge


def require_subtree(start: int, end: int, size: int) -> None:
    """[start, end) is a C2SP subtree of a tree of `size` leaves, or an `EvidenceError`."""
    if not 0 <= start <= end <= size <= MAX_SIZE:
        raise EvidenceError(f"[{start}, {end}) does not lie in a tree of size {size}")
    if end > start and start % (1 << (end - start - 1).bit_length()):
        raise EvidenceError(f"[{start}, {end}) is not a subtree: its start is not aligned")


def subtree_root(get: Callable[[int, int], bytes], start: int, end: int) -> bytes:
    """Root of the subtree [start, end) behind a reader; the tree of size n is [0, n)."""
    require_subtree(start, end, end)
    if start == end:
        return EMPTY_ROOT
    width = end - start
    if width & (width - 1) == 0:
        level = width.bit_length() - 1
        return get(level, start >> level)
    middle = start + _split(width)
    return hash_node(subtree_root(get, start, middle), subtree_root(get, middle, end))


# --- inclusion ---


def inclusion_length(index: int, size: int) -> int:
    """Number of hashes in the inclusion path of leaf `index` in a tree of `size`; `EvidenceError` if it has none."""
    if not 0 <= index < size <= MAX_SIZE:
        raise EvidenceError(f"leaf {index} is not in a tree of size {size}")
    inner = (index ^ (size - 1)).bit_length()
    return inner + (index >> inner).bit_count()


def inclusion_path(get: Callable[[int, int], bytes], index: int, size: int) -> list[bytes]:
    """The sibling hashes from leaf `index` up to the root of the first `size` leaves (RFC 6962 section 2.1.1)."""
    if not 0 <= index < size <= MAX_SIZE:
        raise UsageError(f"leaf {index} is not in a tree of size {size}")
    path: list[bytes] = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            path.append(subtree_root(get, middle, end))
            end = middle
        else:
            path.append(subtree_root(get, start, middle))
            start = middle
    path.reverse()
    return path


def root_from_inclusion(index: int, size: int, leaf_hash: bytes, path: Sequence[bytes]) -> bytes:
    """The root that `path` leads to from `leaf_hash`; `EvidenceError` if its length or a hash's length is wrong."""
    length = inclusion_length(index, size)
    if len(path) != length:
        raise EvidenceError(f"inclusion proof of leaf {index} in size {size} has {len(path)} hashes, not {length}")
    _require_hashes((leaf_hash, *path), "inclusion proof")
    inner = (index ^ (size - 1)).bit_length()
    result = leaf_hash
    for level, sibling in enumerate(path):
        # above `inner` the leaf lies on the right border: all siblings are left of it, absent ones are skipped
        is_right = level >= inner or (index >> level) & 1
        result = hash_node(sibling, result) if is_right else hash_node(result, sibling)
    return result


def verify_inclusion(index: int, size: int, leaf_hash: bytes, path: Sequence[bytes], root: bytes) -> None:
    """Leaf `index` of the tree with this size and root has this hash, or an `EvidenceError`."""
    _require_hashes((root,), "inclusion proof")
    _require_equal(root_from_inclusion(index, size, leaf_hash, path), root, "inclusion")


def verify_subtree_inclusion(
    index: int, start: int, end: int, leaf_hash: bytes, path: Sequence[bytes], root: bytes
) -> None:
    """Leaf `index` (counted in the whole tree) of the subtree [start, end) with this root has this hash."""
    require_subtree(start, end, end)
    if not start <= index < end:
        raise EvidenceError(f"leaf {index} is not in [{start}, {end})")
    verify_inclusion(index - start, end - start, leaf_hash, path, root)


# --- consistency ---

# Which side of the way down a proof hash stands on, and whom it concerns.
_RIGHT = 0  # right sibling: part of the large tree only
_LEFT = 1  # left sibling that lies before the subtree: part of the large tree only
_SHARED = 2  # left sibling inside the subtree: part of both


def _consistency_plan(start: int, end: int, size: int) -> tuple[list[tuple[int, int, int]], tuple[int, int] | None]:
    """The ranges whose hashes a subtree consistency proof lists, from the bottom up.

    Returns steps (side, range start, range end), and the range the proof must begin with, or None where the subtree's
    own root serves as the seed. Written down from the recursion of C2SP tlog-mirror / RFC 6962 section 2.1.2.
    """
    steps: list[tuple[int, int, int]] = []
    low, high = 0, size
    seed_given = False
    while (low, high) != (start, end):
        middle = low + _split(high - low)
        if end <= middle:
            steps.append((_RIGHT, middle, high))
            high = middle
        elif start >= middle:
            steps.append((_LEFT, low, middle))
            low = middle
        else:  # alignment makes start == low here: the left half belongs to the subtree whole
            steps.append((_SHARED, low, middle))
            low = start = middle
            seed_given = True
    steps.reverse()
    return steps, (low, high) if seed_given else None


def subtree_consistency_path(get: Callable[[int, int], bytes], start: int, end: int, size: int) -> list[bytes]:
    """Proof that the tree of `size` holds the subtree [start, end); empty for an empty or a whole one."""
    try:
        require_subtree(start, end, size)
    except EvidenceError as error:
        raise UsageError(str(error)) from None
    if start == end:
        return []
    steps, seed = _consistency_plan(start, end, size)
    ranges = ([seed] if seed else []) + [(low, high) for _, low, high in steps]
    return [subtree_root(get, low, high) for low, high in ranges]


def consistency_path(get: Callable[[int, int], bytes], old_size: int, new_size: int) -> list[bytes]:
    """Proof that the tree of `new_size` continues that of `old_size` (RFC 6962 section 2.1.2); empty from size 0."""
    return subtree_consistency_path(get, 0, old_size, new_size)


def verify_subtree_consistency(
    start: int, end: int, size: int, subtree_hash: bytes, root: bytes, path: Sequence[bytes]
) -> None:
    """The tree of this size and root holds the subtree [start, end) with this hash, or an `EvidenceError`.

    An empty subtree must have the empty root and an empty proof, and says nothing about the tree.
    """
    require_subtree(start, end, size)
    _require_hashes((subtree_hash, root), "consistency proof")
    if start == end:
        if path:
            raise EvidenceError("consistency proof of an empty subtree is not empty")
        _require_equal(EMPTY_ROOT, subtree_hash, "consistency")
        return
    steps, seed = _consistency_plan(start, end, size)
    length = len(steps) + (seed is not None)
    if len(path) != length:
        raise EvidenceError(
            f"consistency proof of [{start}, {end}) in size {size} has {len(path)} hashes, not {length}"
        )
    _require_hashes(path, "consistency proof")
    rest = list(path)
    old = new = rest.pop(0) if seed else subtree_hash
    for (side, _, _), value in zip(steps, rest, strict=True):
        if side == _RIGHT:
            new = hash_node(new, value)
        else:
            new = hash_node(value, new)
            if side == _SHARED:
                old = hash_node(value, old)
    _require_equal(old, subtree_hash, "consistency")
    _require_equal(new, root, "consistency")


def verify_consistency(old_size: int, old_root: bytes, new_size: int, new_root: bytes, path: Sequence[bytes]) -> None:
    """The tree of `new_size` continues that of `old_size`, or an `EvidenceError`.

    From size 0 on everything continues (tlog-witness): the old root must be the empty one and the proof empty.
    """
    if old_size > new_size:
        raise EvidenceError(f"a tree cannot shrink from {old_size} to {new_size}")
    if new_size == 0:
        _require_equal(EMPTY_ROOT, new_root, "consistency")
    verify_subtree_consistency(0, old_size, new_size, old_root, new_root, path)


class MemoryTree:
    """All complete subtrees in lists: for small trees (a record's ten leaves, tests). 64 bytes a leaf and more."""

    __slots__ = ("_levels",)

    def __init__(self, leaf_hashes: Iterable[bytes] = ()) -> None:
        self._levels: list[list[bytes]] = [[]]
        for leaf_hash in leaf_hashes:
            self.append(leaf_hash)

    @property
    def size(self) -> int:
        """Number of leaves."""
        return len(self._levels[0])

    def append(self, leaf_hash: bytes) -> int:
        """Add one leaf hash (32 bytes) and return its index."""
        _require_hashes((leaf_hash,), "leaf")
        index = self.size
        value, level = leaf_hash, 0
        self._levels[0].append(value)
        while len(self._levels[level]) % 2 == 0:
            value = hash_node(self._levels[level][-2], value)
            level += 1
            if level == len(self._levels):
                self._levels.append([])
            self._levels[level].append(value)
        return index

    def get(self, level: int, index: int) -> bytes:
        """Hash of the complete subtree (level, index); `UsageError` if the tree does not have it."""
        if not (0 <= level < len(self._levels) and 0 <= index < len(self._levels[level])):
            raise UsageError(f"there is no complete subtree ({level}, {index}) in a tree of size {self.size}")
        return self._levels[level][index]

    def _at(self, size: int | None) -> int:
        if size is None:
            return self.size
        if not 0 <= size <= self.size:
            raise UsageError(f"the tree has {self.size} leaves, not {size}")
        return size

    def root(self, size: int | None = None) -> bytes:
        """Root of the first `size` leaves (default: all)."""
        return subtree_root(self.get, 0, self._at(size))

    def inclusion(self, index: int, size: int | None = None) -> list[bytes]:
        """Inclusion path of leaf `index` in the first `size` leaves."""
        return inclusion_path(self.get, index, self._at(size))

    def consistency(self, old_size: int, new_size: int | None = None) -> list[bytes]:
        """Consistency proof from `old_size` to `new_size`."""
        return consistency_path(self.get, old_size, self._at(new_size))
