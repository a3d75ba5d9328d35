"""The archive dates entries by the first checkpoint that counts; thinning costs at most its window; gc takes only what
a full tile made needless, and older checkpoints go on being readable."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from plausible.ledger import Ledger
from plausible.ledger.fsck import Kind, check_ledger, check_log
from plausible.ledger.keys.keyfile import read_key
from plausible.ledger.merkle.public import PublicFolder
from plausible.ledger.merkle.reader import DirectorySource, TiledLog
from plausible.ledger.merkle.tiles import tiles_at
from plausible.ledger.notes.checkpoint import Checkpoint
from plausible.ledger.notes.cosignature import cosign
from plausible.ledger.notes.policy import Policy
from plausible.ledger.storage.archive import dated_by, kept_sizes, thin, walk_archive
from plausible.ledger.storage.disk import StorageBroken
from plausible.ledger.storage.gc import collect
from plausible.schemas.errors import EvidenceError, PeerError, PolicyError, UsageError

from tests.ledger.studio import WITNESSES, make, picture

SIZE = 520
HEADS = (3, 9, 200, 256, 300, 513, 514)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """520 entries under heads of known sizes, all witnessed; each head leaves its partial tiles behind."""
    path = tmp_path_factory.mktemp("built") / "a.ledger"
    with make(path) as ledger:
        ledger.flush()
        for number in range(1, SIZE):
            ledger.append(image=picture(number, 5), model="m", latent=[0.5] * 8)
            if number + 1 in HEADS:
                ledger.flush()
    for kept in (path / "public/checkpoints").iterdir():  # heads that a slow machine signed in between
        if int(kept.name) not in (*HEADS, SIZE):
            kept.unlink()
    return path


@pytest.fixture
def ledger(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "a.ledger"))


def public(ledger: Path) -> TiledLog:
    return TiledLog(DirectorySource(ledger / "public"))


def policy_of(ledger: Path) -> Policy:
    return Policy.parse((ledger / "policy.txt").read_bytes())


def date(ledger: Path, size: int, time: int) -> None:
    """Have the witnesses sign the kept checkpoint of a size as if they had seen it at `time`."""
    head = Checkpoint("models.example/studio/log", size, public(ledger).root(size))
    note = head.sign(read_key(ledger / "keys/log.key"))
    for name in WITNESSES:
        note = note.add(cosign(head, read_key(ledger / f"keys/witness-{name.replace('/', '-')}.key"), time))
    (ledger / f"public/checkpoints/{size}").write_bytes(note.encode())
    if size == SIZE:
        (ledger / "public/checkpoint").write_bytes(note.encode())


# --- the archive ---


def test_every_witnessed_head_is_kept_and_covers_what_its_predecessor_does_not(ledger: Path) -> None:
    sizes = kept_sizes(ledger / "public")
    assert sizes == [*HEADS, SIZE]
    kept = list(walk_archive(public(ledger), policy_of(ledger), sizes))
    assert all(one.problem is None and one.accepted is not None for one in kept)
    assert [(one.first, one.size) for one in kept] == list(zip([0, *sizes], sizes, strict=False))
    for index in (0, 2, 3, 255, 256, 299, 519):
        wanted = min(size for size in sizes if size > index)
        assert dated_by(public(ledger), index, policy_of(ledger)).size == wanted
    with pytest.raises(UsageError, match="no witnessed checkpoint covers"):
        dated_by(public(ledger), SIZE, policy_of(ledger))


def test_what_does_not_count_is_passed_over_for_the_next(ledger: Path) -> None:
    """A kept checkpoint is believed for what it signs under the policy, never for where it lies."""
    kept = ledger / "public/checkpoints"
    (kept / "3").write_bytes((kept / "9").read_bytes())
    assert dated_by(public(ledger), 0, policy_of(ledger)).size == 9
    root = bytes([7]) * 32
    forged = Checkpoint("models.example/studio/log", 9, root)
    note = forged.sign(read_key(ledger / "keys/log.key"))
    (kept / "9").write_bytes(note.encode())
    assert dated_by(public(ledger), 0, policy_of(ledger)).size == 200, "by the log alone: no quorum"
    for name in WITNESSES:
        note = note.add(cosign(forged, read_key(ledger / f"keys/witness-{name.replace('/', '-')}.key"), 1_700_000_000))
    (kept / "9").write_bytes(note.encode())
    assert dated_by(public(ledger), 0, policy_of(ledger)).size == 200, "of another tree"
    problems = [one.problem for one in walk_archive(public(ledger), policy_of(ledger), [3, 9, 200])]
    assert [type(problem) for problem in problems] == [EvidenceError, EvidenceError, type(None)]


def test_a_strangers_policy_dates_nothing(ledger: Path, tmp_path: Path) -> None:
    make(tmp_path / "b.ledger").close()
    with pytest.raises(PolicyError):
        dated_by(public(ledger), 0, policy_of(tmp_path / "b.ledger"))


def test_fsck_misses_the_kept_copy_of_the_checkpoint_and_an_open_brings_it_back(ledger: Path) -> None:
    copy = ledger / f"public/checkpoints/{SIZE}"
    saved = copy.read_bytes()
    copy.unlink()
    report = check_ledger(ledger)
    assert [(f.kind, f.file) for f in report.findings] == [(Kind.UNREAD, f"checkpoints/{SIZE}")]
    Ledger.open(ledger).close()
    assert copy.read_bytes() == saved
    assert check_ledger(ledger).findings == ()


def test_thinning_dates_nothing_later_than_its_window_and_only_once(ledger: Path) -> None:
    # two windows of 100 s, and a third, newest one
    times = {3: 1_700_000_000, 9: 1_700_000_010, 200: 1_700_000_050, 256: 1_700_000_120, 300: 1_700_000_130,
             513: 1_700_000_310, 514: 1_700_000_320, SIZE: 1_700_000_330}  # fmt: skip
    for size, time in times.items():
        date(ledger, size, time)
    policy, log = policy_of(ledger), public(ledger)
    before = [dated_by(log, index, policy).existence_time or 0 for index in range(0, SIZE, 7)]
    dry = thin(ledger / "public", policy, 100, remove=False)
    assert dry.dropped == (3, 9, 256)
    assert kept_sizes(ledger / "public") == sorted(times)
    done = thin(ledger / "public", policy, 100, remove=True)
    assert done == dry
    assert kept_sizes(ledger / "public") == [200, 300, 513, 514, SIZE] == list(done.kept)
    after = [dated_by(log, index, policy).existence_time or 0 for index in range(0, SIZE, 7)]
    assert before != after
    assert all(0 <= late - early < 100 for early, late in zip(before, after, strict=True))
    assert thin(ledger / "public", policy, 100, remove=True).dropped == ()


def test_thinning_keeps_what_nobody_dated(tmp_path: Path) -> None:
    with make(tmp_path / "a.ledger", witnesses=()) as ledger:
        for number in range(3):
            ledger.append(image=picture(number), model="m").wait("witnessed", 20)
    sizes = kept_sizes(tmp_path / "a.ledger/public")
    assert len(sizes) >= 3
    assert thin(tmp_path / "a.ledger/public", policy_of(tmp_path / "a.ledger"), 10**9, remove=True).dropped == ()


# --- gc ---


def partials(ledger: Path) -> set[str]:
    folder = ledger / "public"
    return {path.relative_to(folder).as_posix() for path in folder.glob("tile/**/*.p/*")}


def test_a_dry_run_changes_nothing_and_says_what_would_go(ledger: Path) -> None:
    before = partials(ledger)
    found = collect(ledger / "public")
    assert partials(ledger) == before
    done = collect(ledger / "public", remove=True)
    assert (found.files, found.bytes, found.edge) == (done.files, done.bytes, done.edge)
    assert (found.removed, done.removed) == (False, True)
    assert found.files == len(before) - len(partials(ledger)) > 8


def test_what_goes_is_exactly_what_a_full_tile_stands_for(ledger: Path) -> None:
    gone = partials(ledger)
    collect(ledger / "public", remove=True)
    left = partials(ledger)
    gone -= left
    assert {name.rpartition(".p/")[0] for name in gone} == {
        "tile/0/000", "tile/0/001", "tile/entries/000", "tile/entries/001"
    }  # fmt: skip
    assert {tile.path for tile in tiles_at(SIZE)} <= left | {
        path.relative_to(ledger / "public").as_posix() for path in (ledger / "public").glob("tile/**/[0-9][0-9][0-9]")
    }
    assert not list((ledger / "public").glob("tile/*/00[01].p")) or any("tile/1" in name for name in left)
    assert collect(ledger / "public", remove=True).files == 0
    assert check_ledger(ledger, cross_check=True).findings == ()


def test_readers_at_every_kept_checkpoint_read_on(ledger: Path) -> None:
    """What tlog-tiles promises: a partial tile that is gone is found in the full one, at the edge it is still there."""
    expected = {size: (public(ledger).root(size), list(public(ledger).entries(0, size, size))) for size in HEADS}
    collect(ledger / "public", remove=True)
    for size, (root, entries) in expected.items():
        log = public(ledger)
        assert log.root(size) == root
        assert list(log.entries(0, size, size)) == entries
        assert log.consistency(size, SIZE)
        assert log.inclusion(size - 1, size) is not None
    report = check_log(DirectorySource(ledger / "public"), policy=policy_of(ledger))
    assert report.findings == ()


def test_the_ledger_goes_on_after_gc(ledger: Path) -> None:
    collect(ledger / "public", remove=True)
    with Ledger.open(ledger) as opened:
        assert opened.append(image=picture(9999), model="m").wait("witnessed", 20).index == SIZE
        collect(ledger / "public", remove=True)
        opened.append(image=picture(9998), model="m").wait("witnessed", 20)
    assert check_ledger(ledger).findings == ()


def test_a_partial_tile_that_differs_from_the_full_one_is_kept_and_named(ledger: Path) -> None:
    """One of the two is damaged: deleting either would destroy what tells which."""
    victim = ledger / "public/tile/0/000.p/200"
    data = bytearray(victim.read_bytes())
    data[5] ^= 1
    victim.write_bytes(data)
    found = collect(ledger / "public", remove=True)
    assert (found.differing, found.damaged) == (("tile/0/000.p/200",), 1)
    assert victim.exists()
    assert not (ledger / "public/tile/0/000.p/3").exists()


@pytest.mark.parametrize("cut", [100, 0])
def test_a_full_tile_that_is_cut_off_or_gone_makes_nothing_needless(ledger: Path, cut: int) -> None:
    for name in ("tile/0/000", "tile/entries/000"):
        path = ledger / "public" / name
        if cut:
            path.write_bytes(path.read_bytes()[:-cut])
        else:
            path.unlink()
    before = partials(ledger)
    collect(ledger / "public", remove=True)
    assert {name for name in before if "/000.p/" in name} <= partials(ledger)


def test_full_tiles_beyond_the_published_checkpoint_make_nothing_needless(ledger: Path) -> None:
    shutil.copy(ledger / "public/checkpoints/300", ledger / "public/checkpoint")
    before = partials(ledger)
    collect(ledger / "public", remove=True)
    assert {name for name in before if "/001.p/" in name} <= partials(ledger)
    assert not any("tile/0/000.p/" in name for name in partials(ledger))
    (ledger / "public/checkpoint").unlink()
    with pytest.raises(PeerError, match="nothing is published"):
        collect(ledger / "public")


def test_stopping_anywhere_is_safe(ledger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed before each unlink in turn: what is left reads the same, and the next run finishes."""
    real, left = Path.unlink, [0]

    def unlink(path: Path, missing_ok: bool = False) -> None:
        if left[0] == 0:
            raise KeyboardInterrupt
        left[0] -= 1
        real(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", unlink)
    for allowed in (0, 1, 3, 4):
        left[0] = allowed
        with pytest.raises(KeyboardInterrupt):
            collect(ledger / "public", remove=True)
        assert check_log(DirectorySource(ledger / "public"), policy=policy_of(ledger)).findings == ()
    left[0] = 10**6
    collect(ledger / "public", remove=True)
    assert collect(ledger / "public").files == 0


def test_links_and_foreign_files_are_left_alone(ledger: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "3").write_bytes(b"mine")
    folder = ledger / "public/tile/0/000.p"
    (folder / "7x").write_bytes(b"no tile")
    (folder / "0300").write_bytes(b"no tile")
    (folder / "17").symlink_to(outside / "3")
    (ledger / "public/tile/entries/000.q").symlink_to(outside)
    collect(ledger / "public", remove=True)
    assert (outside / "3").read_bytes() == b"mine"
    assert {path.name for path in folder.iterdir()} == {"7x", "0300", "17"}


def test_a_writer_does_not_mind_that_gc_took_what_it_has_not_flushed_yet(tmp_path: Path) -> None:
    """Tiles are flushed a second after they were written; meanwhile the full one may have made them needless."""
    writer = PublicFolder(tmp_path / "public", strict=False)
    hashes = [bytes([n]) * 32 for n in range(256)]
    writer.write_tiles([("tile/0/000.p/5", b"".join(hashes[:5])), ("tile/0/000", b"".join(hashes))])
    shutil.rmtree(tmp_path / "public/tile/0/000.p")
    writer.sync()
    assert not writer.dirty
    writer.write_tiles([("tile/0/001.p/5", b"".join(hashes[:5]))])
    (tmp_path / "public/tile/0/001.p/5").unlink()
    with pytest.raises(StorageBroken, match="flushing"):
        writer.sync()


def test_gc_beside_a_ledger_that_is_written_to(tmp_path: Path) -> None:
    with make(tmp_path / "a.ledger") as ledger:
        for number in range(300):
            receipt = ledger.append(image=picture(number, 5), model="m")
            if number % 15 == 0 or number > 250:
                receipt.wait("witnessed", 20)
                collect(tmp_path / "a.ledger/public", remove=True)
        ledger.flush()
        assert ledger.checkpoint().size == 301
    assert check_ledger(tmp_path / "a.ledger").findings == ()
