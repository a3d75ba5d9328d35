"""`pd mirror ...`: from init to a mirror of a mirror, a push, and the exit codes of logs that lie or are away."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from plausible.ledger.notes.note import Note

from tests.node.mirrors import HASH, LOG, Grower, running, size_at, until


@pytest.fixture
def log(tmp_path: Path) -> Grower:
    made = Grower(tmp_path / "log")
    made.grow(700)
    return made


def make(pd: Callable[..., Any], folder: Path) -> list[str]:
    """A mirror by command; its verifier keys."""
    result = pd("mirror", "init", folder, "--name", f"mirror.example/{folder.name}")
    assert result.code == 0, result.err
    assert "state/plausible/mirror-" in result.err  # the guard lies outside
    return result.out.split()


def test_a_mirror_of_a_mirror(pd: Callable[..., Any], log: Grower, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        keys = make(pd, folder)
        assert len(keys) == 2 and keys[1].startswith(f"mirror.example/{folder.name}/index+")
    assert pd("mirror", "add", first, LOG.verifier, "--from", log.folder).code == 0
    with running(first) as (at, _), httpx.Client(base_url=at) as client:
        until(lambda: size_at(client) == 700)
        assert pd("mirror", "add", second, LOG.verifier, "--from", f"{at}/{HASH}").code == 0
        result = pd("mirror", "pull", second)
        assert result.code == 0 and "700 new" in result.out
    row = pd("mirror", "list", second, "--json").document()["logs"][0]
    assert (row["size"], row["trouble"], row["hash"]) == (700, [], HASH)
    served = Note.parse((second / "logs" / HASH / "public/checkpoint").read_bytes())
    assert len(served.signatures) == 3  # the log's and both mirrors'
    assert pd("mirror", "pull", second).code == 4  # nobody serves it any more
    assert pd("mirror", "list", second).code == 4
    assert pd("mirror", "remove", second, LOG.name).code == 0
    assert pd("mirror", "pull", second).code == 0
    assert "not mirrored any more" in pd("mirror", "list", second).out


def test_a_log_that_lies_has_its_exit_code(pd: Callable[..., Any], log: Grower, tmp_path: Path) -> None:
    make(pd, tmp_path / "m")
    assert pd("mirror", "add", tmp_path / "m", LOG.verifier, "--from", log.folder).code == 0
    tile = log.public / "tile/0/002.p/188"
    tile.write_bytes(bytes(32) + tile.read_bytes()[32:])
    assert pd("mirror", "pull", tmp_path / "m").code == 1
    result = pd("mirror", "list", tmp_path / "m")
    assert result.code == 1 and "false: " in result.out
    assert pd("mirror", "pull", tmp_path / "m", "unknown.example/log").code == 2


def test_a_push(pd: Callable[..., Any], log: Grower, tmp_path: Path) -> None:
    key, _ = make(pd, tmp_path / "m")
    assert pd("mirror", "add", tmp_path / "m", LOG.verifier).code == 0
    with running(tmp_path / "m") as (at, _):
        result = pd("mirror", "push", at, "--mirror", key, "--ledger", log.folder)
        assert result.code == 0, result.err
        assert result.out.startswith("\u2014 mirror.example/m ") and "all 700 entries" in result.err
        again = pd("mirror", "push", at, "--mirror", key, "--ledger", log.folder, "--json")
        assert again.document()["size"] == 700
    assert pd("mirror", "push", at, "--mirror", key, "--ledger", log.folder).code == 4
