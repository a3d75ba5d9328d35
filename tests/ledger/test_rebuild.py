"""A ledger made again from a copy of its log: what comes back, what is never gone on with, and when it may sign."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from plausible.ledger import Ledger
from plausible.ledger.entries.digests import pixel_digest
from plausible.ledger.fsck import check_ledger
from plausible.ledger.keys.keyfile import write_key
from plausible.ledger.merkle.reader import DirectorySource
from plausible.ledger.notes.note import SignerKey
from plausible.ledger.transfer.rebuild import Rebuilt, rebuild
from plausible.ledger.vault.backup import write_backup
from plausible.ledger.vault.vaultkey import VaultKey
from plausible.ledger.writing.sequencer import SKIPPED_DRAWS
from plausible.ledger.writing.witnessed import RESTORED_MARK
from plausible.schemas.errors import EvidenceError, PolicyError, SetupError, UsageError

from tests.ledger.studio import make, manifest, picture


class Lost:
    """A ledger of four pictures with what was kept of it elsewhere: keys, policy, a backup, a copy of public/."""

    def __init__(self, folder: Path, key: VaultKey | None = None) -> None:
        self.path = folder / "a.ledger"
        if key is None:
            make(self.path, witnesses=()).close()
        else:
            Ledger.init(self.path, author="models.example/studio", vault_key=key).close()
        with Ledger.open(self.path, vault_key=key) as ledger:
            if key is not None:
                ledger.register_model("m", manifest=manifest())
            for number in (1, 2):
                ledger.append(image=picture(number), model="m").wait("witnessed", 30)
        self.early = folder / "early"
        shutil.copytree(self.path / "public", self.early)
        with Ledger.open(self.path, vault_key=key) as ledger:
            for number in (3, 4):
                ledger.append(image=picture(number), model="m").wait("witnessed", 30)
            self.proof = ledger.proof(1)
        self.backup = folder / "vault.backup"
        write_backup(self.path, self.backup)
        self.copy, self.keys = folder / "copy", folder / "safe"
        shutil.copytree(self.path / "public", self.copy)
        shutil.copytree(self.path / "keys", self.keys)
        self.policy = (self.path / "policy.txt").read_bytes()
        shutil.rmtree(self.path)

    def rebuild(self, *, source: Path | None = None, backup: bool = True, key: VaultKey | None = None) -> Rebuilt:
        return rebuild(
            self.path,
            DirectorySource(source or self.copy),
            keys=self.keys,
            policy=self.policy,
            backup=self.backup if backup else None,
            vault_key=key,
        )


@pytest.fixture
def lost(tmp_path: Path) -> Lost:
    return Lost(tmp_path)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_everything_comes_back_and_it_signs_only_when_a_person_says_so(lost: Lost) -> None:
    done = lost.rebuild()
    assert (done.size, done.own, done.generations, done.records) == (5, 5, 4, 5)
    # what is missing is the model's folder, and that is said
    assert [finding.file for finding in check_ledger(lost.path).findings] == ["models/m/manifest.json"]
    with Ledger.open(lost.path) as ledger:
        assert [model.name for model in ledger.models()] == ["m"]
        ledger.register_model("m", manifest=manifest())  # the folder is put back, no second entry
        assert [ledger.find(pixels=pixel_digest(picture(n))) for n in range(1, 5)] == [[1], [2], [3], [4]]
        assert {index for index, _, _ in ledger.records()} == {1, 2, 3, 4}
        assert ledger.opening(2)
        receipt = ledger.append(image=picture(5), model="m")
        receipt.wait("accepted", 20)
        # `quorum none`: nobody can say that the lost disk signed nothing more
        with pytest.raises(SetupError, match="nothing is signed while"):
            receipt.wait("sequenced", 2)
    head = (lost.path / "public/checkpoint").read_bytes()
    assert head == (lost.copy / "checkpoint").read_bytes()
    (lost.path / RESTORED_MARK).unlink()
    with Ledger.open(lost.path) as ledger:
        assert ledger.append(image=picture(6), model="m").wait("witnessed", 30).index == 6
        entries = {index: entry for index, entry, _ in ledger.records()}
        # a number that the lost chain may have given out is not given out again: a chain of its own, far draws
        assert entries[5].header.chain != entries[4].header.chain
        assert [entries[i].header.seq for i in (1, 4, 5, 6)] == [1, 4, 0, 1]
        assert {entries[i].generation.draw >= SKIPPED_DRAWS for i in (5, 6)} == {True}  # type: ignore[union-attr]
    assert check_ledger(lost.path).findings == ()


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_without_a_backup_the_log_goes_on_and_the_records_are_lost(lost: Lost) -> None:
    done = lost.rebuild(backup=False)
    assert (done.size, done.records) == (5, 0)
    with Ledger.open(lost.path) as ledger:
        assert ledger.find(pixels=pixel_digest(picture(4))) == [4]
        with pytest.raises(SetupError):
            ledger.opening(4)
        assert ledger.proof(1)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_an_encrypted_vault_comes_back_with_its_key(tmp_path: Path) -> None:
    key = VaultKey.make_file(tmp_path / "vault.key")
    lost = Lost(tmp_path, key)
    assert lost.rebuild(key=key).records == 5
    with Ledger.open(lost.path, vault_key=key) as ledger:
        assert ledger.opening(3)
    with pytest.raises(UsageError, match="not empty"):
        lost.rebuild(key=key)


def test_a_newer_head_that_no_quorum_saw_binds(lost: Lost) -> None:
    """The early copy with the later pending head: signed, so it must not be forked. The ledger opens held."""
    shutil.copy(lost.copy / "checkpoint", lost.early / "checkpoint.pending")
    with pytest.raises(SetupError, match="older than this backup"):
        lost.rebuild(source=lost.early)
    assert not lost.path.exists()
    assert lost.rebuild(source=lost.early, backup=False).size == 3
    (lost.path / RESTORED_MARK).unlink()
    with pytest.warns(RuntimeWarning, match="restored from a backup"):
        held = Ledger.open(lost.path)
    with held, pytest.raises(SetupError, match="pd recover"):
        held.register_model("m", manifest=manifest())


def test_what_is_false_or_missing_makes_nothing(lost: Lost, tmp_path: Path) -> None:
    tile = next((lost.copy / "tile/entries").rglob("000.p/5"))
    whole = tile.read_bytes()
    tile.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(EvidenceError):
        lost.rebuild()
    tile.write_bytes(whole)
    lost.policy = f"log {SignerKey.generate('models.example/studio/log').verifier}\nquorum none\n".encode()
    with pytest.raises(PolicyError, match="does not name"):
        lost.rebuild()
    (lost.keys / "log.key").unlink()
    with pytest.raises(UsageError, match="log keys of 0 names"):
        lost.rebuild()
    write_key(lost.keys / "log.key", SignerKey.generate("models.example/studio/log"))
    with pytest.raises(EvidenceError, match="no signature by a known key"):
        lost.rebuild()
    assert not lost.path.exists()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".tmp")]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_the_key_that_goes_on_is_no_former_key(lost: Lost) -> None:
    """Two chains of one author are no rotation: the only key cannot be revoked."""
    lost.rebuild()
    with Ledger.open(lost.path) as ledger:
        assert ledger.own_chains() == [ledger.author_vkey]
        with pytest.raises(UsageError, match="no former key"):
            ledger.revoke_author_key(ledger.author_vkey)
