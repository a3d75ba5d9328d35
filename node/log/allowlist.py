"""Whose entries a log takes: its operator's `authors.txt`, read anew when the file changes.

Looked at twice. `knows` reads the key ID beside the signature and costs a microsecond, so that strangers are turned
away before anything of theirs is parsed or verified; it proves nothing. `check` is the answer that counts, for an entry
whose header was parsed and whose signature is verified under the key found.
"""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path

from ...ledger.entries.authors import Author, Authors
from ...schemas.errors import EvidenceError, SetupError

LOOK_SECONDS = 1.0
"""How often the file is looked at, at most."""
_log = logging.getLogger("plausible.log")


class Allowlist:
    """The authors of one file. Safe to share between threads."""

    def __init__(self, path: Path) -> None:
        """Read the file; `SetupError` if it is missing or malformed. Later a malformed one leaves the last in force."""
        self._path = path
        self._lock = threading.Lock()
        self._stamp = self._look()
        self._looked_at = time.monotonic()
        self._authors = self._read()
        self._index()

    @property
    def authors(self) -> Authors:
        """The authors as the file said when it was last looked at."""
        return self._authors

    def knows(self, keyid: bytes) -> bool:
        """Whether an author has a key with this ID (8 hex digits)."""
        if time.monotonic() - self._looked_at > LOOK_SECONDS:
            self._refresh()
        return keyid in self._keyids

    def check(self, vkey: str, index: int, origin: str) -> Author:
        """The author with this key, not refused from `index` of the log `origin` on; `PolicyError` otherwise."""
        author = self._by_vkey.get(vkey)
        if author is not None and not author.refused_from:
            return author
        return self._authors.check(vkey, index, origin)

    def _index(self) -> None:
        self._by_vkey = {author.key.encode(): author for author in self._authors.authors}
        self._keyids = frozenset(author.key.key_id.hex().encode() for author in self._authors.authors)

    def _refresh(self) -> None:
        with self._lock:
            if time.monotonic() - self._looked_at <= LOOK_SECONDS:
                return
            self._looked_at = time.monotonic()
            try:
                stamp = self._look()
                if stamp == self._stamp:
                    return
                authors = self._read()
            except SetupError as error:
                _log.error("%s; the authors stay as they were", error)
                return
            self._stamp, self._authors = stamp, authors
            self._index()
            _log.info("%s was read anew: %d authors", self._path, len(authors.authors))

    def _look(self) -> tuple[int, int, int]:
        try:
            found = self._path.stat()
        except OSError as error:
            raise SetupError(f"{self._path} cannot be read: {error.strerror}") from None
        return found.st_mtime_ns, found.st_size, found.st_ino

    def _read(self) -> Authors:
        try:
            return Authors.parse(self._path.read_bytes())
        except OSError as error:
            raise SetupError(f"{self._path} cannot be read: {error.strerror}") from None
        except EvidenceError as error:
            raise SetupError(f"{self._path}: {error}") from None
