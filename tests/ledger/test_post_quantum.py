"""ML-DSA-44 witness keys beside Ed25519 ones: our own witnesses hold them, quorums mix them, others say so plainly."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plausible.ledger import Ledger
from plausible.ledger.fsck import check_ledger
from plausible.ledger.merkle.tree import hash_leaf
from plausible.ledger.notes.checkpoint import Checkpoint
from plausible.ledger.notes.cosignature import cosign
from plausible.ledger.notes.keytypes import has_ml_dsa
from plausible.ledger.notes.note import COSIGNATURE_ED25519, COSIGNATURE_ML_DSA_44, Note, NoteSignature, SignerKey
from plausible.ledger.notes.policy import Policy
from plausible.schemas.errors import EvidenceError, PolicyError, SetupError, UsageError

from tests.ledger.keys import needs_ml_dsa
from tests.ledger.studio import AUTHOR, manifest, picture

LOG = SignerKey.generate("log.example/a")
POINT = Checkpoint(LOG.name, 3, hash_leaf(b"x"))
NAMES = ("a.example", "b.example")


def new_ledger(path: Path, keys: str) -> Path:
    with Ledger.init(path, author=AUTHOR, witnesses=NAMES, witness_keys=keys) as ledger:
        ledger.register_model("m", manifest=manifest())
        ledger.append(image=picture(1), model="m").wait("witnessed", 20)
    return path


@needs_ml_dsa
@pytest.mark.parametrize(
    ("keys", "kinds"),
    [("ml-dsa-44", [COSIGNATURE_ML_DSA_44]), ("both", [COSIGNATURE_ED25519, COSIGNATURE_ML_DSA_44])],
)
def test_own_witnesses_hold_such_keys(tmp_path: Path, keys: str, kinds: list[int]) -> None:
    path = new_ledger(tmp_path / "a.ledger", keys)
    with Ledger.open(path) as ledger:
        accepted = ledger.checkpoint()
        assert accepted.size == 2
        assert [(c.key.name, c.key.kind) for c in accepted.cosigners] == [(n, k) for n in NAMES for k in kinds]
        assert accepted.existence_time is not None
        ledger.append(image=picture(2), model="m").wait("witnessed", 20)
        # each witness was asked once: one line a key, and the log's own
        assert len(Note.parse(ledger.checkpoint().note).signatures) == 1 + len(NAMES) * len(kinds)
    assert check_ledger(path).findings == ()


@needs_ml_dsa
def test_both_means_that_one_kind_alone_is_no_vote(tmp_path: Path) -> None:
    path = new_ledger(tmp_path / "a.ledger", "both")
    policy = Policy.parse((path / "policy.txt").read_bytes())
    note = Note.parse((path / "public/checkpoint").read_bytes())
    for kind in (COSIGNATURE_ED25519, COSIGNATURE_ML_DSA_44):
        ids = {w.key.key_id for w in policy.witnesses if w.key.kind == kind}
        kept = tuple(s for s in note.signatures if s.key_id not in ids)
        with pytest.raises(PolicyError, match="quorum"):
            policy.check(Note(note.text, kept).encode())


SIGNERS = {(name, kind): SignerKey.generate(name, kind) for name in "abc" for kind in (4, 6)} if has_ml_dsa() else {}


@needs_ml_dsa
@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(st.sampled_from([(name, kind) for name in "abc" for kind in (4, 6)]), st.integers(1, 50)),
    st.sampled_from(["any", "all"]),
    st.integers(1, 3),
)
def test_mixed_quorums_and_their_times(times: dict[tuple[str, int], int], rule: str, needed: int) -> None:
    """The policy's answer is that of counting by hand: a vote is any or all of a witness's keys, k votes are needed."""
    lines = [f"log {LOG.verifier}"]
    for name in "abc":
        lines += [f"witness {name}{kind} {SIGNERS[name, kind].verifier}" for kind in (4, 6)]
        lines.append(f"group {name} {rule} {name}4 {name}6")
    policy = Policy.parse("\n".join([*lines, f"group q {needed} a b c", "quorum q", ""]).encode())
    note = POINT.sign(LOG).add(*(cosign(POINT, SIGNERS[key], time) for key, time in times.items())).encode()
    votes: list[int] = []
    for name in "abc":
        given_at = [times[name, kind] for kind in (4, 6) if (name, kind) in times]
        if len(given_at) == 2 or (given_at and rule == "any"):
            votes.append(min(given_at) if rule == "any" else max(given_at))
    if len(votes) < needed:
        with pytest.raises(PolicyError, match="quorum"):
            policy.check(note)
    else:
        assert policy.check(note).existence_time == sorted(votes)[needed - 1]


@needs_ml_dsa
@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2427), st.integers(0, 7))
def test_a_changed_bit_of_a_known_ml_dsa_line_rejects_the_note(byte: int, bit: int) -> None:
    signer = SIGNERS["a", 6]
    policy = Policy.parse(f"log {LOG.verifier}\nwitness a {signer.verifier}\nquorum none\n".encode())
    line = cosign(POINT, signer, 1_780_000_000)
    changed = bytearray(line.signature)
    changed[byte] ^= 1 << bit
    note = POINT.sign(LOG).add(NoteSignature(line.name, line.key_id, bytes(changed)))
    with pytest.raises(EvidenceError):
        policy.check(note.encode())


@needs_ml_dsa
def test_a_machine_without_ml_dsa_says_so_and_counts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = new_ledger(tmp_path / "a.ledger", "both")
    note = (path / "public/checkpoint").read_bytes()
    policy = Policy.parse((path / "policy.txt").read_bytes())
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.asymmetric.mldsa", None)
    assert not has_ml_dsa()
    with pytest.raises(SetupError, match="cryptography 48"):
        policy.check(note)
    with pytest.raises(SetupError, match="cryptography 48"):
        Ledger.open(path)
    with pytest.raises(SetupError, match="cryptography 48"):
        Ledger.init(tmp_path / "b.ledger", author=AUTHOR, witnesses=NAMES, witness_keys="ml-dsa-44")
    assert not (tmp_path / "b.ledger").exists()
    # nothing else needs it
    new_ledger(tmp_path / "c.ledger", "ed25519")


def test_unknown_witness_keys_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="ed25519, ml-dsa-44, both"):
        Ledger.init(tmp_path / "a.ledger", author=AUTHOR, witnesses=NAMES, witness_keys="rsa")
