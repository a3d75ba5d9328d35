"""The mirror's conformance cases: ours passes them all, again and again, and each fault fails the cases about it."""

from __future__ import annotations

from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
from plausible.cli.main import main
from plausible.ledger.keys.keyfile import write_key
from plausible.ledger.notes.note import SignerKey
from plausible.node.asking import Answer
from plausible.node.conformance.mirror import MirrorCases
from plausible.node.mirror.directory import LogSettings, make
from plausible.node.mirror.mirror import Mirror
from plausible.schemas.errors import PeerError, UsageError

from tests.node.test_mirror_push import serving

LOG = SignerKey.generate("conformance.example/log")
NAME = "mirror.example/m"


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> Generator[Mirror]:
    folder = tmp_path_factory.mktemp("conformance")
    make(folder / "m", NAME, guard=folder / "m.count")
    with Mirror(folder / "m") as opened:
        opened.add_log(LOG.name, [LOG.verifier], LogSettings(LOG.name))
        yield opened


@pytest.fixture(scope="module")
def url(mirror: Mirror) -> Generator[str]:
    with serving(mirror) as address:
        yield address


def states(url: str, mirror: Mirror, fault: Callable[[str, Answer], Answer] | None = None) -> dict[str, str]:
    cases = MirrorCases(url, LOG, [mirror.signer.verifier])
    if fault is not None:
        client: Any = cases._mirror  # the mirror answers rightly; what is heard is bent
        right = client.ask

        def ask(method: str, url: str, body: bytes | None = None, **headers: str) -> Answer:
            return fault(url, right(method, url, body, **headers))

        client.ask = ask
    try:
        return {result.name: result.state for result in cases.run()}
    finally:
        cases.close()


def test_ours_passes_everything_again_and_again(url: str, mirror: Mirror) -> None:
    for _ in range(2):
        found = states(url, mirror)
        assert set(found.values()) == {"passed"}, found


def as_text(_url: str, answer: Answer) -> Answer:
    return Answer(answer.status, "text/plain", answer.body)


def all_is_well(_url: str, answer: Answer) -> Answer:
    return Answer(200, answer.kind, answer.body)


@pytest.mark.parametrize(
    ("fault", "wanted"),
    [
        (as_text, "a part of the packages: 202 and the next entry"),
        (all_is_well, "entries that are not in the tree: 422"),
    ],
)
def test_a_fault_fails_the_case_about_it(
    url: str, mirror: Mirror, fault: Callable[[str, Answer], Answer], wanted: str
) -> None:
    assert states(url, mirror, fault)[wanted] == "failed"


def test_a_key_that_is_not_the_mirrors_fails(url: str) -> None:
    cases = MirrorCases(url, LOG, [SignerKey.generate(NAME, 0x04).verifier])
    found = {result.name: result.state for result in cases.run()}
    cases.close()
    assert found["it takes what it lacks, and cosigns when all is there"] == "failed"


def test_what_cannot_be_judged_is_said_and_no_success(url: str, mirror: Mirror) -> None:
    other = MirrorCases(url, SignerKey.generate("unknown.example/log"), [mirror.signer.verifier])
    with pytest.raises(UsageError):
        other.run()
    other.close()
    away = MirrorCases("http://127.0.0.1:9", LOG, [mirror.signer.verifier])
    with pytest.raises(PeerError):
        away.run()
    away.close()


def test_it_is_a_command(url: str, mirror: Mirror, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write_key(tmp_path / "test.key", LOG)
    words = ["conformance", "mirror", url, "--log-key", str(tmp_path / "test.key")]
    assert main([*words, "--mirror", mirror.signer.verifier.encode()]) == 0
    assert "27 cases: 27 passed, 0 failed, 0 skipped" in capfd.readouterr().err
