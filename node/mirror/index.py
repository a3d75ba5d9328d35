"""The absence index of a copy: recomputed from its entries, and its root signed with the mirror's index key.

Only who recomputed a root may sign it; a mirror has the entries, so it can. Where the log serves an index note of its
own for the same entries, its signature is served beside ours if it names the same root; if it names another, the log
signed a falsehood, and that is said. absence.db is derived and sealed with the same key: delete it and it comes back.
"""

from __future__ import annotations

import logging

from ...ledger.absence.note import INDEX_NOTE, IndexHead
from ...ledger.absence.pages import ABSENCE_FILE
from ...ledger.absence.prove import merged, publish, published, recompute, require_no_other_root
from ...ledger.absence.store import AbsenceStore
from ...ledger.merkle.reader import Source, TiledLog
from ...ledger.notes.checkpoint import Checkpoint
from ...ledger.notes.note import Note
from ...schemas.errors import EvidenceError
from .follow import Progress, silent
from .mirror import Mirror

_log = logging.getLogger("plausible.mirror")


def sign_index(
    mirror: Mirror, origin: str, source: Source | None = None, *, progress: Progress = silent
) -> IndexHead | None:
    """Serve a signed note over the index of the head that is cosigned; None before the first head.

    `source` is the log itself, whose index note is held against ours. Raises `EvidenceError` if it names another root
    for the very same entries: ours is served all the same.
    """
    head = mirror.head(origin)
    if head.size == 0:
        return None
    copy = mirror.copy(origin)
    served = published(copy.log)
    note = None if served is None else _ours(mirror, served)
    found = None if note is None else IndexHead.parse(note.text)
    if note is None or found is None or (found.size, found.root) != (head.size, head.root):
        checkpoint = Checkpoint(origin, head.size, head.root)
        # only entries that came since this key sealed the file are read
        store = AbsenceStore(copy.folder / ABSENCE_FILE, signer=mirror.index_key, anew=_tell)
        found = recompute(copy.log, checkpoint, progress, store=store)
        note = found.sign(mirror.index_key)
        publish(copy.public.folder, note)
    theirs = None if source is None else published(TiledLog(source))
    if theirs is not None:
        other = Note.parse(theirs)
        require_no_other_root(found, IndexHead.parse(other.text))
        if other.text == note.text and (both := merged(note, other)) != note:
            publish(copy.public.folder, both)
    return found


def _tell(reason: str) -> None:
    _log.warning("the absence index is made anew from every entry: %s", reason)


def _ours(mirror: Mirror, data: bytes) -> Note | None:
    """An index note that carries our signature; anything else in that place is made anew."""
    try:
        note = Note.parse(data)
        note.verify([mirror.index_key.verifier])
        IndexHead.parse(note.text)
    except EvidenceError:
        return None
    return note


__all__ = ["INDEX_NOTE", "sign_index"]
