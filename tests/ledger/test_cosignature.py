"""Cosignatures against fixed vectors of both kinds."""

from __future__ import annotations

from typing import Any

import pytest
from plausible.ledger.merkle.tree import hash_leaf
from plausible.ledger.notes.checkpoint import Checkpoint
from plausible.ledger.notes.cosignature import (
    cosign,
    cosign_subtree,
    cosignature_message,
    subtree_message,
    verify_cosignature,
    verify_subtree_cosignature,
)
from plausible.ledger.notes.note import (
    COSIGNATURE_ED25519,
    COSIGNATURE_ML_DSA_44,
    ED25519,
    Note,
    NoteSignature,
    SignerKey,
    VerifierKey,
    parse_signature_line,
)
from plausible.ledger.notes.wire import decode_base64
from plausible.schemas.errors import EvidenceError, UsageError

from tests.ledger.keys import COSIGNER_KINDS, needs_ml_dsa

ORIGIN = "example.com/log/testdata"
CHECKPOINT = Checkpoint(ORIGIN, 15, hash_leaf(b"any"))


def test_layout_of_the_binary_message(vectors: Any) -> None:
    known = vectors("cosignatures.json")["message_layout_check"]
    message = subtree_message(
        known["cosigner_name"],
        int(known["timestamp_hex"], 16),
        known["log_origin"],
        int(known["start_hex"], 16),
        int(known["end_hex"], 16),
        bytes.fromhex(known["hash_hex"]),
    )
    assert message.hex() == known["cosigned_message_hex"]


def test_ed25519_vector(vectors: Any) -> None:
    known = vectors("cosignatures.json")["vectors"][0]
    signer = SignerKey("witness.example/ed25519", COSIGNATURE_ED25519, bytes.fromhex(known["seed_hex"]))
    assert signer.verifier == VerifierKey.parse(known["vkey"])
    note = Note.parse(known["cosigned_checkpoint"].encode())
    checkpoint = Checkpoint.parse(note.text)
    assert cosignature_message(note.text, known["timestamp"]) == known["signed_message"].encode()
    line = cosign(checkpoint, signer, known["timestamp"])
    assert line.line == known["signature_line"]
    assert verify_cosignature(checkpoint, signer.verifier, line).time == known["timestamp"]
    assert [v.time for v in note.verify([signer.verifier])] == [known["timestamp"]]


@needs_ml_dsa
def test_ml_dsa_vector(vectors: Any) -> None:
    known = vectors("cosignatures.json")["vectors"][1]
    signer = SignerKey("witness.example/mldsa44", COSIGNATURE_ML_DSA_44, bytes.fromhex(known["seed_hex"]))
    assert signer.verifier == VerifierKey.parse(known["vkey"])
    note = Note.parse(known["cosigned_checkpoint"].encode())
    checkpoint = Checkpoint.parse(note.text)
    message = subtree_message(signer.name, known["timestamp"], ORIGIN, 0, 15, checkpoint.root)
    assert message.hex() == known["signed_message_hex"]
    line = parse_signature_line(known["signature_line"].removesuffix("\n"))
    assert verify_cosignature(checkpoint, signer.verifier, line).time == known["timestamp"]
    assert [v.time for v in note.verify([signer.verifier])] == [known["timestamp"]]


@needs_ml_dsa
def test_ml_dsa_subtree_vector(vectors: Any) -> None:
    known = vectors("cosignatures.json")["vectors"][2]
    key = VerifierKey.parse(known["vkey"])
    root = decode_base64(known["subtree_root_base64"])
    line = parse_signature_line(known["signature_line"].removesuffix("\n"))
    start, end = known["start"], known["end"]
    assert subtree_message(key.name, 0, ORIGIN, start, end, root).hex() == known["signed_message_hex"]
    verify_subtree_cosignature(key, ORIGIN, start, end, root, line)
    bent: list[tuple[str, int, int, bytes]] = [
        ("other.example", start, end, root),
        (ORIGIN, 0, end, root),
        (ORIGIN, start, 16, root),
        (ORIGIN, start, end, hash_leaf(root)),
        (ORIGIN, 9, 12, root),
    ]
    for arguments in bent:
        with pytest.raises(EvidenceError):
            verify_subtree_cosignature(key, *arguments, line)


@pytest.mark.parametrize("kind", COSIGNER_KINDS)
def test_a_cosignature_holds_for_one_checkpoint_and_time(kind: int) -> None:
    signer = SignerKey.generate("w.example", kind)
    line = cosign(CHECKPOINT, signer, 1_700_000_000)
    assert verify_cosignature(CHECKPOINT, signer.verifier, line).time == 1_700_000_000
    later = NoteSignature(line.name, line.key_id, (1_700_000_001).to_bytes(8, "big") + line.signature[8:])
    with pytest.raises(EvidenceError, match="does not verify"):
        verify_cosignature(CHECKPOINT, signer.verifier, later)
    for other in (
        Checkpoint("other.example", 15, CHECKPOINT.root),
        Checkpoint(ORIGIN, 16, CHECKPOINT.root),
        Checkpoint(ORIGIN, 15, hash_leaf(b"other")),
    ):
        with pytest.raises(EvidenceError, match="does not verify"):
            verify_cosignature(other, signer.verifier, line)
    for cut in (0, 7, 8, len(line.signature) - 1):
        with pytest.raises(EvidenceError):
            verify_cosignature(CHECKPOINT, signer.verifier, NoteSignature(line.name, line.key_id, line.signature[:cut]))


@needs_ml_dsa
def test_an_ml_dsa_cosignature_names_its_cosigner() -> None:
    signer = SignerKey.generate("w.example", COSIGNATURE_ML_DSA_44)
    thief = VerifierKey("thief.example", signer.kind, signer.verifier.public)
    line = cosign(CHECKPOINT, signer, 5)
    with pytest.raises(EvidenceError, match="does not verify"):
        verify_cosignature(CHECKPOINT, thief, NoteSignature(thief.name, thief.key_id, line.signature))


def test_names_of_at_most_255_bytes() -> None:
    assert subtree_message("w" * 255, 1, "o" * 255, 0, 1, bytes(32))
    for name, origin in (("w" * 256, "o"), ("w", "\u00e9" * 128), ("", "o"), ("w", "")):
        with pytest.raises(EvidenceError, match="255 bytes"):
            subtree_message(name, 1, origin, 0, 1, bytes(32))


def test_what_cannot_be_signed() -> None:
    with pytest.raises(UsageError):
        cosign(CHECKPOINT, SignerKey.generate("log.example", ED25519), 1)
    with pytest.raises(UsageError):
        cosign(CHECKPOINT, SignerKey.generate("w.example", COSIGNATURE_ED25519), 0)
    with pytest.raises(UsageError):
        cosign_subtree(SignerKey.generate("w.example", COSIGNATURE_ED25519), ORIGIN, 0, 1, bytes(32))
    with pytest.raises(EvidenceError):
        cosign(Checkpoint(ORIGIN, 0, bytes(32)), SignerKey.generate("w.example", COSIGNATURE_ED25519), 1)


@needs_ml_dsa
def test_a_subtree_is_signed_without_a_time() -> None:
    signer = SignerKey.generate("w.example", COSIGNATURE_ML_DSA_44)
    line = cosign_subtree(signer, ORIGIN, 8, 12, bytes(32))
    verify_subtree_cosignature(signer.verifier, ORIGIN, 8, 12, bytes(32), line)
