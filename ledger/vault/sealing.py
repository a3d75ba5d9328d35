"""How the rows of an encrypted vault are sealed: AES-256-GCM, a key of its own for every record (ADR 0010).

    record     = nonce || GCM(record key, record secret (32) || record JCS;
                              "plausible.vault-record/1\\n" || vault id || row's key)
    record key = nonce || GCM(data key, record key;
                              "plausible.vault-row/1\\n" || vault id || u64 data key's id || u64 row id || row)
    journal    = 0x01 || vault id || u64 journal key's id || nonce
                 || GCM(journal key, payload; "plausible.vault-journal/1\\n" || vault id || u64 journal key's id)

`row` is every column that stays in the clear (key, kind, model, name, draw, pixels, file, commitment), each with its
type and length. So a record that is moved to another row, a row whose digests were edited while it waits to be logged,
and a row written without the data key are all noticed. Nonces are 96 random bits; a record key encrypts once, and a
data key only record keys, of which 2^32 are safe. Deleting a record key makes its record unreadable wherever its bytes
still stand.
"""

from __future__ import annotations

import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ...schemas.errors import EvidenceError, SetupError
from ..notes.wire import u64
from .vaultkey import KEY_BYTES, NONCE_BYTES, Header, VaultKey, unwrap, wrap

if TYPE_CHECKING:
    from .vault import Submission

SEALED_VERSION = 2
"""PRAGMA user_version of an encrypted vault: a program that knows only plain ones refuses it."""

RECORDS, JOURNAL = "records", "journal"

_ROW = b"plausible.vault-row/1\n"
_RECORD = b"plausible.vault-record/1\n"
_JOURNAL = b"plausible.vault-journal/1\n"
SEALED_FRAME = b"\x01"
_SECRET_BYTES = 32
_TAG_BYTES = 16
SEALED_KEY_BYTES = NONCE_BYTES + KEY_BYTES + _TAG_BYTES
SEALED_RECORD_BYTES = NONCE_BYTES + _SECRET_BYTES + _TAG_BYTES
"""A sealed record has at least this many bytes."""

SEALING_DDL = (
    # the header in the clear, and the data keys wrapped with the wrapping key; the highest id of records is in use
    "CREATE TABLE vault_header (id INTEGER PRIMARY KEY CHECK (id = 1), header BLOB NOT NULL) STRICT",
    "CREATE TABLE vault_key "
    "(id INTEGER PRIMARY KEY AUTOINCREMENT, purpose TEXT NOT NULL, wrapped BLOB NOT NULL) STRICT",
    # apart from the rows: rotating rewrites this small table alone. No line here: the record was erased
    "CREATE TABLE record_key (submission INTEGER PRIMARY KEY, data_key INTEGER NOT NULL, wrapped BLOB NOT NULL) STRICT",
)


class RowChanged(SetupError):  # noqa: N818  (named by what happened)
    """A row of the vault is not what was sealed: edited, moved, or written by somebody without the key."""


