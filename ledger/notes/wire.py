"""The three spellings that every log format shares, read strictly: base64, decimal numbers, 64-bit integers.

Signed text that has two spellings for one value lets two programs disagree about what was signed. So: base64 is the
standard alphabet with padding and zero trailing bits (RFC 4648 section 4), a decimal number has no sign, no space and
no leading zero. Every failure is an `EvidenceError`.
"""

from __future__ import annotations

import base64
import binascii
import re

from ...schemas.errors import EvidenceError

HASH_SIZE = 32
# Go programs hold tree sizes in an int64 and SQLite its integers too: nobody can use a larger tree.
MAX_SIZE = 2**63 - 1

FORBIDDEN = re.compile("[\x00-\x1f\ud800-\udfff]")
"""What no line of a note, checkpoint or name may hold: control characters, and surrogates, which UTF-8 cannot spell."""

_DECIMAL = re.compile(r"0|[1-9][0-9]{0,19}", re.ASCII)


class NonCanonicalBase64Error(EvidenceError):
    """Base64 that reads, but is not how anybody strict would have written it: its trailing bits are not zero."""


def encode_base64(data: bytes) -> str:
    """Standard base64 with padding."""
    return base64.b64encode(data).decode("ascii")


def decode_base64(text: str, what: str = "value") -> bytes:
    """The bytes behind canonical base64; `what` names the field in the `EvidenceError` for anything else."""
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
    except (UnicodeError, binascii.Error, ValueError):
        raise EvidenceError(f"{what} is not base64 with padding") from None
    # `validate=True` still accepts non-zero trailing bits: QR== reads as QQ==
    if encode_base64(data) != text:
        raise NonCanonicalBase64Error(f"{what} is not canonical base64")
    return data


def decode_hash(text: str, what: str = "hash") -> bytes:
    """A base64 line that must hold exactly 32 bytes."""
    data = decode_base64(text, what)
    if len(data) != HASH_SIZE:
        raise EvidenceError(f"{what} has {len(data)} bytes, not {HASH_SIZE}")
    return data


def parse_decimal(text: str, what: str = "number", limit: int = MAX_SIZE) -> int:
    """A decimal number from 0 to `limit` in its only spelling."""
    if _DECIMAL.fullmatch(text) is None:
        raise EvidenceError(f"{what} is not a decimal number without sign or leading zero")
    value = int(text)
    if value > limit:
        raise EvidenceError(f"{what} is larger than {limit}")
    return value


def u64(value: int) -> bytes:
    """Eight bytes, big-endian."""
    return value.to_bytes(8, "big")
