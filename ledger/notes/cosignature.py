"""Cosignatures: what a witness or mirror adds to a checkpoint (C2SP tlog-cosignature).

A cosignature with a time says: at this time the largest consistent tree I have seen for this origin has this root.
Ed25519 (0x04) signs a text, ML-DSA-44 (0x06) a binary message that also names the cosigner and a range [start, end).
For a checkpoint the range is [0, size); about any other subtree nothing is said in time, so its time is 0.

The signatures themselves are made and checked in keytypes.py; this module speaks of checkpoints and subtrees.
"""

from __future__ import annotations

from dataclasses import dataclass

from ...schemas.errors import EvidenceError, UsageError
from ..merkle.tree import require_subtree
from .checkpoint import Checkpoint
from .keytypes import COSIGNATURE_ML_DSA_44, ML_DSA_44, cosignature_message, subtree_message
from .note import Note, NoteSignature, SignerKey, VerifierKey
from .wire import u64

__all__ = [
    "Cosignature",
    "cosign",
    "cosign_subtree",
    "cosignature_message",
    "subtree_message",
    "verify_cosignature",
    "verify_subtree_cosignature",
]


@dataclass(frozen=True, slots=True)
class Cosignature:
    """A verified cosignature: by which key, at which time (POSIX seconds, above 0)."""

    key: VerifierKey
    time: int


def cosign(checkpoint: Checkpoint, signer: SignerKey, time: int) -> NoteSignature:
    """The cosignature line over a checkpoint at `time` (POSIX seconds, above 0); the caller has checked the tree."""
    if not signer.verifier.timed:
        raise UsageError(f"the key {signer.name} is no cosignature key: its signatures carry no time")
    checkpoint.require_empty_root()
    return signer.sign(checkpoint.text, time)


def verify_cosignature(checkpoint: Checkpoint, key: VerifierKey, line: NoteSignature) -> Cosignature:
    """The line is a cosignature of this checkpoint by this key at a time above 0, or an `EvidenceError`."""
    if not key.timed:
        raise EvidenceError(f"the key {key.name} is no cosignature key")
    (verified,) = Note(checkpoint.text, (line,)).verify([key])
    if not verified.time:
        raise EvidenceError(f"the cosignature by {key.name} of a checkpoint carries no time")
    return Cosignature(key, verified.time)


def cosign_subtree(signer: SignerKey, origin: str, start: int, end: int, root: bytes) -> NoteSignature:
    """An ML-DSA-44 signature line over the subtree [start, end) of a log, with time 0 (tlog-witness sign-subtree)."""
    if signer.kind != COSIGNATURE_ML_DSA_44:
        raise UsageError("only ML-DSA-44 cosignature keys sign subtrees")
    require_subtree(start, end, end)
    message = subtree_message(signer.name, 0, origin, start, end, root)
    raw = u64(0) + ML_DSA_44.sign_message(signer.seed, message)
    return NoteSignature(signer.name, signer.verifier.key_id, raw)


def verify_subtree_cosignature(
    key: VerifierKey, origin: str, start: int, end: int, root: bytes, line: NoteSignature
) -> None:
    """The line is this key's signature over the subtree [start, end) of the log, or an `EvidenceError`."""
    if key.kind != COSIGNATURE_ML_DSA_44:
        raise EvidenceError(f"the key {key.name} cannot sign subtrees: it is no ML-DSA-44 cosignature key")
    if (line.name, line.key_id) != (key.name, key.key_id):
        raise EvidenceError(f"the signature line is not by {key.name}")
    require_subtree(start, end, end)
    time, raw = ML_DSA_44.split_time(key.name, line.signature)
    if start and time:
        raise EvidenceError("a cosignature of a subtree that does not start at 0 carries a time")
    ML_DSA_44.verify_message(key.name, key.public, subtree_message(key.name, time, origin, start, end, root), raw)
