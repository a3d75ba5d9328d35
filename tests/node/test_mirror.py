"""A mirror that follows logs: growth, lies, kills. Real processes where a kill or a server is what is tested."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from plausible.ledger.absence.note import IndexHead, IndexPolicy
from plausible.ledger.absence.prove import publish, recompute
from plausible.ledger.contradiction import verify_contradiction
from plausible.ledger.entries.entry import parse_entry
from plausible.ledger.merkle.reader import DirectorySource, TiledLog
from plausible.ledger.merkle.tiles import decode_bundle, encode_bundle
from plausible.ledger.notes.checkpoint import Checkpoint
from plausible.ledger.notes.note import COSIGNATURE_ED25519, Note, SignerKey
from plausible.ledger.notes.policy import Policy
from plausible.ledger.storage.archive import dated_by, kept_sizes
from plausible.ledger.storage.disk import StorageBroken
from plausible.node.mirror import follow
from plausible.node.mirror.archive import keep_archive
from plausible.node.mirror.directory import PENDING, STATE, LogSettings, locked, make
from plausible.node.mirror.follow import follow_once, open_source
from plausible.node.mirror.index import sign_index
from plausible.node.mirror.mirror import Mirror
from plausible.node.mirror.signatures import SignatureCheck, check_signatures
from plausible.schemas import jcs
from plausible.schemas.errors import EvidenceError, PeerError, SetupError, UsageError

from tests.node.mirrors import HASH, LOG, NAME, Grower, entry, running, size_at, until


@pytest.fixture
def log(tmp_path: Path) -> Grower:
    return Grower(tmp_path / "log")


@pytest.fixture
def folder(tmp_path: Path, log: Grower) -> Path:
    """A mirror that follows the log's folder."""
    made = tmp_path / "mirror"
    make(made, NAME, guard=tmp_path / "elsewhere" / "mirror.count")
    with Mirror(made) as mirror:
        mirror.add_log(LOG.name, [LOG.verifier], LogSettings(LOG.name, str(log.folder)))
    return made


def pull(folder: Path) -> int:
    """One look at the log; the size that is cosigned then."""
    with Mirror(folder) as mirror:
        return follow_once(mirror, LOG.name).size


def check_served(mirror: Mirror, log: Grower, size: int) -> None:
    """What is served is the log, whole, under the log's signature and the mirror's."""
    public = mirror.log_folder(LOG.name) / "public"
    copy = TiledLog(DirectorySource(public))
    note = Note.parse(copy.checkpoint_bytes())
    note.verify([LOG.verifier])
    (ours,) = note.verify([mirror.signer.verifier])
    assert ours.time
    checkpoint = Checkpoint.parse(note.text)
    assert checkpoint.size == size
    assert copy.root(size) == checkpoint.root
    original = TiledLog(DirectorySource(log.public))
    assert list(copy.entries(0, size, size)) == list(original.entries(0, size, size))


@pytest.mark.parametrize("steps", [[1, 1, 254, 1, 300, 0, 7], [9_000, 5], [256, 256]])
def test_a_growing_log_is_followed(folder: Path, log: Grower, steps: list[int]) -> None:
    for step in steps:
        size = log.grow(step)
        with Mirror(folder) as mirror:  # opened anew each time: from files alone
            assert follow_once(mirror, LOG.name).size == size
            check_served(mirror, log, size)


