"""Author keys that follow each other: who signs from where on, what a revocation takes away, and what it does not."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plausible.ledger import Ledger
from plausible.ledger.entries.authors import Authors
from plausible.ledger.entries.entry import Entry, parse_entry, sign_entry, verify_entry
from plausible.ledger.entries.evidence import verify_evidence
from plausible.ledger.entries.images import Image, read_image
from plausible.ledger.fsck import Kind, check_ledger
from plausible.ledger.keys.keyfile import read_key
from plausible.ledger.keys.keyhistory import KeyHistory
from plausible.ledger.notes.note import COSIGNATURE_ED25519, ED25519, SignerKey
from plausible.ledger.seeds.committed import check_latent
from plausible.schemas.errors import PolicyError, SetupError, UsageError
from plausible.schemas.statement import NO_PREVIOUS, AuthorKeyStatement, AuthorRevocationStatement, Header

from tests.ledger import keys
from tests.ledger.studio import AUTHOR, make, picture

ORIGIN = f"{AUTHOR}/log"


def entries(ledger: Ledger) -> list[Entry]:
    return [parse_entry(ledger.entry(index)) for index in range(ledger.checkpoint().size)]


def append(ledger: Ledger, number: int) -> int:
    index = ledger.append(image=picture(number), model="m").wait("witnessed", 30).index
    assert index is not None
    return index


@pytest.fixture
def rotated(tmp_path: Path) -> Ledger:
    """0 model, 1 picture under the first key, 2 author-key, 3 picture under the second; open, closed by the test."""
    ledger = make(tmp_path / "a.ledger")
    append(ledger, 1)
    ledger.rotate_author_key()
    append(ledger, 3)
    return ledger


def test_a_rotated_key_signs_from_its_entry_on_in_a_chain_of_its_own(rotated: Ledger) -> None:
    with rotated as ledger:
        found = entries(ledger)
        first, second = found[0].header, found[3].header
        assert [e.header.author for e in found] == [first.author] * 3 + [second.author]
        assert (second.seq, second.prev) == (0, NO_PREVIOUS)
        assert second.chain != first.chain
        assert second.time >= found[2].header.time
        assert isinstance(found[2].statement, AuthorKeyStatement)
        assert found[2].statement.predicate.successor == second.author == ledger.author_vkey
        assert ledger.chain.hex() == second.chain
        assert ledger.own_chains() == [first.author, second.author]
        # its own files name both, so it goes on verifying what came before
        for index, entry in enumerate(found):
            assert verify_entry(entry, ledger.authors, index=index, origin=ORIGIN).name == AUTHOR
        record = ledger.record_of(3)
        assert (record.context.author, record.context.chain) == (second.author, second.chain)
    assert check_ledger(rotated.path).findings == ()
    with Ledger.open(rotated.path) as ledger:
        assert ledger.author_vkey == second.author
        assert parse_entry(ledger.entry(append(ledger, 4))).header.seq == 1
    with Ledger.open(rotated.path, mode="read") as ledger:
        assert (ledger.author_vkey, ledger.chain.hex()) == (second.author, second.chain)


def test_committed_latents_follow_from_the_key_their_draw_was_reserved_for(tmp_path: Path) -> None:
    """Ready-made latents of the old chain are not used under the new one, and every seed leads to its latent."""
    with make(tmp_path / "a.ledger") as ledger:
        generate = ledger.wrap(lambda z: picture(int(abs(float(z.ravel()[0])) * 1e6) % 10**6), model="m", latent=(8,))
        for _ in range(3):
            generate()
        ledger.flush()
        ledger.rotate_author_key()
        for _ in range(3):
            generate()
        ledger.flush()
        assert {entry.header.author for _, entry, _ in ledger.records()} == set(ledger.own_chains())
        for _, entry, record in ledger.records():
            assert record.latent is not None
            assert check_latent(record.latent, record.context).status == "equal"
            assert record.context.author == entry.header.author
        draws = [record.context.draw for _, _, record in ledger.records()]
        assert len(set(draws)) == 6
    assert check_ledger(tmp_path / "a.ledger").findings == ()


def test_what_was_recorded_before_a_rotation_stays_in_the_old_chain(tmp_path: Path) -> None:
    """A second writer's draw of before the rotation, accepted after it: signed by the old key, its record opens."""
    with make(tmp_path / "a.ledger") as ledger, Ledger.open(tmp_path / "a.ledger") as other:
        old = ledger.author_vkey
        [draw] = other.take_draws(1)
        ledger.rotate_author_key()
        z = np.zeros(8, dtype=np.float32)
        receipt = other.append(image=picture(1), model="m", latent=z, seed_secret=bytes(32), draw=draw)
        receipt.wait("accepted", 30)
        ledger.flush()
        entry = parse_entry(ledger.entry(receipt.index or -1))
        assert (entry.header.author, entry.header.seq) == (old, 2)
        assert ledger.record_of(2).context.author == old
        # and of itself the other writer follows
        later = other.append(image=picture(2), model="m").wait("accepted", 30)
        ledger.flush()
        assert parse_entry(ledger.entry(later.index or -1)).header.author == ledger.author_vkey != old
        ledger.flush()
    assert check_ledger(tmp_path / "a.ledger").findings == ()


