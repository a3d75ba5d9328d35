"""Starting `tests/ledger/child.py` with this process's import path."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

CHILD = Path(__file__).with_name("child.py")
ROOT = CHILD.parent.parent.parent


def start(ledger: Path, *command: str) -> subprocess.Popen[str]:
    """The child, its output and input as pipes."""
    path = os.pathsep.join([str(ROOT), *(entry for entry in sys.path if entry)])
    return subprocess.Popen(
        [sys.executable, str(CHILD), str(ledger), *command],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )


def first_line(child: subprocess.Popen[str]) -> str:
    """Wait for the child's next line."""
    assert child.stdout is not None
    return child.stdout.readline().strip()


def finish(child: subprocess.Popen[str]) -> tuple[str, str]:
    """Wait for the child's end: (output, errors)."""
    return child.communicate(timeout=60)
