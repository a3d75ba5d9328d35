"""The services that are fuzzed, each as a process on loopback, and what is sent to each kind of their endpoints."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from plausible.ledger.merkle.tiles import MAX_ENTRY_BYTES
from plausible.ledger.merkle.tree import MemoryTree, hash_leaf, subtree_consistency_path
from plausible.ledger.notes.checkpoint import Checkpoint
from plausible.ledger.notes.mirror_body import AddEntriesRequest, Package
from plausible.ledger.notes.note import ED25519, Note, SignerKey, parse_signature_line
from plausible.ledger.witness import MAX_REQUEST_BYTES, AddCheckpointRequest
from plausible.ledger.witness.request import SignSubtreeRequest
from plausible.node.conformance.chain import MadeChain
from plausible.node.log.directory import CONFIG
from plausible.node.log.directory import make as make_log
from plausible.node.log.requests import MAX_BATCH_BYTES
from plausible.node.mirror.directory import LogSettings
from plausible.node.mirror.directory import make as make_mirror
from plausible.node.mirror.mirror import Mirror
from plausible.node.witness.directory import make as make_witness
from plausible.node.witness.directory import open_witness

from benchmarks.node import mirror as tiled
from benchmarks.node.wire import Connection

LOG = SignerKey("log.example/fuzz", ED25519, bytes(range(1, 33)))
ANNA = SignerKey("anna.example/studio", ED25519, bytes(range(2, 34)))
BERT = SignerKey("bert.example/studio", ED25519, bytes(range(3, 35)))
STRANGER = SignerKey("stranger.example", ED25519, bytes(range(4, 36)))
DIGEST = hashlib.sha256(LOG.name.encode()).hexdigest()
KEYS = ("ed25519", "ml-dsa-44")
SIZE = 300
TREE = MemoryTree(hash_leaf(b"%d" % i) for i in range(SIZE))
FORK = MemoryTree(hash_leaf(b"fork %d" % i) for i in range(SIZE))
BINARY, TEXT = "application/octet-stream", "text/plain"
TOKEN = "fuzz"
READ_BEFORE_REFUSING = 32 << 10
"""Above this a mirror may refuse an upload whose rest it has not read, and the answer may be lost with the rest."""


Request = Callable[[random.Random, bytes], tuple[bytes, bool]]
"""From mutated bytes to what is sent, and whether the sender ends there."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of endpoint. `path` is its path in the OpenAPI document; "" are whole requests, good and bad."""

    name: str
    path: str
    corpus: Sequence[bytes]
    request: Request
    method: str = "POST"
    limit: int = 1 << 62
    """Bytes above which a body may be cut off without an answer."""
    connections: int = 8


@dataclass(frozen=True, slots=True)
class Target:
    """A running service. `valid` is the next request that must get one of the given statuses."""

    service: str
    process: subprocess.Popen[bytes]
    port: int
    told: Path
    """What it wrote to stderr."""
    kinds: Sequence[Kind]
    valid: Callable[[], tuple[bytes, int]]


def post(path: str, body: bytes, kind: str = BINARY, *more: str) -> bytes:
    """A request as a client sends it."""
    lines = [f"POST {path} HTTP/1.1", "Host: n", f"Content-Type: {kind}", f"Content-Length: {len(body)}", *more]
    return "\r\n".join([*lines, "", ""]).encode() + body


def get(path: str, *more: str) -> bytes:
    """The same of a GET."""
    return "\r\n".join([f"GET {path} HTTP/1.1", "Host: n", *more, "", ""]).encode("utf-8", "replace")


