"""A log whose witnesses are other processes: some down, some slow, some lying, and a restored backup."""

from __future__ import annotations

import contextlib
import logging
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from plausible.ledger import Ledger
from plausible.ledger.merkle.tree import MemoryTree, hash_leaf
from plausible.ledger.notes.checkpoint import Checkpoint
from plausible.ledger.notes.note import COSIGNATURE_ED25519, ED25519, SignerKey
from plausible.ledger.witness import Cosigned, OutOfStep, Refused
from plausible.ledger.witness.remote import MAX_ANSWER_BYTES, RemoteWitness
from plausible.node.witness.directory import make, open_witness
from plausible.schemas.errors import PeerError, PlausibleError, UsageError

from tests.ledger.studio import AUTHOR, manifest
from tests.node.log_process import ANNA, MadeChain, make_log, policy_of, running

LOG = SignerKey("log.example/a", ED25519, bytes(range(1, 33)))
TREE = MemoryTree(hash_leaf(b"%d" % i) for i in range(20))


def note(size: int) -> bytes:
    return Checkpoint(LOG.name, size, TREE.root(size)).sign(LOG).encode()


class Node:
    """`pd node witness` as a process that can be stopped and started again at the same port."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        make(folder, name, guard=folder.parent / f"{folder.name}.count")
        with open_witness(folder) as witness:
            self.vkey = witness.signers[0].verifier.encode()
        self.port = 0
        self.process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [sys.executable, "-m", "plausible.cli", "node", "witness", str(self.folder), "--port", str(self.port)]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        assert self.process.stderr is not None
        line = self.process.stderr.readline()
        assert " at http://" in line, line
        self.port = int(line.split(" at ")[1].split(";")[0].rsplit(":", 1)[1])

    def stop(self, how: int = signal.SIGTERM) -> None:
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(30)
            assert self.process.stderr is not None
            self.process.stderr.close()
            self.process = None

    def watch(self, vkey: str) -> None:
        subprocess.run(
            [sys.executable, "-m", "plausible.cli", "witness", "add", str(self.folder), vkey], check=True, timeout=60
        )


@contextlib.contextmanager
def nodes(folder: Path, count: int = 3) -> Generator[list[Node]]:
    made = [Node(folder / f"w{n}", f"w{n}.example/witness") for n in range(count)]
    try:
        for node in made:
            node.start()
        yield made
    finally:
        for node in made:
            node.stop()


def policy(members: Sequence[tuple[str, str]], quorum: int) -> str:
    """Witness, group and quorum lines for (vkey, url) pairs."""
    lines = [f"witness w{n} {vkey} {url}" for n, (vkey, url) in enumerate(members)]
    names = " ".join(f"w{n}" for n in range(len(members)))
    return "\n".join([*lines, f"group all {quorum} {names}", "quorum all"]) + "\n"


def log_key(ledger: Ledger) -> str:
    return ledger.policy.logs[0].key.encode()


def until(condition: Callable[[], bool], seconds: float = 40.0) -> None:
    """Wait for something that other processes bring about."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.02)


def test_two_of_three_are_enough_and_fewer_lose_nothing(tmp_path: Path) -> None:
    with nodes(tmp_path) as (a, b, c):
        lines = policy([(n.vkey, n.url) for n in (a, b, c)], 2)
        with Ledger.init(tmp_path / "log", author=AUTHOR, policy=lines) as ledger:
            for node in (a, b, c):
                node.watch(log_key(ledger))
            first = ledger.register_model("first", manifest=manifest(4))
            assert first.wait("witnessed", 40) and first.state == "witnessed"
            assert len(ledger.checkpoint().cosigners) >= 2

            c.stop()  # one of three down: entries still become witnessed
            second = ledger.register_model("second", manifest=manifest(5))
            assert second.wait("witnessed", 40)

            b.stop(signal.SIGKILL)  # two down: they stay sequenced, and nothing is lost
            third = ledger.register_model("third", manifest=manifest(6))
            assert third.wait("sequenced", 40)
            time.sleep(1.5)
            assert third.state == "sequenced" and ledger.checkpoint().size == 2

            c.start()  # one comes back: it catches up from where it was
            until(lambda: third.state == "witnessed")
            assert ledger.checkpoint().size == 3
        with open_witness(c.folder) as witness:
            assert witness.logs()[0].size == 3
        with open_witness(b.folder) as witness:
            assert witness.logs()[0].size == 2


