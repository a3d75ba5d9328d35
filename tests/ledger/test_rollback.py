"""A ledger restored from a backup: it signs nothing, keeps what is recorded, says how to go on, and that way works."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from plausible.ledger import Ledger
from plausible.ledger.entries.digests import pixel_digest
from plausible.ledger.fsck import check_ledger
from plausible.ledger.keys.keyfile import read_key
from plausible.ledger.merkle.reader import DirectorySource
from plausible.ledger.merkle.tree import MemoryTree, hash_leaf
from plausible.ledger.notes.checkpoint import open_checkpoint
from plausible.ledger.storage.lock import LOCK_FILE, SequencerLock
from plausible.ledger.writing.recover import recover
from plausible.ledger.writing.sequencer import SKIPPED_DRAWS
from plausible.schemas.errors import EvidenceError, SetupError

from tests.ledger.studio import WITNESSES, make, manifest, picture

RESTORED = pytest.mark.parametrize("restored", [(), ("state.db", "vault.db"), ("state.db",)])


class Studio:
    """A ledger whose witnesses keep their state elsewhere, a backup of it, and two pictures logged after the backup."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "a.ledger"
        make(self.path).close()
        outside = folder / "witnesses"
        shutil.move(self.path / "witnesses", outside)
        config = self.path / "log.toml"
        config.write_text(config.read_text().replace('state = "witnesses/', f'state = "{outside}/'))
        with Ledger.open(self.path) as ledger:
            ledger.append(image=picture(1), model="m")
        self.backup = folder / "backup"
        shutil.copytree(self.path, self.backup)
        with Ledger.open(self.path) as ledger:
            for number in (2, 3):
                ledger.append(image=picture(number), model="m").wait("witnessed", 30)
        self.mirror = folder / "mirror"
        shutil.copytree(self.path / "public", self.mirror)

    def restore(self, *names: str) -> None:
        """Put these files (or all) of the backup in the place of what is there."""
        if not names:
            shutil.rmtree(self.path)
            shutil.copytree(self.backup, self.path)
        for name in names:
            for path in self.path.glob(f"{name}*"):
                path.unlink()
            shutil.copy(self.backup / name, self.path / name)

    def open_held(self) -> Ledger:
        with pytest.warns(RuntimeWarning, match="restored from a backup"):
            return Ledger.open(self.path)

    def heads(self) -> set[bytes]:
        """Every signed head that lies in public/."""
        public = self.path / "public"
        files = [public / "checkpoint", public / "checkpoint.pending", *(public / "checkpoints").iterdir()]
        return {file.read_bytes() for file in files}

    def check_history(self, heads: set[bytes]) -> int:
        """All these heads are signed by the log and of its final tree; the tree's size."""
        with Ledger.open(self.path, mode="read") as ledger:
            hashes = [hash_leaf(ledger.entry(index)) for index in range(ledger.checkpoint().size)]
        key = read_key(self.path / "keys/log.key").verifier
        for note in heads:
            head, _ = open_checkpoint(note, [key])
            assert head.size <= len(hashes) and MemoryTree(hashes[: head.size]).root() == head.root
        return len(hashes)


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    return Studio(tmp_path)


@RESTORED
def test_a_restored_ledger_signs_nothing_and_keeps_what_is_recorded(studio: Studio, restored: tuple[str, ...]) -> None:
    studio.restore(*restored)
    before = studio.heads()
    with studio.open_held() as ledger:
        receipt = ledger.append(image=picture(4), model="m")
        with pytest.raises(SetupError, match=r"pd recover .*a.ledger --from"):
            receipt.wait("accepted", 20)
        assert receipt.state == "queued" and receipt.index is None
        with pytest.raises(SetupError, match="restored from a backup"):
            ledger.flush(timeout=20)
        with pytest.raises(SetupError, match="pd recover"):
            ledger.register_model("another", manifest=manifest(9))
    assert studio.heads() == before
    # opened again it says so again, and still nothing is signed
    studio.open_held().close()
    assert studio.heads() == before


