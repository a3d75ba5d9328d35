"""The absence index: the published vectors, a naive map beside it, proofs, their mutations, and whom to believe."""

from __future__ import annotations

import contextlib
import hashlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plausible.ledger.absence.keys import (
    EMPTY,
    FILE,
    PIXELS,
    bit,
    index_key,
    key_hash,
    leaf_keys,
    node_hash,
    parsed_keys,
    run,
)
from plausible.ledger.absence.note import HEADER, AcceptedIndex, IndexHead, IndexPolicy
from plausible.ledger.absence.proof import (
    MAGIC,
    AbsenceProof,
    KeyProof,
    Occupant,
    require_vouched,
    verify_absence,
    verify_key,
)
from plausible.ledger.absence.trie import IndexMap, MemoryPages
from plausible.ledger.absence.usual import usual_generation
from plausible.ledger.entries.entry import sign_entry
from plausible.ledger.merkle.tree import hash_leaf
from plausible.ledger.notes.checkpoint import Checkpoint
from plausible.ledger.notes.cosignature import cosign
from plausible.ledger.notes.dsse import Envelope
from plausible.ledger.notes.note import COSIGNATURE_ED25519, ED25519, Note, SignerKey
from plausible.ledger.notes.policy import Policy
from plausible.schemas.envelope import IN_TOTO_TYPE
from plausible.schemas.errors import EvidenceError, PlausibleError, PolicyError, UsageError
from plausible.schemas.statement import NO_PREVIOUS, ModelStatement

from tests.ledger.keys import AUTHOR, MODEL, generation, header


def vector_key(number: int) -> bytes:
    return index_key(PIXELS, hashlib.sha256(bytes([number])).digest())


def naive_root(entries: dict[bytes, list[int]], position: int = 0) -> bytes:
    """formats.md, word for word: one recursion over everything."""
    if not entries:
        return EMPTY
    if len(entries) == 1:
        ((key, indices),) = entries.items()
        return key_hash(key, len(indices), indices[0], run(indices))
    sides: tuple[dict[bytes, list[int]], dict[bytes, list[int]]] = ({}, {})
    for key, indices in entries.items():
        sides[bit(key, position)][key] = indices
    return node_hash(naive_root(sides[0], position + 1), naive_root(sides[1], position + 1))


def filled(items: list[tuple[bytes, int]]) -> IndexMap:
    index = IndexMap(MemoryPages())
    index.add(items)
    return index


def test_the_vectors() -> None:
    assert EMPTY.hex() == "f299791cddd3d6664f6670842812ef6053eb6501bd6282a476bbbf3ee91e750c"
    index = IndexMap(MemoryPages())
    assert index.root() == EMPTY
    index.add([(vector_key(0), 0)])
    assert index.root().hex() == "735b479cea23a0d6b288282a52bd9b97136c89b717670c477e5497afafffbf99"
    index.add([(vector_key(1), 1), (vector_key(2), 2), (vector_key(3), 3), (vector_key(2), 5)])
    assert index.root().hex() == "5303fbf00c8636c5199c3b770156ae0823d0dabd5a5b33f909ffd4604dbee8d8"


# keys that share long prefixes, so that pages split at every depth
_keys = st.builds(
    lambda head, tail: head + tail + bytes(32 - len(head) - len(tail)),
    st.sampled_from([b"", b"\x00", b"\x00\x01", b"\x00\x01\x80", b"\xff" * 20, bytes(29)]),
    st.binary(max_size=3),
)


@settings(max_examples=30, deadline=None)
@given(st.lists(_keys, max_size=160), st.integers(1, 40), _keys)
def test_it_equals_the_naive_map_however_it_is_cut_into_batches(keys: list[bytes], batch: int, absent: bytes) -> None:
    items = list(zip(keys, range(len(keys)), strict=True))
    naive: dict[bytes, list[int]] = {}
    for key, number in items:
        naive.setdefault(key, []).append(number)
    grown = IndexMap(MemoryPages())
    for start in range(0, len(items), batch):
        grown.add(items[start : start + batch])
    root = naive_root(naive)
    assert grown.root() == filled(items).root() == root
    for key in {*keys, absent}:
        proof = grown.prove(key)
        assert verify_key(proof, key, root, len(keys)) == tuple(naive.get(key, ()))


