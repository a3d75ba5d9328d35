"""Checkpoints: the text a log signs about its tree (C2SP tlog-checkpoint).

    example.com/log
    15
    rKbDipCvhuX1GZ7g5BBe8sA6BbJ7ja/1nk427v383cs=

Origin, tree size, base64 root, then optional extension lines. We read extension lines and never write any: monitors
cannot audit them and ML-DSA cosignatures do not cover them. Size 0 must carry the empty tree's root.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...schemas.errors import EvidenceError
from ..merkle.tree import EMPTY_ROOT
from .wire import FORBIDDEN, HASH_SIZE, MAX_SIZE, decode_hash, encode_base64, parse_decimal

if TYPE_CHECKING:
    from .note import Note, SignerKey, VerifierKey


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A tree head as it is signed: which log, how many entries, which root (32 bytes)."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if any(not line or FORBIDDEN.search(line) for line in (self.origin, *self.extensions)):
            raise EvidenceError("a checkpoint's lines are not empty and hold no control character")
        if not 0 <= self.size <= MAX_SIZE:
            raise EvidenceError(f"a checkpoint cannot have size {self.size}")
        if len(self.root) != HASH_SIZE:
            raise EvidenceError(f"a checkpoint's root has {HASH_SIZE} bytes, not {len(self.root)}")

    @classmethod
    def parse(cls, text: str, *, check_empty: bool = True) -> Checkpoint:
        """Read a note's text; everything that `text` would not print again is an `EvidenceError`.

        Size 0 with another root than the empty tree's is one too; a witness answers that apart (`check_empty=False`).
        """
        if not text.endswith("\n"):
            raise EvidenceError("invalid checkpoint: the last line does not end")
        lines = text[:-1].split("\n")
        if len(lines) < 3:
            raise EvidenceError("invalid checkpoint: fewer than three lines")
        origin, size, root, *extensions = lines
        try:
            checkpoint = cls(origin, parse_decimal(size, "size"), decode_hash(root, "root hash"), tuple(extensions))
            if check_empty:
                checkpoint.require_empty_root()
            return checkpoint
        except EvidenceError as error:
            raise EvidenceError(f"invalid checkpoint: {error}") from None

    @property
    def text(self) -> str:
        """The signed text, with its last newline."""
        lines = (self.origin, str(self.size), encode_base64(self.root), *self.extensions)
        return "".join(line + "\n" for line in lines)

    def require_empty_root(self) -> None:
        """A checkpoint of size 0 carries the empty tree's root, or an `EvidenceError`."""
        if self.size == 0 and self.root != EMPTY_ROOT:
            raise EvidenceError("a checkpoint of size 0 must carry the empty tree's root")

    def sign(self, *signers: SignerKey) -> Note:
        """A note over this checkpoint with one signature per log key (untimed types; see cosignature.py)."""
        from .note import Note  # here: what an ML-DSA key signs is read from a checkpoint, so note needs this module

        self.require_empty_root()
        return Note(self.text).sign(*signers)


def open_checkpoint(data: bytes, keys: Iterable[VerifierKey], origin: str | None = None) -> tuple[Checkpoint, Note]:
    """Read a signed checkpoint and verify it with the log's key or keys; `EvidenceError` if anything fails.

    `origin` is what the caller expects in the first line; without it any origin passes.
    """
    from .note import Note

    note = Note.parse(data)
    checkpoint = Checkpoint.parse(note.text)
    if origin is not None and checkpoint.origin != origin:
        raise EvidenceError(f"the checkpoint is of log {checkpoint.origin!r}, not {origin!r}")
    note.verify(keys)
    return checkpoint, note