@RESTORED
def test_recovering_from_a_copy_goes_on_with_the_same_history(studio: Studio, restored: tuple[str, ...]) -> None:
    seen = studio.heads()
    studio.restore(*restored)
    with studio.open_held() as ledger:
        receipts = [ledger.append(image=picture(number), model="m") for number in (4, 5)]
    assert [receipt.state for receipt in receipts] == ["queued", "queued"]
    done = recover(studio.path, DirectorySource(studio.mirror) if restored == () else None)
    lost = 0 if restored == ("state.db",) else 2
    assert (done.old_size, done.size, done.without_record, done.waiting, done.renumbered) == (2, 4, lost, 2, 0)
    with Ledger.open(studio.path) as ledger:
        ledger.flush()
        found = [ledger.find(pixels=pixel_digest(picture(number))) for number in range(1, 6)]
        assert found == [[index] for index in range(1, 6)]
        assert ledger.append(image=picture(6), model="m").wait("witnessed", 30).index == 6
        assert [model.name for model in ledger.models()] == ["m"]
        # a draw that the lost state may have given out is not given out again
        assert {record.context.draw >= SKIPPED_DRAWS for i, _, record in ledger.records() if i >= 4} == {True}
    assert studio.check_history(seen | studio.heads()) == 7
    findings = check_ledger(studio.path).findings
    # entries whose records the backup did not have are sound, and cannot be opened
    assert [finding.what for finding in findings] == ["2 own entries about images have no row here"][:lost]


def test_a_copy_that_is_not_newer_is_refused(studio: Studio) -> None:
    studio.restore()
    before = {path: path.read_bytes() for path in studio.path.glob("*.db")}
    with pytest.raises(SetupError, match="nothing to take"):
        recover(studio.path)
    lock = SequencerLock(studio.path / LOCK_FILE)
    assert lock.acquire()
    with pytest.raises(SetupError, match="another process"):
        recover(studio.path, DirectorySource(studio.mirror))
    lock.release()
    assert {path: path.read_bytes() for path in studio.path.glob("*.db")} == before


def test_a_copy_with_another_entry_or_of_another_log_is_refused(studio: Studio, tmp_path: Path) -> None:
    studio.restore()
    before = {path: path.read_bytes() for path in studio.path.glob("*.db")}
    with make(tmp_path / "other.ledger") as other:
        for number in range(4):
            other.append(image=picture(number), model="m")
    with pytest.raises((EvidenceError, SetupError)):
        recover(studio.path, DirectorySource(tmp_path / "other.ledger/public"))
    bundle = studio.mirror / "tile/entries/000.p/4"
    data = bytearray(bundle.read_bytes())
    data[-300] ^= 1
    bundle.write_bytes(data)
    with pytest.raises(EvidenceError):
        recover(studio.path, DirectorySource(studio.mirror))
    assert {path: path.read_bytes() for path in studio.path.glob("*.db")} == before


def test_entries_accepted_while_witnesses_were_away_get_new_places(studio: Studio) -> None:
    """Too few witnesses answered at first: an entry was accepted from the old state, no head was signed over it."""
    seen = studio.heads()
    studio.restore()
    files = [studio.path.parent / "witnesses" / f"{name.replace('/', '-')}.db" for name in WITNESSES]
    for path in files:
        path.rename(f"{path}.away")
    with Ledger.open(studio.path) as ledger:
        ledger.take_draws(8)  # as a busy day would: its draws must not be those of the lost entries
        receipt = ledger.append(image=picture(7), model="m").wait("accepted", 30)
        assert receipt.index == 2
        with pytest.raises(SetupError, match="no head is signed"):
            receipt.wait("sequenced", 1.2)
    for path in files:
        Path(f"{path}.away").rename(path)
    studio.open_held().close()
    done = recover(studio.path, DirectorySource(studio.mirror))
    assert (done.size, done.waiting, done.renumbered) == (4, 1, 1)
    with Ledger.open(studio.path) as ledger:
        ledger.flush()
        assert ledger.find(pixels=pixel_digest(picture(7))) == [4]
        assert ledger.find(pixels=pixel_digest(picture(2))) == [2]
    assert studio.check_history(seen | studio.heads()) == 5


def test_without_witnesses_a_warning_says_what_cannot_be_noticed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make(tmp_path / "a.ledger", witnesses=()).close()
    assert "quorum none" in caplog.text and "nobody notices" in caplog.text
