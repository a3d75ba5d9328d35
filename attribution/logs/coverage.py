"""Is an image absent from a log? Only a full scan under a witnessed root can say so.

Every entry of every bundle is hashed as received and the tree built from the hashes must have the root of a checkpoint
that the policy accepts; then, and only then, "no entry names these digests" is a statement about the log. An index, a
search page or the accused's own lookup could leave entries out; a scan cannot. Exact absence ends with one changed bit.

Nothing of the log is trusted: a bundle that does not hash into the root makes the log contradict its own checkpoint,
and the entries at fault are named where the tiles still tell them.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from ...ledger.entries.entry import Entry, parse_entry
from ...ledger.keys.keyhistory import KeyHistory
from ...ledger.merkle.reader import TiledLog
from ...ledger.merkle.tiles import MAX_BUNDLE_BYTES, WIDTH, Tile, decode_bundle
from ...ledger.merkle.tree import CompactRange, hash_leaf
from ...ledger.notes.checkpoint import Checkpoint
from ...ledger.notes.policy import AcceptedCheckpoint
from ...ledger.seeds.epochs import EpochIndex
from ...schemas.errors import EvidenceError, PeerError, PlausibleError
from ..stages.findings import Coverage

Head = AcceptedCheckpoint | Checkpoint

_KEY_KINDS = b"urn:plausible:author-"
"""What the types of all entries about authors' keys have in common."""
_EPOCH_KIND = b"urn:plausible:seed-epoch:"
_HEX_DIGEST = re.compile(rb"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")


@dataclass(frozen=True, slots=True)
class LogScan:
    """All entries of a log up to a checkpoint, re-hashed. `contradiction` says why they are not the signed ones."""

    origin: str
    size: int
    root: bytes
    contradiction: str | None
    edited: frozenset[int]  # entries that do not hash to what the signed tree says, where that could be told
    _leaves: dict[int, bytes] = field(repr=False)  # every leaf that may be an entry
    _by_digest: dict[bytes, tuple[int, ...]] = field(repr=False)
    _about_keys: tuple[int, ...] = ()
    _epochs: tuple[int, ...] = ()

    def mentions(self, digest: bytes) -> list[int]:
        """Indices of entries whose payload holds this 32-byte digest in hex, ascending; a superset of what names it."""
        return list(self._by_digest.get(digest.hex().encode(), ()))

    def find(self, *, pixels: bytes, file: bytes) -> list[int]:
        """Indices of generation entries with this pixel or file digest among their subjects, ascending."""
        found: list[int] = []
        for index in sorted({*self.mentions(pixels), *self.mentions(file)}):
            entry = self.entry(index)
            generation = None if entry is None else entry.generation
            if generation is not None and (generation.pixels == pixels or generation.file == file):
                found.append(index)
        return found

    def leaf(self, index: int) -> bytes | None:
        """The leaf's bytes as received; None if it has not even the outer form of an entry."""
        return self._leaves.get(index)

    def entry(self, index: int) -> Entry | None:
        """The entry at an index; None if the leaf there is not one."""
        leaf = self._leaves.get(index)
        if leaf is None:
            return None
        try:
            return parse_entry(leaf)
        except EvidenceError:
            return None

    def entries(self) -> Iterator[tuple[int, Entry]]:
        """All entries with their indices; leaves that are no entries are passed over (anyone may log anything)."""
        for index in self._leaves:
            entry = self.entry(index)
            if entry is not None:
                yield index, entry

    def key_history(self) -> KeyHistory:
        """What the entries say about authors' keys: complete up to `size`, if there is no `contradiction`."""
        history = KeyHistory()
        for index in self._about_keys:
            entry = self.entry(index)
            if entry is not None and index not in self.edited:
                history.pass_by(index, entry)
        return history

    def epoch_index(self) -> EpochIndex:
        """The seed epochs that the entries publish: all of them below `size`, if there is no `contradiction`."""
        history, found = self.key_history(), EpochIndex()
        for index in self._epochs:
            entry = self.entry(index)
            if entry is not None and index not in self.edited:
                found.pass_by(self.origin, index, entry, history)
        if self.contradiction is None:
            found.complete[self.origin] = self.size
        return found

    def coverage(self, *, pixels: bytes, file: bytes) -> Coverage:
        """What the scan says of an image."""
        logs = ((self.origin, self.size),)
        found = self.find(pixels=pixels, file=file)
        if found:
            return Coverage("present", logs, f"entry {found[0]} of {self.origin} names its digests")
        if self.contradiction is not None:
            return Coverage("contradiction", logs, self.contradiction)
        return Coverage("absent", logs, f"All {self.size} entries were re-hashed to the root of the checkpoint.")


