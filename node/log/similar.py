"""Lookup by perceptual hash, for whom the developer allows: off unless service.toml names both files.

    GET /similar?pdq=HEX[&within=BITS]      Authorization: Bearer TOKEN
                                            plausible.similar/1 (JCS): entries [{distance, index}], nearest first

A perceptual hash is a blurred picture, so it is in no entry and nobody can ask without the token. `hashes` is a file
that the developer makes of the pictures he has: a line `INDEX PDQ` each, the entry's index and the 256-bit PDQ in 64
hex digits; it is read anew when it changes. An answer is a lead, no evidence: what it names is looked up and compared.
"""

from __future__ import annotations

import hmac
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...ledger.notes.wire import parse_decimal
from ...schemas import jcs
from ...schemas.errors import EvidenceError, SetupError
from ...schemas.text import parse_hex

NEAR_BITS = 31
"""How far a hash may be if nobody says: the usual bound for one picture in other files."""
MAX_BITS = 96
MAX_ANSWERS = 32
MAX_FILE_BYTES = 1 << 28
MIN_TOKEN = 24


@dataclass(frozen=True, slots=True)
class _Hashes:
    stamp: tuple[int, int]
    indexes: NDArray[np.int64]
    bits: NDArray[np.uint8]
    """[n, 32]."""


class Similar:
    """The hashes of one file behind one token; calls from any thread."""

    def __init__(self, hashes: Path, token: Path) -> None:
        """`SetupError` if a file is missing or malformed, or the token shorter than 24 characters."""
        try:
            self._token = token.read_bytes().strip()
        except OSError as error:
            raise SetupError(f"{token} cannot be read: {error.strerror}") from None
        if len(self._token) < MIN_TOKEN:
            raise SetupError(f"the token in {token} has fewer than {MIN_TOKEN} characters: who guesses it may ask")
        self._path = hashes
        self._lock = threading.Lock()
        self._hashes = self._read()

    def allows(self, authorization: str) -> bool:
        """Whether an Authorization header carries the token."""
        return hmac.compare_digest(b"Bearer " + self._token, authorization.encode("utf-8", "replace"))

    def answer(self, query: Mapping[str, str]) -> bytes:
        """The entries whose pictures are near; `EvidenceError` if the query is malformed."""
        if not {"pdq"} <= set(query) <= {"pdq", "within"}:
            raise EvidenceError("a lookup names pdq as 64 hex digits, and within as a number of bits")
        asked = np.frombuffer(parse_hex(query["pdq"], 32, "pdq"), np.uint8)
        within = parse_decimal(query.get("within", str(NEAR_BITS)), "within", MAX_BITS)
        with self._lock:
            if self._stamp() != self._hashes.stamp:
                self._hashes = self._read()
            known = self._hashes
        distances = np.unpackbits(known.bits ^ asked, axis=1).sum(axis=1, dtype=np.int64)
        order = np.lexsort((known.indexes, distances))
        near = [int(n) for n in order[: MAX_ANSWERS + 1] if distances[n] <= within]
        entries: list[jcs.Json] = [
            {"distance": int(distances[n]), "index": int(known.indexes[n])} for n in near[:MAX_ANSWERS]
        ]
        return jcs.encode({"entries": entries, "format": "plausible.similar/1", "more": len(near) > MAX_ANSWERS})

    def _stamp(self) -> tuple[int, int]:
        try:
            found = self._path.stat()
        except OSError as error:
            raise SetupError(f"{self._path} cannot be read: {error.strerror}") from None
        return found.st_mtime_ns, found.st_size

    def _read(self) -> _Hashes:
        stamp = self._stamp()
        try:
            with self._path.open("rb") as file:
                data = file.read(MAX_FILE_BYTES + 1)
        except OSError as error:
            raise SetupError(f"{self._path} cannot be read: {error.strerror}") from None
        if len(data) > MAX_FILE_BYTES:
            raise SetupError(f"{self._path} has more than {MAX_FILE_BYTES} bytes")
        indexes: list[int] = []
        bits: list[bytes] = []
        for number, line in enumerate(data.decode("ascii", "replace").split("\n"), 1):
            if not line or line.startswith("#"):
                continue
            index, _, value = line.partition(" ")
            try:
                indexes.append(parse_decimal(index, "the index"))
                bits.append(parse_hex(value, 32, "the hash"))
            except EvidenceError as error:
                raise SetupError(f"{self._path} line {number}: {error}") from None
        packed = np.frombuffer(b"".join(bits), np.uint8).reshape(-1, 32)
        return _Hashes(stamp, np.array(indexes, np.int64), packed)
