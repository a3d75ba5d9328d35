"""The log service: authors write over HTTP, everybody reads; forks, repeats, strangers, kills, witnesses away."""

from __future__ import annotations

import base64
import contextlib
import json
import random
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from plausible.ledger.entries.authors import Authors
from plausible.ledger.entries.entry import parse_entry, sign_entry, verify_entry
from plausible.ledger.fsck import check_log
from plausible.ledger.merkle.reader import DirectorySource, TiledLog
from plausible.ledger.merkle.tree import hash_leaf
from plausible.ledger.notes.note import COSIGNATURE_ED25519, ED25519, SignerKey
from plausible.ledger.notes.proof import TlogProof, verify_proof
from plausible.ledger.storage.disk import StorageBroken, StorageFull
from plausible.node.client import HttpSource
from plausible.node.log.admission import read_candidate
from plausible.node.log.allowlist import Allowlist
from plausible.node.log.chains import ChainStore, OutOfStep, Refused, Taken
from plausible.node.log.directory import LogConfig, make, open_log
from plausible.node.log.fairness import FairQueue
from plausible.node.log.keeper import Request, Unavailable
from plausible.node.log.readiness import Readiness
from plausible.node.log.requests import claimed_key, read_batch, read_chain_head, read_wish
from plausible.schemas.errors import EvidenceError, PolicyError, SetupError, UsageError
from plausible.schemas.receipt import Receipt
from plausible.schemas.statement import AuthorRevocationStatement, Header
from plausible.schemas.text import digest_text, parse_digest

from tests.node.log_process import ANNA, BERT, ORIGIN, STRANGER, MadeChain, bundle, make_log, policy_of, running
from tests.node.test_cosigning import nodes, policy, until


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the log at `address`."""
    return make_log(tmp_path_factory.mktemp("log") / "shared.log")


@pytest.fixture(scope="module")
def address(shared: Path) -> Iterator[str]:
    """A running log without witnesses, that the tests of this module share: each has chains of its own."""
    with running(shared) as (at, _):
        yield at


@pytest.fixture
def client(address: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=address, timeout=30) as made:
        yield made


def test_an_entry_becomes_evidence(client: httpx.Client, shared: Path) -> None:
    """From one POST to a proof that verifies under the log's policy, and to files that anybody can read."""
    leaf = MadeChain(ANNA).next()
    answer = client.post("/entry?wait=witnessed", content=leaf)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    proof = TlogProof.parse(answer.content)
    assert proof.extra == leaf
    accepted = verify_proof(proof, hash_leaf(leaf), policy_of(shared))
    assert accepted.origin == ORIGIN
    with HttpSource(str(client.base_url)) as source:
        log = TiledLog(source)
        assert log.entry(proof.index, accepted.size) == leaf
        assert policy_of(shared).check(log.checkpoint_bytes()).size >= accepted.size
    verify_entry(parse_entry(leaf), Authors.of([ANNA.verifier]))


def test_receipts_say_how_far_an_entry_came(client: httpx.Client) -> None:
    leaf = MadeChain(ANNA).next()
    accepted = Receipt.parse(client.post("/entry", content=leaf).content)
    assert accepted.leaf == digest_text(hash_leaf(leaf))
    sequenced = Receipt.parse(client.post("/entry?wait=sequenced", content=leaf).content)
    assert sequenced.state in ("sequenced", "witnessed")
    assert sequenced.index is not None and sequenced.size is not None


def test_a_repeat_gets_the_same_place(client: httpx.Client) -> None:
    """Also of entries whose bundle has long been on the disk, and also together with new ones."""
    chain = MadeChain(ANNA)
    leaves = chain.several(300)
    for start in (0, 150):
        assert client.post("/entries?wait=sequenced", content=bundle(leaves[start : start + 150])).status_code == 200

    def places(part: list[bytes]) -> list[int | None]:
        answer = client.post("/entries?wait=sequenced", content=bundle(part))
        assert answer.status_code == 200, answer.text
        return [Receipt.parse(line).index for line in answer.content.splitlines()]

    first = places(leaves[:10])
    time.sleep(1.5)  # the bundles are flushed: state.db holds the entries no longer
    assert places(leaves[:10]) == first
    more = chain.several(3)
    assert places([*leaves[-2:], *more])[:2] == places(leaves[-2:])
    for leaf, index in zip(leaves[:3], first, strict=False):
        proof = TlogProof.parse(client.post("/entry?wait=witnessed", content=leaf).content)
        assert proof.index == index