def test_another_process_may_ask_for_the_rotation(tmp_path: Path) -> None:
    with make(tmp_path / "a.ledger") as ledger, Ledger.open(tmp_path / "a.ledger") as other:
        old = ledger.author_vkey
        receipt = other.rotate_author_key()
        ledger.flush()
        assert parse_entry(ledger.entry(receipt.index or -1)).header.author == old
        ledger.name_successor(SignerKey.generate(AUTHOR).verifier.encode())
        assert ledger.author_vkey == other.author_vkey != old
        assert parse_entry(ledger.entry(append(ledger, 5))).header.author == ledger.author_vkey


def test_a_revoked_key_counts_no_more_from_its_entry_on(rotated: Ledger) -> None:
    with rotated as ledger:
        old, new = ledger.own_chains()
        index = ledger.revoke_author_key(old).wait("witnessed", 30).index
        assert index == 4
        found = entries(ledger)
        assert isinstance(found[4].statement, AuthorRevocationStatement)
        assert (found[4].header.author, found[4].statement.predicate.revoked) == (new, old)
        assert ledger.key_history().revoked == {old: 4}
        assert ledger.key_history().successors == {old: {new: 2}}
        # its own authors.txt says so too; what it signed before stays good
        authors = Authors.parse((ledger.path / "authors.txt").read_bytes())
        assert verify_entry(found[1], authors, index=1, origin=ORIGIN)
        with pytest.raises(PolicyError, match="revoked from index 4"):
            verify_entry(found[1], authors, index=4, origin=ORIGIN)
        assert verify_entry(found[4], authors, index=4, origin=ORIGIN)
    assert not (rotated.path / "keys/author.key").exists()
    assert read_key(rotated.path / "keys/revoked/author.key").verifier.encode() == old
    assert check_ledger(rotated.path).findings == ()
    with Ledger.open(rotated.path) as ledger:
        append(ledger, 9)


def test_evidence_says_what_the_log_says_of_the_key(rotated: Ledger, tmp_path: Path) -> None:
    """Offline `not checked`; with the whole log: not revoked up to there, or revoked, and from where on."""
    import PIL.Image

    PIL.Image.fromarray(picture(3)).save(tmp_path / "3.png")
    image: Image = read_image(tmp_path / "3.png")
    with rotated as ledger:
        old, new = ledger.own_chains()
        pinned = Authors.of([read_key(p).verifier for p in sorted(ledger.path.glob("keys/author*.key"))])
        proof = ledger.proof(3)
        offline = verify_evidence(image, proof, None, ledger.policy, pinned)
        assert offline.check("revocation").line == "revocation: not checked"
        history = ledger.key_history()
        online = verify_evidence(image, proof, None, ledger.policy, pinned.with_history(ORIGIN, history, 4))
        assert online.check("revocation").detail == f"none in the first 4 entries of {ORIGIN}; this entry has index 3"
        assert online.present
        # the second key's successor revokes it: entry 3 stays good, a proof of a later one does not
        ledger.rotate_author_key()
        ledger.revoke_author_key(new).wait("witnessed", 30)
        judged = pinned.with_history(ORIGIN, ledger.key_history(), ledger.checkpoint().size)
        assert verify_evidence(image, proof, None, ledger.policy, judged).check("author").outcome == "passed"
        assert judged.revocation(new) == f"revoked: {ORIGIN} from index 5"
        assert judged.revocation(old, ORIGIN) == f"none in the first 6 entries of {ORIGIN}"
        with pytest.raises(PolicyError):
            judged.check(new, 5, ORIGIN)
        # an earlier index in the verifier's own file wins, a later one does not
        for mine, wanted in ((2, 2), (90, 5)):
            own = Authors.parse(f"author {new} {ORIGIN} {mine}\n").with_history(ORIGIN, ledger.key_history())
            assert dict(own.authors[0].refused_from) == {ORIGIN: wanted}


