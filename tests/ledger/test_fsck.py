"""fsck: a sound ledger passes; one changed bit in any kind of file is found and named; what is missing is not "false".

Ledgers are real ones on disk, made once a size and copied for each test.
"""

from __future__ import annotations

import contextlib
import functools
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from plausible.ledger import Ledger
from plausible.ledger.fsck import Kind, Report, check_ledger, check_log
from plausible.ledger.keys.keyfile import read_key
from plausible.ledger.merkle.reader import DirectorySource
from plausible.ledger.merkle.tiles import tiles_at
from plausible.ledger.notes.checkpoint import Checkpoint
from plausible.ledger.notes.policy import Policy
from plausible.node.client import HttpSource
from plausible.schemas.errors import SetupError

from benchmarks.ledger import bitflips
from tests.ledger.studio import make, picture

SIZE = 600


def build(path: Path, size: int) -> Path:
    """A closed ledger of `size` entries with an earlier head at a third of them, and a lookup index."""
    with make(path, model=size > 0) as ledger:
        ledger.flush()
        for number in range(size - 1):
            ledger.append(image=picture(number, 5), model="m", latent=[0.5] * 8)
            if number == size // 3:
                ledger.flush()
        ledger.flush()
        if size:
            ledger.find(model=bytes(32))
    return path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """`built(600)`: a ledger of that size, made once; tests that change it copy it."""
    return functools.cache(lambda size: build(tmp_path_factory.mktemp("built") / "a.ledger", size))


@pytest.fixture
def ledger(built: Callable[[int], Path], tmp_path: Path) -> Path:
    """A copy of the ledger of 600 entries for this test alone."""
    return Path(shutil.copytree(built(SIZE), tmp_path / "a.ledger"))


def flip(path: Path, byte: int, bit: int = 0) -> None:
    """Change one bit of a file."""
    data = bytearray(path.read_bytes())
    data[byte] ^= 1 << bit
    path.write_bytes(data)


def named(report: Report, file: str, kind: Kind = Kind.FALSE) -> list[int | None]:
    """The entries of the findings of a kind about a file; at least one, or the test fails."""
    found = [finding.index for finding in report.findings if finding.file == file and finding.kind == kind]
    assert found, report.findings
    return found


def policy_of(ledger: Path) -> Policy:
    return Policy.parse((ledger / "policy.txt").read_bytes())


# --- sound ---


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, SIZE])
def test_a_sound_ledger_passes(built: Callable[[int], Path], size: int) -> None:
    ledger = built(size)
    before = {path: path.read_bytes() for path in ledger.rglob("*") if path.is_file()}
    report = check_ledger(ledger, cross_check=True)
    assert (report.findings, report.exit_code, report.size) == ((), 0, size)
    assert "the root once more, by merkly" in report.done
    after = {path: path.read_bytes() for path in ledger.rglob("*") if path.is_file()}
    assert {path: data for path, data in after.items() if not path.name.endswith(("-shm", "-wal"))} == before


@pytest.mark.parametrize("size", [0, 1, 256, SIZE])
def test_a_static_copy_of_public_passes(built: Callable[[int], Path], size: int, tmp_path: Path) -> None:
    shutil.copytree(built(size) / "public", tmp_path / "copy")
    report = check_log(DirectorySource(tmp_path / "copy"), policy=policy_of(built(size)))
    assert (report.findings, report.size) == ((), size)
    without = check_log(DirectorySource(tmp_path / "copy"))
    assert without.exit_code == 0
    assert any(name.startswith("signatures") for name, _ in without.skipped)


def test_a_served_log_passes_and_a_false_one_does_not(
    built: Callable[[int], Path], ledger: Path, serve: Callable[[Path], contextlib.AbstractContextManager[str]]
) -> None:
    policy = policy_of(ledger)
    with serve(built(SIZE)) as address, HttpSource(address) as source:
        report = check_log(source, policy=policy, cross_check=True)
        assert (report.findings, report.size) == ((), SIZE)
    flip(ledger / "public/tile/entries/001", 300)
    flip(ledger / "public/tile/1/000.p/2", 40)
    (ledger / "public/tile/entries/000").unlink()
    with serve(ledger) as address, HttpSource(address) as source:
        report = check_log(source, policy=policy)
    assert 256 <= (named(report, "tile/entries/001")[0] or 0) < 512
    named(report, "tile/1/000.p/2")
    named(report, "tile/entries/000", Kind.UNREAD)
    assert report.exit_code == 1


