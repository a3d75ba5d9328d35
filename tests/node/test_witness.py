"""The witness as a service: real processes on loopback, published exchange, races, crashes, slow and large clients."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from plausible.ledger.merkle.tree import MemoryTree, hash_leaf, verify_consistency
from plausible.ledger.notes.checkpoint import Checkpoint
from plausible.ledger.notes.note import ED25519, Note, SignerKey, VerifierKey
from plausible.ledger.witness import AddCheckpointRequest, Witness
from plausible.node.witness.committer import Committer
from plausible.node.witness.directory import STATE, make, open_witness, read_config
from plausible.node.witness.loglist import add_new, parse_list
from plausible.schemas.errors import EvidenceError, SetupError, UsageError

NAME = "witness.example/w"
LOG = SignerKey("log.example/a", ED25519, bytes(range(1, 33)))
TREE = MemoryTree(hash_leaf(b"%d" % i) for i in range(200))
FORK = MemoryTree(hash_leaf(b"fork %d" % i) for i in range(200))


def note(size: int, of: MemoryTree = TREE, signer: SignerKey = LOG) -> bytes:
    return Checkpoint(signer.name, size, of.root(size)).sign(signer).encode()


def body(old: int, new: int, of: MemoryTree = TREE, signer: SignerKey = LOG) -> bytes:
    proof = of.consistency(old, new) if 0 < old < new else []
    return AddCheckpointRequest(old, tuple(proof), note(new, of, signer)).encode()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A witness that watches LOG."""
    made = tmp_path / "notary"
    make(made, NAME, guard=tmp_path / "elsewhere" / "notary.count")
    with open_witness(made) as witness:
        witness.add_log(LOG.name, [LOG.verifier])
    return made


