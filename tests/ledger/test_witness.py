"""The witness: the published exchange, the rules one by one, durability, and races between threads and processes."""

from __future__ import annotations

import errno
import json
import os
import sqlite3
import stat
import subprocess
import sys
import threading
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plausible.ledger.merkle.tree import (
    EMPTY_ROOT,
    MemoryTree,
    hash_leaf,
    subtree_consistency_path,
    subtree_root,
    verify_consistency,
)
from plausible.ledger.notes.checkpoint import Checkpoint
from plausible.ledger.notes.cosignature import verify_subtree_cosignature
from plausible.ledger.notes.note import (
    COSIGNATURE_ED25519,
    COSIGNATURE_ML_DSA_44,
    ED25519,
    Note,
    SignerKey,
    VerifierKey,
)
from plausible.ledger.witness import (
    MAX_REQUEST_BYTES,
    AddCheckpointRequest,
    Cosigned,
    Guard,
    OutOfStep,
    Refused,
    SignSubtreeRequest,
    SubtreeSigned,
    Witness,
    parse_add_checkpoint_request,
)
from plausible.schemas.errors import EvidenceError, SetupError, UsageError

from tests.ledger.keys import needs_ml_dsa

NAME = "witness.example/w"
SIGNER = SignerKey(NAME, COSIGNATURE_ED25519, bytes(range(32)))
LOG = SignerKey("log.example/a", ED25519, bytes(range(1, 33)))
TREE = MemoryTree(hash_leaf(b"%d" % i) for i in range(40))
FORK = MemoryTree(hash_leaf(b"fork %d" % i) for i in range(40))


def note(size: int, of: MemoryTree = TREE, signer: SignerKey = LOG) -> bytes:
    return Checkpoint(LOG.name, size, of.root(size)).sign(signer).encode()


@pytest.fixture
def witness(tmp_path: Path) -> Any:
    with Witness.create(NAME, SIGNER, tmp_path / "witness.db", clock=lambda: 1_700_000_000.9) as made:
        made.add_log(LOG.name, [LOG.verifier])
        yield made


def test_published_exchange(vectors: Any, tmp_path: Path) -> None:
    known = vectors("witness_add_checkpoint.json")
    signer = SignerKey.generate(known["witness_name"], COSIGNATURE_ED25519)
    with Witness.create(signer.name, signer, tmp_path / "w.db") as made:
        made.add_log(known["log_origin"], [VerifierKey.parse(known["log_vkey"])])
        assert len(known["exchange"]) == 11
        for step in known["exchange"]:
            outcome = made.handle(step["request_body"].encode())
            assert outcome.status == step["status"], step["name"]
            assert step["body_contains"] in outcome.body.decode(), step["name"]
            if outcome.status == 409:
                assert outcome.body.decode() == step["body_contains"]
                assert outcome.content_type == "text/x.tlog.size"


def test_request_of_the_specification(vectors: Any) -> None:
    body = vectors("witness_add_checkpoint.json")["spec_request_example"].encode()
    request = parse_add_checkpoint_request(body)
    assert (request.old_size, len(request.proof)) == (20852014, 4)
    assert Checkpoint.parse(Note.parse(request.note).text).size == 20852163
    assert request.encode() == body


def test_cosigns_forward_and_again(witness: Witness) -> None:
    assert witness.checkpoint(LOG.name) is None
    size = 0
    for new in (0, 1, 1, 7, 8, 40, 40):
        outcome = witness.add_checkpoint(size, TREE.consistency(size, new), note(new))
        assert isinstance(outcome, Cosigned)
        cosigned = Note.parse(note(new)[:-1] + b"\n" + outcome.body)
        (verified,) = cosigned.verify([SIGNER.verifier])
        assert verified.time == 1_700_000_000
        assert witness.checkpoint(LOG.name) == cosigned.encode()
        size = new
    (watched,) = witness.logs()
    assert (watched.origin, watched.keys, watched.size) == (LOG.name, (LOG.verifier,), 40)
    assert watched.root == TREE.root()


