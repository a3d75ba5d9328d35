"""A log service as a process of its own, with authors to write to it."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
from collections.abc import Generator, Sequence
from pathlib import Path

from plausible.ledger.notes.note import ED25519, SignerKey
from plausible.ledger.notes.policy import Policy
from plausible.node.conformance.chain import MadeChain
from plausible.node.log.directory import make

ORIGIN = "log.example/shared"
ANNA = SignerKey("anna.example/studio", ED25519, bytes(range(1, 33)))
BERT = SignerKey("bert.example/studio", ED25519, bytes(range(2, 34)))
STRANGER = SignerKey("stranger.example", ED25519, bytes(range(3, 35)))


def make_log(folder: Path, *, authors: Sequence[SignerKey] = (ANNA, BERT), policy: str | None = None) -> Path:
    make(folder, ORIGIN, authors=[author.verifier for author in authors], policy=policy)
    return folder


def policy_of(folder: Path) -> Policy:
    return Policy.parse((folder / "policy.txt").read_bytes())


def bundle(leaves: Sequence[bytes]) -> bytes:
    return b"".join(len(leaf).to_bytes(2, "big") + leaf for leaf in leaves)


@contextlib.contextmanager
def running(folder: Path, *, port: int = 0) -> Generator[tuple[str, subprocess.Popen[str]]]:
    """`pd node log` as a process; its address and the process. Ended by SIGTERM if it still runs."""
    command = [sys.executable, "-m", "plausible.cli", "node", "log", str(folder), "--port", str(port)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            told = ""
            while " at http://" not in (line := process.stderr.readline()):
                told += line
                assert line, told
            yield line.split(" at ")[1].split(";")[0], process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            process.wait(60)


__all__ = ["ANNA", "BERT", "ORIGIN", "STRANGER", "MadeChain", "bundle", "make_log", "policy_of", "running"]
