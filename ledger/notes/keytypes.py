"""What a signature of each key type covers: the open set behind signed notes (C2SP signed-note, tlog-cosignature).

| byte | name | public key | signature after the key ID | covers |
| --- | --- | --- | --- | --- |
| 0x01 | ed25519 | 32 B | 64 B | the note text |
| 0x02 | ecdsa | DER SPKI | DER | the note text (read only: old witnesses and Rekor v1) |
| 0x04 | cosignature-ed25519 | 32 B | 8 B time, 64 B | `cosignature/v1`, `time N`, the note text |
| 0x06 | cosignature-ml-dsa-44 | 1,312 B | 8 B time, 2,420 B | `subtree/v1`, names, time, range, root |

Another type is another `KeyType` in `register`. Keys of unregistered types are never an error in a note: their lines
are ignored. ML-DSA needs a `cryptography` that has it; without it those keys raise `SetupError` when used.
"""

from __future__ import annotations

import functools
import hashlib
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from ...schemas.errors import EvidenceError, SetupError, UsageError
from .checkpoint import Checkpoint
from .wire import HASH_SIZE, MAX_SIZE, u64

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey, MLDSA44PublicKey

ED25519 = 0x01
ECDSA = 0x02
COSIGNATURE_ED25519 = 0x04
COSIGNATURE_ML_DSA_44 = 0x06

SEED_SIZE = 32
"""Bytes of a private key as stored: the seed that both Ed25519 and ML-DSA-44 start from."""


class KeyType(ABC):
    """One row of the table: how keys of a type are checked, named, and what their signatures cover."""

    code: int
    label: str
    timed = False
    """Whether signatures carry a time in POSIX seconds (cosignatures)."""

    def key_id(self, name: str, public: bytes) -> bytes:
        """First four bytes of SHA-256(name || 0x0A || type || public key)."""
        return generic_key_id(name, self.code, public)

    @abstractmethod
    def check_public(self, public: bytes) -> None:
        """Raise `EvidenceError` unless `public` has the form of this type's public keys."""

    @abstractmethod
    def verify(self, name: str, public: bytes, text: str, signature: bytes) -> int | None:
        """Check what follows the key ID against a note's text; the time it carries, or None for untimed types."""

    def public(self, seed: bytes) -> bytes:
        """The public key of a 32-byte seed."""
        raise UsageError(f"keys of type {self.label} are only read here, never made")

    def sign(self, name: str, seed: bytes, text: str, time: int | None) -> bytes:
        """What follows the key ID in a signature of `text`; timed types need `time`, others must not have it."""
        raise UsageError(f"keys of type {self.label} are only read here, never made")


def generic_key_id(name: str, code: int, public: bytes) -> bytes:
    """The key ID of C2SP signed-note: four bytes."""
    return hashlib.sha256(name.encode() + b"\n" + bytes([code]) + public).digest()[:4]


@functools.lru_cache(maxsize=16)
def ed25519_private(seed: bytes) -> Ed25519PrivateKey:
    """The private key of a 32-byte seed; making it takes as long as a signature, so the last few are kept."""
    return Ed25519PrivateKey.from_private_bytes(seed)


def _fail(label: str, name: str) -> EvidenceError:
    return EvidenceError(f"invalid signature: the {label} signature by {name} does not verify")


def _verify_ed25519(label: str, name: str, public: bytes, signature: bytes, message: bytes) -> None:
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        raise _fail(label, name) from None


def _require_length(label: str, public: bytes, length: int) -> None:
    if len(public) != length:
        raise EvidenceError(f"a public key of type {label} has {length} bytes, not {len(public)}")


class _Ed25519(KeyType):
    code = ED25519
    label = "ed25519"

    def check_public(self, public: bytes) -> None:
        _require_length(self.label, public, 32)

    def verify(self, name: str, public: bytes, text: str, signature: bytes) -> int | None:
        _verify_ed25519(self.label, name, public, signature, text.encode())
        return None

    def public(self, seed: bytes) -> bytes:
        return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()

    def sign(self, name: str, seed: bytes, text: str, time: int | None) -> bytes:
        if time is not None:
            raise UsageError(f"signatures of type {self.label} carry no time")
        return ed25519_private(seed).sign(text.encode())


class _Ecdsa(KeyType):
    code = ECDSA
    label = "ecdsa"

    def key_id(self, name: str, public: bytes) -> bytes:
        """ECDSA keys are identified by their DER form alone."""
        return hashlib.sha256(public).digest()[:4]

    def _load(self, public: bytes) -> ec.EllipticCurvePublicKey:
        try:
            key = serialization.load_der_public_key(public)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            raise EvidenceError("an ecdsa public key is not a DER SubjectPublicKeyInfo") from None
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise EvidenceError("an ecdsa public key holds a key of another algorithm")
        return key

    def check_public(self, public: bytes) -> None:
        self._load(public)

    def verify(self, name: str, public: bytes, text: str, signature: bytes) -> int | None:
        try:
            self._load(public).verify(signature, text.encode(), ec.ECDSA(hashes.SHA256()))
        except (InvalidSignature, ValueError, UnsupportedAlgorithm):
            raise _fail(self.label, name) from None


