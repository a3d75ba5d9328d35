"""The example of the README: an own generator, logged, in about twenty lines."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from plausible.ledger import Ledger

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "own_generator.py"


def test_it_runs_as_a_program_and_its_pictures_are_on_the_record(tmp_path: Path) -> None:
    arguments = [sys.executable, str(EXAMPLE), str(tmp_path)]
    answer = subprocess.run(arguments, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert answer.stdout == "logged at [1, 2, 3, 4]\n"
    with Ledger.open(tmp_path / "studio.ledger", mode="read") as ledger:
        records = {index: record for index, _entry, record in ledger.records()}
        assert sorted(records) == [1, 2, 3, 4]
        model = ledger.model("blobs")
        for index, record in records.items():
            assert record.context.model == "sha256:" + model.digest.hex()
            assert record.latent is not None
            assert record.latent.grade == "committed-fresh"
            assert ledger.find(pixels=bytes.fromhex(record.context.pixels.removeprefix("sha256:"))) == [index]


def test_the_generator_itself_is_about_twenty_lines() -> None:
    """What is between the rules; empty lines do not count."""
    part = EXAMPLE.read_text().split("# " + "-" * 118)[1]
    assert len([line for line in part.splitlines() if line.strip()]) <= 22
