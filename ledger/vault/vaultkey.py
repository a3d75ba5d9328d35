"""What opens an encrypted vault: a key from a file or from a passphrase, and the header that says which.

    header  = JCS {"complete": true, "format": "plausible.vault/1", "id": "32 hex", "kdf": {...}}
    kdf     = {"name": "file"} | {"n": 131072, "name": "scrypt", "p": 1, "r": 8, "salt": "32 hex"}
    wrapped = nonce (12) || AES-256-GCM(wrapping key, data key; associated data = header || purpose || u64 id)

The wrapping key (32 bytes) opens the data keys; nothing else is encrypted with it. As the header is associated data of
every wrapped key, whoever edits it (a cheaper scrypt, `complete` back to false) gets a vault that does not open. The
parameters of scrypt are held to bounds before they are used: a file must not choose how much memory its reader spends.
A key file is one line, `plausible-vault-key-1 BASE64`, read only if nobody but its owner can read it.
"""

from __future__ import annotations

import os
import secrets
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from ...schemas import jcs
from ...schemas.errors import EvidenceError, SetupError, UsageError
from ...schemas.text import parse_hex
from ..keys.keyfile import read_private
from ..notes.wire import decode_base64, encode_base64, u64
from ..storage.disk import storage, write_file

FORMAT = "plausible.vault/1"
KEY_BYTES = 32
NONCE_BYTES = 12
KEY_VARIABLE = "PD_VAULT_KEY"
PASSPHRASE_VARIABLE = "PD_VAULT_PASSPHRASE"  # noqa: S105  (the name of a variable)
MIN_PASSPHRASE = 8
"""Characters of a new passphrase at least; long ones are what protects, scrypt only multiplies the price of a guess."""

SCRYPT_N = 1 << 17
_SCRYPT_R, _SCRYPT_P = 8, 1
_MIN_N, _MAX_N, _MAX_R, _MAX_P, _MAX_MEMORY = 1 << 14, 1 << 22, 32, 16, 1 << 30
_FILE_WORD = "plausible-vault-key-1"
_MAX_HEADER = 4096


class VaultLocked(SetupError):  # noqa: N818  (named by what happened)
    """An encrypted vault does not open with what was given: no key, another, or the header was changed."""


@dataclass(frozen=True, slots=True)
class Kdf:
    """How the wrapping key is made: `file` (the file's 32 bytes as they are) or `scrypt` (RFC 7914)."""

    name: str
    salt: bytes = b""
    n: int = 0
    r: int = 0
    p: int = 0

    @classmethod
    def scrypt(cls, n: int = SCRYPT_N) -> Kdf:
        """Fresh parameters: 16 random bytes of salt, r = 8, p = 1; 128 MiB and some tenths of a second by default."""
        return cls("scrypt", secrets.token_bytes(16), n, _SCRYPT_R, _SCRYPT_P)

    def to_json(self) -> dict[str, Any]:
        """The `kdf` member of a header."""
        if self.name == "file":
            return {"name": "file"}
        return {"name": "scrypt", "salt": self.salt.hex(), "n": self.n, "r": self.r, "p": self.p}


@dataclass(frozen=True, slots=True)
class Header:
    """What stands in the clear in an encrypted vault. `complete` is false while plain rows are still being sealed."""

    vault: bytes
    kdf: Kdf
    complete: bool = True

    def encode(self) -> bytes:
        """The bytes that are stored and that every wrapped key is bound to."""
        value = {"format": FORMAT, "id": self.vault.hex(), "complete": self.complete, "kdf": self.kdf.to_json()}
        return jcs.encode(value)

    @classmethod
    def parse(cls, data: bytes) -> Header:
        """Read a header; `EvidenceError` if it is malformed or its scrypt is out of bounds."""
        value: Any = jcs.decode(data, limit=_MAX_HEADER, what="the vault's header")
        table = cast("dict[str, Any]", value) if isinstance(value, dict) else {}
        if set(table) != {"format", "id", "complete", "kdf"}:
            raise EvidenceError("the vault's header has other fields than it should")
        if table["format"] != FORMAT or not isinstance(table["complete"], bool) or not isinstance(table["id"], str):
            raise EvidenceError("the vault's header is of another format")
        return cls(parse_hex(table["id"], 16, "the vault's id"), _parse_kdf(table["kdf"]), table["complete"])


def _parse_kdf(value: Any) -> Kdf:
    if value == {"name": "file"}:
        return Kdf("file")
    table = cast("dict[str, Any]", value) if isinstance(value, dict) else {}
    if set(table) != {"name", "salt", "n", "r", "p"}:
        raise EvidenceError("the vault's header names no way to its key that this program knows")
    n, r, p = table["n"], table["r"], table["p"]
    if table["name"] != "scrypt" or not isinstance(table["salt"], str):
        raise EvidenceError("the vault's header names no way to its key that this program knows")
    if not all(isinstance(number, int) and not isinstance(number, bool) for number in (n, r, p)):
        raise EvidenceError("the scrypt parameters of the vault are not integers")
    within = _MIN_N <= n <= _MAX_N and n & (n - 1) == 0 and 1 <= r <= _MAX_R and 1 <= p <= _MAX_P
    if not within or 128 * n * r > _MAX_MEMORY:
        raise EvidenceError(f"the scrypt parameters of the vault are out of bounds: n = {n}, r = {r}, p = {p}")
    return Kdf("scrypt", parse_hex(table["salt"], 16, "the salt"), n, r, p)


