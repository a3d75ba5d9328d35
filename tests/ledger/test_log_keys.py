"""A log's key changed by overlapping signatures: who has moved and who has not, both accept the heads between."""

from __future__ import annotations

from pathlib import Path

import pytest
from plausible.ledger import Ledger
from plausible.ledger.config import LedgerConfig
from plausible.ledger.fsck import Kind, check_ledger
from plausible.ledger.keys import logkeys
from plausible.ledger.keys.keyfile import read_key
from plausible.ledger.merkle.tree import hash_leaf
from plausible.ledger.notes.checkpoint import Checkpoint
from plausible.ledger.notes.cosignature import cosign
from plausible.ledger.notes.note import Note
from plausible.ledger.notes.policy import Policy
from plausible.ledger.notes.proof import TlogProof, verify_proof
from plausible.schemas.errors import PolicyError, SetupError, UsageError

from tests.ledger.studio import AUTHOR, make, picture

ORIGIN = f"{AUTHOR}/log"


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """A closed ledger of a model and two pictures, each under a head of its own."""
    with make(tmp_path / "a.ledger") as made:
        for number in (1, 2):
            made.append(image=picture(number), model="m").wait("witnessed", 30)
    return made.path


def policy(ledger: Path) -> Policy:
    return Policy.parse((ledger / "policy.txt").read_bytes())


def grow(ledger: Path, number: int) -> bytes:
    """One more picture; the checkpoint that covers it."""
    with Ledger.open(ledger) as opened:
        opened.append(image=picture(number), model="m").wait("witnessed", 30)
        return opened.checkpoint().note


def test_heads_carry_both_signatures_until_the_old_key_falls_silent(ledger: Path) -> None:
    old = policy(ledger)
    before = (ledger / "public/checkpoint").read_bytes()
    with Ledger.open(ledger, mode="read") as opened:
        proof = opened.proof(1)
    both = logkeys.begin(ledger)
    assert len(both.keys) == 2
    assert check_ledger(ledger).findings == ()
    meanwhile = grow(ledger, 3)
    assert check_ledger(ledger).findings == ()
    middle = policy(ledger)
    [new] = logkeys.finish(ledger).keys
    after = grow(ledger, 4)
    assert check_ledger(ledger).findings == ()
    late = policy(ledger)
    assert [log.key for log in late.logs] == [new] == [both.keys[1]]
    # (policy, checkpoint) -> accepted
    assert old.check(before)
    assert old.check(meanwhile)
    assert middle.check(before)
    assert middle.check(meanwhile)
    assert middle.check(after)
    assert late.check(meanwhile)
    assert late.check(after)
    with pytest.raises(PolicyError, match="no signature by the policy's key"):
        old.check(after)
    with pytest.raises(PolicyError, match="no signature by the policy's key"):
        late.check(before)
    # evidence made before stays good under the policies of before
    leaf = TlogProof.parse(proof).extra or b""
    assert verify_proof(TlogProof.parse(proof), hash_leaf(leaf), old)
    # and the log dates what it logged then under the new key too, by the same cosignatures
    with Ledger.open(ledger, mode="read") as opened:
        dated = opened.dated_by(1)
        assert (dated.size, dated.log) == (2, new)
        assert dated.existence_time == old.check((ledger / "public/checkpoints/2").read_bytes()).existence_time
        assert verify_proof(TlogProof.parse(opened.proof(1)), hash_leaf(leaf), late)
    assert not (ledger / "keys/log.key").exists()
    assert (ledger / "keys/retired/log.key").exists()


def test_each_step_may_be_made_again(ledger: Path) -> None:
    """As after a kill: with a key file and no more, with everything but the line in log.toml, and finished twice."""
    config, text = (ledger / "log.toml").read_text(), (ledger / "policy.txt").read_bytes()
    first = logkeys.begin(ledger)
    assert logkeys.begin(ledger) == first
    (ledger / "log.toml").write_text(config)
    assert logkeys.begin(ledger) == first
    (ledger / "log.toml").write_text(config)
    (ledger / "policy.txt").write_bytes(text)
    assert logkeys.begin(ledger) == first
    assert check_ledger(ledger).findings == ()
    assert len(list((ledger / "keys").glob("log*.key"))) == 2
    logkeys.finish(ledger)
    with pytest.raises(UsageError, match="begin"):
        logkeys.finish(ledger)
    # a second rotation follows the first
    assert logkeys.begin(ledger).keys[0] == first.keys[1]
    grow(ledger, 5)
    logkeys.finish(ledger)
    grow(ledger, 6)
    assert check_ledger(ledger).findings == ()


def test_people_s_own_lines_stay(ledger: Path) -> None:
    path = ledger / "log.toml"
    path.write_text("# mine\n" + path.read_text())
    rules = ledger / "policy.txt"
    rules.write_bytes(b"# also mine\n" + rules.read_bytes().replace(b"\nwitness", b" https://log.example/\nwitness", 1))
    logkeys.begin(ledger)
    assert path.read_text().startswith("# mine\n")
    assert [log.url for log in policy(ledger).logs] == ["https://log.example/"] * 2
    logkeys.finish(ledger)
    assert rules.read_bytes().startswith(b"# also mine\n")
    assert LedgerConfig.read(ledger).log_keys[0].startswith("keys/log-")


def test_not_while_it_is_in_use_nor_before_every_head_is_signed(ledger: Path) -> None:
    with Ledger.open(ledger), pytest.raises(SetupError, match="another process"):
        logkeys.begin(ledger)
    logkeys.begin(ledger)
    new = read_key(next((ledger / "keys").glob("log-*.key"))).verifier
    path = ledger / "public/checkpoints/2"
    note = Note.parse(path.read_bytes())
    path.write_bytes(Note(note.text, tuple(s for s in note.signatures if s.key_id != new.key_id)).encode())
    with pytest.raises(SetupError, match="begin the rotation again"):
        logkeys.finish(ledger)
    [finding] = check_ledger(ledger).findings
    assert (finding.kind, finding.file) == (Kind.UNTRUSTED, "checkpoints/2")
    logkeys.begin(ledger)
    assert check_ledger(ledger).findings == ()
    logkeys.finish(ledger)


def test_a_key_that_the_policy_does_not_name_is_found(ledger: Path) -> None:
    before = (ledger / "policy.txt").read_bytes()
    logkeys.begin(ledger)
    (ledger / "policy.txt").write_bytes(before)
    assert any(f.file.startswith("keys/log-") and "does not name" in f.what for f in check_ledger(ledger).findings)


def test_the_old_key_s_thief_needs_the_quorum_as_before(ledger: Path) -> None:
    logkeys.begin(ledger)
    thief = read_key(ledger / "keys/log.key")
    logkeys.finish(ledger)
    split = Checkpoint(ORIGIN, 3, hash_leaf(b"another"))
    witness = read_key(next((ledger / "keys").glob("witness-*.key")))
    note = split.sign(thief).add(cosign(split, witness, 1_780_000_000))
    with pytest.raises(PolicyError, match="no signature by the policy's key"):
        policy(ledger).check(note.encode())