def test_a_page_splits_and_stays_the_same_map() -> None:
    items = [(hashlib.sha256(b"%d" % i).digest(), i) for i in range(400)]
    store = MemoryPages()
    grown = IndexMap(store)
    for item in items:
        grown.add([item])
    naive = {key: [index] for key, index in items}
    assert grown.root() == IndexMap(store).root() == naive_root(naive)  # also read again from the pages alone
    for key, index in items[::37]:
        assert IndexMap(store).indices(key) == (index,)


def test_indices_come_in_order() -> None:
    index = filled([(vector_key(0), 3)])
    with pytest.raises(UsageError, match="ascending"):
        index.add([(vector_key(0), 3)])


def test_what_a_leaf_adds() -> None:
    commitment, pixels, file = bytes(32), hashlib.sha256(b"p").digest(), hashlib.sha256(b"f").digest()
    both = sign_entry(generation(commitment, pixels, file), AUTHOR)
    assert leaf_keys(both) == (index_key(PIXELS, pixels), index_key(FILE, file))
    assert leaf_keys(sign_entry(generation(commitment, pixels), AUTHOR)) == (index_key(PIXELS, pixels),)
    assert leaf_keys(sign_entry(ModelStatement.make(header(), manifest=MODEL), AUTHOR)) == ()
    assert leaf_keys(b"anything") == ()
    assert leaf_keys(both + b"\n") == ()
    # who signed it, and whether, is another question: everybody computes the same map
    at = both.index(b'"sig":"') + 10
    forged = both[:at] + (b"A" if both[at : at + 1] != b"A" else b"B") + both[at + 1 :]
    assert leaf_keys(forged) == leaf_keys(both)


_usual: Any = st.fixed_dictionaries(
    {
        "draw": st.sampled_from([0, 7, 2**53 - 1, 2**53]),
        "seq": st.sampled_from([0, 1, 41, 2**53 - 1]),
        "prev": st.sampled_from([NO_PREVIOUS, "sha256:" + "ab" * 32]),
        "time": st.sampled_from(
            ["2026-01-02T03:04:05.000006Z", "2024-02-29T23:59:59.999999Z", "2026-02-29T00:00:00.000000Z"]
        ),
        "name": st.sampled_from(
            ["models.example/studio", "a", "m\u00fcller.example", 'quo"te', "a\\b", "tilde~", "a" * 300]
        ),
        "file": st.booleans(),
    }
)