def test_a_fork_and_a_gap_are_answered_with_the_chain_s_head(client: httpx.Client) -> None:
    chain = MadeChain(ANNA)
    one, two = chain.several(2)
    assert client.post("/entries", content=bundle([one, two])).status_code == 200
    fork = chain.make(seq=1, prev=hash_leaf(one), draw=77)
    for leaf, reason in (
        (fork, "another entry"),
        (chain.make(seq=5), "does not follow"),
        (chain.make(prev=bytes(range(32))), "not the hash"),
    ):
        answer = client.post("/entry", content=leaf)
        assert answer.status_code == 409
        head = read_chain_head(answer.content)
        assert (head.author, head.chain) == (ANNA.verifier.encode(), chain.chain.hex())
        assert (head.seq, head.prev) == (2, hash_leaf(two))
        assert reason in head.reason
    other = MadeChain(ANNA)
    first = read_chain_head(client.post("/entry", content=other.make(seq=3, prev=bytes(range(32)))).content)
    assert (first.seq, first.prev) == (0, bytes(32))
    assert client.post("/entry", content=chain.next()).status_code == 200


def test_a_batch_is_taken_whole_or_not_at_all(client: httpx.Client) -> None:
    chain = MadeChain(BERT)
    leaves = chain.several(4)
    broken = json.loads(leaves[3])
    broken["signatures"][0]["sig"] = "A" * 86 + "=="
    false = json.dumps(broken, separators=(",", ":"), sort_keys=True).encode()
    assert client.post("/entries", content=bundle([*leaves[:3], false])).status_code == 403
    assert client.post("/entries", content=bundle([leaves[0], leaves[2]])).status_code == 409
    assert client.post("/entries", content=bundle([leaves[1]])).status_code == 409  # nothing of it was taken
    assert client.post("/entries", content=bundle([leaves[0], MadeChain(BERT).next()])).status_code == 422
    assert client.post("/entries", content=bundle([leaves[0], MadeChain(ANNA).next()])).status_code == 400
    answer = client.post("/entries", content=bundle(leaves))
    assert answer.status_code == 200 and len(answer.content.splitlines()) == 4


def test_what_is_refused(client: httpx.Client) -> None:
    chain = MadeChain(ANNA)
    leaf = chain.next()
    assert client.post("/entry", content=b"").status_code == 400
    assert client.post("/entry", content=b"\xff" * 500).status_code == 400
    assert client.post("/entry", content=leaf + b" ").status_code == 400
    assert client.post("/entry", content=leaf.replace(b'{"payload"', b'{ "payload"')).status_code == 400
    assert client.post("/entry", content=b"x" * 65_536).status_code == 413
    assert client.post("/entries", content=bytes(1024 * 1024 + 1)).status_code == 413
    assert client.post("/entries", content=bundle([leaf])[:-1]).status_code == 400
    assert client.post("/entries", content=b"").status_code == 400
    assert client.post("/entries", content=b"\x00\x00" * 257).status_code == 400
    for query in ("wait=soon", "timeout=0", "timeout=1e3", "timeout=301", "await=accepted"):
        assert client.post(f"/entry?{query}", content=leaf).status_code == 400, query
    unknown = client.post("/entry", content=MadeChain(STRANGER).next())
    assert unknown.status_code == 403 and "takes no entries" in unknown.text
    assert client.post("/entry", content=leaf).status_code == 200
    early = chain.make(time="2020-01-01T00:00:00.000000Z")
    assert client.post("/entry", content=early).status_code == 422
    assert client.post("/entry", content=chain.make(draw=0)).status_code == 422
    assert client.get("/entry").status_code == 404
    assert client.get("/state.db").status_code == 404 and client.get("/keys/log.key").status_code == 404


def test_a_signature_by_another_key_is_false(client: httpx.Client) -> None:
    """A stranger who copies the allowed key's ID is found out by the signature, not before."""
    chain = MadeChain(STRANGER)
    leaf = json.loads(chain.next())
    leaf["signatures"][0]["keyid"] = ANNA.verifier.key_id.hex()
    data = json.dumps(leaf, separators=(",", ":"), sort_keys=True).encode()
    assert client.post("/entry", content=data).status_code == 400  # the header names another key
    mine = MadeChain(ANNA).next()
    forged = json.loads(mine)
    forged["signatures"][0]["sig"] = json.loads(MadeChain(ANNA).next())["signatures"][0]["sig"]
    data = json.dumps(forged, separators=(",", ":"), sort_keys=True).encode()
    assert client.post("/entry", content=data).status_code == 403
    assert client.post("/entry", content=mine).status_code == 200


