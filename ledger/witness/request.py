"""What is posted to a witness: bodies of add-checkpoint and sign-subtree (C2SP tlog-witness)."""

from __future__ import annotations

from dataclasses import dataclass

from ...schemas.errors import EvidenceError
from ..notes.wire import decode_hash, encode_base64, parse_decimal

MAX_REQUEST_BYTES = 128 * 1024
MAX_PROOF = 63


@dataclass(frozen=True, slots=True)
class AddCheckpointRequest:
    """A parsed add-checkpoint body: the size the client believes we have, the consistency proof, the signed note."""

    old_size: int
    proof: tuple[bytes, ...]
    note: bytes

    def encode(self) -> bytes:
        """The body's bytes."""
        return _encode(f"old {self.old_size}", self.proof, self.note)


@dataclass(frozen=True, slots=True)
class SignSubtreeRequest:
    """A parsed sign-subtree body: the range and hash of the subtree, its consistency proof, a note we cosigned."""

    start: int
    end: int
    root: bytes
    proof: tuple[bytes, ...]
    note: bytes

    def encode(self) -> bytes:
        """The body's bytes."""
        return _encode(f"subtree {self.start} {self.end}", (self.root, *self.proof), self.note)


def parse_add_checkpoint_request(body: bytes) -> AddCheckpointRequest:
    """Read an add-checkpoint body of at most 128 KiB and 63 proof lines; the note is not looked into."""
    lines, note = _split(body, "an add-checkpoint request", "old ")
    old_size = parse_decimal(lines[0].removeprefix("old "), "the old size")
    return AddCheckpointRequest(old_size, _hashes(lines[1:]), note)


def parse_sign_subtree_request(body: bytes) -> SignSubtreeRequest:
    """Read a sign-subtree body of at most 128 KiB and 63 proof lines; the note is not looked into."""
    lines, note = _split(body, "a sign-subtree request", "subtree ")
    words = lines[0].split(" ")
    if len(words) != 3 or len(lines) < 2:
        raise EvidenceError(
            "invalid input: a sign-subtree request begins with `subtree START END` and the subtree's hash"
        )
    start, end = (parse_decimal(word, "a bound of the subtree") for word in words[1:])
    return SignSubtreeRequest(start, end, decode_hash(lines[1], "the subtree's hash"), _hashes(lines[2:]), note)


def _encode(first: str, hashes: tuple[bytes, ...], note: bytes) -> bytes:
    return "\n".join([first, *(encode_base64(value) for value in hashes)]).encode() + b"\n\n" + note


def _split(body: bytes, what: str, begin: str) -> tuple[list[str], bytes]:
    """(the lines of the head, the note)."""
    if len(body) > MAX_REQUEST_BYTES:
        raise EvidenceError(f"{what} has at most {MAX_REQUEST_BYTES} bytes")
    head, empty_line, note = body.partition(b"\n\n")
    try:
        lines = head.decode("ascii").split("\n")
    except UnicodeDecodeError:
        raise EvidenceError(f"invalid input: the head of {what} is ASCII text") from None
    if not empty_line or not lines[0].startswith(begin):
        raise EvidenceError(
            f"invalid input: {what} begins with `{begin.strip()}` and has an empty line before the note"
        )
    return lines, note


def _hashes(lines: list[str]) -> tuple[bytes, ...]:
    if len(lines) > MAX_PROOF:
        raise EvidenceError(f"a consistency proof has at most {MAX_PROOF} hashes")
    return tuple(decode_hash(line, "a proof hash") for line in lines)
