"""The five in-toto statements an entry can carry, each about exactly one thing.

| predicateType | predicate beside `header` | subject |
| --- | --- | --- |
| urn:plausible:generation:v1 | commitment, draw, model | pixels, and file where known |
| urn:plausible:model:v1 | manifest | model |
| urn:plausible:author-key:v1 | successor | key |
| urn:plausible:author-revocation:v1 | revoked | key |
| urn:plausible:seed-epoch:v1 | first_draw, count, root | epoch |

Only DigestSets (`subject.digest`) hold bare hex; every other digest is `sha256:...`. Source: docs/spec/entry.md.
"""

from __future__ import annotations

import hashlib
import re
from typing import Annotated, Final, Literal, Self, TypeAlias, cast

from pydantic import Field, model_validator

from . import jcs, text
from .document import DigestText, Document, Hex32, Hex64, SafeInt, TimeText, VkeyText
from .errors import EvidenceError

STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
GENERATION: Final = "urn:plausible:generation:v1"
MODEL: Final = "urn:plausible:model:v1"
AUTHOR_KEY: Final = "urn:plausible:author-key:v1"
AUTHOR_REVOCATION: Final = "urn:plausible:author-revocation:v1"
SEED_EPOCH: Final = "urn:plausible:seed-epoch:v1"

NO_PREVIOUS: Final = "sha256:" + "0" * 64
"""`prev` of a chain's first entry."""
MAX_PAYLOAD_BYTES: Final = 49_152
"""A leaf has at most 65,535 bytes and base64 takes a third more than its payload."""

_TypeField: TypeAlias = Annotated[Literal["https://in-toto.io/Statement/v1"], Field(alias="_type")]


class Header(Document):
    """Who wrote an entry and where it stands in the author's chain; signed at acceptance by the chain's sequencer."""

    author: VkeyText
    chain: Hex32
    prev: DigestText
    seq: SafeInt
    time: TimeText

    @model_validator(mode="after")
    def _first_has_no_previous(self) -> Self:
        if (self.seq == 0) != (self.prev == NO_PREVIOUS):
            raise EvidenceError("header: prev is zeros for seq 0 and for no other")
        return self


class PixelsDigest(Document):
    """The DigestSet of a picture's samples."""

    plausible_pixels1: Hex64 = Field(alias="plausiblePixels1")


class Sha256Digest(Document):
    """The DigestSet of bytes."""

    sha256: Hex64


class PixelsSubject(Document):
    """A picture by its samples."""

    digest: PixelsDigest
    name: Literal["pixels"] = "pixels"


class FileSubject(Document):
    """A picture by the bytes of its file."""

    digest: Sha256Digest
    name: Literal["file"] = "file"


class ModelSubject(Document):
    """A model by its manifest."""

    digest: Sha256Digest
    name: Literal["model"] = "model"


class KeySubject(Document):
    """A key by the SHA-256 of its verifier key's text."""

    digest: Sha256Digest
    name: Literal["key"] = "key"


class EpochSubject(Document):
    """A seed epoch by its root."""

    digest: Sha256Digest
    name: Literal["epoch"] = "epoch"


class GenerationPredicate(Document):
    """`commitment`: root of the record; `draw`: the number its seeds were derived for; `model`: its manifest."""

    commitment: DigestText
    draw: SafeInt
    header: Header
    model: DigestText


class ModelPredicate(Document):
    """`manifest`: the digest of the model's manifest."""

    header: Header
    manifest: DigestText


class AuthorKeyPredicate(Document):
    """`successor`: the key that will start a new chain."""

    header: Header
    successor: VkeyText


class AuthorRevocationPredicate(Document):
    """`revoked`: the key whose entries count no more from here on."""

    header: Header
    revoked: VkeyText


class SeedEpochPredicate(Document):
    """`root` of the RFC 6962 tree over the seeds of `count` draws from `first_draw` on."""

    count: Annotated[int, Field(ge=1, le=jcs.MAX_SAFE_INTEGER)]
    first_draw: SafeInt
    header: Header
    root: DigestText


