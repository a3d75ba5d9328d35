"""Readers: the whole log from the root down, entries at random, and what writers were acknowledged."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass, field

from ...schemas.errors import EvidenceError
from ..merkle.reader import NotServed, Source, TiledLog
from ..merkle.tiles import WIDTH
from ..merkle.tree import hash_leaf, inclusion_path, verify_inclusion
from ..storage.lookup import read_bundle
from ..transfer.descent import descend
from ..transfer.exporting import fetch_exact
from .view import Broken, Seen, View, broken_entry

_FORGET_EVERY = 64


class Throttled:
    """A source that is asked for at most `rate` files a second by everybody together; None: as fast as it answers."""

    def __init__(self, source: Source, rate: float | None) -> None:
        self._source = source
        self._pause = None if rate is None else 1 / rate
        self._lock = threading.Lock()
        self._next = 0.0
        self.fetched = 0
        self.bytes = 0

    def fetch(self, path: str, limit: int) -> bytes | None:
        """See `Source.fetch`."""
        if self._pause is not None:
            with self._lock:
                now = time.monotonic()
                at = max(now, self._next)
                self._next = at + self._pause
            time.sleep(max(0.0, at - now))
        data = self._source.fetch(path, limit)
        with self._lock:
            self.fetched += 1
            self.bytes += len(data or b"")
        return data


@dataclass(slots=True)
class Counts:
    """What readers did so far, shared by all of them."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    full_passes: int = 0
    full_entries: int = 0
    random_entries: int = 0
    promised: int = 0
    """Acknowledged entries that were found at their index."""

    def add(self, **more: int) -> None:
        """Add to some of the counts."""
        with self.lock:
            for name, value in more.items():
                setattr(self, name, getattr(self, name) + value)


class Stop(Exception):  # noqa: N818  not a failure: the run is over
    """Raised inside a reader when the run ends."""


def read_all(source: Source, view: View, counts: Counts, stop: threading.Event) -> None:
    """One pass over everything under the common checkpoint, from the root down; `Stop` if the run ends meanwhile."""
    seen = view.refresh()
    try:
        for found in descend(seen.size, seen.root, lambda tile: fetch_exact(source, tile)):
            if found.tile.is_bundle:
                counts.add(full_entries=found.tile.width)
            if stop.is_set():
                raise Stop
    except (EvidenceError, NotServed) as error:
        what = f"the files of the log do not hash into the checkpoint of size {seen.size}: {error}"
        raise Broken(what, checkpoint=seen.note) from error
    counts.add(full_passes=1)


class RandomReader:
    """Entries at random: each entry's bytes, its inclusion path, and the common checkpoint's root must agree."""

    def __init__(self, source: Source, view: View, counts: Counts, seed: int) -> None:
        self._log = TiledLog(source, cache_tiles=64, cache_bundles=4)
        self._view = view
        self._counts = counts
        self._random = random.Random(seed)
        self._done = 0

    def step(self) -> bool:
        """Verify one entry; False if the log has none yet."""
        if self._done % 8 == 0:
            self._view.refresh()
        seen = self._view.common
        if seen.size == 0:
            return False
        verify_entry(self._log, seen, self._random.randrange(seen.size))
        self._counts.add(random_entries=1)
        self._done += 1
        if self._done % _FORGET_EVERY == 0:
            self._log.forget()
        return True


def verify_entry(log: TiledLog, seen: Seen, index: int, leaf: bytes | None = None) -> None:
    """The entry at an index (and with this leaf hash) is in the tree of a checkpoint, or `Broken`."""
    entry, path = b"", list[bytes]()
    try:
        entry = read_bundle(log, index // WIDTH, seen.size)[index % WIDTH]
        path = inclusion_path(lambda level, place: log.hash(level, place, seen.size), index, seen.size)
        if leaf is not None and hash_leaf(entry) != leaf:
            raise EvidenceError(f"its leaf hash is not {leaf.hex()}, which was acknowledged")
        verify_inclusion(index, seen.size, hash_leaf(entry), path, seen.root)
    except (EvidenceError, NotServed) as error:
        raise broken_entry(seen, index, error, entry=entry, proof=path, acknowledged=leaf) from error


class Promises:
    """What writers were acknowledged: each index once, each leaf where it was promised."""

    def __init__(self, source: Source, view: View, counts: Counts) -> None:
        self._log = TiledLog(source, cache_tiles=64, cache_bundles=4)
        self._view = view
        self._counts = counts
        self._taken = bytearray()
        self._waiting: list[tuple[int, bytes]] = []

    @property
    def waiting(self) -> int:
        """Acknowledged entries that the common checkpoint does not cover yet."""
        return len(self._waiting)

    def take(self, index: int, leaf: bytes) -> None:
        """A writer was told that its entry with this leaf hash has this index; `Broken` if another one was told so."""
        byte, bit = divmod(index, 8)
        if byte >= len(self._taken):
            self._taken.extend(bytes(byte + 1 - len(self._taken)))
        if self._taken[byte] >> bit & 1:
            raise Broken(f"index {index} was acknowledged twice", index=index, leaf=leaf)
        self._taken[byte] |= 1 << bit
        self._waiting.append((index, leaf))

    def check(self) -> None:
        """Verify those that the common checkpoint covers by now."""
        if not self._waiting:
            return
        seen = self._view.refresh()
        covered = sorted(item for item in self._waiting if item[0] < seen.size)
        self._waiting = [item for item in self._waiting if item[0] >= seen.size]
        for index, leaf in covered:
            verify_entry(self._log, seen, index, leaf)
            self._counts.add(promised=1)


__all__ = ["Counts", "Promises", "RandomReader", "Stop", "Throttled", "read_all", "verify_entry"]
