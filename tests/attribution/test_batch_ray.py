"""Jobs on a cluster of Ray on this machine: the same rows as local workers give, bit for bit; skipped without Ray."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.attribution.batches import steady

pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs the extra ray"),
]


def pd(*arguments: object) -> subprocess.CompletedProcess[str]:
    """A process of its own: Ray leaves threads and warnings behind."""
    command = [sys.executable, "-m", "plausible.cli", "attribute", *map(str, arguments), "--threads", "1"]
    return subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)


def test_ray_gives_the_rows_of_local_workers(pictures: Path, models: list[Path], tmp_path: Path) -> None:
    (pictures / "notes.txt").write_text("no picture")
    question = [
        pictures,
        "--models",
        models[0].parent,
        "--integrity",
        "strict",
        "--json",
        "--workers",
        2,
    ]
    far = pd(*question, "--engine", "ray", "--out", tmp_path / "far")
    assert far.returncode == 4, far.stderr
    assert json.loads(far.stdout)["jobs"]["done"] == 8
    near = pd(*question, "--out", tmp_path / "near")
    assert near.returncode == 4, near.stderr
    assert steady(tmp_path / "far") == steady(tmp_path / "near")
    # whoever measured, the other need not
    (tmp_path / "far" / "jobs.journal").write_bytes((tmp_path / "near" / "jobs.journal").read_bytes())
    again = pd(*question, "--engine", "ray", "--out", tmp_path / "far")
    assert json.loads(again.stdout)["jobs"]["kept"] == 8