def posting(path: str, kind: str, queries: Sequence[str] = (), *, gzips: bool = False) -> Request:
    """Bodies to a path: mostly plain, some chunked, broken off, with odd parameters or types."""

    def request(rng: random.Random, body: bytes) -> tuple[bytes, bool]:
        target = path + (rng.choice(queries) if queries and rng.random() < 0.05 else "")
        content, chance, more = kind, rng.random(), list[str]()
        if chance < 0.01:
            content = rng.choice(("text/html", "x", "application/json; charset=x", "multipart/form-data"))
        if gzips and rng.random() < 0.1:
            more.append("Content-Encoding: gzip")
            body = gzip.compress(body, 1)
            if rng.random() < 0.3:
                place = rng.randrange(len(body))
                body = body[:place] + rng.randbytes(4) + body[place:]
        if chance > 0.99:  # it says more than it sends
            whole = post(target, body, content, *more)
            return whole.replace(b"Content-Length: ", b"Content-Length: 1", 1), True
        if chance > 0.95:
            head = [f"POST {target} HTTP/1.1", "Host: n", f"Content-Type: {content}", *more]
            step = rng.choice((1 + len(body) // 20, 4096, 1 << 20))
            parts = [body[at : at + step] for at in range(0, len(body), step)]
            chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
            return "\r\n".join([*head, "Transfer-Encoding: chunked", "", ""]).encode() + chunks + b"0\r\n\r\n", False
        return post(target, body, content, *more), False

    return request


def getting(before: str, safe: str, *more: str) -> Request:
    """The bytes as the rest of a path or query: mostly quoted, some as they are."""

    def request(rng: random.Random, data: bytes) -> tuple[bytes, bool]:
        data = data[: rng.choice((200, 2000, 30_000))]
        rest = quote(data, safe=safe) if rng.random() < 0.8 else data.decode("latin-1").translate(_RAW)
        return get(before + rest, *more), False

    return request


_RAW = dict.fromkeys((*range(33), 127)) | dict.fromkeys(range(128, 256), "%")


def whole(_rng: random.Random, data: bytes) -> tuple[bytes, bool]:
    """Bytes that are a whole request, or should be."""
    return data, True


def _http(requests: Sequence[bytes]) -> Kind:
    odd = [
        b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.0\r\n\r\n", b"OPTIONS * HTTP/1.1\r\nHost: n\r\n\r\n",
        b"HEAD /checkpoint HTTP/1.1\r\nHost: n\r\nConnection: close\r\n\r\n",
        b"PUT /healthz HTTP/1.1\r\nHost: n\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\nabc",
        b"GET /healthz HTTP/1.1\r\nHost: n\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
        b"POST /x HTTP/1.1\r\nHost: n\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n0\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ]  # fmt: skip
    return Kind("whole requests", "", [*requests, *odd], whole, "")


def _note(size: int, tree: MemoryTree = TREE, key: SignerKey = LOG) -> bytes:
    return Checkpoint(key.name, size, tree.root(size)).sign(key).encode()


def _head(old: int, new: int, tree: MemoryTree = TREE, key: SignerKey = LOG) -> bytes:
    proof = tree.consistency(old, new) if 0 < old < new else []
    return AddCheckpointRequest(old, tuple(proof), _note(new, tree, key)).encode()


def _heads() -> list[bytes]:
    good = [_head(0, SIZE), *(_head(old, SIZE) for old in (1, 200, 256, SIZE))]
    return [*good, _head(0, 3), _head(SIZE, SIZE, FORK), _head(0, SIZE, TREE, STRANGER), _head(SIZE, 200)]


def _subtrees(port: int, request: bytes) -> list[bytes]:
    """Of the head that is cosigned in the answer to a request."""
    with Connection(port) as connection:
        lines = connection.ask(request).body.decode().splitlines()
        note = Note.parse(_note(SIZE))
        for line in lines:
            note = note.add(parse_signature_line(line))
    made: list[bytes] = []
    for start, end in ((0, 256), (256, SIZE), (64, 128), (0, SIZE)):
        proof = subtree_consistency_path(TREE.get, start, end, SIZE)
        root = MemoryTree(hash_leaf(b"%d" % i) for i in range(start, end)).root()
        made.append(SignSubtreeRequest(start, end, root, tuple(proof), note.encode()).encode())
    return made


def _upload(start: int, end: int, parts: int | None = None) -> bytes:
    made, at = list[Package](), start
    while at < end and (parts is None or len(made) < parts):
        stop = min(at - at % 256 + 256, end)
        proof = subtree_consistency_path(TREE.get, at - at % 256, stop, end)
        made.append(Package(at, tuple(b"%d" % i for i in range(at, stop)), tuple(proof)))
        at = stop
    return AddEntriesRequest(LOG.name, start, end, b"", tuple(made)).encode()


@contextlib.contextmanager
def _process(folder: Path, *words: str) -> Generator[tuple[subprocess.Popen[bytes], int, Path]]:
    told = folder / "stderr.txt"
    command = [sys.executable, "-m", "plausible.cli", "node", *words, "--port", "0"]
    with told.open("wb") as out, subprocess.Popen(command, stderr=out, stdout=subprocess.DEVNULL) as process:
        try:
            while b" at http://" not in (text := told.read_bytes()):
                if process.poll() is not None:
                    raise SystemExit(text.decode("utf-8", "replace"))
                time.sleep(0.02)
            port = text.split(b" at http://")[1].split(b";")[0].split()[0].rstrip(b"/").rsplit(b":", 1)[1]
            yield process, int(port), told
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()


def _first(port: int, *requests: bytes) -> None:
    with Connection(port) as connection:
        for request in requests:
            answer = connection.ask(request)
            if answer.status != 200:
                raise SystemExit(f"a valid request got {answer.status}: {answer.body[:200]!r}")


def _signing(path: str, corpus: Sequence[bytes]) -> Kind:
    return Kind(path[1:], path, corpus, posting(path, TEXT), "POST", MAX_REQUEST_BYTES)


@contextlib.contextmanager
def witness(folder: Path) -> Generator[Target]:
    """`pd node witness` that has cosigned one log."""
    make_witness(folder / "w", "witness.example/fuzz", keys=KEYS, guard=folder / "count")
    with open_witness(folder / "w") as opened:
        opened.add_log(LOG.name, [LOG.verifier])
    with _process(folder, "witness", str(folder / "w")) as (process, port, told):
        again = post("/add-checkpoint", _head(SIZE, SIZE), TEXT)
        _first(port, post("/add-checkpoint", _head(0, SIZE), TEXT), again)
        subtrees = _subtrees(port, again)
        kinds = [
            _signing("/add-checkpoint", _heads()),
            _signing("/sign-subtree", subtrees),
            Kind("checkpoint", "/{digest}/checkpoint", [DIGEST.encode(), b"0" * 64, b"../x"], _monitoring, "GET"),
            _http([again, get(f"/{DIGEST}/checkpoint"), post("/sign-subtree", subtrees[0], TEXT)]),
        ]  # fmt: skip
        yield Target("witness", process, port, told, kinds, lambda: (again, 200))


def _monitoring(rng: random.Random, data: bytes) -> tuple[bytes, bool]:
    digest = quote(data[: rng.choice((70, 2000))].replace(b"/", b"") or b"0", safe="")
    return get(f"/{digest}/checkpoint"), False


@contextlib.contextmanager
def mirror(folder: Path) -> Generator[Target]:
    """`pd node mirror` that has one log's copy."""
    make_mirror(folder / "m", "mirror.example/fuzz", keys=KEYS, guard=folder / "count")
    with Mirror(folder / "m") as opened:
        opened.add_log(LOG.name, [LOG.verifier], LogSettings(LOG.name))
    with _process(folder, "mirror", str(folder / "m")) as (process, port, told):
        again = post("/add-entries", _upload(0, SIZE))
        _first(port, post("/add-checkpoint", _head(0, SIZE), TEXT), again)
        uploads = [_upload(0, SIZE), _upload(0, SIZE, 1), _upload(250, SIZE), _upload(256, SIZE), _upload(290, SIZE)]
        subtrees = _subtrees(port, again)
        files = [b"checkpoint", b"tile/0/000", b"tile/0/001", b"tile/0/001.p/44", b"tile/entries/000", b"index/latest"]
        sending = posting("/add-entries", BINARY, gzips=True)
        kinds = [
            _signing("/add-checkpoint", _heads()),
            Kind("add-entries", "/add-entries", uploads, sending, "POST", READ_BEFORE_REFUSING),
            _signing("/sign-subtree", subtrees),
            Kind("files", "/{digest}/{path}", files, getting(f"/{DIGEST}/", "/"), "GET"),
            _http([again, get(f"/{DIGEST}/checkpoint"), post("/add-checkpoint", _head(SIZE, SIZE), TEXT)]),
        ]  # fmt: skip
        yield Target("mirror", process, port, told, kinds, lambda: (again, 200))


@contextlib.contextmanager
def log(folder: Path) -> Generator[Target]:
    """`pd node log` with two authors and a token for similar pictures."""
    make_log(folder / "log", LOG.name, authors=[ANNA.verifier, BERT.verifier])
    with (folder / "log" / CONFIG).open("a", encoding="utf-8") as config:
        config.write('\n[similar]\nhashes = "similar.txt"\ntoken = "keys/similar.token"\n')
    (folder / "log" / "similar.txt").write_text("".join(f"{n} {n:064x}\n" for n in range(100)))
    (folder / "log" / "keys" / "similar.token").write_text(TOKEN * 8)
    (folder / "log" / "keys" / "similar.token").chmod(0o600)
    anna, bert, stranger = MadeChain(ANNA), MadeChain(BERT), MadeChain(STRANGER)
    good = anna.several(6)
    forks = [anna.make(seq=3), anna.make(seq=9), anna.make(draw=0), anna.make(time="2000-01-01T00:00:00.000000Z")]
    batches = [b"".join(len(e).to_bytes(2, "big") + e for e in part) for part in (good, good[2:4], forks, good * 43)]
    with _process(folder, "log", str(folder / "log")) as (process, port, told):
        _first(port, *(post("/entry", entry) for entry in good))
        queries = (
            "?wait=sequenced&timeout=1",
            "?wait=witnessed&timeout=1",
            "?wait=never",
            "?x=1",
            "?timeout=0",
            "?%ff",
        )
        pixels = [b"pixels=" + anna.pixels(2).hex().encode(), b"pixels=" + b"0" * 64 + b"&file=" + b"1" * 64]
        similar = [b"pdq=" + b"0" * 64, b"pdq=" + b"f" * 64 + b"&within=31"]
        bearer = f"Authorization: Bearer {TOKEN * 8}"
        files = [b"checkpoint", b"tile/0/000.p/6", b"tile/entries/000.p/6", b"checkpoints/sizes", b"index/latest"]
        kinds = [
            # strangers are held for half a second, 32 of them at once: so many connections that others go on
            Kind("entry", "/entry", [*good, *forks, stranger.make()], posting("/entry", BINARY, queries), "POST",
                 MAX_ENTRY_BYTES, 48),
            Kind("entries", "/entries", batches, posting("/entries", BINARY, queries), "POST", MAX_BATCH_BYTES, 48),
            Kind("lookup", "/lookup", pixels, getting("/lookup?", "=&"), "GET"),
            Kind("similar", "/similar", similar, getting("/similar?", "=&", bearer), "GET"),
            Kind("files", "/{path}", files, getting("/", "/"), "GET"),
            _http([post("/entry", good[0]), get("/lookup?" + pixels[0].decode()), post("/entries", batches[1])]),
        ]  # fmt: skip
        yield Target("log", process, port, told, kinds, lambda: (post("/entry", bert.next()), 200))


@contextlib.contextmanager
def ledger(folder: Path) -> Generator[Target]:
    """`pd node serve` over a log of a thousand entries."""
    tiled.make_log(folder / "ledger", LOG, 1000)
    with _process(folder, "serve", str(folder / "ledger")) as (process, port, told):
        files = [b"checkpoint", b"checkpoint.pending", b"checkpoints/sizes", b"tile/0/000", b"tile/0/003.p/232",
                 b"tile/1/000.p/3", b"tile/entries/000", b"tile/entries/x001/000", b"../ledger/state.db"]  # fmt: skip
        valid = get("/checkpoint")
        _first(port, valid)
        kinds = [Kind("files", "/{path}", files, getting("/", "/"), "GET"), _http([valid, get("/tile/0/000")])]
        yield Target("ledger", process, port, told, kinds, lambda: (valid, 200))


TARGETS: dict[str, Callable[[Path], contextlib.AbstractContextManager[Target]]] = {
    "log": log, "witness": witness, "mirror": mirror, "ledger": ledger,
}  # fmt: skip
"""Service -> it in a folder of its own."""
DOCUMENTS = {"log": "log", "witness": "witness", "mirror": "mirror", "ledger": "serve"}
"""Service -> its OpenAPI document's name."""

__all__ = ["DOCUMENTS", "TARGETS", "Kind", "Target", "get", "post"]
