"""Proofs about one key of the absence index, and the proof file about an image, verified offline.

    plausible.absence-proof/1\\n
    u8 number of keys, 1 or 2, ascending by kind; for each:
        u8 kind | 32 B digest
        u8 what: 0 an empty slot
                 1 another key: 32 B key | u64 count | u64 first | 32 B running
                 2 present: u32 count | count x u64 index, ascending
        u16 number of siblings, at most 256 | 32 B each, root first
    u32 length | the signed index note
    u32 length | the signed checkpoint of the same tree

A file is read only if writing it again gives the same bytes. Nothing in it is trusted: keys are computed from the image
at hand, the checkpoint is accepted by a policy, the index root by an `index.policy`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise

from ...schemas.errors import EvidenceError, PolicyError
from ..notes.checkpoint import Checkpoint
from ..notes.note import MAX_NOTE_BYTES, Note
from ..notes.policy import AcceptedCheckpoint, Policy
from ..notes.wire import HASH_SIZE, MAX_SIZE, u64
from .keys import EMPTY, FILE, KEY_BITS, KINDS, PIXELS, bit, index_key, key_hash, node_hash, run
from .note import AcceptedIndex, IndexHead, IndexPolicy

MAGIC = b"plausible.absence-proof/1\n"
PROOF_SUFFIX = ".absence-proof"
MAX_INDICES = 1 << 20
MAX_PROOF_BYTES = 2 * (8 * MAX_INDICES + KEY_BITS * HASH_SIZE + 256) + 2 * MAX_NOTE_BYTES


@dataclass(frozen=True, slots=True)
class Occupant:
    """The one key that stands where another was looked for: all that its leaf hash covers."""

    key: bytes
    count: int
    first: int
    running: bytes

    def __post_init__(self) -> None:
        if len(self.key) != HASH_SIZE or len(self.running) != HASH_SIZE:
            raise EvidenceError("a key and a running hash of the index have 32 bytes")
        if not 1 <= self.count <= MAX_SIZE or not 0 <= self.first <= MAX_SIZE:
            raise EvidenceError("a key of the index has at least one index")

    @property
    def hash(self) -> bytes:
        """Its leaf hash."""
        return key_hash(self.key, self.count, self.first, self.running)


@dataclass(frozen=True, slots=True)
class KeyProof:
    """What stands at a key's place: `indices` if it is present; else `occupant`, or an empty slot. Siblings root first.

    Raises `EvidenceError` for shapes that no map has.
    """

    siblings: tuple[bytes, ...]
    indices: tuple[int, ...] = ()
    occupant: Occupant | None = None

    def __post_init__(self) -> None:
        if len(self.siblings) > KEY_BITS or any(len(value) != HASH_SIZE for value in self.siblings):
            raise EvidenceError(f"an index proof has at most {KEY_BITS} siblings of {HASH_SIZE} bytes")
        if self.indices and self.occupant is not None:
            raise EvidenceError("an index proof shows the key or another one, not both")
        if len(self.indices) > MAX_INDICES:
            raise EvidenceError(f"an index proof names at most {MAX_INDICES} entries")
        if any(a >= b for a, b in pairwise(self.indices)):
            raise EvidenceError("the indices of an index proof are not ascending")
        if self.indices and not (self.indices[0] >= 0 and self.indices[-1] <= MAX_SIZE):
            raise EvidenceError("an index proof names an entry that no log can have")

    @property
    def present(self) -> bool:
        """Whether it shows the key to be in the map."""
        return bool(self.indices)

    def root(self, key: bytes) -> bytes:
        """The map's root if this proof is true of `key` (32 bytes); `EvidenceError` if it cannot be about it."""
        if self.indices:
            value = key_hash(key, len(self.indices), self.indices[0], run(self.indices))
        elif self.occupant is None:
            value = EMPTY
        else:
            other = self.occupant.key
            if other == key:
                raise EvidenceError("the index proof of absence shows the very key that it says is absent")
            if any(bit(other, i) != bit(key, i) for i in range(len(self.siblings))):
                raise EvidenceError("the other key in the index proof does not stand on the path of the key asked for")
            value = self.occupant.hash
        for position in range(len(self.siblings) - 1, -1, -1):
            sibling = self.siblings[position]
            value = node_hash(sibling, value) if bit(key, position) else node_hash(value, sibling)
        return value


