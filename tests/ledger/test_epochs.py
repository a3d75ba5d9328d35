"""Seed epochs: fixed before they are drawn. What an honest record shows, and every way to pretend that fails."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plausible.ledger import Ledger
from plausible.ledger.entries.digests import pixel_digest
from plausible.ledger.entries.entry import Entry, parse_entry, sign_entry
from plausible.ledger.entries.evidence import Evidence, verify_evidence
from plausible.ledger.fsck import check_ledger
from plausible.ledger.keys.keyhistory import KeyHistory
from plausible.ledger.notes.note import ED25519, SignerKey
from plausible.ledger.seeds import committed as seeds
from plausible.ledger.seeds.epochs import EpochIndex, EpochSeeds
from plausible.ledger.vault.vaultkey import VaultKey
from plausible.schemas.errors import EvidenceError, PolicyError, SetupError, UsageError
from plausible.schemas.record import Context, Epoch, Latent, weakest_grade
from plausible.schemas.statement import SeedEpochStatement
from plausible.schemas.text import digest_text

from tests.ledger import keys
from tests.ledger.studio import AUTHOR, make, manifest, picture

ORIGIN = f"{AUTHOR}/log"
EPOCH = [bytes([number]) * 32 for number in range(1, 6)]


def generator(z: Any) -> Any:
    """Another picture for every latent."""
    return picture(int(abs(float(np.asarray(z).ravel()[0])) * 1e6) % 10**6)


def judged(ledger: Ledger, index: int, epochs: EpochIndex | None) -> Evidence:
    return verify_evidence(
        None, ledger.proof(index), ledger.opening(index), ledger.policy, ledger.authors, epochs=epochs
    )


@pytest.fixture
def recorded(tmp_path: Path) -> Ledger:
    """0 model, 1 an epoch of four seeds, 2 and 3 pictures drawn from it; open, closed by the test."""
    ledger = make(tmp_path / "a.ledger")
    ledger.open_epoch(4)
    for _ in range(2):
        with ledger.generation(model="m", epoch=True) as g:
            g.output(generator(g.latent((1, 8))))
    ledger.flush()
    return ledger


def test_an_epoch_gives_its_grade_from_the_record_to_the_evidence(recorded: Ledger) -> None:
    with recorded as ledger:
        epochs = ledger.epoch_index()
        epochs.complete[ORIGIN] = 4
        [row] = ledger.epochs()
        assert (row.position, row.count, row.left) == (1, 4, 2)
        for place, index in enumerate((2, 3)):
            record = ledger.record_of(index)
            assert record.latent is not None
            assert record.latent.grade == "committed-epoch"
            assert record.context.draw == row.first_draw + place
            found = judged(ledger, index, epochs)
            assert found.failed == ()
            assert found.latent_grade == "committed-epoch"
            assert found.epoch is not None
            assert (found.epoch.place, found.epoch.bits, found.epoch.alone) == (place, 2.0, True)
            assert found.check("epoch").line == (
                f"epoch: passed (seed {place} of 4 fixed by entry 1: a choice of at most 2.0 bits)"
            )
        # from an index that need not be whole: proven, but other epochs are not excluded
        partly = judged(ledger, 2, ledger.epoch_index())
        assert partly.epoch is not None
        assert "earlier epochs of the chain: not checked" in partly.check("epoch").detail
        # with no log at hand nothing is said, and the grade falls to what the seed alone shows
        offline = judged(ledger, 2, None)
        assert offline.check("epoch").line == "epoch: not checked"
        assert offline.latent_grade == "committed-fresh"
        beside = EpochIndex()
        beside.add_proof(ledger.epoch_proof(2) or b"", ledger.policy, ledger.authors)
        assert judged(ledger, 2, beside).latent_grade == "committed-epoch"
        assert weakest_grade(ledger.record_of(2)) in ("committed-epoch", "captured")
    assert check_ledger(recorded.path).findings == ()


def test_each_seed_is_drawn_once_by_whom_ever(tmp_path: Path) -> None:
    with make(tmp_path / "a.ledger") as ledger, Ledger.open(tmp_path / "a.ledger") as other:
        ledger.open_epoch(5)
        taken = [s for one in (ledger, other, ledger) for s in one.take_seeds(1)] + other.take_seeds(2)
        assert [s.draw - taken[0].draw for s in taken] == [0, 1, 2, 3, 4]
        assert len({s.secret for s in taken}) == 5
        for source in (ledger, other):
            with pytest.raises(SetupError, match=r"pd log epoch"):
                source.take_seeds(1)
        # the next epoch follows by itself, in draws of its own
        other.open_epoch(2)
        later = ledger.take_seeds(2)
        assert later[0].draw > taken[-1].draw
        # fresh draws never fall into an epoch
        covered = {draw for row in ledger.epochs() for draw in range(row.first_draw, row.first_draw + 1024)}
        assert not covered & set(ledger.take_draws(3000))
    with Ledger.open(tmp_path / "a.ledger") as ledger, pytest.raises(SetupError):
        ledger.take_seeds(1)
    assert check_ledger(tmp_path / "a.ledger").findings == ()


def test_wrapped_calls_draw_from_it(tmp_path: Path) -> None:
    with make(tmp_path / "a.ledger") as ledger:
        generate = ledger.wrap(generator, model="m", latent=(8,), epoch=True)
        with pytest.raises(SetupError, match=r"open one first"):
            generate()
        ledger.open_epoch(40)
        for _ in range(3):
            generate()
        ledger.flush()
        grades = [record.latent.grade for _, _, record in ledger.records() if record.latent]
        assert grades == ["committed-epoch"] * 3
        for _, _, record in ledger.records():
            assert record.latent is not None
            assert seeds.check_latent(record.latent, record.context).status == "equal"
        with pytest.raises(UsageError, match="which argument"):
            ledger.wrap(lambda x: x, model="m", epoch=True)
        with pytest.raises(UsageError):
            ledger.open_epoch(0)
    assert check_ledger(tmp_path / "a.ledger").findings == ()


def test_an_epoch_ends_with_its_key(recorded: Ledger) -> None:
    with recorded as ledger:
        ledger.rotate_author_key()
        with pytest.raises(SetupError, match="open one first"):
            ledger.take_seeds(1)
        ledger.open_epoch(3)
        with ledger.generation(model="m", epoch=True) as g:
            g.output(generator(g.latent((1, 8))))
        ledger.flush()
        index = ledger.checkpoint().size - 1
        assert judged(ledger, index, ledger.epoch_index()).latent_grade == "committed-epoch"
        assert judged(ledger, 2, ledger.epoch_index()).latent_grade == "committed-epoch"
    assert check_ledger(recorded.path).findings == ()


@pytest.mark.parametrize("encrypted", [False, True])
def test_erasing_a_record_takes_its_seed_out_of_the_epoch(tmp_path: Path, encrypted: bool) -> None:
    path = tmp_path / "a.ledger"
    key = VaultKey.from_file(_key_file(tmp_path)) if encrypted else None
    with Ledger.init(path, author=AUTHOR, vault_key=key) as ledger:
        ledger.register_model("m", manifest=manifest())
        ledger.open_epoch(3)
        with ledger.generation(model="m", epoch=True) as g:
            g.output([generator(z) for z in np.asarray(g.latent((2, 8)))])
        ledger.flush()
        secret = ledger.record_of(2).latent
        assert secret is not None
        assert secret.seed_secret is not None
        ledger.erase(2)
        stored = EpochSeeds.decode(ledger.vault.epoch(ledger.epochs()[0].root).record or b"")
        assert [seed is None for seed in stored.seeds] == [True, False, False]
        assert bytes.fromhex(secret.seed_secret) not in b"".join(s or b"" for s in stored.seeds)
        assert stored.root == ledger.epochs()[0].root
        # the others go on, with paths to the same root
        assert judged(ledger, 3, ledger.epoch_index()).latent_grade == "committed-epoch"
        assert len(ledger.take_seeds(1)) == 1
    assert check_ledger(path, vault_key=key).findings == ()
    for file in path.glob("vault.db*"):
        assert bytes.fromhex(secret.seed_secret) not in file.read_bytes()


def _key_file(folder: Path) -> Path:
    file = folder / "vault.key"
    VaultKey.make_file(file)
    return file


# --- forgeries, on the formats alone ---


def published(index: int, first: int, root: bytes, *, count: int = 5, signer: SignerKey = keys.AUTHOR) -> Entry:
    """The entry of an epoch; `index` only makes its chain place differ."""
    header = keys.header(signer).model_copy(update={"time": f"2026-01-02T03:04:05.{index:06d}Z"})
    statement = SeedEpochStatement.make(header, first_draw=first, count=count, root=root)
    return parse_entry(sign_entry(statement, signer))


def claim(draw: int, epoch: Entry, tree: EpochSeeds, place: int, first: int, secret: bytes) -> tuple[Latent, Context]:
    """A record's claim that `draw` uses the seed at `place`."""
    author = keys.AUTHOR.verifier.encode()
    context = Context(
        author=author, chain=keys.CHAIN, draw=draw, file=None, model=digest_text(keys.MODEL),
        pixels=digest_text(pixel_digest(keys.PIXELS)),
    )  # fmt: skip
    z = seeds.latent(seeds.derive(secret, keys.MODEL, author, draw), [4])
    where = Epoch(
        count=len(tree.seeds), entry=digest_text(epoch.leaf_hash), first_draw=first,
        path=tuple(digest_text(value) for value in tree.path(place)),
    )  # fmt: skip
    stored = seeds.latent_record(z, prior="normal", seed_secret=secret)
    return stored.model_copy(update={"grade": "committed-epoch", "epoch": where}), context