def test_large_entries_come_in_smaller_runs(folder: Path, log: Grower, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is held in memory is bounded in bytes, not in entries."""
    monkeypatch.setattr(follow, "RUN_BYTES", 6_000)
    log.grow(100)
    pull(folder)
    size = log.grow(2_000)
    begun: list[int] = []
    with Mirror(folder) as mirror:
        assert follow_once(mirror, LOG.name, progress=lambda done, _total: begun.append(done)).size == size
        check_served(mirror, log, size)
    assert len(begun) > 4  # one run would hold them all


def test_every_file_of_the_log_at_its_last_size_is_served_the_same(folder: Path, log: Grower) -> None:
    for step in (300, 600):
        log.grow(step)
        pull(folder)
    copy = folder / "logs" / HASH / "public"
    for path in (log.public / "tile").rglob("*"):
        if path.is_file():
            assert (copy / path.relative_to(log.public)).read_bytes() == path.read_bytes()


def test_cosignatures_of_others_are_served_along(folder: Path, log: Grower) -> None:
    size = log.grow(3)
    witness = SignerKey.generate("w.example/w", COSIGNATURE_ED25519)
    assert pull(folder) == size
    note = Note.parse((log.public / "checkpoint").read_bytes()).sign(witness, time=1_700_000_000)
    (log.public / "checkpoint").write_bytes(note.encode())
    assert pull(folder) == size
    served = Note.parse((folder / "logs" / HASH / "public" / "checkpoint").read_bytes())
    assert served.verify([witness.verifier]) and served.verify([LOG.verifier])
    with Mirror(folder) as mirror:
        assert served.verify([mirror.signer.verifier])


# --- logs that lie ---


def refused(folder: Path, match: str) -> None:
    """The next look says what is false, and nothing that was cosigned changes."""
    with Mirror(folder) as mirror:
        before = mirror.head(LOG.name), mirror.copy(LOG.name).served()
        with pytest.raises(EvidenceError, match=match):
            follow_once(mirror, LOG.name)
        assert (mirror.head(LOG.name), mirror.copy(LOG.name).served()) == before


@pytest.mark.parametrize("entry", [5, 700, 999])
def test_a_changed_entry_is_named_and_not_copied(folder: Path, log: Grower, entry: int) -> None:
    log.grow(3)
    pull(folder)
    log.grow(997)
    number = entry // 256
    path = next(
        p for p in (log.public / "tile/entries").rglob(f"{number:03d}*/*" if number == 3 else f"{number:03d}")
        if p.is_file() and (number < 3 or p.name == "232")
    )  # fmt: skip
    width = 232 if number == 3 else 256
    leaves = decode_bundle(path.read_bytes(), width)
    leaves[entry % 256] += b"!"
    path.write_bytes(encode_bundle(leaves))
    refused(folder, f"entry {entry} ")


@pytest.mark.parametrize("name", ["tile/0/001", "tile/0/003.p/232", "tile/1/000.p/3"])
def test_a_changed_tile_is_refused(folder: Path, log: Grower, name: str) -> None:
    log.grow(3)
    pull(folder)
    log.grow(997)
    data = bytearray((log.public / name).read_bytes())
    data[-1] ^= 1
    (log.public / name).write_bytes(data)
    refused(folder, "tile")


def test_a_missing_bundle_is_not_false_but_unreachable(folder: Path, log: Grower) -> None:
    log.grow(1000)
    (log.public / "tile/entries/002").unlink()
    with Mirror(folder) as mirror, pytest.raises(PeerError, match="tile/entries/002"):
        follow_once(mirror, LOG.name)


def test_a_log_that_shrank_is_refused(folder: Path, log: Grower, tmp_path: Path) -> None:
    log.grow(10)
    shutil.copytree(log.public, tmp_path / "old")
    log.grow(10)
    pull(folder)
    shutil.rmtree(log.public)
    shutil.copytree(tmp_path / "old", log.public)
    refused(folder, "went back: it serves size 10 and has signed size 20")


@pytest.mark.parametrize("size", [6, 12, 30])
def test_two_histories_are_refused_and_the_proof_is_kept(folder: Path, log: Grower, tmp_path: Path, size: int) -> None:
    log.grow(12)
    pull(folder)
    other = Grower(tmp_path / "other")
    other.grow(size, "another")
    shutil.rmtree(log.public)
    shutil.copytree(other.public, log.public)
    # of one size even the pending head's state says it; else the tiles are the proof
    refused(folder, "two histories")
    note, proof = sorted((folder / "logs" / HASH / "refused").iterdir())
    Note.parse(note.read_bytes()).verify([LOG.verifier])
    # anybody can verify it, who was told nothing but the file
    policy = Policy.parse(f"log {LOG.verifier}\nquorum none\n".encode())
    proven = verify_contradiction(proof.read_bytes(), policy=policy)
    assert proven.origin == LOG.name


def test_a_head_that_somebody_else_signed_is_refused(folder: Path, log: Grower, tmp_path: Path) -> None:
    log.grow(3)
    note = Checkpoint(LOG.name, 3, bytes(32)).sign(SignerKey.generate(LOG.name)).encode()
    (log.public / "checkpoint").write_bytes(note)
    refused(folder, "no signature by a known key")


def test_with_signatures_a_forged_entry_ends_the_copy_before_it(folder: Path, tmp_path: Path) -> None:
    """An entry under another author's name, in a log that signed it all the same."""
    author, thief = SignerKey.generate("models.example/a"), SignerKey.generate("models.example/a")
    leaves = [entry(author, n) for n in range(300)] + [b"no entry at all"]
    key = SignerKey.generate("log.example/s")
    forged = Grower(tmp_path / "signed", key)
    forged.add(leaves)
    with Mirror(folder) as mirror:
        mirror.add_log(key.name, [key.verifier], LogSettings(key.name, str(forged.folder), signatures=True))
        with SignatureCheck(1) as signatures:
            assert follow_once(mirror, key.name, signatures=signatures).size == 301
            assert (signatures.entries, signatures.leaves) == (300, 301)
            good = entry(author, 301)
            envelope = json.loads(entry(thief, 302))
            envelope["signatures"][0]["sig"] = json.loads(good)["signatures"][0]["sig"]
            forged.add([good, jcs.encode(envelope)])
            with pytest.raises(EvidenceError, match="entry 302: invalid signature"):
                follow_once(mirror, key.name, signatures=signatures)
        assert mirror.head(key.name).size == 301


def test_a_log_that_changes_its_key_goes_on_after_its_new_key_was_accepted(folder: Path, log: Grower) -> None:
    log.grow(3)
    pull(folder)
    log.grow(3)
    new = SignerKey.generate(LOG.name)
    head = log.checkpoint()
    (log.public / "checkpoint").write_bytes(head.sign(new).encode())
    refused(folder, "no signature by a known key")
    with Mirror(folder) as mirror:
        mirror.change_keys(LOG.name, [LOG.verifier, new.verifier])
        (log.public / "checkpoint").write_bytes(head.sign(LOG, new).encode())
        assert follow_once(mirror, LOG.name).size == 6
        mirror.change_keys(LOG.name, [new.verifier])
        assert follow_once(mirror, LOG.name).size == 6
    log.grow(1)
    (log.public / "checkpoint").write_bytes(log.checkpoint().sign(new).encode())
    assert pull(folder) == 7


# --- the absence index ---


def test_the_index_is_recomputed_signed_and_served_with_the_logs_own_signature(folder: Path, log: Grower) -> None:
    author, index = SignerKey.generate("models.example/a"), SignerKey.generate(f"{LOG.name}/index")
    log.add([entry(author, n) for n in range(300)])
    head = recompute(TiledLog(DirectorySource(log.public)), log.checkpoint())
    publish(log.public, head.sign(index))
    with Mirror(folder) as mirror, open_source(str(log.folder)) as source:
        assert sign_index(mirror, LOG.name, source) is None
        follow_once(mirror, LOG.name)
        for _ in range(2):
            assert sign_index(mirror, LOG.name, source) == head
        served = Note.parse((mirror.copy(LOG.name).public.folder / "index/latest").read_bytes())
        assert len(served.verify([index.verifier, mirror.index_key.verifier])) == 2
        # it grows: the note of the log is behind, ours is not
        log.add([entry(author, 300)])
        follow_once(mirror, LOG.name)
        found = sign_index(mirror, LOG.name, source)
        assert found is not None and found == recompute(mirror.copy(LOG.name).log, log.checkpoint())
        policy = f"log {index.verifier}\nwitness m {mirror.index_key.verifier}\nquorum m\n".encode()
    assert IndexPolicy.parse(policy).check(served.encode()).signers == ("m",)


def test_a_false_index_root_of_the_log_is_said_and_ours_is_served(folder: Path, log: Grower) -> None:
    author, index = SignerKey.generate("models.example/a"), SignerKey.generate(f"{LOG.name}/index")
    log.add([entry(author, n) for n in range(3)])
    publish(log.public, IndexHead.of(log.checkpoint(), bytes(32)).sign(index))
    with Mirror(folder) as mirror, open_source(str(log.folder)) as source:
        follow_once(mirror, LOG.name)
        with pytest.raises(EvidenceError, match="its entries do not give"):
            sign_index(mirror, LOG.name, source)
        served = Note.parse((mirror.copy(LOG.name).public.folder / "index/latest").read_bytes())
        assert IndexHead.parse(served.text) == recompute(mirror.copy(LOG.name).log, log.checkpoint())
    done = subprocess.run(
        [sys.executable, "-m", "plausible.cli", "mirror", "pull", str(folder)],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    with Mirror(folder) as mirror:
        assert mirror.said(LOG.name)["index"].kind == "false" and "log" not in mirror.said(LOG.name)


# --- the archive ---


def test_heads_witnessed_before_the_mirror_looked_are_kept_along(folder: Path, log: Grower) -> None:
    for _ in range(4):
        log.grow(90)
    pull(folder)
    (log.public / "checkpoints" / "91").write_bytes((log.public / "checkpoints" / "90").read_bytes())
    (log.public / "checkpoints" / "5").write_bytes(b"no head\n")
    with Mirror(folder) as mirror, open_source(str(log.folder)) as source:
        assert keep_archive(mirror, LOG.name, source) == 3
        assert keep_archive(mirror, LOG.name, source) == 0
        copy = mirror.copy(LOG.name).public.folder
    assert kept_sizes(copy) == [90, 180, 270, 360]
    policy = Policy.parse(f"log {LOG.verifier}\nquorum none\n".encode())
    assert dated_by(TiledLog(DirectorySource(copy)), 100, policy).size == 180


def test_a_kept_head_of_another_history_is_proof(folder: Path, log: Grower) -> None:
    log.grow(90)
    log.grow(10)
    other = Checkpoint(LOG.name, 50, bytes(32)).sign(LOG).encode()
    (log.public / "checkpoints" / "50").write_bytes(other)
    pull(folder)
    look = pytest.raises(EvidenceError, match="two histories")
    with Mirror(folder) as mirror, open_source(str(log.folder)) as source, look:
        keep_archive(mirror, LOG.name, source)
    proof = next((folder / "logs" / HASH / "refused").glob("*.contradiction.json"))
    policy = Policy.parse(f"log {LOG.verifier}\nquorum none\n".encode())
    assert verify_contradiction(proof.read_bytes(), policy=policy).origin == LOG.name


def test_entries_read_by_patterns_are_judged_as_by_the_profile() -> None:
    """Bent entries: the quick way and the whole way find the same ones false, and the same ones no entries."""
    author, rng = SignerKey.generate("models.example/a"), random.Random(5)
    good = [entry(author, n) for n in range(4)]
    for number in range(300):
        leaf = bytearray(good[number % 4])
        place = rng.randrange(len(leaf))
        if rng.random() < 0.9:
            leaf[place] = rng.choice(leaf)
        else:
            del leaf[place]
        try:
            parsed = parse_entry(bytes(leaf))
        except EvidenceError:
            expected = (0, False)
        else:
            try:
                parsed.envelope.verify(parsed.author)
                expected = (1, False)
            except EvidenceError:
                expected = (1, True)
        entries, problem = check_signatures(0, [bytes(leaf)])
        assert (entries, problem is not None) == expected
    assert check_signatures(7, good) == (4, None)


# --- kills, disks and restored states ---


def test_after_a_failed_flush_nothing_is_cosigned(folder: Path, log: Grower, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second flush succeeds, as kernels make it: it must not count."""
    log.grow(300)
    real = os.fsync
    failures = iter([OSError(errno.EIO, "input/output error")])

    def fsync(descriptor: int) -> None:
        if os.fstat(descriptor).st_size == 8192 and (error := next(failures, None)) is not None:  # a whole tile
            raise error
        real(descriptor)

    with Mirror(folder) as mirror:
        monkeypatch.setattr(os, "fsync", fsync)
        for _ in range(2):
            with pytest.raises(StorageBroken):
                follow_once(mirror, LOG.name)
        assert mirror.head(LOG.name).size == 0
    assert pull(folder) == 300


def test_a_kill_in_the_middle_costs_nothing(folder: Path, log: Grower) -> None:
    """SIGKILL at several moments of one long catch-up; each start goes on, and the copy is the log in the end."""
    size = log.grow(24_000)
    copy = folder / "logs" / HASH / "public"
    for part in (1, 3):
        with running(folder) as (_, process):
            until(lambda want=part: (copy / f"tile/0/{want * 20:03d}").exists())  # type: ignore[misc]
            process.kill()
    with Mirror(folder) as mirror:
        assert follow_once(mirror, LOG.name).size == size
        check_served(mirror, log, size)


def test_files_that_a_power_cut_took_are_noticed_and_made_anew(folder: Path, log: Grower) -> None:
    log.grow(1000)
    pull(folder)
    copy = folder / "logs" / HASH
    (copy / "public/tile/1/000.p/3").write_bytes(bytes(96))
    log.grow(5)
    with Mirror(folder) as mirror, pytest.raises(SetupError, match=r"delete .*progress"):
        follow_once(mirror, LOG.name)
    (copy / "progress").unlink()
    assert pull(folder) == 1005
    with Mirror(folder) as mirror:
        check_served(mirror, log, 1005)


def test_a_restored_list_of_pending_heads_is_brought_forward(folder: Path, log: Grower, tmp_path: Path) -> None:
    log.grow(3)
    pull(folder)
    shutil.copy(folder / PENDING, tmp_path / "old.db")
    log.grow(3)
    pull(folder)
    shutil.copy(tmp_path / "old.db", folder / PENDING)
    with Mirror(folder) as mirror:
        pending = mirror.pending(LOG.name)
        assert pending is not None and pending[0].size == 6


def test_a_restored_state_is_not_opened(folder: Path, log: Grower, tmp_path: Path) -> None:
    log.grow(3)
    pull(folder)
    shutil.copy(folder / STATE, tmp_path / "old.db")
    log.grow(3)
    pull(folder)
    for path in folder.glob(f"{STATE}*"):
        path.unlink()
    shutil.copy(tmp_path / "old.db", folder / STATE)
    with pytest.raises(SetupError, match="restored from a backup"):
        Mirror(folder)


def test_a_cosignature_of_its_own_that_it_does_not_know_ends_it(tmp_path: Path, log: Grower) -> None:
    """Without a guard: a head under the mirror's own signature, beyond what its state knows."""
    made = tmp_path / "m"
    make(made, NAME, guard=None, guarded=False)
    with Mirror(made) as mirror:
        mirror.add_log(LOG.name, [LOG.verifier], LogSettings(LOG.name, str(log.folder)))
        log.grow(3)
        follow_once(mirror, LOG.name)
        log.grow(3)
        note = Note.parse((log.public / "checkpoint").read_bytes()).sign(mirror.signer, time=1_700_000_000)
        (log.public / "checkpoint").write_bytes(note.encode())
        with pytest.raises(SetupError, match="signs nothing any more"):
            follow_once(mirror, LOG.name)
        assert mirror.frozen is not None


# --- as a process ---


def test_the_service_follows_serves_and_takes_up_new_logs(folder: Path, log: Grower, tmp_path: Path) -> None:
    size = log.grow(300)
    with running(folder) as (at, _), httpx.Client(base_url=at) as client:
        until(lambda: size_at(client) == size)
        tile = client.get(f"/{HASH}/tile/0/000")
        assert tile.headers["cache-control"] == "public, max-age=31536000, immutable" and len(tile.content) == 8192
        head = client.get(f"/{HASH}/checkpoint")
        assert head.headers["cache-control"] == "public, max-age=2"
        assert client.get(f"/{HASH}/log.toml").status_code == 404
        assert client.get(f"/{'0' * 64}/checkpoint").status_code == 404
        assert client.get("/keys/mirror.key").status_code == 404
        assert client.get("/readyz").status_code == 200
        until(lambda: client.get(f"/{HASH}/index/latest").status_code == 200)
        size = log.grow(400)
        until(lambda: size_at(client) == size)

        key = SignerKey.generate("log.example/b")
        other = Grower(tmp_path / "b", key)
        other.grow(5)
        words = ["mirror", "add", str(folder), key.verifier.encode(), "--from", str(other.folder)]
        subprocess.run([sys.executable, "-m", "plausible.cli", *words], check=True, timeout=60)
        path = f"/{hashlib.sha256(key.name.encode()).hexdigest()}/checkpoint"
        until(lambda: client.get(path).status_code == 200)


def test_one_process_writes(folder: Path) -> None:
    with locked(folder), pytest.raises(SetupError, match="another process"), locked(folder):
        pass
    with locked(folder):  # given back
        pass


def test_a_folder_that_is_no_mirror_and_names_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="pd mirror init"):
        Mirror(tmp_path)
    with pytest.raises(UsageError, match="no name"):
        make(tmp_path / "m", "a b", guard=None)
    (tmp_path / "x").write_text("x")
    with pytest.raises(UsageError, match="holds something"):
        make(tmp_path, NAME, guard=None)
