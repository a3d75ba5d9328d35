"""A log that continues another one: what it carries, what stays closed, and that nobody forgets the predecessor."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plausible.ledger import Ledger
from plausible.ledger.config import LedgerConfig
from plausible.ledger.fsck import check_ledger, check_log
from plausible.ledger.keys.keyfile import read_key
from plausible.ledger.merkle.reader import DirectorySource
from plausible.ledger.merkle.tree import hash_leaf
from plausible.ledger.notes.checkpoint import Checkpoint
from plausible.ledger.notes.cosignature import cosign
from plausible.ledger.notes.note import Note, SignerKey
from plausible.ledger.notes.policy import Policy
from plausible.ledger.writing.continuing import close_log
from plausible.ledger.writing.succession import check_closed, check_predecessor, read_predecessor
from plausible.schemas.errors import EvidenceError, PolicyError, SetupError, UsageError

from tests.ledger.studio import AUTHOR, make, manifest, picture

OLD, NEW = f"{AUTHOR}/log", f"{AUTHOR}/log-2"


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """A closed directory (its log is not): a model and a picture."""
    with make(tmp_path / "old.ledger") as ledger:
        ledger.append(image=picture(1), model="m").wait("witnessed", 30)
    return ledger.path


@pytest.fixture
def new(old: Path, tmp_path: Path) -> Path:
    """Its successor, with a picture of its own."""
    with Ledger.succeed(old, tmp_path / "new.ledger", origin=NEW) as ledger:
        ledger.register_model("m", manifest=manifest())
        ledger.append(image=picture(2), model="m").wait("witnessed", 30)
    return ledger.path


def test_entry_0_is_the_old_log_s_last_checkpoint_byte_for_byte(old: Path, new: Path) -> None:
    with Ledger.open(new) as ledger:
        leaf = ledger.entry(0)
        assert leaf == (old / "public/checkpoint").read_bytes()
        carried = ledger.predecessor()
        assert carried is not None
        assert (carried.origin, carried.size) == (OLD, 2)
        # one policy for both: the old log's entries still count
        accepted = check_predecessor(carried, ledger.policy)
        assert accepted is not None
        assert accepted.existence_time is not None
        assert ledger.policy.check((old / "public/checkpoint").read_bytes()).size == 2
        assert ledger.checkpoint().origin == NEW
        assert [entry.header.author for _, entry, _ in ledger.records()] == [ledger.author_vkey]
    with Ledger.open(old, mode="read") as before:
        assert before.author_vkey == ledger.author_vkey
        assert before.chain != ledger.chain
        assert before.record_of(1).output is not None
    for path in (old, new):
        report = check_ledger(path)
        assert report.findings == ()
    assert any(f"it continues {OLD}" in note for note in report.notes)
    outside = check_log(DirectorySource(new / "public"), policy=Policy.parse((new / "policy.txt").read_bytes()))
    assert outside.findings == ()


def test_a_closed_log_signs_no_more(old: Path, new: Path, tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=f"continues as {NEW}"):
        Ledger.open(old)
    with pytest.raises(UsageError, match="closed already"):
        Ledger.succeed(old, tmp_path / "third.ledger", origin="another.example/log")
    assert not (tmp_path / "third.ledger").exists()
    with pytest.raises(UsageError, match="not empty"):
        Ledger.succeed(old, new, origin=NEW)


def test_a_process_that_had_it_open_does_not_take_over(tmp_path: Path) -> None:
    """The second writer waits while the first closes the log; the lock falls to it, and it refuses."""
    with make(tmp_path / "old.ledger") as ledger:
        ledger.flush()
    holder, other = Ledger.open(ledger.path), Ledger.open(ledger.path)
    text = (ledger.path / "log.toml").read_text()
    (ledger.path / "log.toml").write_text(text.replace("sync = ", f'successor = "{NEW}"\nsync = ', 1))
    holder.close()
    with pytest.raises(SetupError, match="was closed and continues"):
        other.append(image=picture(3), model="m").wait("accepted", 30)
    with pytest.raises(SetupError):
        other.close()
    assert Checkpoint.parse(Note.parse((ledger.path / "public/checkpoint").read_bytes()).text).size == 1


def test_it_goes_on_after_a_kill_between_closing_and_making(old: Path, tmp_path: Path) -> None:
    note = close_log(old, NEW)
    assert LedgerConfig.read(old).successor == NEW
    assert close_log(old, NEW) == note
    with Ledger.succeed(old, tmp_path / "new.ledger", origin=NEW) as ledger:
        assert ledger.entry(0) == note


def test_what_cannot_be_continued(old: Path, tmp_path: Path) -> None:
    for origin in (OLD, "with space", ""):
        with pytest.raises(UsageError):
            Ledger.succeed(old, tmp_path / "new.ledger", origin=origin)
    assert LedgerConfig.read(old).successor == ""
    with make(tmp_path / "empty.ledger", model=False):
        pass
    with pytest.raises(SetupError):
        Ledger.succeed(tmp_path / "empty.ledger", tmp_path / "new.ledger", origin=NEW)
    with Ledger.open(old), pytest.raises(SetupError, match="another process"):
        Ledger.succeed(old, tmp_path / "new.ledger", origin=NEW)


# --- the rules alone ---

LOG, OTHER = SignerKey.generate(OLD), SignerKey.generate("other.example/log")
WITNESS = SignerKey.generate("w.example", 0x04)
POINT = Checkpoint(OLD, 7, hash_leaf(b"x"))
NOTE = POINT.sign(LOG).add(cosign(POINT, WITNESS, 1_780_000_000)).encode()
POLICY = Policy.parse(f"log {LOG.verifier}\nwitness w {WITNESS.verifier}\nquorum w\n".encode())


def test_what_is_no_predecessor() -> None:
    assert read_predecessor(NOTE, NEW) is not None
    empty = Checkpoint(OLD, 0, bytes.fromhex("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"))
    for leaf, origin in (
        (NOTE, OLD), (NOTE + b"x", NEW), (NOTE[:-1], NEW), (b"", NEW), (b"{}", NEW), (POINT.text.encode(), NEW),
        (empty.sign(LOG).encode(), NEW), (Note("no checkpoint\n").sign(LOG).encode(), NEW),
    ):  # fmt: skip
        assert read_predecessor(leaf, origin) is None


def test_the_policy_decides_what_a_carried_note_is_worth() -> None:
    carried = read_predecessor(NOTE, NEW)
    assert carried is not None
    accepted = check_predecessor(carried, POLICY)
    assert accepted is not None
    assert accepted.existence_time == 1_780_000_000
    assert check_predecessor(carried, Policy.parse(f"log {OTHER.verifier}\nquorum none\n".encode())) is None
    alone = read_predecessor(POINT.sign(LOG).encode(), NEW)
    assert alone is not None
    with pytest.raises(PolicyError, match="quorum"):
        check_predecessor(alone, POLICY)
    forged = read_predecessor(POINT.sign(SignerKey.generate(OLD)).encode(), NEW)
    assert forged is not None
    with pytest.raises(PolicyError):
        check_predecessor(forged, POLICY)


@given(st.integers(1, 20), st.booleans(), st.booleans())
def test_a_log_that_went_on_is_found_out(size: int, same_root: bool, same_origin: bool) -> None:
    carried = read_predecessor(NOTE, NEW)
    assert carried is not None
    head = Checkpoint(OLD if same_origin else NEW, size, POINT.root if same_root else hash_leaf(b"y"))
    if same_origin and (size < 7 or (size == 7 and same_root)):
        check_closed(carried, head)
    else:
        with pytest.raises(EvidenceError):
            check_closed(carried, head)


def test_fsck_names_a_carried_note_that_does_not_count(new: Path) -> None:
    """Under a policy whose quorum the old witnesses do not meet for the carried head."""
    text = (new / "policy.txt").read_text()
    stranger = SignerKey.generate(OLD).verifier
    lines = [f"log {stranger}" if line.startswith(f"log {OLD}+") else line for line in text.split("\n")]
    report = check_ledger(new, policy=Policy.parse("\n".join(lines).encode()))
    assert any(f.index == 0 and "no signature" in f.what for f in report.findings)


def test_absence_needs_the_predecessor_too(old: Path, new: Path) -> None:
    """A developer who moves to a new log does not leave what he logged behind."""
    from plausible.attribution.logs.absence import succession_gap
    from plausible.attribution.logs.sources import open_logs
    from plausible.ledger.entries.authors import Authors

    policy = Policy.parse((new / "policy.txt").read_bytes())
    authors = Authors.parse((new / "authors.txt").read_bytes())
    alone, _ = open_logs([new / "public"], policy, authors)
    assert "whose 2 entries were not read" in (succession_gap(alone) or "")
    both, _ = open_logs([new / "public", old / "public"], policy, authors)
    assert succession_gap(both) is None
    assert succession_gap(both[1:]) is None
    # the old log goes on after it was closed, with its key and all of its witnesses' consent
    point = Checkpoint(OLD, 3, hash_leaf(b"later"))
    note = point.sign(read_key(old / "keys/log.key"))
    signers = [read_key(path) for path in sorted((old / "keys").glob("witness-*.key"))]
    note = note.add(*(cosign(point, signer, 1_780_000_000) for signer in signers))
    assert both[1].policy is not None
    both[1].accepted = both[1].policy.check(note.encode())
    assert "went on to size 3" in (succession_gap(both) or "")
