"""Running `pd` inside the test's process: what a person would see, without starting Python again."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from plausible.cli.main import main


@dataclass(frozen=True, slots=True)
class Result:
    """Exit code and both streams of one run."""

    code: int
    out: str
    err: str

    def document(self) -> dict[str, Any]:
        """stdout as the one JSON document it must be."""
        return json.loads(self.out)

    def sentence(self) -> str:
        """The message of a failure: exactly one line on stderr beside notes, never a traceback."""
        assert "Traceback" not in self.err
        lines = [line for line in self.err.splitlines() if line.startswith("pd: ")]
        assert len(lines) == 1, self.err
        return lines[0]


@pytest.fixture(autouse=True)
def clean_surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No setting of the developer's machine takes part, and a crash file goes where the test can see it."""
    for name in list(os.environ):
        if name.startswith("PD_"):
            monkeypatch.delenv(name)
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(home / "state"))
    monkeypatch.setenv("COLUMNS", "100")


@pytest.fixture
def pd(capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """`pd("log", "list", ...)` in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> Result:
        capfd.readouterr()
        code = main([str(argument) for argument in arguments])
        captured = capfd.readouterr()
        return Result(code, captured.out, captured.err)

    return run
