"""Commitments and openings: what is disclosed matches what was committed to, and every trick is named."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plausible.ledger.entries.entry import Entry, parse_entry, sign_entry
from plausible.ledger.entries.record import (
    FIELDS,
    REPLAY_FIELDS,
    commit,
    commit_encoded,
    make_opening,
    new_record_secret,
    open_record,
    verify_opening,
    weakest_grade,
)
from plausible.ledger.merkle.tree import hash_leaf
from plausible.schemas import jcs
from plausible.schemas.errors import EvidenceError, PlausibleError, UsageError
from plausible.schemas.record import Input, Record, Rng, RngSource, Tensor
from plausible.schemas.text import b64, digest_text

from tests.ledger import keys

PIXELS = hashlib.sha256(b"pixels").digest()
FILE = hashlib.sha256(b"file").digest()
RECORD = keys.record(PIXELS, FILE)
COMMITMENT = commit(RECORD, keys.SECRET)
ENTRY = parse_entry(sign_entry(keys.generation(COMMITMENT, PIXELS, FILE), keys.AUTHOR))


def entry_of(record: Record, **changes: Any) -> Entry:
    statement = keys.generation(commit(record, keys.SECRET), PIXELS, FILE, **changes)
    return parse_entry(sign_entry(statement, keys.AUTHOR))


def naive_root(leaves: list[bytes]) -> bytes:
    if len(leaves) == 1:
        return leaves[0]
    cut = 1
    while cut * 2 < len(leaves):
        cut *= 2
    return hashlib.sha256(b"\x01" + naive_root(leaves[:cut]) + naive_root(leaves[cut:])).digest()


def test_the_commitment_by_hand() -> None:
    """Written from the format's text alone: ten leaves, salts by HMAC, an RFC 6962 root."""
    document = json.loads(RECORD.to_jcs())
    leaves: list[bytes] = []
    for name in ("context", "rng", "latent", "style", "noise", "call", "environment", "output", "tolerance", "extra"):
        salt = hmac.new(keys.SECRET, b"plausible.salt/1\n" + name.encode(), hashlib.sha256).hexdigest()
        leaf = json.dumps([name, document[name], salt], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        leaves.append(hashlib.sha256(b"\x00" + leaf.encode()).digest())
    assert naive_root(leaves) == COMMITMENT


def test_the_encoded_commitment_is_the_same_one() -> None:
    for record in (RECORD, RECORD.model_copy(update={"extra": {"a prompt": "with \u20ac"}, "latent": None})):
        assert commit_encoded(record, keys.SECRET) == (commit(record, keys.SECRET), record.to_jcs())


def test_a_record_survives_its_bytes() -> None:
    assert Record.parse(RECORD.to_jcs()) == RECORD
    assert json.loads(RECORD.to_jcs())["format"] == "plausible.record/1"


@pytest.mark.parametrize("fields", [(), ("latent",), REPLAY_FIELDS, FIELDS, ("extra", "rng")])
def test_an_opening_discloses_its_fields_and_nothing_else(fields: tuple[str, ...]) -> None:
    data = make_opening(RECORD, keys.SECRET, fields)
    opened = verify_opening(data, ENTRY)
    assert opened.disclosed == {"context", *fields}
    for name in FIELDS:
        assert getattr(opened, name) == (getattr(RECORD, name) if name in opened.disclosed else None)
    assert opened.missing_for_replay == tuple(name for name in REPLAY_FIELDS if name not in opened.disclosed)
    if "call" not in fields:
        assert b"a face" not in data
    assert keys.SECRET.hex().encode() not in data


def test_a_null_field_is_disclosed_as_null() -> None:
    opened = verify_opening(make_opening(RECORD, keys.SECRET, ["noise"]), ENTRY)
    assert opened.noise is None
    assert "noise" in opened.disclosed


def test_the_default_opening_is_what_a_replay_needs() -> None:
    opened = verify_opening(make_opening(RECORD, keys.SECRET), ENTRY)
    assert opened.missing_for_replay == ()
    assert "extra" not in opened.disclosed


def test_secrets_have_32_bytes_and_differ() -> None:
    assert len({new_record_secret() for _ in range(8)}) == 8
    with pytest.raises(UsageError):
        commit(RECORD, bytes(31))
    with pytest.raises(UsageError):
        make_opening(RECORD, keys.SECRET, ["seed"])
    assert commit(RECORD, bytes(32)) != COMMITMENT


def edited(change: Any, fields: tuple[str, ...] = REPLAY_FIELDS) -> bytes:
    document = json.loads(make_opening(RECORD, keys.SECRET, fields))
    change(document)
    return jcs.encode(document)


def swap_names(document: Any) -> None:
    document["fields"][2]["name"], document["fields"][3]["name"] = "style", "latent"
    document["fields"][2], document["fields"][3] = document["fields"][3], document["fields"][2]


TRICKS: dict[str, tuple[Any, str]] = {
    "field twice": (lambda d: d["fields"].insert(1, d["fields"][0]), "field given twice"),
    "field twice with other values": (
        lambda d: d["fields"].insert(3, {**d["fields"][2], "value": None}),
        "field given twice",
    ),
    "chosen position": (lambda d: d["fields"][1].update(index=3), "chosen position"),
    "chosen size": (lambda d: d.update(size=4), "chosen position"),
    "unknown field of the record": (lambda d: d["fields"][-1].update(name="prompt"), "unknown field"),
    "unknown key": (lambda d: d["fields"][1].update(comment="x"), "Extra inputs"),
    "unknown key of the opening": (lambda d: d.update(root="x"), "Extra inputs"),
    "context missing": (lambda d: d["fields"].pop(0), "context missing"),
    "no fields": (lambda d: d.update(fields=[]), "fields"),
    "order": (lambda d: d["fields"].reverse(), "order"),
    "other format": (lambda d: d.update(format="plausible.opening/2"), "format"),
    "no format": (lambda d: d.pop("format"), "leaves out"),
    "another value": (lambda d: d["fields"][2]["value"].update(prior="sphere"), "latent does not match"),
    "another salt": (lambda d: d["fields"][2].update(salt="00" * 32), "latent does not match"),
    "names swapped": (swap_names, "does not match"),
    "short path": (lambda d: d["fields"][2]["path"].pop(), "latent does not match"),
    "long path": (lambda d: d["fields"][2]["path"].insert(0, digest_text(bytes(32))), "fields.2.path|latent does"),
    "salt in capitals": (lambda d: d["fields"][2].update(salt="AB" * 32), "salt"),
    "a fraction": (lambda d: d["fields"][2].update(value=1.5), "f64"),
}


@pytest.mark.parametrize("trick", TRICKS)
def test_a_trick_is_refused_by_name(trick: str) -> None:
    change, message = TRICKS[trick]
    with pytest.raises(EvidenceError, match=message):
        verify_opening(edited(change), ENTRY)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("author", keys.OTHER.verifier.encode()),
        ("chain", "0" * 32),
        ("draw", 8),
        ("model", digest_text(bytes(32))),
        ("pixels", digest_text(bytes(32))),
        ("file", None),
    ],
)
def test_a_copied_commitment_opens_nothing(name: str, value: object) -> None:
    """Somebody else's commitment under one's own entry: its context names the other entry."""
    record = RECORD.model_copy(update={"context": RECORD.context.model_copy(update={name: value}), "output": None})
    with pytest.raises(EvidenceError, match=f"foreign context: the record's {name}"):
        verify_opening(make_opening(record, keys.SECRET), entry_of(record))


