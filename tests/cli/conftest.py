"""Running `pd` inside the test's process: what a person would see, without starting Python again."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
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


@dataclass(frozen=True, slots=True)
class Studio:
    """A folder with a ledger of three witnesses, its model, and four logged pictures."""

    folder: Path

    @property
    def ledger(self) -> Path:
        return self.folder / "studio.ledger"

    @property
    def model(self) -> Path:
        return self.folder / "blobs"

    @property
    def trust(self) -> tuple[object, ...]:
        """What an auditor gives: whom to believe."""
        return ("--policy", self.ledger / "policy.txt", "--authors", self.ledger / "authors.txt")

    def picture(self, number: int) -> Path:
        return self.folder / f"{number}.png"


@pytest.fixture(scope="session")
def finished_studio(tmp_path_factory: pytest.TempPathFactory) -> Studio:
    """Made once; tests use copies."""
    import PIL.Image
    from plausible.ledger import Ledger

    example = own_generator()
    studio = Studio(tmp_path_factory.mktemp("studio"))
    model = example.make_model(studio.model)
    witnesses = ("a.example", "b.example", "c.example")
    with Ledger.init(studio.ledger, author="models.example/studio", witnesses=witnesses) as ledger:
        ledger.register_model("blobs", folder=studio.model)
        generate = ledger.wrap(model.sample, model="blobs", latent=(8,))
        for number, pixels in enumerate(generate(4).numpy()):
            PIL.Image.fromarray(pixels).save(studio.picture(number))
        ledger.flush()
    return studio


@pytest.fixture
def studio(finished_studio: Studio, tmp_path: Path) -> Studio:
    """A copy for this test alone."""
    folder = tmp_path / "studio"
    shutil.copytree(finished_studio.folder, folder)
    return Studio(folder)


@functools.cache
def own_generator() -> ModuleType:
    """examples/own_generator.py, loaded once: an architecture registers once."""
    path = Path(__file__).resolve().parents[2] / "examples" / "own_generator.py"
    spec = importlib.util.spec_from_file_location("own_generator", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
