"""Whatever is wrong with a TOML file is one error of the project's own."""

from __future__ import annotations

from pathlib import Path

import pytest
from plausible.ledger.config import LedgerConfig
from plausible.schemas import toml
from plausible.schemas.errors import EvidenceError, SetupError

WRONG = (
    b"a = ",
    b"a = 1\na = 2",
    b"\xff",
    b"a = " + b"9" * 900,
    b"a = 1" + b"\n[b]" * 2,
    b"a = " + b"[" * 1000,
    b"a = " + b"[\n" * 20_000,
    b"a.b" + b".c" * 60_000 + b" = 1",
    b"a = " + b"9" * 5000,
    b"#\n" * (toml.MAX_TOML_BYTES // 2 + 1),
    b'a = "\xed\xa0\x80"',
)


def test_what_reads() -> None:
    assert toml.decode(b'a = "b"\r\n[c]\nd = 1\n', "x") == {"a": "b", "c": {"d": 1}}
    assert toml.decode(b"#\n" * (toml.MAX_TOML_BYTES // 2), "x") == {}


@pytest.mark.parametrize("data", WRONG, ids=lambda data: data[:12].decode("latin-1"))
def test_what_does_not(data: bytes, tmp_path: Path) -> None:
    try:
        found = toml.decode(data, "the file")
    except EvidenceError as error:
        assert str(error).startswith("the file ")
        assert len(str(error)) < 300
    else:
        assert list(found) == ["a"], "a table that log.toml has no use for"
    (tmp_path / "log.toml").write_bytes(data)
    with pytest.raises(SetupError):
        LedgerConfig.read(tmp_path)
