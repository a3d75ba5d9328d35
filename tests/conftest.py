"""What all rooms' tests share: where the known-answer files lie, and a log served on the loopback interface."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# Properties are about results; how long an example takes on a busy machine is not one of them.
settings.register_profile("plausible", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("plausible")

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("PLAUSIBLE_SHARED", ROOT.parent / "shared"))


def known_answers(name: str) -> Any:
    """The known-answer file `vectors/NAME`, parsed; skips the test, saying so, where the folder is absent."""
    path = SHARED / "vectors" / name
    if not path.is_file():
        pytest.skip(f"known answers {path} are absent; set PLAUSIBLE_SHARED to the folder that holds vectors/")
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def vectors() -> Any:
    """`vectors("signed_note.json")` reads one known-answer file or skips the test."""
    return known_answers


@contextlib.contextmanager
def serving(folder: Path) -> Generator[str]:
    """`http://127.0.0.1:PORT` of a uvicorn that serves `folder` until the block ends."""
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
def serve() -> Callable[[Path], contextlib.AbstractContextManager[str]]:
    """`with serve(folder) as address:` a real uvicorn over a ledger's public files."""
    return serving
