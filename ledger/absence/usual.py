"""Generations in the form that nearly all of them have, read by two patterns instead of two parsers.

Indexing a log reads every entry in full profile, which costs more than indexing it does. An entry has one byte form
only (docs/spec/json.md), so one whose author's key is plain ASCII is either matched by these patterns or no entry; what
they do not match is left to `parse_entry`. They must never match what that refuses: all that it checks is checked here
too, and tests/ledger/test_absence.py holds the two beside each other.
"""

from __future__ import annotations

import binascii
import functools
import re
from dataclasses import dataclass

from ...schemas.envelope import IN_TOTO_TYPE
from ...schemas.errors import EvidenceError
from ...schemas.jcs import MAX_SAFE_INTEGER
from ...schemas.statement import GENERATION, NO_PREVIOUS, STATEMENT_TYPE
from ...schemas.text import parse_time
from ..notes.note import ED25519, VerifierKey

_LARGEST = 8192
"""Bytes: below what an entry and its payload may have."""
_HEX = rb"[0-9a-f]{64}"
_NUMBER = rb"(0|[1-9][0-9]{0,15})"


def _text(value: str) -> bytes:
    return re.escape(value.encode("ascii"))


_ENVELOPE = re.compile(
    rb'\{"payload":"([A-Za-z0-9+/]+={0,2})","payloadType":"' + _text(IN_TOTO_TYPE) + rb'","signatures":'
    rb'\[\{"keyid":"([0-9a-f]{8})","sig":"([A-Za-z0-9+/]{85}[AQgw]==)"\}\]\}'
)
_STATEMENT = re.compile(
    rb'\{"_type":"' + _text(STATEMENT_TYPE) + rb'","predicate":\{"commitment":"sha256:' + _HEX + rb'","draw":' + _NUMBER
    +
    rb',"header":\{"author":"([!#-*,-\[\]-~]{1,200}\+[0-9a-f]{8}\+[A-Za-z0-9+/]{44})","chain":"([0-9a-f]{32})","prev":"'
    rb'(sha256:' + _HEX + rb')","seq":' + _NUMBER + rb',"time":"([0-9T:.Z-]{27})"\},"model":"sha256:' + _HEX +
    rb'"\},"predicateType":"' + _text(GENERATION) + rb'","subject":\[\{"digest":\{"plausiblePixels1":"(' + _HEX +
    rb')"\},"name":"pixels"\}(?:,\{"digest":\{"sha256":"(' + _HEX + rb')"\},"name":"file"\})?\]\}'
)  # fmt: skip
_NO_PREVIOUS = NO_PREVIOUS.encode()


@dataclass(frozen=True, slots=True)
class Usual:
    """A generation as read: what `parse_entry` would give, its signature (64 bytes over `payload`) not verified."""

    payload: bytes
    signature: bytes
    author: str
    chain: str
    seq: int
    prev: bytes
    time: str
    draw: int
    pixels: bytes
    file: bytes | None


def usual_generation(leaf: bytes) -> tuple[bytes, bytes | None] | None:
    """(pixel digest, file digest or None) of a generation in its usual form; None: `parse_entry` must say."""
    found = _read(leaf)
    if found is None:
        return None
    *_, pixels, file = found[2].groups()
    return bytes.fromhex(pixels.decode("ascii")), None if file is None else bytes.fromhex(file.decode("ascii"))


def read_usual(leaf: bytes) -> Usual | None:
    """All of a generation in its usual form; None: `parse_entry` must say."""
    found = _read(leaf)
    if found is None:
        return None
    payload, signature, statement = found
    draw, author, chain, previous, seq, time, pixels, file = statement.groups()
    return Usual(
        payload,
        binascii.a2b_base64(signature),
        author.decode("ascii"),
        chain.decode("ascii"),
        int(seq),
        bytes.fromhex(previous[7:].decode("ascii")),
        time.decode("ascii"),
        int(draw),
        bytes.fromhex(pixels.decode("ascii")),
        None if file is None else bytes.fromhex(file.decode("ascii")),
    )


def _read(leaf: bytes) -> tuple[bytes, bytes, re.Match[bytes]] | None:
    """(payload, signature in base64, the statement's match) of what the patterns match and the profile accepts."""
    if len(leaf) > _LARGEST:
        return None
    envelope = _ENVELOPE.fullmatch(leaf)
    if envelope is None:
        return None
    encoded, keyid, signature = envelope.groups()
    try:
        payload = binascii.a2b_base64(encoded)
    except binascii.Error:
        return None
    if binascii.b2a_base64(payload, newline=False) != encoded:
        return None
    statement = _STATEMENT.fullmatch(payload)
    if statement is None:
        return None
    draw, author, _, previous, seq, time, _, _ = statement.groups()
    if int(draw) > MAX_SAFE_INTEGER or int(seq) > MAX_SAFE_INTEGER or (seq == b"0") != (previous == _NO_PREVIOUS):
        return None
    if _key_id(author) != keyid:
        return None
    try:
        parse_time(time.decode("ascii"))
    except EvidenceError:
        return None
    return payload, signature, statement


@functools.lru_cache(maxsize=256)
def _key_id(author: bytes) -> bytes | None:
    """The key ID in hex of an author's verifier key; None if it is no Ed25519 key."""
    try:
        key = VerifierKey.parse(author.decode("ascii"))
    except EvidenceError:
        return None
    return key.key_id.hex().encode() if key.kind == ED25519 else None


__all__ = ["Usual", "read_usual", "usual_generation"]
