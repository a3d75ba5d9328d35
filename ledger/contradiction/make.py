"""Contradiction files from what was seen. Each that is whole is verified before it is handed out.

`log` is the copy whose tiles hash to the head in question; `EvidenceError` where what was seen is no contradiction.
"""

from __future__ import annotations

from collections.abc import Sequence

from ...schemas.contradiction import (
    MAX_KEYS,
    ChainGap,
    Contradiction,
    EntryPair,
    FalseEntry,
    InconsistentHeads,
    IndexRoot,
    IndexTree,
    Run,
    TwoHeads,
)
from ...schemas.errors import EvidenceError
from ...schemas.text import b64, digest_text
from ..absence.note import IndexHead
from ..merkle.reader import TiledLog
from ..merkle.tree import CompactRange, consistency_path
from ..notes.checkpoint import Checkpoint
from ..notes.note import Note, VerifierKey
from ..notes.proof import make_proof
from .verify import verify_contradiction

EMBEDDED_BYTES = 32 * 1024 * 1024
"""Entries of more bytes than these are left out of a file, and read from a copy of the log instead."""


def two_heads(keys: Sequence[VerifierKey], first: bytes, second: bytes) -> bytes:
    """Two signed heads of one size."""
    return _verified(TwoHeads(heads=(first.decode(), second.decode()), keys=_texts(keys)))


def inconsistent_heads(keys: Sequence[VerifierKey], older: bytes, newer: bytes, log: TiledLog) -> bytes:
    """A signed head, and a larger one whose tiles `log` has and which does not continue it."""
    size, head = _checkpoint(older).size, _checkpoint(newer)
    root, path = _beginning(log, size, head.size)
    made = InconsistentHeads(heads=(older.decode(), newer.decode()), keys=_texts(keys), path=path, root=root)
    return _verified(made)


def false_entry(keys: Sequence[VerifierKey], head: bytes, log: TiledLog, index: int) -> bytes:
    """An entry that breaks a rule by itself."""
    return _verified(FalseEntry(keys=_texts(keys), proof=_proof(head, log, index)))


def entry_pair(keys: Sequence[VerifierKey], head: bytes, log: TiledLog, first: int, second: int) -> bytes:
    """Two entries that cannot both stand in one chain."""
    proofs = (_proof(head, log, first), _proof(head, log, second))
    return _verified(EntryPair(keys=_texts(keys), proofs=proofs))


def chain_gap(
    keys: Sequence[VerifierKey], head: bytes, log: TiledLog, start: int, end: int, *, limit: int = EMBEDDED_BYTES
) -> bytes:
    """The entries from a chain's last one (or from 0) up to the one that does not follow, at `end` - 1."""
    size = _checkpoint(head).size
    made = ChainGap(head=head.decode(), keys=_texts(keys), run=_run(log, start, end, size, limit))
    return _verified(made)


def index_tree(keys: Sequence[VerifierKey], head: bytes, key: VerifierKey, note: bytes, log: TiledLog) -> bytes:
    """An index note over another tree than that of a head whose tiles `log` has."""
    root, path = _beginning(log, IndexHead.parse(Note.parse(note).text).size, _checkpoint(head).size)
    made = IndexTree(
        head=head.decode(), index_key=key.encode(), keys=_texts(keys), note=note.decode(), path=path, root=root
    )
    return _verified(made)


def index_root(key: VerifierKey, note: bytes, log: TiledLog, *, limit: int = EMBEDDED_BYTES) -> bytes:
    """An index note whose index root its own entries, which `log` has, do not give."""
    size = IndexHead.parse(Note.parse(note).text).size
    made = IndexRoot(index_key=key.encode(), note=note.decode(), run=_run(log, 0, size, size, limit))
    return _verified(made)


def _verified(made: Contradiction) -> bytes:
    """The file's bytes, verified; of one that leaves entries out the caller has just read and checked them all."""
    data = made.to_jcs()
    if not (isinstance(made, (ChainGap, IndexRoot)) and made.run.leaves is None):
        verify_contradiction(data)
    return data


def _texts(keys: Sequence[VerifierKey]) -> tuple[str, ...]:
    if not 1 <= len(keys) <= MAX_KEYS:
        raise EvidenceError(f"a contradiction is about 1 to {MAX_KEYS} keys of one log, not {len(keys)}")
    return tuple(key.encode() for key in keys)


def _checkpoint(note: bytes) -> Checkpoint:
    return Checkpoint.parse(Note.parse(note).text)


def _beginning(log: TiledLog, size: int, whole: int) -> tuple[str, tuple[str, ...]]:
    """The root of the first `size` entries of the log's tree of `whole`, and the proof that it is."""
    path = consistency_path(lambda level, index: log.hash(level, index, whole), size, whole)
    return digest_text(_edge(log, size, whole).root()), tuple(map(digest_text, path))


def _edge(log: TiledLog, size: int, whole: int) -> CompactRange:
    """The right edge of the first `size` entries, read from the tiles of the whole tree: older ones may be gone."""
    return CompactRange.read(lambda level, index: log.hash(level, index, whole), size)


def _proof(head: bytes, log: TiledLog, index: int) -> str:
    size = _checkpoint(head).size
    return make_proof(index, log.inclusion(index, size), head, log.entry(index, size)).encode().decode()


def _run(log: TiledLog, start: int, end: int, size: int, limit: int) -> Run:
    path = consistency_path(lambda level, index: log.hash(level, index, size), end, size)
    leaves: list[str] | None = []
    used = 0
    for leaf in log.entries(start, end, size):
        used += len(leaf)
        if used > limit:
            leaves = None
            break
        leaves.append(b64(leaf))
    return Run(
        edge=tuple(map(digest_text, _edge(log, start, size).edge)),
        end=end,
        leaves=None if leaves is None else tuple(leaves),
        path=tuple(map(digest_text, path)),
        start=start,
    )


__all__ = [
    "EMBEDDED_BYTES",
    "chain_gap",
    "entry_pair",
    "false_entry",
    "inconsistent_heads",
    "index_root",
    "index_tree",
    "two_heads",
]
