"""Following a log wherever it is served: any tiled log, near or far, that is trusted for nothing.

`look` reads the newest head and holds it against what the log signed before; `catch_up` takes the entries; `follow`
does both and lets the mirror cosign.

Entries come in runs of whole bundles. Before anything of a run is written, its leaf hashes, appended to the edge of the
copy, must lead to the head that the log signed by a consistency proof out of the log's own tiles; then the tiles that
the entries give are compared with those that the log serves. So a copy is right whatever the log serves, and a log that
serves a wrong tile or bundle is found out and named.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol

from ...ledger.contradiction import inconsistent_heads, two_heads
from ...ledger.log import Growth
from ...ledger.merkle import tree
from ...ledger.merkle.public import PUBLIC_FOLDER
from ...ledger.merkle.reader import DirectorySource, Source, TiledLog, fetch_tile
from ...ledger.merkle.tiles import WIDTH, decode_bundle, parse_path, tile_at
from ...ledger.notes.checkpoint import Checkpoint, open_checkpoint
from ...ledger.notes.note import Note, NoteSignature, VerifierKey
from ...ledger.witness import Refused
from ...schemas.errors import EvidenceError, PeerError, SetupError, UsageError
from .copy import Copy
from .mirror import Mirror
from .signatures import SignatureCheck

RUN = 32 * WIDTH
"""Entries that are verified and written at once, unless they are large; a run begins where the one before it ended."""
FLUSH = 32 * RUN
"""Entries after which files are flushed while there are more to come."""
RUN_BYTES = 32 << 20
FETCHES = 4
"""Requests to the log at once."""
AHEAD = 12
"""Bundles that are fetched before they are asked for; one has 17 MB at most."""

Progress = Callable[[int, int], None]


class LeafCheck(Protocol):
    """What is asked of entries beside their place in the tree."""

    def check(self, start: int, leaves: Sequence[bytes]) -> None:
        """`EvidenceError` names the first of the entries from index `start` on that does not pass."""
        ...


def silent(_done: int, _total: int) -> None:
    """Tell nobody how far it is."""


def catch_up(
    copy: Copy,
    source: Source,
    checkpoint: Checkpoint,
    *,
    leaves: LeafCheck | None = None,
    compare: bool = True,
    progress: Progress = silent,
) -> None:
    """Bring `copy` to the size of a checkpoint that is known to be the log's; all of it is on the disk then.

    `leaves` is asked about every entry, `compare` holds the log's tiles against those that its entries give. What was
    verified before something failed stays. Raises `EvidenceError` for what is false, `PeerError` for what is missing.
    """
    remote = TiledLog(source, cache_bundles=1)
    with ThreadPoolExecutor(FETCHES, thread_name_prefix="mirror-fetch") as pool:
        try:
            since = copy.size
            for start, parts in _runs(pool, source, copy.size, checkpoint.size):
                with copy.lock:
                    if copy.size != start:  # somebody pushed meanwhile: the next round goes on from there
                        break
                    entries = [leaf for part in parts for leaf in part]
                    if leaves is not None:
                        leaves.check(start, entries)
                    growth = copy.grown(entries)
                    _verify(growth, remote, checkpoint)
                    files = list(growth.files())
                    if compare:
                        _compare(pool, source, files, growth.new.size == checkpoint.size)
                    copy.write(growth, files)
                    if copy.size - since >= FLUSH:
                        copy.flush()
                        since = copy.size
                progress(copy.size, checkpoint.size)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            with copy.lock:
                copy.flush()


@dataclass(frozen=True, slots=True)
class Round:
    """What one look at a log brought: the size that is cosigned now, and how many entries were taken."""

    size: int
    taken: int


@contextlib.contextmanager
def open_source(place: str) -> Generator[Source]:
    """A log's files at a URL, or in a folder: a ledger or its `public/`."""
    if place.startswith(("http://", "https://")):
        from ..client import HttpSource

        with HttpSource(place) as source:
            yield source
        return
    folder = Path(place)
    inner = folder / PUBLIC_FOLDER
    yield DirectorySource(inner if inner.is_dir() else folder)


