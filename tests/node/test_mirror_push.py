"""The push protocol of C2SP tlog-mirror: statuses, tickets, parts, gzip, races, kills."""

from __future__ import annotations

import contextlib
import gzip
import shutil
import socket
import threading
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from plausible.ledger.merkle.reader import DirectorySource, TiledLog
from plausible.ledger.merkle.tree import MemoryTree, hash_leaf, subtree_consistency_path
from plausible.ledger.notes.checkpoint import Checkpoint
from plausible.ledger.notes.mirror_body import AddEntriesRequest, Package, UploadReader
from plausible.ledger.notes.note import Note, SignerKey, VerifierKey
from plausible.ledger.witness import AddCheckpointRequest
from plausible.node.mirror.directory import LogSettings, make
from plausible.node.mirror.entries import make_ticket, open_ticket
from plausible.node.mirror.mirror import Mirror
from plausible.node.mirror.push import MirrorClient, MirrorInfo, packages, push
from plausible.node.mirror.service import create_app
from plausible.schemas.errors import EvidenceError, PeerError

from tests.node.mirrors import HASH, LOG, NAME, Grower, entry, running, size_at, until

TREE = MemoryTree(hash_leaf(b"%d" % i) for i in range(1200))
POST = b"POST /add-entries HTTP/1.1\r\nHost: m\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n"
FORK = MemoryTree(hash_leaf(b"fork %d" % i) for i in range(1200))


def note(size: int, of: MemoryTree = TREE) -> bytes:
    return Checkpoint(LOG.name, size, of.root(size)).sign(LOG).encode()


def upload(
    start: int, end: int, *, parts: int | None = None, of: bytes = b"%d", ticket: bytes = b""
) -> AddEntriesRequest:
    """An upload of [start, end), or of its first packages."""
    tree, made, at = (TREE if of == b"%d" else FORK), list[Package](), start
    while at < end and (parts is None or len(made) < parts):
        stop = min(at - at % 256 + 256, end)
        proof = subtree_consistency_path(tree.get, at - at % 256, stop, end)
        made.append(Package(at, tuple(of % i for i in range(at, stop)), tuple(proof)))
        at = stop
    return AddEntriesRequest(LOG.name, start, end, ticket, tuple(made))


