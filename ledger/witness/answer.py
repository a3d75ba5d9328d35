"""What a witness answers, with HTTP status, content type and body (C2SP tlog-witness), and what it remembers."""

from __future__ import annotations

from dataclasses import dataclass

from ..notes.checkpoint import Checkpoint
from ..notes.note import NoteSignature, VerifierKey

_TEXT = "text/plain; charset=utf-8"
SIZE_TYPE = "text/x.tlog.size"
"""The content type that tells a size from any other 409."""


@dataclass(frozen=True, slots=True)
class Cosigned:
    """200: recorded and cosigned."""

    checkpoint: Checkpoint
    signatures: tuple[NoteSignature, ...]
    status: int = 200
    content_type: str = _TEXT

    @property
    def body(self) -> bytes:
        """One cosignature line per key of the witness."""
        return "".join(signature.line for signature in self.signatures).encode()


@dataclass(frozen=True, slots=True)
class SubtreeSigned:
    """200: the subtree lies in a tree that this witness cosigned, and is signed with time 0."""

    signatures: tuple[NoteSignature, ...]
    status: int = 200
    content_type: str = _TEXT

    @property
    def body(self) -> bytes:
        """One signature line per ML-DSA-44 key of the witness."""
        return "".join(signature.line for signature in self.signatures).encode()


@dataclass(frozen=True, slots=True)
class OutOfStep:
    """409: the old size is not the size we last cosigned; `size` is."""

    size: int
    status: int = 409
    content_type: str = SIZE_TYPE

    @property
    def body(self) -> bytes:
        """Our size in decimal, with a newline."""
        return f"{self.size}\n".encode()


@dataclass(frozen=True, slots=True)
class Refused:
    """400 malformed, 403 no valid log signature, 404 unknown origin, 422 not consistent, 503 frozen; `reason` is one
    sentence."""

    status: int
    reason: str
    content_type: str = _TEXT

    @property
    def body(self) -> bytes:
        """The reason, with a newline."""
        return (self.reason + "\n").encode("utf-8", "replace")


Outcome = Cosigned | OutOfStep | Refused


@dataclass(frozen=True, slots=True)
class WatchedLog:
    """A log the witness knows: its keys, and the last size and root it cosigned (0 and the empty root before).

    Without keys it is not watched any more; what was cosigned stays, so that watching it again goes on from there.
    """

    origin: str
    keys: tuple[VerifierKey, ...]
    size: int
    root: bytes


@dataclass(frozen=True, slots=True)
class Conflict:
    """Proof that a log lied: two notes it signed, of one size and with different roots."""

    origin: str
    time: int
    ours: bytes
    theirs: bytes