@dataclass(frozen=True, slots=True, repr=False)
class Seal:
    """The opened keys of a vault: `current` seals new rows, the others open rows that a rotation has not reached."""

    header: Header
    stored: bytes
    keys: dict[int, AESGCM]
    current: int
    journal: dict[int, AESGCM]

    @classmethod
    def create(cls, connection: sqlite3.Connection, header: Header, wrapping_key: bytes) -> None:
        """Write a header and fresh data keys, inside the caller's transaction; the tables must be there."""
        connection.execute("INSERT INTO vault_header (id, header) VALUES (1, ?)", (header.encode(),))
        for purpose in (RECORDS, JOURNAL):
            cls.add_key(connection, header, wrapping_key, purpose)

    @classmethod
    def add_key(cls, connection: sqlite3.Connection, header: Header, wrapping_key: bytes, purpose: str) -> int:
        """A fresh data key, inside the caller's transaction; its id."""
        cursor = connection.execute("INSERT INTO vault_key (purpose, wrapped) VALUES (?, ?)", (purpose, b""))
        number = cursor.lastrowid or 0
        wrapped = wrap(wrapping_key, header, purpose, number, os.urandom(KEY_BYTES))
        connection.execute("UPDATE vault_key SET wrapped = ? WHERE id = ?", (wrapped, number))
        return number

    @classmethod
    def load(cls, stored: bytes, rows: list[Any], key: VaultKey, path: Path) -> Seal:
        """Open the data keys; `SetupError` with one sentence for a wrong key, a changed header or missing keys."""
        header = read_header(stored, path)
        wrapping_key = key.wrapping_key(header.kdf, path)
        keys: dict[str, dict[int, AESGCM]] = {RECORDS: {}, JOURNAL: {}}
        for number, purpose, wrapped in rows:
            if not isinstance(number, int) or number < 0 or not isinstance(wrapped, bytes):
                raise SetupError(f"{path} is damaged: a data key is not stored as one")
            if purpose in keys:
                keys[purpose][number] = AESGCM(unwrap(wrapping_key, header, purpose, number, wrapped, path))
        if not keys[RECORDS] or not keys[JOURNAL]:
            raise SetupError(f"{path} is damaged: its data keys are gone")
        return cls(header, stored, keys[RECORDS], max(keys[RECORDS]), keys[JOURNAL])

    # --- rows ---

    def seal_record(self, row: Submission) -> tuple[bytes, bytes | None]:
        """(fresh record key, sealed record); the second is None for a row without a record."""
        key = os.urandom(KEY_BYTES)
        if row.secret is None or row.record is None:
            return key, None
        nonce = os.urandom(NONCE_BYTES)
        return key, nonce + AESGCM(key).encrypt(nonce, row.secret + row.record, _RECORD + self.header.vault + row.key)

    def seal_key(self, number: int, row: Submission, key: bytes) -> bytes:
        """The record key of row `number`, wrapped with the current data key and bound to the row's columns."""
        nonce = os.urandom(NONCE_BYTES)
        return nonce + self.keys[self.current].encrypt(nonce, key, self._bound(self.current, number, row))

    def open_key(self, number: int, row: Submission, data_key: int, wrapped: bytes) -> bytes:
        """The record key of row `number`; `RowChanged` if the row is not what was sealed."""
        try:
            key = self.keys[data_key].decrypt(
                wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], self._bound(data_key, number, row)
            )
        except (InvalidTag, ValueError, KeyError):
            raise RowChanged(f"submission {number} of vault.db was changed after it was sealed") from None
        if len(key) != KEY_BYTES:
            raise RowChanged(f"the key of submission {number} of vault.db has {len(key)} bytes")
        return key

    def open_record(self, number: int, row: Submission, key: bytes, sealed: bytes) -> tuple[bytes, bytes]:
        """(record JCS, record secret) of a sealed record; `RowChanged` if it is another row's or was changed."""
        try:
            plain = AESGCM(key).decrypt(
                sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], _RECORD + self.header.vault + row.key
            )
        except (InvalidTag, ValueError):
            raise RowChanged(f"the record of submission {number} of vault.db was changed after it was sealed") from None
        return plain[_SECRET_BYTES:], plain[:_SECRET_BYTES]

    def _bound(self, data_key: int, number: int, row: Submission) -> bytes:
        columns = (row.key, row.kind, row.model, row.name, row.draw, row.pixels, row.file, row.commitment)
        return _ROW + self.header.vault + u64(data_key) + u64(number) + b"".join(map(_column, columns))

    # --- journal ---

    def seal_frame(self, payload: bytes) -> bytes:
        """A journal's payload, sealed."""
        nonce = os.urandom(NONCE_BYTES)
        number = max(self.journal)
        place = self.header.vault + u64(number)
        return SEALED_FRAME + place + nonce + self.journal[number].encrypt(nonce, payload, _JOURNAL + place)

    def open_frame(self, frame: bytes) -> bytes:
        """A sealed payload, opened; `EvidenceError` if it was sealed for another vault or changed."""
        place, nonce, sealed = frame[1:25], frame[25 : 25 + NONCE_BYTES], frame[25 + NONCE_BYTES :]
        try:
            if place[:16] != self.header.vault:
                raise EvidenceError("it was sealed for another vault")
            return self.journal[int.from_bytes(place[16:], "big")].decrypt(nonce, sealed, _JOURNAL + place)
        except (InvalidTag, ValueError, KeyError):
            raise EvidenceError("it was sealed for another vault, or changed") from None


def read_header(stored: object, path: Path) -> Header:
    """The header of an encrypted vault; `SetupError` if it is malformed or out of bounds."""
    if not isinstance(stored, bytes):
        raise SetupError(f"{path} is damaged: its header is no bytes")
    try:
        return Header.parse(stored)
    except EvidenceError as error:
        raise SetupError(f"{path} does not open: {error}") from None


def _column(value: bytes | str | int | None) -> bytes:
    if value is None:
        return b"\x00"
    if isinstance(value, bytes):
        return b"\x01" + len(value).to_bytes(4, "big") + value
    if isinstance(value, str):
        data = value.encode("utf-8")
        return b"\x02" + len(data).to_bytes(4, "big") + data
    return b"\x03" + value.to_bytes(8, "big", signed=True)