def scan_log(log: TiledLog, at: Head, *, progress: Callable[[int, int], None] | None = None) -> LogScan:
    """Read and re-hash all entries below a checkpoint; what absence is worth depends on whether it was accepted.

    Raises `PeerError` or `SetupError` if entries cannot be read: then nothing is known about absence.
    """
    tree = CompactRange()
    hashes: list[bytes] = []
    leaves: dict[int, bytes] = {}
    digests: dict[bytes, list[int]] = {}
    about_keys: list[int] = []
    epochs: list[int] = []
    contradiction: str | None = None
    index = 0
    for bundle in _bundles(log, at.size):
        for leaf in bundle:
            hashed = hash_leaf(leaf)
            hashes.append(hashed)
            tree.append(hashed)
            payload = _payload(leaf)
            if payload is not None:
                leaves[index] = leaf
                if _KEY_KINDS in payload:
                    about_keys.append(index)
                elif _EPOCH_KIND in payload:
                    epochs.append(index)
                for match in set(_HEX_DIGEST.findall(payload)):
                    digests.setdefault(match, []).append(index)
            index += 1
        if progress is not None:
            progress(index, at.size)
    edited: frozenset[int] = frozenset()
    if index != at.size or tree.root() != at.root:
        edited = _edited(log, at, hashes)
        which = f" (entry {', '.join(map(str, sorted(edited)[:5]))})" if edited else ""
        contradiction = (
            f"the entries served by {at.origin} do not hash to the root of its own checkpoint of size {at.size}{which}"
        )
    by_digest = {digest: tuple(indices) for digest, indices in digests.items()}
    return LogScan(
        at.origin,
        at.size,
        at.root,
        contradiction,
        edited,
        leaves,
        by_digest,
        tuple(about_keys),
        tuple(epochs),
    )


def _bundles(log: TiledLog, size: int) -> Iterator[list[bytes]]:
    """Entry bundles exactly as served, not compared with any tile."""
    for number in range((size + WIDTH - 1) // WIDTH):
        width = min(WIDTH, size - number * WIDTH)
        tile = Tile(None, number, width)
        data = log.source.fetch(tile.path, MAX_BUNDLE_BYTES)
        if data is None and width < WIDTH:
            data, width = log.source.fetch(tile.full.path, MAX_BUNDLE_BYTES), WIDTH
        if data is None:
            raise PeerError(f"the log does not serve {tile.path}, so its entries cannot be searched")
        yield decode_bundle(data, width)[: tile.width]


def _payload(leaf: bytes) -> bytes | None:
    """The payload of a leaf that looks like an envelope; digests in it are only hints until `parse_entry`."""
    try:
        envelope: Any = json.loads(leaf)
        return base64.b64decode(envelope["payload"], validate=True)
    except (ValueError, KeyError, TypeError, RecursionError, binascii.Error):
        return None


def _edited(log: TiledLog, at: Head, hashes: list[bytes]) -> frozenset[int]:
    """Entries that differ from the signed tree; empty where the tiles themselves do not give the signed root."""
    try:
        if log.root(at.size) != at.root:
            return frozenset()
        return frozenset(i for i, hashed in enumerate(hashes) if log.hash(0, i, at.size) != hashed)
    except PlausibleError:
        return frozenset()
