"""log.toml and key files: what is misspelt is refused by name, what is private stays so."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plausible.ledger.config import LedgerConfig, WitnessConfig
from plausible.ledger.keys.keyfile import check_roles, read_key, write_key
from plausible.ledger.notes.note import ED25519, SignerKey
from plausible.schemas.errors import SetupError, UsageError

NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)


@settings(max_examples=40, deadline=None)
@given(NAMES, NAMES, st.sampled_from(["lazy", "strict"]), st.integers(1, 100_000), st.floats(0, 10_000), st.sets(NAMES))
def test_a_config_survives_its_text(
    author: str, origin: str, sync: str, entries: int, wait: float, witnesses: set[str]
) -> None:
    rows = tuple(WitnessConfig(name, f"keys/{name}", f"witnesses/{name}") for name in sorted(witnesses))
    keys = tuple(f"keys/{name}" for name in sorted(witnesses)) or ("keys/log.key",)
    config = LedgerConfig(author, origin, sync, "journal", entries, wait, rows, keys, author if witnesses else "")
    assert LedgerConfig.parse(config.to_toml()) == config


GOOD = LedgerConfig("a", "a/log").to_toml()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("version = 1", "version = 2", "newer"),
        ("version = 1", "", "version"),
        ('sync = "lazy"', 'sync = "never"', "lazy"),
        ('sync = "lazy"', 'snyc = "lazy"', "snyc"),
        ("entries = 1000", "entries = 0", "entries"),
        ("wait_ms = 50.0", "wait_ms = true", "wait_ms"),
        ('author = "a"', "author = 3", "author"),
        ("[batch]", "[[witness]]\nname = 'x'\n[batch]", "key"),
        ("[batch]", "[batch", "TOML"),
    ],
)
def test_mistakes_are_named(old: str, new: str, message: str) -> None:
    assert old in GOOD
    with pytest.raises(SetupError, match=message):
        LedgerConfig.parse(GOOD.replace(old, new))


@given(st.text(max_size=200))
def test_arbitrary_text_raises_nothing_else(text: str) -> None:
    with pytest.raises(SetupError):
        LedgerConfig.parse(text)


def test_a_key_file_is_private_and_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "author.key"
    key = SignerKey.generate("a.example/x", ED25519)
    write_key(path, key)
    assert read_key(path) == key and path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(UsageError, match="never replaced"):
        write_key(path, SignerKey.generate("a.example/x", ED25519))
    assert read_key(path) == key
    assert [p.name for p in path.parent.iterdir()] == ["author.key"], "no temporary file stays behind"


@pytest.mark.parametrize("content", [b"", b"PRIVATE+KEY+a+00000000+AAAA", b"\xff\xfe", b"x" * 100])
def test_a_malformed_key_file_is_named_without_its_content(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "log.key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(SetupError, match=r"log\.key"):
        read_key(path)


def test_roles_do_not_share_keys() -> None:
    check_roles([("author", b"a"), ("log", b"b"), ("author", b"a")])
    with pytest.raises(SetupError, match="author and as log"):
        check_roles([("author", b"a"), ("log", b"a")])
