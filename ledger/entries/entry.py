"""Entries: the public leaves of the log. Who, which model, which image, when, and a commitment to the record.

Leaf bytes are the JCS of a DSSE envelope around an in-toto statement, at most 65,535 of them, with exactly one
signature: Ed25519 by the author that the statement's header names. `parse_entry` believes nothing but the form;
`verify_entry` checks the signature against an author that the verifier pinned. Source: docs/spec/entry.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ...schemas.envelope import IN_TOTO_TYPE
from ...schemas.errors import EvidenceError, UsageError
from ...schemas.statement import (
    AuthorKeyStatement,
    AuthorRevocationStatement,
    GenerationStatement,
    Header,
    ModelStatement,
    Statement,
    parse_statement,
)
from ..merkle.tree import hash_leaf
from ..notes.dsse import Envelope, sign_envelope
from ..notes.note import ED25519, SignerKey, VerifierKey
from .authors import Author, Authors

MAX_ENTRY_BYTES = 65_535


@dataclass(frozen=True, slots=True)
class Entry:
    """A leaf that has the form of an entry; its signature is not yet believed. `leaf` are its bytes as received."""

    leaf: bytes = field(repr=False)
    statement: Statement
    author: VerifierKey
    envelope: Envelope = field(repr=False)

    @property
    def leaf_hash(self) -> bytes:
        """SHA-256(0x00 || leaf), 32 bytes."""
        return hash_leaf(self.leaf)

    @property
    def header(self) -> Header:
        """Author, chain, position in the chain, time."""
        return self.statement.header

    @property
    def generation(self) -> GenerationStatement | None:
        """The statement if the entry is about an image."""
        return self.statement if isinstance(self.statement, GenerationStatement) else None

    @property
    def model(self) -> ModelStatement | None:
        """The statement if the entry registers a model."""
        return self.statement if isinstance(self.statement, ModelStatement) else None

    @property
    def kind(self) -> str:
        """The statement's predicateType."""
        return self.statement.predicate_type


def sign_entry(statement: Statement, signer: SignerKey) -> bytes:
    """The leaf bytes of a statement signed by the author its header names."""
    vkey = signer.verifier.encode()
    if statement.header.author != vkey:
        raise UsageError(f"the header names {statement.header.author}, not the signing key {vkey}")
    for key in _named_keys(statement):
        VerifierKey.parse(key)
    leaf = sign_envelope(statement.to_jcs(), IN_TOTO_TYPE, signer)
    if len(leaf) > MAX_ENTRY_BYTES:
        raise UsageError(f"an entry has at most {MAX_ENTRY_BYTES} bytes, this one {len(leaf)}")
    return leaf


def parse_entry(leaf: bytes) -> Entry:
    """The entry in leaf bytes: own JCS, profile, keyid; `EvidenceError` otherwise. The signature is not checked."""
    envelope = Envelope.parse(leaf, limit=MAX_ENTRY_BYTES)
    return _profile(leaf, envelope)


def _profile(leaf: bytes, envelope: Envelope) -> Entry:
    if envelope.payload_type != IN_TOTO_TYPE:
        raise EvidenceError(f"entry: the payload is {envelope.payload_type!r}, not {IN_TOTO_TYPE!r}")
    statement = parse_statement(envelope.payload)
    keys = [VerifierKey.parse(text) for text in (statement.header.author, *_named_keys(statement))]
    for key in keys:
        if key.kind != ED25519:
            raise EvidenceError(f"entry: the key of {key.name} is no Ed25519 signing key")
    if envelope.keyid != keys[0].key_id.hex():
        raise EvidenceError(f"entry: the keyid is {envelope.keyid}, not that of the author in the header")
    return Entry(leaf, statement, keys[0], envelope)


def _named_keys(statement: Statement) -> tuple[str, ...]:
    """Keys a statement speaks of, beside its author's."""
    if isinstance(statement, AuthorKeyStatement):
        return (statement.predicate.successor,)
    if isinstance(statement, AuthorRevocationStatement):
        return (statement.predicate.revoked,)
    return ()


def verify_entry(entry: Entry, authors: Authors, *, index: int | None = None, origin: str | None = None) -> Author:
    """The pinned author who signed this entry.

    `index` and `origin` say where it stands, for revocations. Raises `PolicyError` if the author is not pinned or is
    revoked there, `EvidenceError` if the signature is false.
    """
    author = authors.check(entry.header.author, index, origin)
    entry.envelope.verify(author.key)
    return author


def check_succession(entry: Entry, previous: Entry) -> None:
    """`entry` directly follows `previous` in its chain; `EvidenceError` names what does not fit.

    Both must be proven to lie in the tree before this says anything.
    """
    header, before = entry.header, previous.header
    if (header.author, header.chain) != (before.author, before.chain):
        raise EvidenceError("chain: the two entries are of different chains")
    if header.seq != before.seq + 1:
        raise EvidenceError(f"chain: seq {header.seq} does not follow {before.seq}")
    if bytes.fromhex(header.prev.removeprefix("sha256:")) != previous.leaf_hash:
        raise EvidenceError(f"chain: prev of seq {header.seq} is not the hash of seq {before.seq}")
    if header.time < before.time:
        raise EvidenceError(f"chain: seq {header.seq} was accepted before its predecessor")


__all__ = [
    "MAX_ENTRY_BYTES",
    "Entry",
    "check_succession",
    "parse_entry",
    "sign_entry",
    "verify_entry",
]
