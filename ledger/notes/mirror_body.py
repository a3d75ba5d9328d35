"""The body of a mirror's add-entries request (C2SP tlog-mirror): entries in packages, each with its own proof.

    u16 length, origin | u64 upload_start | u64 upload_end | u16 length, ticket | packages

A package ends at the next multiple of 256 or at upload_end: its entries (u16 length each), u8 count (at most 63), that
many 32-byte hashes of the subtree consistency proof from [start rounded down to 256, end) to the tree of upload_end.
A client may send only the first packages. Nothing in a body is trusted: `Package.verify` holds each package against the
root of a checkpoint that the log signed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from ...schemas.errors import EvidenceError
from ..merkle.tiles import WIDTH, decode_entries, encode_entry
from ..merkle.tree import MemoryTree, hash_leaf, verify_subtree_consistency
from .wire import HASH_SIZE, MAX_SIZE, u64

MAX_PROOF = 63
MAX_PACKAGES = 32
MAX_BODY_BYTES = MAX_PACKAGES * (WIDTH * (2 + 0xFFFF) + 1 + MAX_PROOF * HASH_SIZE) + (1 << 18)


def origin_hash(origin: str) -> str:
    """Lowercase hex SHA-256 of an origin: its folder below a witness's or mirror's monitoring prefix."""
    return hashlib.sha256(origin.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Package:
    """Entries `start` to `start` + len(entries) - 1 and the proof of the subtree they complete."""

    start: int
    entries: tuple[bytes, ...]
    proof: tuple[bytes, ...]

    @property
    def end(self) -> int:
        """Index after the last entry."""
        return self.start + len(self.entries)

    @property
    def subtree_start(self) -> int:
        """Where the proven subtree begins: `start` rounded down to a multiple of 256."""
        return self.start - self.start % WIDTH

    def verify(self, earlier: Sequence[bytes], size: int, root: bytes) -> list[bytes]:
        """The leaf hashes of these entries, which lie in the tree with this size and root, or an `EvidenceError`.

        `earlier` are the leaf hashes from `subtree_start` up to `start`, which the mirror already holds.
        """
        if len(earlier) != self.start - self.subtree_start:
            raise EvidenceError(f"{len(earlier)} earlier hashes where {self.start - self.subtree_start} are needed")
        hashes = [hash_leaf(entry) for entry in self.entries]
        part = MemoryTree([*earlier, *hashes]).root()
        verify_subtree_consistency(self.subtree_start, self.end, size, part, root, self.proof)
        return hashes


@dataclass(frozen=True, slots=True)
class AddEntriesRequest:
    """A parsed add-entries body."""

    origin: str
    upload_start: int
    upload_end: int
    ticket: bytes
    packages: tuple[Package, ...]

    @classmethod
    def parse(cls, data: bytes) -> AddEntriesRequest:
        """Read a body of at most 32 packages; `EvidenceError` where it breaks off inside a package."""
        if len(data) > MAX_BODY_BYTES:
            raise EvidenceError(f"an add-entries request has at most {MAX_BODY_BYTES} bytes")
        (origin,), place = decode_entries(data, 0, 1)
        start, end = (int.from_bytes(data[at : at + 8], "big") for at in (place, place + 8))
        if place + 16 > len(data) or not start <= end <= MAX_SIZE:
            raise EvidenceError("an add-entries request without a range of entries")
        (ticket,), place = decode_entries(data, place + 16, 1)
        packages: list[Package] = []
        at = start
        while place < len(data):
            stop = min(at - at % WIDTH + WIDTH, end)
            if at == stop or len(packages) == MAX_PACKAGES:
                raise EvidenceError("an add-entries request with more packages than it may have")
            package, place = _read_package(data, place, at, stop)
            packages.append(package)
            at = stop
        try:
            return cls(origin.decode(), start, end, ticket, tuple(packages))
        except UnicodeDecodeError:
            raise EvidenceError("the origin in an add-entries request is not UTF-8") from None

    def encode(self) -> bytes:
        """The body's bytes."""
        head = encode_entry(self.origin.encode()) + u64(self.upload_start) + u64(self.upload_end)
        parts = [head, encode_entry(self.ticket)]
        for package in self.packages:
            parts.extend(encode_entry(entry) for entry in package.entries)
            parts.append(bytes([len(package.proof)]))
            parts.extend(package.proof)
        return b"".join(parts)


def _read_package(data: bytes, place: int, start: int, end: int) -> tuple[Package, int]:
    entries, place = decode_entries(data, place, end - start)
    count = data[place] if place < len(data) else MAX_PROOF + 1
    if count > MAX_PROOF:
        raise EvidenceError(f"a package without the number of its proof's hashes, or with more than {MAX_PROOF}")
    place += 1
    stop = place + count * HASH_SIZE
    if stop > len(data):
        raise EvidenceError("a package ends inside its proof")
    proof = tuple(data[at : at + HASH_SIZE] for at in range(place, stop, HASH_SIZE))
    return Package(start, tuple(entries), proof), stop
