"""The conformance cases: our witness passes them all, and each fault of another one fails the case that is about it."""

from __future__ import annotations

import contextlib
import hashlib
import subprocess
import sys
import threading
from collections.abc import Callable, Generator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from plausible.ledger.keys.keyfile import write_key
from plausible.ledger.notes.checkpoint import Checkpoint
from plausible.ledger.notes.cosignature import cosign
from plausible.ledger.notes.note import COSIGNATURE_ED25519, Note, SignerKey, VerifierKey
from plausible.ledger.witness import OutOfStep, Witness, parse_add_checkpoint_request
from plausible.node.conformance.witness import WitnessCases
from plausible.schemas.errors import PeerError, UsageError

from tests.node.test_cosigning import nodes

LOG = SignerKey.generate("conformance.example/log")
SIGNER = SignerKey.generate("w.example/witness", COSIGNATURE_ED25519)

Answer = tuple[int, str, bytes]
Fault = Callable[[bytes, Answer], Answer]


@contextlib.contextmanager
def serving(witness: Witness, fault: Fault = lambda _body, answer: answer) -> Generator[str]:
    """A server over the real witness whose answers a fault may bend."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            outcome = witness.handle(body)
            self._send(fault(body, (outcome.status, outcome.content_type, outcome.body)))

        def do_GET(self) -> None:
            found = witness.checkpoint(LOG.name)
            mine = self.path == f"/{hashlib.sha256(LOG.name.encode()).hexdigest()}/checkpoint"
            self._send((200, "text/plain", found) if found is not None and mine else (404, "text/plain", b""))

        def _send(self, answer: Answer) -> None:
            self.send_response(answer[0])
            self.send_header("Content-Type", answer[1])
            self.send_header("Content-Length", str(len(answer[2])))
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(answer[2])

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def states(url: str) -> dict[str, str]:
    cases = WitnessCases(url, LOG, [SIGNER.verifier])
    try:
        return {result.name: result.state for result in cases.run()}
    finally:
        cases.close()


@pytest.fixture
def witness(tmp_path: Path) -> Generator[Witness]:
    with Witness.create(SIGNER.name, SIGNER, tmp_path / "w.db") as made:
        made.add_log(LOG.name, [LOG.verifier])
        yield made


def test_a_right_witness_passes_everything_again_and_again(witness: Witness) -> None:
    with serving(witness) as url:
        for _ in range(2):
            found = states(url)
            assert set(found.values()) == {"passed"}, found


def test_our_own_service_passes(tmp_path: Path) -> None:
    with nodes(tmp_path, 1) as (node,):
        node.watch(LOG.verifier.encode())
        cases = WitnessCases(node.url, LOG, [VerifierKey.parse(node.vkey)])
        found = {result.name: result.state for result in cases.run()}
        cases.close()
        assert set(found.values()) == {"passed"}, found


def everything(body: bytes, answer: Answer) -> Answer:
    """Cosigns whatever parses."""
    try:
        note = Note.parse(parse_add_checkpoint_request(body).note)
        signed = cosign(Checkpoint.parse(note.text), SIGNER, 1_700_000_000)
    except Exception:  # noqa: BLE001
        return answer
    return 200, "text/plain", signed.line.encode()


FAULTS: list[tuple[str, Fault, set[str]]] = [
    (
        "409 as plain text",
        lambda _b, a: (a[0], "text/plain", a[2]) if a[0] == 409 else a,
        {"an old size that is not its own: 409 and its size", "two requests at once: one is cosigned"},
    ),
    (
        "409 without a newline",
        lambda _b, a: (a[0], a[1], a[2].strip()) if a[1] == OutOfStep(1).content_type else a,
        {"an old size that is not its own: 409 and its size", "two requests at once: one is cosigned"},
    ),
    (
        "another root of one size is out of step",
        lambda _b, a: (409, "text/plain", b"") if a[0] == 422 else a,
        {
            "the same size and another root: 422",
            "a missing consistency proof: 422",
            "a wrong consistency proof: 422",
        },
    ),
    ("an unknown log is forbidden", lambda _b, a: (403, *a[1:]) if a[0] == 404 else a, {"an unknown log: 404"}),
    (
        "a false signature is malformed",
        lambda _b, a: (400, *a[1:]) if a[0] == 403 else a,
        {
            "a false signature of the log: 403",
            "no signature of the log: 403",
            "the signature is checked before the old size",
        },
    ),
    (
        "malformed is a bug",
        lambda _b, a: (500, *a[1:]) if a[0] == 400 else a,
        {
            "an old size above the checkpoint's: 400",
            "more than 63 proof lines: 400",
            "malformed requests: 400",
            "a large body is refused",
        },
    ),
]


@pytest.mark.parametrize(("fault", "wanted"), [(f, w) for _, f, w in FAULTS], ids=[name for name, _, _ in FAULTS])
def test_each_fault_fails_the_case_about_it(witness: Witness, fault: Fault, wanted: set[str]) -> None:
    with serving(witness, fault) as url:
        found = states(url)
    assert {name for name, state in found.items() if state == "failed"} == wanted


def test_one_that_cosigns_everything_fails_nearly_everything(witness: Witness) -> None:
    with serving(witness, everything) as url:
        found = states(url)
    assert found["a wrong consistency proof: 422"] == "failed"
    assert found["the same size and another root: 422"] == "failed"
    # its cosignatures are of 2023
    assert found["it says its size, or cosigns the first checkpoint"] == "failed"


def test_what_cannot_be_judged_is_said_and_no_success(tmp_path: Path, witness: Witness) -> None:
    with pytest.raises(PeerError):
        states("http://127.0.0.1:9")
    witness.remove_log(LOG.name)
    with serving(witness) as url, pytest.raises(UsageError, match="does not watch"):
        states(url)
    with pytest.raises(UsageError, match="Ed25519"):
        WitnessCases("http://127.0.0.1:9", SIGNER, [])


def test_it_is_a_command(tmp_path: Path, witness: Witness) -> None:
    write_key(tmp_path / "test.key", LOG)

    def pd(url: str, *more: str) -> subprocess.CompletedProcess[str]:
        words = ["conformance", "witness", url, "--log-key", str(tmp_path / "test.key")]
        command = [sys.executable, "-m", "plausible.cli", *words, "--witness", SIGNER.verifier.encode(), *more]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    with serving(witness) as url:
        done = pd(url)
        assert done.returncode == 0, done.stderr
        assert "19 cases: 19 passed, 0 failed, 0 skipped" in done.stderr
    with serving(witness, FAULTS[3][1]) as url:
        done = pd(url, "--json")
        assert done.returncode == 1
        assert '"state": "failed"' in done.stdout or '"state":"failed"' in done.stdout
    assert pd("http://127.0.0.1:9").returncode == 4
