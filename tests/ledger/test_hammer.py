"""The hammer passes over an honest log and stops at each way of being dishonest, with evidence others can check."""

from __future__ import annotations

import base64
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from plausible.ledger.fsck import check_ledger
from plausible.ledger.hammer import Broken, Goal, Hammered, hammer
from plausible.ledger.hammer.readers import Counts, Promises, Throttled
from plausible.ledger.hammer.view import View
from plausible.ledger.merkle.reader import DirectorySource, TiledLog
from plausible.ledger.notes.checkpoint import Checkpoint
from plausible.ledger.notes.policy import Policy
from plausible.schemas.errors import PeerError, UsageError

from tests.ledger.studio import make
from tests.ledger.test_transfer import LOG, POLICY, lay

READS = Goal(entries=40, seconds=60)


class Changing:
    """A log's files, where `change(path, data, asked)` may say something else; `asked` counts what was asked before."""

    def __init__(self, folder: Path, change: Callable[[str, bytes | None, int], bytes | None]) -> None:
        self._source = DirectorySource(folder)
        self._change = change
        self._asked: dict[str, int] = {}
        self._lock = threading.Lock()

    def fetch(self, path: str, limit: int) -> bytes | None:
        with self._lock:
            asked = self._asked[path] = self._asked.get(path, -1) + 1
        return self._change(path, self._source.fetch(path, limit), asked)


def run(folder: Path, change: Callable[[str, bytes | None, int], bytes | None], **options: int) -> Hammered:
    readers = {"full_readers": 1, "random_readers": 1} | options
    return hammer(Changing(folder, change), policy=POLICY, goal=READS, **readers)  # type: ignore[arg-type]


@pytest.fixture
def public(tmp_path: Path) -> Path:
    lay(tmp_path / "public", 300, (5, 256))
    return tmp_path / "public"


def test_an_honest_log_passes(public: Path) -> None:
    found = run(public, lambda _path, data, _asked: data)
    assert (found.exit_code, found.failures, found.broken, found.size) == (0, [], None, 300)
    assert found.counts.random_entries >= 40
    assert found.to_json()["goal_reached"] is True


def test_writers_and_readers_on_one_ledger(tmp_path: Path) -> None:
    make(tmp_path / "a.ledger").close()
    policy = Policy.parse((tmp_path / "a.ledger/policy.txt").read_bytes())
    told: list[int] = []
    found = hammer(
        tmp_path / "a.ledger", policy=policy, goal=Goal(entries=60, seconds=120), writers=2,
        progress=lambda state: told.append(state.size),
    )  # fmt: skip
    assert (found.exit_code, found.failures) == (0, [])
    assert found.written == found.counts.promised == 60
    assert found.size >= found.first_size + 60
    assert found.proofs >= 1
    assert told == sorted(told)
    assert check_ledger(tmp_path / "a.ledger").findings == ()


def served_then(first: Path, second: Path) -> Callable[[str, bytes | None, int], bytes | None]:
    """The first log's checkpoint once, then the second's."""
    return lambda path, data, asked: (
        (second if asked else first) / "checkpoint"
    ).read_bytes() if path == "checkpoint" else data  # fmt: skip


def test_a_split_view_is_found_and_the_evidence_holds(public: Path, tmp_path: Path) -> None:
    lay(tmp_path / "other", 300, salt="other")
    found = run(public, served_then(public, tmp_path / "other"))
    assert found.exit_code == 1
    assert found.broken is not None
    shown = found.broken.evidence
    notes = [base64.b64decode(shown[name]) for name in ("smaller", "larger")]
    heads = [POLICY.check(note).checkpoint for note in notes]
    assert heads[0].size == heads[1].size
    assert heads[0].root != heads[1].root, "anybody can see from the two notes alone that both cannot be true"


def test_a_log_that_grew_out_of_another_one_is_found(public: Path, tmp_path: Path) -> None:
    log = lay(tmp_path / "other", 200, salt="other")
    assert log.root(200)
    found = run(public, served_then(tmp_path / "other", public), full_readers=0)
    assert found.exit_code == 1
    assert found.broken is not None
    assert "one history" in str(found.broken)


