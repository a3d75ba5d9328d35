"""`pd hammer` near and far, and what it leaves for others when a log is false."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any


def test_near_and_far(
    pd: Callable[..., Any], studio: Any, serve: Callable[[Path], contextlib.AbstractContextManager[str]]
) -> None:
    told = pd("hammer", studio.ledger, "--entries", 20, "--json").document()
    assert (told["exit_code"], told["policy"], told["broken"]) == (0, "given", None)
    with serve(studio.ledger) as address:
        policy = ("--policy", studio.ledger / "policy.txt")
        assert pd("hammer", address, *policy, "--entries", 5, "--rate", 500).code == 0
        assert "own folder" in pd("hammer", address, "--writers", 1).sentence()
        bundle = studio.ledger / "public/tile/entries/000.p/5"
        data = bytearray(bundle.read_bytes())
        data[-4] ^= 1
        bundle.write_bytes(data)
        result = pd("hammer", address, *policy, "--seconds", 30, "--evidence", "shown.json", "--json")
    assert result.code == 1
    assert result.document()["evidence"] == "shown.json"
    assert json.loads(Path("shown.json").read_bytes())["format"] == "plausible.hammer-evidence/1"
