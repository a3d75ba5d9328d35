"""Contradiction files: each kind is proven from its bytes alone, and no file proves what is not so."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from plausible.ledger import contradiction
from plausible.ledger.absence.note import IndexPolicy
from plausible.ledger.contradiction import verify_contradiction
from plausible.ledger.notes.note import ED25519, SignerKey
from plausible.ledger.notes.policy import Policy
from plausible.schemas import jcs
from plausible.schemas.contradiction import parse_contradiction
from plausible.schemas.errors import EvidenceError, PlausibleError, PolicyError, SetupError

from tests.ledger.falselog import INDEX, LOG, Chain, FalseLog, forged

KEYS = [LOG.verifier]
POLICY = Policy.parse(f"log {LOG.verifier}\nquorum none\n".encode())
INDEX_POLICY = IndexPolicy.parse(f"log {INDEX.verifier}\nquorum none\n".encode())


def fork(folder: Path, common: int, own: int) -> FalseLog:
    """A log whose first entries are everybody's and whose later ones are its own."""
    log = FalseLog(folder)
    log.grow([b"common %d" % i for i in range(common)] + [b"%s %d" % (folder.name.encode(), i) for i in range(own)])
    return log


def two_heads(folder: Path) -> bytes:
    return contradiction.two_heads(KEYS, fork(folder / "a", 5, 3).head(), fork(folder / "b", 5, 3).head())


def inconsistent_heads(folder: Path, older: int = 300, newer: int = 600) -> bytes:
    a, b = fork(folder / "a", 5, older - 5), fork(folder / "b", 5, newer - 5)
    return contradiction.inconsistent_heads(KEYS, a.head(), b.head(), b.log)


def false_entry(folder: Path) -> bytes:
    log = FalseLog(folder / "log")
    log.grow([*Chain().leaves(3), forged(Chain(chain="11" * 16).leaf()), b"stranger"])
    return contradiction.false_entry(KEYS, log.head(), log.log, 3)


def pair(folder: Path, leaves: list[bytes], first: int, second: int) -> bytes:
    log = FalseLog(folder / "log")
    log.grow(leaves)
    return contradiction.entry_pair(KEYS, log.head(), log.log, first, second)


def author_fork(folder: Path) -> bytes:
    chain = Chain()
    leaves = chain.leaves(4)
    return pair(folder, [*leaves, b"stranger", chain.leaf(seq=2, word="another")], 2, 5)


def chain_gap(folder: Path, **limit: int) -> bytes:
    log, chain, other = FalseLog(folder / "log"), Chain(), Chain(chain="22" * 16)
    log.grow([*chain.leaves(3), other.leaf(), b"stranger", chain.leaf(seq=5)])
    return contradiction.chain_gap(KEYS, log.head(), log.log, 2, 6, **limit)


def late_start(folder: Path) -> bytes:
    log, chain = FalseLog(folder / "log"), Chain()
    log.grow([b"stranger", chain.leaf(seq=1, prev="sha256:" + "11" * 32), b"more"])
    return contradiction.chain_gap(KEYS, log.head(), log.log, 0, 2)


def index_tree(folder: Path) -> bytes:
    a, b = fork(folder / "a", 5, 4), fork(folder / "b", 5, 40)
    return contradiction.index_tree(KEYS, b.head(), INDEX.verifier, a.index(), b.log)


def index_root(folder: Path, **limit: int) -> bytes:
    log = FalseLog(folder / "log")
    log.grow([*Chain().leaves(4), b"stranger"])
    return contradiction.index_root(INDEX.verifier, log.index(lie=True), log.log, **limit)


MAKERS: dict[str, Callable[[Path], bytes]] = {
    "two-heads": two_heads,
    "inconsistent-heads": inconsistent_heads,
    "false-entry": false_entry,
    "entry-pair": author_fork,
    "chain-gap": chain_gap,
    "index-tree": index_tree,
    "index-root": index_root,
}


