"""Policies: the published good and bad files, quorums, existence times, and refusals that name who is missing."""

from __future__ import annotations

import contextlib
from itertools import combinations
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plausible.ledger.merkle.tree import hash_leaf
from plausible.ledger.notes.checkpoint import Checkpoint
from plausible.ledger.notes.cosignature import cosign
from plausible.ledger.notes.note import COSIGNATURE_ED25519, ED25519, Note, NoteSignature, SignerKey
from plausible.ledger.notes.policy import Policy
from plausible.schemas.errors import EvidenceError, PolicyError

LOG = SignerKey.generate("log.example/a")
WITNESSES = [SignerKey.generate(f"w{i}.example", COSIGNATURE_ED25519) for i in range(4)]
CHECKPOINT = Checkpoint(LOG.name, 3, hash_leaf(b"x"))
LINES = [f"witness w{i} {w.verifier}" for i, w in enumerate(WITNESSES)]


def policy(*rules: str) -> Policy:
    return Policy.parse("\n".join([f"log {LOG.verifier}", *LINES, *rules, ""]).encode())


def cosigned(times: dict[int, int], *, signer: SignerKey = LOG) -> bytes:
    note = CHECKPOINT.sign(signer)
    return note.add(*(cosign(CHECKPOINT, WITNESSES[i], time) for i, time in times.items())).encode()


def test_published_policies(vectors: Any) -> None:
    known = vectors("tlog_policy.json")
    assert len(known["valid"]) == 3
    for case in known["valid"]:
        parsed = Policy.parse(case["policy"].encode())
        for names in case["satisfied_by"]:
            assert parsed.satisfied_by(names)
        for names in case["not_satisfied_by"]:
            assert not parsed.satisfied_by(names)


def test_published_bad_policies(vectors: Any) -> None:
    known = vectors("tlog_policy.json")
    assert len(known["invalid"]) == 7
    for case in known["invalid"]:
        with pytest.raises(EvidenceError):
            Policy.parse(case["policy"].encode())


@pytest.mark.parametrize(
    "rules",
    [
        [],
        ["quorum w0", "quorum w1"],
        ["quorum w0 w1"],
        ["quorum"],
        ["group g 0 w0", "quorum g"],
        ["group g 3 w0 w1", "quorum g"],
        ["group g 02 w0 w1", "quorum g"],
        ["group g all", "quorum g"],
        ["group g some w0", "quorum g"],
        ["group g all w0 w0", "quorum g"],
        ["group g all w0", "group h all w0", "quorum g"],
        ["group g all g", "quorum g"],
        ["group w0 all w1", "quorum w0"],
        ["group none all w1", "quorum none"],
        ["quorum g", "group g all w1"],
        ["Quorum none"],
        ["quorum none\r"],
        ["quorum none", "witness w9"],
        ["quorum none", "log"],
        ["quorum none", f"log {LOG.verifier}"],
        ["quorum none", f"witness again {WITNESSES[0].verifier}"],
        ["quorum none", f"witness a b c {LOG.verifier}"],
        ["quorum none", "\u00e9"],
        # the log's own key as a witness, under another name and type: a raw key serves one role
        ["quorum none", f"witness x {SignerKey('x.example', COSIGNATURE_ED25519, LOG.seed).verifier}"],
    ],
)
def test_malformed(rules: list[str]) -> None:
    with pytest.raises(EvidenceError):
        policy(*rules)


def test_spaces_comments_and_urls() -> None:
    log = f"\tlog \t{LOG.verifier}  https://log.example/ \n"
    text = f"# mine\n\n \t# also\n{log}witness w {WITNESSES[0].verifier}\nquorum w"
    parsed = Policy.parse(text.encode())
    assert parsed.logs[0].url == "https://log.example/"
    assert parsed.witnesses[0].url is None
    assert parsed.quorum == "w"


def test_accepts_and_dates() -> None:
    """Existence time is the second of the three times under 2 of 3, whoever gave it."""
    three = policy("group three 2 w0 w1 w2", "quorum three")
    accepted = three.check(cosigned({0: 300, 1: 100, 2: 200}))
    assert accepted.existence_time == 200
    assert [(c.name, c.time) for c in accepted.cosigners] == [("w0", 300), ("w1", 100), ("w2", 200)]
    assert (accepted.origin, accepted.size, accepted.root) == (LOG.name, 3, CHECKPOINT.root)
    assert accepted.log == LOG.verifier
    assert three.check(cosigned({0: 300, 2: 200})).existence_time == 300
    # a cosigner outside the quorum neither helps nor dates
    assert three.check(cosigned({0: 300, 2: 200, 3: 1})).existence_time == 300
    with pytest.raises(PolicyError):
        three.check(cosigned({0: 300, 3: 1}))