def test_the_reads_are_those_of_a_static_server(client: httpx.Client) -> None:
    client.post("/entry?wait=witnessed", content=MadeChain(ANNA).next())
    head = client.get("/checkpoint")
    assert head.headers["cache-control"] == "public, max-age=2"
    size = int(head.text.split("\n")[1])
    kept = client.get(f"/checkpoints/{size}")
    assert kept.status_code == 200 and "immutable" in kept.headers["cache-control"]
    assert client.get("/checkpoint.pending").status_code == 200
    assert client.get("/healthz").text == "alive\n"
    assert client.get("/readyz").status_code == 200, client.get("/readyz").text
    with HttpSource(str(client.base_url)) as source:
        log = TiledLog(source)
        assert [hash_leaf(e) for e in log.entries(0, size, size)] == [log.hash(0, i, size) for i in range(size)]


def test_the_allowlist_is_read_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An author added while the log runs is known at once; a file that became malformed changes nothing."""
    monkeypatch.setattr("plausible.node.log.allowlist.LOOK_SECONDS", 0.0)
    path = tmp_path / "authors.txt"
    path.write_text(f"author {ANNA.verifier}\n")
    allowlist = Allowlist(path)
    anna, bert = (key.verifier.key_id.hex().encode() for key in (ANNA, BERT))
    assert allowlist.knows(anna) and not allowlist.knows(bert)
    path.write_text(f"author {ANNA.verifier}\nauthor {BERT.verifier} {ORIGIN} 7\n")
    assert allowlist.knows(bert)
    assert allowlist.check(BERT.verifier.encode(), 6, ORIGIN).key == BERT.verifier
    with pytest.raises(PolicyError, match="revoked"):
        allowlist.check(BERT.verifier.encode(), 7, ORIGIN)
    path.write_text("nonsense\n")
    assert allowlist.knows(bert) and allowlist.knows(anna)
    path.unlink()
    assert allowlist.knows(anna)
    with pytest.raises(SetupError):
        Allowlist(path)


# --- kills, restarts, witnesses ---


@pytest.mark.parametrize("kills", [1, pytest.param(5, marks=pytest.mark.long)])
def test_what_was_acknowledged_survives_kills(tmp_path: Path, kills: int) -> None:
    """Killed again and again while it is written to: every acknowledged entry is there, at the index of its receipt."""
    folder = make_log(tmp_path / "log")
    chains = [MadeChain(ANNA), MadeChain(BERT)]
    acknowledged: dict[bytes, int | None] = {}
    waiting: dict[int, bytes] = {}
    for number in range(kills):
        with running(folder) as (at, process):
            stop = threading.Event()

            def write(place: int, at: str = at, stop: threading.Event = stop) -> None:
                with httpx.Client(base_url=at, timeout=20) as client:
                    while not stop.is_set():
                        leaf = waiting.setdefault(place, b"") or chains[place].next()
                        waiting[place] = leaf  # sent again after the restart, whether or not it was taken
                        try:
                            answer = client.post("/entry?wait=sequenced", content=leaf)
                        except httpx.HTTPError:
                            return
                        assert answer.status_code == 200, answer.text
                        acknowledged[hash_leaf(leaf)] = Receipt.parse(answer.content).index
                        waiting[place] = b""

            threads = [threading.Thread(target=write, args=(place,)) for place in (0, 1)]
            for thread in threads:
                thread.start()
            time.sleep(0.4 + 0.2 * number)
            process.kill()
            process.wait(20)
            stop.set()
            for thread in threads:
                thread.join(30)
    with running(folder) as (at, _), httpx.Client(base_url=at) as client:
        for place in (0, 1):
            leaf = waiting[place] or chains[place].next()
            assert client.post("/entry?wait=witnessed", content=leaf).status_code == 200
    log = TiledLog(DirectorySource(folder / "public"))
    size = policy_of(folder).check(log.checkpoint_bytes()).size
    found = {hash_leaf(leaf): index for index, leaf in enumerate(log.entries(0, size, size))}
    assert len(found) == size, "an entry stands twice"
    assert {leaf: found.get(leaf) for leaf in acknowledged} == acknowledged
    report = check_log(DirectorySource(folder / "public"), policy=policy_of(folder))
    assert not report.findings


def test_sigterm_answers_and_publishes_what_was_taken(tmp_path: Path) -> None:
    """Also who waits for witnesses that never come gets his receipt, and quickly."""
    key = SignerKey("witness.example/w", COSIGNATURE_ED25519, bytes(range(9, 41))).verifier
    missing = f"witness w {key} http://127.0.0.1:1\nquorum w"
    folder = make_log(tmp_path / "log", policy=missing)
    leaf = MadeChain(ANNA).next()
    with running(folder) as (at, process), ThreadPoolExecutor(1) as pool:
        with httpx.Client(base_url=at, timeout=60) as client:
            asked = pool.submit(client.post, "/entry?wait=witnessed&timeout=50", content=leaf)
            until(lambda: httpx.post(f"{at}/entry", content=leaf).status_code == 200)
            assert client.get("/readyz").status_code == 503
            assert client.get("/checkpoint").status_code == 404
            began = time.monotonic()
            process.send_signal(signal.SIGTERM)
            answer = asked.result(40)
            process.wait(40)
        assert answer.status_code == 202 and Receipt.parse(answer.content).state == "accepted"
        assert time.monotonic() - began < 30
    assert process.returncode == 0


@pytest.mark.long
def test_the_checkpoint_moves_only_with_the_quorum(tmp_path: Path) -> None:
    """Two of three witnesses as processes: one away changes nothing, two away and entries wait as sequenced."""
    with nodes(tmp_path) as (a, b, c):
        lines = policy([(n.vkey, n.url) for n in (a, b, c)], 2)
        folder = make_log(tmp_path / "log", policy=lines)
        vkey = policy_of(folder).logs[0].key.encode()
        for node in (a, b, c):
            node.watch(vkey)
        chain = MadeChain(ANNA)
        with running(folder) as (at, _), httpx.Client(base_url=at, timeout=60) as client:
            c.stop()
            answer = client.post("/entry?wait=witnessed", content=chain.next())
            assert answer.status_code == 200, answer.text
            proof = TlogProof.parse(answer.content)
            assert len(policy_of(folder).check(proof.note).cosigners) == 2
            b.stop(signal.SIGKILL)
            second = chain.next()
            answer = client.post("/entry?wait=witnessed&timeout=3", content=second)
            assert answer.status_code == 202 and Receipt.parse(answer.content).state == "sequenced"
            assert client.get("/checkpoint").text.split("\n")[1] == "1"
            assert client.get("/checkpoint.pending").text.split("\n")[1] == "2"
            c.start()
            assert client.post("/entry?wait=witnessed&timeout=60", content=second).status_code == 200
            assert client.get("/checkpoint").text.split("\n")[1] == "2"


def test_a_restored_backup_takes_nothing(tmp_path: Path) -> None:
    folder = make_log(tmp_path / "log")
    chain = MadeChain(ANNA)
    with open_log(folder) as log:
        sent(log.keeper.submit, chain.next())
    old = (folder / "state.db").read_bytes()
    with open_log(folder) as log:
        sent(log.keeper.submit, chain.next())
    (folder / "state.db").write_bytes(old)
    with open_log(folder) as log:
        with pytest.raises(Unavailable, match="restored"):
            log.keeper.submit(b"key", Request((chain.next(),)))
        assert not Readiness(log).look(int(time.time())).ready
    served = TiledLog(DirectorySource(folder / "public")).checkpoint_bytes()
    assert policy_of(folder).check(served).size == 2  # what was signed is still served


def test_one_process_runs_a_log(tmp_path: Path) -> None:
    folder = make_log(tmp_path / "log")
    with open_log(folder), pytest.raises(SetupError, match="another process"), open_log(folder):
        pass


# --- a flood ---


def test_a_stranger_is_turned_away_slowly_and_before_anything_is_verified(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten thousand would not wait: of a stranger's requests only a few are held, none reaches the queue."""
    leaf = MadeChain(STRANGER).next()
    answers: list[int] = []
    stop = threading.Event()

    def flood() -> None:
        with httpx.Client(base_url=address, timeout=30) as client:
            while not stop.is_set():
                answers.append(client.post("/entry", content=leaf).status_code)

    threads = [threading.Thread(target=flood) for _ in range(8)]
    for thread in threads:
        thread.start()
    chain = MadeChain(ANNA)
    with httpx.Client(base_url=address, timeout=30) as client:
        for leaf_of_anna in chain.several(20):
            assert client.post("/entry", content=leaf_of_anna).status_code == 200
    stop.set()
    for thread in threads:
        thread.join(30)
    assert answers and set(answers) == {403}