def test_output_is_the_contexts() -> None:
    assert RECORD.output is not None
    for update in ({"pixels": digest_text(bytes(32))}, {"file": None}):
        record = RECORD.model_copy(update={"output": RECORD.output.model_copy(update=update)})
        with pytest.raises(EvidenceError, match="output's"):
            verify_opening(make_opening(record, keys.SECRET), entry_of(record))
        with pytest.raises(EvidenceError, match="output's digests"):
            Record.parse(record.to_jcs())


def test_stored_values_are_those_of_their_digests() -> None:
    state = b64(bytes(9))
    wrong = {
        "rng": Rng(sources=(RngSource(algorithm="a", device="cpu", sha256=digest_text(bytes(32)), state=state),)),
        "latent": RECORD.latent.model_copy(update={"values": b64(bytes(400))}) if RECORD.latent else None,
        "noise": {
            "n": Input(
                grade="captured",
                tensor=Tensor(dtype="uint8", sha256=digest_text(bytes(32)), shape=(9,), values=state),
            )
        },
    }
    for name, value in wrong.items():
        record = RECORD.model_copy(update={name: value})
        with pytest.raises(EvidenceError, match=name):
            verify_opening(make_opening(record, keys.SECRET), entry_of(record))
        with pytest.raises(EvidenceError, match=name):
            open_record(record)
    assert open_record(RECORD).disclosed == set(FIELDS)


