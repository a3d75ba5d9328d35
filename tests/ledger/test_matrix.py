"""A slice of the crash matrix, the same cases every time; `make faults` runs all of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import pytest

from benchmarks.ledger.faults import FAILURES
from tests.ledger.processes import ROOT


def run(*arguments: str) -> dict[str, dict[str, int]]:
    """The counts of `benchmarks.ledger.faults`; skips where nothing can be traced."""
    if shutil.which("strace") is None:
        pytest.skip("strace is absent: no file-system call can be made to fail (Debian: apt-get install strace)")
    path = os.pathsep.join([str(ROOT), *(entry for entry in sys.path if entry)])
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.ledger.faults", "--json", *arguments],
        capture_output=True, text=True, timeout=300, check=False, env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    if done.returncode == 4:
        pytest.skip(f"no process can be traced here: {done.stderr.strip()}")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["format"] == "plausible.faults/1"
    return {**result["cycles"], "total": result["total"]}


def test_a_call_that_fails_loses_and_contradicts_nothing() -> None:
    total = run("--cycle", "witnessed", "--sample", "7")["total"]
    assert {name: total[name] for name in FAILURES} == dict.fromkeys(FAILURES, 0)
    # what is counted here was really harmed, and really looked at
    assert total["cases"] == 7 and total["harmed"] >= 5 and total["acknowledged"] > total["harmed"]


def test_a_flush_that_fails_ends_the_writer() -> None:
    total = run("--cycle", "alone", "--call", "fdatasync", "--fault", "EIO", "--sample", "2")["total"]
    assert {name: total[name] for name in FAILURES} == dict.fromkeys(FAILURES, 0)
    assert total["harmed"] == 2
