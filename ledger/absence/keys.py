"""What a leaf adds to the absence index, and the hashes of its nodes (docs/spec/index.md).

key     SHA-256("plausible.index-key/1\\n" || u8 kind || digest), kind 1 pixels, 2 file
empty   SHA-256(0x12)
leaf    SHA-256(0x11 || key || u64 count || u64 first || running)
node    SHA-256(0x10 || left || right)
running SHA-256(0x13 || r || u64 index), from 32 zero bytes, over the indices ascending
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from ...schemas.errors import EvidenceError, UsageError
from ..entries.entry import parse_entry
from ..notes.wire import u64
from .usual import usual_generation

PIXELS = 1
FILE = 2
KINDS = {PIXELS: "pixels", FILE: "file"}

KEY_BITS = 256
EMPTY = hashlib.sha256(b"\x12").digest()
"""Hash of a subtree without keys."""
RUNNING_START = bytes(32)

_DOMAIN = b"plausible.index-key/1\n"


def index_key(kind: int, digest: bytes) -> bytes:
    """The 32-byte key of an image digest (32 bytes) of a kind: `PIXELS` or `FILE`."""
    if kind not in KINDS or len(digest) != 32:
        raise UsageError(f"an index key is made of a kind (1 or 2) and 32 bytes, not {kind} and {len(digest)}")
    return hashlib.sha256(_DOMAIN + bytes([kind]) + digest).digest()


def leaf_keys(leaf: bytes) -> tuple[bytes, ...]:
    """Keys that a log's leaf adds its index to: one for each subject of a generation, none for anything else.

    The leaf passes the entry profile or adds nothing; its signature and author are not looked at, so that everybody
    computes the same map whomever he believes.
    """
    usual = usual_generation(leaf)
    if usual is None:
        return parsed_keys(leaf)
    pixels, file = usual
    return _keys(pixels, file)


def parsed_keys(leaf: bytes) -> tuple[bytes, ...]:
    """`leaf_keys`, by the profile itself."""
    try:
        generation = parse_entry(leaf).generation
    except EvidenceError:
        return ()
    return () if generation is None else _keys(generation.pixels, generation.file)


def _keys(pixels: bytes, file: bytes | None) -> tuple[bytes, ...]:
    key = index_key(PIXELS, pixels)
    return (key,) if file is None else (key, index_key(FILE, file))


def bit(key: bytes, position: int) -> int:
    """Bit `position` (0 to 255) of a key, most significant first; 0 goes left."""
    return (key[position >> 3] >> (7 - (position & 7))) & 1


def key_hash(key: bytes, count: int, first: int, running: bytes) -> bytes:
    """Hash of a subtree that holds exactly this key, at any depth."""
    return hashlib.sha256(b"\x11" + key + u64(count) + u64(first) + running).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash of a subtree with two or more keys."""
    return hashlib.sha256(b"\x10" + left + right).digest()


def run(indices: Iterable[int], running: bytes = RUNNING_START) -> bytes:
    """The running hash over ascending indices, continued from `running`."""
    for index in indices:
        running = hashlib.sha256(b"\x13" + running + u64(index)).digest()
    return running