def follow_once(
    mirror: Mirror, origin: str, *, signatures: SignatureCheck | None = None, progress: Progress = silent
) -> Round:
    """`follow` a log from where its settings say, with what they ask for; `signatures` may be shared by several."""
    settings = mirror.settings(origin)
    with contextlib.ExitStack() as stack:
        leaves: LeafCheck | None = None
        if settings.signatures:
            leaves = signatures or stack.enter_context(SignatureCheck())
        source = stack.enter_context(open_source(settings.source))
        return follow(mirror, origin, source, leaves=leaves, progress=progress)


def follow(
    mirror: Mirror, origin: str, source: Source, *, leaves: LeafCheck | None = None, progress: Progress = silent
) -> Round:
    """Read a log's newest head, copy what is new under it, cosign and serve it; resumes where it was left.

    Raises `EvidenceError` for a log that is false (a changed file, a head that went back or was contradicted),
    `PeerError` for one that cannot be read: then nothing is signed.
    """
    note = _look(mirror, origin, source)
    checkpoint, pending = _pending(mirror, origin)
    copy = mirror.copy(origin)
    before = copy.size
    if copy.size < checkpoint.size:
        catch_up(copy, source, checkpoint, leaves=leaves, progress=progress)
    lines = _lines_over(note, checkpoint)
    head = mirror.head(origin)
    if (head.size, head.root) == (checkpoint.size, checkpoint.root) and copy.served() is not None:
        mirror.serve_lines(origin, lines)
    elif copy.size >= checkpoint.size:
        outcome = mirror.commit(origin, pending, lines)
        if isinstance(outcome, Refused):
            raise SetupError(outcome.reason)
    return Round(mirror.head(origin).size, copy.size - before)


def _look(mirror: Mirror, origin: str, source: Source) -> bytes:
    """The head that the log serves, after it became the pending one if it is newer."""
    log = TiledLog(source)
    note = log.checkpoint_bytes()
    keys = mirror.keys(origin)
    checkpoint, _ = open_checkpoint(note, keys, origin)
    pending = mirror.pending(origin)
    old = pending[0] if pending is not None else Checkpoint(origin, 0, tree.EMPTY_ROOT)
    if checkpoint.size < old.size:
        _went_back(mirror, origin, checkpoint, note, keys)
    if checkpoint == old and pending is not None and mirror.head(origin).size == old.size:
        return note
    if checkpoint.size and log.root(checkpoint.size) != checkpoint.root:
        raise EvidenceError(f"the tiles that {origin} serves do not give the root it signs at {checkpoint.size}")
    path = log.consistency(old.size, checkpoint.size) if 0 < old.size < checkpoint.size else []
    outcome = mirror.show(path, old.size, note)
    if isinstance(outcome, Refused):
        if outcome.status == 503:
            raise SetupError(outcome.reason)
        # the log signed this head, and its own tiles give it: no transport made that
        earlier = pending[1] if pending is not None else note
        if checkpoint.size == old.size:
            proof = proven(lambda: two_heads(keys, earlier, note))
        else:
            proof = proven(lambda: inconsistent_heads(keys, earlier, note, log))
        raise EvidenceError(
            f"{origin} signed a tree of size {checkpoint.size} that does not continue the one of size {old.size} it "
            f"signed before: two histories of one log; see {mirror.keep_proof(origin, note, proof)}"
        )
    return note


def _went_back(mirror: Mirror, origin: str, checkpoint: Checkpoint, note: bytes, keys: Sequence[VerifierKey]) -> None:
    """Say what a smaller head than before is: old, or another history."""
    newest, pending = _pending(mirror, origin)
    copy = mirror.copy(origin)
    with copy.lock:
        fork = checkpoint.size <= copy.size and copy.root(checkpoint.size) != checkpoint.root
        if fork and copy.size >= newest.size and copy.root(newest.size) == newest.root:
            proof = proven(lambda: inconsistent_heads(keys, note, pending, copy.log))
        else:
            proof = None
    if fork:
        raise EvidenceError(
            f"{origin} serves a tree of size {checkpoint.size} that is not in the history it signed up to size "
            f"{newest.size}: two histories of one log; see {mirror.keep_proof(origin, note, proof)}"
        )
    raise EvidenceError(
        f"{origin} went back: it serves size {checkpoint.size} and has signed size {newest.size} before"
    )