def test_every_author_has_a_turn() -> None:
    """One with a thousand requests delays another's by one, and his line is bounded."""
    queue: FairQueue[Request] = FairQueue(entries=10_000, per_author=1000)
    for number in range(1000):
        assert queue.put(b"loud", Request((b"%d" % number,)))
    assert not queue.put(b"loud", Request((b"one more",)))
    assert queue.put(b"quiet", Request((b"mine",)))
    taken = queue.take(4, 0)
    assert [request.leaves[0] for request in taken] == [b"0", b"mine", b"1", b"2"]
    assert len(queue) == 997


def test_the_queue_is_bounded_in_all() -> None:
    queue: FairQueue[Request] = FairQueue(entries=10, per_author=10, size=1000)
    assert queue.put(b"a", Request(tuple(b"%d" % n for n in range(8))))
    assert not queue.put(b"b", Request((b"1", b"2", b"3")))
    assert not queue.put(b"b", Request((bytes(2000),)))
    assert queue.put(b"b", Request((b"1", b"2")))
    assert len(queue.take(100, 0)) == 2 and len(queue) == 0
    assert queue.take(1, 0.01) == []


# --- without a process ---


def sent(keeper_submit: object, *leaves: bytes) -> Request:
    request = Request(leaves)
    assert keeper_submit(b"key", request)  # type: ignore[operator]
    return request


