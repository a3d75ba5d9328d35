"""A slice of `make fuzz`: mutated inputs raise the project's own error or read back as they are; and the fuzz line
itself sees what it is there to see."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from plausible.schemas.errors import PlausibleError

from benchmarks.ledger import fuzz
from benchmarks.ledger.mutations import Mutator
from benchmarks.ledger.parsers import Parser, make_ledger, parsers

NAMES = (
    "vkey", "note", "checkpoint", "proof", "policy", "tile", "bundle", "tile-path", "jcs", "dsse", "statement", "entry",
    "record", "opening", "authors", "config", "evidence", "export", "index-proof", "index-note", "index-policy",
    "contradiction", "add-checkpoint", "sign-subtree", "add-entries",
)  # fmt: skip


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Parser]:
    folder = tmp_path_factory.mktemp("fuzz")
    make_ledger(folder / "fuzz.ledger")
    return parsers(folder / "fuzz.ledger", folder)


def test_no_parser_is_left_out_of_the_slice(known: dict[str, Parser]) -> None:
    assert tuple(known) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_only_the_projects_own_error_escapes(known: dict[str, Parser], tmp_path: Path, name: str) -> None:
    count = 40 if name == "export" else 150
    outcome = fuzz.run(known[name], count, "suite", tmp_path)
    assert (outcome.escaped, outcome.respelt, outcome.escapes) == (0, 0, [])
    assert outcome.accepted + outcome.refused == count
    assert outcome.refused > 20, "mutations that change nothing test nothing"


@pytest.mark.parametrize("name", NAMES)
def test_the_corpus_is_accepted(known: dict[str, Parser], name: str) -> None:
    """In part: else every mutation would be refused for the wrong reason. Known answers hold cases that must fail."""
    parser = known[name]
    refused: list[str] = []
    for data in parser.corpus:
        try:
            parser.parse(data)
        except PlausibleError as error:
            refused.append(str(error))
    assert len(refused) < len(parser.corpus), refused


def test_inputs_are_the_same_every_time() -> None:
    corpus = [b'{"a":[1,"x"]}', b"log a+b 3\nquorum none\n"]
    first = [Mutator("1", corpus).input(number) for number in range(300)]
    assert first == [Mutator("1", corpus).input(number) for number in range(300)]
    assert first[:2] == corpus
    assert len(set(first)) > 250


def bad(kind: str) -> Parser:
    def parse(data: bytes) -> bytes | None:
        if data != b"corpus":
            if kind == "error":
                raise KeyError(data)
            if kind == "hang":
                while True:
                    pass
            if kind == "respelt":
                return b"corpus"
        return data

    return Parser(kind, parse, (b"corpus",))


def test_what_escapes_is_seen_kept_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outcome = fuzz.run(bad("error"), 20, "x", tmp_path)
    assert outcome.escaped > 10
    number = int(outcome.escapes[0].split()[1].rstrip(":"))
    assert "KeyError" in outcome.escapes[0]
    assert (tmp_path / f"error-{number}").read_bytes() == Mutator("x/error", [b"corpus"]).input(number)
    assert fuzz.run(bad("respelt"), 20, "x", tmp_path).respelt > 10
    monkeypatch.setattr(fuzz, "HANG_SECONDS", 0.02)
    assert fuzz.run(bad("hang"), 3, "x", tmp_path).escaped >= 1
    assert fuzz.run(bad("none"), 20, "x", tmp_path).escaped == 0


def test_the_command_says_what_it_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = fuzz.main(["tile-path", "-n", "50", "--keep", str(tmp_path), "--json"])
    told = json.loads(capsys.readouterr().out)
    assert (code, told["exit_code"], told["inputs_each"]) == (0, 0, 50)
    assert [row["parser"] for row in told["parsers"]] == ["tile-path"]
    assert told["parsers"][0]["memory_peak"] > 0
    assert fuzz.main(["--again", "tile-path", "0", "--keep", str(tmp_path)]) == 0