@dataclass(frozen=True, slots=True, repr=False)
class VaultKey:
    """What a person holds: the bytes of a key file, or a passphrase. Never shown by `repr`."""

    secret: bytes
    passphrase: bool
    scrypt_n: int = SCRYPT_N
    _derived: dict[Kdf, bytes] = field(default_factory=dict[Kdf, bytes], compare=False)

    @classmethod
    def from_file(cls, path: Path | str) -> VaultKey:
        """Read a key file; `SetupError` if it is absent, malformed or readable by others."""
        path = Path(path)
        text = read_private(path, "the vault's key file", 1024)
        try:
            word, _, value = text.decode("ascii").strip().partition(" ")
            key = decode_base64(value, "the key")
        except (UnicodeDecodeError, EvidenceError):
            word, key = "", b""
        if word != _FILE_WORD or len(key) != KEY_BYTES:
            raise SetupError(f"{path} is no key file of a vault")
        return cls(key, passphrase=False)

    @classmethod
    def make_file(cls, path: Path | str) -> VaultKey:
        """Make a fresh key file (mode 0600, durable); `UsageError` if the file exists."""
        path = Path(path)
        key = secrets.token_bytes(KEY_BYTES)
        try:
            with storage(f"writing {path}"):
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                write_file(path, f"{_FILE_WORD} {encode_base64(key)}\n".encode(), mode=0o600, exclusive=True)
        except SetupError as error:
            if isinstance(error.__cause__, FileExistsError):
                raise UsageError(f"{path} exists; a key file is never replaced") from None
            raise
        return cls(key, passphrase=False)

    @classmethod
    def from_passphrase(cls, text: str, *, scrypt_n: int = SCRYPT_N) -> VaultKey:
        """A passphrase (UTF-8 of its NFC form). `scrypt_n` counts for vaults that are locked with it from now on."""
        try:
            secret = unicodedata.normalize("NFC", text).encode("utf-8")
        except UnicodeEncodeError:
            raise UsageError("the passphrase is no valid text") from None
        if not secret:
            raise UsageError("the passphrase is empty")
        return cls(secret, passphrase=True, scrypt_n=scrypt_n)

    @classmethod
    def from_environment(cls) -> VaultKey | None:
        """The key file that PD_VAULT_KEY names, or the passphrase in PD_VAULT_PASSPHRASE; None if neither is set."""
        if path := os.environ.get(KEY_VARIABLE):
            return cls.from_file(path)
        if text := os.environ.get(PASSPHRASE_VARIABLE):
            return cls.from_passphrase(text)
        return None

    def new_kdf(self) -> Kdf:
        """Parameters for a vault that is to be locked with this key; refuses a short passphrase (`UsageError`)."""
        if not self.passphrase:
            return Kdf("file")
        if len(self.secret.decode("utf-8")) < MIN_PASSPHRASE:
            raise UsageError(f"a passphrase has at least {MIN_PASSPHRASE} characters")
        return Kdf.scrypt(self.scrypt_n)

    def wrapping_key(self, kdf: Kdf, where: Path) -> bytes:
        """The 32 bytes that open the data keys; `VaultLocked` if the vault is locked in the other way."""
        if self.passphrase != (kdf.name == "scrypt"):
            raise VaultLocked(wanted(where, kdf, "another kind of key was given"))
        if not self.passphrase:
            return self.secret
        # a fork or a second open in one process does not pay again
        found = self._derived.get(kdf)
        if found is None:
            try:
                found = Scrypt(salt=kdf.salt, length=KEY_BYTES, n=kdf.n, r=kdf.r, p=kdf.p).derive(self.secret)
            except MemoryError:
                need = 128 * kdf.n * kdf.r >> 20
                raise SetupError(f"{where} does not open here: its passphrase needs {need} MiB of memory") from None
            self._derived[kdf] = found
        return found

    def __repr__(self) -> str:
        return f"<VaultKey {'passphrase' if self.passphrase else 'file'}>"


def wanted(path: Path, kdf: Kdf, why: str = "no key was given") -> str:
    """The sentence for a vault whose key is missing or of the wrong kind."""
    if kdf.name == "scrypt":
        return (
            f"{path} is encrypted and {why}: it opens with its passphrase ({PASSPHRASE_VARIABLE}, or asked for by pd)"
        )
    return f"{path} is encrypted and {why}: it opens with its key file ({KEY_VARIABLE}, or vault_key=)"


def wrap(wrapping_key: bytes, header: Header, purpose: str, number: int, key: bytes) -> bytes:
    """A data key as it is stored."""
    nonce = secrets.token_bytes(NONCE_BYTES)
    return nonce + AESGCM(wrapping_key).encrypt(nonce, key, _bound(header, purpose, number))


def unwrap(wrapping_key: bytes, header: Header, purpose: str, number: int, wrapped: bytes, where: Path) -> bytes:
    """A stored data key, opened; `VaultLocked` if the wrapping key is another or what it is bound to was changed."""
    try:
        key = AESGCM(wrapping_key).decrypt(
            wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:], _bound(header, purpose, number)
        )
    except (InvalidTag, ValueError):
        what = "passphrase" if header.kdf.name == "scrypt" else "key"
        raise VaultLocked(f"{where} does not open: the {what} is wrong, or the vault's header was changed") from None
    if len(key) != KEY_BYTES:
        raise SetupError(f"{where} holds a data key of {len(key)} bytes")
    return key


def _bound(header: Header, purpose: str, number: int) -> bytes:
    return header.encode() + b"\n" + purpose.encode() + b"\n" + u64(number)
