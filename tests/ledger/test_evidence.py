"""Evidence: the checks in their order, each failing by its own name, and nothing but outcomes for false evidence."""

from __future__ import annotations

import hashlib
import io
import json
from typing import Any

import numpy as np
import PIL.Image as Pillow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plausible.ledger.entries.authors import Authors
from plausible.ledger.entries.entry import sign_entry
from plausible.ledger.entries.evidence import CHECKS, Evidence, verify_evidence
from plausible.ledger.entries.images import read_image
from plausible.ledger.entries.record import commit, make_opening
from plausible.ledger.merkle.tree import MemoryTree, hash_leaf
from plausible.ledger.notes.checkpoint import Checkpoint
from plausible.ledger.notes.cosignature import cosign
from plausible.ledger.notes.note import COSIGNATURE_ED25519, ED25519, SignerKey
from plausible.ledger.notes.policy import Policy
from plausible.ledger.notes.proof import TlogProof, make_proof
from plausible.schemas import jcs
from plausible.schemas.statement import ModelStatement

from tests.ledger import keys

LOG = SignerKey("log.example", ED25519, b"\x11" * 32)
WITNESSES = [SignerKey(f"w{i}.example", COSIGNATURE_ED25519, bytes([0x20 + i]) * 32) for i in range(3)]
TIMES = (1_700_000_300, 1_700_000_100, 1_700_000_200)


def policy_text(log: SignerKey = LOG) -> bytes:
    lines = [f"log {log.verifier}"]
    lines += [f"witness w{i} {key.verifier}" for i, key in enumerate(WITNESSES)]
    return "\n".join([*lines, "group three 2 w0 w1 w2", "quorum three", ""]).encode()


POLICY = Policy.parse(policy_text())
AUTHORS = Authors.of([keys.AUTHOR.verifier])


def png(pixels: Any) -> bytes:
    buffer = io.BytesIO()
    Pillow.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


IMAGE = read_image(png(keys.PIXELS))
RECORD = keys.record(IMAGE.pixel_digest, IMAGE.file_digest)
LEAF = sign_entry(keys.generation(commit(RECORD, keys.SECRET), IMAGE.pixel_digest, IMAGE.file_digest), keys.AUTHOR)
OPENING = make_opening(RECORD, keys.SECRET)


def proof_of(leaf: bytes, *, index: int = 5, size: int = 9, witnesses: int = 3, log: SignerKey = LOG) -> bytes:
    leaves = [hash_leaf(b"filler %d" % i) for i in range(size)]
    leaves[index] = hash_leaf(leaf)
    tree = MemoryTree(leaves)
    checkpoint = Checkpoint(log.name, size, tree.root())
    note = checkpoint.sign(log)
    for witness, time in list(zip(WITNESSES, TIMES, strict=True))[:witnesses]:
        note = note.add(cosign(checkpoint, witness, time))
    return make_proof(index, tree.inclusion(index), note.encode(), leaf).encode()


PROOF = proof_of(LEAF)


def verify(proof: bytes = PROOF, opening: bytes | None = OPENING, **changes: Any) -> Evidence:
    parts: dict[str, Any] = {"image": IMAGE, "policy": POLICY, "authors": AUTHORS} | changes
    evidence = verify_evidence(parts.pop("image"), proof, opening, parts.pop("policy"), parts.pop("authors"), **parts)
    assert tuple(check.name for check in evidence.checks) == CHECKS, "every check is listed once, in order"
    return evidence


def outcomes(evidence: Evidence) -> dict[str, str]:
    return {check.name: check.outcome for check in evidence.checks}


def only_failure(evidence: Evidence, name: str, fault: str) -> str:
    [check] = evidence.failed
    assert (check.name, check.fault) == (name, fault)
    return check.detail


