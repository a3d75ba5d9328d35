"""The tree against published answers, against merkly, and against a recursion written from the RFC's own words."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from merkly.mtree import MerkleTree
from plausible.ledger.merkle import tree
from plausible.ledger.merkle.tree import CompactRange, MemoryTree, hash_leaf, hash_node
from plausible.ledger.notes.wire import decode_base64
from plausible.schemas.errors import EvidenceError, UsageError

SIZES = st.integers(1, 200)


def unb64(text: str | None) -> bytes:
    return decode_base64(text or "")


def hashes(texts: list[str] | None) -> list[bytes]:
    return [unb64(text) for text in texts or []]


def leaves(size: int) -> list[bytes]:
    return [hash_leaf(b"%d" % i) for i in range(size)]


def naive_root(hashed: list[bytes]) -> bytes:
    """MTH of RFC 6962 section 2.1, word for word."""
    if not hashed:
        return hashlib.sha256().digest()
    if len(hashed) == 1:
        return hashed[0]
    k = 1
    while k * 2 < len(hashed):
        k *= 2
    return hash_node(naive_root(hashed[:k]), naive_root(hashed[k:]))


def naive_inclusion(m: int, hashed: list[bytes]) -> list[bytes]:
    """PATH(m, D[n]) of RFC 6962 section 2.1.1."""
    if len(hashed) == 1:
        return []
    k = 1
    while k * 2 < len(hashed):
        k *= 2
    if m < k:
        return [*naive_inclusion(m, hashed[:k]), naive_root(hashed[k:])]
    return [*naive_inclusion(m - k, hashed[k:]), naive_root(hashed[:k])]


def naive_consistency(m: int, hashed: list[bytes], complete: bool = True) -> list[bytes]:
    """SUBPROOF(m, D[n], b) of RFC 6962 section 2.1.2."""
    if m == len(hashed):
        return [] if complete else [naive_root(hashed)]
    k = 1
    while k * 2 < len(hashed):
        k *= 2
    if m <= k:
        return [*naive_consistency(m, hashed[:k], complete), naive_root(hashed[k:])]
    return [*naive_consistency(m - k, hashed[k:], False), naive_root(hashed[:k])]


def test_reference_tree(vectors: Any) -> None:
    known = vectors("rfc6962_tree.json")
    inputs = [bytes.fromhex(text) for text in known["leaf_inputs_hex"]]
    grown = MemoryTree()
    edge = CompactRange()
    for size, root in enumerate(known["root_hashes_hex"]):
        assert grown.root().hex() == edge.root().hex() == root
        if size < len(inputs):
            grown.append(hash_leaf(inputs[size]))
            edge.append(hash_leaf(inputs[size]))
    for level, row in enumerate(known["node_hashes_hex"]):
        assert [grown.get(level, index).hex() for index in range(len(row))] == row


def test_hash_cases(vectors: Any) -> None:
    empty, empty_leaf, leaf, node = vectors("rfc6962_tree.json")["hash_cases"]
    assert empty["hash_hex"] == tree.EMPTY_ROOT.hex()
    assert empty_leaf["hash_hex"] == hash_leaf(b"").hex()
    assert leaf["hash_hex"] == hash_leaf(leaf["leaf_input_utf8"].encode()).hex()
    assert node["hash_hex"] == hash_node(node["left_utf8"].encode(), node["right_utf8"].encode()).hex()


def stretch(value: bytes) -> bytes:
    """A 32-byte stand-in for the probes' placeholders such as `don't care 2`; equal ones stay equal."""
    return value if len(value) == 32 else hashlib.sha256(value).digest()


def expect(wrong: bool, description: str, check: Any, *arguments: Any) -> None:
    try:
        check(*arguments)
    except EvidenceError:
        assert wrong, f"a good proof was refused: {description}"
    else:
        assert not wrong, f"a bad proof was accepted: {description}"


def test_inclusion_probes(vectors: Any) -> None:
    probes = vectors("merkle_inclusion_probes.json")["vectors"]
    assert len(probes) == 98
    for p in probes:
        leaf, root = unb64(p["leafHash"]), unb64(p["root"])
        path = hashes(p["proof"])
        expect(p["wantErr"], p["desc"], tree.verify_inclusion, p["leafIdx"], p["treeSize"], leaf, path, root)


def expect_with_and_without_placeholders(probe: Any, check: Any, *before: Any) -> None:
    """Check a probe as it is and with its placeholders stretched to 32 bytes.

    A wrong root of nine bytes is refused for its length alone; only the stretched one asks whether roots are compared.
    A good probe with placeholders must be refused as it is, since we accept no hash of another length.
    """
    root1, root2, path = unb64(probe["root1"]), unb64(probe["root2"]), hashes(probe["proof"])
    short = any(len(value) != 32 for value in (root1, root2, *path))
    expect(probe["wantErr"] or short, probe["desc"], check, *before, root1, root2, path)
    stretched = (stretch(root1), stretch(root2), [stretch(value) for value in path])
    expect(probe["wantErr"], probe["desc"], check, *before, *stretched)


def test_consistency_probes(vectors: Any) -> None:
    probes = vectors("merkle_consistency_probes.json")["vectors"]
    assert len(probes) == 98
    from_nothing = 0
    for p in probes:
        if p["size1"] == 0 and p["size2"] > 0 and not p["proof"] and unb64(p["root1"]) == tree.EMPTY_ROOT:
            # that library calls a proof from size 0 useless; tlog-witness wants it accepted
            from_nothing += 1
            tree.verify_consistency(0, unb64(p["root1"]), p["size2"], stretch(unb64(p["root2"])), [])
            continue

        def check(root1: bytes, root2: bytes, path: list[bytes], p: Any = p) -> None:
            tree.verify_consistency(p["size1"], root1, p["size2"], root2, path)

        expect_with_and_without_placeholders(p, check)
    assert from_nothing == 1


def test_subtree_inclusion_probes(vectors: Any) -> None:
    probes = vectors("merkle_subtreeinclusion_probes.json")["vectors"]
    assert len(probes) == 204
    for p in probes:
        leaf, root = unb64(p["leafHash"]), unb64(p["root"])
        arguments = (p["leafIdx"], p["start"], p["end"], leaf, hashes(p["proof"]), root)
        expect(p["wantErr"], p["desc"], tree.verify_subtree_inclusion, *arguments)


def test_subtree_consistency_probes(vectors: Any) -> None:
    probes = vectors("merkle_subtreeconsistency_probes.json")["vectors"]
    assert len(probes) == 118
    for p in probes:
        expect_with_and_without_placeholders(p, tree.verify_subtree_consistency, p["start"], p["end"], p["size"])


def test_consistency_between_all_sizes_of_a_real_log(vectors: Any) -> None:
    log = vectors("tiled_log_15_entries.json")
    grown = MemoryTree(hash_leaf(entry.encode()) for entry in log["entries_utf8"])
    proofs = vectors("consistency_proofs_15.json")["vectors"]
    assert len(proofs) == 136
    for p in proofs:
        old, new = p["old_size"], p["new_size"]
        path = hashes(p["proof_base64"])
        assert grown.consistency(old, new) == path
        tree.verify_consistency(old, grown.root(old), new, grown.root(new), path)


@given(SIZES, st.data())
@settings(max_examples=60, deadline=None)
def test_equals_the_recursion_of_the_rfc(size: int, data: st.DataObject) -> None:
    hashed = leaves(size)
    grown = MemoryTree(hashed)
    assert grown.root() == naive_root(hashed)
    index = data.draw(st.integers(0, size - 1))
    path = grown.inclusion(index)
    assert path == naive_inclusion(index, hashed)
    tree.verify_inclusion(index, size, hashed[index], path, grown.root())
    old = data.draw(st.integers(1, size))
    proof = grown.consistency(old)
    assert proof == naive_consistency(old, hashed)
    tree.verify_consistency(old, grown.root(old), size, grown.root(), proof)


def prefixed_sha256(left: bytes, right: bytes) -> bytes:
    """The hash that turns merkly's tree into RFC 6962's: it hashes a leaf as (leaf, nothing)."""
    return hash_node(left, right) if right else hash_leaf(left)


@given(st.lists(st.text("abcdef0123456789", min_size=1, max_size=9), min_size=2, max_size=70), st.data())
@settings(max_examples=40, deadline=None)
def test_equals_merkly(texts: list[str], data: st.DataObject) -> None:
    other: Any = MerkleTree(texts, prefixed_sha256)
    grown = MemoryTree(hash_leaf(text.encode()) for text in texts)
    assert grown.root() == other.root
    # merkly finds a leaf by its value, so a repeated one has the path of its first place
    index = texts.index(data.draw(st.sampled_from(texts)))
    assert grown.inclusion(index) == [node.data for node in other.proof(texts[index])]


@given(SIZES, st.data())
@settings(max_examples=60, deadline=None)
def test_compact_range_continues_anywhere(size: int, data: st.DataObject) -> None:
    hashed = leaves(size)
    grown = MemoryTree(hashed)
    cut = data.draw(st.integers(0, size))
    edge = CompactRange.read(grown.get, cut)
    assert edge.root() == grown.root(cut)
    before = edge.copy()
    for leaf in hashed[cut:]:
        edge.append(leaf)
    assert (edge.size, edge.root()) == (size, grown.root())
    assert (before.size, before.root()) == (cut, grown.root(cut))
    assert CompactRange(edge.size, edge.edge).root() == grown.root()


@given(SIZES, st.data())
@settings(max_examples=100, deadline=None)
def test_subtrees(size: int, data: st.DataObject) -> None:
    hashed = leaves(size)
    grown = MemoryTree(hashed)
    level = data.draw(st.integers(0, (size - 1).bit_length()))
    start = data.draw(st.integers(0, (size - 1) >> level)) << level
    end = data.draw(st.integers(start + 1, min(size, start + (1 << level))))
    part = naive_root(hashed[start:end])
    assert tree.subtree_root(grown.get, start, end) == part
    path = tree.subtree_consistency_path(grown.get, start, end, size)
    tree.verify_subtree_consistency(start, end, size, part, grown.root(), path)
    if start == 0:
        assert path == naive_consistency(end, hashed)
    wrong = hash_leaf(part)
    for roots in ((wrong, grown.root()), (part, wrong)):
        with pytest.raises(EvidenceError):
            tree.verify_subtree_consistency(start, end, size, *roots, path)
    for place in range(len(path)):
        bent = [*path[:place], bytes([path[place][0] ^ 1]) + path[place][1:], *path[place + 1 :]]
        with pytest.raises(EvidenceError):
            tree.verify_subtree_consistency(start, end, size, part, grown.root(), bent)
    index = data.draw(st.integers(start, end - 1))
    inner = MemoryTree(hashed[start:end]).inclusion(index - start)
    tree.verify_subtree_inclusion(index, start, end, hashed[index], inner, part)


@given(st.integers(2, 120), st.data())
@settings(max_examples=80, deadline=None)
def test_a_proof_proves_one_thing_only(size: int, data: st.DataObject) -> None:
    """Another index, size, leaf, path length or root than the proof was made for is refused."""
    hashed = leaves(size)
    grown = MemoryTree(hashed)
    index = data.draw(st.integers(0, size - 1))
    path, root = grown.inclusion(index), grown.root()
    other = data.draw(st.integers(0, size - 1).filter(lambda value: value != index))
    bent: list[tuple[int, int, bytes, list[bytes], bytes]] = [
        (other, size, hashed[index], path, root),
        (index, size, hashed[other], path, root),
        (index, size, hashed[index], path[:-1], root),
        (index, size, hashed[index], [*path, root], root),
        (index, size, hashed[index], path, hash_leaf(root)),
        (index, size, hashed[index], [path[0][:31], *path[1:]], root),
        (size, size, hashed[index], path, root),
        (-1, size, hashed[index], path, root),
    ]
    for arguments in bent:
        with pytest.raises(EvidenceError):
            tree.verify_inclusion(*arguments)


def test_length_is_checked_before_hashing() -> None:
    """A path of a million hashes for a small tree costs nothing: it is refused by its length."""
    with pytest.raises(EvidenceError, match="1000000 hashes, not 3"):
        tree.root_from_inclusion(1, 8, b"\0" * 32, [b"short"] * 1_000_000)


def test_huge_sizes() -> None:
    size = 2**63 - 1
    assert tree.inclusion_length(0, size) == 63
    assert tree.inclusion_length(size - 1, size) == 62
    with pytest.raises(EvidenceError):
        tree.inclusion_length(0, size + 1)
    with pytest.raises(EvidenceError):
        tree.verify_consistency(1, b"\0" * 32, size, b"\0" * 32, [])


def test_wrong_use_is_said() -> None:
    grown = MemoryTree(leaves(5))
    for call in (
        lambda: grown.root(6),
        lambda: grown.inclusion(5),
        lambda: grown.consistency(4, 3),
        lambda: grown.get(2, 1),
        lambda: tree.subtree_consistency_path(grown.get, 1, 3, 5),
    ):
        with pytest.raises(UsageError):
            call()
    with pytest.raises(EvidenceError):
        CompactRange(3, [b"\0" * 32])
    with pytest.raises(EvidenceError):
        grown.append(b"short")
    assert grown.size == 5


def test_size_zero_continues_into_anything() -> None:
    """tlog-witness: from size 0 an empty proof is right; from a false empty root nothing is."""
    grown = MemoryTree(leaves(3))
    tree.verify_consistency(0, tree.EMPTY_ROOT, 3, grown.root(), [])
    tree.verify_consistency(0, tree.EMPTY_ROOT, 0, tree.EMPTY_ROOT, [])
    for new_size, old_root, new_root, path in (
        (3, b"\1" * 32, grown.root(), []),
        (3, tree.EMPTY_ROOT, grown.root(), [grown.root()]),
        (0, tree.EMPTY_ROOT, b"\1" * 32, []),
    ):
        with pytest.raises(EvidenceError):
            tree.verify_consistency(0, old_root, new_size, new_root, path)
