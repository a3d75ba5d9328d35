"""A contradiction verified: from the bytes of a file to what it proves, about whose keys.

Order: form; keys; signatures over every head and note; inclusion of every entry; then the rule that cannot hold. What
is proven is about the keys in the file. Whether they are those of the log that somebody means is for a policy to say:
without one `Proven.trusted` is False, since anybody can make a key with any name and contradict himself with it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ...schemas.contradiction import (
    ChainGap,
    Contradiction,
    EntryPair,
    FalseEntry,
    InconsistentHeads,
    IndexRoot,
    IndexTree,
    Run,
    TwoHeads,
    parse_contradiction,
)
from ...schemas.errors import EvidenceError, PeerError, PolicyError, SetupError
from ...schemas.text import parse_digest, unb64
from ..absence.keys import leaf_keys
from ..absence.note import KEY_SUFFIX, IndexHead, IndexPolicy
from ..absence.trie import IndexMap, MemoryPages
from ..entries.entry import Entry, parse_entry
from ..merkle.reader import TiledLog
from ..merkle.tree import CompactRange, hash_leaf, verify_consistency, verify_inclusion
from ..notes.checkpoint import Checkpoint, open_checkpoint
from ..notes.note import Note, VerifierKey
from ..notes.policy import Policy
from ..notes.proof import TlogProof
from .rules import broken_alone, broken_together

_BATCH = 4096


@dataclass(frozen=True, slots=True)
class Proven:
    """What a file proves: `what` in one sentence, about the log `origin`, signed by `keys` (verifier keys).

    `trusted`: a policy of the verifier names those keys. `accused` is the name of the party that signed what is false.
    """

    kind: str
    origin: str
    accused: str
    keys: tuple[str, ...]
    what: str
    trusted: bool


def verify_contradiction(
    file: bytes | Contradiction,
    *,
    policy: Policy | None = None,
    index_policy: IndexPolicy | None = None,
    log: TiledLog | None = None,
) -> Proven:
    """What a file proves; `EvidenceError` if it is malformed or proves nothing.

    `policy` and `index_policy` must name the keys, or a `PolicyError` follows; without them nothing is `trusted`. `log`
    is any copy of the log, for a file that leaves entries out (`SetupError` without it, or if the copy is another's).
    """
    found = parse_contradiction(file) if isinstance(file, bytes) else file
    if isinstance(found, IndexRoot):
        return _index_root(found, index_policy, log)
    keys = read_keys(found.keys)
    if policy is not None:
        known = {one.key for one in policy.logs}
        for key in keys:
            if key not in known:
                raise PolicyError(f"the policy does not name the key {key} that signed what contradicts itself")
    origin = keys[0].name
    accused, signers = origin, [key.encode() for key in keys]
    trusted = policy is not None
    if isinstance(found, TwoHeads):
        what = _two_heads(found, keys)
    elif isinstance(found, InconsistentHeads):
        what = _inconsistent(found, keys)
    elif isinstance(found, FalseEntry):
        what = _false_entry(found, keys)
    elif isinstance(found, EntryPair):
        what = _entry_pair(found, keys)
    elif isinstance(found, ChainGap):
        what = _chain_gap(found, keys, log)
    else:
        what, index_key = _index_tree(found, keys)
        accused, signers = index_key.name.removesuffix(KEY_SUFFIX), [index_key.encode(), *signers]
        trusted = _index_trusted(index_policy, index_key) and trusted
    return Proven(found.kind, origin, accused, tuple(signers), what, trusted)


def read_keys(texts: Sequence[str]) -> tuple[VerifierKey, ...]:
    """The keys of one log: all of one name, each once."""
    keys = tuple(VerifierKey.parse(text) for text in texts)
    if len({key.name for key in keys}) != 1 or len({key.key_id for key in keys}) != len(keys):
        raise EvidenceError("contradiction: the keys are of one log, each named once")
    return keys


def _head(text: str, keys: Sequence[VerifierKey]) -> Checkpoint:
    return open_checkpoint(text.encode(), keys, keys[0].name)[0]


def _two_heads(found: TwoHeads, keys: Sequence[VerifierKey]) -> str:
    first, second = (_head(text, keys) for text in found.heads)
    if first.size != second.size or first.root == second.root:
        raise EvidenceError("the two heads can both be true: other sizes, or the same root")
    return f"signed two trees of size {first.size}: {first.root.hex()} and {second.root.hex()}"


def _inconsistent(found: InconsistentHeads, keys: Sequence[VerifierKey]) -> str:
    older, newer = (_head(text, keys) for text in found.heads)
    _other_beginning(older.size, older.root, newer, found.root, found.path)
    return f"signed a tree of size {newer.size} that does not continue the one of size {older.size} that it signed too"


def _other_beginning(size: int, said: bytes, head: Checkpoint, root: str, path: Sequence[str]) -> None:
    """The first `size` entries of the head's tree have the root `root`, which is not the one that was said."""
    true = parse_digest(root)
    if size > head.size or true == said:
        raise EvidenceError("the two heads can both be true: the roots of their common part are not shown to differ")
    verify_consistency(size, true, head.size, head.root, [parse_digest(value) for value in path])


def _entry(text: str, keys: Sequence[VerifierKey]) -> tuple[int, Entry]:
    """(index, entry) of a tlog-proof under a head of the log."""
    proof = TlogProof.parse(text.encode())
    if proof.extra is None:
        raise EvidenceError("the proof brings no entry (no extra line)")
    head, _ = open_checkpoint(proof.note, keys, keys[0].name)
    verify_inclusion(proof.index, head.size, hash_leaf(proof.extra), proof.path, head.root)
    return proof.index, parse_entry(proof.extra)


def _false_entry(found: FalseEntry, keys: Sequence[VerifierKey]) -> str:
    index, entry = _entry(found.proof, keys)
    broken = broken_alone(entry)
    if broken is None:
        raise EvidenceError(f"entry {index} breaks no rule by itself")
    return f"holds as entry {index} what its author did not sign: {broken}"


def _entry_pair(found: EntryPair, keys: Sequence[VerifierKey]) -> str:
    (i, first), (j, second) = (_entry(text, keys) for text in found.proofs)
    if i >= j:
        raise EvidenceError("the two entries do not stand in the order of the log")
    for index, entry in ((i, first), (j, second)):
        if broken_alone(entry) is not None:
            raise EvidenceError(f"entry {index} is not signed by its author: it is nobody's word")
    broken = broken_together(first, second)
    if broken is None:
        raise EvidenceError(f"entries {i} and {j} can both stand in the log")
    return f"holds entries {i} and {j} of {first.author.name}, which contradict each other: {broken}"


def _chain_gap(found: ChainGap, keys: Sequence[VerifierKey], log: TiledLog | None) -> str:
    head, run = _head(found.head, keys), found.run
    places: list[tuple[int, str, str, int]] = []
    last = b""
    for index, leaf in enumerate(_leaves(run, head.size, head.root, log), run.start):
        last = leaf
        try:
            header = parse_entry(leaf).header
        except EvidenceError:
            continue
        places.append((index, header.author, header.chain, header.seq))
    entry = parse_entry(last)
    if broken_alone(entry) is not None:
        raise EvidenceError("the entry after the gap is not signed by its author")
    place = (entry.header.author, entry.header.chain)
    seq, end = entry.header.seq, run.end - 1
    mates = [(index, number) for index, author, chain, number in places if (author, chain) == place and index < end]
    if not mates and run.start == 0 and seq > 0:
        return f"holds as entry {end} the first one of a chain of {entry.author.name}, with seq {seq} and not 0"
    if [index for index, _ in mates] == [run.start] and seq > mates[0][1] + 1:
        return (
            f"leaves a gap in a chain of {entry.author.name}: entry {end} has seq {seq}, the one before {mates[0][1]}"
        )
    raise EvidenceError("the run of entries shows no gap in a chain")


def _leaves(run: Run, size: int, root: bytes, log: TiledLog | None) -> Iterator[bytes]:
    """The entries of a run, one after the other. Only who has taken the last knows that all hash into the tree."""
    if run.end > size:
        raise EvidenceError(f"the run of entries ends at {run.end}, the tree at {size}")
    edge = CompactRange(run.start, [parse_digest(value) for value in run.edge])
    if run.leaves is None and log is None:
        count = run.end - run.start
        raise SetupError(f"the file leaves out {count} entries: name a copy of the log that they are read from")
    if log is not None and run.leaves is None:
        given = log.entries(run.start, run.end, size)
    else:
        given = (unb64(leaf, "a leaf") for leaf in run.leaves or ())
    try:
        for leaf in given:
            edge.append(hash_leaf(leaf))
            yield leaf
        verify_consistency(run.end, edge.root(), size, root, [parse_digest(value) for value in run.path])
    except (EvidenceError, PeerError) as error:
        if run.leaves is not None:
            raise
        raise SetupError(f"the copy of the log does not hold the entries that the file speaks of: {error}") from None


def _note(text: str, key: VerifierKey) -> IndexHead:
    if not key.name.endswith(KEY_SUFFIX) or key.name == KEY_SUFFIX:
        raise EvidenceError(f"the key {key.name} signs no index roots")
    note = Note.parse(text.encode())
    note.verify([key])
    return IndexHead.parse(note.text)


def _index_tree(found: IndexTree, keys: Sequence[VerifierKey]) -> tuple[str, VerifierKey]:
    head, key = _head(found.head, keys), VerifierKey.parse(found.index_key)
    note = _note(found.note, key)
    if note.origin != head.origin:
        raise EvidenceError(f"the index note is of {note.origin}, the head of {head.origin}")
    _other_beginning(note.size, note.root, head, found.root, found.path)
    return f"signed an index of size {note.size} over a tree that is not the log's", key


def _index_root(found: IndexRoot, policy: IndexPolicy | None, log: TiledLog | None) -> Proven:
    key = VerifierKey.parse(found.index_key)
    trusted = _index_trusted(policy, key)
    note, run = _note(found.note, key), found.run
    if (run.start, run.end) != (0, note.size):
        raise EvidenceError("the entries do not reach from the first to the note's size")
    index = IndexMap(MemoryPages())
    batch: list[tuple[bytes, int]] = []
    for place, leaf in enumerate(_leaves(run, note.size, note.root, log)):
        batch += [(one, place) for one in leaf_keys(leaf)]
        if len(batch) >= _BATCH:
            index.add(batch)
            batch = []
    index.add(batch)
    if index.root() == note.index_root:
        raise EvidenceError("the entries give the index root that the note signs")
    what = f"signed an index root for size {note.size} that its entries do not give: {index.root().hex()} is"
    accused = key.name.removesuffix(KEY_SUFFIX)
    return Proven(found.kind, note.origin, accused, (key.encode(),), what, trusted)


def _index_trusted(policy: IndexPolicy | None, key: VerifierKey) -> bool:
    if policy is None:
        return False
    if key not in (*(one.key for one in policy.policy.logs), *(one.key for one in policy.policy.witnesses)):
        raise PolicyError(f"the index policy does not name the key {key} that signed what is false")
    return True


__all__ = ["Proven", "read_keys", "verify_contradiction"]
