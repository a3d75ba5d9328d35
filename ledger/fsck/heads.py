"""Signed heads: `checkpoint`, `checkpoint.pending`, every kept `checkpoints/SIZE`, what state.db and witnesses keep.

Each note's form, the log's signature and the cosignatures are checked under a policy. That all heads are of one history
is shown by re-deriving: each root must be that of the first SIZE entries of one and the same sequence, which is more
than a consistency proof between two of them says.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...schemas.errors import EvidenceError
from ..merkle.public import CHECKPOINT, CHECKPOINTS, PENDING
from ..merkle.reader import Source
from ..merkle.tiles import WIDTH
from ..merkle.tree import EMPTY_ROOT, CompactRange
from ..notes.checkpoint import Checkpoint, open_checkpoint
from ..notes.note import MAX_NOTE_BYTES, Note
from ..notes.policy import Policy
from ..notes.wire import parse_decimal
from .findings import RESTORE, Findings

_GIVE_POLICY = "if the policy was changed since, check again with --policy and the one that names this key"


@dataclass(frozen=True, slots=True)
class KnownHead:
    """A head that was read, and the file it stands in. `signed`: the log's signature was verified."""

    file: str
    checkpoint: Checkpoint
    signed: bool


def read_heads(source: Source, folder: Path | None, policy: Policy | None, found: Findings) -> list[KnownHead]:
    """All heads that the public files hold; `folder` lists the kept ones, which a served log cannot."""
    heads = [
        read_head(source, CHECKPOINT, policy, found, quorum=True),
        read_head(source, PENDING, policy, found, quorum=False),
    ]
    for name in _kept(folder, found) if folder is not None else []:
        file = f"{CHECKPOINTS}/{name}"
        head = read_head(source, file, policy, found, quorum=True)
        if head is not None and str(head.checkpoint.size) != name:
            found.false(file, f"it is a head of size {head.checkpoint.size}, kept under another", RESTORE)
        heads.append(head)
    if folder is not None and heads[0] is not None:
        own = f"{CHECKPOINTS}/{heads[0].checkpoint.size}"
        if all(head is None or head.file != own for head in heads) and not (folder / own).exists():
            what = "the kept copy of checkpoint is missing: what it dates would be dated later"
            found.unread(own, what, "open the ledger once: it is written anew from state.db; or restore it")
    if folder is None:
        served = heads[0].checkpoint.size if heads[0] is not None else None
        if served is not None and source.fetch(f"{CHECKPOINTS}/{served}", MAX_NOTE_BYTES) is not None:
            heads.append(read_head(source, f"{CHECKPOINTS}/{served}", policy, found, quorum=True))
        found.skipped.append(("kept checkpoints", "a served log does not list them; the one of its own size was tried"))
    if policy is None:
        found.skipped.append(("signatures of checkpoints", "no policy given: nobody says whose would count"))
    else:
        found.done.append("signatures and cosignatures of every checkpoint")
    return [head for head in heads if head is not None]


def read_head(source: Source, file: str, policy: Policy | None, found: Findings, *, quorum: bool) -> KnownHead | None:
    """The head in a file; None where there is none. What is wrong with it is a finding."""
    data: bytes | None = None
    with found.reading(file, RESTORE):
        data = source.fetch(file, MAX_NOTE_BYTES)
    return None if data is None else check_head(file, data, policy, found, quorum=quorum, remedy=RESTORE)