def test_an_entry_about_a_model_has_no_record() -> None:
    from plausible.schemas.statement import ModelStatement

    entry = parse_entry(sign_entry(ModelStatement.make(keys.header(), manifest=keys.MODEL), keys.AUTHOR))
    with pytest.raises(EvidenceError, match="not about an image"):
        verify_opening(make_opening(RECORD, keys.SECRET), entry)


def test_the_weakest_input_grades_the_record() -> None:
    bare: dict[str, Any] = {"rng": None, "style": None}
    assert weakest_grade(RECORD) == "captured"
    assert weakest_grade(keys.record(PIXELS, **bare)) == "committed-fresh"
    fixed: dict[str, Any] = {"noise": {"n": Input(grade="fixed", value=0)}}
    assert weakest_grade(keys.record(PIXELS, **(bare | fixed))) == "committed-fresh"
    assert weakest_grade(keys.record(PIXELS, **(bare | fixed | {"latent": None}))) == "fixed"
    assert weakest_grade(keys.record(PIXELS, **(bare | {"latent": None}))) == "captured"


OPENING = make_opening(RECORD, keys.SECRET, FIELDS)


@given(st.integers(0, len(OPENING) - 1), st.integers(0, 255), st.integers(0, 3))
def test_a_damaged_opening_raises_nothing_but_our_errors(position: int, byte: int, cut: int) -> None:
    changed = bytearray(OPENING)
    changed[position] = byte
    data = bytes(changed[: len(changed) - cut])
    try:
        verify_opening(data, ENTRY)
    except EvidenceError:
        return
    assert data == OPENING, "an opening has one byte form only"


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
        max_leaves=8,
    ),
    st.sampled_from(FIELDS),
)
def test_a_field_of_any_shape_raises_nothing_but_our_errors(value: Any, name: str) -> None:
    """Committed to by a dishonest author: the paths are right, the value is not a field."""
    document = json.loads(RECORD.to_jcs())
    document[name] = value
    salts = {n: hmac.new(keys.SECRET, b"plausible.salt/1\n" + n.encode(), "sha256").hexdigest() for n in FIELDS}
    leaves = [hash_leaf(jcs.encode([n, document[n], salts[n]])) for n in FIELDS]
    from plausible.ledger.merkle.tree import MemoryTree

    tree = MemoryTree(leaves)
    fields = [
        {"name": n, "path": [digest_text(h) for h in tree.inclusion(i)], "salt": salts[n], "value": document[n]}
        for i, n in enumerate(FIELDS)
    ]
    opening = jcs.encode({"fields": fields, "format": "plausible.opening/1"})
    entry = parse_entry(sign_entry(keys.generation(tree.root(), PIXELS, FILE), keys.AUTHOR))
    try:
        opened = verify_opening(opening, entry)
    except PlausibleError:
        return
    assert name == "extra" or getattr(opened, name) in (None, {})
