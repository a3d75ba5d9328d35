"""Proof files cut out of a log, and index roots recomputed from its entries before they are signed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ...schemas.errors import EvidenceError, PeerError, SetupError
from ..merkle.public import CHECKPOINTS, PUBLIC_FOLDER
from ..merkle.reader import TiledLog
from ..notes.checkpoint import Checkpoint
from ..notes.note import MAX_NOTE_BYTES, Note, SignerKey
from ..storage.disk import storage, write_file
from .keys import FILE, PIXELS, index_key
from .note import INDEX_NOTE, KEY_SUFFIX, IndexHead
from .pages import ABSENCE_FILE, remove_file
from .proof import AbsenceProof, KeyProof, verify_key
from .store import AbsenceStore


def recompute(
    log: TiledLog,
    checkpoint: Checkpoint,
    progress: Callable[[int, int], None] | None = None,
    *,
    store: AbsenceStore | None = None,
) -> IndexHead:
    """The index head over a checkpoint's entries, from those entries alone: read, hashed and indexed.

    Anew, or, with a `store` that has a signer, from where the signer recomputed them last.
    """
    with (store or AbsenceStore(None)).at(log, checkpoint, progress) as index:
        return IndexHead.of(checkpoint, index.root())


def kept(directory: Path, origin: str, signer: SignerKey | None, tell: Callable[[str], None]) -> AbsenceStore | None:
    """The index that a ledger's directory keeps for the key that signs its roots; None for any other key.

    `tell` hears why the file was of no use, if all entries had to be read once more.
    """
    if signer is None or signer.verifier.name != origin + KEY_SUFFIX:
        return None
    return AbsenceStore(directory / ABSENCE_FILE, signer=signer, anew=tell)


def sign_index(
    log: TiledLog,
    checkpoint: Checkpoint,
    signer: SignerKey,
    *,
    others: Note | None = None,
    store: AbsenceStore | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Note:
    """An index note by `signer` over a root that it recomputed; signatures of `others` over the same text are kept.

    `EvidenceError` if `others` signed another root for these very entries.
    """
    head = recompute(log, checkpoint, progress, store=store)
    made = head.sign(signer)
    if others is None:
        return made
    before = IndexHead.parse(others.text)
    require_no_other_root(head, before)
    return merged(made, others) if before == head else made


def sign_kept(
    directory: Path,
    log: TiledLog,
    checkpoint: Checkpoint,
    signer: SignerKey,
    *,
    anew: bool = False,
    tell: Callable[[str], None] = lambda _reason: None,
    progress: Callable[[int, int], None] | None = None,
) -> Note:
    """`sign_index` for a ledger's own directory, and the note is served from its `public/`.

    The log's own index key reads only the entries since it signed last, from what absence.db keeps; `anew` reads them
    all. Signatures of others over the same root stay. `tell` as for `kept`.
    """
    if anew:
        remove_file(directory / ABSENCE_FILE)
    served = published(log)
    others = None if served is None else Note.parse(served)
    store = kept(directory, checkpoint.origin, signer, tell)
    note = sign_index(log, checkpoint, signer, others=others, store=store, progress=progress)
    publish(directory / PUBLIC_FOLDER, note)
    return note


def require_no_other_root(recomputed: IndexHead, served: IndexHead) -> None:
    """`EvidenceError` if an index note names another root for the very entries that were recomputed."""
    same = (served.origin, served.size) == (recomputed.origin, recomputed.size)
    if same and served != recomputed:
        raise EvidenceError(
            f"the index note served by {served.origin} at size {served.size} names a root that its entries do not give"
        )


def merged(note: Note, other: Note) -> Note:
    """`note` with the signature lines of `other` over the same text that it lacks, unverified."""
    known = {(line.name, line.key_id) for line in note.signatures}
    return note.add(*(line for line in other.signatures if (line.name, line.key_id) not in known))


def published(log: TiledLog) -> bytes | None:
    """The index note that a log serves, unverified; None if it serves none."""
    return log.source.fetch(INDEX_NOTE, MAX_NOTE_BYTES)


def publish(public: Path, note: Note, *, sync: bool = True) -> None:
    """Serve an index note from a log's `public/` folder; `sync`: durably."""
    path = public / INDEX_NOTE
    with storage(f"writing {path}"):
        path.parent.mkdir(exist_ok=True)
        write_file(path, note.encode(), sync=sync)


def prove_absence(
    log: TiledLog,
    note: bytes,
    checkpoint: bytes,
    *,
    pixels: bytes,
    file: bytes | None,
    store: AbsenceStore | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> AbsenceProof:
    """A proof about an image under a signed index note and a checkpoint as served. Made, not verified.

    Where the checkpoint has moved on since the note was signed, the kept checkpoint of the note's size takes its place,
    and the map is that of the last size that `store` keeps below it, caught up, or is made in memory. Raises
    `EvidenceError` if the log's entries do not give the note's index root.
    """
    head = IndexHead.parse(Note.parse(note).text)
    point = Checkpoint.parse(Note.parse(checkpoint).text)
    if point.origin != head.origin:
        raise EvidenceError(f"the index note is of {head.origin}, the checkpoint of {point.origin}")
    if head.size != point.size:
        try:
            checkpoint = log.checkpoint_bytes(f"{CHECKPOINTS}/{head.size}")
        except PeerError:
            raise SetupError(
                f"the index note is of size {head.size}, the checkpoint of size {point.size}: sign a new index note"
            ) from None
        point = Checkpoint.parse(Note.parse(checkpoint).text)
    digests = {PIXELS: pixels} if file is None else {PIXELS: pixels, FILE: file}
    with (store or AbsenceStore(None)).at(log, point, progress) as index:
        if IndexHead.of(point, index.root()) != head:
            if store is not None and recompute(log, point, progress) == head:
                raise SetupError(f"{ABSENCE_FILE} contradicts the entries it was made from; delete it, it is rebuilt")
            raise EvidenceError(
                f"the index note of {head.origin} at size {head.size} is not what the log's entries give"
            )
        proofs: dict[int, KeyProof] = {}
        for kind, digest in digests.items():
            key = index_key(kind, digest)
            proofs[kind] = index.prove(key)
            try:  # absence.db is trusted for nothing: a page of it that is not what was folded into the root shows here
                verify_key(proofs[kind], key, head.index_root, head.size)
            except EvidenceError as error:
                raise SetupError(f"{ABSENCE_FILE} contradicts itself ({error}); delete it, it is rebuilt") from None
    return AbsenceProof(digests, proofs, note, checkpoint)
