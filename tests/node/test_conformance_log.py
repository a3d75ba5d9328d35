"""The log's conformance cases: ours passes them all, again and again, and each fault fails the cases about it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from plausible.ledger.keys.keyfile import write_key
from plausible.node import asking
from plausible.node.asking import Answer
from plausible.node.conformance import log as cases_module
from plausible.node.conformance.log import LogCases
from plausible.schemas.errors import PeerError, UsageError

from tests.node.log_process import ANNA, STRANGER, make_log, policy_of, running


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_log(tmp_path_factory.mktemp("log") / "shared.log")


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    with running(folder) as (at, _):
        yield at


def states(url: str, folder: Path) -> dict[str, str]:
    cases = LogCases(url, ANNA, policy_of(folder))
    try:
        return {result.name: result.state for result in cases.run()}
    finally:
        cases.close()


def test_ours_passes_again_and_again(url: str, folder: Path) -> None:
    for _ in range(2):
        found = states(url, folder)
        assert set(found.values()) == {"passed"}, {k: v for k, v in found.items() if v != "passed"}


@pytest.mark.parametrize(
    ("bent", "fails"),
    [
        (lambda a: Answer(200, a.kind, a.body, a.caching) if a.status == 409 else a, "another entry for a taken place"),
        (lambda a: Answer(400, a.kind, a.body, a.caching) if a.status == 403 else a, "a false signature"),
        (lambda a: Answer(a.status, a.kind, a.body.replace(b"index ", b"index 1"), a.caching), "it is witnessed"),
        *(
            pytest.param(*case, marks=pytest.mark.long)
            for case in (
                (lambda a: Answer(409, a.kind, b"{}", a.caching) if a.status == 409 else a, "a place beyond the next"),
                (lambda a: Answer(a.status, a.kind, a.body, ""), "files are immutable"),
                (lambda a: Answer(200, a.kind, a.body, a.caching) if a.status == 404 else a, "what is no file"),
                (lambda a: Answer(a.status, a.kind, a.body.replace(b"256:", b"256:0"), a.caching), "a batch is taken"),
            )
        ),
    ],
)
def test_a_fault_fails_its_case(
    url: str, folder: Path, monkeypatch: pytest.MonkeyPatch, bent: Callable[[Answer], Answer], fails: str
) -> None:
    """The log answers rightly; what is heard is bent."""
    monkeypatch.setattr(cases_module, "ask", lambda *args, **named: bent(asking.ask(*args, **named)))
    found = states(url, folder)
    assert [state for name, state in found.items() if name.startswith(fails)] == ["failed"]


def test_a_key_that_is_not_allowed_is_the_caller_s_mistake(url: str, folder: Path) -> None:
    cases = LogCases(url, STRANGER, policy_of(folder))
    with pytest.raises(UsageError, match="allows it"):
        cases.run()
    cases.close()
    cases = LogCases("http://127.0.0.1:1", ANNA, policy_of(folder))
    with pytest.raises(PeerError):
        cases.run()
    cases.close()


def test_it_is_a_command(url: str, folder: Path, tmp_path: Path) -> None:
    write_key(tmp_path / "test.key", ANNA)
    command = [sys.executable, "-m", "plausible.cli", "conformance", "log", url]
    command += ["--author-key", str(tmp_path / "test.key"), "--policy", str(folder / "policy.txt")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "26 cases: 26 passed" in done.stderr