def index_of(*entries: tuple[int, Entry], size: int = 100, history: KeyHistory | None = None) -> EpochIndex:
    made = EpochIndex()
    for index, entry in entries:
        made.pass_by(ORIGIN, index, entry, history)
    made.complete[ORIGIN] = size
    return made


TREE = EpochSeeds.of(EPOCH)


def test_an_honest_claim_passes_at_every_place() -> None:
    epoch = published(1, 10, TREE.root)
    for place in range(5):
        latent, context = claim(10 + place, epoch, TREE, place, 10, EPOCH[place])
        found = index_of((3, epoch)).check(latent, context, ORIGIN, 4)
        assert found is not None
        assert (found.place, found.alone) == (place, True)


@settings(max_examples=40, deadline=None)
@given(st.integers(8, 17), st.integers(0, 4), st.integers(0, 4))
def test_a_draw_has_one_place(draw: int, place: int, secret: int) -> None:
    """Another seed of the epoch than the draw's own, or a draw outside, is no derivation from it."""
    epoch = published(1, 10, TREE.root)
    latent, context = claim(draw, epoch, TREE, place, 10, EPOCH[secret])
    right = draw == 10 + place and secret == place
    if right:
        assert index_of((3, epoch)).check(latent, context, ORIGIN, 4)
    else:
        with pytest.raises(EvidenceError):
            index_of((3, epoch)).check(latent, context, ORIGIN, 4)