def verify_key(proof: KeyProof, key: bytes, root: bytes, size: int) -> tuple[int, ...]:
    """The indices below `size` of the entries that name `key` under an index root; empty: proven absent.

    Raises `EvidenceError` if the proof is not true of this key, root and size.
    """
    if proof.root(key) != root:
        raise EvidenceError("the index proof does not lead to the index root")
    if proof.indices and proof.indices[-1] >= size:
        raise EvidenceError(f"the index names entry {proof.indices[-1]} of a log of size {size}")
    return proof.indices


@dataclass(frozen=True, slots=True)
class AbsenceProof:
    """A proof file: one `KeyProof` per kind with the digest it is about, the index note and the checkpoint verbatim."""

    digests: Mapping[int, bytes]
    proofs: Mapping[int, KeyProof]
    note: bytes = field(repr=False)
    checkpoint: bytes = field(repr=False)

    def __post_init__(self) -> None:
        kinds = list(self.digests)
        if not kinds or kinds != sorted(self.proofs) or kinds != sorted(kinds) or not set(kinds) <= set(KINDS):
            raise EvidenceError("an absence proof has one proof for each of its digests, by ascending kind")
        if any(len(digest) != HASH_SIZE for digest in self.digests.values()):
            raise EvidenceError(f"a digest of an absence proof has {HASH_SIZE} bytes")
        if max(len(self.note), len(self.checkpoint)) > MAX_NOTE_BYTES:
            raise EvidenceError(f"a note has more than {MAX_NOTE_BYTES} bytes")

    @classmethod
    def parse(cls, data: bytes) -> AbsenceProof:
        """Read a proof file; everything that `encode` would not write again is an `EvidenceError`."""
        if len(data) > MAX_PROOF_BYTES:
            raise EvidenceError(f"an absence proof has at most {MAX_PROOF_BYTES} bytes")
        reader = _Reader(data)
        if reader.take(len(MAGIC)) != MAGIC:
            raise EvidenceError("an absence proof begins with plausible.absence-proof/1")
        digests: dict[int, bytes] = {}
        proofs: dict[int, KeyProof] = {}
        last = 0
        for _ in range(reader.number(1)):
            kind = reader.number(1)
            if kind not in KINDS or kind <= last:
                raise EvidenceError("the keys of an absence proof are of kind 1 and 2, ascending")
            last = kind
            digests[kind] = reader.take(HASH_SIZE)
            proofs[kind] = reader.key_proof()
        note = reader.take(reader.number(4))
        checkpoint = reader.take(reader.number(4))
        reader.end()
        found = cls(digests, proofs, note, checkpoint)
        IndexHead.parse(Note.parse(note).text)
        Checkpoint.parse(Note.parse(checkpoint).text)
        return found

    def require_about(self, *, pixels: bytes, file: bytes | None) -> None:
        """`EvidenceError` unless this is about the image with these digests (`file` None: only the pixels)."""
        for kind, digest in _asked(pixels, file).items():
            if kind not in self.digests:
                raise EvidenceError(f"the absence proof says nothing about the {KINDS[kind]} digest")
            if self.digests[kind] != digest:
                raise EvidenceError(f"the absence proof is about another image: its {KINDS[kind]} digest differs")

    def encode(self) -> bytes:
        """The file's bytes."""
        parts = [MAGIC, self.encode_keys()]
        for note in (self.note, self.checkpoint):
            parts += [len(note).to_bytes(4, "big"), note]
        return b"".join(parts)

    def encode_keys(self) -> bytes:
        """The part without the signed notes."""
        parts = [bytes([len(self.proofs)])]
        for kind, proof in self.proofs.items():
            parts += [bytes([kind]), self.digests[kind], _encode(proof)]
        return b"".join(parts)


@dataclass(frozen=True, slots=True)
class AbsenceEvidence:
    """What a verified proof file says of an image, under the verifier's two policies.

    `indices` are the entries that name it by its pixels or its file, ascending; none: absent below `size`.
    """

    indices: tuple[int, ...]
    checkpoint: AcceptedCheckpoint
    index: AcceptedIndex

    @property
    def absent(self) -> bool:
        """Whether no entry below `size` names the image. Alone it says nothing about who made the image."""
        return not self.indices

    @property
    def origin(self) -> str:
        """The log."""
        return self.checkpoint.origin

    @property
    def size(self) -> int:
        """The number of entries it speaks of."""
        return self.checkpoint.size

    @property
    def weakness(self) -> str | None:
        """Why it convinces nobody else although it verifies, or None."""
        if not self.checkpoint.cosigners:
            return f"the checkpoint of {self.origin} is not witnessed: others may be shown another tree"
        if not self.index.signers:
            return f"only {self.origin} itself signed the index root: nobody else vouches that it was recomputed"
        return None