def test_statuses_in_their_order(witness: Witness) -> None:
    assert witness.add_checkpoint(0, [], note(5)).status == 200
    stranger = SignerKey("log.example/b", ED25519, LOG.seed)
    foreign = Checkpoint("log.example/b", 3, TREE.root(3)).sign(stranger).encode()
    unsigned = note(5, signer=SignerKey.generate(LOG.name))
    cases: list[tuple[int, list[bytes], bytes, int]] = [
        (9, [], b"rubbish", 400),
        (9, [], foreign, 404),  # before its old size is looked at
        (9, [], unsigned, 403),
        (6, [], note(5), 400),
        (4, [], note(5), 409),
        (0, [], note(5), 409),
        (5, [bytes(32)], note(5), 422),
        (5, [], note(9), 422),
        (5, TREE.consistency(5, 9)[:-1], note(9), 422),
        (5, [b"short"] * len(TREE.consistency(5, 9)), note(9), 422),
        (5, FORK.consistency(5, 9), note(9, FORK), 422),
        (5, [], note(5, FORK), 422),
        (5, [bytes(32)] * 64, note(9), 400),
    ]
    for old, proof, data, status in cases:
        outcome = witness.add_checkpoint(old, proof, data)
        assert outcome.status == status, outcome
        assert isinstance(outcome, OutOfStep if status == 409 else Refused)
    out_of_step = witness.add_checkpoint(4, [], note(5))
    assert isinstance(out_of_step, OutOfStep)
    assert (out_of_step.size, out_of_step.body) == (5, b"5\n")
    assert witness.logs()[0].size == 5


def test_size_zero(witness: Witness) -> None:
    false_empty = Note(f"{LOG.name}\n0\n{'A' * 43}=\n").sign(LOG).encode()
    assert witness.add_checkpoint(0, [], false_empty).status == 422
    assert witness.add_checkpoint(0, [bytes(32)], note(3)).status == 422
    assert witness.add_checkpoint(0, [], note(0)).status == 200
    assert witness.add_checkpoint(0, [], note(3)).status == 200


def test_two_roots_of_one_size_are_kept_as_proof(witness: Witness) -> None:
    witness.add_checkpoint(0, [], note(5))
    for _ in range(3):
        assert witness.add_checkpoint(5, [], note(5, FORK)).status == 422
    (conflict,) = witness.conflicts()
    heads = [Checkpoint.parse(Note.parse(data).text) for data in (conflict.ours, conflict.theirs)]
    assert (heads[0].size, heads[1].size) == (5, 5)
    assert heads[0].root != heads[1].root
    for data in (conflict.ours, conflict.theirs):
        Note.parse(data).verify([LOG.verifier])


def test_lines_of_strangers_are_not_passed_on(witness: Witness) -> None:
    stranger = SignerKey.generate("stranger.example")
    signed = Note.parse(note(5)).sign(stranger).encode()
    assert witness.add_checkpoint(0, [], signed).status == 200
    kept = Note.parse(witness.checkpoint(LOG.name) or b"")
    assert [s.name for s in kept.signatures] == [LOG.name, NAME]


@needs_ml_dsa
def test_two_keys_sign(tmp_path: Path) -> None:
    post_quantum = SignerKey.generate(NAME, COSIGNATURE_ML_DSA_44)
    with Witness.create(NAME, [SIGNER, post_quantum], tmp_path / "w.db") as made:
        made.add_log(LOG.name, [LOG.verifier])
        outcome = made.add_checkpoint(0, [], note(5))
        cosigned = Note.parse(note(5)[:-1] + b"\n" + outcome.body)
        assert len(cosigned.verify([SIGNER.verifier, post_quantum.verifier])) == 2


def test_logs_are_added_once_and_keys_changed_on_purpose(witness: Witness) -> None:
    other = SignerKey.generate(LOG.name)
    witness.add_checkpoint(0, [], note(5))
    witness.add_log(LOG.name, [LOG.verifier])
    assert witness.logs()[0].size == 5
    with pytest.raises(UsageError, match="other keys"):
        witness.add_log(LOG.name, [other.verifier])
    witness.change_keys(LOG.name, [other.verifier])
    assert witness.add_checkpoint(5, [], note(5)).status == 403
    assert witness.add_checkpoint(5, TREE.consistency(5, 6), note(6, signer=other)).status == 200
    with pytest.raises(UsageError):
        witness.change_keys("unknown.example", [other.verifier])
    with pytest.raises(UsageError):
        witness.add_log("x.example", [])


