"""The text forms of bytes and times: digests, hex, base64 and UTC time, each with exactly one accepted spelling.

Source: docs/spec/json.md. Readers raise `EvidenceError`, writers `UsageError`.
"""

from __future__ import annotations

import base64
import binascii
import re
from datetime import UTC, datetime, timedelta

from .errors import EvidenceError, UsageError

DIGEST_PATTERN = r"^sha256:[0-9a-f]{64}$"
TIME_PATTERN = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z$"

_DIGEST = re.compile(r"sha256:([0-9a-f]{64})", re.ASCII)
_HEX = re.compile(r"(?:[0-9a-f]{2})*", re.ASCII)
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z", re.ASCII)


def digest_text(digest: bytes) -> str:
    """`sha256:` + 64 lowercase hex of a 32-byte digest."""
    if len(digest) != 32:
        raise UsageError(f"a digest has 32 bytes, not {len(digest)}")
    return "sha256:" + digest.hex()


def parse_digest(text: str) -> bytes:
    """The 32 bytes of a `sha256:...` text; `EvidenceError` for any other spelling."""
    match = _DIGEST.fullmatch(text)
    if not match:
        raise EvidenceError(f"not a digest (sha256: and 64 lowercase hex): {text[:80]!r}")
    return bytes.fromhex(match[1])


def parse_hex(text: str, length: int, what: str = "value") -> bytes:
    """`length` bytes from lowercase hex; `EvidenceError` for any other spelling."""
    if len(text) != 2 * length or not _HEX.fullmatch(text):
        raise EvidenceError(f"{what} is not {2 * length} lowercase hex digits")
    return bytes.fromhex(text)


def b64(data: bytes) -> str:
    """Standard base64 with padding."""
    return base64.b64encode(data).decode("ascii")


def unb64(text: str, what: str = "value") -> bytes:
    """Bytes of standard padded base64; `EvidenceError` unless re-encoding gives the same text (zero trailing bits)."""
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
    except (ValueError, binascii.Error) as error:
        raise EvidenceError(f"{what} is not base64") from error
    if b64(data) != text:
        raise EvidenceError(f"{what} is not canonical base64")
    return data


def now() -> datetime:
    """The current time in UTC, to the microsecond."""
    return datetime.now(UTC)


def format_time(time: datetime) -> str:
    """`YYYY-MM-DDThh:mm:ss.ffffffZ` of an aware time; texts of this form sort as the times do."""
    if time.tzinfo is None:
        raise UsageError("a time without a time zone cannot be written down")
    utc = time.astimezone(UTC)
    return f"{utc.year:04d}-{utc:%m-%dT%H:%M:%S}.{utc.microsecond:06d}Z"


def parse_time(text: str) -> datetime:
    """The aware UTC time of a text written by `format_time`; `EvidenceError` otherwise (a leap second 60 too)."""
    if not _TIME.fullmatch(text):
        raise EvidenceError(f"not a time (YYYY-MM-DDThh:mm:ss.ffffffZ): {text[:40]!r}")
    try:
        return datetime(
            int(text[0:4]), int(text[5:7]), int(text[8:10]), int(text[11:13]), int(text[14:16]), int(text[17:19]),
            int(text[20:26]), tzinfo=UTC,
        )  # fmt: skip
    except ValueError as error:
        raise EvidenceError(f"no such time: {text!r}") from error


def posix_microseconds(time: datetime) -> int:
    """Whole microseconds since 1970 of an aware time, without passing through a float."""
    return (time - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
