"""Entries: what is signed, what has the profile, and what is refused by name."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plausible.ledger.entries.authors import Authors
from plausible.ledger.entries.entry import MAX_ENTRY_BYTES, check_succession, parse_entry, sign_entry, verify_entry
from plausible.ledger.notes.dsse import Envelope, open_envelope, pae, sign_envelope
from plausible.ledger.notes.note import COSIGNATURE_ED25519, ED25519, SignerKey
from plausible.schemas import jcs
from plausible.schemas.errors import EvidenceError, PolicyError, UsageError
from plausible.schemas.statement import (
    AuthorKeyStatement,
    AuthorRevocationStatement,
    ModelStatement,
    SeedEpochStatement,
    Statement,
)
from plausible.schemas.text import digest_text

from tests.ledger import keys

PIXELS, FILE, COMMITMENT = (hashlib.sha256(name).digest() for name in (b"pixels", b"file", b"commitment"))
GENERATION = keys.generation(COMMITMENT, PIXELS, FILE)
LEAF = sign_entry(GENERATION, keys.AUTHOR)
AUTHORS = Authors.of([keys.AUTHOR.verifier])

STATEMENTS: list[Statement] = [
    GENERATION,
    keys.generation(COMMITMENT, PIXELS),
    ModelStatement.make(keys.header(), manifest=keys.MODEL),
    AuthorKeyStatement.make(keys.header(), successor=keys.OTHER.verifier.encode()),
    AuthorRevocationStatement.make(keys.header(), revoked=keys.AUTHOR.verifier.encode()),
    SeedEpochStatement.make(keys.header(), first_draw=1024, count=1024, root=COMMITMENT),
]


def test_pae_of_the_dsse_protocol() -> None:
    assert pae("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )
    assert pae("", b"") == b"DSSEv1 0  0 "
    assert pae("\u00e9", b"\x00 1 ") == b"DSSEv1 2 \xc3\xa9 4 \x00 1 "


def test_the_entry_is_the_specified_json() -> None:
    """The example of the format, letter for letter."""
    envelope = json.loads(LEAF)
    vkey = keys.AUTHOR.verifier.encode()
    expected = (
        '{"_type":"https://in-toto.io/Statement/v1","predicate":{"commitment":"sha256:' + COMMITMENT.hex() + '",'
        '"draw":7,"header":{"author":"' + vkey + '","chain":"' + keys.CHAIN + '","prev":"sha256:' + "0" * 64 + '",'
        '"seq":0,"time":"' + keys.TIME + '"},"model":"sha256:' + keys.MODEL.hex() + '"},'
        '"predicateType":"urn:plausible:generation:v1","subject":[{"digest":{"plausiblePixels1":"'
        + PIXELS.hex() + '"},'
        '"name":"pixels"},{"digest":{"sha256":"' + FILE.hex() + '"},"name":"file"}]}'
    )  # fmt: skip
    assert base64.b64decode(envelope["payload"]).decode() == expected
    assert envelope["payloadType"] == "application/vnd.in-toto+json"
    assert list(envelope) == ["payload", "payloadType", "signatures"]
    assert [list(signature) for signature in envelope["signatures"]] == [["keyid", "sig"]]
    assert envelope["signatures"][0]["keyid"] == "8c7402d5"
    assert b" " not in LEAF
    assert 1000 < len(LEAF) < 1600


@pytest.mark.parametrize("statement", STATEMENTS, ids=lambda s: s.predicate_type)
def test_every_type_is_signed_and_verified(statement: Statement) -> None:
    leaf = sign_entry(statement, keys.AUTHOR)
    entry = parse_entry(leaf)
    assert entry.statement == statement
    assert entry.leaf == leaf
    assert entry.leaf_hash == hashlib.sha256(b"\x00" + leaf).digest()
    assert verify_entry(entry, AUTHORS).key == keys.AUTHOR.verifier
    assert entry.kind == statement.predicate_type


def test_digests_come_back() -> None:
    statement = parse_entry(LEAF).generation
    assert statement is not None
    assert (statement.pixels, statement.file, statement.commitment) == (PIXELS, FILE, COMMITMENT)
    assert (statement.model, statement.draw) == (keys.MODEL, 7)
    assert keys.generation(COMMITMENT, PIXELS).file is None
    model = parse_entry(sign_entry(STATEMENTS[2], keys.AUTHOR)).model
    assert model is not None
    assert model.manifest == keys.MODEL


def test_only_the_author_in_the_header_signs() -> None:
    with pytest.raises(UsageError, match="header names"):
        sign_entry(GENERATION, keys.OTHER)
    with pytest.raises(UsageError, match="not Ed25519"):
        sign_envelope(b"x", "t", SignerKey("a", COSIGNATURE_ED25519, bytes(32)))


def test_unknown_authors_and_false_signatures_are_told_apart() -> None:
    with pytest.raises(PolicyError, match="not among the authors"):
        verify_entry(parse_entry(LEAF), Authors.of([keys.OTHER.verifier]))
    forged = json.loads(LEAF)
    forged["signatures"][0]["sig"] = base64.b64encode(bytes(64)).decode()
    with pytest.raises(EvidenceError, match="invalid signature"):
        verify_entry(parse_entry(jcs.encode(forged)), AUTHORS)


def test_a_key_of_another_name_with_the_same_material_is_another_author() -> None:
    renamed = SignerKey("renamed.example", ED25519, keys.AUTHOR.seed)
    with pytest.raises(PolicyError):
        verify_entry(parse_entry(LEAF), Authors.of([renamed.verifier]))


def resigned(change: Any) -> bytes:
    """The entry with a changed statement under a true signature."""
    payload = json.loads(base64.b64decode(json.loads(LEAF)["payload"]))
    change(payload)
    return sign_envelope(jcs.encode(payload), "application/vnd.in-toto+json", keys.AUTHOR)


BAD_STATEMENTS: dict[str, Any] = {
    "unknown type": lambda p: p.update(predicateType="urn:plausible:generation:v2"),
    "type of no text": lambda p: p.update(predicateType=["urn:plausible:generation:v1"]),
    "other statement version": lambda p: p.update(_type="https://in-toto.io/Statement/v0.1"),
    "unknown field": lambda p: p["predicate"].update(prompt="x"),
    "field missing": lambda p: p["predicate"].pop("draw"),
    "draw of text": lambda p: p["predicate"].update(draw="7"),
    "negative draw": lambda p: p["predicate"].update(draw=-1),
    "draw true": lambda p: p["predicate"].update(draw=True),
    "draw 7.5": lambda p: p["predicate"].update(draw=7.5),
    "bare hex digest": lambda p: p["predicate"].update(model="0" * 64),
    "digest in capitals": lambda p: p["predicate"].update(model="sha256:" + "A" * 64),
    "no subject": lambda p: p.update(subject=[]),
    "file alone": lambda p: p["subject"].pop(0),
    "two pixels": lambda p: p["subject"].insert(0, p["subject"][0]),
    "file first": lambda p: p["subject"].reverse(),
    "three subjects": lambda p: p["subject"].append(p["subject"][1]),
    "second digest of a subject": lambda p: p["subject"][1]["digest"].update(sha512="0" * 128),
    "prefixed DigestSet": lambda p: p["subject"][1]["digest"].update(sha256="sha256:" + "0" * 64),
    "time without fraction": lambda p: p["predicate"]["header"].update(time="2026-01-02T03:04:05Z"),
    "31st of June": lambda p: p["predicate"]["header"].update(time="2026-06-31T03:04:05.000000Z"),
    "chain in capitals": lambda p: p["predicate"]["header"].update(chain="AB" * 16),
    "prev without seq": lambda p: p["predicate"]["header"].update(prev="sha256:" + "1" * 64),
    "seq without prev": lambda p: p["predicate"]["header"].update(seq=3),
    "author of another key ID": lambda p: p["predicate"]["header"].update(
        author=p["predicate"]["header"]["author"].replace("8c7402d5", "8c7402d6")
    ),
    "author of another type": lambda p: p["predicate"]["header"].update(
        author=SignerKey("a.example", COSIGNATURE_ED25519, bytes(32)).verifier.encode()
    ),
    "author of another name": lambda p: p["predicate"]["header"].update(author=keys.OTHER.verifier.encode()),
    "author with a space": lambda p: p["predicate"]["header"].update(author="a b+00000000+" + "A" * 44),
    "no predicate": lambda p: p.pop("predicate"),
    "predicate of text": lambda p: p.update(predicate="x"),
}


@pytest.mark.parametrize("name", BAD_STATEMENTS)
def test_a_truly_signed_statement_outside_the_profile_is_refused(name: str) -> None:
    with pytest.raises(EvidenceError):
        parse_entry(resigned(BAD_STATEMENTS[name]))


def test_subjects_of_the_other_types_are_their_predicates() -> None:
    for statement in STATEMENTS[2:]:
        payload = json.loads(statement.to_jcs())
        payload["subject"][0]["digest"]["sha256"] = "0" * 64
        leaf = sign_envelope(jcs.encode(payload), "application/vnd.in-toto+json", keys.AUTHOR)
        with pytest.raises(EvidenceError, match="subject is not"):
            parse_entry(leaf)


BAD_ENVELOPES: dict[str, Any] = {
    "two signatures": lambda e: e["signatures"].append(e["signatures"][0]),
    "no signature": lambda e: e.update(signatures=[]),
    "other keyid": lambda e: e["signatures"][0].update(keyid="00000000"),
    "keyid in capitals": lambda e: e["signatures"][0].update(keyid="8C7402D5"),
    "no keyid": lambda e: e["signatures"][0].pop("keyid"),
    "short signature": lambda e: e["signatures"][0].update(sig=base64.b64encode(bytes(63)).decode()),
    "long signature": lambda e: e["signatures"][0].update(sig=base64.b64encode(bytes(66)).decode()),
    "signature with trailing bits": lambda e: e["signatures"][0].update(sig=e["signatures"][0]["sig"][:-3] + "R=="),
    "other payload type": lambda e: e.update(payloadType="application/json"),
    "payload without padding": lambda e: e.update(payload=e["payload"].rstrip("=") + "="),
    "url-safe payload": lambda e: e.update(payload="_-_-"),
    "unknown field": lambda e: e.update(extra=1),
    "payload of JSON that is not canonical": lambda e: e.update(
        payload=base64.b64encode(b" " + base64.b64decode(e["payload"])).decode()
    ),
    "empty payload": lambda e: e.update(payload=""),
}


@pytest.mark.parametrize("name", BAD_ENVELOPES)
def test_an_envelope_outside_the_profile_is_refused(name: str) -> None:
    envelope = json.loads(LEAF)
    BAD_ENVELOPES[name](envelope)
    with pytest.raises(EvidenceError):
        parse_entry(jcs.encode(envelope))


def test_bytes_that_are_not_their_own_jcs_are_refused() -> None:
    for data in (LEAF + b"\n", b" " + LEAF, LEAF.replace(b'","', b'", "', 1), LEAF + LEAF, b"", LEAF[:-1]):
        with pytest.raises(EvidenceError):
            parse_entry(data)


def test_an_entry_has_at_most_65535_bytes() -> None:
    with pytest.raises(EvidenceError, match="65535"):
        parse_entry(b'{"a":"' + b"x" * MAX_ENTRY_BYTES + b'"}')


def test_open_envelope_wants_its_type_and_its_key() -> None:
    data = sign_envelope(b"payload", "application/x", keys.AUTHOR)
    assert open_envelope(data, "application/x", keys.AUTHOR.verifier) == b"payload"
    with pytest.raises(EvidenceError, match="application/y"):
        open_envelope(data, "application/y", keys.AUTHOR.verifier)
    with pytest.raises(EvidenceError, match="keyid"):
        open_envelope(data, "application/x", keys.OTHER.verifier)
    assert Envelope.parse(data).encode() == data


def test_a_signature_does_not_move_between_types() -> None:
    """The payload type is under the signature: an entry cannot be passed off as a report."""
    envelope = Envelope.parse(LEAF)
    moved = Envelope("application/vnd.plausible.report+json", envelope.payload, envelope.keyid, envelope.signature)
    with pytest.raises(EvidenceError, match="invalid signature"):
        moved.verify(keys.AUTHOR.verifier)


def test_the_chain_shows_gaps_reorderings_and_foreign_entries() -> None:
    first = parse_entry(LEAF)

    def then(**place: Any) -> Any:
        values: dict[str, Any] = {"seq": 1, "prev": digest_text(first.leaf_hash)} | place
        return parse_entry(sign_entry(keys.generation(COMMITMENT, PIXELS, **values), keys.AUTHOR))

    check_succession(then(), first)
    for place, message in (({"seq": 2}, "seq 2"), ({"prev": digest_text(b"\x01" * 32)}, "prev")):
        with pytest.raises(EvidenceError, match=message):
            check_succession(then(**place), first)
    second = then()
    with pytest.raises(EvidenceError, match="seq"):
        check_succession(first, second)
    early = second.statement.predicate.model_copy(
        update={"header": second.header.model_copy(update={"time": "2026-01-02T03:04:05.000005Z"})}
    )
    entry = parse_entry(sign_entry(second.statement.model_copy(update={"predicate": early}), keys.AUTHOR))
    with pytest.raises(EvidenceError, match="before its predecessor"):
        check_succession(entry, first)
    foreign = parse_entry(sign_entry(keys.generation(COMMITMENT, PIXELS, signer=keys.OTHER), keys.OTHER))
    with pytest.raises(EvidenceError, match="different chains"):
        check_succession(second, foreign)


@given(st.lists(st.tuples(st.integers(0, len(LEAF) - 1), st.integers(0, 255)), min_size=1, max_size=3))
def test_a_damaged_entry_raises_nothing_but_our_errors(edits: list[tuple[int, int]]) -> None:
    changed = bytearray(LEAF)
    for position, byte in edits:
        changed[position] = byte
    data = bytes(changed)
    try:
        entry = parse_entry(data)
        verify_entry(entry, AUTHORS)
    except (EvidenceError, PolicyError):
        return
    assert data == LEAF, "a changed leaf verified"


@given(st.binary(max_size=200))
def test_arbitrary_bytes_raise_nothing_but_our_errors(data: bytes) -> None:
    with pytest.raises(EvidenceError):
        parse_entry(data)