def test_a_ledger_in_use_passes(tmp_path: Path) -> None:
    with make(tmp_path / "a.ledger") as ledger:
        for number in range(10):
            ledger.append(image=picture(number, 5), model="m")
        ledger.flush()
        assert check_ledger(tmp_path / "a.ledger").findings == ()


def test_an_erased_record_is_no_finding(ledger: Path) -> None:
    with Ledger.open(ledger) as opened:
        opened.erase(5)
    assert check_ledger(ledger).findings == ()


# --- one changed bit in the public files ---


@pytest.mark.parametrize(
    ("file", "byte", "index"),
    [
        ("tile/0/000", 32 * 7 + 3, 7),
        ("tile/0/002.p/88", 32 * 5, 517),
        ("tile/1/000.p/2", 33, None),
        ("tile/entries/000", 100, 0),
        ("tile/entries/002.p/88", 100, 512),
    ],
)
def test_a_bit_in_a_tile_or_bundle(ledger: Path, file: str, byte: int, index: int | None) -> None:
    flip(ledger / "public" / file, byte)
    report = check_ledger(ledger)
    assert named(report, file) == [index]
    assert {finding.file for finding in report.findings} == {file}, "nothing but the changed file is blamed"
    assert report.exit_code == 1


def test_a_bit_in_an_older_partial_tile(ledger: Path) -> None:
    for kind in ("0", "entries"):
        path = max((ledger / f"public/tile/{kind}/000.p").iterdir(), key=lambda path: int(path.name))
        flip(path, path.stat().st_size - 5)
        named(check_ledger(ledger), path.relative_to(ledger / "public").as_posix())


def test_a_length_in_a_bundle_and_a_bundle_cut_short(ledger: Path) -> None:
    flip(ledger / "public/tile/entries/000", 1)
    path = ledger / "public/tile/entries/001"
    path.write_bytes(path.read_bytes()[:-1])
    report = check_ledger(ledger)
    named(report, "tile/entries/000")
    named(report, "tile/entries/001")


def test_swapped_bundles(ledger: Path) -> None:
    one, two = ledger / "public/tile/entries/000", ledger / "public/tile/entries/001"
    a, b = one.read_bytes(), two.read_bytes()
    one.write_bytes(b)
    two.write_bytes(a)
    report = check_ledger(ledger)
    assert len(named(report, "tile/entries/000")) == 256
    assert set(named(report, "tile/entries/001")) == set(range(256, 512))


def test_an_entry_and_its_tile_edited_together(ledger: Path) -> None:
    """The item above still vouches for what was there: the two that agree are false, not the tile above."""
    from plausible.ledger.merkle.tiles import decode_bundle
    from plausible.ledger.merkle.tree import hash_leaf

    flip(ledger / "public/tile/entries/000", 100)
    leaf = decode_bundle((ledger / "public/tile/entries/000").read_bytes(), 256)[0]
    tile = ledger / "public/tile/0/000"
    tile.write_bytes(hash_leaf(leaf) + tile.read_bytes()[32:])
    report = check_ledger(ledger)
    named(report, "tile/entries/000")
    assert "tile/1/000.p/2" not in {finding.file for finding in report.findings}


@pytest.mark.parametrize("name", ["checkpoint", "checkpoint.pending", "checkpoints"])
@pytest.mark.parametrize("part", ["origin", "size", "root", "name", "signature"])
def test_a_bit_in_a_checkpoint(ledger: Path, name: str, part: str) -> None:
    path = ledger / "public" / name
    if path.is_dir():
        path = min(path.iterdir(), key=lambda path: int(path.name))
    data = path.read_bytes()
    lines = data.split(b"\n")
    first = data.index(b"\xe2\x80\x94 ")
    place = {
        "origin": 3,
        "size": len(lines[0]) + 1,
        "root": len(lines[0]) + len(lines[1]) + 9,
        "name": data.rindex(b"\xe2\x80\x94 ") + 6,
        "signature": first + len(data[first:].split(b"\n")[0]) - 30,
    }[part]
    flip(path, place)
    report = check_ledger(ledger)
    file = path.relative_to(ledger / "public").as_posix()
    assert any(finding.file == file for finding in report.findings)
    # one with no cosignature to spare misses its quorum once a name in it is another
    assert report.exit_code in ((1, 4, 5) if part == "name" else (1, 4))