def test_a_witness_that_was_away_cosigns_without_a_new_entry(tmp_path: Path) -> None:
    """A log service with one of two witnesses: the other comes back later, and the served head gains its signature."""
    with nodes(tmp_path, 2) as (a, b):
        folder = make_log(tmp_path / "log", policy=policy([(n.vkey, n.url) for n in (a, b)], 1))
        rules = policy_of(folder)
        for node in (a, b):
            node.watch(rules.logs[0].key.encode())
        served = folder / "public" / "checkpoint"
        with running(folder) as (at, _):
            b.stop()
            answer = httpx.post(f"{at}/entry?wait=witnessed", content=MadeChain(ANNA).make(), timeout=40)
            assert answer.status_code == 200, answer.text
            first = served.read_bytes()
            assert [c.name for c in rules.check(first).cosigners] == ["w0"]
            b.start()
            until(lambda: len(rules.check(served.read_bytes()).cosigners) == 2, 90)
            assert httpx.get(f"{at}/checkpoint").content == served.read_bytes()
            assert (folder / "public" / "checkpoints" / "1").read_bytes() == first
        with open_witness(b.folder) as witness:
            assert witness.logs()[0].size == 1


def test_a_witness_that_hangs_costs_no_time(tmp_path: Path) -> None:
    """One of three takes connections and never answers: the others are the quorum, entry after entry."""
    with nodes(tmp_path, 2) as (a, b), socket.create_server(("127.0.0.1", 0)) as hole:
        dead = SignerKey.generate("dead.example/witness", COSIGNATURE_ED25519).verifier.encode()
        members = [(a.vkey, a.url), (b.vkey, b.url), (dead, f"http://127.0.0.1:{hole.getsockname()[1]}")]
        with Ledger.init(tmp_path / "log", author=AUTHOR, policy=policy(members, 2)) as ledger:
            for node in (a, b):
                node.watch(log_key(ledger))
            for number in range(3):
                receipt = ledger.register_model(f"m{number}", manifest=manifest(number + 1))
                assert receipt.wait("witnessed", 40)


def test_a_restored_ledger_does_not_sign_what_its_witnesses_have_seen_further(tmp_path: Path) -> None:
    with nodes(tmp_path) as (a, b, c):
        lines = policy([(n.vkey, n.url) for n in (a, b, c)], 2)
        with Ledger.init(tmp_path / "log", author=AUTHOR, policy=lines) as ledger:
            for node in (a, b, c):
                node.watch(log_key(ledger))
            assert ledger.register_model("one", manifest=manifest(1)).wait("witnessed", 40)
        shutil.copytree(tmp_path / "log", tmp_path / "copy")
        with Ledger.open(tmp_path / "log") as ledger:
            assert ledger.register_model("two", manifest=manifest(2)).wait("witnessed", 40)
        with pytest.warns(RuntimeWarning, match="restored from a backup"):
            ledger = Ledger.open(tmp_path / "copy")
        assert ledger.checkpoint().size == 1
        ledger.close()
        # with too few witnesses to know it accepts, and signs nothing
        shutil.rmtree(tmp_path / "copy")
        shutil.copytree(tmp_path / "log", tmp_path / "copy")
        for node in (a, b):
            node.stop()
        with Ledger.open(tmp_path / "copy") as ledger:
            receipt = ledger.register_model("three", manifest=manifest(3))
            assert receipt.wait("accepted", 40)
            time.sleep(1.5)
            assert receipt.state == "accepted"
            for node in (a, b):
                node.start()
            until(lambda: receipt.state == "witnessed")


# --- witnesses that are not what they should be ---


