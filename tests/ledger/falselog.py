"""A log under a test's thumb: real keys, real tiles in a real folder, and leaves of the test's choice."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from plausible.ledger.absence.keys import leaf_keys
from plausible.ledger.absence.note import INDEX_NOTE, IndexHead
from plausible.ledger.absence.trie import IndexMap, MemoryPages
from plausible.ledger.entries.entry import sign_entry
from plausible.ledger.merkle.reader import DirectorySource, TiledLog
from plausible.ledger.merkle.tiles import tiles_to_write
from plausible.ledger.merkle.tree import MemoryTree, hash_leaf
from plausible.ledger.notes.checkpoint import Checkpoint
from plausible.ledger.notes.cosignature import cosign
from plausible.ledger.notes.note import ED25519, SignerKey
from plausible.schemas.statement import NO_PREVIOUS, GenerationStatement, Header
from plausible.schemas.text import digest_text

LOG = SignerKey("log.example/a", ED25519, bytes(range(1, 33)))
INDEX = SignerKey("log.example/a/index", ED25519, bytes(range(2, 34)))
AUTHOR = SignerKey("models.example/studio", ED25519, bytes(range(32)))
TIME = 1_780_000_000


@dataclass
class Chain:
    """An author's chain: each call is the next entry's leaf, unless it is told otherwise."""

    signer: SignerKey = AUTHOR
    chain: str = "00112233445566778899aabbccddeeff"
    last: bytes | None = None
    seq: int = 0

    def leaf(self, **changes: Any) -> bytes:
        """The next generation; `changes`: seq, prev, draw, time, word (what the picture is made of)."""
        seq = changes.get("seq", self.seq)
        prev = changes.get("prev", NO_PREVIOUS if self.last is None else digest_text(hash_leaf(self.last)))
        header = Header(
            author=self.signer.verifier.encode(),
            chain=self.chain,
            prev=prev if seq else NO_PREVIOUS,
            seq=seq,
            time=changes.get("time", f"2026-01-02T03:{seq // 60 % 60:02d}:{seq % 60:02d}.000006Z"),
        )
        word = str(changes.get("word", f"{self.chain} {seq}")).encode()
        statement = GenerationStatement.make(
            header,
            commitment=hashlib.sha256(b"record " + word).digest(),
            draw=changes.get("draw", seq),
            model=hashlib.sha256(b"model").digest(),
            pixels=hashlib.sha256(word).digest(),
        )
        self.last, self.seq = sign_entry(statement, self.signer), seq + 1
        return self.last

    def leaves(self, count: int) -> list[bytes]:
        """The next `count` entries."""
        return [self.leaf() for _ in range(count)]


def forged(leaf: bytes) -> bytes:
    """The same entry with another signature."""
    at = leaf.rindex(b'"sig":"') + len(b'"sig":"')
    other = b"B" if leaf[at : at + 1] != b"B" else b"C"
    return leaf[:at] + other + leaf[at + 1 :]


@dataclass
class FalseLog:
    """What `public/` of a log holds, in `folder`."""

    folder: Path
    signer: SignerKey = LOG
    leaves: list[bytes] = field(default_factory=list[bytes])

    @property
    def log(self) -> TiledLog:
        """A fresh reader of the folder."""
        return TiledLog(DirectorySource(self.folder))

    def tree(self, size: int | None = None) -> MemoryTree:
        return MemoryTree(map(hash_leaf, self.leaves[:size]))

    def grow(self, leaves: Sequence[bytes], *witnesses: SignerKey) -> bytes:
        """Add entries, write tiles and the signed (and cosigned) checkpoint; returns its note."""
        before = len(self.leaves)
        self.leaves += leaves
        for path, data in tiles_to_write(before, list(leaves), self.tree().get, self.leaves.__getitem__):
            self.put(path, data)
        note = self.head(None, *witnesses)
        self.put("checkpoint", note)
        return note

    def head(self, size: int | None = None, *witnesses: SignerKey, time: int = TIME) -> bytes:
        """The signed and cosigned head of the first `size` entries."""
        tree = self.tree(size)
        point = Checkpoint(self.signer.name, tree.size, tree.root())
        return point.sign(self.signer).add(*(cosign(point, key, time) for key in witnesses)).encode()

    def index(self, *signers: SignerKey, size: int | None = None, lie: bool = False) -> bytes:
        """An index note over the first `size` entries, served; with `lie` its index root is another."""
        tree, made = self.tree(size), IndexMap(MemoryPages())
        made.add((key, at) for at, leaf in enumerate(self.leaves[:size]) for key in leaf_keys(leaf))
        root = hashlib.sha256(b"lie").digest() if lie else made.root()
        note = IndexHead(self.signer.name, tree.size, tree.root(), root).sign(*(signers or (INDEX,))).encode()
        self.put(INDEX_NOTE, note)
        return note

    def put(self, path: str, data: bytes) -> None:
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