def test_a_checkpoint_that_nobody_vouches_for_any_more(public: Path) -> None:
    stranger = Checkpoint("log.example/a", 301, bytes(32))
    from plausible.ledger.notes.note import ED25519, SignerKey

    forged = stranger.sign(SignerKey("log.example/a", ED25519, bytes(32))).encode()
    found = run(public, lambda path, data, asked: forged if path == "checkpoint" and asked > 2 else data)
    assert found.exit_code == 1
    assert found.broken is not None
    assert base64.b64decode(found.broken.evidence["checkpoint"]) == forged


@pytest.mark.parametrize("readers", [{"full_readers": 0}, {"random_readers": 0}])
@pytest.mark.parametrize("kind", ["tile/0/000", "tile/entries/000"])
def test_a_changed_or_missing_file_is_found_by_either_kind_of_reader(
    public: Path, kind: str, readers: dict[str, int]
) -> None:
    goal = Goal(entries=5000, seconds=60) if "full_readers" in readers else Goal(seconds=60)

    def changed(path: str, data: bytes | None, _asked: int) -> bytes | None:
        return bytes([data[0] ^ (path != "tile/entries/000"), data[1]]) + bytes([data[2] ^ 1]) + data[3:] if (
            path == kind and data
        ) else data  # fmt: skip

    def missing(path: str, data: bytes | None, _asked: int) -> bytes | None:
        return None if path == kind else data

    for change in (changed, missing):
        found = hammer(
            Changing(public, change), policy=POLICY, goal=goal,
            full_readers=readers.get("full_readers", 1), random_readers=readers.get("random_readers", 1),
        )  # fmt: skip
        assert found.exit_code == 1
        assert found.broken is not None
        assert found.broken.evidence["checkpoint"]


def test_a_peer_that_fails_has_broken_nothing(public: Path) -> None:
    def down(path: str, data: bytes | None, asked: int) -> bytes | None:
        if path != "checkpoint" and asked > 3:
            raise PeerError("connection refused")
        return data

    found = run(public, down)
    assert (found.exit_code, found.broken) == (4, None)
    assert "connection refused" in found.failures


def test_a_goal_that_is_missed_is_no_success(public: Path) -> None:
    found = hammer(DirectorySource(public), policy=POLICY, goal=Goal(10**9, 0.3), full_readers=0)
    assert (found.exit_code, found.reached, found.failures) == (4, False, [])
    assert hammer(DirectorySource(public), policy=POLICY, goal=Goal(seconds=0.2), rate=20).exit_code == 0


def test_promises_are_kept_at_their_index_and_once(public: Path) -> None:
    from plausible.ledger.merkle.tree import hash_leaf

    source = Throttled(DirectorySource(public), None)
    counts = Counts()
    promises = Promises(source, View(TiledLog(source), POLICY), counts)
    promises.take(7, hash_leaf(b"entry 7 "))
    promises.take(300, hash_leaf(b"not there yet"))
    promises.check()
    assert (counts.promised, promises.waiting) == (1, 1)
    with pytest.raises(Broken, match="twice"):
        promises.take(7, hash_leaf(b"another"))
    promises.take(8, hash_leaf(b"entry 9 "))
    with pytest.raises(Broken, match="acknowledged") as caught:
        promises.check()
    assert caught.value.evidence["index"] == 8


def test_wrong_usage(public: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="own folder"):
        hammer(DirectorySource(public), goal=Goal(1), writers=1)
    with pytest.raises(UsageError, match="nobody"):
        hammer(DirectorySource(public), goal=Goal(1), full_readers=0, random_readers=0)
    with pytest.raises(UsageError, match="goal"):
        hammer(DirectorySource(public), goal=Goal(1), random_readers=0)
    shutil.rmtree(public)
    with pytest.raises(PeerError):
        hammer(DirectorySource(tmp_path / "public"), goal=Goal(1))
    assert LOG.name == "log.example/a"
