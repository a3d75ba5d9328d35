"""One ledger in one process: what was appended is found, proven and opened again, under a quorum, after reopening."""

from __future__ import annotations

import itertools
import stat
from pathlib import Path

import pytest
from plausible.ledger import Ledger
from plausible.ledger.entries.digests import file_digest, pixel_digest
from plausible.ledger.entries.entry import check_succession, parse_entry, verify_entry
from plausible.ledger.entries.record import verify_opening
from plausible.ledger.merkle.tree import hash_leaf
from plausible.ledger.notes.proof import TlogProof, verify_proof
from plausible.schemas.errors import SetupError, UsageError

from tests.ledger.studio import AUTHOR, make, manifest, picture


def test_an_appended_image_is_found_proven_and_opened(tmp_path: Path) -> None:
    with make(tmp_path / "a.ledger") as ledger:
        receipts = [ledger.append(image=picture(n), model="m", file=b"%d" % n, latent=[0.5] * 8) for n in range(5)]
        assert receipts[3].wait("witnessed", 20).state == "witnessed"
        ledger.flush()
        [index] = ledger.find(pixels=pixel_digest(picture(3)))
        assert ledger.find(file=file_digest(b"3")) == [index] == [receipts[3].index]
        proof = TlogProof.parse(ledger.proof(index))
        assert proof.extra is not None
        accepted = verify_proof(proof, hash_leaf(proof.extra), ledger.policy)
        assert len(accepted.cosigners) >= 2 and accepted.existence_time
        entry = parse_entry(proof.extra)
        assert verify_entry(entry, ledger.authors).name == AUTHOR
        opened = verify_opening(ledger.opening(index), entry)
        assert opened.latent is not None and opened.latent.grade == "captured"
        document = receipts[3].to_document()
        assert (document.state, document.index, document.size) == ("witnessed", index, 6)


def test_the_chain_has_no_gap_and_time_never_goes_back(tmp_path: Path) -> None:
    with make(tmp_path / "a.ledger") as ledger:
        for number in range(300):
            ledger.append(image=picture(number), model="m")
        ledger.flush()
        entries = [parse_entry(ledger.entry(index)) for index in range(301)]
        for previous, entry in itertools.pairwise(entries):
            check_succession(entry, previous)
        draws = [entry.generation.draw for entry in entries if entry.generation]
        assert len(set(draws)) == 300
        assert entries[0].model is not None, "the model stands before every generation of it"


def test_what_was_appended_is_there_after_reopening(tmp_path: Path) -> None:
    path = tmp_path / "a.ledger"
    with make(path) as ledger:
        receipts = [ledger.append(image=picture(n), model="m") for n in range(20)]
    # close flushes: nothing waits any more
    assert {receipt.state for receipt in receipts} == {"witnessed"}
    with Ledger.open(path) as ledger:
        assert [ledger.find(pixels=pixel_digest(picture(n))) for n in range(20)] == [[r.index] for r in receipts]
        assert [index for index, _, _ in ledger.records()] == [r.index for r in receipts]
        assert ledger.append(image=picture(99), model="m").wait("witnessed", 20).index == 21


def test_the_first_covering_checkpoint_dates_an_entry(tmp_path: Path) -> None:
    with make(tmp_path / "a.ledger") as ledger:
        first = ledger.append(image=picture(1), model="m").wait("witnessed", 20)
        ledger.append(image=picture(2), model="m").wait("witnessed", 20)
        assert first.index is not None
        assert ledger.dated_by(first.index).size == 2 < ledger.checkpoint().size


def test_private_files_are_private(tmp_path: Path) -> None:
    path = tmp_path / "a.ledger"
    make(path).close()
    for file in [*path.glob("keys/*"), *path.glob("*.db"), *path.glob("witnesses/*.db")]:
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    (path / "keys/log.key").chmod(0o644)
    with pytest.raises(SetupError, match="chmod 600"):
        Ledger.open(path)


def test_one_raw_key_serves_one_role(tmp_path: Path) -> None:
    path = tmp_path / "a.ledger"
    make(path).close()
    author = (path / "keys/author.key").read_text()
    seed = author.rpartition("+")[2]
    from plausible.ledger.keys.keyfile import read_key
    from plausible.ledger.notes.note import SignerKey

    key = read_key(path / "keys/author.key")
    (path / "keys/log.key").write_text(SignerKey(f"{AUTHOR}/log", key.kind, key.seed).encode())
    assert seed
    with pytest.raises(SetupError, match="key of its own for each role"):
        Ledger.open(path)


def test_an_unregistered_model_says_how_to_register_it(tmp_path: Path) -> None:
    with make(tmp_path / "a.ledger", model=False) as ledger:
        with pytest.raises(SetupError, match=r"register_model\('m'"):
            ledger.wrap(lambda: picture(1), model="m")
        with pytest.raises(SetupError, match="pd models add"):
            ledger.append(image=picture(1), model="m")


def test_a_name_keeps_its_model(tmp_path: Path) -> None:
    with make(tmp_path / "a.ledger") as ledger:
        again = ledger.register_model("m", manifest=manifest())
        assert (again.index, len(ledger.models())) == (0, 1)
        with pytest.raises(UsageError, match="a name of its own"):
            ledger.register_model("m", manifest=manifest(9))


def test_init_refuses_a_folder_that_holds_something(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("mine")
    with pytest.raises(UsageError, match="not empty"):
        Ledger.init(tmp_path, author=AUTHOR)
    assert [p.name for p in tmp_path.iterdir()] == ["x"]


def test_an_erased_record_opens_no_more_and_its_entry_stays(tmp_path: Path) -> None:
    with make(tmp_path / "a.ledger") as ledger:
        index = (
            ledger.append(image=picture(1), model="m", extra={"prompt": "a very secret prompt"}).wait(timeout=20).index
        )
        assert index is not None
        ledger.erase(index)
        with pytest.raises(UsageError, match="erased"):
            ledger.opening(index)
        assert ledger.find(pixels=pixel_digest(picture(1))) == [index]
        files = list((tmp_path / "a.ledger").glob("vault.db*"))
        assert not any(b"a very secret prompt" in p.read_bytes() for p in files)
