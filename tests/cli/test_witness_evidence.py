"""What a witness caught becomes files that anyone can verify."""

from __future__ import annotations

from pathlib import Path

import pytest
from plausible.cli.main import main
from plausible.node.witness.directory import open_witness

from tests.ledger.falselog import LOG, Chain, FalseLog


def test_two_heads_of_one_size_become_a_contradiction_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, out = tmp_path / "w", tmp_path / "out"
    assert main(["witness", "init", str(folder), "--name", "w.example/w", "--no-guard"]) == 0
    assert main(["witness", "add", str(folder), LOG.verifier.encode()]) == 0
    first, second = FalseLog(tmp_path / "a"), FalseLog(tmp_path / "b")
    notes = [first.grow(Chain().leaves(3)), second.grow(Chain(chain="55" * 16).leaves(3))]
    with open_witness(folder) as witness:
        assert witness.add_checkpoint(0, [], notes[0]).status == 200
        assert witness.add_checkpoint(3, [], notes[1]).status == 422
    assert main(["witness", "list", str(folder), "--evidence", str(out)]) == 1
    [file] = out.iterdir()
    policy = tmp_path / "policy"
    policy.write_text(f"log {LOG.verifier}\nquorum none\n")
    assert main(["verify-contradiction", str(file), "--policy", str(policy)]) == 0
    assert main(["witness", "list", str(folder), "--evidence", str(out)]) == 1 and len(list(out.iterdir())) == 1
    assert main(["witness", "remove", str(folder), LOG.name]) == 0
    capsys.readouterr()
    assert main(["witness", "list", str(folder), "--evidence", str(out)]) == 1
    assert "no file could be made" in capsys.readouterr().err
