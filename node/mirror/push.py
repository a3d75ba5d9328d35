"""Sending a log to a mirror (C2SP tlog-mirror, the client's side): for a log that a mirror cannot reach.

The mirror says how far it is, so a client needs no memory: whatever breaks off goes on where the mirror stands. It is
trusted for nothing; its answer counts only if it is a cosignature under the keys expected.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ...ledger.merkle import tree
from ...ledger.merkle.reader import TiledLog
from ...ledger.merkle.tiles import WIDTH
from ...ledger.notes.checkpoint import Checkpoint
from ...ledger.notes.mirror_body import MAX_PACKAGES, AddEntriesRequest, Package
from ...ledger.notes.note import Note, NoteSignature, VerifierKey, parse_signature_line
from ...ledger.notes.wire import decode_base64, parse_decimal
from ...ledger.witness import AddCheckpointRequest
from ...schemas.errors import EvidenceError, PeerError
from ..asking import Answer, ask, make_client
from .entries import INFO_TYPE

SIZE_TYPE = "text/x.tlog.size"
_TURNS = 8
"""How often in a row a mirror may say that it is somewhere else before we give up."""


@dataclass(frozen=True, slots=True)
class MirrorInfo:
    """What 202 and 409 carry: the size of a head to upload to, the next entry, a ticket."""

    size: int
    next: int
    ticket: bytes

    @classmethod
    def parse(cls, body: bytes) -> MirrorInfo:
        """Three lines; else `EvidenceError`."""
        try:
            lines = body.decode("ascii").split("\n")
        except UnicodeDecodeError:
            raise EvidenceError("mirror info is ASCII text") from None
        if len(lines) != 4 or lines[3]:
            raise EvidenceError("mirror info has three lines")
        ticket = decode_base64(lines[2], "a ticket") if lines[2] else b""
        return cls(parse_decimal(lines[0], "the pending size"), parse_decimal(lines[1], "the next entry"), ticket)


class MirrorClient:
    """Requests to one mirror at `url`, its submission prefix."""

    def __init__(self, url: str, *, timeout: float = 60.0) -> None:
        self.url = url.rstrip("/")
        self._client = make_client(timeout)

    def close(self) -> None:
        """Give the connections back."""
        self._client.close()

    def ask(self, method: str, url: str, body: bytes | None = None, **headers: str) -> Answer:
        """One request; `PeerError` if it is not answered within bounds."""
        return ask(self._client, method, url, body, **headers)

    def add_checkpoint(self, old: int, proof: Sequence[bytes], note: bytes) -> Answer:
        """POST add-checkpoint."""
        return self.ask("POST", f"{self.url}/add-checkpoint", AddCheckpointRequest(old, tuple(proof), note).encode())

    def add_entries(self, request: AddEntriesRequest, *, packed: bool = True) -> Answer:
        """POST add-entries, gzip unless not `packed`."""
        body, headers = request.encode(), {"Content-Type": "application/octet-stream"}
        if packed:
            body, headers["Content-Encoding"] = gzip.compress(body, 1), "gzip"
        return self.ask("POST", f"{self.url}/add-entries", body, **headers)


def packages(log: TiledLog, start: int, end: int, size: int) -> tuple[Package, ...]:
    """The packages of the entries [start, end), each with its proof to the tree of `size`; `end` is it or a 256th."""
    made: list[Package] = []
    while start < end:
        stop = min(start - start % WIDTH + WIDTH, end)
        proof = tree.subtree_consistency_path(
            lambda level, index: log.hash(level, index, size), start - start % WIDTH, stop, size
        )
        made.append(Package(start, tuple(log.entries(start, stop, size)), tuple(proof)))
        start = stop
    return tuple(made)


def push(
    log: TiledLog,
    client: MirrorClient,
    keys: Sequence[VerifierKey],
    *,
    path: str = "checkpoint",
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> tuple[NoteSignature, ...]:
    """Bring a mirror to a log's head and return its cosignatures, which verify under `keys`.

    Raises `PeerError` for a mirror that does not know the log, answers nonsense or makes no progress.
    """
    note = log.checkpoint_bytes(path)
    checkpoint = Checkpoint.parse(Note.parse(note).text)
    _show(log, client, checkpoint, note)
    begin, ticket, turns, furthest = 0, b"", 0, -1
    answer = client.add_entries(AddEntriesRequest(checkpoint.origin, 0, 0, b"", ()))
    while True:
        if answer.status == 200 and begin >= checkpoint.size:
            return _cosignatures(answer, note, keys)
        if answer.status not in (200, 202, 409) or (answer.status != 200 and answer.kind != INFO_TYPE):
            raise PeerError(f"the mirror at {client.url} answered {answer.told}")
        if answer.status != 200:
            info = MirrorInfo.parse(answer.body)
            begin, ticket = info.next, info.ticket if info.size == checkpoint.size else b""
        turns = turns + 1 if begin <= furthest else 0
        furthest = max(begin, furthest)
        if turns > _TURNS or begin > checkpoint.size:
            raise PeerError(f"the mirror at {client.url} is at entry {begin} and does not come to {checkpoint.size}")
        progress(begin, checkpoint.size)
        end = min(checkpoint.size, (begin // WIDTH + MAX_PACKAGES) * WIDTH)
        parts = packages(log, begin, end, checkpoint.size)
        answer = client.add_entries(AddEntriesRequest(checkpoint.origin, begin, checkpoint.size, ticket, parts))
        begin = end if answer.status == 200 else begin


def _show(log: TiledLog, client: MirrorClient, checkpoint: Checkpoint, note: bytes) -> None:
    """add-checkpoint, with the size that the mirror says it has."""
    old = 0
    for _ in range(_TURNS):
        proof = log.consistency(old, checkpoint.size) if 0 < old < checkpoint.size else []
        answer = client.add_checkpoint(old, proof, note)
        if answer.status == 200:
            return
        if answer.status != 409 or answer.kind != SIZE_TYPE:
            raise PeerError(f"the mirror at {client.url} answered {answer.told}")
        old = parse_decimal(answer.body.decode("ascii", "replace").removesuffix("\n"), "the mirror's size")
        if old > checkpoint.size:
            raise PeerError(f"the mirror at {client.url} has seen size {old}, and this log is at {checkpoint.size}")
    raise PeerError(f"the mirror at {client.url} names another size each time it is asked")


def _cosignatures(answer: Answer, note: bytes, keys: Sequence[VerifierKey]) -> tuple[NoteSignature, ...]:
    try:
        lines = answer.body.decode("utf-8").split("\n")
        if lines.pop() != "" or not lines:
            raise EvidenceError("the body is not a list of lines")
        given = Note(Note.parse(note).text, tuple(parse_signature_line(line) for line in lines))
        return tuple(found.signature for found in given.verify(keys))
    except (EvidenceError, UnicodeDecodeError) as error:
        raise PeerError(f"the mirror answered with no cosignature by the key given: {error}") from None


__all__ = ["Answer", "MirrorClient", "MirrorInfo", "packages", "push"]
