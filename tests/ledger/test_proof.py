"""Proof bundles: published good and bad files, verification in its order, and fuzz."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plausible.ledger.merkle.tree import MemoryTree, hash_leaf
from plausible.ledger.notes.checkpoint import Checkpoint
from plausible.ledger.notes.note import SignerKey
from plausible.ledger.notes.policy import Policy
from plausible.ledger.notes.proof import TlogProof, make_proof, verify_proof
from plausible.ledger.notes.wire import decode_base64
from plausible.schemas.errors import EvidenceError, PolicyError

LOG = SignerKey.generate("log.example/a")
POLICY = Policy.parse(f"log {LOG.verifier}\nquorum none\n".encode())
TREE = MemoryTree(hash_leaf(b"%d" % i) for i in range(11))
NOTE = Checkpoint(LOG.name, 11, TREE.root()).sign(LOG).encode()


def test_published_proofs(vectors: Any) -> None:
    known = vectors("tlog_proof.json")
    accepts = Policy.parse(f"log {known['log_vkey']}\nquorum none\n".encode())
    assert len(known["valid"]) == 9
    for case in known["valid"]:
        data = case["proof_file"].encode()
        proof = TlogProof.parse(data)
        assert proof.encode() == data
        assert proof.index == case["index"]
        leaf = hash_leaf(case["entry_utf8"].encode())
        if "leaf_hash_base64" in case:
            assert leaf == decode_base64(case["leaf_hash_base64"])
            assert list(proof.path) == [decode_base64(text) for text in case["inclusion_path_base64"]]
        assert verify_proof(proof, leaf, accepts).size == case["tree_size"]
        with pytest.raises(EvidenceError, match="inclusion"):
            verify_proof(proof, hash_leaf(b"another artefact"), accepts)


def test_published_proof_with_extra_and_cosignature(vectors: Any) -> None:
    known = vectors("tlog_proof.json")
    witness = vectors("cosignatures.json")["vectors"][0]["vkey"]
    accepts = Policy.parse(f"log {known['log_vkey']}\nwitness w {witness}\nquorum w\n".encode())
    proof = TlogProof.parse(known["valid"][-1]["proof_file"].encode())
    assert proof.extra == b"opaque, unauthenticated"
    assert verify_proof(proof, hash_leaf(b"four"), accepts).existence_time == 1_700_000_000
    bare = TlogProof.parse(known["valid"][0]["proof_file"].encode())
    with pytest.raises(PolicyError, match="by w"):
        verify_proof(bare, hash_leaf(b"one"), accepts)


def test_published_malformed_proofs(vectors: Any) -> None:
    known = vectors("tlog_proof.json")
    assert len(known["malformed"]) == 9
    for case in known["malformed"]:
        with pytest.raises(EvidenceError):
            TlogProof.parse(case["proof_file"].encode())


def test_every_leaf() -> None:
    for index in range(11):
        made = make_proof(index, TREE.inclusion(index), NOTE, b"extra")
        proof = TlogProof.parse(made.encode())
        assert proof == made
        assert verify_proof(proof, hash_leaf(b"%d" % index), POLICY).root == TREE.root()


GOOD = make_proof(6, TREE.inclusion(6), NOTE, b"some extra").encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n\n",
        GOOD[:-1],
        GOOD.replace(b"@v1", b"@v2"),
        GOOD.replace(b"index 6", b"index 06"),
        GOOD.replace(b"index 6", b"index 11"),
        GOOD.replace(b"index 6\n", b""),
        GOOD.replace(b"index 6\n", b"index 6\n" + b"A" * 43 + b"=\n"),
        GOOD.replace(b"extra ", b"extra  "),
        GOOD.replace(b"extra ", b"other "),
        GOOD.replace(b"\n\n", b"\n", 1),
        GOOD.replace(b"\n\n", b"\n\n\n", 1),
        GOOD.replace(b"\n", b"\r\n"),
        b"\xef\xbb\xbf" + GOOD,
        GOOD.replace(b"index 6\n", b"index 6\n" + (b"A" * 43 + b"=\n") * 64),
    ],
)
def test_malformed(data: bytes) -> None:
    assert data != GOOD
    with pytest.raises(EvidenceError):
        TlogProof.parse(data)


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_only_the_two_errors_escape_and_nothing_bent_proves(data: st.DataObject) -> None:
    bent = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(bent) - 1))
        bent[place : place + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
    try:
        proof = TlogProof.parse(bytes(bent))
        accepted = verify_proof(proof, hash_leaf(b"6"), POLICY)
    except (EvidenceError, PolicyError):
        return
    # what still verifies says the same: only the unauthenticated extra line can have changed
    assert (proof.index, accepted.root) == (6, TREE.root())
    assert proof.encode() == bytes(bent)