def test_true_evidence_passes_every_check_that_can_be_made_offline() -> None:
    evidence = verify()
    skipped = {name for name, outcome in outcomes(evidence).items() if outcome == "skipped"}
    assert skipped == {"revocation", "chain", "epoch", "replay"}
    assert not evidence.failed
    assert evidence.present
    assert (evidence.match, evidence.index) == ("pixels", 5)
    assert evidence.author is not None
    assert evidence.author.key == keys.AUTHOR.verifier
    assert evidence.checkpoint is not None
    assert evidence.checkpoint.existence_time == TIMES[2], "the second cosignature completes the quorum"
    assert evidence.opened is not None
    assert evidence.opened.latent == RECORD.latent
    assert evidence.check("chain").line == "chain: not checked"
    assert evidence.check("revocation").line == "revocation: not checked"
    assert evidence.check("subject").line.startswith("subject: passed")


def test_without_image_or_opening_those_checks_are_skipped() -> None:
    evidence = verify(image=None, opening=None)
    assert not evidence.failed
    assert evidence.match is None
    assert evidence.opened is None
    assert {"subject", "opening", "context"} <= {c.name for c in evidence.checks if c.outcome == "skipped"}
    assert not evidence.present, "nothing was compared with an image"


def test_another_image_is_a_failed_check_by_name_and_the_rest_goes_on() -> None:
    other = read_image(png(255 - keys.PIXELS))
    evidence = verify(image=other)
    assert "another image" in only_failure(evidence, "subject", "other-image")
    assert evidence.passed("author", "inclusion", "opening", "context")


def test_a_file_whose_pixels_read_differently_is_a_file_match() -> None:
    record = keys.record(bytes(32), IMAGE.file_digest)
    leaf = sign_entry(keys.generation(commit(record, keys.SECRET), bytes(32), IMAGE.file_digest), keys.AUTHOR)
    evidence = verify(proof_of(leaf), make_opening(record, keys.SECRET))
    assert not evidence.failed
    assert evidence.match == "file"


def test_an_entry_about_a_model_is_not_about_the_image() -> None:
    leaf = sign_entry(ModelStatement.make(keys.header(), manifest=keys.MODEL), keys.AUTHOR)
    evidence = verify(proof_of(leaf), None)
    assert "not about an image" in only_failure(evidence, "subject", "other-image")


def test_too_few_witnesses_and_unknown_logs_are_the_policys() -> None:
    evidence = verify(proof_of(LEAF, witnesses=1))
    assert "quorum" in only_failure(evidence, "checkpoint", "policy")
    assert evidence.passed("inclusion", "author", "subject", "opening", "context")
    assert not evidence.present
    stranger = SignerKey("stranger.example", ED25519, b"\x12" * 32)
    only_failure(verify(proof_of(LEAF, log=stranger)), "checkpoint", "policy")
    only_failure(verify(now=TIMES[1] - 1000), "checkpoint", "policy")


def test_an_unknown_author_is_the_policys_and_a_false_signature_is_false() -> None:
    evidence = verify(authors=Authors.of([keys.OTHER.verifier]))
    assert "not among" in only_failure(evidence, "author", "policy")
    envelope = json.loads(LEAF)
    envelope["signatures"][0]["sig"] = "A" * 86 + "=="
    assert "signature" in only_failure(verify(proof_of(jcs.encode(envelope))), "author", "false")


def test_revocations_count_by_index() -> None:
    vkey = keys.AUTHOR.verifier
    before = verify(authors=Authors.parse(f"author {vkey} log.example 6\n"))
    assert not before.failed
    assert before.check("revocation").outcome == "passed"
    assert "from index 6" in before.check("revocation").detail
    behind = verify(authors=Authors.parse(f"author {vkey} log.example 5\n"))
    assert "revoked" in only_failure(behind, "author", "policy")


def test_an_edited_entry_does_not_hash_into_the_checkpoint() -> None:
    proof = TlogProof.parse(PROOF)
    other = sign_entry(keys.generation(bytes(32), IMAGE.pixel_digest), keys.AUTHOR)
    edited = make_proof(proof.index, proof.path, proof.note, other).encode()
    assert "inclusion" in only_failure(verify(edited, None), "inclusion", "false")
    moved = make_proof(4, MemoryTree(hash_leaf(b"%d" % i) for i in range(9)).inclusion(4), proof.note, LEAF).encode()
    only_failure(verify(moved), "inclusion", "false")


