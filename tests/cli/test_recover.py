"""`pd recover`: the way on that a held ledger names."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from plausible.ledger import Ledger

from tests.ledger.studio import make, picture


@pytest.fixture
def restored(tmp_path: Path) -> Path:
    """A ledger whose state.db is older than its public/."""
    path = tmp_path / "a.ledger"
    make(path).close()
    shutil.copy(path / "state.db", tmp_path / "old")
    with Ledger.open(path) as ledger:
        ledger.append(image=picture(1), model="m")
    shutil.copy(tmp_path / "old", path / "state.db")
    return path


def test_it_goes_on_from_the_ledgers_own_public_folder(pd: Callable[..., Any], restored: Path) -> None:
    result = pd("recover", restored, "--json")
    assert result.code == 0, result.err
    document = result.document()
    assert (document["old_size"], document["size"], document["without_record"]) == (1, 2, 0)
    with Ledger.open(restored) as ledger:
        assert ledger.append(image=picture(2), model="m").wait("witnessed", 30).index == 2


def test_it_takes_a_copy_and_says_what_it_took(pd: Callable[..., Any], restored: Path, tmp_path: Path) -> None:
    shutil.copytree(restored / "public", tmp_path / "mirror")
    result = pd("recover", restored, "--from", tmp_path / "mirror")
    assert result.code == 0 and "size 1 to 2" in result.out
    again = pd("recover", restored, "--from", tmp_path / "mirror")
    assert again.code == 4 and "nothing to take" in again.sentence()


def test_an_encrypted_ledger_goes_on_with_its_key(
    pd: Callable[..., Any], restored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert pd("vault", "encrypt", "--ledger", restored, "--vault-key", "k").code == 0
    refused = pd("recover", restored)
    assert refused.code == 4 and "no key was given" in refused.sentence()
    monkeypatch.setenv("PD_VAULT_KEY", "k")
    assert pd("recover", restored).code == 0
    with Ledger.open(restored) as ledger:
        assert ledger.append(image=picture(2), model="m").wait("witnessed", 30).index == 2
