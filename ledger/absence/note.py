"""The signed root of the absence index: a note that nobody can take for a checkpoint, and whom to believe about it.

    plausible.index/1
    models.example/studio/log
    5
    <base64 RFC 6962 root of the log>
    <base64 index root>

    — models.example/studio/log/index <base64>
    — monitor.example/index <base64>

Where a checkpoint has its size stands the origin, where it has its root stands the size: neither reads as the other.
Signers use an Ed25519 key (type 0x01) for this and nothing else, named after themselves with `/index` at the end, and
sign only what they recomputed from the entries. `index.policy` is a tlog-policy with such keys.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ...schemas.errors import EvidenceError, PolicyError, UsageError
from ..notes.checkpoint import Checkpoint
from ..notes.note import ED25519, Note, SignerKey, VerifierKey
from ..notes.policy import Policy
from ..notes.wire import FORBIDDEN, HASH_SIZE, MAX_SIZE, decode_hash, encode_base64, parse_decimal

HEADER = "plausible.index/1"
KEY_SUFFIX = "/index"
INDEX_NOTE = "index/latest"
"""Where a log serves its latest index note, below `public/`."""


@dataclass(frozen=True, slots=True)
class IndexHead:
    """Which log, how many entries, the log's root, the root of the index over those entries (32 bytes each)."""

    origin: str
    size: int
    root: bytes
    index_root: bytes

    def __post_init__(self) -> None:
        if not self.origin or FORBIDDEN.search(self.origin):
            raise EvidenceError("an index note's origin is empty or holds a control character")
        if not 0 <= self.size <= MAX_SIZE:
            raise EvidenceError(f"an index note cannot have size {self.size}")
        if len(self.root) != HASH_SIZE or len(self.index_root) != HASH_SIZE:
            raise EvidenceError(f"the roots in an index note have {HASH_SIZE} bytes")

    @classmethod
    def of(cls, checkpoint: Checkpoint, index_root: bytes) -> IndexHead:
        """The head over the entries that a checkpoint covers."""
        return cls(checkpoint.origin, checkpoint.size, checkpoint.root, index_root)

    @classmethod
    def parse(cls, text: str) -> IndexHead:
        """Read a note's text; everything that `text` would not print again is an `EvidenceError`."""
        lines = text.split("\n")
        if len(lines) != 6 or lines[5] or lines[0] != HEADER:
            raise EvidenceError(f"an index note has five lines, the first of them {HEADER}")
        return cls(
            lines[1],
            parse_decimal(lines[2], "the size in an index note"),
            decode_hash(lines[3], "the root in an index note"),
            decode_hash(lines[4], "the index root in an index note"),
        )

    @property
    def text(self) -> str:
        """The signed text."""
        roots = f"{encode_base64(self.root)}\n{encode_base64(self.index_root)}\n"
        return f"{HEADER}\n{self.origin}\n{self.size}\n{roots}"

    def sign(self, *signers: SignerKey) -> Note:
        """A note over this head, which the caller recomputed; `UsageError` for a key that is no index key."""
        for signer in signers:
            problem = _no_index_key(signer.verifier)
            if problem:
                raise UsageError(problem)
        return Note(self.text).sign(*signers)


@dataclass(frozen=True, slots=True)
class AcceptedIndex:
    """An index root that met an `index.policy`; `signers` are short names of the recomputing parties beside the log."""

    head: IndexHead
    log: VerifierKey
    signers: tuple[str, ...]
    note: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class IndexPolicy:
    """Whose index roots count: the grammar of tlog-policy, with index keys in its `log` and `witness` lines."""

    policy: Policy

    @classmethod
    def parse(cls, data: bytes) -> IndexPolicy:
        """Read an `index.policy`; a key of another type or name in it is an `EvidenceError`."""
        policy = Policy.parse(data)
        for key in (*(log.key for log in policy.logs), *(witness.key for witness in policy.witnesses)):
            problem = _no_index_key(key)
            if problem:
                raise EvidenceError(f"index policy: {problem}")
        return cls(policy)

    def check(self, note_bytes: bytes) -> AcceptedIndex:
        """The index root in a signed note, if the log and a quorum of the signers stand behind it.

        Raises `EvidenceError` for malformed notes and false signatures, `PolicyError` for an unknown log, a missing
        signature of the log or a quorum that is not met.
        """
        note = Note.parse(note_bytes)
        head = IndexHead.parse(note.text)
        name = head.origin + KEY_SUFFIX
        log_keys = [log.key for log in self.policy.logs if log.key.name == name]
        if not log_keys:
            raise PolicyError(f"the index policy names no key {name!r}")
        verified = [v.key for v in note.known_signatures([*log_keys, *(w.key for w in self.policy.witnesses)])]
        by_log = [key for key in verified if key in log_keys]
        if not by_log:
            raise PolicyError(f"the index note carries no signature by the index policy's key {name}")
        signers = tuple(w.name for w in self.policy.witnesses if w.key in verified)
        if not self.policy.satisfied_by(signers):
            missing = ", ".join(w.name for w in self.policy.witnesses if w.name not in signers)
            raise PolicyError(f"the quorum of the index policy is not met: no signature by {missing}")
        return AcceptedIndex(head, by_log[0], signers, note_bytes)


def _no_index_key(key: VerifierKey) -> str | None:
    """Why a key signs no index roots, or None if it may."""
    if key.kind != ED25519:
        return f"the key of {key.name} is of type 0x{key.kind:02x}; index roots are signed with Ed25519 (0x01)"
    if not key.name.endswith(KEY_SUFFIX) or key.name == KEY_SUFFIX:
        return f"the key name {key.name} does not end in {KEY_SUFFIX}: a key that signs index roots serves nothing else"
    return None
