"""The table of docs/security.md, row by row: what a thief of each part can do, and what he cannot."""

from __future__ import annotations

import re
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from plausible.ledger import Ledger
from plausible.ledger.absence.keys import PIXELS
from plausible.ledger.absence.note import INDEX_NOTE, IndexHead, IndexPolicy
from plausible.ledger.absence.pages import ABSENCE_FILE
from plausible.ledger.absence.proof import AbsenceProof, KeyProof, verify_absence
from plausible.ledger.absence.prove import prove_absence, publish, sign_index
from plausible.ledger.absence.store import AbsenceStore
from plausible.ledger.absence.trie import IndexMap, MemoryPages
from plausible.ledger.entries.authors import Authors
from plausible.ledger.entries.digests import model_manifest, pixel_digest
from plausible.ledger.entries.entry import parse_entry, sign_entry, verify_entry
from plausible.ledger.fsck import Report, check_ledger
from plausible.ledger.keys.keyfile import read_key
from plausible.ledger.merkle.reader import DirectorySource, TiledLog
from plausible.ledger.merkle.tree import MemoryTree, hash_leaf
from plausible.ledger.notes.checkpoint import Checkpoint
from plausible.ledger.notes.cosignature import cosign
from plausible.ledger.notes.note import ED25519, Note, SignerKey
from plausible.ledger.notes.policy import Policy
from plausible.ledger.notes.proof import TlogProof, make_proof, verify_proof
from plausible.ledger.vault.rekey import encrypt_vault
from plausible.ledger.vault.vaultkey import VaultKey
from plausible.ledger.witness import Cosigned, Witness
from plausible.schemas.errors import EvidenceError, PolicyError, SetupError

ROOT = Path(__file__).resolve().parents[2]
NAMES = ("a.example", "b.example", "c.example")
OTHER_ROOT = bytes([7]) * 32


def picture(number: int) -> NDArray[np.uint8]:
    return np.random.default_rng(number).integers(0, 256, (16, 16, 3), dtype=np.uint8)