@contextlib.contextmanager
def running(folder: Path, *, wait: bool = True) -> Generator[tuple[str, subprocess.Popen[str]]]:
    """`pd node witness` as a process of its own; its address and the process."""
    command = [sys.executable, "-m", "plausible.cli", "node", "witness", str(folder), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            assert " at http://" in line, line + process.stderr.read()
            yield line.split(" at ")[1].split(";")[0], process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            if wait:
                process.wait(30)


@pytest.fixture
def address(folder: Path) -> Iterator[str]:
    with running(folder) as (at, _):
        yield at


def test_the_published_exchange_over_http(vectors: Any, tmp_path: Path) -> None:
    """Every step of the vectors with its status and body, and the body's content type."""
    known = vectors("witness_add_checkpoint.json")
    made = tmp_path / "w"
    make(made, known["witness_name"], guard=tmp_path / "w.count")
    with open_witness(made) as witness:
        witness.add_log(known["log_origin"], [VerifierKey.parse(known["log_vkey"])])
        mine = witness.signers[0].verifier
    with running(made) as (at, _), httpx.Client(base_url=at) as client:
        for step in known["exchange"]:
            request = step["request_body"].encode()
            answer = client.post("/add-checkpoint", content=request)
            assert answer.status_code == step["status"], step["name"]
            kind = "text/x.tlog.size" if step["status"] == 409 else "text/plain; charset=utf-8"
            assert answer.headers["content-type"] == kind
            if step["status"] == 409:
                assert answer.text == step["body_contains"]
            assert step["body_contains"] in answer.text
            if step["status"] == 200:
                cosigned = Note.parse(request.partition(b"\n\n")[2] + answer.content)
                (verified,) = cosigned.verify([mine])
                assert verified.time
        digest = hashlib.sha256(known["log_origin"].encode()).hexdigest()
        kept = client.get(f"/{digest}/checkpoint")
        assert kept.status_code == 200
        assert Note.parse(kept.content).verify([mine]) and "\n5\n" in kept.text


def test_other_paths_and_methods(address: str) -> None:
    with httpx.Client(base_url=address) as client:
        assert client.get("/healthz").text == "alive\n"
        assert client.get("/readyz").status_code == 200
        assert client.get("/add-checkpoint").status_code == 405
        assert client.get(f"/{hashlib.sha256(LOG.name.encode()).hexdigest()}/checkpoint").status_code == 404
        assert client.get(f"/{'0' * 64}/checkpoint").status_code == 404
        assert client.get("/keys/witness.key").status_code == 404
        assert client.post("/sign-subtree", content=b"subtree 0 1\n").status_code == 404  # it has no ML-DSA-44 key
        assert client.post("/add-checkpoint", content=b"\xff" * 50).status_code == 400


def test_a_log_added_while_it_runs_is_watched_at_once(folder: Path, address: str) -> None:
    other = SignerKey("log.example/b", ED25519, bytes(range(2, 34)))
    with httpx.Client(base_url=address) as client:
        assert client.post("/add-checkpoint", content=body(0, 3, signer=other)).status_code == 404
        with open_witness(folder) as witness:
            witness.add_log(other.name, [other.verifier])
        assert client.post("/add-checkpoint", content=body(0, 3, signer=other)).status_code == 200
        path = f"/{hashlib.sha256(other.name.encode()).hexdigest()}/checkpoint"
        assert client.get(path).status_code == 200


def test_racing_clients_and_processes_never_get_two_histories(folder: Path) -> None:
    """Two services over one state, clients with two histories of the log at once: what was cosigned is one history."""
    cosigned: list[tuple[int, bytes]] = []
    lock = threading.Lock()

    def climb(at: str, of: MemoryTree, seed: int) -> None:
        old = 0
        with httpx.Client(base_url=at, timeout=30) as client:
            for step in range(25):
                new = min(old + 1 + (seed + step) % 5, of.size)
                answer = client.post("/add-checkpoint", content=body(old, new, of))
                if answer.status_code == 200:
                    with lock:
                        cosigned.append((new, of.root(new)))
                    old = new
                elif answer.status_code == 409:
                    old = int(answer.text)
                else:
                    assert answer.status_code == 422  # the other history got there first

    with running(folder) as (a, _), running(folder) as (b, _), ThreadPoolExecutor(4) as pool:
        jobs = [
            pool.submit(climb, at, of, n) for n, (at, of) in enumerate([(a, TREE), (b, TREE), (a, FORK), (b, FORK)])
        ]
        for job in jobs:
            job.result()
    assert len(cosigned) > 10
    size = max(size for size, _ in cosigned)
    truth = next(tree for tree in (TREE, FORK) if (size, tree.root(size)) in cosigned)
    for old, root in cosigned:
        verify_consistency(old, root, size, truth.root(size), truth.consistency(old, size) if old < size else [])


def test_kills_never_let_it_forget_what_it_answered(folder: Path) -> None:
    """SIGKILL in the middle of requests, many times: what was answered with 200 is never contradicted or forgotten."""
    known = 0
    for round_ in range(4):
        with running(folder) as (at, process):
            answered: list[int] = []

            def climb(at: str = at, start: int = known, answered: list[int] = answered) -> None:
                old = start
                with httpx.Client(base_url=at, timeout=10) as client, contextlib.suppress(httpx.TransportError):
                    while old < TREE.size:
                        answer = client.post("/add-checkpoint", content=body(old, old + 1))
                        if answer.status_code == 409:
                            old = int(answer.text)
                        else:
                            assert answer.status_code == 200
                            old += 1
                            answered.append(old)

            client = threading.Thread(target=climb)
            client.start()
            while len(answered) < 3 + round_:
                time.sleep(0.001)
            process.kill()
            process.wait(30)
            client.join()
        with open_witness(folder) as witness:
            size = witness.logs()[0].size
        # the one in flight may have been recorded without its answer, never the other way round
        assert size - 1 <= max(answered) <= size
        known = size


def test_a_restored_backup_does_not_start(folder: Path, tmp_path: Path) -> None:
    with running(folder) as (at, _), httpx.Client(base_url=at) as client:
        assert client.post("/add-checkpoint", content=body(0, 5)).status_code == 200
    early = (folder / STATE).read_bytes()
    with running(folder) as (at, _), httpx.Client(base_url=at) as client:
        assert client.post("/add-checkpoint", content=body(5, 9)).status_code == 200
    for path in folder.glob(f"{STATE}*"):
        path.unlink()
    (folder / STATE).write_bytes(early)
    (folder / STATE).chmod(0o600)
    command = [sys.executable, "-m", "plausible.cli", "node", "witness", str(folder), "--port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 4
    assert "restored from a backup" in done.stderr and "Traceback" not in done.stderr


def test_sigterm_answers_what_it_took(folder: Path) -> None:
    with running(folder) as (at, process):
        target = urlsplit(at)
        data = body(0, 7)
        with socket.create_connection((str(target.hostname), target.port or 0), timeout=20) as open_socket:
            head = (
                f"POST /add-checkpoint HTTP/1.1\r\nHost: w\r\nContent-Length: {len(data)}\r\nConnection: close\r\n\r\n"
            )
            open_socket.sendall(head.encode() + data[:20])
            time.sleep(0.3)
            process.send_signal(signal.SIGTERM)
            time.sleep(0.3)
            open_socket.sendall(data[20:])
            answer = b"".join(iter(lambda: open_socket.recv(65536), b""))
        assert answer.startswith(b"HTTP/1.1 200"), answer[:200]
        assert process.wait(30) in (0, -signal.SIGTERM)
    with open_witness(folder) as witness:
        assert witness.logs()[0].size == 7


def test_large_and_slow_clients_are_cut_off(folder: Path) -> None:
    script = (
        "import sys\n"
        "from pathlib import Path\n"
        "from plausible.node.serving import run\n"
        "from plausible.node.witness.directory import open_witness\n"
        "from plausible.node.witness.service import create_app\n"
        "app = create_app(open_witness(Path(sys.argv[1])), body_seconds=0.5)\n"
        "run(app, host='127.0.0.1', port=0, head_seconds=0.5, ready=lambda at: print(at, flush=True))\n"
    )
    with subprocess.Popen([sys.executable, "-c", script, str(folder)], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            target = urlsplit(process.stdout.readline().strip())
            where = (str(target.hostname), target.port or 0)
            large = httpx.post(f"{target.geturl()}/add-checkpoint", content=b"x" * (128 * 1024 + 1))
            assert large.status_code == 413
            with socket.create_connection(where, timeout=20) as half_head:
                half_head.sendall(b"POST /add-checkpoint HTTP/1.1\r\nHost: w\r\n")
                assert half_head.recv(1000) == b""  # closed, without waiting for more
            with socket.create_connection(where, timeout=20) as half_body:
                half_body.sendall(b"POST /add-checkpoint HTTP/1.1\r\nHost: w\r\nContent-Length: 500\r\n\r\nold 0\n")
                assert half_body.recv(1000).startswith(b"HTTP/1.1 408")
            with socket.create_connection(where, timeout=20) as endless:
                endless.sendall(b"POST /add-checkpoint HTTP/1.1\r\nHost: w\r\nTransfer-Encoding: chunked\r\n\r\n")
                with contextlib.suppress(OSError):
                    for _ in range(80):
                        endless.sendall(b"1000\r\n" + b"x" * 4096 + b"\r\n")
                assert endless.recv(1000).startswith(b"HTTP/1.1 413")
            assert httpx.post(f"{target.geturl()}/add-checkpoint", content=body(0, 3)).status_code == 200
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


# --- the committer ---


def test_what_waits_shares_one_commit_and_the_queue_is_bounded(tmp_path: Path) -> None:
    entered, leave = threading.Event(), threading.Event()

    def clock() -> float:
        entered.set()
        assert leave.wait(20)
        return 1_700_000_000.0

    signer = SignerKey.generate(NAME, 0x04)
    logs = [SignerKey(f"log.example/{n}", ED25519, bytes([n + 1]) * 32) for n in range(9)]
    with Witness.create(NAME, signer, tmp_path / "w.db", clock=clock) as witness:
        witness.add_logs([(log.name, [log.verifier]) for log in logs])
        committer = Committer(witness, limit=8)
        first = committer.submit(body(0, 3, signer=logs[0]))
        assert entered.wait(20)
        rest = [committer.submit(body(0, 3, signer=log)) for log in logs[1:]]
        assert committer.submit(b"one too many") is None
        leave.set()
        answers = [future.result(20) for future in [first, *rest] if future is not None]
        assert [answer.status for answer in answers] == [200] * 9
        committer.close()
        assert committer.submit(b"late") is None
        assert (committer.batches, committer.answered) == (2, 9)


def test_a_state_that_fails_answers_everybody(tmp_path: Path) -> None:
    with Witness.create(NAME, SignerKey.generate(NAME, 0x04), tmp_path / "w.db") as witness:
        witness.add_log(LOG.name, [LOG.verifier])
        committer = Committer(witness)
        witness._state._db.execute("PRAGMA query_only = ON")
        failed = committer.submit(body(0, 3))
        assert failed is not None
        with pytest.raises(SetupError, match="witness state"):
            failed.result(20)
        witness._state._db.execute("PRAGMA query_only = OFF")
        good = committer.submit(body(0, 3))
        assert good is not None and good.result(20).status == 200
        committer.close()


# --- the folder ---


def test_a_folder_is_made_once_and_strictly_read(tmp_path: Path) -> None:
    made = tmp_path / "w"
    config = make(made, NAME, guard=tmp_path / "w.count")
    assert read_config(made) == config
    assert (made / "keys" / "witness.key").stat().st_mode & 0o777 == 0o600
    with pytest.raises(UsageError, match="holds something"):
        make(made, NAME, guard=tmp_path / "x.count")
    with pytest.raises(UsageError, match="no name"):
        make(tmp_path / "x", "two words", guard=None)
    text = (made / "witness.toml").read_text()
    for bad in ("", "version = 2\n" + text[12:], text + "port = 3\n", text.replace("keys = [", "keys = [1, "), "\x00"):
        (made / "witness.toml").write_text(bad)
        with pytest.raises(SetupError):
            open_witness(made).close()
    (made / "witness.toml").write_text(text)
    open_witness(made).close()
    (tmp_path / "w.count").unlink()
    with pytest.raises(SetupError, match="guard"):
        open_witness(made)


def test_the_default_guard_lies_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    config = make(tmp_path / "w", NAME, guard=None)
    assert config.guard is not None and config.guard.is_relative_to(tmp_path / "state")
    assert make(tmp_path / "v", NAME, guard=None, guarded=False).guard is None


# --- lists of logs ---

KEY = LOG.verifier.encode()
OTHER = SignerKey("log.example/b", ED25519, bytes(range(2, 34))).verifier.encode()
LIST = f"""# List: 10qps-4klogs
logs/v0

vkey {KEY}
origin none
qpd 86400
bastion none
contact somebody@log.example

vkey {OTHER}
origin another.example/log
""".encode()


def test_a_list_is_read(tmp_path: Path) -> None:
    listed = parse_list(LIST)
    assert [(log.origin, log.qpd, log.contact) for log in listed] == [
        ("log.example/a", 86400, "somebody@log.example"),
        ("another.example/log", None, ""),
    ]
    assert parse_list(b"logs/v0\n") == []
    mine = SignerKey("log.example/a", ED25519, bytes(range(9, 41)))
    with Witness.create(NAME, SignerKey.generate(NAME, 0x04), tmp_path / "w.db") as witness:
        witness.add_log("log.example/a", [mine.verifier])
        assert add_new(witness, listed) == (["another.example/log"], ["log.example/a"])
        # what was configured keeps its key: a list is no configuration
        assert {log.origin: log.keys for log in witness.logs()}["log.example/a"] == (mine.verifier,)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"logs/v1\n",
        b"\xff\n",
        b"logs/v0\norigin x\n",
        b"logs/v0\nvkey nonsense\n",
        LIST.replace(b"qpd 86400", b"qpd 0"),
        LIST.replace(b"qpd 86400", b"qpd 2147483648"),
        LIST.replace(b"qpd 86400", b"qpd 1\nqpd 2"),
        LIST.replace(b"qpd 86400", b"rate 1"),
        LIST.replace(b"another.example/log", b"log.example/a"),
    ],
)
def test_a_list_that_is_not_one_is_refused(data: bytes) -> None:
    with pytest.raises(EvidenceError):
        parse_list(data)


def test_it_is_a_command_from_the_first_step(tmp_path: Path) -> None:
    """A law firm's first day: make, add, pull, run, list."""
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path / "state")}

    def pd(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "plausible.cli", *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)

    made = str(tmp_path / "notary")
    done = pd("witness", "init", made, "--name", NAME)
    assert done.returncode == 0, done.stderr
    assert VerifierKey.parse(done.stdout.strip()).name == NAME
    assert pd("witness", "add", made, KEY).returncode == 0
    (tmp_path / "list").write_bytes(LIST)
    pulled = pd("witness", "pull", made, str(tmp_path / "list"))
    assert (pulled.returncode, pulled.stdout) == (0, "another.example/log\n")
    with running(Path(made)) as (at, _):
        assert httpx.post(f"{at}/add-checkpoint", content=body(0, 5)).status_code == 200
        assert (
            httpx.post(f"{at}/add-checkpoint", content=AddCheckpointRequest(5, (), note(5, FORK)).encode()).status_code
            == 422
        )
    listed = pd("witness", "list", made)
    assert listed.returncode == 1 and "two trees of one size" in listed.stderr
    assert "5  log.example/a" in listed.stdout
    assert pd("witness", "remove", made, LOG.name).returncode == 0
    assert "not watched any more" in pd("witness", "list", made).stdout
    assert pd("witness", "remove", made, "log.example/never").returncode == 2
