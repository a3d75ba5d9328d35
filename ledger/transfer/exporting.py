"""Writing `plausible.export/1`: every file is verified before it goes out, so an export of a damaged log ends early."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from ...schemas import jcs
from ...schemas.errors import EvidenceError
from ...schemas.text import digest_text
from ..absence.note import INDEX_NOTE, IndexHead
from ..merkle.public import CHECKPOINT, CHECKPOINTS
from ..merkle.reader import Source, TiledLog, fetch_tile
from ..merkle.tiles import Tile, decode_bundle, decode_tile, encode_bundle, encode_tile
from ..notes.checkpoint import Checkpoint
from ..notes.note import MAX_NOTE_BYTES, Note
from ..notes.policy import AcceptedCheckpoint, Policy
from ..storage.archive import sizes_of
from .container import END, write_member
from .descent import Roots, descend
from .indexed import IndexCheck

FORMAT = "plausible.export/1"
MANIFEST = "plausible-export.json"


@dataclass(frozen=True, slots=True)
class Exported:
    """What went out: the checkpoint that everything hashes into, how many kept ones, and the bytes of the file.

    `index` is the size of the index note that went out too, None without one. `accepted` is None where no policy was
    given: then nobody said that the checkpoint's signatures count.
    """

    origin: str
    size: int
    root: bytes
    checkpoints: int
    bytes: int
    accepted: AcceptedCheckpoint | None
    index: int | None = None


def manifest(checkpoint: Checkpoint) -> bytes:
    """The first member's bytes."""
    return jcs.encode(
        {
            "format": FORMAT,
            "origin": checkpoint.origin,
            "root": digest_text(checkpoint.root),
            "size": checkpoint.size,
        }
    )


def export_log(
    log: TiledLog,
    out: BinaryIO,
    *,
    policy: Policy | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Exported:
    """Write a whole log to `out`: the same checkpoint, index note and kept checkpoints give the same bytes.

    `log` may be near or far; of a served one that lists no kept checkpoints only that of its own size goes out. Raises
    `PolicyError` if the policy is not met, `EvidenceError` for the first file that does not hash into the checkpoint,
    `PeerError` for one that is missing. What was written up to then is no export: it lacks its end.
    """
    note = log.checkpoint_bytes()
    accepted = policy.check(note) if policy is not None else None
    checkpoint = accepted.checkpoint if accepted is not None else Checkpoint.parse(Note.parse(note).text)
    kept = [size for size in sizes_of(log) if size <= checkpoint.size]
    roots = Roots()
    written = write_member(out, MANIFEST, manifest(checkpoint)) + write_member(out, CHECKPOINT, note)
    index = _index(log, checkpoint)
    if index is not None:
        written += write_member(out, INDEX_NOTE, index[0])
    place = 0

    def heads(upto: int) -> None:
        nonlocal place, written
        while place < len(kept) and kept[place] <= upto:
            data = _head(log, checkpoint.origin, kept[place], roots)
            written += write_member(out, f"{CHECKPOINTS}/{kept[place]}", data)
            place += 1

    heads(0)
    for found in descend(checkpoint.size, checkpoint.root, lambda tile: fetch_exact(log.source, tile)):
        written += write_member(out, found.tile.path, found.data)
        if found.tile.is_bundle:
            roots.pass_by(found.hashes)
            heads(roots.size)
            if index is not None:
                index[1].pass_by(found.data, found.tile.width, found.hashes)
            if progress is not None:
                progress(roots.size, checkpoint.size)
    if index is not None:
        index[1].finish()
    out.write(END)
    return Exported(
        checkpoint.origin, checkpoint.size, checkpoint.root, len(kept), written + len(END), accepted,
        None if index is None else index[1].head.size,
    )  # fmt: skip


def _index(log: TiledLog, checkpoint: Checkpoint) -> tuple[bytes, IndexCheck] | None:
    """The served index note, to be held against the entries; None without one, and if it is newer than the export."""
    note = log.source.fetch(INDEX_NOTE, MAX_NOTE_BYTES)
    if note is None or IndexHead.parse(Note.parse(note).text).size > checkpoint.size:
        return None
    return note, IndexCheck(note, checkpoint)


def fetch_exact(source: Source, tile: Tile) -> bytes:
    """A file at exactly this width, whatever width is served."""
    data, width = fetch_tile(source, tile)
    if width == tile.width:
        return data
    if tile.is_bundle:
        return encode_bundle(decode_bundle(data, width)[: tile.width])
    return encode_tile(decode_tile(data, width)[: tile.width])


def _head(log: TiledLog, origin: str, size: int, roots: Roots) -> bytes:
    data = log.checkpoint_bytes(f"{CHECKPOINTS}/{size}")
    check_head(data, origin, size, roots)
    return data


def check_head(data: bytes, origin: str, size: int, roots: Roots) -> Note:
    """A kept checkpoint is of this log, of this size, and of this history; its signatures are not looked at."""
    name = f"{CHECKPOINTS}/{size}"
    note = Note.parse(data)
    found = Checkpoint.parse(note.text)
    if (found.origin, found.size) != (origin, size):
        raise EvidenceError(f"{name} is a head of size {found.size} of {found.origin!r}")
    if found.root != roots.root_at(size):
        raise EvidenceError(f"{name} signs another root than the entries have: two histories of one log, keep both")
    return note


def manifest_problem(data: bytes) -> str:
    """Why a first member is not the manifest of its checkpoint, for people."""
    try:
        value = jcs.decode(data, limit=1 << 16)
    except EvidenceError as error:
        return f"{MANIFEST} does not read: {error}"
    found = value.get("format") if isinstance(value, dict) else None
    if found != FORMAT:
        return f"the file is of format {str(found)[:80]!r}, this program reads {FORMAT}"
    return f"{MANIFEST} does not describe the checkpoint behind it"


__all__: Sequence[str] = [
    "FORMAT",
    "MANIFEST",
    "Exported",
    "check_head",
    "export_log",
    "fetch_exact",
    "manifest",
    "manifest_problem",
]
