"""A record's commitment and its openings: ten salted leaves, so that a court may get the seed and not the prompt.

    leaf i = JCS([name, value, salt]),  salt = hex of HMAC-SHA-256(record secret, "plausible.salt/1\n" || name)

The commitment is the RFC 6962 root over the ten leaves in the record's order; absent fields are null and have a leaf
too. An opening brings fields, salts and paths; positions and sizes come from here. Whoever holds an opening trusts
nobody: `verify_opening` ties it to an entry or raises `EvidenceError`. Source: docs/spec/record.md, opening.md.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from ...schemas import jcs
from ...schemas.document import Document
from ...schemas.errors import EvidenceError, UsageError
from ...schemas.opening import MAX_OPENING_BYTES, OpenedField, Opening
from ...schemas.record import (
    FIELDS,
    REPLAY_FIELDS,
    Call,
    Context,
    Environment,
    Input,
    Latent,
    Output,
    Record,
    Rng,
    Tolerance,
    weakest_grade,
)
from ...schemas.text import digest_text, parse_digest, unb64
from ..merkle.tree import CompactRange, MemoryTree, hash_leaf, verify_inclusion
from ..seeds.committed import check_values
from .entry import Entry

SECRET_BYTES = 32
_DocumentT = TypeVar("_DocumentT", bound=Document)


def new_record_secret() -> bytes:
    """32 fresh random bytes, kept in the vault; with them gone a commitment opens no more."""
    return secrets.token_bytes(SECRET_BYTES)


def salt(secret: bytes, name: str) -> bytes:
    """The salt of one field, 32 bytes."""
    if len(secret) != SECRET_BYTES:
        raise UsageError(f"a record secret has {SECRET_BYTES} bytes, not {len(secret)}")
    return hmac.digest(secret, b"plausible.salt/1\n" + name.encode("ascii"), "sha256")


def _leaf_hash(name: str, value: object, salt_hex: str) -> bytes:
    return hash_leaf(jcs.encode([name, value, salt_hex]))


def _tree(record: Record, secret: bytes) -> tuple[dict[str, Any], MemoryTree]:
    values = record.to_json()
    return values, MemoryTree(_leaf_hash(name, values[name], salt(secret, name).hex()) for name in FIELDS)


def commit_encoded(record: Record, secret: bytes) -> tuple[bytes, bytes]:
    """(commitment, the record's JCS), each field encoded once: what a recorder needs of every image."""
    values = record.to_json()
    parts = {name: jcs.encode(values[name]) for name in FIELDS}
    # JCS of [name, value, salt]: names and salts are plain ASCII
    leaves = (b'["%b",%b,"%b"]' % (n.encode(), parts[n], salt(secret, n).hex().encode()) for n in FIELDS)
    tree = CompactRange()
    tree.extend([hash_leaf(leaf) for leaf in leaves])
    commitment = tree.root()
    parts["format"] = jcs.encode(values["format"])
    members = (b'"%b":%b' % (name.encode(), parts[name]) for name in sorted(parts))
    return commitment, b"{" + b",".join(members) + b"}"


def commit(record: Record, secret: bytes) -> bytes:
    """The commitment of a record, 32 bytes: what its entry carries."""
    return _tree(record, secret)[1].root()


def make_opening(record: Record, secret: bytes, fields: Iterable[str] = REPLAY_FIELDS) -> bytes:
    """The bytes of an opening of these fields; `context` is always among them.

    The default is what a replay needs; name `tolerance` too where it is to count. `FIELDS` opens everything.
    """
    wanted = {"context", *fields}
    unknown = wanted.difference(FIELDS)
    if unknown:
        raise UsageError(f"a record has no field {sorted(unknown)[0]!r}")
    values, tree = _tree(record, secret)
    opened = tuple(
        OpenedField(
            name=name,
            path=tuple(digest_text(value) for value in tree.inclusion(position)),
            salt=salt(secret, name).hex(),
            value=values[name],
        )
        for position, name in enumerate(FIELDS)
        if name in wanted
    )
    return Opening(fields=opened).to_jcs()


@dataclass(frozen=True, slots=True)
class OpenedRecord:
    """The disclosed part of a record, tied to its entry.

    An attribute is None where the field is null *or* was not disclosed; `disclosed` tells them apart.
    """

    context: Context
    disclosed: frozenset[str]
    rng: Rng | None = field(default=None, repr=False)
    latent: Latent | None = field(default=None, repr=False)
    style: Mapping[str, Input] | None = field(default=None, repr=False)
    noise: Mapping[str, Input] | None = field(default=None, repr=False)
    call: Call | None = field(default=None, repr=False)
    environment: Environment | None = None
    output: Output | None = None
    tolerance: Tolerance | None = None
    extra: object = field(default=None, repr=False)

    @property
    def missing_for_replay(self) -> tuple[str, ...]:
        """Names of the fields 0 to 7 that were not disclosed."""
        return tuple(name for name in REPLAY_FIELDS if name not in self.disclosed)


def open_record(record: Record) -> OpenedRecord:
    """A whole record as its own ledger sees it; the values are checked, the commitment is not."""
    opened = OpenedRecord(
        context=record.context, disclosed=frozenset(FIELDS),
        rng=record.rng, latent=record.latent, style=record.style, noise=record.noise, call=record.call,
        environment=record.environment, output=record.output, tolerance=record.tolerance, extra=record.extra,
    )  # fmt: skip
    check_stored_values(opened)
    return opened


def parse_opening(data: bytes) -> Opening:
    """The opening in a file's bytes; `EvidenceError` by name for each way in which it can be malformed."""
    return Opening.parse(data, limit=MAX_OPENING_BYTES, what="opening")


def verify_opening(opening: bytes | Opening, entry: Entry) -> OpenedRecord:
    """The fields an opening discloses of the record behind `entry`.

    Guaranteed: every field hashes into the entry's commitment at its own place, `context` equals the entry, `output`'s
    digests equal `context`'s, and stored values are those of their digests. `EvidenceError` otherwise.
    """
    parsed = opening if isinstance(opening, Opening) else parse_opening(opening)
    check_commitment(parsed, entry)
    opened = read_fields(parsed)
    check_context(opened, entry)
    check_stored_values(opened)
    return opened


def check_commitment(opening: Opening, entry: Entry) -> None:
    """Every field of the opening hashes into the entry's commitment at its name's place, or an `EvidenceError`."""
    statement = entry.generation
    if statement is None:
        raise EvidenceError("opening: the entry is not about an image, so it has no record")
    root = statement.commitment
    for part in opening.fields:
        position = FIELDS.index(part.name)
        path = [parse_digest(value) for value in part.path]
        try:
            verify_inclusion(position, len(FIELDS), _leaf_hash(part.name, part.value, part.salt), path, root)
        except EvidenceError as error:
            raise EvidenceError(f"opening: {part.name} does not match the entry's commitment: {error}") from None


def read_fields(opening: Opening) -> OpenedRecord:
    """The opening's fields under their models; nothing is compared with an entry yet."""
    values: dict[str, Any] = {part.name: part.value for part in opening.fields}

    def model(name: str, kind: type[_DocumentT]) -> _DocumentT | None:
        value = values.get(name)
        return None if value is None else kind.of(value, what=f"opening: {name}")

    def inputs(name: str) -> dict[str, Input] | None:
        value = values.get(name)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise EvidenceError(f"opening: {name} is not a map of inputs")
        items = cast("dict[str, object]", value)
        return {key: Input.of(item, what=f"opening: {name}.{key[:40]}") for key, item in items.items()}

    context = model("context", Context)
    if context is None:
        raise EvidenceError("context missing: an opening always discloses it, and it is never null")
    return OpenedRecord(
        context=context,
        disclosed=frozenset(values),
        rng=model("rng", Rng),
        latent=model("latent", Latent),
        style=inputs("style"),
        noise=inputs("noise"),
        call=model("call", Call),
        environment=model("environment", Environment),
        output=model("output", Output),
        tolerance=model("tolerance", Tolerance),
        extra=values.get("extra"),
    )


def check_context(opened: OpenedRecord, entry: Entry) -> None:
    """`context` says what the entry says and `output` what `context` says, or an `EvidenceError` naming the field."""
    statement = entry.generation
    if statement is None:
        raise EvidenceError("opening: the entry is not about an image, so it has no record")
    header = statement.header
    expected = {
        "author": header.author,
        "chain": header.chain,
        "draw": statement.draw,
        "model": digest_text(statement.model),
        "pixels": digest_text(statement.pixels),
        "file": None if statement.file is None else digest_text(statement.file),
    }
    found = opened.context.to_json()
    for name, value in expected.items():
        if found[name] != value:
            raise EvidenceError(f"foreign context: the record's {name} is not the entry's")
    if opened.output is not None:
        for name in ("pixels", "file"):
            if getattr(opened.output, name) != getattr(opened.context, name):
                raise EvidenceError(f"opening: output's {name} is not context's")


def check_stored_values(opened: OpenedRecord) -> None:
    """Stored bytes (generator states, latent, tensors) are those of the digests beside them, or an `EvidenceError`."""
    for number, source in enumerate(opened.rng.sources if opened.rng else ()):
        if source.state is not None:
            state = unb64(source.state, "a generator's state")
            if hashlib.sha256(state).digest() != parse_digest(source.sha256):
                raise EvidenceError(f"rng: the state of source {number} is not that of its digest")
    latent = opened.latent
    if latent is not None and latent.values is not None:
        check_values("latent", latent.dtype, latent.shape, unb64(latent.values, "latent"), latent.sha256)
    for kind, inputs in (("style", opened.style), ("noise", opened.noise)):
        for name, item in (inputs or {}).items():
            tensor = item.tensor
            if tensor is not None and tensor.values is not None:
                check_values(f"{kind}.{name}", tensor.dtype, tensor.shape, unb64(tensor.values, name), tensor.sha256)


__all__ = [
    "FIELDS",
    "REPLAY_FIELDS",
    "OpenedRecord",
    "commit",
    "commit_encoded",
    "make_opening",
    "new_record_secret",
    "open_record",
    "parse_opening",
    "verify_opening",
    "weakest_grade",
]
