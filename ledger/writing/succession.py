"""A log that continues another one: its entry 0 is the other's last checkpoint, byte for byte.

    read_predecessor(leaf 0)     what is carried, if anything: form only, believed by nobody yet
    check_predecessor            the carried note meets a policy that names the old log
    check_closed                 a head of the old log agrees with what was carried: it did not go on

The note is signed and cosigned already, so nothing is put around it. The old log does not name the new one; whose logs
belong together is for the policy to say. What a new log must not do is make its predecessor forgotten, so nobody says
"absent" of it without having read both. Source: docs/spec/succession.md, decision 0011.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ...schemas.errors import EvidenceError
from ..notes.checkpoint import Checkpoint
from ..notes.note import Note
from ..notes.policy import AcceptedCheckpoint, Policy


@dataclass(frozen=True, slots=True)
class Predecessor:
    """The checkpoint that a log carries as its entry 0, and the note's bytes."""

    checkpoint: Checkpoint
    note: bytes = field(repr=False)

    @property
    def origin(self) -> str:
        """The log that is continued."""
        return self.checkpoint.origin

    @property
    def size(self) -> int:
        """How many entries it had."""
        return self.checkpoint.size


def read_predecessor(leaf: bytes, origin: str) -> Predecessor | None:
    """What entry 0 of the log `origin` carries; None if its bytes are no checkpoint of another, not empty log."""
    try:
        note = Note.parse(leaf)
        checkpoint = Checkpoint.parse(note.text)
    except EvidenceError:
        return None
    if not note.signatures or note.encode() != leaf or checkpoint.origin == origin or not checkpoint.size:
        return None
    return Predecessor(checkpoint, leaf)


def check_predecessor(predecessor: Predecessor, policy: Policy) -> AcceptedCheckpoint | None:
    """The carried checkpoint under a policy; None if the policy does not name that log.

    Raises `EvidenceError` for false signatures, `PolicyError` where the policy is not met.
    """
    if all(log.key.name != predecessor.origin for log in policy.logs):
        return None
    return policy.check(predecessor.note)


def check_closed(predecessor: Predecessor, head: Checkpoint) -> None:
    """`head` of the old log is no newer and no other than what was carried, or an `EvidenceError`.

    The caller has checked both under the policy. A smaller head says nothing by itself: the rest was not read.
    """
    if head.origin != predecessor.origin:
        raise EvidenceError(f"the head is of {head.origin}, what was continued is {predecessor.origin}")
    if head.size > predecessor.size:
        raise EvidenceError(
            f"{head.origin} went on to size {head.size} after it was closed with {predecessor.size} entries"
        )
    if head.size == predecessor.size and head.root != predecessor.checkpoint.root:
        raise EvidenceError(f"{head.origin} signed two roots for its last size {head.size}")


__all__ = ["Predecessor", "check_closed", "check_predecessor", "read_predecessor"]
