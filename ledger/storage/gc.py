"""Garbage: partial tiles and bundles that a full one made needless.

A log that signs a head a second leaves up to 255 partial files of each tile behind. C2SP tlog-tiles lets them go once
the full tile is there: a reader at an older checkpoint asks for the partial one, finds it gone and takes the first
items of the full one (`reader.fetch_tile`). So a partial file goes only if

* the full file of that tile lies wholly under the served `checkpoint`, and is on the disk (flushed before the first
  partial one goes, so a power cut cannot take both), and
* the partial file is, byte for byte, how the full one begins; else one of the two is damaged, both stay and are named.

Partial files at the tree's edge stay, whatever their width: published checkpoints need them, and there are at most 255
a level. Nothing else is touched. Stopping anywhere is safe: what is gone was needless, and the next run goes on. It may
run while the ledger is written to, since a full tile never changes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ...schemas.errors import EvidenceError, PeerError, SetupError
from ..merkle.public import CHECKPOINT
from ..merkle.reader import DirectorySource
from ..merkle.tiles import MAX_BUNDLE_BYTES, WIDTH, Tile, item_count, parse_path
from ..notes.checkpoint import Checkpoint
from ..notes.note import MAX_NOTE_BYTES, Note
from .disk import storage, sync_file, sync_folder

_PARTIAL = ".p"
KEPT_NAMES = 100
"""How many differing files a result names; the rest are counted."""


@dataclass(frozen=True, slots=True)
class Collected:
    """What was removed (or, `removed` false, would be): `files` of `bytes`; `edge` partial files that stay.

    `differing` names partial files that are not how their full file begins, at most `KEPT_NAMES`; `damaged` counts all.
    """

    removed: bool
    size: int
    files: int
    bytes: int
    edge: int
    differing: tuple[str, ...]
    damaged: int


def collect(folder: Path, *, remove: bool = False, progress: Callable[[int, int], None] | None = None) -> Collected:
    """Find the needless partial files of a public folder, and with `remove` delete them; see the module.

    `progress(done, total)` counts tiles with partial files, `total` by estimate. Raises `PeerError` if the folder has
    no checkpoint, `EvidenceError` if it is malformed, `SetupError` for what cannot be read or removed.
    """
    data = DirectorySource(folder).fetch(CHECKPOINT, MAX_NOTE_BYTES)
    if data is None:
        raise PeerError(f"{folder} has no {CHECKPOINT}: nothing is published, so no file is needless")
    size = Checkpoint.parse(Note.parse(data).text).size
    files = freed = edge = damaged = 0
    differing: list[str] = []
    total = 2 * (size // WIDTH)
    for done, (tile, partials) in enumerate(_partials(folder), 1):
        if progress is not None:
            progress(done, max(done, total))
        whole = _full_bytes(folder, tile, size)
        if whole is None:
            edge += len(partials)
            continue
        needless: list[Path] = []
        for width in partials:
            path = folder / Tile(tile.level, tile.index, width).path
            part = _read(path)
            if part is None:
                continue
            if whole.startswith(part):
                needless.append(path)
                files, freed = files + 1, freed + len(part)
            else:
                damaged += 1
                if len(differing) < KEPT_NAMES:
                    differing.append(Tile(tile.level, tile.index, width).path)
        if remove and needless:
            _remove(folder / tile.path, needless)
    return Collected(remove, size, files, freed, edge, tuple(differing), damaged)


def _full_bytes(folder: Path, tile: Tile, size: int) -> bytes | None:
    """The full file of a tile, if the tree of `size` fills it and it is there whole."""
    if (tile.index + 1) * WIDTH > item_count(tile.level or 0, size):
        return None
    data = _read(folder / tile.path)
    # a bundle's length is in its bytes: one that was cut off does not begin with every partial one, or is found below
    if data is None or (tile.level is not None and len(data) != tile.max_bytes):
        return None
    if tile.level is None and not _is_whole(data):
        return None
    return data


def _is_whole(bundle: bytes) -> bool:
    """Whether these bytes are exactly 256 entries, each after its length."""
    place = 0
    for _ in range(WIDTH):
        place += 2 + int.from_bytes(bundle[place : place + 2], "big")
    return place == len(bundle)


def _read(path: Path) -> bytes | None:
    """The bytes of a plain file of a sensible size, else None; a link is not followed."""
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SetupError(f"{path} cannot be read: {error.strerror}") from None
    with storage(f"reading {path}"), os.fdopen(descriptor, "rb") as file:
        data = file.read(MAX_BUNDLE_BYTES + 1)
    return data if len(data) <= MAX_BUNDLE_BYTES else None


def _remove(full: Path, needless: list[Path]) -> None:
    """Make the full file durable, then unlink partial ones, then their folder if nothing is left in it."""
    with storage(f"removing partial files of {full}"):
        sync_file(full)
        sync_folder(full.parent)
        for path in needless:
            path.unlink(missing_ok=True)
        try:
            needless[0].parent.rmdir()
        except OSError:  # something else lies in it: a differing file, or what somebody put there
            return


def _partials(folder: Path) -> Iterator[tuple[Tile, list[int]]]:
    """(full tile, widths of its partial files) of a folder, in a fixed order; links and other names are passed over."""
    stack = [folder / "tile"]
    while stack:
        here = stack.pop()
        for child in sorted(_folders(here), reverse=True):
            if not child.name.endswith(_PARTIAL):
                stack.append(child)
                continue
            try:
                tile = parse_path(child.relative_to(folder).as_posix().removesuffix(_PARTIAL))
            except EvidenceError:
                continue
            if widths := _widths(child):
                yield tile, widths


def _folders(folder: Path) -> list[Path]:
    try:
        with os.scandir(folder) as found:
            return [Path(item.path) for item in found if item.is_dir(follow_symlinks=False)]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise SetupError(f"{folder} cannot be read: {error.strerror}") from None


def _widths(folder: Path) -> list[int]:
    """The partial widths in a `.p` folder, ascending."""
    widths: list[int] = []
    try:
        with os.scandir(folder) as found:
            for item in found:
                name = item.name
                if name.isascii() and name.isdecimal() and item.is_file(follow_symlinks=False):
                    width = int(name) if len(name) <= 3 else 0
                    if 0 < width < WIDTH and str(width) == name:
                        widths.append(width)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise SetupError(f"{folder} cannot be read: {error.strerror}") from None
    return sorted(widths)


__all__ = ["Collected", "collect"]
