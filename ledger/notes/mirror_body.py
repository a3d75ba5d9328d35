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
        reader = UploadReader()
        reader.feed(data)
        head = reader.read_head()
        if head is None:
            raise EvidenceError("an add-entries request without a range of entries")
        packages: list[Package] = []
        while (package := reader.read_package()) is not None:
            packages.append(package)
            if len(packages) > MAX_PACKAGES:
                raise EvidenceError("an add-entries request with more packages than it may have")
        if reader.left:
            raise EvidenceError("an add-entries request ends inside a package, or goes on behind its last")
        return cls(head.origin, head.start, head.end, head.ticket, tuple(packages))

    def encode(self) -> bytes:
        """The body's bytes."""
        head = encode_entry(self.origin.encode()) + u64(self.upload_start) + u64(self.upload_end)
        parts = [head, encode_entry(self.ticket)]
        for package in self.packages:
            parts.extend(encode_entry(entry) for entry in package.entries)
            parts.append(bytes([len(package.proof)]))
            parts.extend(package.proof)
        return b"".join(parts)


@dataclass(frozen=True, slots=True)
class UploadHead:
    """What stands before the packages: which log, which entries [start, end), and a ticket of the mirror's or b""."""

    origin: str
    start: int
    end: int
    ticket: bytes


class UploadReader:
    """Reads a body as it arrives, in memory for one package: `feed` bytes, then ask for the head and the packages.

    What is asked for is None while it is not there yet. Malformed bytes are an `EvidenceError`.
    """

    def __init__(self) -> None:
        self._data = bytearray()
        self._head: UploadHead | None = None
        self._next = 0
        # how far the entries of the package to come were walked: their number, and the place behind the last
        self._walked, self._place = 0, 0

    def feed(self, part: bytes) -> None:
        """The next bytes of the body."""
        self._data += part

    @property
    def left(self) -> int:
        """Bytes that were fed and are part of nothing yet."""
        return len(self._data)

    @property
    def complete(self) -> bool:
        """Whether every package up to upload_end was read."""
        return self._head is not None and self._next == self._head.end

    def read_head(self) -> UploadHead | None:
        """The head, once it is there."""
        if self._head is not None:
            return self._head
        origin = self._text(0)
        ticket = None if origin is None else self._text(origin[1] + 16)
        if origin is None or ticket is None:
            return None
        place = origin[1]
        start, end = (int.from_bytes(self._data[at : at + 8], "big") for at in (place, place + 8))
        if not start <= end <= MAX_SIZE:
            raise EvidenceError("an add-entries request without a range of entries")
        try:
            name = origin[0].decode()
        except UnicodeDecodeError:
            raise EvidenceError("the origin in an add-entries request is not UTF-8") from None
        self._head = UploadHead(name, start, end, ticket[0])
        self._next = start
        del self._data[: ticket[1]]
        return self._head

    def _text(self, place: int) -> tuple[bytes, int] | None:
        """The bytes at a place after their u16 length, and the place behind them."""
        end = place + 2 + int.from_bytes(self._data[place : place + 2], "big")
        if len(self._data) < max(place + 2, end):
            return None
        return bytes(self._data[place + 2 : end]), end

    def read_package(self) -> Package | None:
        """The next package, once all of it is there; None also after the last."""
        if self._head is None or self._next == self._head.end:
            return None
        data, start = self._data, self._next
        end = min(start - start % WIDTH + WIDTH, self._head.end)
        while self._walked < end - start:
            behind = self._place + 2 + int.from_bytes(data[self._place : self._place + 2], "big")
            if len(data) < max(self._place + 2, behind):
                return None
            self._walked, self._place = self._walked + 1, behind
        if len(data) <= self._place:
            return None
        count = data[self._place]
        if count > MAX_PROOF:
            raise EvidenceError(f"a package with more than {MAX_PROOF} hashes in its proof")
        first = self._place + 1
        stop = first + count * HASH_SIZE
        if len(data) < stop:
            return None
        entries, _ = decode_entries(bytes(data[: self._place]), 0, end - start)
        proof = tuple(bytes(data[at : at + HASH_SIZE]) for at in range(first, stop, HASH_SIZE))
        del data[:stop]
        self._next, self._walked, self._place = end, 0, 0
        return Package(start, tuple(entries), proof)