def test_state_outlives_the_object(tmp_path: Path) -> None:
    path = tmp_path / "w.db"
    with Witness.create(NAME, SIGNER, path) as made:
        made.add_log(LOG.name, [LOG.verifier])
        made.add_checkpoint(0, [], note(5))
    with Witness(NAME, SIGNER, path) as again:
        assert again.add_checkpoint(0, [], note(3)).status == 409
        assert again.logs()[0].size == 5
    with pytest.raises(UsageError, match="exists already"):
        Witness.create(NAME, SIGNER, path)
    with pytest.raises(SetupError, match="is the state of the witness"):
        Witness("other.example", SignerKey.generate("other.example", COSIGNATURE_ED25519), path)


def test_a_lost_state_is_not_started_anew(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="lost its state"):
        Witness(NAME, SIGNER, tmp_path / "w.db")
    assert not (tmp_path / "w.db").exists()


def test_unusable_state_files(tmp_path: Path) -> None:
    (tmp_path / "rubbish").write_bytes(b"not a database" * 100)
    (tmp_path / "empty").touch()
    with Witness.create(NAME, SIGNER, tmp_path / "newer"):
        pass
    db = sqlite3.connect(tmp_path / "newer")
    db.execute("PRAGMA user_version = 4")
    db.close()
    for name in ("rubbish", "empty", "newer"):
        with pytest.raises(SetupError):
            Witness(NAME, SIGNER, tmp_path / name)
    with pytest.raises(SetupError):
        Witness.create(NAME, SIGNER, tmp_path / "absent" / "w.db")


def test_a_witness_needs_cosignature_keys_of_its_name(tmp_path: Path) -> None:
    for signers in ([LOG], [SignerKey.generate("other", COSIGNATURE_ED25519)], [SignerKey.generate(NAME)]):
        with pytest.raises(UsageError):
            Witness(NAME, signers, tmp_path / "w.db")


def test_commits_are_durable(witness: Witness) -> None:
    """The pragmas took effect: write-ahead log, and a flush at every commit."""
    db = witness._state._db
    assert db.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    assert db.execute("PRAGMA synchronous").fetchone()[0] == 2


def test_nothing_is_signed_if_the_state_cannot_be_written(witness: Witness) -> None:
    witness._state._db.execute("PRAGMA query_only = ON")
    with pytest.raises(SetupError, match="witness state"):
        witness.add_checkpoint(0, [], note(5))
    witness._state._db.execute("PRAGMA query_only = OFF")
    assert witness.add_checkpoint(0, [], note(7)).status == 200
    assert witness.logs()[0].size == 7


def test_a_slow_request_does_not_roll_back_a_faster_one(tmp_path: Path) -> None:
    """A is stalled inside its transaction while B arrives: B waits, finds A's size and gets 409."""
    path = tmp_path / "w.db"
    entered, leave = threading.Event(), threading.Event()

    def slow_clock() -> float:
        entered.set()
        assert leave.wait(20)
        return 5.0

    with Witness.create(NAME, SIGNER, path) as fast, Witness(NAME, SIGNER, path, clock=slow_clock) as slow:
        fast.add_log(LOG.name, [LOG.verifier])
        answers: dict[str, int] = {}

        def ask(name: str, which: Witness, size: int) -> None:
            answers[name] = which.add_checkpoint(0, [], note(size)).status

        a = threading.Thread(target=ask, args=("a", slow, 7))
        a.start()
        assert entered.wait(20)
        b = threading.Thread(target=ask, args=("b", fast, 3))
        b.start()
        leave.set()
        a.join()
        b.join()
        assert answers == {"a": 200, "b": 409}
        assert fast.logs()[0].size == 7


def climb(witness: Witness, offset: int, out: Any) -> None:
    """Push checkpoints of varying sizes as a client would; report each (size, root) that was cosigned."""
    size = 0
    for step in range(25):
        new = min(40, max(size, (step * 7 + offset * 3) % 41))
        of = TREE if size or new or offset % 2 == 0 else FORK
        outcome = witness.add_checkpoint(size, of.consistency(size, new), note(new, of))
        if isinstance(outcome, OutOfStep):
            size = outcome.size
        elif isinstance(outcome, Cosigned):
            out.append((outcome.checkpoint.size, outcome.checkpoint.root))
            size = new
        if step % 5 == 4:
            witness.add_checkpoint(size, FORK.consistency(size, 40), note(40, FORK))


