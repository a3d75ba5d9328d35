"""Several writers on one ledger: one sequences, the others enqueue durably or are told; readers never disturb."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from plausible.ledger import Ledger
from plausible.ledger.entries.digests import pixel_digest
from plausible.schemas.errors import SetupError, UsageError

from tests.ledger.processes import finish, first_line, start
from tests.ledger.studio import make, manifest, picture


def test_a_second_process_enqueues_and_its_receipts_move_on(tmp_path: Path) -> None:
    with make(tmp_path / "a.ledger") as ledger:
        first = ledger.append(image=picture(1), model="m").wait("accepted", 20)
        output, errors = finish(start(ledger.path, "append", "5"))
        assert not errors, errors
        assert [line.split() for line in output.splitlines()] == [["witnessed", str(n)] for n in range(2, 7)]
        assert first.index == 1 and ledger.sequencing
        assert ledger.find(pixels=pixel_digest(picture(1003))) == [5]
        assert len(list(ledger.records())) == 6, "a second writer's records are in the same vault"


def test_a_second_writer_can_be_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.ledger"
    make(path).close()
    child = start(path, "hold")
    assert first_line(child) == "open"
    with pytest.raises(SetupError, match="another process writes"):
        Ledger.open(path, second_writer="error")
    finish(child)
    Ledger.open(path, second_writer="error").close()


def test_a_writer_takes_over_when_the_sequencing_process_ends(tmp_path: Path) -> None:
    path = tmp_path / "a.ledger"
    make(path).close()
    child = start(path, "hold")
    assert first_line(child) == "open"
    with Ledger.open(path) as ledger:
        assert not ledger.sequencing
        child.kill()
        finish(child)
        receipt = ledger.append(image=picture(1), model="m").wait("witnessed", 20)
        assert ledger.sequencing and receipt.index == 1


def test_what_a_second_writer_left_behind_is_accepted_later(tmp_path: Path) -> None:
    path = tmp_path / "a.ledger"
    make(path).close()
    child = start(path, "hold")
    first_line(child)
    time.sleep(1.0)  # it must not be stopped inside a transaction
    os.kill(child.pid, signal.SIGSTOP)  # now the holder does not sequence, and holds the lock
    try:
        ledger = Ledger.open(path)
        receipt = ledger.append(image=picture(1), model="m")
        ledger.close()
        assert receipt.state == "queued", "durable, and closing does not wait for another process"
    finally:
        os.kill(child.pid, signal.SIGCONT)
    finish(child)
    with Ledger.open(path) as ledger:
        ledger.flush()
        assert ledger.find(pixels=pixel_digest(picture(1))) == [1]


def test_a_second_handle_in_one_process_is_a_second_writer(tmp_path: Path) -> None:
    with make(tmp_path / "a.ledger") as one, Ledger.open(one.path) as other:
        assert (one.sequencing, other.sequencing) == (True, False)
        receipts = [ledger.append(image=picture(n), model="m") for n, ledger in enumerate((one, other, one, other))]
        assert sorted(receipt.wait("witnessed", 20).index or 0 for receipt in receipts) == [1, 2, 3, 4]


def _in_child(ledger: Ledger, pipe: object) -> None:
    try:
        receipt = ledger.append(image=picture(7), model="m").wait("witnessed", 30)
        pipe.send((receipt.state, receipt.index, ledger.sequencing))  # type: ignore[attr-defined]
        ledger.close()
    except BaseException as error:
        pipe.send(repr(error))  # type: ignore[attr-defined]
        raise


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_enqueues_for_its_parent(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    with make(tmp_path / "a.ledger") as ledger:
        before = ledger.append(image=picture(1), model="m")
        here, there = context.Pipe()
        child = context.Process(target=_in_child, args=(ledger, there))
        child.start()
        # the parent goes on while its child writes
        after = [ledger.append(image=picture(number), model="m") for number in range(2, 6)]
        state, _, sequencing = here.recv()
        child.join(30)
        assert (state, sequencing, child.exitcode) == ("witnessed", False, 0)
        ledger.flush()
        assert len({receipt.index for receipt in (before, *after)}) == 5
        assert len(list(ledger.records())) == 6
        assert len(ledger.find(pixels=pixel_digest(picture(7)))) == 1


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_child_that_outlives_its_parents_ledger_takes_over(tmp_path: Path) -> None:
    ledger = make(tmp_path / "a.ledger")
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    go = context.Event()

    def wait_and_append() -> None:
        go.wait(30)
        _in_child(ledger, there)

    child = context.Process(target=wait_and_append)
    child.start()
    ledger.append(image=picture(1), model="m")
    ledger.close()
    go.set()
    assert here.recv() == ("witnessed", 2, True)
    child.join(30)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_forking_under_load_loses_and_doubles_nothing(tmp_path: Path) -> None:
    with make(tmp_path / "a.ledger") as ledger:
        stop = threading.Event()
        count = [0]

        def write() -> None:
            while not stop.is_set():
                time.sleep(0.002)
                ledger.append(image=picture(count[0]), model="m")
                count[0] += 1

        thread = threading.Thread(target=write)
        thread.start()
        for _ in range(5):
            pid = os.fork()
            if pid == 0:
                os._exit(0)
            os.waitpid(pid, 0)
        stop.set()
        thread.join()
        ledger.flush()
        assert ledger.checkpoint().size == count[0] + 1
        assert len({record.context.draw for _, _, record in ledger.records()}) == count[0]


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_receipt_from_before_the_fork_is_the_parents(tmp_path: Path) -> None:
    with make(tmp_path / "a.ledger") as ledger:
        receipt = ledger.append(image=picture(1), model="m")
        pid = os.fork()
        if pid == 0:
            try:
                receipt.wait("accepted", 1)
            except UsageError:
                os._exit(7)
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7


def test_readers_see_what_is_witnessed_while_it_is_written(tmp_path: Path) -> None:
    with make(tmp_path / "a.ledger") as writer, Ledger.open(writer.path, mode="read") as reader:
        for number in range(3):
            writer.append(image=picture(number), model="m").wait("witnessed", 20)
            assert reader.find(pixels=pixel_digest(picture(number))) == [number + 1]
            assert reader.record_of(number + 1).context.draw == number
        with pytest.raises(UsageError, match="mode='append'"):
            reader.append(image=picture(1), model="m")


@pytest.mark.parametrize("written", [False, True])
def test_an_idle_writer_rests(tmp_path: Path, written: bool) -> None:
    """With nothing to do the writer looks for other processes' submissions now and then; it does not spin."""
    with make(tmp_path / "a.ledger") as ledger:
        ledger.flush()
    with Ledger.open(tmp_path / "a.ledger") as ledger:
        if written:
            ledger.register_model("n", manifest=manifest(5)).wait("witnessed", 40)
        writer = ledger._writer
        assert writer is not None
        rounds = 0
        inner = writer._round

        def counted(items: Any, *, last: bool) -> None:
            nonlocal rounds
            rounds += 1
            inner(items, last=last)

        writer._round = counted  # type: ignore[method-assign]
        time.sleep(1.2)
        # a poll every 0.2 s, and a head that may have been due
        assert rounds <= 20
