"""The tar behind `plausible.export/1`: POSIX ustar, plain files only, every header field fixed but name and size.

A header is read by building the one that a member of the expected name and the stated size must have and comparing
all 512 bytes. So there is nothing to trick with: no links, no folders, no absolute or dotted names, no extension
records, no sparse files, no second spelling; and no name from the file is ever used as a path. Any tar program lists
and unpacks it.
"""

from __future__ import annotations

import hashlib
import re
from typing import BinaryIO

from ...schemas.errors import EvidenceError, SetupError, UsageError

BLOCK = 512
END = bytes(2 * BLOCK)
"""What follows the last member, and nothing follows it."""

_NAME_BYTES = 100
_SIZE = slice(124, 136)
_OCTAL = re.compile(rb"[0-7]{11}\0")
_LARGEST = 8**11 - 1
_CHUNK = 1 << 20


def header(name: str, size: int) -> bytes:
    """The 512 bytes before a member of `size` bytes: mode 0644, owner 0, time 0."""
    raw = name.encode("ascii")
    if not 0 < len(raw) < _NAME_BYTES or not 0 <= size <= _LARGEST:
        raise UsageError(f"{name[:80]!r} of {size} bytes does not fit into a tar")
    fields = (
        raw.ljust(_NAME_BYTES, b"\0"),
        b"0000644\0" + b"0000000\0" * 2,  # mode, uid, gid
        b"%011o\0" % size,
        b"%011o\0" % 0,  # time
        b" " * 8,  # the checksum counts as spaces
        b"0" + bytes(100) + b"ustar\00000" + bytes(64) + b"0000000\0" * 2 + bytes(167),
    )
    data = b"".join(fields)
    return data[:148] + b"%06o\0 " % sum(data) + data[156:]


def write_member(out: BinaryIO, name: str, data: bytes) -> int:
    """Write one member; the number of bytes written."""
    block = header(name, len(data)) + data + bytes(-len(data) % BLOCK)
    out.write(block)
    return len(block)


def write_stream(out: BinaryIO, name: str, source: BinaryIO, size: int) -> int:
    """Write one member of `size` bytes read from `source`; `SetupError` if it has fewer."""
    out.write(header(name, size))
    left = size
    while left:
        part = source.read(min(left, _CHUNK))
        if not part:
            raise SetupError(f"{name} became shorter while it was read")
        out.write(part)
        left -= len(part)
    out.write(bytes(-size % BLOCK))
    return BLOCK + size + -size % BLOCK


class Members:
    """Reads members in their order from a stream that somebody else wrote."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self.bytes = 0
        """How many bytes were read so far."""
        self._next = self._read(BLOCK, "a header")

    @property
    def name(self) -> str:
        """What the next member calls itself; "" at the end. Only to be compared, never to be used."""
        return self._next[:_NAME_BYTES].rstrip(b"\0").decode("ascii", "replace")

    def take(self, name: str, limit: int) -> bytes:
        """The bytes of the next member, which must be `name` and have at most `limit` bytes; else `EvidenceError`."""
        data = self._read(self._size(name, limit), name)
        self._pad(name, len(data))
        return data

    def take_into(self, name: str, limit: int, out: BinaryIO) -> tuple[int, bytes]:
        """The same, copied to `out` without being held in memory; its size and SHA-256."""
        size = left = self._size(name, limit)
        digest = hashlib.sha256()
        while left:
            part = self._read(min(left, _CHUNK), name)
            digest.update(part)
            out.write(part)
            left -= len(part)
        self._pad(name, size)
        return size, digest.digest()

    def _size(self, name: str, limit: int) -> int:
        digits = self._next[_SIZE]
        size = int(digits[:11], 8) if _OCTAL.fullmatch(digits) else -1
        if size < 0 or self._next != header(name, size):
            found = f"{self.name[:80]!r}" if any(self._next) else "the end"
            raise EvidenceError(f"the export has {found} where only {name} in its one spelling can stand")
        if size > limit:
            raise EvidenceError(f"{name} says it has {size} bytes, more than {limit}")
        return size

    def _pad(self, name: str, size: int) -> None:
        if any(self._read(-size % BLOCK, name)):
            raise EvidenceError(f"{name} is not padded with zeros")
        self._next = self._read(BLOCK, "a header")

    def finish(self) -> None:
        """The end: two blocks of zeros and not a byte more."""
        if any(self._next) or any(self._read(BLOCK, "the end")):
            raise EvidenceError(f"the export goes on with {self.name[:80]!r} where it must end")
        if self._source.read(1):
            raise EvidenceError("bytes follow the end of the export")

    def _read(self, count: int, what: str) -> bytes:
        parts: list[bytes] = []
        left = count
        while left:
            part = self._source.read(min(left, _CHUNK))
            if not part:
                raise EvidenceError(f"the export ends inside {what}: it was cut off")
            parts.append(part)
            left -= len(part)
        self.bytes += count
        return b"".join(parts)


__all__ = ["BLOCK", "END", "Members", "header", "write_member", "write_stream"]
