"""Jobs on a cluster of Ray on this machine: the same rows as local workers give, bit for bit; skipped without Ray."""

from __future__ import annotations

import importlib.util
import json
import os
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


LISTENING = """
import os, re
from pathlib import Path
from plausible.attribution.batch.cluster import Ray

def listening():
    places = {}
    for name in ("tcp", "tcp6"):
        for line in Path("/proc/self/net", name).read_text().splitlines()[1:]:
            parts = line.split()
            if parts[3] == "0A":
                places[f"socket:[{parts[9]}]"] = parts[1].split(":")[0]
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            # Ray's processes leave the group, but not the environment
            if b"PLAUSIBLE_TEST_RAY=1" in Path("/proc", pid, "environ").read_bytes().split(b"\\0"):
                for fd in Path("/proc", pid, "fd").iterdir():
                    if (place := places.get(os.readlink(fd))) is not None:
                        yield place
        except OSError:
            pass

engine = Ray(1, 1)
print(",".join(sorted(set(listening()))))
engine.close()
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
def test_a_cluster_of_this_machine_listens_to_this_machine_alone() -> None:
    """Whoever reaches a Ray cluster runs code on it."""
    environment = {**os.environ, "PLAUSIBLE_TEST_RAY": "1"}
    command = [sys.executable, "-c", LISTENING]
    found = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False, env=environment)
    places = found.stdout.strip().split(",")
    assert places != [""], found.stderr
    loopback = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}
    assert set(places) <= loopback
