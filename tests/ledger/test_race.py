"""A slice of the race: processes, forked workers and threads on one ledger, some killed; none lost or doubled."""

from __future__ import annotations

import json
import os
import subprocess
import sys

from benchmarks.ledger.race import FAILURES
from tests.ledger.processes import ROOT


def test_killed_writers_lose_and_double_nothing() -> None:
    path = os.pathsep.join([str(ROOT), *(entry for entry in sys.path if entry)])
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.ledger.race", "--seconds", "2", "--kills", "3", "--members", "4", "--json"],
        capture_output=True, text=True, timeout=300, check=False, env={**os.environ, "PYTHONPATH": path},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stdout)["counts"]
    assert {name: counts[name] for name in FAILURES} == dict.fromkeys(FAILURES, 0)
    # it was a race: somebody was killed, and others went on
    assert counts["kills"] > 0 and 0 < counts["acknowledged"] < counts["entries"]
