"""The signed absence index of an export: held against the entries as they go by, its signatures for its readers.

A note over other entries than the export's ends it: what it signs is false about this log, and to be kept as evidence.
Whoever imports also recomputes the index root. Who signed is not looked at: whom to believe says an `index.policy`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from ...schemas.errors import EvidenceError, SetupError
from ..absence.keys import leaf_keys
from ..absence.note import INDEX_NOTE, IndexHead
from ..absence.pages import PageFile, Progress, remove_file
from ..absence.store import UNWRITTEN_PAGES
from ..absence.trie import IndexMap
from ..merkle.tiles import decode_bundle
from ..merkle.tree import CompactRange
from ..notes.checkpoint import Checkpoint
from ..notes.note import Note


class IndexCheck:
    """An index note and the entries below its size, which pass by in order; `finish` says whether they fit."""

    def __init__(self, note: bytes, checkpoint: Checkpoint, scratch: Path | None = None) -> None:
        """`EvidenceError` for a note that is malformed, of another log, or over more entries than the checkpoint.

        With `scratch`, the path of a file that is made meanwhile, the index root is recomputed; `close` removes it.
        """
        self.head = IndexHead.parse(Note.parse(note).text)
        if self.head.origin != checkpoint.origin or self.head.size > checkpoint.size:
            raise EvidenceError(
                f"{INDEX_NOTE} is of size {self.head.size} of {self.head.origin!r}, the checkpoint of size "
                f"{checkpoint.size} of {checkpoint.origin!r}"
            )
        self._edge = CompactRange()
        self._scratch = scratch
        self._pages: PageFile | None = None
        self._index: IndexMap | None = None
        if scratch is not None:
            self._pages = PageFile(scratch)
            self._pages.begin()
            self._index = IndexMap(self._pages)

    def pass_by(self, data: bytes, width: int, hashes: Sequence[bytes]) -> None:
        """The next bundle, and the leaf hashes of its entries."""
        start = self._edge.size
        count = min(len(hashes), self.head.size - start)
        if count <= 0:
            return
        for value in hashes[:count]:
            self._edge.append(value)
        if self._index is None or self._pages is None:
            return
        entries = decode_bundle(data, width)[:count]
        self._index.add((key, start + place) for place, leaf in enumerate(entries) for key in leaf_keys(leaf))
        if self._pages.unwritten > UNWRITTEN_PAGES:
            progress = Progress(self._edge.size, b"", self._index.root())
            if not self._pages.flush(progress):
                raise SetupError(f"{self._scratch} was changed by another process")

    def finish(self) -> None:
        """`EvidenceError` unless the note is over the entries that went by."""
        size = self.head.size
        if (self._edge.size, self._edge.root()) != (size, self.head.root):
            raise EvidenceError(f"{INDEX_NOTE} is over another tree of size {size} than the log's: keep both")
        if self._index is not None and self._index.root() != self.head.index_root:
            raise EvidenceError(f"{INDEX_NOTE} names an index root for size {size} that the entries do not give")

    def close(self) -> None:
        """Remove what was made meanwhile."""
        if self._pages is not None and self._scratch is not None:
            with contextlib.closing(self._pages):
                self._pages.end()
            remove_file(self._scratch)


__all__ = ["IndexCheck"]