def test_refusal_names_who_is_missing() -> None:
    three = policy("group three 2 w0 w1 w2", "quorum three")
    with pytest.raises(PolicyError, match=r"2 of w0, w1, w2.*by w0, w2$"):
        three.check(cosigned({1: 5, 3: 5}))


def test_quorum_none_gives_no_time() -> None:
    accepted = policy("quorum none").check(cosigned({0: 300}))
    assert accepted.existence_time is None
    assert [c.name for c in accepted.cosigners] == ["w0"]


def test_earliest_of_two_cosignatures_of_one_witness_counts() -> None:
    assert policy("quorum w0").check(cosigned({0: 300})[:-1] + b"\n").existence_time == 300
    again = Note.parse(cosigned({0: 300})).add(cosign(CHECKPOINT, WITNESSES[0], 200))
    assert policy("quorum w0").check(again.encode()).existence_time == 200


def test_times_that_do_not_count() -> None:
    one = policy("quorum w0")
    note = cosigned({0: 10_000})
    assert one.check(note, now=9_700).existence_time == 10_000
    with pytest.raises(PolicyError, match="w0"):
        one.check(note, now=9_699)
    with pytest.raises(PolicyError, match="w0"):  # beyond the year 9999: no date can name it
        one.check(cosigned({0: 2**62}))


def test_a_false_cosignature_is_evidence_not_policy() -> None:
    good = Note.parse(cosigned({0: 300, 1: 300}))
    line = good.signatures[1]
    bent = NoteSignature(line.name, line.key_id, line.signature[:-1] + bytes([line.signature[-1] ^ 1]))
    with pytest.raises(EvidenceError, match="does not verify"):
        policy("quorum w1").check(Note(good.text, (good.signatures[0], bent, good.signatures[2])).encode())


def test_the_log_must_be_known_and_must_sign() -> None:
    with pytest.raises(PolicyError, match="does not name the log"):
        Policy.parse(b"quorum none\n").check(cosigned({}))
    with pytest.raises(PolicyError, match="no signature by the policy's key"):
        policy("quorum none").check(cosigned({0: 5}, signer=SignerKey.generate(LOG.name)))
    # a key of the policy under its own origin cannot speak for another log
    foreign = Checkpoint("log.example/b", 3, CHECKPOINT.root).sign(LOG).encode()
    with pytest.raises(PolicyError, match=r"does not name the log 'log\.example/b'"):
        policy("quorum none").check(foreign)


def test_untimed_witness_keys_never_count() -> None:
    plain = SignerKey.generate("plain.example", ED25519)
    parsed = Policy.parse(f"log {LOG.verifier}\nwitness p {plain.verifier}\nquorum p\n".encode())
    with pytest.raises(PolicyError, match="by p"):
        parsed.check(CHECKPOINT.sign(LOG, plain).encode())


def test_nested_groups_of_any_depth() -> None:
    rules = ["group g0 all w0"] + [f"group g{i} any g{i - 1}" for i in range(1, 3000)]
    deep = policy(*rules, "quorum g2999")
    assert deep.check(cosigned({0: 7})).existence_time == 7
    with pytest.raises(PolicyError, match="by w0"):
        deep.check(cosigned({1: 7}))


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_existence_time_is_the_earliest_moment_the_quorum_was_met(data: st.DataObject) -> None:
    """Against the definition: try every time in order and ask who had signed by then."""
    inner, outer = data.draw(st.integers(1, 2)), data.draw(st.integers(1, 3))
    parsed = policy(f"group g {inner} w0 w1", f"group h {outer} g w2 w3", "quorum h")
    names = data.draw(st.sets(st.sampled_from(["w0", "w1", "w2", "w3"])))
    times = {name: data.draw(st.integers(1, 5)) for name in sorted(names)}

    def met(present: set[str]) -> bool:
        return (len(present & {"w0", "w1"}) >= inner) + ("w2" in present) + ("w3" in present) >= outer

    moments = [t for t in range(1, 6) if met({n for n, time in times.items() if time <= t})]
    assert parsed.existence_time(times) == (moments[0] if moments else None)
    assert parsed.satisfied_by(times) == met(set(times))


def test_every_subset() -> None:
    parsed = policy("group g 3 w0 w1 w2 w3", "quorum g")
    names = ["w0", "w1", "w2", "w3"]
    for count in range(5):
        for present in combinations(names, count):
            assert parsed.satisfied_by(present) == (count >= 3)


GOOD = "\n".join([f"log {LOG.verifier}", *LINES, "group g 2 w0 w1 w2", "quorum g", ""]).encode()


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_only_evidence_error_escapes(data: st.DataObject) -> None:
    bent = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(bent) - 1))
        bent[place : place + data.draw(st.integers(0, 6))] = data.draw(st.binary(max_size=4))
    try:
        parsed = Policy.parse(bytes(bent))
    except EvidenceError:
        return
    with contextlib.suppress(PolicyError):
        parsed.check(cosigned({0: 1, 1: 1, 2: 1}))
