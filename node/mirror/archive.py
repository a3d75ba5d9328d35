"""The log's own archive of witnessed heads, kept along: the first of them that covers an entry dates it.

A mirror keeps every head that it cosigned itself. Those that were witnessed before it looked, or between two looks, it
takes from the log, if the log lists them: each must carry the log's signature and be a root of the copy. A log that
keeps a head of its own under which its entries do not lie has two histories.
"""

from __future__ import annotations

from ...ledger.contradiction import inconsistent_heads
from ...ledger.merkle.public import CHECKPOINTS
from ...ledger.merkle.reader import Source, TiledLog
from ...ledger.notes.checkpoint import open_checkpoint
from ...ledger.storage.archive import kept_sizes, sizes_of
from ...ledger.storage.disk import storage, write_file
from ...schemas.errors import EvidenceError, PeerError
from .follow import proven
from .mirror import Mirror


def keep_archive(mirror: Mirror, origin: str, source: Source) -> int:
    """Take the kept heads that the copy lacks; how many. `EvidenceError` for one that contradicts the copy."""
    copy, head = mirror.copy(origin), mirror.head(origin)
    here, remote, count = set(kept_sizes(copy.public.folder)), TiledLog(source), 0
    for size in sizes_of(remote):
        if size in here or size > head.size:
            continue
        try:
            note = remote.checkpoint_bytes(f"{CHECKPOINTS}/{size}")
            checkpoint, _ = open_checkpoint(note, head.keys, origin)
        except (EvidenceError, PeerError):  # not the log's: it dates nothing
            continue
        if checkpoint.size != size:
            continue
        with copy.lock:
            same = copy.root(size) == checkpoint.root
        if not same:
            ours = mirror.cosigned_note(origin)
            proof = proven(lambda old=note, new=ours: inconsistent_heads(head.keys, old, new, copy.log))
            raise EvidenceError(
                f"{origin} keeps a head of size {size} that is not in the history it signed up to size {head.size}: "
                f"two histories of one log; see {mirror.keep_proof(origin, note, proof)}"
            )
        path = copy.public.folder / CHECKPOINTS / str(size)
        with storage(f"writing {path}"):
            write_file(path, note)
        count += 1
    return count


__all__ = ["keep_archive"]
