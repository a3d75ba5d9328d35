"""Absence is said only of a log whose every entry was hashed to the witnessed root."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from plausible.attribution.logs.coverage import scan_log
from plausible.ledger import Ledger
from plausible.ledger.entries.digests import pixel_digest
from plausible.ledger.merkle.reader import DirectorySource, TiledLog
from plausible.ledger.notes.policy import AcceptedCheckpoint
from plausible.schemas.errors import PeerError

from tests.attribution.studio import Studio, make_studio

NOWHERE = b"\x07" * 32


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Studio:
    return make_studio(tmp_path_factory.mktemp("coverage") / "studio.ledger", pictures=4)


@pytest.fixture
def public(studio: Studio, tmp_path: Path) -> Path:
    """A copy of what the log serves, to be damaged."""
    return Path(shutil.copytree(studio.path / "public", tmp_path / "public"))


@pytest.fixture(scope="module")
def accepted(studio: Studio) -> AcceptedCheckpoint:
    with Ledger.open(studio.path, mode="read") as ledger:
        return ledger.checkpoint()


def served(public: Path) -> TiledLog:
    return TiledLog(DirectorySource(public))


def bundle(public: Path) -> Path:
    return next(p for p in (public / "tile" / "entries").rglob("*") if p.is_file() and p.name == "5")


def test_present_and_absent(studio: Studio, public: Path, accepted: AcceptedCheckpoint) -> None:
    seen: list[tuple[int, int]] = []
    scan = scan_log(served(public), accepted, progress=lambda *step: seen.append(step))
    assert (scan.size, scan.contradiction, seen) == (5, None, [(5, 5)])
    assert scan.find(pixels=pixel_digest(studio.pictures[2]), file=NOWHERE) == [studio.indices[2]]
    present = scan.coverage(pixels=pixel_digest(studio.pictures[2]), file=NOWHERE)
    assert present.state == "present"
    absent = scan.coverage(pixels=NOWHERE, file=NOWHERE)
    assert (absent.state, absent.logs) == ("absent", (("models.example/studio/log", 5),))
    assert [entry.kind for _, entry in scan.entries()].count("urn:plausible:generation:v1") == 4


def test_a_digest_mentioned_elsewhere_is_no_presence(public: Path, accepted: AcceptedCheckpoint) -> None:
    """A commitment or a model's digest stands in the payload too, but it is not the image's."""
    scan = scan_log(served(public), accepted)
    entry = next(e for _, e in scan.entries() if e.generation is not None)
    assert entry.generation is not None
    assert scan.mentions(entry.generation.commitment)
    assert scan.coverage(pixels=entry.generation.commitment, file=entry.generation.model).state == "absent"


def test_one_edited_byte_makes_the_log_contradict_its_checkpoint(
    studio: Studio, public: Path, accepted: AcceptedCheckpoint
) -> None:
    path = bundle(public)
    data = path.read_bytes()
    place = data.index(b'"sig":"') + 20 + data[data.index(b'"sig":"') :].index(b'"sig":"', 10)
    path.write_bytes(data[:place] + (b"A" if data[place : place + 1] != b"A" else b"B") + data[place + 1 :])
    scan = scan_log(served(public), accepted)
    assert scan.contradiction is not None
    assert scan.edited == {1}
    assert "(entry 1)" in scan.contradiction
    assert scan.coverage(pixels=NOWHERE, file=NOWHERE).state == "contradiction"
    # what the intact entries say can still be found
    assert scan.coverage(pixels=pixel_digest(studio.pictures[3]), file=NOWHERE).state == "present"


def test_an_entry_left_out_is_noticed(public: Path, accepted: AcceptedCheckpoint) -> None:
    """A log that serves one entry twice instead of another has the right count, and the wrong root."""
    path = bundle(public)
    data = path.read_bytes()
    sizes: list[bytes] = []
    rest = data
    while rest:
        length = 2 + int.from_bytes(rest[:2], "big")
        sizes.append(rest[:length])
        rest = rest[length:]
    path.write_bytes(b"".join([*sizes[:2], sizes[1], *sizes[3:]]))
    scan = scan_log(served(public), accepted)
    assert scan.edited == {2}


def test_missing_bundles_are_no_absence(public: Path, accepted: AcceptedCheckpoint) -> None:
    bundle(public).unlink()
    with pytest.raises(PeerError, match="entries cannot be searched"):
        scan_log(served(public), accepted)