def test_a_position_that_was_chosen_afterwards_is_found_out() -> None:
    """The author wants seed 4 for draw 11: he can move neither the draw, nor the range, nor the count."""
    epoch = published(1, 10, TREE.root)
    for first in (7, 10, 11):
        latent, context = claim(11, epoch, TREE, 4, first, EPOCH[4])
        with pytest.raises(EvidenceError):
            index_of((3, epoch)).check(latent, context, ORIGIN, 4)
    # an epoch of the same root under other draws: the first one that covers the draw counts
    moved = published(2, 7, TREE.root)
    latent, context = claim(11, moved, TREE, 4, 7, EPOCH[4])
    with pytest.raises(EvidenceError, match="entry 3 had fixed another seed"):
        index_of((3, epoch), (5, moved)).check(latent, context, ORIGIN, 6)


def test_of_two_epochs_for_one_draw_the_first_counts() -> None:
    other = EpochSeeds.of([bytes([number]) * 32 for number in range(50, 55)])
    first, second = published(1, 10, TREE.root), published(2, 12, other.root)
    epochs = index_of((3, first), (5, second))
    late, context = claim(12, second, other, 0, 12, other.seeds[0] or b"")
    with pytest.raises(EvidenceError, match="the first epoch counts"):
        epochs.check(late, context, ORIGIN, 9)
    kept, context = claim(12, first, TREE, 2, 10, EPOCH[2])
    assert epochs.check(kept, context, ORIGIN, 9)
    # where they do not overlap the second is as good
    beyond, context = claim(16, second, other, 4, 12, other.seeds[4] or b"")
    assert epochs.check(beyond, context, ORIGIN, 9)
    assert [(e.index, o.index) for e, o in epochs.overlaps()] == [(5, 3)]
    # the same draws in another author's or another chain's epoch are nobody's business
    stranger = published(1, 10, other.root, signer=keys.OTHER)
    assert index_of((1, stranger), (3, first)).check(kept, claim(12, first, TREE, 2, 10, EPOCH[2])[1], ORIGIN, 9)


def test_a_late_epoch_fixes_nothing() -> None:
    epoch = published(1, 10, TREE.root)
    latent, context = claim(10, epoch, TREE, 0, 10, EPOCH[0])
    for index in (2, 3):
        with pytest.raises(EvidenceError, match="after the image's entry"):
            index_of((3, epoch)).check(latent, context, ORIGIN, index)


