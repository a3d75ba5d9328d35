"""The mirror's add-entries body: the published one, packages against a real tree, and fuzz."""

from __future__ import annotations

from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plausible.ledger.merkle.tree import MemoryTree, hash_leaf, subtree_consistency_path
from plausible.ledger.notes.mirror_body import AddEntriesRequest, Package, origin_hash
from plausible.schemas.errors import EvidenceError

SIZE = 600
ENTRIES = [b"entry %d" % i for i in range(SIZE)]
HASHES = [hash_leaf(entry) for entry in ENTRIES]
TREE = MemoryTree(HASHES)


def package(start: int, end: int) -> Package:
    proof = subtree_consistency_path(TREE.get, start - start % 256, end, SIZE)
    return Package(start, tuple(ENTRIES[start:end]), tuple(proof))


def test_published_body(vectors: Any) -> None:
    known = vectors("mirror_add_entries.json")
    log = vectors("tiled_log_15_entries.json")
    body = bytes.fromhex(known["body_hex"])
    request = AddEntriesRequest.parse(body)
    assert request.encode() == body
    assert (request.origin, request.upload_start, request.upload_end) == (known["log_origin"], 0, 15)
    assert request.ticket.hex() == known["ticket_hex"]
    assert origin_hash(request.origin) == known["origin_hash_hex"]
    (only,) = request.packages
    assert [entry.decode() for entry in only.entries] == log["entries_utf8"]
    root = MemoryTree(hash_leaf(text.encode()) for text in log["entries_utf8"]).root()
    only.verify([], 15, root)
    with pytest.raises(EvidenceError):
        only.verify([], 15, hash_leaf(root))


@pytest.mark.parametrize("start", [0, 5, 255, 256, 300, 599, 600])
def test_packages_of_an_upload(start: int) -> None:
    cuts = [start, *(cut for cut in (256, 512) if cut > start), SIZE]
    parts = tuple(package(a, b) for a, b in pairwise(cuts) if a < b)
    request = AddEntriesRequest("log.example", start, SIZE, b"ticket", parts)
    assert AddEntriesRequest.parse(request.encode()) == request
    for part in parts:
        earlier = HASHES[part.subtree_start : part.start]
        assert part.verify(earlier, SIZE, TREE.root()) == HASHES[part.start : part.end]
        changed = Package(part.start, (b"other", *part.entries[1:]), part.proof)
        with pytest.raises(EvidenceError):
            changed.verify(earlier, SIZE, TREE.root())
        with pytest.raises(EvidenceError):
            part.verify([*earlier, HASHES[0]], SIZE, TREE.root())
    # the first packages alone are a request too
    first = AddEntriesRequest("log.example", start, SIZE, b"", parts[:1])
    assert AddEntriesRequest.parse(first.encode()) == first


GOOD = AddEntriesRequest("log.example", 250, SIZE, b"t", (package(250, 256), package(256, 512))).encode()


@pytest.mark.parametrize("body", [b"", GOOD[:5], GOOD[:20], GOOD[:-1], GOOD + b"\0", b"\0\1\xff" + GOOD[13:]])
def test_malformed(body: bytes) -> None:
    with pytest.raises(EvidenceError):
        AddEntriesRequest.parse(body)


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_only_evidence_error_escapes(data: st.DataObject) -> None:
    bent = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.one_of(st.integers(0, 40), st.integers(0, len(bent) - 1)))
        bent[place : place + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
    with suppress(EvidenceError):
        assert AddEntriesRequest.parse(bytes(bent)).encode() == bytes(bent)