def all_consistent(cosigned: list[tuple[int, bytes]]) -> None:
    for old, old_root in cosigned:
        for new, new_root in cosigned:
            if 0 < old <= new:
                verify_consistency(old, old_root, new, new_root, TREE.consistency(old, new))
    assert all(root == EMPTY_ROOT for size, root in cosigned if size == 0)


def test_racing_threads_never_get_inconsistent_cosignatures(tmp_path: Path) -> None:
    path = tmp_path / "w.db"
    with Witness.create(NAME, SIGNER, path) as one, Witness(NAME, SIGNER, path) as two:
        one.add_log(LOG.name, [LOG.verifier])
        one.add_checkpoint(0, [], note(1))
        cosigned: list[tuple[int, bytes]] = []
        threads = [threading.Thread(target=climb, args=((one, two)[i % 2], i, cosigned)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert cosigned
        all_consistent(cosigned)
        assert one.logs()[0].size == max(size for size, _ in cosigned)


CHILD = """
import json, runpy, sys
names = runpy.run_path(sys.argv[1])
found = []
with names["Witness"](names["NAME"], names["SIGNER"], sys.argv[2]) as witness:
    names["climb"](witness, int(sys.argv[3]), found)
print(json.dumps([[size, root.hex()] for size, root in found]))
"""


def test_racing_processes_never_get_inconsistent_cosignatures(tmp_path: Path) -> None:
    path = tmp_path / "w.db"
    with Witness.create(NAME, SIGNER, path) as made:
        made.add_log(LOG.name, [LOG.verifier])
        made.add_checkpoint(0, [], note(1))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    commands = [[sys.executable, "-c", CHILD, __file__, str(path), str(offset)] for offset in (0, 1)]
    children = [subprocess.Popen(c, env=environment, stdout=subprocess.PIPE, text=True) for c in commands]
    answers = [child.communicate(timeout=120)[0] for child in children]
    assert [child.returncode for child in children] == [0, 0]
    cosigned = [(size, bytes.fromhex(root)) for answer in answers for size, root in json.loads(answer)]
    assert len(cosigned) > 10
    all_consistent(cosigned)
    with Witness(NAME, SIGNER, path) as made:
        assert made.logs()[0].size == max(size for size, _ in cosigned)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"old 5",
        b"old 5\n",
        b"old 05\n\n" + note(5),
        b"old -1\n\n" + note(5),
        b"old\n\n" + note(5),
        b"new 5\n\n" + note(5),
        b"old 5 \n\n" + note(5),
        b"old 5\r\n\r\n" + note(5),
        b"old 5\nAAAA\n\n" + note(5),
        b"old 5\n\xff\n\n" + note(5),
        b"old 0\n" + (b"A" * 43 + b"=\n") * 64 + b"\n" + note(5),
        b"old 0\n\n" + b"x" * MAX_REQUEST_BYTES,
    ],
)
def test_malformed_requests(witness: Witness, body: bytes) -> None:
    with pytest.raises(EvidenceError):
        parse_add_checkpoint_request(body)
    assert witness.handle(body).status == 400


