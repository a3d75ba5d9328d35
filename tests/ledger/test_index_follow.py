"""A ledger that keeps its absence index up: the note follows the log, through failures, forks and kills."""

from __future__ import annotations

import os
import signal
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from plausible.ledger import Ledger
from plausible.ledger.absence import follow
from plausible.ledger.absence.note import INDEX_NOTE, IndexHead
from plausible.ledger.absence.pages import ABSENCE_FILE
from plausible.ledger.absence.prove import publish, recompute
from plausible.ledger.config import INDEX_KEY, LedgerConfig
from plausible.ledger.fsck import check_ledger
from plausible.ledger.keys.keyfile import read_key, write_key
from plausible.ledger.merkle.reader import DirectorySource, TiledLog
from plausible.ledger.notes.checkpoint import Checkpoint
from plausible.ledger.notes.note import ED25519, Note, SignerKey
from plausible.schemas.errors import SetupError

from tests.ledger.processes import finish, first_line, start
from tests.ledger.studio import AUTHOR, WITNESSES, manifest, picture


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(follow, "NOTE_SECONDS", 0.02)
    monkeypatch.setattr(follow, "REST_SECONDS", 0.05)
    monkeypatch.setattr(follow, "RETRY_SECONDS", 0.05)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "studio.ledger"
    with Ledger.init(path, author=AUTHOR, witnesses=WITNESSES, index=True) as ledger:
        ledger.register_model("m", manifest=manifest())
    return path


def log_pictures(ledger: Ledger, *numbers: int) -> None:
    for number in numbers:
        ledger.append(image=picture(number), model="m")
    ledger.flush()


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def served(path: Path) -> IndexHead:
    """What the note says, which must bear the ledger's own signature and be what the entries give."""
    note = Note.parse((path / "public" / INDEX_NOTE).read_bytes())
    note.verify([read_key(path / INDEX_KEY).verifier])
    head = IndexHead.parse(note.text)
    log = TiledLog(DirectorySource(path / "public"))
    kept = Checkpoint.parse(Note.parse(log.checkpoint_bytes(f"checkpoints/{head.size}")).text)
    assert recompute(log, kept) == head
    return head


def written(path: Path) -> int:
    with sqlite3.connect(path / ABSENCE_FILE) as database:
        (size,) = database.execute("select max(size) from progress").fetchone()
    database.close()
    return size


def test_the_note_follows_the_log(path: Path) -> None:
    with Ledger.open(path) as ledger:
        for number in range(3):
            log_pictures(ledger, number, 0)
            size = ledger.checkpoint().size
            until(lambda size=size: ledger.index_status is not None and ledger.index_status.size == size)
            assert served(path).size == size
        until(lambda: written(path) == ledger.checkpoint().size)
        log_pictures(ledger, 7)
    assert served(path).size == written(path) == 8, "closing catches up"
    report = check_ledger(path)
    assert report.exit_code == 0, report.findings
    with Ledger.open(path, mode="read") as ledger:
        assert ledger.index_status is None


def test_a_failure_is_shown_and_stops_neither_the_log_nor_the_index(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with Ledger.open(path) as ledger:
        until(lambda: ledger.index_status is not None and ledger.index_status.size == 1)
        false = IndexHead(ledger.origin, 2, bytes(32), bytes(32)).sign(read_key(path / INDEX_KEY))
        publish(ledger.public, false)
        log_pictures(ledger, 0)  # the second entry: somebody signed another root for the two
        until(lambda: ledger.index_status is not None and ledger.index_status.trouble is not None)
        assert "names a root that its entries do not give" in caplog.text
        until(lambda: "names a root" in str(ledger.index_status))
        log_pictures(ledger, 1)
        until(lambda: ledger.index_status is not None and ledger.index_status.size == 3)
        assert ledger.index_status is not None
        assert ledger.index_status.trouble is None
        note = path / "public" / INDEX_NOTE
        note.unlink()
        note.mkdir()
        log_pictures(ledger, 2)
        until(lambda: ledger.index_status is not None and ledger.index_status.trouble is not None)
        note.rmdir()
        until(lambda: ledger.index_status is not None and ledger.index_status.size == 4)
    assert served(path).size == 4


def test_a_damaged_file_is_made_again(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (path / ABSENCE_FILE).write_bytes(b"no database, and long enough to be read as one" * 100)
    with Ledger.open(path) as ledger:
        log_pictures(ledger, 0, 1)
    assert served(path).size == 3
    assert "all entries are read again" in caplog.text


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_fork_takes_nothing_with_it(path: Path) -> None:
    with Ledger.open(path) as ledger:
        log_pictures(ledger, 0)
        child = os.fork()
        if not child:
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        log_pictures(ledger, 1)
        until(lambda: ledger.index_status is not None and ledger.index_status.size == 3)
    assert served(path).size == written(path) == 3


def test_a_kill_costs_nothing_that_is_not_made_up(path: Path) -> None:
    child = start(path, "loop")
    for _ in range(40):
        first_line(child)
    until((path / "public" / INDEX_NOTE).exists)
    child.send_signal(signal.SIGKILL)
    finish(child)
    assert served(path).size > 0
    with Ledger.open(path) as ledger:
        log_pictures(ledger, 5000)
        size = ledger.checkpoint().size
        until(lambda: ledger.index_status is not None and ledger.index_status.size == size)
        assert ledger.index_status is not None
        assert ledger.index_status.trouble is None
    assert served(path).size == size > 40
    assert check_ledger(path).exit_code == 0


def test_only_a_key_of_this_log_s_index_is_taken(path: Path) -> None:
    write_key(path / "keys/other.key", SignerKey.generate("other.example/index", ED25519))
    text = (path / "log.toml").read_text()
    (path / "log.toml").write_text(text.replace("keys/index.key", "keys/other.key"))
    with pytest.raises(SetupError, match=f"{AUTHOR}/log/index"):
        Ledger.open(path)
    (path / "log.toml").write_text(text.replace("keys/index.key", "keys/log.key"))
    with pytest.raises(SetupError):
        Ledger.open(path)


def test_the_setting() -> None:
    config = LedgerConfig(author="a", origin="b", index_follow=True, index_key="x.key")
    assert LedgerConfig.parse(config.to_toml()) == config
    head = LedgerConfig("a", "b").to_toml()
    assert not LedgerConfig.parse(head).index_follow
    for wrong in ("follow = 1", "folow = true", 'key = ""', "key = 3"):
        with pytest.raises(SetupError):
            LedgerConfig.parse(f"{head}\n[index]\n{wrong}\n")
