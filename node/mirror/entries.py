"""add-entries (C2SP tlog-mirror): entries in packages, each held against a head before it is kept; tickets; answers.

An upload is about one head that was pending, now or lately: by its size, or by a ticket that carries the head itself
under a MAC of this mirror. Packages are verified and written one after the other, by as many uploads at once as come; a
copy is locked for one package at a time, and an upload that stops in the middle holds up nobody. Before any answer what
was taken is on the disk. Only a complete upload leads to a cosignature, and only if the copy gives the head's root.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass

from ...ledger.notes.checkpoint import Checkpoint
from ...ledger.notes.mirror_body import MAX_PACKAGES, Package, UploadHead
from ...ledger.notes.note import Note, SignerKey
from ...ledger.notes.wire import encode_base64
from ...ledger.witness import Cosigned, OutOfStep
from ...schemas.errors import EvidenceError
from .mirror import Mirror
from .signatures import check_signatures

INFO_TYPE = "text/x.tlog.mirror-info"
TEXT = "text/plain; charset=utf-8"
_TOO_FAR = MAX_PACKAGES * 256
"""Entries that an upload may begin below the next one: as many as one request may carry."""
_TICKET = b"plausible.mirror-ticket/1\n"
_MAC = 32


@dataclass(frozen=True, slots=True)
class Answer:
    """Status, body and content type of an answer."""

    status: int
    body: bytes
    content_type: str = TEXT


def make_ticket(signer: SignerKey, note: bytes) -> bytes:
    """A ticket that brings a pending head back: its note behind a MAC that only this mirror can make."""
    mac = hmac.digest(_secret(signer), _TICKET + note, hashlib.sha256)
    return mac + note if len(note) < 0xFFFF - _MAC else b""


def open_ticket(signer: SignerKey, ticket: bytes) -> bytes | None:
    """The note in a ticket that this mirror made; None for anything else."""
    mac, note = ticket[:_MAC], ticket[_MAC:]
    made = hmac.digest(_secret(signer), _TICKET + note, hashlib.sha256)
    return note if hmac.compare_digest(mac, made) else None


def _secret(signer: SignerKey) -> bytes:
    return hashlib.sha256(b"plausible.mirror-ticket-key/1\n" + signer.seed).digest()


def begin(mirror: Mirror, head: UploadHead) -> Upload | Answer:
    """An upload, or why there is none: 404 unknown log, 422 no pending head yet, 409 out of step, 503 for good."""
    if (frozen := mirror.frozen) is not None:
        return _text(503, frozen)
    if not mirror.keys(head.origin):
        return _text(404, f"unknown log {head.origin}")
    newest = mirror.pending(head.origin)
    if newest is None:
        return _text(422, "there is no pending checkpoint of this log: add-checkpoint comes first")
    note = mirror.pending_at(head.origin, head.end) or _from_ticket(mirror, head)
    copy, cosigned = mirror.copy(head.origin), mirror.head(head.origin).size
    if note is None or head.end < cosigned:
        return _info(mirror, head.origin, 409, newest[1])
    if not copy.size - _TOO_FAR <= head.start <= copy.size:
        return _info(mirror, head.origin, 409, note)
    return Upload(mirror, head, note)


def _from_ticket(mirror: Mirror, head: UploadHead) -> bytes | None:
    note = open_ticket(mirror.signer, head.ticket)
    if note is None:
        return None
    # it was a pending head of this mirror's once, and pending heads are of one history
    checkpoint = Checkpoint.parse(Note.parse(note).text)
    return note if (checkpoint.origin, checkpoint.size) == (head.origin, head.end) else None


class Upload:
    """One request whose head is in order. Used by one thread at a time."""

    def __init__(self, mirror: Mirror, head: UploadHead, note: bytes) -> None:
        self._mirror, self._head, self._note = mirror, head, note
        self._checkpoint = Checkpoint.parse(Note.parse(note).text)
        self._copy = mirror.copy(head.origin)
        self._signatures = mirror.settings(head.origin).signatures
        self._end = head.start
        self.packages = 0
        """How many were taken."""

    def take(self, package: Package) -> None:
        """Verify a package and write what of it is new; `EvidenceError` if it is not in the tree of the head."""
        copy = self._copy
        with copy.lock:
            earlier = copy.hashes(package.subtree_start, package.start)
            hashes = package.verify(earlier, self._checkpoint.size, self._checkpoint.root)
            known = max(copy.size - package.start, 0)
            new = package.entries[known:]
            if new and self._signatures:
                _, problem = check_signatures(copy.size, new)
                if problem is not None:
                    raise EvidenceError(problem)
            if new:
                copy.write(copy.grown(new, hashes[known:]))
        self._end = package.end
        self.packages += 1

    def finish(self) -> Answer:
        """The answer: 200 with the mirror's cosignatures, 202 for a part, 409 if it was overtaken, 400 for nothing."""
        origin = self._head.origin
        if self._end < self._head.end and not self.packages:
            return _text(400, "no whole package of entries arrived")
        with self._copy.lock:
            self._copy.flush()
        if self._end < self._head.end:
            return _info(self._mirror, origin, 202, self._note)
        outcome = self._mirror.commit(origin, self._note)
        if isinstance(outcome, OutOfStep):
            newest = self._mirror.pending(origin)
            return _info(self._mirror, origin, 409, self._note if newest is None else newest[1])
        if isinstance(outcome, Cosigned):
            return Answer(200, outcome.body)
        return Answer(outcome.status if outcome.status == 503 else 500, outcome.body)


def _info(mirror: Mirror, origin: str, status: int, note: bytes) -> Answer:
    """409 and 202: the size of a head to upload to, the next entry, and a ticket for that head."""
    size = Checkpoint.parse(Note.parse(note).text).size
    ticket = encode_base64(make_ticket(mirror.signer, note))
    return Answer(status, f"{size}\n{mirror.copy(origin).size}\n{ticket}\n".encode(), INFO_TYPE)


def _text(status: int, reason: str) -> Answer:
    return Answer(status, (reason + "\n").encode("utf-8", "replace"))


__all__ = ["INFO_TYPE", "Answer", "Upload", "begin", "make_ticket", "open_ticket"]
