"""DSSE v1: one Ed25519 signature over the pre-authentication encoding of a typed payload.

Entries and reports share this form. The envelope is JCS here, carries exactly one signature, and its keyid is the key
ID of the signer's verifier key, which only helps to name a mismatch: the signature decides. Source: DSSE v1 protocol
and docs/spec/entry.md.
"""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from ...schemas import jcs
from ...schemas.envelope import Envelope as EnvelopeDocument
from ...schemas.envelope import EnvelopeSignature
from ...schemas.errors import EvidenceError, UsageError
from ...schemas.text import b64, unb64
from .keytypes import ed25519_private
from .note import ED25519, SignerKey, VerifierKey


def pae(payload_type: str, payload: bytes) -> bytes:
    """`DSSEv1 SP len(type) SP type SP len(payload) SP payload`, lengths in decimal bytes: what a signature covers."""
    kind = payload_type.encode("utf-8")
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


@dataclass(frozen=True, slots=True)
class Envelope:
    """A parsed envelope: `signature` (64 bytes) is believed only after `verify`."""

    payload_type: str
    payload: bytes
    keyid: str
    signature: bytes

    @classmethod
    def parse(cls, data: bytes, *, limit: int = jcs.DEFAULT_LIMIT) -> Envelope:
        """Read an envelope; `EvidenceError` unless it equals its own JCS and has the one form."""
        document = EnvelopeDocument.parse(data, limit=limit, what="envelope")
        [signature] = document.signatures
        raw = unb64(signature.sig, "a signature")
        if len(raw) != 64:
            raise EvidenceError(f"envelope: an Ed25519 signature has 64 bytes, not {len(raw)}")
        return cls(document.payload_type, unb64(document.payload, "a payload"), signature.keyid, raw)

    def encode(self) -> bytes:
        """The envelope's bytes."""
        signature = EnvelopeSignature(keyid=self.keyid, sig=b64(self.signature))
        document = EnvelopeDocument(payload=b64(self.payload), payloadType=self.payload_type, signatures=(signature,))
        return document.to_jcs()

    def verify(self, key: VerifierKey) -> None:
        """The one signature is by `key`, or an `EvidenceError`."""
        if key.kind != ED25519:
            raise EvidenceError(f"the key {key.name} is no Ed25519 signing key")
        if self.keyid != key.key_id.hex():
            raise EvidenceError(f"the envelope's keyid is {self.keyid}, not that of {key.name}")
        try:
            public = Ed25519PublicKey.from_public_bytes(key.public)
            public.verify(self.signature, pae(self.payload_type, self.payload))
        except (InvalidSignature, ValueError):
            raise EvidenceError(f"invalid signature: the envelope is not signed by {key.name}") from None


def sign_envelope(payload: bytes, payload_type: str, signer: SignerKey) -> bytes:
    """The bytes of an envelope around `payload`, signed by an Ed25519 key."""
    if signer.kind != ED25519:
        raise UsageError(f"the key {signer.name} cannot sign envelopes: its type is not Ed25519")
    signature = ed25519_private(signer.seed).sign(pae(payload_type, payload))
    return Envelope(payload_type, payload, signer.verifier.key_id.hex(), signature).encode()


def open_envelope(data: bytes, payload_type: str, key: VerifierKey, *, limit: int = jcs.DEFAULT_LIMIT) -> bytes:
    """The payload of an envelope of this type signed by this key; `EvidenceError` otherwise."""
    envelope = Envelope.parse(data, limit=limit)
    if envelope.payload_type != payload_type:
        raise EvidenceError(f"the envelope holds {envelope.payload_type!r}, not {payload_type!r}")
    envelope.verify(key)
    return envelope.payload