def test_a_second_history_under_the_logs_own_signature(ledger: Path) -> None:
    """A head that the log key signed and that is not a prefix of the log: the split view fsck exists for."""
    key = read_key(ledger / "keys/log.key")
    forged = Checkpoint(key.name, 300, bytes(32)).sign(key).encode()
    (ledger / "public/checkpoints/300").write_bytes(forged)
    report = check_ledger(ledger)
    assert any("300 entries" in f.what for f in report.findings if f.file == "checkpoints/300")


# --- missing files: could not look ---


@pytest.mark.parametrize("file", ["tile/0/001", "tile/1/000.p/2", "tile/entries/001", "tile/0/002.p/88", "checkpoint"])
def test_a_removed_file_is_not_read_rather_than_false(ledger: Path, file: str) -> None:
    (ledger / "public" / file).unlink()
    report = check_ledger(ledger)
    named(report, file, Kind.UNREAD)
    assert report.exit_code == 4


@pytest.mark.parametrize("file", ["state.db", "vault.db", "policy.txt", "authors.txt", "keys/log.key"])
def test_a_removed_private_file(ledger: Path, file: str) -> None:
    (ledger / file).unlink()
    report = check_ledger(ledger)
    named(report, file, Kind.UNREAD)
    assert report.exit_code == 4


def test_what_is_no_ledger(tmp_path: Path) -> None:
    with pytest.raises(SetupError):
        check_ledger(tmp_path)


# --- rows of the databases ---


