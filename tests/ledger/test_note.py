"""Signed notes and keys against the examples that other projects publish, and against bent input."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plausible.ledger.notes import keytypes
from plausible.ledger.notes.note import (
    COSIGNATURE_ED25519,
    ED25519,
    MAX_SIGNATURES,
    Note,
    NoteSignature,
    SignerKey,
    VerifierKey,
)
from plausible.ledger.notes.wire import decode_base64
from plausible.schemas.errors import EvidenceError, UsageError

from tests.ledger.keys import COSIGNER_KINDS

SEED = bytes(range(32))
KINDS = [ED25519, *COSIGNER_KINDS]


def test_published_verifier_keys(vectors: Any) -> None:
    keys = vectors("signed_note.json")["verifier_keys"]
    assert len(keys) == 16
    for known in keys:
        if not known["valid"]:
            with pytest.raises(EvidenceError, match="key ID"):
                VerifierKey.parse(known["vkey"])
            continue
        key = VerifierKey.parse(known["vkey"])
        assert (key.name, key.kind, key.key_id.hex()) == (known["name"], known["signature_type"], known["key_id_hex"])
        assert key.public == decode_base64(known["public_key_base64"])
        assert key.encode() == known["vkey"]


def test_bad_verifier_keys(vectors: Any) -> None:
    for known in vectors("signed_note.json")["invalid_verifier_keys"]:
        with pytest.raises(EvidenceError):
            VerifierKey.parse(known["vkey"])


def test_published_notes(vectors: Any) -> None:
    for known in vectors("signed_note.json")["notes"]:
        data = known["note"].encode()
        note = Note.parse(data)
        assert note.text == known["text"]
        assert note.encode() == data
        assert [(s.name, s.key_id.hex()) for s in note.signatures] == [
            (s["name"], s["key_id_hex"]) for s in known["signatures"]
        ]
        assert [s.signature for s in note.signatures] == [
            decode_base64(s["signature_base64"]) for s in known["signatures"]
        ]
        if known["verifies"]:
            keys = [VerifierKey.parse(key) for key in known["verify_with"]]
            assert len(note.verify(keys)) == len(keys)
            bent = Note(note.text.replace("a", "b", 1).replace("3", "4", 1), note.signatures)
            with pytest.raises(EvidenceError, match="does not verify"):
                bent.verify(keys)


def test_published_signer_gives_the_published_bytes(vectors: Any) -> None:
    known = vectors("signed_note.json")
    signer = SignerKey.parse(known["signer_key"]["skey"])
    assert signer.encode() == known["signer_key"]["skey"]
    note = next(n for n in known["notes"] if n["note"].startswith("If you think cryptography"))
    assert Note(note["text"]).sign(signer).encode() == note["note"].encode()


def test_cosignature_time(vectors: Any) -> None:
    known = vectors("signed_note.json")["cosignature_timestamp"]
    data = decode_base64(known["signature_base64"])
    assert int.from_bytes(data[4:12], "big") == known["timestamp"]


@pytest.mark.parametrize("kind", KINDS)
def test_keys_round_trip_and_sign(kind: int) -> None:
    signer = SignerKey.generate("log.example/x", kind)
    assert SignerKey.parse(signer.encode()) == signer
    assert VerifierKey.parse(signer.verifier.encode()) == signer.verifier
    assert repr(signer.seed) not in repr(signer)
    text = "log.example/x\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n"
    note = Note.parse(Note(text).sign(signer, time=1_700_000_000).encode())
    (verified,) = note.verify([signer.verifier])
    assert verified.time == (None if kind == ED25519 else 1_700_000_000)
    stranger = SignerKey.generate("log.example/x", kind)
    with pytest.raises(EvidenceError, match="no signature by a known key"):
        note.verify([stranger.verifier])


def test_time_belongs_to_cosignatures_only() -> None:
    log, witness = SignerKey("a", ED25519, SEED), SignerKey("a", COSIGNATURE_ED25519, SEED)
    with pytest.raises(UsageError):
        log.sign("x\n", time=5)
    for time in (None, 0, -1, 2**63):
        with pytest.raises(UsageError):
            witness.sign("x\n", time=time)


def test_unknown_lines_are_ignored_and_false_ones_reject_the_note() -> None:
    signer, other = SignerKey("a.example", ED25519, SEED), SignerKey("b.example", ED25519, bytes(32))
    note = Note("text\n").sign(signer)
    grease = NoteSignature("grease.example", b"\1\2\3\4", b"whatever")
    assert [v.key for v in note.add(grease).verify([signer.verifier, other.verifier])] == [signer.verifier]
    false = NoteSignature("b.example", other.verifier.key_id, bytes(64))
    with pytest.raises(EvidenceError, match=r"invalid signature.*b\.example"):
        note.add(false).verify([signer.verifier, other.verifier])
    # a second, false line under a known key is not hidden behind the first
    twice = note.add(NoteSignature("a.example", signer.verifier.key_id, bytes(64)))
    with pytest.raises(EvidenceError, match="invalid signature"):
        twice.verify([signer.verifier])


def test_keys_of_unknown_types_are_read_on_request_and_ignored() -> None:
    strange = VerifierKey("new.example", 0xFE, b"some later algorithm")
    with pytest.raises(EvidenceError, match="unknown type 0xfe"):
        VerifierKey.parse(strange.encode())
    assert VerifierKey.parse(strange.encode(), allow_unknown=True) == strange
    signer = SignerKey("a.example", ED25519, SEED)
    note = Note("text\n").sign(signer).add(NoteSignature("new.example", strange.key_id, b"12345"))
    assert [v.key for v in note.verify([strange, signer.verifier])] == [signer.verifier]
    with pytest.raises(EvidenceError, match="no signature"):
        note.verify([strange])


def test_the_set_of_key_types_is_open() -> None:
    class Reversed(keytypes.KeyType):
        code, label = 0xFD, "test"

        def check_public(self, public: bytes) -> None:
            pass

        def verify(self, name: str, public: bytes, text: str, signature: bytes) -> int | None:
            if signature != text.encode()[::-1]:
                raise EvidenceError("invalid signature")
            return None

    if keytypes.key_type(0xFD) is None:
        keytypes.register(Reversed())
    key = VerifierKey.parse(VerifierKey("t.example", 0xFD, b"k").encode())
    note = Note("abc\n").add(NoteSignature("t.example", key.key_id, b"\ncba"))
    assert note.verify([key])[0].key == key
    with pytest.raises(UsageError):
        keytypes.register(Reversed())


def test_ecdsa_notes_verify() -> None:
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    private = ec.generate_private_key(ec.SECP256R1())
    public = private.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    key = VerifierKey.parse(VerifierKey("rekor.example", 2, public).encode())
    signature = private.sign(b"text\n", ec.ECDSA(hashes.SHA256()))
    note = Note("text\n").add(NoteSignature("rekor.example", key.key_id, signature))
    assert note.verify([key])[0].time is None
    with pytest.raises(EvidenceError, match="does not verify"):
        Note("tExt\n", note.signatures).verify([key])


GOOD = Note("origin\n\nmore\n").sign(SignerKey("a.example", ED25519, SEED)).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n",
        b"\n\n",
        b"text\n",
        b"text\n\n",
        GOOD[:-1],
        GOOD + b"\n",
        GOOD.replace(b"\n", b"\r\n"),
        GOOD.replace(b"more", b"mo\x00re"),
        GOOD.replace(b"more", b"mo\tre"),
        GOOD.replace(b"more", b"mo\xffre"),
        GOOD.replace(b"a.example", b"a.exa mple"),
        GOOD.replace(b"a.example", b"a.exa+mple"),
        GOOD.replace(b"a.example", b"a.exa\xc2\xa0mple"),
        GOOD.replace(b"a.example", b""),
        GOOD.replace("\u2014 ".encode(), b"- "),
        GOOD.replace(b"=\n", b"\n"),
        GOOD + "\u2014 a AAAAAA==\n".encode(),
        GOOD + "\u2014 a AAAAAAB=\n".encode(),
        GOOD + "\u2014 a AAAAAAA=\n".encode() * MAX_SIGNATURES,
        b"x" * (1 << 20) + GOOD,
    ],
)
def test_malformed_notes(data: bytes) -> None:
    assert data != GOOD
    with pytest.raises(EvidenceError):
        Note.parse(data)


def test_sixteen_signatures_and_more_are_read() -> None:
    signers = [SignerKey.generate(f"w{i}.example") for i in range(MAX_SIGNATURES)]
    note = Note.parse(Note("text\n").sign(*signers).encode())
    assert len(note.verify([s.verifier for s in signers])) == MAX_SIGNATURES


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_only_evidence_error_escapes_from_notes(data: st.DataObject) -> None:
    bent = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(bent) - 1))
        bent[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    try:
        note = Note.parse(bytes(bent))
    except EvidenceError:
        return
    assert note.encode() == bytes(bent)


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_only_evidence_error_escapes_from_keys(data: st.DataObject) -> None:
    signer = SignerKey("a.example", data.draw(st.sampled_from([ED25519, COSIGNATURE_ED25519])), SEED)
    text = data.draw(st.sampled_from([signer.encode(), signer.verifier.encode()]))
    place = data.draw(st.integers(0, len(text)))
    bent = text[:place] + data.draw(st.text(max_size=3)) + text[place + data.draw(st.integers(0, 3)) :]
    for read in (SignerKey.parse, VerifierKey.parse):
        try:
            key = read(bent)
        except EvidenceError:
            continue
        assert key.encode() == bent