@pytest.mark.parametrize("kind", MAKERS)
def test_a_contradiction_is_proven_offline(kind: str, tmp_path: Path) -> None:
    data = MAKERS[kind](tmp_path)
    found = verify_contradiction(data, policy=POLICY, index_policy=INDEX_POLICY)
    assert (found.kind, found.origin, found.accused, found.trusted) == (kind, LOG.name, LOG.name, True)
    assert parse_contradiction(data).to_jcs() == data
    assert not verify_contradiction(data).trusted  # nobody said that these keys are the log's


@pytest.mark.parametrize("kind", MAKERS)
def test_keys_of_somebody_else_accuse_nobody_here(kind: str, tmp_path: Path) -> None:
    """Anyone can make a key under the log's name and contradict himself with it."""
    data = MAKERS[kind](tmp_path)
    other = Policy.parse(f"log {SignerKey.generate(LOG.name, ED25519).verifier}\nquorum none\n".encode())
    index = IndexPolicy.parse(f"log {SignerKey.generate(INDEX.name, ED25519).verifier}\nquorum none\n".encode())
    with pytest.raises(PolicyError):
        verify_contradiction(data, policy=other, index_policy=index)


@pytest.mark.parametrize("kind", MAKERS)
def test_every_part_of_a_file_counts(kind: str, tmp_path: Path) -> None:
    """A file with any one text or number changed proves nothing; only the project's own error says so."""
    whole = json.loads(MAKERS[kind](tmp_path))
    places: list[tuple[Any, Any]] = []

    def walk(value: Any) -> None:
        items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for key, item in list(items):
            if isinstance(item, (str, int)):
                places.append((value, key))
            walk(item)

    walk(whole)
    assert len(places) >= 4
    for holder, key in places:
        kept = holder[key]
        for change in (
            [kept + 1, max(kept - 1, 0)] if isinstance(kept, int) else [kept[:-2] + "0\n", kept[: len(kept) // 2], ""]
        ):
            if change == kept:
                continue
            holder[key] = change
            with pytest.raises(PlausibleError):
                verify_contradiction(jcs.encode(whole), policy=POLICY, index_policy=INDEX_POLICY)
        holder[key] = kept
    verify_contradiction(jcs.encode(whole))


@pytest.mark.parametrize(("older", "newer"), [(1 + 5, 7), (8, 9), (64, 257), (255, 256), (256, 257), (300, 301)])
def test_heads_of_any_two_sizes(older: int, newer: int, tmp_path: Path) -> None:
    found = verify_contradiction(inconsistent_heads(tmp_path, older, newer))
    assert str(older) in found.what and str(newer) in found.what


def test_heads_that_continue_each_other_are_no_contradiction(tmp_path: Path) -> None:
    log = fork(tmp_path / "a", 20, 0)
    for size in (0, 1, 8, 13, 19):
        with pytest.raises(EvidenceError):
            contradiction.inconsistent_heads(KEYS, log.head(size), log.head(), log.log)
    with pytest.raises(EvidenceError):
        contradiction.two_heads(KEYS, log.head(), log.head())
    other = FalseLog(tmp_path / "b", SignerKey.generate("log.example/b", ED25519))
    other.grow([b"other"])
    with pytest.raises(EvidenceError):  # another log's head says nothing about this one
        contradiction.two_heads(KEYS, log.head(1), other.head())


def test_entries_that_contradict_each_other(tmp_path: Path) -> None:
    for number, (changes, said) in enumerate(
        [
            ({"seq": 1}, "comes after"),
            ({"prev": "sha256:" + "11" * 32}, "prev of seq 3"),
            ({"time": "2025-01-02T03:04:05.000006Z"}, "accepted before"),
            ({"seq": 4, "time": "2025-01-02T03:04:05.000006Z", "prev": "sha256:" + "11" * 32}, "accepted before"),
            ({"draw": 2}, "used for two pictures"),
        ]
    ):
        chain = Chain()
        leaves = chain.leaves(3)
        data = pair(tmp_path / str(number), [*leaves, b"stranger", chain.leaf(**changes)], 2, 4)
        assert said in verify_contradiction(data).what
    chain = Chain()
    leaves = chain.leaves(3)
    twice = verify_contradiction(pair(tmp_path / "twice", [*leaves, leaves[2]], 2, 3))
    assert "stands in the log twice" in twice.what


def test_entries_that_may_stand_together_are_no_contradiction(tmp_path: Path) -> None:
    chain, other = Chain(), Chain(chain="33" * 16)
    leaves = [*chain.leaves(3), *other.leaves(2), forged(chain.leaf(seq=2, word="not its own"))]
    for number, (first, second) in enumerate([(0, 1), (0, 2), (0, 3), (3, 4)]):
        with pytest.raises(EvidenceError, match="can both stand"):
            pair(tmp_path / str(number), leaves, first, second)
    with pytest.raises(EvidenceError, match="order of the log"):
        pair(tmp_path / "back", leaves, 2, 1)
    with pytest.raises(EvidenceError, match="nobody's word"):  # a forged entry is no author's fork
        pair(tmp_path / "forged", leaves, 2, 5)


def test_a_gap_needs_all_entries_between(tmp_path: Path) -> None:
    log, chain = FalseLog(tmp_path / "log"), Chain()
    log.grow([*chain.leaves(3), b"stranger", chain.leaf(), chain.leaf(seq=9)])
    contradiction.chain_gap(KEYS, log.head(), log.log, 4, 6)
    for start in (0, 1, 2, 3, 5):  # the chain's entry before the gap is not the first of the run
        with pytest.raises(EvidenceError, match="no gap"):
            contradiction.chain_gap(KEYS, log.head(), log.log, start, 6)
    assert "not 0" in verify_contradiction(late_start(tmp_path / "late")).what


def test_entries_too_many_for_a_file_are_read_from_a_copy(tmp_path: Path) -> None:
    for kind, make in (("gap", chain_gap), ("root", index_root)):
        data = make(tmp_path / kind, limit=1000)
        assert b'"leaves":null' in data
        with pytest.raises(SetupError, match="leaves out"):
            verify_contradiction(data)
        copy = FalseLog(tmp_path / kind / "log").log
        assert verify_contradiction(data, log=copy, policy=POLICY, index_policy=INDEX_POLICY).trusted
        with pytest.raises(SetupError, match="does not hold"):
            verify_contradiction(data, log=fork(tmp_path / kind / "another", 6, 0).log)


def test_a_true_index_note_is_no_contradiction(tmp_path: Path) -> None:
    log = FalseLog(tmp_path / "log")
    log.grow([*Chain().leaves(4), b"stranger"])
    with pytest.raises(EvidenceError, match="give the index root"):
        contradiction.index_root(INDEX.verifier, log.index(), log.log)
    with pytest.raises(EvidenceError, match="both be true"):
        contradiction.index_tree(KEYS, log.head(), INDEX.verifier, log.index(size=3), log.log)


def test_forms_that_are_refused(tmp_path: Path) -> None:
    data = two_heads(tmp_path)
    value = json.loads(data)
    for change in (
        {"kind": "three-heads"},
        {"kind": None},
        {"format": "plausible.contradiction/2"},
        {"keys": []},
        {"keys": value["keys"] * 2},
        {"keys": [LOG.verifier.encode(), INDEX.verifier.encode()]},
        {"heads": value["heads"][:1]},
        {"more": 1},
    ):
        with pytest.raises(EvidenceError):
            verify_contradiction(jcs.encode({**value, **change}))
    for broken in (b"", b"null", b"[]", data[:-1], data + b"\n", data.replace(b'"kind"', b'"kinds"')):
        with pytest.raises(EvidenceError):
            verify_contradiction(broken)