@settings(max_examples=300, deadline=None)
@given(_usual, st.data())
def test_what_is_read_by_patterns_is_what_the_profile_reads(fields: dict[str, Any], data: st.DataObject) -> None:
    """Everybody must compute the same map: the short way may pass nothing that the profile refuses."""
    signer = SignerKey("x.example", ED25519, bytes(32))
    with contextlib.suppress(EvidenceError):
        signer = SignerKey(fields["name"], ED25519, bytes(32))
    place = {"author": signer.verifier.encode(), "chain": "ab" * 16, "prev": fields["prev"], "seq": fields["seq"]}
    predicate = {"commitment": "sha256:" + "0" * 64, "draw": fields["draw"], "model": "sha256:" + "1" * 64}
    subject = [{"digest": {"plausiblePixels1": "2" * 64}, "name": "pixels"}]
    if fields["file"]:
        subject.append({"digest": {"sha256": "3" * 64}, "name": "file"})
    statement = {
        "_type": "https://in-toto.io/Statement/v1",
        "predicate": predicate | {"header": place | {"time": fields["time"]}},
        "predicateType": "urn:plausible:generation:v1",
        "subject": subject,
    }
    text = json.dumps(statement, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    text = changed(text, data) if data.draw(st.booleans()) else text
    leaf = Envelope(IN_TOTO_TYPE, text, signer.verifier.key_id.hex(), bytes(64)).encode()
    leaf = changed(leaf, data) if data.draw(st.booleans()) else leaf
    assert leaf_keys(leaf) == parsed_keys(leaf)


def changed(text: bytes, data: st.DataObject) -> bytes:
    """One byte replaced, taken out or put in, or two exchanged."""
    at = data.draw(st.integers(0, len(text) - 1))
    one = bytes([data.draw(st.sampled_from(b'"\\,:{}[]+=Z09Aaf \n\x00\x7f\xc3'))])
    other = data.draw(st.integers(0, len(text) - 1))
    return data.draw(
        st.sampled_from(
            [
                text[:at] + one + text[at + 1 :],
                text[:at] + one + text[at:],
                text[:at] + text[at + 1 :],
                text[:at] + text[other : other + 1] + text[at + 1 :],
            ]
        )
    )


def test_an_entry_of_every_day_is_read_by_patterns() -> None:
    """The short way is taken at all, also by what the recorder writes."""
    for file in (None, bytes(32)):
        leaf = sign_entry(generation(bytes(32), bytes([7]) * 32, file), AUTHOR)
        assert usual_generation(leaf) == (bytes([7]) * 32, file)
    assert usual_generation(sign_entry(ModelStatement.make(header(), manifest=MODEL), AUTHOR)) is None


# --- the proof file ---

LOG = SignerKey("log.example/a", ED25519, bytes([1]) * 32)
WITNESS = SignerKey("w.example", COSIGNATURE_ED25519, bytes([2]) * 32)
LOG_INDEX = SignerKey("log.example/a/index", ED25519, bytes([3]) * 32)
MONITOR = SignerKey("monitor.example/index", ED25519, bytes([4]) * 32)
POLICY = Policy.parse(f"log {LOG.verifier}\nwitness w {WITNESS.verifier}\nquorum w\n".encode())
INDEX_POLICY = IndexPolicy.parse(f"log {LOG_INDEX.verifier}\nwitness m {MONITOR.verifier}\nquorum m\n".encode())
SIZE = 40
PICTURES = [hashlib.sha256(b"picture %d" % i).digest() for i in range(SIZE)]
ITEMS = [(index_key(PIXELS, digest), i) for i, digest in enumerate(PICTURES)]
MAP = filled(ITEMS)
CHECKPOINT = Checkpoint(LOG.name, SIZE, hash_leaf(b"stands for a tree"))
NOTE = CHECKPOINT.sign(LOG).add(cosign(CHECKPOINT, WITNESS, 1_700_000_000)).encode()
HEAD = IndexHead.of(CHECKPOINT, MAP.root())
INDEX_NOTE = HEAD.sign(LOG_INDEX, MONITOR).encode()
NOWHERE, NO_FILE = hashlib.sha256(b"never logged").digest(), hashlib.sha256(b"no such file").digest()


def proof_of(pixels: bytes, file: bytes, note: bytes = INDEX_NOTE, checkpoint: bytes = NOTE) -> AbsenceProof:
    digests = {PIXELS: pixels, FILE: file}
    proofs = {kind: MAP.prove(index_key(kind, digest)) for kind, digest in digests.items()}
    return AbsenceProof(digests, proofs, note, checkpoint)


def verified(data: bytes, pixels: bytes = NOWHERE, file: bytes | None = NO_FILE) -> tuple[int, ...]:
    found = verify_absence(data, pixels=pixels, file=file, policy=POLICY, index_policy=INDEX_POLICY)
    assert found.weakness is None
    assert (found.origin, found.size, found.absent) == (LOG.name, SIZE, not found.indices)
    require_vouched(found)
    return found.indices


def test_absence_and_presence_are_proven_offline() -> None:
    absent = proof_of(NOWHERE, NO_FILE)
    assert AbsenceProof.parse(absent.encode()) == absent
    assert verified(absent.encode()) == ()
    assert verified(absent.encode(), file=None) == ()
    assert verified(proof_of(PICTURES[7], NO_FILE).encode(), PICTURES[7]) == (7,)


def test_a_proof_is_about_one_image() -> None:
    data = proof_of(NOWHERE, NO_FILE).encode()
    with pytest.raises(EvidenceError, match="another image: its pixels digest"):
        verified(data, PICTURES[0])
    with pytest.raises(EvidenceError, match="another image: its file digest"):
        verified(data, NOWHERE, PICTURES[0])
    only_pixels = AbsenceProof({PIXELS: NOWHERE}, {PIXELS: MAP.prove(index_key(PIXELS, NOWHERE))}, INDEX_NOTE, NOTE)
    with pytest.raises(EvidenceError, match="nothing about the file"):
        verified(only_pixels.encode())
    assert verified(only_pixels.encode(), file=None) == ()


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_mutated_proof_verifies(data: st.DataObject) -> None:
    """A changed, cut or longer file: only EvidenceError or PolicyError, and never an answer."""
    pixels = data.draw(st.sampled_from([NOWHERE, PICTURES[3]]))
    good = proof_of(pixels, NO_FILE).encode()
    place = data.draw(st.integers(0, len(good) - 1))
    change = data.draw(st.sampled_from(["flip", "cut", "insert", "delete", "repeat"]))
    if change == "flip":
        bad = good[:place] + bytes([good[place] ^ (1 << data.draw(st.integers(0, 7)))]) + good[place + 1 :]
    elif change == "cut":
        bad = good[:place]
    elif change == "insert":
        bad = good[:place] + data.draw(st.binary(min_size=1, max_size=40)) + good[place:]
    elif change == "delete":
        bad = good[:place] + good[place + data.draw(st.integers(1, 40)) :]
    else:
        bad = good[:place] + good[max(0, place - 32) :]
    if bad == good:
        return
    with pytest.raises((EvidenceError, PolicyError)):
        verify_absence(bad, pixels=pixels, file=NO_FILE, policy=POLICY, index_policy=INDEX_POLICY)


@given(st.binary(max_size=300), st.booleans())
def test_any_bytes_read_as_a_proof_or_not_at_all(data: bytes, marked: bool) -> None:
    data = MAGIC + data if marked else data
    try:
        proof = AbsenceProof.parse(data)
    except EvidenceError:
        return
    assert proof.encode() == data


def test_a_hidden_key_cannot_be_shown_as_absent() -> None:
    """The forger's choices for a key that is there: an empty slot, another key of the map, the key itself."""
    key, root = ITEMS[5][0], MAP.root()
    honest = MAP.prove(key)
    others = [Occupant(k, 1, i, run([i])) for k, i in ITEMS]
    for siblings in (honest.siblings, honest.siblings[:-1], (), (*honest.siblings, EMPTY)):
        for occupant in (None, *others):
            with pytest.raises(EvidenceError):
                verify_key(KeyProof(siblings, (), occupant), key, root, SIZE)
    for indices in ((4,), (5, 6), (0, 5)):
        with pytest.raises(EvidenceError):
            verify_key(KeyProof(honest.siblings, indices), key, root, SIZE)
    with pytest.raises(EvidenceError, match="of size 5"):
        verify_key(honest, key, root, 5)


def test_shapes_that_no_map_has() -> None:
    occupant = Occupant(ITEMS[0][0], 1, 0, run([0]))
    shapes: list[tuple[Any, ...]] = [
        ((EMPTY,) * 257,),
        ((b"short",),),
        ((), (1, 1)),
        ((), (2, 1)),
        ((), (-1,)),
        ((), (1 << 63,)),
        ((), (1,), occupant),
    ]
    for arguments in shapes:
        with pytest.raises(EvidenceError):
            KeyProof(*arguments)
    for arguments in ((b"k", 1, 0, bytes(32)), (bytes(32), 0, 0, bytes(32)), (bytes(32), 1, -1, bytes(32))):
        with pytest.raises(EvidenceError):
            Occupant(*arguments)


# --- the signed root ---


def test_an_index_note_is_no_checkpoint() -> None:
    for origin in ("log.example/a", "5", "0"):
        text = IndexHead(origin, 0, hash_leaf(b"r"), EMPTY).text
        assert IndexHead.parse(text).origin == origin
        with pytest.raises(EvidenceError):
            Checkpoint.parse(text, check_empty=False)
    with pytest.raises(EvidenceError):
        IndexHead.parse(CHECKPOINT.text)


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace(HEADER, "plausible.index/2"),
        lambda text: text + "more\n",
        lambda text: text[:-1],
        lambda text: text.replace(f"\n{SIZE}\n", f"\n0{SIZE}\n"),
        lambda text: text.replace(f"\n{SIZE}\n", "\n-1\n"),
        lambda text: text.replace(f"\n{LOG.name}\n", "\n\n"),
        lambda text: text.replace("=\n", "\n", 1),
        lambda text: "\n" + text,
    ],
)
def test_malformed_index_notes(change: Any) -> None:
    assert change(HEAD.text) != HEAD.text
    with pytest.raises(EvidenceError):
        IndexHead.parse(change(HEAD.text))