class GenerationStatement(Document):
    """An image was made by a model, and the record behind it is committed to."""

    type_: _TypeField = STATEMENT_TYPE
    predicate: GenerationPredicate
    predicate_type: Literal["urn:plausible:generation:v1"] = Field(default=GENERATION, alias="predicateType")
    subject: tuple[Annotated[PixelsSubject | FileSubject, Field(discriminator="name")], ...]

    @model_validator(mode="after")
    def _pixels_then_file(self) -> Self:
        if [subject.name for subject in self.subject] not in (["pixels"], ["pixels", "file"]):
            raise EvidenceError("a generation's subjects are pixels, or pixels and file, in this order")
        return self

    @classmethod
    def make(
        cls, header: Header, *, commitment: bytes, draw: int, model: bytes, pixels: bytes, file: bytes | None = None
    ) -> GenerationStatement:
        """From 32-byte digests."""
        subjects: list[PixelsSubject | FileSubject] = [
            PixelsSubject(digest=PixelsDigest(plausiblePixels1=pixels.hex()))
        ]
        if file is not None:
            subjects.append(FileSubject(digest=Sha256Digest(sha256=file.hex())))
        predicate = GenerationPredicate(
            commitment=text.digest_text(commitment), draw=draw, header=header, model=text.digest_text(model)
        )
        return cls(predicate=predicate, subject=tuple(subjects))

    @property
    def header(self) -> Header:
        return self.predicate.header

    @property
    def commitment(self) -> bytes:
        """Root of the record, 32 bytes."""
        return text.parse_digest(self.predicate.commitment)

    @property
    def draw(self) -> int:
        return self.predicate.draw

    @property
    def model(self) -> bytes:
        """The model's digest, 32 bytes."""
        return text.parse_digest(self.predicate.model)

    @property
    def pixels(self) -> bytes:
        """The picture's pixel digest, 32 bytes."""
        return bytes.fromhex(cast(PixelsSubject, self.subject[0]).digest.plausible_pixels1)

    @property
    def file(self) -> bytes | None:
        """The file's digest, 32 bytes, where it was known at acceptance."""
        return bytes.fromhex(cast(FileSubject, self.subject[1]).digest.sha256) if len(self.subject) == 2 else None


class ModelStatement(Document):
    """A model exists under this manifest."""

    type_: _TypeField = STATEMENT_TYPE
    predicate: ModelPredicate
    predicate_type: Literal["urn:plausible:model:v1"] = Field(default=MODEL, alias="predicateType")
    subject: tuple[ModelSubject]

    @model_validator(mode="after")
    def _subject_is_the_manifest(self) -> Self:
        _require_subject(self.subject[0].digest, text.parse_digest(self.predicate.manifest), "manifest")
        return self

    @classmethod
    def make(cls, header: Header, *, manifest: bytes) -> ModelStatement:
        """From the 32-byte digest of the manifest."""
        predicate = ModelPredicate(header=header, manifest=text.digest_text(manifest))
        return cls(predicate=predicate, subject=(ModelSubject(digest=Sha256Digest(sha256=manifest.hex())),))

    @property
    def header(self) -> Header:
        return self.predicate.header

    @property
    def manifest(self) -> bytes:
        """The model's digest, 32 bytes."""
        return text.parse_digest(self.predicate.manifest)


class AuthorKeyStatement(Document):
    """An author names the key that succeeds this one."""

    type_: _TypeField = STATEMENT_TYPE
    predicate: AuthorKeyPredicate
    predicate_type: Literal["urn:plausible:author-key:v1"] = Field(default=AUTHOR_KEY, alias="predicateType")
    subject: tuple[KeySubject]

    @model_validator(mode="after")
    def _subject_is_the_key(self) -> Self:
        _require_subject(self.subject[0].digest, _text_digest(self.predicate.successor), "successor")
        return self

    @classmethod
    def make(cls, header: Header, *, successor: str) -> AuthorKeyStatement:
        """From the successor's verifier key text."""
        subject = KeySubject(digest=Sha256Digest(sha256=_text_digest(successor).hex()))
        return cls(predicate=AuthorKeyPredicate(header=header, successor=successor), subject=(subject,))

    @property
    def header(self) -> Header:
        return self.predicate.header