def change(path: Path, statement: str) -> None:
    """Change one row of a database, as a flipped bit in its page would, indexes and constraints left behind."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA foreign_keys = OFF")
        db.execute("PRAGMA ignore_check_constraints = ON")
        assert db.execute(statement).rowcount == 1
        db.commit()


LAST_PIECE = "WHERE position = (SELECT max(position) FROM piece)"


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE log SET origin = 'x'",
        "UPDATE log SET size = size - 1",
        "UPDATE log SET root = zeroblob(32)",
        "UPDATE log SET note = x'00'",
        "UPDATE log SET cosigned_size = cosigned_size - 1",
        "UPDATE log SET cosigned_note = x'00'",
        "UPDATE log SET synced_size = 100",
        "UPDATE log SET synced_size = 700",
        "UPDATE log SET accepted = accepted + 1",
        "UPDATE log SET submission = submission - 1",
        "UPDATE log SET submission = submission + 1",
        "UPDATE chain SET author = 'x'",
        "UPDATE chain SET chain = zeroblob(16)",
        "UPDATE chain SET seq = seq + 1",
        "UPDATE chain SET prev = zeroblob(32)",
        "UPDATE chain SET time = time + 1",
        "UPDATE chain SET draw = draw + 1",
        "UPDATE chain SET draw = 0",
        f"UPDATE piece SET leaves = x'00' {LAST_PIECE}",
        f"UPDATE piece SET leaves = CAST(substr(leaves, 1, length(leaves) - 1) || 'y' AS BLOB) {LAST_PIECE}",
        f"UPDATE piece SET hashes = zeroblob(32 * count) {LAST_PIECE}",
        f"UPDATE piece SET hashes = x'00' {LAST_PIECE}",
        f"UPDATE piece SET count = count - 1 {LAST_PIECE}",
        f"DELETE FROM piece {LAST_PIECE}",
        "UPDATE draw SET position = position + 1 WHERE position = 20",
        "UPDATE draw SET draw = draw + 100000 WHERE position = 20",
        "DELETE FROM draw WHERE position = 20",
        "UPDATE model SET name = 'n'",
        "UPDATE model SET digest = zeroblob(32)",
        "UPDATE model SET position = 1",
    ],
)
def test_a_row_of_state(ledger: Path, statement: str) -> None:
    change(ledger / "state.db", statement)
    report = check_ledger(ledger)
    assert {finding.file for finding in report.findings} & {"state.db", "vault.db"}, report.findings
    assert report.exit_code == 1


@pytest.mark.parametrize(
    "column",
    ["kind = 'model'", "kind = 'x'", "model = zeroblob(32)", "name = 'n'", "draw = draw + 5000",
     "pixels = zeroblob(32)", "file = zeroblob(32)", "commitment = zeroblob(32)", "secret = zeroblob(32)",
     "record = x'7b7d'", "secret = NULL", "key = x'00'", "id = 5000"],
)  # fmt: skip
def test_a_row_of_the_vault(ledger: Path, column: str) -> None:
    change(ledger / "vault.db", f"UPDATE submission SET {column} WHERE id = 20")
    named(check_ledger(ledger), "vault.db")


def test_a_row_that_is_gone_from_the_vault(ledger: Path) -> None:
    change(ledger / "vault.db", "DELETE FROM submission WHERE id = 20")
    named(check_ledger(ledger), "vault.db")


@pytest.mark.parametrize(
    "statement",
    ["UPDATE entry SET pixels = 'x' WHERE id = 9", "UPDATE entry SET id = 10000 WHERE id = 9",
     "DELETE FROM entry WHERE id = 9", "UPDATE indexed SET size = 599", "UPDATE indexed SET size = 601",
     "UPDATE indexed SET root = 'x'", "INSERT INTO damaged VALUES (9, 'x')"],
)  # fmt: skip
def test_a_row_of_the_lookup_index(ledger: Path, statement: str) -> None:
    change(ledger / "lookup.db", statement)
    report = check_ledger(ledger)
    named(report, "lookup.db")
    assert all("delete lookup.db" in finding.remedy for finding in report.findings)
    (ledger / "lookup.db").unlink()
    assert check_ledger(ledger).findings == ()


def test_a_state_older_than_what_was_witnessed(built: Callable[[int], Path], tmp_path: Path) -> None:
    """A restored backup of state.db: fsck says so, as the sequencer does at its start."""
    path = build(tmp_path / "a.ledger", 5)
    old = (path / "state.db").read_bytes()
    with Ledger.open(path) as ledger:
        ledger.append(image=picture(77, 5), model="m")
        ledger.flush()
    (path / "state.db").write_bytes(old)
    report = check_ledger(path)
    assert any("backup" in finding.remedy for finding in report.findings if finding.file == "state.db")
    assert report.exit_code == 1


def test_random_bits_are_found_or_change_nothing(tmp_path: Path) -> None:
    """A small slice of benchmarks/ledger/bitflips.py."""
    bitflips.make(tmp_path / "a.ledger", 6)
    counts = bitflips.run(tmp_path / "a.ledger", 40, seed=3)
    assert sum(counts.values()) == 40
    assert not [kind for kind, outcome in counts if outcome == "missed"]
    assert sum(n for (_, outcome), n in counts.items() if outcome == "found") >= 20


# --- private files ---


@pytest.mark.parametrize("file", ["policy.txt", "authors.txt", "keys/author.key", "keys/log.key"])
def test_a_bit_in_a_key(ledger: Path, file: str) -> None:
    data = (ledger / file).read_bytes()
    flip(ledger / file, len(data.split(b"\n")[0]) - 10)
    report = check_ledger(ledger)
    assert any(finding.file == file for finding in report.findings), report.findings
    assert report.exit_code == 1


def test_a_bit_in_a_witness(ledger: Path) -> None:
    path = next((ledger / "witnesses").glob("*.db"))
    change(path, "UPDATE logs SET size = size - 1")
    assert any(finding.file.endswith(path.name) for finding in check_ledger(ledger).findings)


def test_a_manifest_that_was_edited(ledger: Path) -> None:
    path = ledger / "models/m/manifest.json"
    path.write_bytes(path.read_bytes().replace(b'"latent":8', b'"latent":9'))
    named(check_ledger(ledger), "models/m/manifest.json")


def test_every_tile_is_looked_at(ledger: Path) -> None:
    """Each file of the tree, one at a time, emptied: none is passed over."""
    for tile in tiles_at(SIZE):
        path = ledger / "public" / tile.path
        data = path.read_bytes()
        path.write_bytes(b"")
        named(check_log(DirectorySource(ledger / "public"), policy=policy_of(ledger)), tile.path)
        path.write_bytes(data)