def test_a_false_log_signature_is_false() -> None:
    note = TlogProof.parse(PROOF)
    forged = SignerKey("log.example", ED25519, b"\x13" * 32)
    checkpoint = note.checkpoint
    line = forged.sign(checkpoint.text)
    from plausible.ledger.notes.note import Note, NoteSignature

    false_line = NoteSignature("log.example", LOG.verifier.key_id, line.signature)
    bad = make_proof(note.index, note.path, Note(checkpoint.text, (false_line,)).encode(), LEAF).encode()
    only_failure(verify(bad), "checkpoint", "false")


@pytest.mark.parametrize(
    "leaf", [b"{}", b"null", b"garbage", LEAF + b" ", b'{"a":1,"a":1}', b"", LEAF.replace(b"in-toto", b"in-tota")]
)
def test_leaves_that_are_no_entries_are_malformed(leaf: bytes) -> None:
    evidence = verify(proof_of(leaf))
    [check] = evidence.failed
    assert check.name in ("canonical", "profile")
    assert check.fault == "malformed"
    assert evidence.entry is None
    assert evidence.check("opening").detail == "no entry to check"


def test_malformed_proofs_leave_nothing_to_check() -> None:
    bare = TlogProof.parse(PROOF)
    for proof in (b"", b"x", PROOF[:-1], make_proof(bare.index, bare.path, bare.note).encode(), PROOF[:300]):
        evidence = verify(proof)
        only_failure(evidence, "proof", "malformed")
        assert not evidence.passed("checkpoint")
        assert evidence.index is None


def test_openings_that_are_malformed_and_openings_that_are_false() -> None:
    only_failure(verify(opening=b"{}"), "opening", "malformed")
    other = make_opening(keys.record(IMAGE.pixel_digest, IMAGE.file_digest, extra=None), keys.SECRET)
    assert "commitment" in only_failure(verify(opening=other), "opening", "false")
    copied = sign_entry(
        keys.generation(commit(RECORD, keys.SECRET), IMAGE.pixel_digest, IMAGE.file_digest, signer=keys.OTHER),
        keys.OTHER,
    )
    evidence = verify(proof_of(copied), authors=Authors.of([keys.OTHER.verifier]))
    assert "author" in only_failure(evidence, "context", "false")
    assert evidence.opened is None
    without_file = sign_entry(keys.generation(commit(RECORD, keys.SECRET), IMAGE.pixel_digest), keys.AUTHOR)
    assert "file" in only_failure(verify(proof_of(without_file)), "context", "false")


@given(st.lists(st.tuples(st.integers(0, len(PROOF) - 1), st.integers(0, 255)), min_size=1, max_size=2))
def test_damaged_proofs_are_outcomes_never_exceptions(edits: list[tuple[int, int]]) -> None:
    changed = bytearray(PROOF)
    for position, byte in edits:
        changed[position] = byte
    evidence = verify(bytes(changed))
    if bytes(changed) != PROOF and not evidence.failed:
        # a cosignature line of a name or key ID that nobody knows is ignored, and two of three are enough
        assert TlogProof.parse(bytes(changed)).checkpoint == TlogProof.parse(PROOF).checkpoint
        assert evidence.entry is not None
        assert evidence.entry.leaf == LEAF


@given(st.integers(0, len(OPENING) - 1), st.integers(0, 255))
def test_damaged_openings_are_outcomes_never_exceptions(position: int, byte: int) -> None:
    changed = bytearray(OPENING)
    changed[position] = byte
    evidence = verify(opening=bytes(changed))
    assert bool(evidence.failed) == (bytes(changed) != OPENING)


def test_the_image_in_the_tests_is_the_one_in_the_entry() -> None:
    assert np.array_equal(IMAGE.pixels, keys.PIXELS)
    assert hashlib.sha256(b"plausible.pixels/1\n64 64 RGB\n" + keys.PIXELS.tobytes()).digest() == IMAGE.pixel_digest
