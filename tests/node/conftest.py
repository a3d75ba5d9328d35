"""The files of a small log, with private ones around them, and a running server over them."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

Serve = Callable[[Path], AbstractContextManager[str]]
SECRET = b"nobody may read this"


def make_public(root: Path) -> Path:
    """A ledger folder with private files around `public/`; returns the ledger."""
    ledger = root / "studio.ledger"
    for name, data in {
        "vault.db": SECRET,
        "keys/log.key": SECRET,
        "public/checkpoint": b"models.example/studio/log\n",
        "public/checkpoint.pending": b"models.example/studio/log\n",
        "public/checkpoints/300": b"models.example/studio/log\n",
        "public/tile/0/000": bytes(8192),
        "public/tile/0/001.p/44": bytes(32 * 44),
        "public/tile/entries/000": b"\x00\x05entry",
        "public/.temporary": SECRET,
        "public/notes.txt": SECRET,
    }.items():
        path = ledger / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    (ledger / "public" / "tile" / "0" / "002").symlink_to(ledger / "vault.db")
    return ledger


@pytest.fixture(scope="session")
def public_ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ledger folder that `served` serves."""
    return make_public(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="session")
def served(public_ledger: Path, serve: Serve) -> Generator[str]:
    """The address of a running server."""
    with serve(public_ledger) as address:
        yield address
