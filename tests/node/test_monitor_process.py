"""`pd node monitor` as a process, over loopback addresses, with a real witness and a real server."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Sequence
from pathlib import Path

import pytest
from plausible.cli.main import main
from plausible.ledger.notes.note import VerifierKey
from plausible.ledger.witness import Cosigned
from plausible.ledger.witness.remote import RemoteWitness
from plausible.node.monitor.state import MonitorState

from tests.ledger.falselog import LOG, Chain, FalseLog

PD = [sys.executable, "-m", "plausible.cli"]


@contextlib.contextmanager
def running(*command: str) -> Generator[str]:
    """A service as a process; its address."""
    process = subprocess.Popen([*PD, *command, "--port", "0"], stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert " at http://" in line, line
        yield line.split(" at ")[1].split(";")[0].strip()
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)
        assert process.stderr is not None
        process.stderr.close()


def monitor(folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*PD, "node", "monitor", str(folder), *more], capture_output=True, text=True, timeout=60, check=False
    )


def made(folder: Path, policy: str, url: Path | str, hook: Sequence[str] = (), poll: str = "60") -> Path:
    """A monitor that follows one log."""
    file = folder.with_suffix(".policy")
    file.write_text(policy)
    words = [word for one in hook for word in ("--hook", one)]
    assert main(["monitor", "init", str(folder), "--poll", poll, *words]) == 0
    assert main(["monitor", "add", str(folder), "--policy", str(file), "--url", str(url)]) == 0
    return folder


def until(condition: Callable[[], bool], seconds: float = 40.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.02)


def test_a_log_that_shows_two_histories_is_caught_in_one_poll(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The witness is shown one tree, the monitor another; both are signed with the log's real key."""
    shown, other = FalseLog(tmp_path / "shown"), FalseLog(tmp_path / "log" / "public")
    head = shown.grow(Chain(chain="55" * 16).leaves(4))
    other.grow(Chain(chain="66" * 16).leaves(4))
    watch = tmp_path / "notary"
    assert main(["witness", "init", str(watch), "--name", "w.example/notary", "--no-guard"]) == 0
    vkey = capsys.readouterr().out.strip()
    assert main(["witness", "add", str(watch), LOG.verifier.encode()]) == 0
    with (
        running("node", "witness", str(watch)) as witness,
        running("node", "serve", str(tmp_path / "log")) as url,
        socket.create_server(("127.0.0.1", 0)) as hole,
    ):
        remote = RemoteWitness("w", [VerifierKey.parse(vkey)], witness)
        assert isinstance(remote.add_checkpoint(0, [], head), Cosigned)
        remote.close()
        policy = f"log {LOG.verifier} {url}\nwitness w {vkey} {witness}\nquorum none\n"
        folder = made(tmp_path / "watch", policy, url, ["touch", "-r", str(watch)])
        ended = monitor(folder, "--once", "--json")
        assert ended.returncode == 1, ended.stderr
        assert [one["kind"] for one in json.loads(ended.stdout)["findings"]] == ["false"], ended.stdout
        [file] = (folder / "evidence").iterdir()
        assert file.stat().st_mtime == watch.stat().st_mtime  # the hook had it
        # nothing listens where the log should be: another exit code
        nowhere = f"http://127.0.0.1:{hole.getsockname()[1]}"
        hole.close()
        unseen = made(tmp_path / "unseen", policy.replace(url, nowhere), nowhere)
        assert monitor(unseen, "--once").returncode == 4
    # everything is down: the file is proof all the same, and the monitor has not forgotten
    court = tmp_path / "court.policy"
    court.write_text(f"log {LOG.verifier}\nquorum none\n")
    capsys.readouterr()
    assert main(["verify-contradiction", str(file), "--policy", str(court)]) == 0
    assert "two trees of size 4" in capsys.readouterr().out
    assert main(["verify-contradiction", str(file)]) == 5
    assert main(["monitor", "status", str(folder)]) == 1
    assert main(["monitor", "status", str(unseen)]) == 4
    assert main(["monitor", "lift", str(folder), LOG.name]) == 0
    assert monitor(folder, "--once").returncode == 4


@pytest.mark.long
def test_kills_at_any_moment_of_a_long_catch_up(tmp_path: Path) -> None:
    """Whatever was stored is whole: no entry is left out, none is held against itself."""
    log, count = FalseLog(tmp_path / "log"), 12_000
    chains = [Chain(chain=f"{number:02x}" * 16) for number in range(4)]
    log.grow([chains[number % 4].leaf() for number in range(count)])
    folder = made(tmp_path / "watch", f"log {LOG.verifier}\nquorum none\n", log.folder)
    sizes: list[int] = []
    for kill in range(12):
        process = subprocess.Popen([*PD, "node", "monitor", str(folder), "--once"], stderr=subprocess.DEVNULL)
        time.sleep(0.8 + 0.23 * kill)
        process.kill()
        process.wait(30)
        if (folder / "monitor.db").exists():
            state = MonitorState(folder / "monitor.db", readonly=True)
            sizes.append(state.checked(LOG.name).edge.size)
            state.close()
    assert sizes == sorted(sizes) and sizes[-1] > 0
    assert monitor(folder, "--once").returncode == 0
    state = MonitorState(folder / "monitor.db", readonly=True)
    assert state.checked(LOG.name).edge.size == count and not state.found(lifted=True)
    for chain in chains:
        last = state.chain(LOG.name, chain.signer.verifier.encode(), chain.chain)
        assert last is not None and last.seq == count // 4 - 1
        assert all(state.drawn(last.id, draw) is not None for draw in range(count // 4))
    state.close()


def test_it_follows_is_killed_and_goes_on(tmp_path: Path) -> None:
    log, chain = FalseLog(tmp_path / "log"), Chain()
    log.grow(chain.leaves(3))
    folder = made(tmp_path / "watch", f"log {LOG.verifier}\nquorum none\n", log.folder, poll="0.1")
    command = [*PD, "node", "monitor", str(folder), "--json"]

    def size_reaches(process: subprocess.Popen[str], size: int) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            if json.loads(line)["entries"] == size:
                return
        raise AssertionError("it ended")

    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        size_reaches(process, 3)
        log.grow(chain.leaves(2))
        size_reaches(process, 5)
        process.kill()
    gone = tmp_path / "gone"
    shutil.move(log.folder, gone)
    other = FalseLog(tmp_path / "log")
    other.grow(Chain(chain="66" * 16).leaves(9))
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        until(lambda: len(list((folder / "evidence").glob("*-inconsistent-heads-*.json"))) == 1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 1