def test_a_revoked_key_is_refused_from_then_on(tmp_path: Path) -> None:
    """...also after a restart, and by the key itself as by a successor that it named."""
    folder = make_log(tmp_path / "log")
    chain = MadeChain(ANNA)
    with open_log(folder) as log:
        first = sent(log.keeper.submit, chain.next())
        assert isinstance(first.answer.result(20), Taken)
        header = Header(
            author=ANNA.verifier.encode(),
            chain=chain.chain.hex(),
            prev=digest_text(chain.prev),
            seq=chain.seq,
            time=chain.time,
        )
        revocation = sign_entry(AuthorRevocationStatement.make(header, revoked=ANNA.verifier.encode()), ANNA)
        chain.seq, chain.prev = chain.seq + 1, hash_leaf(revocation)
        assert isinstance(sent(log.keeper.submit, revocation).answer.result(20), Taken)
        outcome = sent(log.keeper.submit, chain.make()).answer.result(20)
        assert isinstance(outcome, Refused) and outcome.status == 403
    with open_log(folder) as log:
        assert isinstance(sent(log.keeper.submit, revocation).answer.result(20), Taken)  # a repeat
        outcome = sent(log.keeper.submit, chain.make()).answer.result(20)
        assert isinstance(outcome, Refused) and "revoked" in outcome.reason


@pytest.mark.parametrize(("error", "ends"), [(StorageFull("no space"), False), (StorageBroken("flush failed"), True)])
def test_a_failing_disk_is_told_and_nothing_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: SetupError, ends: bool
) -> None:
    folder = make_log(tmp_path / "log")
    chain = MadeChain(ANNA)
    leaf = chain.next()
    original = ChainStore.accepting
    with open_log(folder) as log:

        def failing(*_: object) -> contextlib.AbstractContextManager[object]:
            raise error

        monkeypatch.setattr(ChainStore, "accepting", failing)
        with pytest.raises(Unavailable):
            sent(log.keeper.submit, leaf).answer.result(20)
        assert log.keeper.stopped is not None
        monkeypatch.setattr(ChainStore, "accepting", original)
        if ends:
            with pytest.raises(Unavailable):
                log.keeper.submit(b"key", Request((leaf,)))
            return
        assert sent(log.keeper.submit, leaf).answer.result(20) == Taken((0,), 1)
        assert log.keeper.stopped is None


def test_many_requests_share_a_commit(tmp_path: Path) -> None:
    folder = make_log(tmp_path / "log")
    chains = [MadeChain(ANNA) for _ in range(50)]
    with open_log(folder) as log:
        requests = [sent(log.keeper.submit, *chain.several(2)) for chain in chains]
        for request in requests:
            assert isinstance(request.answer.result(30), Taken)
        assert log.keeper.commits < len(requests)
        log.keeper.reached("witnessed", 99).result(30)