def _asked(pixels: bytes, file: bytes | None) -> dict[int, bytes]:
    return {PIXELS: pixels} if file is None else {PIXELS: pixels, FILE: file}


def verify_absence(
    data: bytes | AbsenceProof,
    *,
    pixels: bytes,
    file: bytes | None,
    policy: Policy,
    index_policy: IndexPolicy,
    now: int | None = None,
) -> AbsenceEvidence:
    """What a proof file proves about the image with these digests (32 bytes; `file` None: only the pixels are asked).

    In this order: the file, its digests against the image's, the checkpoint under `policy`, the index note under
    `index_policy`, both about one tree, each key under the index root. Raises `EvidenceError` for everything malformed
    or false, `PolicyError` where a policy is not met.
    """
    proof = data if isinstance(data, AbsenceProof) else AbsenceProof.parse(data)
    proof.require_about(pixels=pixels, file=file)
    asked = _asked(pixels, file)
    require_separate(policy, index_policy)
    accepted = policy.check(proof.checkpoint, now=now)
    index = index_policy.check(proof.note)
    head = index.head
    if (head.origin, head.size) != (accepted.origin, accepted.size):
        raise EvidenceError(
            f"the index note is of {head.origin} at size {head.size}, the checkpoint of {accepted.origin} at size "
            f"{accepted.size}"
        )
    if head.root != accepted.root:
        raise EvidenceError(f"split view: the index of {head.origin} was made from another tree of size {head.size}")
    found: set[int] = set()
    for kind, digest in proof.digests.items():
        indices = verify_key(proof.proofs[kind], index_key(kind, digest), head.index_root, head.size)
        if kind in asked:
            found.update(indices)
    return AbsenceEvidence(tuple(sorted(found)), accepted, index)


def require_separate(policy: Policy, index_policy: IndexPolicy) -> None:
    """`PolicyError` if a raw key of `index_policy` stands in `policy` too: keys of index roots do nothing else.

    A thief of the log's key would otherwise sign index roots in a recomputing signer's name.
    """
    heads = {member.key.public for member in (*policy.logs, *policy.witnesses)}
    for key in (member.key for member in (*index_policy.policy.logs, *index_policy.policy.witnesses)):
        if key.public in heads:
            raise PolicyError(f"the index policy's key {key.name} also signs checkpoints: it must serve nothing else")


def require_vouched(evidence: AbsenceEvidence) -> None:
    """`PolicyError` unless witnesses and recomputing signers stand behind the evidence."""
    if evidence.weakness is not None:
        raise PolicyError(evidence.weakness)


def _encode(proof: KeyProof) -> bytes:
    if proof.indices:
        head = b"\x02" + len(proof.indices).to_bytes(4, "big") + b"".join(u64(index) for index in proof.indices)
    elif proof.occupant is not None:
        other = proof.occupant
        head = b"\x01" + other.key + u64(other.count) + u64(other.first) + other.running
    else:
        head = b"\x00"
    return head + len(proof.siblings).to_bytes(2, "big") + b"".join(proof.siblings)


class _Reader:
    """Takes bytes off the front; running out of them is an `EvidenceError`."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._place = 0

    def take(self, length: int) -> bytes:
        end = self._place + length
        if end > len(self._data):
            raise EvidenceError("an absence proof ends too early")
        part = self._data[self._place : end]
        self._place = end
        return part

    def number(self, length: int) -> int:
        return int.from_bytes(self.take(length), "big")

    def end(self) -> None:
        if self._place != len(self._data):
            raise EvidenceError("an absence proof goes on after its end")

    def key_proof(self) -> KeyProof:
        what = self.number(1)
        indices: tuple[int, ...] = ()
        occupant = None
        if what == 1:
            occupant = Occupant(self.take(32), self.number(8), self.number(8), self.take(32))
        elif what == 2:
            count = self.number(4)
            if not 1 <= count <= MAX_INDICES:
                raise EvidenceError(f"an index proof of presence names 1 to {MAX_INDICES} entries")
            packed = self.take(8 * count)
            indices = tuple(int.from_bytes(packed[i : i + 8], "big") for i in range(0, len(packed), 8))
        elif what != 0:
            raise EvidenceError(f"an index proof of unknown form {what}")
        number = self.number(2)
        if number > KEY_BITS:
            raise EvidenceError(f"an index proof has at most {KEY_BITS} siblings")
        packed = self.take(number * HASH_SIZE)
        siblings = tuple(packed[i : i + HASH_SIZE] for i in range(0, len(packed), HASH_SIZE))
        return KeyProof(siblings, indices, occupant)