def check_head(
    file: str, data: bytes, policy: Policy | None, found: Findings, *, quorum: bool, remedy: str
) -> KnownHead | None:
    """A head from its bytes: form, signatures under the policy and, with `quorum`, whether it is met."""
    head: KnownHead | None = None
    with found.reading(file, remedy):
        note = Note.parse(data)
        checkpoint = Checkpoint.parse(note.text)
        head = KnownHead(file, checkpoint, False)
        if policy is None:
            return head
        keys = [log.key for log in policy.logs if log.key.name == checkpoint.origin]
        open_checkpoint(data, keys)
        head = KnownHead(file, checkpoint, True)
        retired = [key for key in found.retired or () if key.name == checkpoint.origin and key not in keys]
        known = {(key.name, key.key_id) for key in (*keys, *retired, *(witness.key for witness in policy.witnesses))}
        note.known_signatures(retired)
        for line in note.signatures:
            if (line.name, line.key_id) in known:
                continue
            if line.name == checkpoint.origin and found.retired is None:
                text = f"{file} is also signed by a key of its log that the policy does not name ({line.key_id.hex()})"
                found.notes.append(text)
            else:
                what = f"the signature line of {line.name} ({line.key_id.hex()}) is by no key of the policy"
                found.unread(file, what, _GIVE_POLICY)
        note.known_signatures(witness.key for witness in policy.witnesses)
        if quorum:
            policy.check(data)
    return head


def _kept(folder: Path, found: Findings) -> list[str]:
    """Names below checkpoints/, by size."""
    names: list[tuple[int, str]] = []
    try:
        for path in (folder / CHECKPOINTS).iterdir():
            try:
                names.append((parse_decimal(path.name, "size"), path.name))
            except EvidenceError:
                found.notes.append(f"{CHECKPOINTS}/{path.name} is no file of a log")
    except FileNotFoundError:
        return []
    except OSError as error:
        found.unread(CHECKPOINTS, f"the folder cannot be read: {error.strerror}")
    return [name for _, name in sorted(names)]


class Roots:
    """The roots that heads claim, compared with the one sequence of entries as it goes by."""

    def __init__(self, heads: Iterable[KnownHead], found: Findings) -> None:
        self._found = found
        self._waiting: dict[int, list[KnownHead]] = {}
        for head in heads:
            self._waiting.setdefault(head.checkpoint.size, []).append(head)
        self._groups: CompactRange | None = CompactRange()
        self._settle(0, EMPTY_ROOT)

    def pass_by(self, base: int, hashes: Sequence[bytes] | None, whole: bytes | None) -> None:
        """The leaf hashes from `base` (a multiple of 256) on, or only the root of all 256 of them, or neither."""
        groups = self._groups
        if groups is None:
            return
        wanted = [size for size in self._waiting if base < size <= base + WIDTH]
        if wanted and hashes is not None:
            leaves = CompactRange(base, groups.edge)
            for leaf_hash in hashes:
                leaves.append(leaf_hash)
                if leaves.size in self._waiting:
                    self._settle(leaves.size, leaves.root())
        elif base + WIDTH in wanted and whole is not None:
            self._settle(base + WIDTH, self._with(groups, whole).root())
        if whole is None:
            self._groups = None
        else:
            self._groups = self._with(groups, whole)

    @staticmethod
    def _with(groups: CompactRange, whole: bytes) -> CompactRange:
        """The range over groups of 256 with one more; shifted by eight levels its edge is that over the entries."""
        more = CompactRange(groups.size, groups.edge)
        more.append(whole)
        return more

    def _settle(self, size: int, root: bytes) -> None:
        for head in self._waiting.pop(size, []):
            if head.checkpoint.root != root:
                what = f"the root it signs for size {size} is not that of the first {size} entries"
                self._found.false(head.file, what, "two histories of one log: keep every copy, tell the witnesses")

    def finish(self, size: int) -> None:
        """Name the heads whose root could not be re-derived, for want of entries."""
        for above, heads in sorted(self._waiting.items()):
            for head in heads:
                if above > size:
                    what = f"it names {above} entries, the log has {size}"
                    self._found.false(head.file, what, "restore public/ from a mirror that has them all")
                else:
                    self._found.unread(head.file, f"its root of size {above} could not be re-derived", RESTORE)


def widest(heads: Sequence[KnownHead]) -> list[KnownHead]:
    """Heads that the tree may be held against, signed and large ones first."""
    return sorted(heads, key=lambda head: (head.signed, head.checkpoint.size), reverse=True)


__all__ = ["KnownHead", "Roots", "check_head", "read_head", "read_heads", "widest"]