def test_out_of_step_in_one_commit(tmp_path: Path) -> None:
    """Two forks of one chain in flight at once: one is taken, whichever commit they share."""
    folder = make_log(tmp_path / "log")
    chain = MadeChain(ANNA)
    with open_log(folder) as log:
        requests = [sent(log.keeper.submit, chain.make(draw=draw)) for draw in range(20)]
        outcomes = [request.answer.result(30) for request in requests]
        assert [type(outcome) for outcome in outcomes].count(Taken) == 1
        assert [type(outcome) for outcome in outcomes].count(OutOfStep) == 19


def test_making_and_settings(tmp_path: Path) -> None:
    folder = make_log(tmp_path / "log")
    with pytest.raises(UsageError, match="holds something"):
        make(folder, ORIGIN)
    with pytest.raises(UsageError, match="no name"):
        make(tmp_path / "other", "a b")
    with pytest.raises(UsageError, match="cannot be used"):
        make(tmp_path / "other", ORIGIN, policy="quorum nobody")
    assert LogConfig.read(folder) == LogConfig(ORIGIN, index_key="keys/index.key")
    text = (folder / "service.toml").read_text()
    for wrong in ("version = 2\n", text + "colour = 1\n", text.replace('"lazy"', '"never"'), text.replace("3600", "0")):
        (folder / "service.toml").write_text(wrong)
        with pytest.raises(SetupError):
            LogConfig.read(folder)
    with pytest.raises(SetupError, match="log-init"):
        LogConfig.read(tmp_path)
    assert (folder / "keys" / "log.key").stat().st_mode & 0o077 == 0


def test_a_candidate_is_what_the_parsers_say() -> None:
    """The quick way in accepts nothing that the profile refuses, and reads the same from what it accepts."""
    chain = MadeChain(ANNA)
    leaves = [*chain.several(3), MadeChain(SignerKey("\u00e9.example", ED25519, bytes(range(32)))).next()]
    rng = random.Random(7)
    mutated = [
        leaf[:at] + bytes([rng.randrange(256)]) + leaf[at + 1 :] for leaf in leaves for at in range(0, len(leaf), 9)
    ]
    for leaf in leaves:
        value = json.loads(leaf)
        payload = base64.b64decode(value["payload"])
        for at in range(0, len(payload), 5):
            changed = payload[:at] + bytes([rng.randrange(32, 127)]) + payload[at + 1 :]
            value["payload"] = base64.b64encode(changed).decode()
            mutated.append(json.dumps(value, separators=(",", ":"), sort_keys=True).encode())
    accepted = 0
    for leaf in [*leaves, *mutated]:
        try:
            entry = parse_entry(leaf)
        except EvidenceError:
            with pytest.raises(EvidenceError):
                read_candidate(leaf)
            continue
        accepted += 1
        found, header, generation = read_candidate(leaf), entry.header, entry.generation
        assert generation is not None
        assert (found.author, found.chain, found.seq, found.time) == (
            header.author, header.chain, header.seq, header.time,
        )  # fmt: skip
        assert (found.prev, found.draw) == (parse_digest(header.prev), generation.draw)
        assert (found.leaf_hash, found.payload) == (entry.leaf_hash, entry.envelope.payload)
        assert found.signature == entry.envelope.signature
        if leaf in leaves:
            found.verify(entry.author)
        else:
            with pytest.raises(EvidenceError):
                found.verify(entry.author)
    assert accepted > len(leaves)


def test_bodies_are_read_strictly() -> None:
    leaves = MadeChain(ANNA).several(3)
    assert read_batch(bundle(leaves)) == tuple(leaves)
    assert claimed_key(leaves) == ANNA.verifier.key_id.hex().encode()
    for data in (b"", b"\x00", bundle(leaves) + b"\x00", bundle(leaves)[:-1]):
        with pytest.raises(EvidenceError):
            read_batch(data)
    with pytest.raises(EvidenceError):
        claimed_key([*leaves, MadeChain(BERT).next()])
    assert read_wish({}).wait == "accepted"
    with pytest.raises(EvidenceError):
        read_wish({"wait": "accepted", "x": ""})
    with pytest.raises(EvidenceError):
        read_chain_head(b"{}")