GOOD = AddCheckpointRequest(0, (), note(5)).encode()


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_bent_requests_are_answered_never_raised(tmp_path_factory: Any, data: st.DataObject) -> None:
    bent = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(bent) - 1))
        bent[place : place + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
    with suppress(EvidenceError):
        assert parse_add_checkpoint_request(bytes(bent)).encode() == bytes(bent)
    outcome = SHARED.get(tmp_path_factory).handle(bytes(bent))
    assert outcome.status in (200, 400, 403, 404, 409, 422)
    if isinstance(outcome, Cosigned):
        assert (outcome.checkpoint.size, outcome.checkpoint.root) == (5, TREE.root(5))


class _Shared:
    """One witness for all examples of the fuzz test: opening one for each would measure the disk."""

    def __init__(self) -> None:
        self.witness: Witness | None = None

    def get(self, factory: Any) -> Witness:
        if self.witness is None:
            self.witness = Witness.create(NAME, SIGNER, factory.mktemp("w") / "w.db")
            self.witness.add_log(LOG.name, [LOG.verifier])
        return self.witness


SHARED = _Shared()


@pytest.fixture(scope="module", autouse=True)
def close_shared() -> Any:
    yield
    if SHARED.witness is not None:
        SHARED.witness.close()
        SHARED.witness = None


def test_a_request_that_was_cosigned_twice_is_dated_anew(tmp_path: Path) -> None:
    """Asking again with the same size refreshes the time: the witness signs again."""
    times = iter([100.0, 200.0])
    with Witness.create(NAME, SIGNER, tmp_path / "w.db", clock=lambda: next(times)) as made:
        made.add_log(LOG.name, [LOG.verifier])
        for expected in (100, 200):
            outcome = made.add_checkpoint(0 if expected == 100 else 5, [], note(5))
            (verified,) = Note.parse(note(5)[:-1] + b"\n" + outcome.body).verify([SIGNER.verifier])
            assert verified.time == expected


# --- batches ---


def test_a_batch_is_answered_in_its_order_and_in_one_commit(tmp_path: Path) -> None:
    other = SignerKey("log.example/b", ED25519, bytes(range(2, 34)))
    with Witness.create(NAME, SIGNER, tmp_path / "w.db") as made:
        made.add_logs([(LOG.name, [LOG.verifier]), (other.name, [other.verifier])])
        before = made._state.read("SELECT commits FROM witness")[0][0]
        foreign = Checkpoint(other.name, 4, TREE.root(4)).sign(other).encode()
        answers = made.handle_all([
            AddCheckpointRequest(0, (), note(3)).encode(),
            b"rubbish",
            AddCheckpointRequest(0, (), foreign).encode(),
            AddCheckpointRequest(3, tuple(TREE.consistency(3, 9)), note(9)).encode(),
            AddCheckpointRequest(3, tuple(TREE.consistency(3, 7)), note(7)).encode(),
        ])  # fmt: skip
        assert [answer.status for answer in answers] == [200, 400, 200, 200, 409]
        assert [log.size for log in made.logs()] == [9, 4]
        assert made._state.read("SELECT commits FROM witness")[0][0] == before + 1


def test_a_batch_whose_commit_fails_signs_nothing(witness: Witness) -> None:
    witness._state._db.execute("PRAGMA query_only = ON")
    with pytest.raises(SetupError, match="witness state"):
        witness.handle_all([AddCheckpointRequest(0, (), note(5)).encode(), b"rubbish"])
    witness._state._db.execute("PRAGMA query_only = OFF")
    assert witness.logs()[0].size == 0


# --- logs that are watched no more ---


def test_a_removed_log_is_unknown_and_goes_on_where_it_was(witness: Witness) -> None:
    witness.add_checkpoint(0, [], note(5))
    witness.remove_log(LOG.name)
    assert witness.add_checkpoint(5, TREE.consistency(5, 9), note(9)).status == 404
    assert witness.logs()[0].keys == ()
    assert witness.checkpoint(LOG.name) is not None
    with pytest.raises(UsageError, match="not watched"):
        witness.remove_log(LOG.name)
    witness.add_log(LOG.name, [LOG.verifier])
    assert witness.add_checkpoint(0, [], note(3)).status == 409
    assert witness.add_checkpoint(5, TREE.consistency(5, 9), note(9)).status == 200


# --- restored backups ---


def backup(source: Path, target: Path) -> None:
    """A whole copy of a state file, write-ahead log included."""
    with closing(sqlite3.connect(source)) as db, closing(sqlite3.connect(target)) as copy:
        db.backup(copy)


def test_a_restored_state_is_noticed_by_the_guard(tmp_path: Path) -> None:
    state, guard, kept = tmp_path / "w.db", tmp_path / "elsewhere" / "w.count", tmp_path / "backup.db"
    with Witness.create(NAME, SIGNER, state, guard=guard) as made:
        made.add_log(LOG.name, [LOG.verifier])
        made.add_checkpoint(0, [], note(5))
        backup(state, kept)
        assert made.add_checkpoint(5, TREE.consistency(5, 9), note(9)).status == 200
    with Witness(NAME, SIGNER, state, guard=guard) as again:  # nothing was restored: it opens
        assert again.logs()[0].size == 9
    for suffix in ("", "-wal", "-shm"):
        state.with_name(state.name + suffix).unlink(missing_ok=True)
    kept.rename(state)
    with pytest.raises(SetupError, match="restored from a backup"):
        Witness(NAME, SIGNER, state, guard=guard)


def test_a_state_ahead_of_its_guard_opens(tmp_path: Path) -> None:
    """A kill between the commit and the guard's write leaves the state ahead, never behind."""
    state, guard = tmp_path / "w.db", tmp_path / "w.count"
    with Witness.create(NAME, SIGNER, state, guard=guard) as made:
        made.add_log(LOG.name, [LOG.verifier])
        old = guard.read_bytes()
        made.add_checkpoint(0, [], note(5))
    guard.write_bytes(old)
    with Witness(NAME, SIGNER, state, guard=guard) as again:
        assert again.add_checkpoint(5, TREE.consistency(5, 9), note(9)).status == 200
        assert Guard(guard, NAME).count == again._state.read("SELECT commits FROM witness")[0][0]


@given(counts=st.lists(st.integers(0, 40), max_size=12), torn=st.integers(0, 8191))
def test_a_guard_outlives_a_torn_write(counts: list[int], torn: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whatever the slot written last holds after a power cut, the count before that write is still read."""
    path = tmp_path_factory.mktemp("guard") / "w.count"
    with closing(Guard.create(path, NAME)) as guard:
        least, before, after = 0, b"", b""
        for count in counts:
            least, before = guard.count, path.read_bytes().ljust(8192, b"\0")
            guard.advance(count)
            assert guard.count == max(count, least)
            after = path.read_bytes().ljust(8192, b"\0")
        if counts:
            path.write_bytes(after[:torn] + before[torn:])
    with closing(Guard(path, NAME)) as guard:
        assert guard.count >= least


def test_a_guard_of_another_witness_or_none_is_refused(tmp_path: Path) -> None:
    Guard.create(tmp_path / "a.count", "witness.example/other").close()
    (tmp_path / "empty.count").touch()
    for name in ("a.count", "empty.count", "missing.count"):
        with pytest.raises(SetupError):
            Guard(tmp_path / name, NAME)
    with pytest.raises(UsageError, match="never made anew"):
        Guard.create(tmp_path / "a.count", NAME)


def test_a_cosignature_of_its_own_that_it_does_not_know_freezes_it(tmp_path: Path) -> None:
    """Without a guard: the restored witness sees its own later cosignature and signs nothing any more, for any log."""
    state, kept = tmp_path / "w.db", tmp_path / "old.db"
    other = SignerKey("log.example/b", ED25519, bytes(range(2, 34)))
    with Witness.create(NAME, SIGNER, state) as made:
        made.add_logs([(LOG.name, [LOG.verifier]), (other.name, [other.verifier])])
        made.add_checkpoint(0, [], note(5))
        backup(state, kept)
        made.add_checkpoint(5, TREE.consistency(5, 9), note(9))
        later = made.checkpoint(LOG.name)
    assert later is not None
    with Witness(NAME, SIGNER, kept) as restored:
        answer = restored.add_checkpoint(5, TREE.consistency(5, 9), later)
        assert isinstance(answer, Refused) and answer.status == 503 and "restored from a backup" in answer.reason
        assert restored.add_checkpoint(5, FORK.consistency(5, 9), note(9, FORK)).status == 503
        foreign = Checkpoint(other.name, 4, TREE.root(4)).sign(other).encode()
        assert restored.add_checkpoint(0, [], foreign).status == 503
    with Witness(NAME, SIGNER, kept) as again:
        assert again.frozen is not None


def test_its_own_known_cosignature_freezes_nothing(witness: Witness) -> None:
    witness.add_checkpoint(0, [], note(5))
    mine = witness.checkpoint(LOG.name)
    assert mine is not None
    assert witness.add_checkpoint(5, [], mine).status == 200
    witness.add_checkpoint(5, TREE.consistency(5, 9), note(9))
    assert witness.add_checkpoint(9, [], note(9)).status == 200
    assert witness.add_checkpoint(5, [], mine).status == 409
    assert witness.frozen is None


@pytest.mark.parametrize(
    "back",
    [
        "ALTER TABLE witness DROP COLUMN commits; ALTER TABLE witness DROP COLUMN frozen;"
        "ALTER TABLE witness DROP COLUMN commits_again; PRAGMA user_version = 1",
        "ALTER TABLE witness DROP COLUMN commits_again; PRAGMA user_version = 2",
    ],
)
def test_a_state_of_an_earlier_version_is_brought_up_to_date(tmp_path: Path, back: str) -> None:
    path = tmp_path / "w.db"
    with Witness.create(NAME, SIGNER, path) as made:
        made.add_log(LOG.name, [LOG.verifier])
        made.add_checkpoint(0, [], note(5))
    with closing(sqlite3.connect(path)) as db:
        db.executescript(back)
    with Witness(NAME, SIGNER, path) as again:
        assert again.logs()[0].size == 5
        assert again.add_checkpoint(5, TREE.consistency(5, 9), note(9)).status == 200


def test_a_folder_that_was_not_flushed_once_is_not_believed_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Witness.create(NAME, SIGNER, tmp_path / "w.db") as made:
        made.add_log(LOG.name, [LOG.verifier])
    flush, failing = os.fsync, [True]

    def fail_once(descriptor: int) -> None:
        if failing and stat.S_ISDIR(os.fstat(descriptor).st_mode):
            failing.clear()
            raise OSError(errno.EIO, "Input/output error")
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", fail_once)
    with Witness(NAME, SIGNER, tmp_path / "w.db") as witness:
        for _ in range(2):
            with pytest.raises(SetupError):
                witness.add_checkpoint(0, [], note(5))
        assert not failing
    with Witness(NAME, SIGNER, tmp_path / "w.db") as witness:
        assert witness.add_checkpoint(0, [], note(5)).status == 200


def test_a_counter_that_was_changed_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "w.db"
    with Witness.create(NAME, SIGNER, path) as made:
        made.add_log(LOG.name, [LOG.verifier])
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("UPDATE witness SET commits = commits + 1")
    with pytest.raises(SetupError, match="damaged"):
        Witness(NAME, SIGNER, path)


# --- sign-subtree ---


@needs_ml_dsa
def test_subtrees_of_what_was_cosigned_are_signed(tmp_path: Path) -> None:
    quantum = SignerKey(NAME, COSIGNATURE_ML_DSA_44, bytes(range(3, 35)))
    with Witness.create(NAME, [SIGNER, quantum], tmp_path / "w.db") as made:
        made.add_log(LOG.name, [LOG.verifier])
        assert made.signs_subtrees
        made.add_checkpoint(0, [], note(13))
        cosigned = made.checkpoint(LOG.name) or b""
        part = subtree_root(TREE.get, 4, 8)
        proof = tuple(subtree_consistency_path(TREE.get, 4, 8, 13))
        good = SignSubtreeRequest(4, 8, part, proof, cosigned)
        answer = made.handle_subtree(good.encode())
        assert isinstance(answer, SubtreeSigned) and len(answer.signatures) == 1
        verify_subtree_cosignature(quantum.verifier, LOG.name, 4, 8, part, answer.signatures[0])
        for status, request in (
            (403, replace(good, note=note(13))),
            (403, replace(good, note=note(13, FORK))),
            (404, replace(good, note=Checkpoint("log.example/x", 1, bytes(32)).sign(LOG).encode())),
            (400, replace(good, start=5)),
            (400, replace(good, end=14)),
            (422, replace(good, root=bytes(32))),
            (422, replace(good, proof=())),
        ):
            assert made.handle_subtree(request.encode()).status == status
        for body in (
            b"subtree 4\n\n",
            b"subtree 4 8\n\n",
            b"old 4\n\n",
            good.encode().replace(b"subtree 4", b"subtree 04"),
        ):
            assert made.handle_subtree(body).status == 400


def test_without_a_key_for_it_no_subtree_is_signed(witness: Witness) -> None:
    assert not witness.signs_subtrees
