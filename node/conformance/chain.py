"""An author's chain of made-up generations, as a log's cases, tests and benchmarks need them: well formed and signed.

No picture and no record is behind these entries; digests are hashes of counted text.
"""

from __future__ import annotations

import hashlib
import os

from ...ledger.entries.entry import sign_entry
from ...ledger.merkle.tree import hash_leaf
from ...ledger.notes.note import SignerKey
from ...schemas.statement import GenerationStatement, Header
from ...schemas.text import digest_text, format_time, now


class MadeChain:
    """A chain under `signer`; `next` makes and remembers its next entry."""

    def __init__(self, signer: SignerKey, chain: bytes | None = None) -> None:
        self.signer = signer
        self.chain = os.urandom(16) if chain is None else chain
        self.seq = 0
        self.prev = bytes(32)
        self.time = format_time(now())

    def make(
        self, *, seq: int | None = None, prev: bytes | None = None, draw: int | None = None, time: str | None = None
    ) -> bytes:
        """The leaf of an entry at the end of the chain, or at any other place, which is not remembered."""
        place = self.seq if seq is None else seq
        statement = GenerationStatement.make(
            Header(
                author=self.signer.verifier.encode(),
                chain=self.chain.hex(),
                prev=digest_text(self.prev if prev is None else prev),
                seq=place,
                time=self.time if time is None else time,
            ),
            commitment=self._digest("commitment", place),
            draw=place if draw is None else draw,
            model=self._digest("model", 0),
            pixels=self.pixels(place),
        )
        return sign_entry(statement, self.signer)

    def next(self) -> bytes:
        """The leaf of the chain's next entry."""
        leaf = self.make()
        self.seq, self.prev = self.seq + 1, hash_leaf(leaf)
        return leaf

    def several(self, count: int) -> list[bytes]:
        """The next `count` leaves."""
        return [self.next() for _ in range(count)]

    def pixels(self, seq: int) -> bytes:
        """The pixel digest in the entry at `seq`."""
        return self._digest("pixels", seq)

    def _digest(self, what: str, number: int) -> bytes:
        return hashlib.sha256(b"conformance %b %b %d" % (what.encode(), self.chain, number)).digest()
