"""Absence by a vouched index: what it adds to a scan, when it is not used, and when it refutes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from plausible.attribution.logs.absence import source_coverage
from plausible.attribution.logs.sources import EvidenceFiles, LogSource, open_logs, read_evidence
from plausible.attribution.logs.vouched import combined, given_answer, is_absence_proof, with_given
from plausible.attribution.stages.findings import Coverage
from plausible.ledger import Ledger
from plausible.ledger.absence.note import INDEX_NOTE, IndexHead, IndexPolicy
from plausible.ledger.absence.prove import prove_absence, publish, sign_index
from plausible.ledger.entries.authors import Authors
from plausible.ledger.entries.images import Image, read_image
from plausible.ledger.notes.note import ED25519, Note, SignerKey
from plausible.ledger.notes.policy import Policy

from tests.attribution.studio import AUTHOR, Studio, blocks, make_studio, save

LOG_INDEX = SignerKey(f"{AUTHOR}/log/index", ED25519, bytes([3]) * 32)
MONITOR = SignerKey("monitor.example/index", ED25519, bytes([4]) * 32)
INDEX_POLICY = IndexPolicy.parse(f"log {LOG_INDEX.verifier}\nwitness m {MONITOR.verifier}\nquorum m\n".encode())


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Studio:
    """A studio whose log serves an index note that a monitor signed too."""
    made = make_studio(tmp_path_factory.mktemp("vouched") / "studio.ledger", pictures=3)
    with Ledger.open(made.path, mode="read") as ledger:
        at = ledger.checkpoint().checkpoint
        publish(ledger.public, sign_index(ledger.log, at, MONITOR, others=sign_index(ledger.log, at, LOG_INDEX)))
    return made


@pytest.fixture
def public(studio: Studio, tmp_path: Path) -> Path:
    """A copy of what the log serves, to be changed."""
    return Path(shutil.copytree(studio.path / "public", tmp_path / "public"))


@pytest.fixture
def nowhere(tmp_path: Path) -> Image:
    return read_image(save(tmp_path / "nowhere.png", blocks(77)))


def opened(place: Path, studio: Studio) -> LogSource:
    [source], _ = open_logs([place], Policy.parse(studio.policy), Authors.parse(studio.authors))
    return source


def covered(place: Path, studio: Studio, image: Image, policy: IndexPolicy | None = INDEX_POLICY) -> Coverage:
    return source_coverage(opened(place, studio), image, index_policy=policy)


def renamed(public: Path, **changed: object) -> None:
    head = IndexHead.parse(Note.parse((public / INDEX_NOTE).read_bytes()).text)
    values = {"origin": head.origin, "size": head.size, "root": head.root, "index_root": head.index_root} | changed
    publish(public, IndexHead(**values).sign(LOG_INDEX, MONITOR))  # type: ignore[arg-type]


def proof_file(studio: Studio, image: Image) -> EvidenceFiles:
    with Ledger.open(studio.path, mode="read") as ledger:
        note, at = (studio.path / "public" / INDEX_NOTE).read_bytes(), ledger.checkpoint()
        proof = prove_absence(ledger.log, note, at.note, pixels=image.pixel_digest, file=image.file_digest)
    return EvidenceFiles("a.png.absence-proof", proof.encode())


def asked(files: EvidenceFiles, image: Image, studio: Studio, *sources: LogSource, max_age: float | None = None):
    return given_answer(
        files, image, policy=Policy.parse(studio.policy), index_policy=INDEX_POLICY, sources=sources, max_age=max_age
    )


@pytest.mark.parametrize("own", [True, False])
def test_the_reason_says_who_recomputed_the_index(studio: Studio, public: Path, nowhere: Image, own: bool) -> None:
    found = covered(studio.path if own else public, studio, nowhere)
    assert found.state == "absent"
    assert found.logs == ((f"{AUTHOR}/log", 4),)
    assert f"Proven absent by the index of {AUTHOR}/log over 4 entries, whose root m recomputed." in found.reason
    assert "All 4 entries were re-hashed" in found.reason


def test_without_an_index_policy_the_scan_alone_speaks(studio: Studio, nowhere: Image) -> None:
    found = covered(studio.path, studio, nowhere, None)
    assert (found.state, "index" in found.reason) == ("absent", False)


def test_an_index_that_nobody_else_vouches_for_is_not_used(studio: Studio, public: Path, nowhere: Image) -> None:
    alone = IndexPolicy.parse(f"log {LOG_INDEX.verifier}\nquorum none\n".encode())
    found = covered(public, studio, nowhere, alone)
    assert found.state == "absent"
    assert "was not used: only" in found.reason
    (public / INDEX_NOTE).unlink()
    assert "serves no index note" in covered(public, studio, nowhere).reason
    (public / INDEX_NOTE).parent.mkdir(exist_ok=True)
    (public / INDEX_NOTE).write_bytes(b"garbage")
    assert covered(public, studio, nowhere).state == "absent"


@pytest.mark.parametrize("changed", [{"index_root": bytes(32)}, {"root": bytes(32)}])
def test_a_signed_index_that_the_entries_do_not_give_refutes(
    studio: Studio, public: Path, nowhere: Image, changed: dict[str, object]
) -> None:
    renamed(public, **changed)
    assert covered(public, studio, nowhere).state == "contradiction"


def test_an_older_index_is_not_used(studio: Studio, public: Path, nowhere: Image) -> None:
    renamed(public, size=3)
    found = covered(public, studio, nowhere)
    assert (found.state, "size 3" in found.reason) == ("absent", True)


def test_a_logged_picture_is_present_whatever_the_index_policy(studio: Studio, tmp_path: Path) -> None:
    image = read_image(save(tmp_path / "a.png", studio.pictures[1]))
    assert covered(studio.path, studio, image).state == "present"
    check, coverage, _ = asked(proof_file(studio, image), image, studio)
    assert coverage is not None
    assert (check.state, coverage.state) == ("made", "present")


def test_a_given_proof_stands_without_the_log(studio: Studio, nowhere: Image, tmp_path: Path) -> None:
    files = proof_file(studio, nowhere)
    (tmp_path / files.name).write_bytes(files.proof)
    [read] = read_evidence([tmp_path / files.name])
    assert is_absence_proof(read)
    check, coverage, unread = asked(read, nowhere, studio)
    assert coverage is not None
    assert (check.state, coverage.state, unread) == ("made", "absent", None)
    assert combined(with_given([], [], [coverage])).state == "absent"
    stale, none, _ = asked(read, nowhere, studio, max_age=-1.0)
    assert (stale.state, none) == ("skipped", None)


def test_a_given_proof_stands_in_for_a_log_that_cannot_be_scanned(studio: Studio, public: Path, nowhere: Image) -> None:
    _, coverage, _ = asked(proof_file(studio, nowhere), nowhere, studio)
    assert coverage is not None
    shutil.rmtree(public / "tile" / "entries")
    source = opened(public, studio)
    unknown = source_coverage(source, nowhere, index_policy=INDEX_POLICY)
    assert unknown.state == "unknown"
    assert with_given([source], [unknown], [coverage]) == [coverage]
    whole = opened(studio.path, studio)
    scanned = source_coverage(whole, nowhere)
    assert with_given([whole], [scanned], [coverage]) == [scanned]


def test_given_proofs_that_do_not_hold(studio: Studio, nowhere: Image, public: Path, tmp_path: Path) -> None:
    files = proof_file(studio, nowhere)
    other = read_image(save(tmp_path / "other.png", blocks(78)))
    check, coverage, unread = asked(files, other, studio)  # of another image: a failed check by name
    assert (check.state, coverage, unread) == ("failed", None, None)
    check, coverage, unread = asked(EvidenceFiles("b", files.proof[:-9]), nowhere, studio)
    assert (check.state, coverage) == ("failed", None)
    assert unread is not None
    check, coverage, unread = given_answer(
        files, nowhere, policy=Policy.parse(studio.policy), index_policy=None, sources=(), max_age=None
    )
    assert (check.state, coverage, unread) == ("skipped", None, None)
    renamed(public, index_root=bytes(32))
    note = Note.parse((public / INDEX_NOTE).read_bytes()).encode()
    place = files.proof.index(b"plausible.index/1")
    old = int.from_bytes(files.proof[place - 4 : place], "big")
    forged = files.proof[: place - 4] + len(note).to_bytes(4, "big") + note + files.proof[place + old :]
    check, coverage, _ = asked(EvidenceFiles("c", forged), nowhere, studio)
    assert coverage is not None
    assert (check.state, coverage.state) == ("failed", "contradiction")