class Victim:
    """A ledger of three witnesses, of which two must cosign, with one model and two pictures; closed."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "studio.ledger"
        manifest = model_manifest(
            "tests", {"latent": 8}, {"output_range": [-1, 1], "rounding": "mul255_add0.5_floor"},
            [("w", "float32", [1], bytes(32))],
        )  # fmt: skip
        with Ledger.init(self.path, author="models.example/studio", witnesses=NAMES) as ledger:
            ledger.register_model("m", manifest=manifest)
            for number in (1, 2):
                ledger.append(image=picture(number), model="m").wait("witnessed", 20)
        self.policy = Policy.parse((self.path / "policy.txt").read_bytes())
        self.authors = Authors.parse((self.path / "authors.txt").read_bytes())

    def key(self, name: str) -> SignerKey:
        return read_key(self.path / "keys" / f"{name}.key")

    @property
    def leaves(self) -> list[bytes]:
        log = TiledLog(DirectorySource(self.path / "public"))
        return list(log.entries(0, 3, 3))


@pytest.fixture
def victim(tmp_path: Path) -> Victim:
    return Victim(tmp_path)


def test_every_row_of_the_table_names_a_test_that_exists() -> None:
    rows = re.findall(
        r"^\| (?!part|---)(.+?) \|.*\|.*\| (.*) \|$", (ROOT / "docs/security.md").read_text(), re.MULTILINE
    )
    assert len(rows) == 11
    for part, shown in rows:
        names = re.findall(r"\[`(test_\w+)`\]\((\.\./tests/[\w/]+\.py)\)", shown)
        assert names, part
        for name, link in names:
            assert f"def {name}(" in (ROOT / "docs" / link).read_text(), f"{name} is not in {link}"


def test_a_stolen_author_key_logs_until_revoked_and_rewrites_nothing(victim: Victim) -> None:
    genuine = parse_entry(victim.leaves[1])
    assert genuine.generation is not None
    predicate = genuine.generation.predicate.model_copy(update={"draw": 10**6})
    forged = sign_entry(genuine.generation.model_copy(update={"predicate": predicate}), victim.key("author"))
    # it passes as the author's...
    assert verify_entry(parse_entry(forged), victim.authors).name == "models.example/studio"
    # ...until the author's key is revoked from some index on: older entries keep counting
    text = f"author {genuine.header.author} models.example/studio/log 2\n"
    revoked = Authors.parse(text)
    assert verify_entry(genuine, revoked, index=1, origin="models.example/studio/log")
    with pytest.raises(PolicyError, match="revoked"):
        verify_entry(parse_entry(forged), revoked, index=3, origin="models.example/studio/log")
    # and it does not take the place of what was logged
    checkpoint = (victim.path / "public/checkpoint").read_bytes()
    path = MemoryTree(map(hash_leaf, victim.leaves)).inclusion(1)
    assert verify_proof(make_proof(1, path, checkpoint, victim.leaves[1]), hash_leaf(victim.leaves[1]), victim.policy)
    with pytest.raises(EvidenceError):
        verify_proof(make_proof(1, path, checkpoint, forged), hash_leaf(forged), victim.policy)


def test_a_stolen_log_key_cannot_split_the_view(victim: Victim) -> None:
    """A second tree of the same size: signed by the log, cosigned by nobody who saw the first, kept as evidence."""
    split = Checkpoint("models.example/studio/log", 3, OTHER_ROOT).sign(victim.key("log"))
    with pytest.raises(PolicyError, match="quorum"):
        victim.policy.check(split.encode())
    witnesses = [
        Witness(name, victim.key(f"witness-{name}"), victim.path / "witnesses" / f"{name}.db") for name in NAMES
    ]
    caught = 0
    for witness in witnesses:
        outcome = witness.add_checkpoint(3, [], split.encode())
        assert not isinstance(outcome, Cosigned)
        caught += [conflict.theirs for conflict in witness.conflicts()] == [split.encode()]
        witness.close()
    assert caught >= 2  # the quorum; the third may not have been asked for the last head before the ledger was closed


LOG_INDEX = SignerKey("models.example/studio/log/index", ED25519, bytes([8]) * 32)
MONITOR = SignerKey("monitor.example/index", ED25519, bytes([9]) * 32)


def test_a_stolen_index_key_hides_no_entry(victim: Victim) -> None:
    """The log signs the root of a map that leaves an entry out: no quorum for it, and whoever recomputes says so."""
    hidden = pixel_digest(picture(1))
    chosen = IndexPolicy.parse(f"log {LOG_INDEX.verifier}\nwitness m {MONITOR.verifier}\nquorum m\n".encode())
    log = TiledLog(DirectorySource(victim.path / "public"))
    checkpoint = log.checkpoint_bytes()
    point = Checkpoint.parse(Note.parse(checkpoint).text)
    false = IndexHead.of(point, IndexMap(MemoryPages()).root()).sign(LOG_INDEX)
    proof = AbsenceProof({PIXELS: hidden}, {PIXELS: KeyProof(())}, false.encode(), checkpoint)
    with pytest.raises(PolicyError, match="quorum of the index policy"):
        verify_absence(proof, pixels=hidden, file=None, policy=victim.policy, index_policy=chosen)
    with pytest.raises(EvidenceError, match="names a root that its entries do not give"):
        sign_index(log, point, MONITOR, others=false)
    with pytest.raises(EvidenceError, match="is not what the log's entries give"):
        prove_absence(log, false.encode(), checkpoint, pixels=hidden, file=None)
    report = check_index(victim.path, false)
    assert report.exit_code == 1
    assert any(finding.file == INDEX_NOTE for finding in report.findings)


def check_index(path: Path, note: Note) -> Report:
    """fsck of a ledger that serves this index note."""
    publish(path / "public", note)
    return check_ledger(path)


def test_absence_db_is_trusted_for_nothing(victim: Victim) -> None:
    """Whatever is written into it, no proof comes out that a true index root would bear."""
    log = TiledLog(DirectorySource(victim.path / "public"))
    checkpoint = log.checkpoint_bytes()
    point = Checkpoint.parse(Note.parse(checkpoint).text)
    note = sign_index(log, point, LOG_INDEX)
    path = victim.path / ABSENCE_FILE
    with AbsenceStore(path).at(log, point) as index:
        assert IndexHead.of(point, index.root()) == IndexHead.parse(note.text)
    for statement in ("delete from page", "update page set records = zeroblob(160)", "update progress set size = 9"):
        kept = path.read_bytes()
        with sqlite3.connect(path) as database:
            database.execute(statement)
        database.close()
        with pytest.raises(SetupError, match=r"absence index|absence\.db"):
            prove_absence(
                log, note.encode(), checkpoint, pixels=pixel_digest(picture(1)), file=None, store=AbsenceStore(path)
            )
        path.write_bytes(kept)
    path.unlink()
    proof = prove_absence(
        log, note.encode(), checkpoint, pixels=pixel_digest(picture(1)), file=None, store=AbsenceStore(path)
    )
    assert proof.proofs[PIXELS].present


@pytest.fixture
def backed_up(victim: Victim) -> Iterator[Victim]:
    """`state.db` as it was before the last picture."""
    saved = victim.path.parent / "saved"
    saved.mkdir()
    for path in victim.path.glob("state.db*"):
        shutil.copy(path, saved)
    with Ledger.open(victim.path) as ledger:
        ledger.append(image=picture(3), model="m").wait("witnessed", 20)
    for path in victim.path.glob("state.db*"):
        path.unlink()
    for path in saved.iterdir():
        shutil.copy(path, victim.path)
    yield victim


def test_a_restored_state_db_does_not_fork_a_witnessed_log(backed_up: Victim) -> None:
    before = (backed_up.path / "public/checkpoint").read_bytes()
    with pytest.warns(RuntimeWarning, match="restored"):
        ledger = Ledger.open(backed_up.path)
    with ledger, pytest.raises(SetupError, match="pd recover"):
        ledger.append(image=picture(4), model="m").wait("accepted", 20)
    assert (backed_up.path / "public/checkpoint").read_bytes() == before


def test_tiles_and_lookup_are_trusted_for_nothing(victim: Victim) -> None:
    with Ledger.open(victim.path, mode="read") as ledger:
        wanted = ledger.find(pixels=pixel_digest(picture(2)))
    for path in victim.path.glob("lookup.db*"):
        path.unlink()
    with Ledger.open(victim.path, mode="read") as ledger:
        assert ledger.find(pixels=pixel_digest(picture(2))) == wanted == [2]
    bundle = victim.path / "public/tile/entries/000.p/3"
    data = bytearray(bundle.read_bytes())
    data[-10] ^= 1
    bundle.write_bytes(data)
    log = TiledLog(DirectorySource(victim.path / "public"))
    with pytest.raises(EvidenceError, match="hash"):
        list(log.entries(0, 3, 3))
    # changing the hash along with it contradicts the signed root
    tile = victim.path / "public/tile/0/000.p/3"
    tile.write_bytes(tile.read_bytes()[:64] + hash_leaf(bytes(data[-100:])))
    log.forget()
    assert log.root(3) != victim.policy.check(log.checkpoint_bytes()).root


def test_one_stolen_witness_key_is_one_vote(victim: Victim) -> None:
    forged = Checkpoint("models.example/studio/log", 3, OTHER_ROOT)
    note = forged.sign(victim.key("log"))
    one = note.add(cosign(forged, victim.key("witness-a.example"), 1_780_000_000))
    with pytest.raises(PolicyError, match="quorum"):
        victim.policy.check(one.encode())
    two = one.add(cosign(forged, victim.key("witness-b.example"), 1_780_000_000))
    assert victim.policy.check(two.encode()).root == OTHER_ROOT, "two thieves are a quorum: that is what 2 of 3 means"


def test_a_stolen_vault_reads_and_forges_nothing(victim: Victim) -> None:
    with Ledger.open(victim.path, mode="read") as ledger:
        _, entry, record = next(ledger.records())
        opening = ledger.opening(1)
    assert record.output is not None, "private: whoever has the vault reads it"
    assert opening
    # with everything the vault holds, but another key, an entry under the author's name convinces nobody
    thief = SignerKey("models.example/studio", 0x01, bytes(32))
    assert entry.generation is not None
    header = entry.header.model_copy(update={"author": thief.verifier.encode()})
    predicate = entry.generation.predicate.model_copy(update={"header": header})
    forged = sign_entry(entry.generation.model_copy(update={"predicate": predicate}), thief)
    with pytest.raises(PolicyError, match="not among the authors"):
        verify_entry(parse_entry(forged), victim.authors)


def test_a_stolen_encrypted_vault_reads_nothing(victim: Victim) -> None:
    """Key and file apart open nothing; together they are a plain vault."""
    key = VaultKey.make_file(victim.path.parent / "vault.key")
    with Ledger.open(victim.path, mode="read") as ledger:
        secret = ledger.vault.record(next(ledger.vault.generations())[0])[1]
    assert secret in (victim.path / "vault.db").read_bytes(), "the control"
    encrypt_vault(victim.path, key)
    assert not any(secret in path.read_bytes() for path in victim.path.glob("vault.db*"))
    for other in (None, VaultKey(bytes(32), passphrase=False)):
        with pytest.raises(SetupError, match="vault"):
            Ledger.open(victim.path, mode="read", vault_key=other)
    with Ledger.open(victim.path, mode="read", vault_key=key) as ledger:
        assert len(list(ledger.records())) == 2


def test_a_changed_model_file_does_not_load(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from plausible.attribution.generators import load_model_folder, mlp, save_model_folder

    config: dict[str, Any] = {"latent": 4, "hidden": [8], "height": 8, "width": 8, "channels": 3}
    sampling = {"output_range": [0, 1], "rounding": "mul255_add0.5_floor"}
    digest = save_model_folder(tmp_path / "m", "m", mlp.build(config), "mlp-decoder", config, sampling).digest
    assert load_model_folder(tmp_path / "m", digest).digest == digest
    weights = tmp_path / "m" / "weights.safetensors"
    data = bytearray(weights.read_bytes())
    data[-3] ^= 0x10
    weights.write_bytes(data)
    with pytest.raises(EvidenceError, match="weights are not those"):
        load_model_folder(tmp_path / "m", digest)


def test_the_proof_in_these_tests_is_a_real_one(victim: Victim) -> None:
    """The controls above fail for the reason they name: unforged, the same calls pass."""
    with Ledger.open(victim.path, mode="read") as ledger:
        proof = TlogProof.parse(ledger.proof(2))
    assert proof.extra == victim.leaves[2]
    accepted = verify_proof(proof, hash_leaf(victim.leaves[2]), victim.policy)
    assert len(accepted.cosigners) >= 2
    assert Note.parse(proof.note).text.startswith("models.example/studio/log\n3\n")