def test_what_a_thief_of_a_revoked_key_logs_is_named_and_counts_for_nothing(rotated: Ledger) -> None:
    """The stolen key signs into the log behind the revocation (as anyone may): fsck says untrusted, not false."""
    with rotated as ledger:
        old = ledger.own_chains()[0]
        stolen = read_key(ledger.path / "keys/author.key")
        ledger.revoke_author_key(old)
    # the thief also has this directory: he puts the key back and appends in its chain
    shutil.copy(rotated.path / "keys/revoked/author.key", rotated.path / "keys/author.key")
    with sqlite3.connect(rotated.path / "state.db") as db:
        [draw] = db.execute("SELECT draw FROM chain WHERE id = 1").fetchone()
    with Ledger.open(rotated.path) as ledger:
        index = (
            ledger.append(
                image=picture(8), model="m", latent=np.zeros(8, np.float32), seed_secret=bytes(32), draw=draw - 1
            )
            .wait("witnessed", 30)
            .index
        )
        assert index is not None
        forged = parse_entry(ledger.entry(index))
        assert forged.header.author == stolen.verifier.encode()
        with pytest.raises(PolicyError, match="revoked"):
            verify_entry(forged, ledger.authors, index=index, origin=ORIGIN)
    report = check_ledger(rotated.path)
    [finding] = report.findings
    assert (finding.kind, finding.index, report.exit_code) == (Kind.UNTRUSTED, index, 5)
    assert any("can still sign here" in note for note in report.notes)


def test_naming_a_successor_changes_nobody(tmp_path: Path) -> None:
    spare = SignerKey.generate(AUTHOR)
    with make(tmp_path / "a.ledger") as ledger:
        old = ledger.author_vkey
        ledger.name_successor(spare.verifier.encode())
        append(ledger, 1)
        assert ledger.author_vkey == old == entries(ledger)[-1].header.author
        ledger.rotate_author_key(spare)
        append(ledger, 2)
        assert ledger.author_vkey == spare.verifier.encode() == entries(ledger)[-1].header.author
        assert ledger.key_history().successors == {old: {spare.verifier.encode(): 1}}
    assert check_ledger(tmp_path / "a.ledger").findings == ()


def test_what_is_no_successor_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with make(tmp_path / "a.ledger") as ledger:
        log = read_key(ledger.path / "keys/log.key")
        before = (ledger.path / "authors.txt").read_bytes()
        refused: list[tuple[SignerKey, type[Exception]]] = [
            (SignerKey.generate("other.example"), UsageError),
            (SignerKey.generate(AUTHOR, COSIGNATURE_ED25519), UsageError),
            (read_key(ledger.path / "keys/author.key"), UsageError),
            (SignerKey(AUTHOR, ED25519, log.seed), SetupError),
        ]
        for key, error in refused:
            with pytest.raises(error):
                ledger.rotate_author_key(key)
            with pytest.raises(error):
                ledger.name_successor(key.verifier.encode())
        with pytest.raises(UsageError):
            ledger.name_successor("not a key")
        with pytest.raises(UsageError, match="rotate first"):
            ledger.revoke_author_key(ledger.author_vkey)
        assert (ledger.path / "authors.txt").read_bytes() == before
        assert len(list(ledger.path.glob("keys/author*.key"))) == 1
        ledger.flush()
        assert ledger.checkpoint().size == 1


