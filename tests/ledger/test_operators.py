"""Who stands behind a policy: witnesses of one operator are one; what a quorum is worth is computed, not guessed."""

from __future__ import annotations

import hashlib
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plausible.ledger.notes.note import COSIGNATURE_ED25519, COSIGNATURE_ML_DSA_44, ED25519, SignerKey, VerifierKey
from plausible.ledger.notes.operators import describe, operator_of, policy_text, quorum_of, rule, weaknesses
from plausible.ledger.notes.policy import Policy
from plausible.schemas.errors import EvidenceError

from tests.ledger.keys import needs_ml_dsa


def key(name: str, kind: int = COSIGNATURE_ED25519) -> VerifierKey:
    return SignerKey(name, kind, hashlib.sha256(f"{name} {kind}".encode()).digest()).verifier


LOG = key("models.example/studio/log", ED25519)


def made(names: list[str], quorum: int) -> Policy:
    return Policy.parse(policy_text([(LOG, None)], [(key(name), None) for name in names], quorum))


def said(policy: Policy) -> str:
    return "\n".join(weakness.what for weakness in weaknesses(policy))


def test_two_of_three_operators() -> None:
    policy = made(["a.example/w", "b.example/w", "c.example/w"], 2)
    found = quorum_of(policy)
    assert (found.needed, found.spare, found.split) == (2, 1, None)
    assert not weaknesses(policy)
    assert rule(policy) == "2 of these 3: a (a.example), b (b.example), c (c.example)"
    words = "\n".join(describe(policy))
    assert "2 operators together can vouch for what is false; any one may be away." in words
    assert "models.example" in words


def test_witnesses_of_one_operator_are_one_witness() -> None:
    """Three keys of a notary and one of a newspaper: however they are grouped, that is two operators."""
    policy = made(["notary.example/1", "notary.example/2", "notary.example/3", "paper.example/w"], 2)
    assert not policy.satisfied_by(["notary", "notary-2", "notary-3"])
    assert policy.satisfied_by(["notary-2", "paper"])
    assert "are of one operator, notary.example: they are one witness" in "\n".join(describe(policy))
    flat = Policy.parse(
        f"log {LOG}\nwitness a {key('notary.example/1')}\nwitness b {key('notary.example/2')}\n"
        f"witness c {key('paper.example/w')}\ngroup g 2 a b c\nquorum g\n".encode()
    )
    assert quorum_of(flat).needed == 1
    assert "one operator alone meets the quorum" in said(flat)


@needs_ml_dsa
def test_both_keys_of_one_name_are_asked_for() -> None:
    both = [(key("a.example/w"), None), (key("a.example/w", COSIGNATURE_ML_DSA_44), None), (key("b.example/w"), None)]
    policy = Policy.parse(policy_text([(LOG, "https://log.example")], both, 2))
    assert not policy.satisfied_by(["a", "b"]) and policy.satisfied_by(["a", "a-2", "b"])
    assert policy.logs[0].url == "https://log.example"


@pytest.mark.parametrize(
    ("names", "quorum", "weak"),
    [
        ([], 0, "only the log vouches"),
        (["a.example/w"], 1, "there is only one"),
        (["a.example/w", "b.example/w"], 1, "one operator alone"),
        (["a.example/w", "b.example/w"], 2, "every operator is needed"),
        (["a.example/w", "b.example/w", "c.example/w", "d.example/w"], 2, "show the two another history"),
        (["models.example/w", "b.example/w", "c.example/w"], 2, "the log's own operator"),
    ],
)
def test_weaknesses_are_named(names: list[str], quorum: int, weak: str) -> None:
    assert weak in said(made(names, quorum))
    assert all(weakness.remedy for weakness in weaknesses(made(names, quorum)))


def test_a_key_that_signs_no_time_never_counts() -> None:
    policy = Policy.parse(policy_text([(LOG, None)], [(key("a.example/w", ED25519), None)], 1))
    assert "never count" in said(policy)


def test_what_is_no_policy_is_refused() -> None:
    a = key("a.example/w")
    for keys, quorum in (([a, a], 1), ([a], 2)):
        with pytest.raises(EvidenceError):
            policy_text([(LOG, None)], [(one, None) for one in keys], quorum)
    with pytest.raises(EvidenceError):
        policy_text([(LOG, "https://a.example\nquorum none")], [(a, None)], 1)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=7), st.data())
def test_the_numbers_hold_for_every_set(owners: list[int], data: st.DataObject) -> None:
    """`needed`, `spare` and `split` against all sets of operators, tried one by one."""
    quorum = data.draw(st.integers(1, len(set(owners))))
    policy = made([f"o{owner}.example/{place}" for place, owner in enumerate(owners)], quorum)
    found = quorum_of(policy)
    names = list(found.operators)

    def meets(some: tuple[str, ...]) -> bool:
        return policy.satisfied_by(short for name in some for short in found.operators[name])

    sets = [some for count in range(len(names) + 1) for some in combinations(names, count)]
    assert found.needed == min(len(some) for some in sets if meets(some)) == quorum
    assert found.spare == max(
        count for count in range(len(names) + 1) if all(meets(some) for some in sets if len(names) - len(some) == count)
    )
    disjoint = [some for some in sets if meets(some) and meets(tuple(set(names) - set(some)))]
    assert (found.split is None) == (not disjoint)
    if found.split is not None:
        assert all(meets(half) for half in found.split) and not set(found.split[0]) & set(found.split[1])


def test_an_operator_is_a_host() -> None:
    assert operator_of(key("W.Example:8101/a/b")) == "w.example"
    assert operator_of(key("w.example")) == "w.example"