def test_only_index_keys_sign_index_roots() -> None:
    for key in (LOG, WITNESS, SignerKey("m.example/index", COSIGNATURE_ED25519, bytes(32))):
        with pytest.raises(UsageError):
            HEAD.sign(key)
    for line in (f"log {LOG.verifier}", f"log {LOG_INDEX.verifier}\nwitness w {WITNESS.verifier}"):
        with pytest.raises(EvidenceError, match="index policy"):
            IndexPolicy.parse(f"{line}\nquorum none\n".encode())


def accepted(*signers: SignerKey, head: IndexHead = HEAD, policy: IndexPolicy = INDEX_POLICY) -> AcceptedIndex:
    return policy.check(head.sign(*signers).encode())


def test_whom_an_index_policy_believes() -> None:
    assert accepted(LOG_INDEX, MONITOR).signers == ("m",)
    with pytest.raises(PolicyError, match="by m"):
        accepted(LOG_INDEX)
    with pytest.raises(PolicyError, match="no signature by the index policy's key"):
        accepted(MONITOR)
    with pytest.raises(PolicyError, match="names no key"):
        accepted(LOG_INDEX, MONITOR, head=IndexHead("other.example", SIZE, HEAD.root, HEAD.index_root))
    false = HEAD.sign(MONITOR).signatures
    other = Note(IndexHead(LOG.name, SIZE, HEAD.root, EMPTY).text).sign(LOG_INDEX).add(*false)
    with pytest.raises(EvidenceError, match="does not verify"):
        INDEX_POLICY.check(other.encode())


