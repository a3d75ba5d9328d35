"""What is measured of this project, layer by layer, and bare SQLite as the control.

sqlite     rows (id, leaf, hash) in WAL mode with synchronous=FULL; hashes are made outside the clock
bare       `Log.append`: entries, tree and signed checkpoint in one commit
published  the same, then tiles and bundles after every batch and checkpoint.pending, written and flushed as in a ledger
indexed    the same, then the absence index takes one key for each entry and gives its root after every batch; its
           pages go to absence.db when they have become many. Opaque entries name no image: the first 32 bytes of one
           are taken for a digest. Reading digests out of signed entries is `entries` of
           `python -m benchmarks.ledger.absence`
"""

from __future__ import annotations

import argparse
import hashlib
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

from plausible.ledger.absence.keys import PIXELS, index_key
from plausible.ledger.absence.pages import PageFile, Progress
from plausible.ledger.absence.store import UNWRITTEN_PAGES
from plausible.ledger.absence.trie import IndexMap
from plausible.ledger.log import Log
from plausible.ledger.merkle.reader import DirectorySource, TiledLog
from plausible.ledger.notes.note import SignerKey
from plausible.ledger.writing.witnessed import SYNC_SECONDS

from benchmarks.ledger.speed.protocol import Bench, Subject, pin, serve

KEY = SignerKey("bench.example/log", 1, hashlib.sha256(b"bench").digest())


class Control:
    """Rows in SQLite, and nothing else."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "control.db"
        self._hashes = [hashlib.sha256(b"%d" % number).digest() for number in range(10_000)]
        self.reopen()
        self._db.execute("CREATE TABLE IF NOT EXISTS entry (id INTEGER PRIMARY KEY, leaf BLOB, hash BLOB)")
        self._size: int = self._db.execute("SELECT coalesce(max(id) + 1, 0) FROM entry").fetchone()[0]

    def append(self, entries: list[bytes]) -> None:
        """See `Subject`."""
        self._db.execute("BEGIN IMMEDIATE")
        self._db.executemany(
            "INSERT INTO entry VALUES (?, ?, ?)",
            zip(range(self._size, self._size + len(entries)), entries, self._hashes, strict=False),
        )
        self._db.execute("COMMIT")
        self._size += len(entries)

    def size(self) -> int:
        """See `Subject`."""
        return self._size

    def root(self) -> str:
        """It has none."""
        return ""

    def shut(self) -> None:
        """See `Subject`."""
        self._db.close()

    def reopen(self) -> None:
        """See `Subject`."""
        self._db = sqlite3.connect(self._path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")


class Bare:
    """The bare log."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "log"
        if self._folder.exists():
            self.reopen()
        else:
            self._log = Log.create(self._folder, KEY)

    @property
    def log(self) -> Log:
        """The log."""
        return self._log

    def append(self, entries: list[bytes]) -> None:
        """See `Subject`."""
        self._log.append(entries)

    def size(self) -> int:
        """See `Subject`."""
        return self._log.size

    def root(self) -> str:
        """See `Subject`."""
        return self._log.head.root.hex()

    def shut(self) -> None:
        """See `Subject`."""
        self._log.close()

    def reopen(self) -> None:
        """See `Subject`."""
        self._log = Log.open(self._folder, KEY)
        self._reader = TiledLog(DirectorySource(self._log.public.folder))


class Published(Bare):
    """The bare log with its files."""

    _synced_at = 0.0

    def append(self, entries: list[bytes]) -> None:
        """See `Subject`; flushes are counted where they fall, once a second as in a ledger."""
        self._log.append(entries)
        self._log.publish()
        if time.monotonic() - self._synced_at >= SYNC_SECONDS:
            self._log.sync()
            self._synced_at = time.monotonic()

    def shut(self) -> None:
        """See `Subject`."""
        self._log.publish()
        self._log.sync()
        self._log.close()

    def prove(self, index: int) -> int:
        """See `Prover`; from tiles, led back to their root; a reader just opened has seen none of them."""
        return len(self._reader.inclusion(index, self._log.size))


class Indexed(Published):
    """The published log with the absence index."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._pages = PageFile(folder / "absence.db")
        self._pages.begin()
        self._map = IndexMap(self._pages)
        self.index_root = b""

    def append(self, entries: list[bytes]) -> None:
        """See `Subject`."""
        first = self.size()
        super().append(entries)
        self._map.add([(index_key(PIXELS, entry[:32]), first + place) for place, entry in enumerate(entries)])
        self.index_root = self._map.root()
        if self._pages.unwritten > UNWRITTEN_PAGES:
            self._pages.flush(Progress(self.size(), b"", self.index_root))


SUBJECTS: dict[str, Callable[[Path], Subject]] = {
    "sqlite": Control,
    "bare": Bare,
    "published": Published,
    "indexed": Indexed,
}


def main() -> None:
    """Serve one subject."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("kind", choices=sorted(SUBJECTS))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--bytes", type=int, default=700)
    parser.add_argument("--core", type=int)
    options = parser.parse_args()
    pin(options.core)
    serve(Bench(SUBJECTS[options.kind](options.folder), options.bytes))


if __name__ == "__main__":
    main()
