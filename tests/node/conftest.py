"""A real server on the loopback interface, in a thread, over a folder with the files of a small log."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path

import pytest

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


@contextlib.contextmanager
def serving(folder: Path) -> Generator[str]:
    """`http://127.0.0.1:PORT` of a uvicorn that serves `folder` until the block ends."""
    import socket

    import uvicorn
    from plausible.node.server import create_app

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(create_app(folder), log_level="error", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        end = time.monotonic() + 20
        while not server.started and time.monotonic() < end:
            time.sleep(0.01)
        assert server.started
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(20)


@pytest.fixture(scope="session")
def public_ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ledger folder that `served` serves."""
    return make_public(tmp_path_factory.mktemp("served"))


@pytest.fixture(scope="session")
def served(public_ledger: Path) -> Generator[str]:
    """The address of a running server."""
    with serving(public_ledger) as address:
        yield address


@pytest.fixture(scope="session")
def serve() -> Callable[[Path], contextlib.AbstractContextManager[str]]:
    """`with serve(folder) as address:` for a test with a folder of its own."""
    return serving