def test_a_root_that_only_the_log_signed_is_worth_nothing() -> None:
    alone = IndexPolicy.parse(f"log {LOG_INDEX.verifier}\nquorum none\n".encode())
    data = proof_of(NOWHERE, NO_FILE, note=HEAD.sign(LOG_INDEX).encode()).encode()
    found = verify_absence(data, pixels=NOWHERE, file=NO_FILE, policy=POLICY, index_policy=alone)
    assert found.absent
    with pytest.raises(PolicyError, match="itself signed the index root"):
        require_vouched(found)
    unwitnessed = Policy.parse(f"log {LOG.verifier}\nquorum none\n".encode())
    data = proof_of(NOWHERE, NO_FILE, checkpoint=CHECKPOINT.sign(LOG).encode()).encode()
    found = verify_absence(data, pixels=NOWHERE, file=NO_FILE, policy=unwitnessed, index_policy=INDEX_POLICY)
    with pytest.raises(PolicyError, match="not witnessed"):
        require_vouched(found)


@pytest.mark.parametrize(
    ("head", "why"),
    [
        (IndexHead(LOG.name, SIZE - 1, HEAD.root, HEAD.index_root), "at size 39"),
        (IndexHead(LOG.name, SIZE, hash_leaf(b"another tree"), HEAD.index_root), "split view"),
        (IndexHead(LOG.name, SIZE, HEAD.root, EMPTY), "index root"),
    ],
)
def test_index_and_checkpoint_speak_of_one_tree(head: IndexHead, why: str) -> None:
    data = proof_of(NOWHERE, NO_FILE, note=head.sign(LOG_INDEX, MONITOR).encode()).encode()
    with pytest.raises(PlausibleError, match=why):
        verify_absence(data, pixels=NOWHERE, file=NO_FILE, policy=POLICY, index_policy=INDEX_POLICY)