class AuthorRevocationStatement(Document):
    """A key's entries count no more from this entry on; signed by the key itself or by a successor it named."""

    type_: _TypeField = STATEMENT_TYPE
    predicate: AuthorRevocationPredicate
    predicate_type: Literal["urn:plausible:author-revocation:v1"] = Field(
        default=AUTHOR_REVOCATION, alias="predicateType"
    )
    subject: tuple[KeySubject]

    @model_validator(mode="after")
    def _subject_is_the_key(self) -> Self:
        _require_subject(self.subject[0].digest, _text_digest(self.predicate.revoked), "revoked")
        return self

    @classmethod
    def make(cls, header: Header, *, revoked: str) -> AuthorRevocationStatement:
        """From the revoked verifier key's text."""
        subject = KeySubject(digest=Sha256Digest(sha256=_text_digest(revoked).hex()))
        return cls(predicate=AuthorRevocationPredicate(header=header, revoked=revoked), subject=(subject,))

    @property
    def header(self) -> Header:
        return self.predicate.header


class SeedEpochStatement(Document):
    """The seeds of these draws are fixed from here on."""

    type_: _TypeField = STATEMENT_TYPE
    predicate: SeedEpochPredicate
    predicate_type: Literal["urn:plausible:seed-epoch:v1"] = Field(default=SEED_EPOCH, alias="predicateType")
    subject: tuple[EpochSubject]

    @model_validator(mode="after")
    def _subject_is_the_root(self) -> Self:
        _require_subject(self.subject[0].digest, text.parse_digest(self.predicate.root), "root")
        return self

    @classmethod
    def make(cls, header: Header, *, first_draw: int, count: int, root: bytes) -> SeedEpochStatement:
        """From the 32-byte root of the seeds' tree."""
        predicate = SeedEpochPredicate(count=count, first_draw=first_draw, header=header, root=text.digest_text(root))
        return cls(predicate=predicate, subject=(EpochSubject(digest=Sha256Digest(sha256=root.hex())),))

    @property
    def header(self) -> Header:
        return self.predicate.header


Statement: TypeAlias = (
    GenerationStatement | ModelStatement | AuthorKeyStatement | AuthorRevocationStatement | SeedEpochStatement
)

_KIND = re.compile(rb'"predicateType":"([^"\\]{1,200})"')

STATEMENTS: Final[dict[str, type[Statement]]] = {
    GENERATION: GenerationStatement,
    MODEL: ModelStatement,
    AUTHOR_KEY: AuthorKeyStatement,
    AUTHOR_REVOCATION: AuthorRevocationStatement,
    SEED_EPOCH: SeedEpochStatement,
}


def parse_statement(data: bytes) -> Statement:
    """The statement in a payload; `EvidenceError` unless it is one of the five, in its only byte form."""
    # which of the five it says it is; whether it is that, `parse` decides by the whole of it, decoded once
    said = _KIND.search(data, 0, MAX_PAYLOAD_BYTES)
    model = None if said is None else STATEMENTS.get(said[1].decode("ascii", "replace"))
    if model is None:
        value = jcs.decode(data, limit=MAX_PAYLOAD_BYTES, what="statement")
        kind = value.get("predicateType") if isinstance(value, dict) else None
        raise EvidenceError(f"statement of an unknown predicateType: {str(kind)[:80]!r}")
    return model.parse(data, limit=MAX_PAYLOAD_BYTES, what="statement")


def _text_digest(value: str) -> bytes:
    return hashlib.sha256(value.encode("utf-8")).digest()


def _require_subject(found: Sha256Digest, expected: bytes, what: str) -> None:
    if found.sha256 != expected.hex():
        raise EvidenceError(f"the statement's subject is not its predicate's {what}")