def test_an_epoch_that_is_not_in_the_log_is_false_where_the_log_was_read_and_unknown_elsewhere() -> None:
    epoch = published(1, 10, TREE.root)
    latent, context = claim(10, epoch, TREE, 0, 10, EPOCH[0])
    with pytest.raises(EvidenceError, match="publishes the epoch"):
        index_of().check(latent, context, ORIGIN, 4)
    assert index_of(size=3).check(latent, context, ORIGIN, 4) is None
    assert EpochIndex().check(latent, context, ORIGIN, 4) is None
    # an entry of another log is not this log's
    made = EpochIndex()
    made.pass_by("other.example", 1, epoch)
    assert made.check(latent, context, ORIGIN, 4) is None


def test_whose_epoch_it_is() -> None:
    """Not another author's, not another chain's, not one whose key was revoked, not one with a false signature."""
    foreign = published(1, 10, TREE.root, signer=keys.OTHER)
    latent, context = claim(10, foreign, TREE, 0, 10, EPOCH[0])
    with pytest.raises(EvidenceError, match="another chain"):
        index_of((3, foreign)).check(latent, context, ORIGIN, 4)
    epoch = published(1, 10, TREE.root)
    latent, context = claim(10, epoch, TREE, 0, 10, EPOCH[0])
    with pytest.raises(EvidenceError, match="another chain"):
        index_of((3, epoch)).check(latent, context.model_copy(update={"chain": "ff" * 16}), ORIGIN, 4)
    history = KeyHistory(revoked={keys.AUTHOR.verifier.encode(): 2})
    with pytest.raises(EvidenceError, match="publishes the epoch"):
        index_of((3, epoch), history=history).check(latent, context, ORIGIN, 4)
    forged = Entry(epoch.leaf, epoch.statement, epoch.author, foreign.envelope)
    assert index_of((3, forged)).entries == {}


def test_the_latent_must_follow_from_the_seed() -> None:
    epoch = published(1, 10, TREE.root)
    latent, context = claim(10, epoch, TREE, 0, 10, EPOCH[0])
    other = seeds.latent_record(np.ones(4, np.float32), prior="normal", seed_secret=EPOCH[0])
    with pytest.raises(EvidenceError, match="does not follow"):
        index_of((3, epoch)).check(latent.model_copy(update={"sha256": other.sha256}), context, ORIGIN, 4)


@given(st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=20, unique=True), st.data())
def test_seeds_survive_their_bytes_and_erasure_keeps_the_root(secrets: list[bytes], data: st.DataObject) -> None:
    made = EpochSeeds.of(secrets)
    assert EpochSeeds.decode(made.encode()).seeds == tuple(secrets)
    place = data.draw(st.integers(0, len(secrets) - 1))
    less = EpochSeeds.decode(made.without(place).encode())
    assert (less.root, less.seeds[place]) == (made.root, None)
    assert secrets[place] not in made.without(place).encode()


@given(st.binary(max_size=80))
def test_arbitrary_bytes_are_no_seeds_or_read_back(data: bytes) -> None:
    try:
        assert EpochSeeds.decode(data).encode() == data
    except EvidenceError:
        return


def test_what_is_no_proof_of_an_epoch(recorded: Ledger) -> None:
    with recorded as ledger:
        with pytest.raises(EvidenceError, match="no seed epoch"):
            EpochIndex().add_proof(ledger.proof(0), ledger.policy, ledger.authors)
        stranger = SignerKey(AUTHOR, ED25519, bytes(32)).verifier
        from plausible.ledger.entries.authors import Authors

        with pytest.raises(PolicyError, match="not among"):
            EpochIndex().add_proof(ledger.proof(1), ledger.policy, Authors.of([stranger]))
        with pytest.raises(EvidenceError):
            EpochIndex().add_proof(b"nothing", ledger.policy, ledger.authors)
        assert ledger.epoch_proof(3) == ledger.proof(1)


def test_fsck_knows_epochs(recorded: Ledger) -> None:
    recorded.close()
    changes = ["UPDATE epoch SET taken = 1", "UPDATE epoch SET root = zeroblob(32)", "UPDATE epoch SET first_draw = 5"]
    for change in changes:
        saved = (recorded.path / "state.db").read_bytes()
        with sqlite3.connect(recorded.path / "state.db") as db:
            db.execute(change)
        db.close()
        assert any(f.file == "state.db" and f.index == 1 for f in check_ledger(recorded.path).findings), change
        for file in recorded.path.glob("state.db*"):
            file.unlink()
        (recorded.path / "state.db").write_bytes(saved)
    assert replace(EpochSeeds.of(EPOCH)).root == TREE.root
    with sqlite3.connect(recorded.path / "vault.db") as db:
        db.execute("UPDATE submission SET record = ? WHERE kind = 'seed-epoch'", (TREE.encode(),))
    assert any("epoch's root" in f.what for f in check_ledger(recorded.path).findings)