@contextlib.contextmanager
def serving(mirror: Mirror) -> Generator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(create_app(mirror, poll_seconds=None), log_level="error"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.005)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(20)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A mirror that is pushed to."""
    made = tmp_path / "mirror"
    make(made, NAME, keys=("ed25519", "ml-dsa-44"), guard=tmp_path / "mirror.count")
    with Mirror(made) as mirror:
        mirror.add_log(LOG.name, [LOG.verifier], LogSettings(LOG.name))
    return made


@pytest.fixture
def mirror(folder: Path) -> Generator[Mirror]:
    with Mirror(folder) as opened:
        yield opened


@pytest.fixture
def client(mirror: Mirror) -> Generator[MirrorClient]:
    with serving(mirror) as address:
        made = MirrorClient(address)
        yield made
        made.close()


def show(client: MirrorClient, old: int, new: int, of: MemoryTree = TREE) -> int:
    proof = of.consistency(old, new) if 0 < old < new else []
    return client.add_checkpoint(old, proof, note(new, of)).status


def info(client: MirrorClient, request: AddEntriesRequest, status: int = 409) -> MirrorInfo:
    answer = client.add_entries(request)
    assert (answer.status, answer.kind) == (status, "text/x.tlog.mirror-info")
    return MirrorInfo.parse(answer.body)


def test_the_published_upload(vectors: Any, tmp_path: Path) -> None:
    known, log = vectors("mirror_add_entries.json"), vectors("tiled_log_15_entries.json")
    key = VerifierKey.parse(log["vkey"]) if "vkey" in log else None
    signer = SignerKey.generate(known["log_origin"])
    make(tmp_path / "m", NAME, guard=tmp_path / "m.count")
    with Mirror(tmp_path / "m") as mirror:
        mirror.add_log(known["log_origin"], [signer.verifier], LogSettings(known["log_origin"]))
        with serving(mirror) as at, httpx.Client(base_url=at) as http:
            headers = {"Content-Type": "application/octet-stream"}
            body = bytes.fromhex(known["body_hex"])
            assert http.post("/add-entries", content=body, headers=headers).status_code == 422
            root = MemoryTree(hash_leaf(text.encode()) for text in log["entries_utf8"]).root()
            head = Checkpoint(known["log_origin"], 15, root).sign(signer).encode()
            answer = http.post("/add-checkpoint", content=AddCheckpointRequest(0, (), head).encode())
            assert (answer.status_code, answer.content) == (200, b"")  # nothing is signed here
            answer = http.post("/add-entries", content=body, headers=headers)
            assert answer.status_code == 200 and answer.headers["accept-encoding"] == "gzip"
            text = Note.parse(head).text
            Note.parse(text.encode() + b"\n" + answer.content).verify([mirror.signer.verifier])
            served = http.get(f"/{known['origin_hash_hex']}/checkpoint")
            Note.parse(served.content).verify([signer.verifier])
            Note.parse(served.content).verify([mirror.signer.verifier])
            assert http.get(f"/{known['origin_hash_hex']}/tile/entries/000.p/15").status_code == 200
    assert key is None or key.name == known["log_origin"]


def test_statuses_in_their_order(client: MirrorClient, mirror: Mirror) -> None:
    assert client.add_entries(AddEntriesRequest("unknown.example/log", 0, 0, b"", ())).status == 404
    assert client.add_entries(upload(0, 10)).status == 422  # no pending head yet
    assert show(client, 0, 600) == 200
    assert info(client, upload(0, 599)) == info(client, upload(0, 0)) == info(client, upload(5, 10))
    told = info(client, upload(5, 600))  # begins behind the next entry
    assert (told.size, told.next) == (600, 0) and told.ticket
    assert client.add_entries(upload(0, 600, of=b"fork %d")).status == 422
    assert client.add_entries(upload(0, 600, parts=0)).status == 400
    assert mirror.copy(LOG.name).size == 0
    told = info(client, upload(0, 600, parts=1), 202)
    assert (told.size, told.next) == (600, 256)
    assert client.ask("GET", f"{client.url}/{HASH}/checkpoint").status == 404  # nothing is cosigned before it is whole
    # from below the next entry, unaligned: what is known is skipped
    answer = client.add_entries(upload(100, 600, ticket=told.ticket))
    assert answer.status == 200
    text = Note.parse(note(600)).text
    found = Note.parse(text.encode() + b"\n" + answer.body).verify([signer.verifier for signer in mirror.signers])
    assert len(found) == 2 and all(one.time for one in found)
    # again: cosigned again; then an older head is too late
    assert client.add_entries(upload(600, 600)).status == 200
    assert show(client, 600, 700) == 200
    assert client.add_entries(upload(600, 700)).status == 200
    late = info(client, upload(600, 600, ticket=told.ticket))
    assert (late.size, late.next) == (700, 700)


def test_an_earlier_head_by_its_ticket_after_a_restart(folder: Path) -> None:
    with Mirror(folder) as mirror, serving(mirror) as at:
        client = MirrorClient(at)
        assert show(client, 0, 300) == 200
        told = info(client, upload(0, 300, parts=1), 202)
        assert show(client, 300, 1000) == 200
        client.close()
    with Mirror(folder) as mirror, serving(mirror) as at:
        client = MirrorClient(at)
        assert info(client, upload(256, 300)).size == 1000  # forgotten without the ticket
        forged = told.ticket[:-1] + bytes([told.ticket[-1] ^ 1])
        assert info(client, upload(256, 300, ticket=forged)).size == 1000
        assert client.add_entries(upload(256, 300, ticket=told.ticket)).status == 200
        assert mirror.head(LOG.name).size == 300
        assert client.add_entries(upload(256, 1000)).status == 200  # the pending one, from below
        client.close()


def test_entries_beyond_the_head_that_is_cosigned(client: MirrorClient, mirror: Mirror) -> None:
    """Entries of a later head are here already when an earlier one is completed: its partial files must be served."""
    assert show(client, 0, 300) == 200
    ticket = info(client, upload(0, 300, parts=1), 202).ticket
    assert show(client, 300, 700) == 200
    assert client.add_entries(upload(256, 700, parts=1)).status == 202
    assert mirror.copy(LOG.name).size == 512
    assert client.add_entries(upload(256, 300, ticket=ticket)).status == 200
    log = TiledLog(DirectorySource(mirror.copy(LOG.name).public.folder))
    assert log.root(300) == TREE.root(300) and mirror.head(LOG.name).size == 300
    assert list(log.entries(290, 300, 300)) == [b"%d" % i for i in range(290, 300)]


def test_two_histories_by_push_stay_one(client: MirrorClient, mirror: Mirror) -> None:
    assert show(client, 0, 300) == 200
    assert show(client, 300, 500, FORK) == 422
    assert client.add_entries(upload(0, 300)).status == 200
    assert show(client, 0, 400, FORK) == 409
    assert show(client, 300, 400) == 200


def test_gzip_and_other_codings(client: MirrorClient) -> None:
    assert show(client, 0, 600) == 200
    body = upload(0, 600, parts=1).encode()
    where, kind = f"{client.url}/add-entries", {"Content-Type": "application/octet-stream"}
    packed = {**kind, "Content-Encoding": "gzip"}
    assert client.ask("POST", where, body, **packed).status == 400
    assert client.ask("POST", where, gzip.compress(body)[:-30], **packed).status in (202, 400)
    assert client.ask("POST", where, gzip.compress(bytes(50_000_000)), **packed).status in (400, 404)  # a bomb
    assert client.ask("POST", where, body, **{**kind, "Content-Encoding": "br"}).status == 415
    assert client.ask("POST", where, body, **{"Content-Type": "text/plain"}).status == 415
    assert client.ask("POST", where, gzip.compress(body), **packed).status == 202


def test_a_broken_upload_keeps_what_was_whole(client: MirrorClient, mirror: Mirror) -> None:
    assert show(client, 0, 1000) == 200
    body = upload(0, 1000).encode()
    kind = {"Content-Type": "application/octet-stream"}
    answer = client.ask("POST", f"{client.url}/add-entries", body[: len(body) * 2 // 3], **kind)
    assert answer.status == 202 and MirrorInfo.parse(answer.body).next == 512
    # a client that goes away in the middle
    port = int(client.url.rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port)) as raw:
        rest = upload(512, 1000).encode()
        head = POST % len(rest)
        raw.sendall(head + rest[: len(rest) - 100])
    until(lambda: mirror.copy(LOG.name).size == 768)
    assert client.add_entries(upload(768, 1000)).status == 200


def test_uploads_at_once_and_a_paused_one(client: MirrorClient, mirror: Mirror) -> None:
    assert show(client, 0, 1200) == 200
    port = int(client.url.rsplit(":", 1)[1])
    with socket.create_connection(("127.0.0.1", port)) as raw:
        head = POST % 9_999_999
        raw.sendall(head + upload(0, 1200).encode()[:3000])  # and then nothing
        with ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(lambda _: client.add_entries(upload(0, 1200)), range(8)))
    assert {answer.status for answer in answers} == {200}
    assert mirror.head(LOG.name).size == 1200


def test_signatures_are_asked_for_in_pushed_entries_too(client: MirrorClient, mirror: Mirror) -> None:
    key, author = SignerKey.generate("log.example/s"), SignerKey.generate("models.example/a")
    mirror.add_log(key.name, [key.verifier], LogSettings(key.name, signatures=True))
    good = entry(author, 0)
    bad = good.replace(b'"sig":"', b'"sig":"AAAA', 1)[: len(good) + 4]
    false = good[: good.index(b'"sig":"') + 7] + entry(author, 1)[good.index(b'"sig":"') + 7 :]
    for leaf, status in ((false, 422), (bad, 200)):  # what is no entry at all may stand in a log
        tree = MemoryTree([hash_leaf(leaf)])
        old = mirror.pending(key.name)
        if old is not None:
            break
        head = Checkpoint(key.name, 1, tree.root()).sign(key).encode()
        assert client.add_checkpoint(0, (), head).status == 200
        request = AddEntriesRequest(key.name, 0, 1, b"", (Package(0, (leaf,), ()),))
        assert client.add_entries(request).status == status


def test_subtrees_are_signed_by_the_mirrors_key(client: MirrorClient, mirror: Mirror) -> None:
    assert show(client, 0, 600) == 200
    assert client.add_entries(upload(0, 600)).status == 200
    served = client.ask("GET", f"{client.url}/{HASH}/checkpoint").body
    from plausible.ledger.witness import SignSubtreeRequest

    tree = MemoryTree(hash_leaf(b"%d" % i) for i in range(256, 512))
    proof = tuple(subtree_consistency_path(TREE.get, 256, 512, 600))
    body = SignSubtreeRequest(256, 512, tree.root(), proof, served).encode()
    assert client.ask("POST", f"{client.url}/sign-subtree", body).status == 200
    # a checkpoint that only the log signed is exchanged for nothing
    body = SignSubtreeRequest(256, 512, tree.root(), proof, note(600)).encode()
    assert client.ask("POST", f"{client.url}/sign-subtree", body).status == 403


def test_a_push_from_a_log_with_a_kill_in_the_middle(folder: Path, tmp_path: Path) -> None:
    """`push` while the mirror is killed: it goes on from what the mirror says, and the copy is whole."""
    log = Grower(tmp_path / "log")
    size = log.grow(12_000)
    tiled = TiledLog(DirectorySource(log.public))
    with Mirror(folder) as mirror:
        keys = [signer.verifier for signer in mirror.signers]
    for part in (8_192,):
        with running(folder) as (at, process):
            client = MirrorClient(at)

            def kill(done: int, _total: int, at: int = part, victim: Any = process) -> None:
                if done >= at:
                    victim.kill()
                    victim.wait()

            with pytest.raises(PeerError):
                push(tiled, client, keys, progress=kill)
            client.close()
    with running(folder) as (at, _), httpx.Client(base_url=at) as http:
        client = MirrorClient(at)
        begun: list[int] = []
        assert len(push(tiled, client, keys, progress=lambda done, _total: begun.append(done))) == 2
        assert begun[0] >= 8_192  # what was answered for is not asked for again
        assert size_at(http) == size
        size = log.grow(300)
        tiled.forget()
        assert len(push(tiled, client, keys)) == 2 and size_at(http) == size
        client.close()


def test_a_push_does_not_believe_a_mirror(client: MirrorClient, tmp_path: Path) -> None:
    log = Grower(tmp_path / "log")
    log.grow(3)
    tiled = TiledLog(DirectorySource(log.public))
    with pytest.raises(PeerError, match="no cosignature by the key"):
        push(tiled, client, [SignerKey.generate(NAME).verifier])
    other = Grower(tmp_path / "other", SignerKey.generate("log.example/other"))
    other.grow(3)
    with pytest.raises(PeerError, match="404"):
        push(TiledLog(DirectorySource(other.public)), client, [])
    shutil.rmtree(log.folder)
    shrunk = Grower(tmp_path / "log")
    shrunk.grow(2)
    with pytest.raises(PeerError, match="has seen size 3"):
        push(TiledLog(DirectorySource(shrunk.public)), client, [])


def test_tickets_are_the_mirrors_own(mirror: Mirror) -> None:
    ticket = make_ticket(mirror.signer, note(3))
    assert open_ticket(mirror.signer, ticket) == note(3)
    assert open_ticket(SignerKey.generate(NAME), ticket) is None
    assert open_ticket(mirror.signer, b"") is None
    assert make_ticket(mirror.signer, bytes(70_000)) == b""


def test_a_body_in_any_pieces_reads_the_same() -> None:
    request = upload(100, 700)
    body = request.encode()
    for step in (1, 7, 300, 100_000):
        reader, found = UploadReader(), list[Package]()
        for place in range(0, len(body), step):
            reader.feed(body[place : place + step])
            if reader.read_head() is not None:
                while (package := reader.read_package()) is not None:
                    found.append(package)
        assert tuple(found) == request.packages and reader.complete and not reader.left
    reader = UploadReader()
    reader.feed(AddEntriesRequest(LOG.name, 5, 6, b"", ()).encode() + b"\0\0\x40")
    assert reader.read_head() is not None
    with pytest.raises(EvidenceError, match="hashes"):
        reader.read_package()


def test_packages_of_a_tiled_log(tmp_path: Path) -> None:
    log = Grower(tmp_path / "log")
    size = log.grow(600)
    tiled = TiledLog(DirectorySource(log.public))
    made = packages(tiled, 300, size, size)
    assert [(part.start, part.end) for part in made] == [(300, 512), (512, 600)]
    for part in made:
        earlier = [tiled.hash(0, i, size) for i in range(part.subtree_start, part.start)]
        part.verify(earlier, size, tiled.root(size))
