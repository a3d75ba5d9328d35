"""A run killed, interrupted or starved, with real processes: the same command goes on and loses next to nothing."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from plausible.attribution.batch.jobs import Asking
from plausible.attribution.batch.local import Processes
from plausible.attribution.batch.run import JOURNAL, attribute_pictures
from plausible.attribution.inversion.budget import Budget

from tests.attribution.batches import draw, rows_in, steady

pytestmark = pytest.mark.long
PATIENCE = 120.0


def begin(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "plausible.cli", "attribute", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def lines(journal: Path) -> int:
    return journal.read_bytes().count(b"\n") if journal.exists() else 0


def children(pid: int) -> list[int]:
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        found += map(int, (task / "children").read_text().split())
    return found


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def until(what: Any) -> None:
    deadline = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_what_is_done_stays_done(pictures: Path, models: list[Path], tmp_path: Path, how: signal.Signals) -> None:
    for number in range(10, 22):
        draw(models[number % 2], number, pictures / f"{number}.png")
    question = (
        pictures,
        "--models",
        models[0].parent,
        "--integrity",
        "strict",
        "--workers",
        1,
        "--threads",
        1,
    )
    out = tmp_path / "killed"
    run = begin(*question, "--out", out)
    until(lambda: lines(out / JOURNAL) >= 3)
    workers = children(run.pid)
    run.send_signal(how)
    _, told = run.communicate(timeout=PATIENCE)
    if how is signal.SIGINT:
        assert run.returncode == 130
        assert "run the same command again" in told
        assert "Traceback" not in told
    assert workers
    until(lambda: all(map(gone, workers)))
    kept = lines(out / JOURNAL)
    assert 3 <= kept < 32
    again = begin(*question, "--out", out)
    _, told = again.communicate(timeout=PATIENCE)
    assert again.returncode == 11, told
    assert f"{32 - kept} jobs in" in told
    assert f"{kept} done before" in told
    assert lines(out / JOURNAL) == 32, "no job ran twice"
    whole = begin(*question[:-4], "--workers", 0, "--threads", 1, "--out", tmp_path / "whole")
    whole.communicate(timeout=PATIENCE)
    assert steady(out) == steady(tmp_path / "whole"), "and nothing shows that it was stopped"


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="limits another process's memory")
def test_a_worker_without_memory_is_recorded(pictures: Path, models: list[Path], tmp_path: Path) -> None:
    """Real limits on real workers: too little address space from the second job on."""
    engine = Processes(1, 1)
    # tensors so large that no allocator keeps them for the next job
    large = Asking(Budget(adam_starts=32_768, adam_steps=1, lm_starts=0, rounds=1), relaxed=False, threads=1)
    limited: set[int] = set()

    def news(phase: str, done: int, _total: int, _counts: Any) -> None:
        # a worker that has a job has started: from here on it gets nothing more
        for pid in engine.pids if phase == "jobs" and done >= 1 and engine.busy else ():
            if pid not in limited:
                limited.add(pid)
                resource.prlimit(pid, resource.RLIMIT_AS, (1 << 20, 1 << 20))

    done = attribute_pictures([pictures], models[:1], tmp_path, asking=large, engine=lambda: engine, news=news)
    assert done.counts.done == 4
    found = rows_in(tmp_path)
    # the second job was under way when the limit came
    assert [row.state for row in found if row is not found[1]] == ["inverted", "failed", "failed"]
    assert all(row.reason and row.verdict == "incomplete" for row in found[2:])
    assert done.exit_code == 4
