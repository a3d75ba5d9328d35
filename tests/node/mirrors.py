"""What the tests of mirrors share: a log in a folder that grows, and `pd node mirror` as a process."""

from __future__ import annotations

import contextlib
import hashlib
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from pathlib import Path

import httpx
from plausible.ledger.entries.entry import sign_entry
from plausible.ledger.log import Log
from plausible.ledger.notes.checkpoint import Checkpoint
from plausible.ledger.notes.mirror_body import origin_hash
from plausible.ledger.notes.note import ED25519, Note, SignerKey
from plausible.schemas.statement import NO_PREVIOUS, GenerationStatement, Header
from plausible.schemas.text import digest_text

LOG = SignerKey("log.example/a", ED25519, bytes(range(1, 33)))
NAME = "mirror.example/m"
HASH = origin_hash(LOG.name)


class Grower:
    """A log in a folder, as any static server would have it."""

    def __init__(self, folder: Path, key: SignerKey = LOG) -> None:
        self.folder, self.public = folder, folder / "public"
        self._key = key
        Log.create(folder, key).close()

    def grow(self, count: int, what: str = "entry") -> int:
        """Append entries and publish the head; the new size."""
        with Log.open(self.folder, self._key) as log:
            size = log.size
        return self.add([f"{what} {size + n}".encode() * 3 for n in range(count)])

    def add(self, leaves: list[bytes]) -> int:
        """Append these leaves and publish the head; the new size."""
        with Log.open(self.folder, self._key) as log:
            head = log.append(leaves)
            log.publish()
            log.sync()
            log.public.write_checkpoint(head.size, head.note)
            return head.size

    def checkpoint(self) -> Checkpoint:
        """The head that is served."""
        return Checkpoint.parse(Note.parse((self.public / "checkpoint").read_bytes()).text)


def entry(author: SignerKey, seq: int) -> bytes:
    """A generation's leaf."""
    header = Header(
        author=author.verifier.encode(),
        chain="00" * 16,
        prev=NO_PREVIOUS if seq == 0 else digest_text(bytes(32 * [1])),
        seq=seq,
        time="2026-01-01T00:00:00.000000Z",
    )
    digest = hashlib.sha256(b"%d" % seq).digest()
    statement = GenerationStatement.make(header, commitment=digest, draw=seq, model=bytes(32), pixels=digest, file=None)
    return sign_entry(statement, author)


@contextlib.contextmanager
def running(folder: Path, *more: str) -> Generator[tuple[str, subprocess.Popen[str]]]:
    """`pd node mirror` as a process of its own; its address and the process."""
    words = ["node", "mirror", str(folder), "--port", "0", "--poll", "0.1", *more]
    with subprocess.Popen(
        [sys.executable, "-m", "plausible.cli", *words], stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            assert " at http://" in line, line + process.stderr.read()
            yield line.split(" at ")[1].split(";")[0], process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            process.wait(30)


def until(condition: Callable[[], bool], seconds: float = 40.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.02)


def size_at(client: httpx.Client) -> int:
    """The size under the served head; 0 before the first."""
    answer = client.get(f"/{HASH}/checkpoint")
    return Checkpoint.parse(Note.parse(answer.content).text).size if answer.status_code == 200 else 0
