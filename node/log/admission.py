"""An entry as a log looks at it before it takes it: well formed, of an allowed author, signed.

Nearly all entries are generations in their usual form, which two patterns read in a tenth of the time of the parsers
(ledger/absence/usual.py, held beside the parsers by tests). What they do not match, `parse_entry` judges.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ...ledger.absence.usual import read_usual
from ...ledger.entries.entry import MAX_ENTRY_BYTES, Entry, parse_entry
from ...ledger.keys.keyhistory import KEY_KINDS
from ...ledger.merkle.tree import hash_leaf
from ...ledger.notes.dsse import pae
from ...ledger.notes.note import VerifierKey
from ...schemas.envelope import IN_TOTO_TYPE
from ...schemas.errors import EvidenceError
from ...schemas.text import parse_digest


@dataclass(frozen=True, slots=True)
class Candidate:
    """A leaf that has the form of an entry: what its place in chain and log depends on."""

    leaf: bytes = field(repr=False)
    leaf_hash: bytes
    author: str
    chain: str
    seq: int
    prev: bytes
    time: str
    draw: int | None
    about_keys: Entry | None
    """The whole entry, if it says something about keys."""
    payload: bytes = field(repr=False)
    signature: bytes = field(repr=False)

    def verify(self, key: VerifierKey) -> None:
        """The signature is by `key`, or an `EvidenceError`."""
        try:
            _public(key.public).verify(self.signature, pae(IN_TOTO_TYPE, self.payload))
        except InvalidSignature:
            raise EvidenceError(f"invalid signature: the envelope is not signed by {key.name}") from None


def read_candidate(leaf: bytes) -> Candidate:
    """The candidate in leaf bytes; `EvidenceError` exactly where `parse_entry` raises it."""
    usual = read_usual(leaf) if len(leaf) <= MAX_ENTRY_BYTES else None
    if usual is not None:
        return Candidate(
            leaf,
            hash_leaf(leaf),
            usual.author,
            usual.chain,
            usual.seq,
            usual.prev,
            usual.time,
            usual.draw,
            None,
            usual.payload,
            usual.signature,
        )
    entry = parse_entry(leaf)
    header, generation = entry.header, entry.generation
    return Candidate(
        leaf,
        entry.leaf_hash,
        header.author,
        header.chain,
        header.seq,
        parse_digest(header.prev),
        header.time,
        None if generation is None else generation.draw,
        entry if entry.kind in KEY_KINDS else None,
        entry.envelope.payload,
        entry.envelope.signature,
    )


@functools.lru_cache(maxsize=1024)
def _public(key: bytes) -> Ed25519PublicKey:
    return Ed25519PublicKey.from_public_bytes(key)
