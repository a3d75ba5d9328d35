"""Proof bundles: inclusion of one entry with the checkpoint that covers it, in one file (C2SP tlog-proof).

    c2sp.org/tlog-proof@v1
    extra b3BhcXVlLCB1bmF1dGhlbnRpY2F0ZWQ=
    index 3
    Zx8UbF5HHooag6PCFM5LqQe486WIjRTMjNPOdbsS75Q=
    ...

    example.com/log
    15
    ...

A proof is not trusted, nor is its `extra` line: whoever verifies computes the leaf hash from the artefact at hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...schemas.errors import EvidenceError
from ..merkle.tree import inclusion_length, verify_inclusion
from .checkpoint import Checkpoint
from .note import MAX_NOTE_BYTES, Note
from .policy import AcceptedCheckpoint, Policy
from .wire import HASH_SIZE, decode_base64, decode_hash, encode_base64, parse_decimal

HEADER = "c2sp.org/tlog-proof@v1"
MAX_PROOF_BYTES = MAX_NOTE_BYTES + (1 << 18)
MAX_PATH = 63


@dataclass(frozen=True, slots=True)
class TlogProof:
    """A parsed proof: `path` leaf sibling first, `note` the signed checkpoint verbatim, `extra` unauthenticated."""

    index: int
    path: tuple[bytes, ...]
    note: bytes
    extra: bytes | None = None

    def __post_init__(self) -> None:
        # a length that the size contradicts is malformed, whatever the leaf
        length = inclusion_length(self.index, self.checkpoint.size)
        if len(self.path) != length or any(len(value) != HASH_SIZE for value in self.path):
            raise EvidenceError(f"the proof of leaf {self.index} needs {length} hashes of {HASH_SIZE} bytes")

    @property
    def checkpoint(self) -> Checkpoint:
        """The checkpoint in the note, its signatures not yet verified."""
        return Checkpoint.parse(Note.parse(self.note).text)

    @classmethod
    def parse(cls, data: bytes) -> TlogProof:
        """Read a proof file; everything that `encode` would not write again is an `EvidenceError`."""
        if len(data) > MAX_PROOF_BYTES:
            raise EvidenceError(f"a proof has at most {MAX_PROOF_BYTES} bytes")
        head, empty_line, note = data.partition(b"\n\n")
        try:
            lines = head.decode("ascii").split("\n")
        except UnicodeDecodeError:
            raise EvidenceError("the head of a proof is ASCII text") from None
        if not empty_line or lines.pop(0) != HEADER:
            raise EvidenceError(f"a proof begins with {HEADER} and has an empty line before its checkpoint")
        extra = None
        if lines and lines[0].startswith("extra "):
            extra = decode_base64(lines.pop(0).removeprefix("extra "), "the extra line")
        if not lines or not lines[0].startswith("index "):
            raise EvidenceError("a proof without its index line")
        index = parse_decimal(lines.pop(0).removeprefix("index "), "the index")
        if len(lines) > MAX_PATH:
            raise EvidenceError(f"a proof has at most {MAX_PATH} hashes")
        return cls(index, tuple(decode_hash(line, "a hash of the proof") for line in lines), note, extra)

    def encode(self) -> bytes:
        """The file's bytes."""
        lines = [HEADER]
        if self.extra is not None:
            lines.append(f"extra {encode_base64(self.extra)}")
        lines.append(f"index {self.index}")
        lines.extend(encode_base64(value) for value in self.path)
        return "\n".join(lines).encode() + b"\n\n" + self.note


def make_proof(index: int, path: Sequence[bytes], note: bytes, extra: bytes | None = None) -> TlogProof:
    """A proof from its parts; `EvidenceError` if the path's length does not fit the note's tree size."""
    return TlogProof(index, tuple(path), note, extra)


def verify_proof(
    proof: TlogProof, leaf_hash: bytes, policy: Policy, *, now: int | None = None, skew: int = 300
) -> AcceptedCheckpoint:
    """The leaf with this hash stands at the proof's index under a checkpoint that the policy accepts.

    `leaf_hash` is computed by the caller from the artefact (`tree.hash_leaf(entry)`). First the checkpoint, then the
    inclusion. Raises `PolicyError` if the policy is not met, `EvidenceError` for everything false.
    """
    accepted = policy.check(proof.note, now=now, skew=skew)
    verify_inclusion(proof.index, accepted.size, leaf_hash, proof.path, accepted.root)
    return accepted