class _Timed(KeyType):
    timed = True
    signature_size: int

    def split_time(self, name: str, signature: bytes) -> tuple[int, bytes]:
        """(time in seconds, raw signature)."""
        if len(signature) != 8 + self.signature_size:
            raise _fail(self.label, name)
        time = int.from_bytes(signature[:8], "big")
        # the message spells the time in decimal or u64; Go's signed time ends at 2**63 - 1
        if time > MAX_SIZE:
            raise _fail(self.label, name)
        return time, signature[8:]

    def require_time(self, time: int | None) -> int:
        """The time a signer was given, in range."""
        if time is None or not 0 < time <= MAX_SIZE:
            raise UsageError(f"a {self.label} needs a time in POSIX seconds after 1970, not {time}")
        return time


def cosignature_message(text: str, time: int) -> bytes:
    """What an Ed25519 cosignature/v1 signs: a header, the time, the whole note text with extension lines."""
    return f"cosignature/v1\ntime {time}\n{text}".encode()


class _CosignatureEd25519(_Timed):
    code = COSIGNATURE_ED25519
    label = "cosignature-ed25519"
    signature_size = 64

    def check_public(self, public: bytes) -> None:
        _require_length(self.label, public, 32)

    def verify(self, name: str, public: bytes, text: str, signature: bytes) -> int | None:
        time, raw = self.split_time(name, signature)
        _verify_ed25519(self.label, name, public, raw, cosignature_message(text, time))
        return time

    def public(self, seed: bytes) -> bytes:
        return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()

    def sign(self, name: str, seed: bytes, text: str, time: int | None) -> bytes:
        time = self.require_time(time)
        return u64(time) + ed25519_private(seed).sign(cosignature_message(text, time))


def subtree_message(name: str, time: int, origin: str, start: int, end: int, root: bytes) -> bytes:
    """What an ML-DSA-44 cosignature signs about the subtree [start, end) of a log (a checkpoint: [0, size)).

    `subtree/v1` 0x0A 0x00 | u8 length, cosigner name | u64 time | u8 length, origin | u64 start | u64 end | root
    """
    if len(root) != HASH_SIZE:
        raise EvidenceError(f"a subtree root has {HASH_SIZE} bytes, not {len(root)}")
    parts: list[bytes] = []
    for what, value in (("cosigner name", name), ("origin", origin)):
        encoded = value.encode()
        if not 0 < len(encoded) <= 255:
            raise EvidenceError(f"the {what} in a subtree cosignature has 1 to 255 bytes, not {len(encoded)}")
        parts.append(bytes([len(encoded)]) + encoded)
    return b"subtree/v1\n\x00" + parts[0] + u64(time) + parts[1] + u64(start) + u64(end) + root


class _CosignatureMlDsa44(_Timed):
    code = COSIGNATURE_ML_DSA_44
    label = "cosignature-ml-dsa-44"
    signature_size = 2420

    def check_public(self, public: bytes) -> None:
        _require_length(self.label, public, 1312)

    def message(self, name: str, text: str, time: int) -> bytes:
        checkpoint = Checkpoint.parse(text, check_empty=False)
        return subtree_message(name, time, checkpoint.origin, 0, checkpoint.size, checkpoint.root)

    def verify(self, name: str, public: bytes, text: str, signature: bytes) -> int | None:
        time, raw = self.split_time(name, signature)
        self.verify_message(name, public, self.message(name, text, time), raw)
        return time

    def verify_message(self, name: str, public: bytes, message: bytes, raw: bytes) -> None:
        """Check a raw 2,420-byte signature over `message` (empty FIPS 204 context)."""
        try:
            _ml_dsa_public(public).verify(raw, message)
        except (InvalidSignature, ValueError):
            raise _fail(self.label, name) from None

    def public(self, seed: bytes) -> bytes:
        return _ml_dsa_private(seed).public_key().public_bytes_raw()

    def sign(self, name: str, seed: bytes, text: str, time: int | None) -> bytes:
        time = self.require_time(time)
        return u64(time) + self.sign_message(seed, self.message(name, text, time))

    def sign_message(self, seed: bytes, message: bytes) -> bytes:
        """A raw signature over `message`; randomised, so never compare two."""
        return _ml_dsa_private(seed).sign(message)


def has_ml_dsa() -> bool:
    """Whether this machine can make and check ML-DSA-44 signatures."""
    try:
        _ml_dsa_private(bytes(SEED_SIZE))
    except SetupError:
        return False
    return True


def _ml_dsa_private(seed: bytes) -> MLDSA44PrivateKey:
    try:
        from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

        return MLDSA44PrivateKey.from_seed_bytes(seed)
    except (ImportError, UnsupportedAlgorithm):
        raise SetupError(_NO_ML_DSA) from None


def _ml_dsa_public(public: bytes) -> MLDSA44PublicKey:
    try:
        from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PublicKey

        return MLDSA44PublicKey.from_public_bytes(public)
    except (ImportError, UnsupportedAlgorithm):
        raise SetupError(_NO_ML_DSA) from None


_NO_ML_DSA = "this machine's cryptography package has no ML-DSA-44: install cryptography 48 or newer"

ML_DSA_44 = _CosignatureMlDsa44()
_TYPES: dict[int, KeyType] = {}


def register(kind: KeyType) -> None:
    """Add a key type to the open set; a type byte cannot be taken twice."""
    if kind.code in _TYPES:
        raise UsageError(f"key type 0x{kind.code:02x} is already registered")
    _TYPES[kind.code] = kind


def key_type(code: int) -> KeyType | None:
    """The registered type with this byte, or None."""
    return _TYPES.get(code)


for _kind in (_Ed25519(), _Ecdsa(), _CosignatureEd25519(), ML_DSA_44):
    register(_kind)
