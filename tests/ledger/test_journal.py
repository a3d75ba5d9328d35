"""The journal keeps whole entries whatever happens to its tail, and says what it could not read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plausible.ledger import Ledger
from plausible.ledger.entries.digests import pixel_digest
from plausible.ledger.recorder.journal import MAGIC, Journal, parse
from plausible.ledger.vault.vault import GENERATION, Submission, Vault
from plausible.ledger.writing.writer import Writer
from plausible.schemas.errors import SetupError

from tests.ledger.studio import make, picture


def submission(number: int) -> Submission:
    digest = bytes([number]) * 32
    return Submission(
        os.urandom(16), GENERATION, digest, "m", number, digest, None, os.urandom(32), digest, b"record %d" % number
    )


def written(tmp_path: Path, count: int) -> tuple[Journal, list[Submission]]:
    journal = Journal(tmp_path / "journal")
    entries = [submission(number) for number in range(count)]
    journal.append(entries[:1])
    journal.append(entries[1:])
    return journal, entries


def test_entries_come_back_as_they_were(tmp_path: Path) -> None:
    journal, entries = written(tmp_path, 4)
    contents = journal.read()
    assert list(contents.submissions) == entries and contents.torn == 0
    assert journal.path.stat().st_mode & 0o777 == 0o600


@given(st.data())
def test_a_torn_tail_never_takes_whole_entries_with_it(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    journal, entries = written(tmp_path_factory.mktemp("j"), 3)
    whole = journal.path.read_bytes()
    ends = [len(MAGIC)]
    for entry in entries:
        single = Journal(journal.path.with_name("single"))
        single.path.unlink(missing_ok=True)
        single.append([entry])
        ends.append(ends[-1] + single.path.stat().st_size - len(MAGIC))
    assert ends[-1] == len(whole)
    cut = data.draw(st.integers(0, len(whole)))
    contents = parse(whole[:cut])
    expected = max((n for n, end in enumerate(ends) if end <= cut), default=0)
    assert list(contents.submissions) == entries[:expected]
    assert contents.torn == (0 if cut == 0 else cut - (ends[expected] if cut >= len(MAGIC) else 0))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 255))
def test_a_changed_byte_is_noticed(tmp_path_factory: pytest.TempPathFactory, place: int, change: int) -> None:
    journal, entries = written(tmp_path_factory.mktemp("j"), 2)
    data = bytearray(journal.path.read_bytes())
    place %= len(data)
    data[place] ^= change
    try:
        contents = parse(bytes(data))
    except SetupError:
        assert place < len(MAGIC)
        return
    assert len(contents.submissions) < 2 and contents.torn > 0
    assert list(contents.submissions) == entries[: len(contents.submissions)]


@given(st.binary(max_size=300))
def test_arbitrary_bytes_raise_nothing_else(data: bytes) -> None:
    for value in (data, MAGIC + data):
        try:
            parse(value)
        except SetupError:
            assert not value.startswith(MAGIC)


def test_flushing_twice_adds_nothing_and_keeps_a_torn_tail_aside(tmp_path: Path) -> None:
    journal, entries = written(tmp_path, 3)
    torn = journal.path.read_bytes()[-20:]
    with journal.path.open("ab") as file:
        file.write(b"\0\0\0\xff" + torn)
    whole = journal.path.read_bytes()
    vault = Vault.create(tmp_path / "vault.db")
    assert journal.flush(vault.add) == (3, 24)
    assert not journal.exists() and (tmp_path / "journal.torn-1").read_bytes() == b"\0\0\0\xff" + torn
    # the machine died between the vault's commit and the emptying of the journal
    journal.path.write_bytes(whole)
    journal.flush(vault.add)
    assert [(s.key, s.draw) for s in vault.after(0, 10)] == [(e.key, e.draw) for e in entries]
    vault.close()


def test_a_failed_append_leaves_no_torn_tail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal, _ = written(tmp_path, 2)
    before = journal.path.read_bytes()
    from plausible.ledger.recorder import journal as module

    def half(descriptor: int, data: bytes) -> None:
        os.write(descriptor, data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "_write_all", half)
    with pytest.raises(SetupError, match="No space left"):
        journal.append([submission(9)])
    assert journal.path.read_bytes() == before


def test_what_was_spooled_before_a_restart_is_on_the_record_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.ledger"
    make(path).close()
    monkeypatch.setattr(Vault, "add", _full)
    ledger = Ledger.open(path, on_error="spool")
    with pytest.warns(RuntimeWarning, match="kept in"):
        receipts = [ledger.append(image=picture(number), model="m") for number in range(3)]
        ledger.close()
    assert {receipt.state for receipt in receipts} == {"spooled"} and ledger_journal(path).exists()
    monkeypatch.undo()
    with ledger_journal(path).path.open("ab") as file:
        file.write(b"\1\2\3")
    with Ledger.open(path) as ledger:
        assert (ledger.counters.flushed, ledger.counters.torn_bytes) == (3, 3)
        ledger.flush()
        assert [ledger.find(pixels=pixel_digest(picture(number))) for number in range(3)] == [[1], [2], [3]]


def test_a_stopped_writer_still_spools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.ledger"
    make(path).close()
    ledger = Ledger.open(path, on_error="spool")
    monkeypatch.setattr(Writer, "_advance", _broken)
    with pytest.warns(RuntimeWarning, match="kept in"):
        first = ledger.append(image=picture(0), model="m")
        with pytest.raises(SetupError):
            first.wait("accepted", 10)
        second = ledger.append(image=picture(1), model="m")
        with pytest.raises(SetupError):
            second.wait("accepted", 10)
        ledger.close()
    assert second.state == "spooled"
    monkeypatch.undo()
    with Ledger.open(path) as ledger:
        ledger.flush()
        assert all(ledger.find(pixels=pixel_digest(picture(number))) for number in range(2))


def ledger_journal(path: Path) -> Journal:
    return Journal(path / "spool.journal")


def _full(*_: object) -> None:
    from plausible.ledger.storage.disk import StorageFull

    raise StorageFull("writing vault.db failed: the disk is full")


def _broken(*_: object, **__: object) -> None:
    from plausible.ledger.storage.disk import StorageBroken

    raise StorageBroken("flushing failed; the writer stops")
