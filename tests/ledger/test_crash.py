"""Whoever got an acknowledgement keeps it: a writer is killed at every step, and the ledger opens again whole."""

from __future__ import annotations

import itertools
import random
import time
from pathlib import Path

import pytest
from plausible.ledger import Ledger
from plausible.ledger.entries.digests import pixel_digest
from plausible.ledger.entries.entry import check_succession, parse_entry
from plausible.ledger.merkle.tree import hash_leaf

from tests.ledger.child import POINTS
from tests.ledger.processes import finish, first_line, start
from tests.ledger.studio import make, picture


def check_whole(path: Path, acknowledged: dict[int, str]) -> int:
    """Open the ledger, check every promise, append once more; returns the size it then has."""
    with Ledger.open(path) as ledger:
        ledger.flush()
        size = ledger.checkpoint().size
        leaves = [ledger.entry(index) for index in range(size)]
        for index, leaf in acknowledged.items():
            assert hash_leaf(leaves[index]).hex() == leaf, f"entry {index} was acknowledged and is another now"
        assert ledger.damaged() == [] and ledger.log.root(size) == ledger.checkpoint().root
        for previous, entry in itertools.pairwise([parse_entry(leaf) for leaf in leaves]):
            check_succession(entry, previous)
        for index, _, record in ledger.records():
            assert ledger.find(pixels=bytes.fromhex(record.context.pixels[7:])) == [index]
            ledger.opening(index)
        assert [model.name for model in ledger.models()] == ["m"]
        receipt = ledger.append(image=picture(99), model="m").wait("witnessed", 30)
        assert receipt.index == size
        return size


def acknowledgements(output: str) -> dict[int, str]:
    return {int(line.split()[0]): line.split()[1] for line in output.splitlines() if line and line[0].isdigit()}


@pytest.mark.parametrize("point", POINTS)
def test_a_kill_between_two_steps_loses_nothing_acknowledged(tmp_path: Path, point: str) -> None:
    path = tmp_path / "a.ledger"
    make(path).close()
    output, errors = finish(start(path, "kill", point))
    assert "survived" not in output and not errors, errors
    acknowledged = acknowledgements(output)
    assert sorted(acknowledged) == [1, 2, 3]
    size = check_whole(path, acknowledged)
    # what reached the vault is on the record after the restart, what did not is not
    assert size == (4 if point == "before the vault" else 5)


@pytest.mark.parametrize("seed", range(3))
def test_a_kill_at_any_moment_loses_nothing_acknowledged(tmp_path: Path, seed: int) -> None:
    path = tmp_path / "a.ledger"
    make(path).close()
    child = start(path, "loop")
    line = first_line(child)
    time.sleep(random.Random(seed).uniform(0.05, 0.6))
    child.kill()
    output, _ = finish(child)
    # the pipe's last line may be cut
    whole = output[: output.rfind("\n") + 1]
    acknowledged = acknowledgements(f"{line}\n{whole}")
    assert check_whole(path, acknowledged) >= len(acknowledged) + 1


def test_files_above_the_synced_size_are_made_again(tmp_path: Path) -> None:
    """Tiles may reach the disk later than the head that names them: a power cut may take them."""
    path = tmp_path / "a.ledger"
    make(path).close()
    output, _ = finish(start(path, "kill", "before syncing"))
    acknowledged = acknowledgements(output)
    for file in [*path.glob("public/tile/**/*"), path / "public/checkpoint.pending", path / "public/checkpoint"]:
        if file.is_file() and file.name != "1":  # size 1, the model's entry, was synced when the ledger was closed
            file.write_bytes(b"")
    check_whole(path, acknowledged)


def test_an_image_that_was_acknowledged_is_found_by_its_pixels(tmp_path: Path) -> None:
    path = tmp_path / "a.ledger"
    make(path).close()
    finish(start(path, "kill", "after acceptance"))
    with Ledger.open(path) as ledger:
        ledger.flush()
        assert [ledger.find(pixels=pixel_digest(picture(number))) for number in range(4)] == [[1], [2], [3], [4]]
