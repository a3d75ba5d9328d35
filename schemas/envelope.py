"""The DSSE envelope as it is written down: a payload, its type, exactly one signature.

Source: DSSE v1 and docs/spec/entry.md. What the signature covers is `ledger/notes/dsse.py`.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from .document import Base64Text, Document

IN_TOTO_TYPE = "application/vnd.in-toto+json"
REPORT_TYPE = "application/vnd.plausible.report+json"


class EnvelopeSignature(Document):
    """`keyid`: the 8 hex digits of the signer's verifier key; `sig`: 64 bytes of Ed25519 in base64."""

    keyid: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{8}$")]
    sig: Annotated[Base64Text, StringConstraints(min_length=88, max_length=88)]


class Envelope(Document):
    """`payload` is base64 of the bytes that `payloadType` names."""

    payload: Base64Text
    payload_type: Annotated[str, StringConstraints(min_length=1, max_length=256)] = Field(alias="payloadType")
    signatures: tuple[EnvelopeSignature]