@contextlib.contextmanager
def answering(status: int, body: bytes, content_type: str = "text/plain") -> Generator[str]:
    """A server that gives everybody this answer."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(body)

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


SIGNER = SignerKey.generate("w.example/witness", COSIGNATURE_ED25519)


def ask(url: str, size: int = 5) -> object:
    witness = RemoteWitness(SIGNER.name, [SIGNER.verifier], url)
    try:
        return witness.add_checkpoint(0, [], note(size))
    finally:
        witness.close()


def cosignature(size: int, signer: SignerKey = SIGNER) -> bytes:
    return signer.sign(Checkpoint(LOG.name, size, TREE.root(size)).text, 1_700_000_000).line.encode()


def test_the_answers_of_the_protocol() -> None:
    with answering(200, cosignature(5)) as url:
        answer = ask(url + "/")
        assert isinstance(answer, Cosigned) and answer.checkpoint.size == 5 and len(answer.signatures) == 1
    stranger = SignerKey.generate("x.example/witness", COSIGNATURE_ED25519)
    with answering(200, cosignature(5, stranger) + cosignature(5)) as url:
        answer = ask(url)
        assert isinstance(answer, Cosigned) and [s.name for s in answer.signatures] == [SIGNER.name]
    with answering(409, b"17\n", "text/x.tlog.size") as url:
        assert ask(url) == OutOfStep(17)
    for status in (400, 403, 404, 422):
        with answering(status, b"no \xff\x1b[31m and why\nmore") as url:
            answer = ask(url)
            assert isinstance(answer, Refused) and answer.status == status
            assert answer.reason.isprintable() and "\n" not in answer.reason


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (200, b"", "text/plain"),
        (200, b"hello\n", "text/plain"),
        (200, cosignature(6), "text/plain"),
        (200, cosignature(5)[:-1], "text/plain"),
        (200, cosignature(5, SignerKey.generate(SIGNER.name, COSIGNATURE_ED25519)), "text/plain"),
        (200, b"\xff\n", "text/plain"),
        (200, b"x" * (MAX_ANSWER_BYTES + 1), "text/plain"),
        (409, b"", "text/plain"),
        (409, b"17\n", "text/plain"),
        (409, b"017\n", "text/x.tlog.size"),
        (429, b"", "text/plain"),
        (500, b"", "text/plain"),
        (301, b"", "text/plain"),
        (204, b"", "text/plain"),
    ],
)
def test_an_answer_that_is_none_is_the_peers_fault(status: int, body: bytes, kind: str) -> None:
    with answering(status, body, kind) as url, pytest.raises(PeerError):
        ask(url)


def test_a_witness_that_is_not_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(PeerError, match="cannot be reached"):
        ask(f"http://127.0.0.1:{port}")
    for url in ("", "ftp://w.example", "http://", "http://w.example/?a=b", "not a url"):
        with pytest.raises(UsageError):
            RemoteWitness(SIGNER.name, [SIGNER.verifier], url)


def test_one_lying_witness_does_not_spoil_the_note_of_the_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with nodes(tmp_path, 2) as (a, b), answering(200, cosignature(1)) as liar:
        members = [(a.vkey, a.url), (b.vkey, b.url), (SIGNER.verifier.encode(), liar)]
        with (
            caplog.at_level(logging.WARNING, "plausible.ledger"),
            Ledger.init(tmp_path / "log", author=AUTHOR, policy=policy(members, 2)) as ledger,
        ):
            for node in (a, b):
                node.watch(log_key(ledger))
            receipt = ledger.register_model("m", manifest=manifest())
            assert receipt.wait("witnessed", 40)
            assert {c.key.name for c in ledger.checkpoint().cosigners} == {"w0.example/witness", "w1.example/witness"}
    assert "no cosignature of its own" in caplog.text


def test_refusals_are_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A witness that does not watch the log: entries wait, the reason is in the log and in what waiting raises."""
    with nodes(tmp_path, 1) as (a,):
        lines = policy([(a.vkey, a.url)], 1)
        with (
            caplog.at_level(logging.WARNING, "plausible.ledger"),
            Ledger.init(tmp_path / "log", author=AUTHOR, policy=lines) as ledger,
        ):
            receipt = ledger.register_model("m", manifest=manifest())
            with pytest.raises(PlausibleError, match="unknown log"):
                receipt.wait("witnessed", 3)
            a.watch(log_key(ledger))
            until(lambda: receipt.state == "witnessed")
    assert caplog.text.count("unknown log") == 1


def test_a_ledger_with_witnesses_elsewhere_is_made_by_command(tmp_path: Path) -> None:
    def pd(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "plausible.cli", *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    with nodes(tmp_path, 1) as (a,):
        (tmp_path / "witnesses.txt").write_text(policy([(a.vkey, a.url)], 1))
        made = ("init", str(tmp_path / "log"), "--author", AUTHOR, "--policy", str(tmp_path / "witnesses.txt"))
        assert pd(*made, "--witness", "x.example").returncode == 2
        done = pd(*made)
        assert done.returncode == 0, done.stderr
        key = done.stdout.split("log key   ")[1].split()[0]
        assert a.folder.name in done.stdout
        a.watch(key)
        with Ledger.open(tmp_path / "log") as ledger:
            assert ledger.register_model("m", manifest=manifest()).wait("witnessed", 40)
