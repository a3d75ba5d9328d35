"""The archive of witnessed checkpoints, `checkpoints/SIZE`: the first one that covers an entry dates it.

A head that met the quorum is kept under its size before `checkpoint` moves (public.py), so the archive is complete: at
most one file of about 1 kB for every witnessed head, and never more of them than entries. Nothing in it is trusted: a
kept checkpoint counts only under the reader's own policy, and only if the tiles lead to the root that it signs. One
that does not count is passed over; the next one that covers the entry then dates it, later but truly.

`thin` is the one way to make it smaller, and says what it costs: of the heads witnessed within one window of time only
the last stays, so an entry may be dated up to one window later than it was, never more, however often that is repeated.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from ...schemas.errors import EvidenceError, PeerError, PlausibleError, PolicyError, SetupError, UsageError
from ..merkle.public import CHECKPOINT, CHECKPOINTS
from ..merkle.reader import DirectorySource, TiledLog
from ..merkle.tiles import WIDTH
from ..notes.checkpoint import Checkpoint
from ..notes.note import Note
from ..notes.policy import AcceptedCheckpoint, Policy
from ..notes.wire import parse_decimal
from .disk import storage, sync_folder

LISTING = f"{CHECKPOINTS}/sizes"
"""Where a served log lists the sizes of its kept checkpoints."""
_MAX_LISTING = 1 << 26


@dataclass(frozen=True, slots=True)
class Kept:
    """One kept checkpoint: it is the first to cover the entries `first` to `size` - 1.

    `accepted` is None where the policy is not met or the checkpoint is false; `problem` then says why.
    """

    first: int
    size: int
    accepted: AcceptedCheckpoint | None
    problem: PlausibleError | None


def kept_sizes(folder: Path) -> list[int]:
    """The sizes below `checkpoints/` of a public folder, ascending; other names are none of the archive's.

    `SetupError` if the folder cannot be read, an empty list if there is none.
    """
    sizes: list[int] = []
    try:
        with os.scandir(folder / CHECKPOINTS) as found:
            for item in found:
                with contextlib.suppress(EvidenceError):
                    sizes.append(parse_decimal(item.name, "size"))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise SetupError(f"{folder / CHECKPOINTS} cannot be read: {error.strerror}") from None
    return sorted(sizes)


def listing(folder: Path) -> bytes:
    """What a log serves as `checkpoints/sizes`: its kept sizes, ascending, one a line."""
    return "".join(f"{size}\n" for size in kept_sizes(folder)).encode()


def sizes_of(log: TiledLog) -> list[int]:
    """The kept sizes of a log, ascending: those in its folder, or those that a served log lists.

    One that lists nothing (C2SP knows no list, and a static server serves files only) is asked for the one of its own
    checkpoint. A list is believed for nothing: what it names is fetched and checked, what it leaves out dates nothing.
    """
    if isinstance(log.source, DirectorySource):
        return kept_sizes(log.source.folder)
    try:
        data = log.source.fetch(LISTING, _MAX_LISTING)
        if data is not None:
            sizes = [parse_decimal(line, "a kept size") for line in data.decode("ascii").splitlines()]
            if all(a < b for a, b in pairwise(sizes)):
                return sizes
    except (EvidenceError, PeerError, UnicodeDecodeError):
        pass  # some other page of that name
    try:
        size = Checkpoint.parse(Note.parse(log.checkpoint_bytes()).text).size
        log.checkpoint_bytes(f"{CHECKPOINTS}/{size}")
    except (EvidenceError, PeerError):
        return []
    return [size]


def check_kept(log: TiledLog, size: int, policy: Policy) -> AcceptedCheckpoint:
    """The kept checkpoint of a size, held against the policy, its own name and the tiles.

    Raises `PolicyError` where the policy is not met, `EvidenceError` where it is false, `PeerError` where it is absent.
    """
    accepted = policy.check(log.checkpoint_bytes(f"{CHECKPOINTS}/{size}"))
    if accepted.size != size:
        raise EvidenceError(f"{CHECKPOINTS}/{size} is a head of size {accepted.size}")
    if log.root(size) != accepted.root:
        raise EvidenceError(f"{CHECKPOINTS}/{size} signs a root that the tiles do not lead to")
    return accepted


def walk_archive(log: TiledLog, policy: Policy, sizes: Iterable[int]) -> Iterator[Kept]:
    """Each kept checkpoint of these ascending sizes, checked, with the entries that it is the first to cover."""
    first = 0
    for size in sizes:
        try:
            accepted, problem = check_kept(log, size, policy), None
        except PlausibleError as error:
            accepted, problem = None, error
        yield Kept(first, size, accepted, problem)
        if accepted is not None:
            first = size


def dated_by(log: TiledLog, index: int, policy: Policy) -> AcceptedCheckpoint:
    """The first kept checkpoint that covers entry `index` and counts: the one whose existence time dates the entry.

    `UsageError` if none covers it; else, if none that does counts, what is wrong with the first of them.
    """
    if index < 0:
        raise UsageError(f"there is no entry {index}")
    trouble: PlausibleError | None = None
    for size in sizes_of(log):
        if size > index:
            try:
                return check_kept(log, size, policy)
            except (EvidenceError, PolicyError, PeerError) as error:
                trouble = trouble or error
    raise trouble or UsageError(f"no witnessed checkpoint covers entry {index} yet")


def dating(log: TiledLog, index: int, policy: Policy) -> Kept:
    """`dated_by`, with the entries that this checkpoint is the first to cover."""
    found = dated_by(log, index, policy)
    for size in reversed(sizes_of(log)):
        if size <= index:
            with contextlib.suppress(EvidenceError, PolicyError, PeerError):
                return Kept(check_kept(log, size, policy).size, found.size, found, None)
    return Kept(0, found.size, found, None)


@dataclass(frozen=True, slots=True)
class Thinned:
    """What thinning did or would do: sizes dropped, sizes kept, and the seconds an entry may be dated later."""

    dropped: tuple[int, ...]
    kept: tuple[int, ...]
    seconds: int


def thin(
    folder: Path, policy: Policy, seconds: int, *, remove: bool, progress: Callable[[int, int], None] | None = None
) -> Thinned:
    """Keep, of the checkpoints witnessed within each window of `seconds` (counted from 1970), only the last.

    Never dropped: what has no existence time under the policy, what lies in the newest window, the current checkpoint,
    and what still needs a partial tile at the tree's edge. Windows are aligned, so doing it again drops nothing more
    and dates nothing later. Without `remove` nothing is changed.
    """
    if seconds < 1:
        raise UsageError("a window has at least one second")
    log = TiledLog(DirectorySource(folder))
    sizes = kept_sizes(folder)
    current = Checkpoint.parse(Note.parse(log.checkpoint_bytes(CHECKPOINT)).text).size
    edge = current - current % WIDTH
    windows: list[int | None] = []
    for done, kept in enumerate(walk_archive(log, policy, sizes), 1):
        time = kept.accepted.existence_time if kept.accepted is not None else None
        windows.append(None if time is None else time // seconds)
        if progress is not None:
            progress(done, len(sizes))
    newest = max((window for window in windows if window is not None), default=None)
    dropped: list[int] = []
    for place in range(len(sizes) - 1):
        window = windows[place]
        if window is not None and window == windows[place + 1] != newest and sizes[place + 1] <= edge:
            dropped.append(sizes[place])
    if remove and dropped:
        with storage(f"thinning {folder / CHECKPOINTS}"):
            for size in dropped:
                (folder / CHECKPOINTS / str(size)).unlink(missing_ok=True)
            sync_folder(folder / CHECKPOINTS)
    gone = set(dropped)
    return Thinned(tuple(dropped), tuple(size for size in sizes if size not in gone), seconds)


__all__ = [
    "LISTING",
    "Kept",
    "Thinned",
    "check_kept",
    "dated_by",
    "dating",
    "kept_sizes",
    "listing",
    "sizes_of",
    "thin",
    "walk_archive",
]