def test_a_missing_key_is_named(rotated: Ledger) -> None:
    with rotated as ledger:
        pass
    [path] = rotated.path.glob("keys/author-*.key")
    path.rename(rotated.path / "elsewhere")
    with pytest.raises(SetupError, match=r"is not here.*restore it"):
        Ledger.open(rotated.path)
    report = check_ledger(rotated.path)
    assert [(f.kind, f.file) for f in report.findings] == [(Kind.UNREAD, "keys")]
    assert ledger.author_vkey in report.findings[0].what


def test_fsck_finds_a_chain_whose_key_nobody_named(rotated: Ledger) -> None:
    rotated.close()
    stranger = SignerKey.generate(AUTHOR).verifier.encode()
    with sqlite3.connect(rotated.path / "state.db") as db:
        db.execute("UPDATE chain SET author = ? WHERE id = 2", (stranger,))
    found = [f for f in check_ledger(rotated.path).findings if f.file == "state.db"]
    assert any("no entry of" in finding.what for finding in found)


# --- the rules alone ---

SIGNERS = [SignerKey(AUTHOR, ED25519, bytes([number]) * 32) for number in range(4)]
VKEYS = [signer.verifier.encode() for signer in SIGNERS]


def key_entry(kind: str, signer: int, about: int) -> Entry:
    header = Header(author=VKEYS[signer], chain=keys.CHAIN, prev=NO_PREVIOUS, seq=0, time=keys.TIME)
    if kind == "names":
        return parse_entry(sign_entry(AuthorKeyStatement.make(header, successor=VKEYS[about]), SIGNERS[signer]))
    return parse_entry(sign_entry(AuthorRevocationStatement.make(header, revoked=VKEYS[about]), SIGNERS[signer]))


ACTIONS = st.lists(st.tuples(st.sampled_from(["names", "revokes"]), st.integers(0, 3), st.integers(0, 3)), max_size=14)


@settings(max_examples=60, deadline=None)
@given(ACTIONS)
def test_history_equals_the_rules_spelt_out(actions: list[tuple[str, int, int]]) -> None:
    """Against a slow reading of the rules: for each revocation look back over the whole prefix."""
    history = KeyHistory()
    first: dict[int, int] = {}
    for index, (kind, signer, about) in enumerate(actions):
        history.pass_by(index, key_entry(kind, signer, about))
        if kind == "revokes" and signer not in first and about not in first:
            named = any(
                (k, s, a) == ("names", about, signer) and first.get(about, index) > i
                for i, (k, s, a) in enumerate(actions[:index])
            )
            if signer == about or named:
                first[about] = index
    assert history.revoked == {VKEYS[number]: index for number, index in first.items()}
    for number, vkey in enumerate(VKEYS):
        for index in range(len(actions) + 1):
            assert history.counts_no_more(vkey, index) == (number in first and index >= first[number])


def test_an_entry_with_a_false_signature_says_nothing() -> None:
    genuine = key_entry("revokes", 0, 0)
    forged = genuine.leaf.replace(b'"sig":"', b'"sig":"A', 1)
    other = key_entry("revokes", 1, 1)
    history = KeyHistory()
    # the signature of another entry under this one's payload
    mixed = Entry(forged, genuine.statement, genuine.author, other.envelope)
    history.pass_by(0, mixed)
    assert history.revoked == {}
    assert history.ignored[0].index == 0


def test_a_thief_cannot_revoke_what_he_was_not_named_by() -> None:
    history = KeyHistory()
    for index, action in enumerate([("names", 0, 1), ("revokes", 2, 0), ("names", 2, 0), ("revokes", 1, 0)]):
        history.pass_by(index, key_entry(*action))
    assert history.revoked == {VKEYS[0]: 3}
    assert [item.index for item in history.ignored] == [1]
    assert history.may_revoke(VKEYS[1], VKEYS[0])
    assert not history.may_revoke(VKEYS[0], VKEYS[0])
    # once revoked, a key names and revokes nothing
    history.pass_by(4, key_entry("revokes", 0, 0))
    history.pass_by(5, key_entry("names", 0, 3))
    assert history.successors[VKEYS[0]] == {VKEYS[1]: 0}
    assert [item.index for item in history.ignored] == [1, 4, 5]