def proven(make: Callable[[], bytes]) -> bytes | None:
    """A contradiction file; None where what it needs is not there."""
    try:
        return make()
    except (EvidenceError, PeerError, UsageError):
        return None


def _pending(mirror: Mirror, origin: str) -> tuple[Checkpoint, bytes]:
    pending = mirror.pending(origin)
    if pending is None:
        raise SetupError(f"{origin} has no pending head")
    return pending


def _lines_over(note: bytes, checkpoint: Checkpoint) -> tuple[NoteSignature, ...]:
    """The signature lines of a note, if it is about this very checkpoint."""
    parsed = Note.parse(note)
    return parsed.signatures if parsed.text == checkpoint.text else ()


def _runs(
    pool: ThreadPoolExecutor, source: Source, start: int, size: int
) -> Iterator[tuple[int, list[Sequence[bytes]]]]:
    """(first index, bundles) of one run after the other; the next is fetched while one is worked on.

    A run ends early where its entries are large: in memory are `RUN_BYTES` and `AHEAD` bundles, whatever is served.
    """
    numbers = iter(range(start // WIDTH, (size + WIDTH - 1) // WIDTH))
    waiting: deque[Future[Sequence[bytes]]] = deque()
    parts: list[Sequence[bytes]] = []
    begin, held = start, 0
    while True:
        for number in islice(numbers, AHEAD - len(waiting)):
            waiting.append(pool.submit(_bundle, source, number, start, size))
        if not waiting:
            return
        part = waiting.popleft().result()
        parts.append(part)
        held += sum(map(len, part))
        end = begin + sum(map(len, parts))
        if end % RUN == 0 or end == size or held >= RUN_BYTES:
            yield begin, parts
            begin, held, parts = end, 0, []


def _bundle(source: Source, number: int, start: int, size: int) -> Sequence[bytes]:
    """The entries of a bundle at a tree size, from index `start` on."""
    tile = tile_at(None, number, size)
    data, width = fetch_tile(source, tile)
    try:
        return decode_bundle(data, width)[max(start - number * WIDTH, 0) : tile.width]
    except EvidenceError as error:
        raise EvidenceError(f"{tile.path}: {error}") from None


def _verify(growth: Growth, remote: TiledLog, checkpoint: Checkpoint) -> None:
    """The tree of the checkpoint continues what these entries make of the copy, or an `EvidenceError`."""
    end, size, root = growth.new.size, checkpoint.size, checkpoint.root
    path = tree.consistency_path(lambda level, index: remote.hash(level, index, size), end, size)
    try:
        tree.verify_consistency(end, growth.new.range.root(), size, root, path)
    except EvidenceError:
        place = _first_false(growth, remote, size)
        raise EvidenceError(f"{place} the log serves do not hash into its checkpoint of size {size}") from None


def _first_false(growth: Growth, remote: TiledLog, size: int) -> str:
    """Which entries are the first that do not fit the log's own tiles, in words."""
    for index, (_, leaf_hash) in enumerate(growth.rows, growth.old.size):
        if remote.hash(0, index, size) != leaf_hash:
            return f"entry {index} and the tile beside it that"
    return f"the tiles above the entries {growth.old.size} to {growth.new.size - 1} that"


def _compare(pool: ThreadPoolExecutor, source: Source, files: Sequence[tuple[str, bytes]], last: bool) -> None:
    """The log's tiles over these entries are the ones that its entries give, or an `EvidenceError` that names one."""
    made = [(parse_path(path), data) for path, data in files]
    # a partial tile of an intermediate size need not be served; at the head's own size it is
    made = [(tile, data) for tile, data in made if not tile.is_bundle and (last or tile.width == WIDTH)]
    for (tile, data), (served, _) in zip(made, pool.map(lambda item: fetch_tile(source, item[0]), made), strict=True):
        if served[: len(data)] != data:
            raise EvidenceError(f"{tile.path}, as the log serves it, is not what its entries give")


__all__ = [
    "FLUSH",
    "RUN",
    "LeafCheck",
    "Progress",
    "Round",
    "catch_up",
    "follow",
    "follow_once",
    "open_source",
    "proven",
    "silent",
]
