"""Signed notes: text, an empty line, signature lines (C2SP signed-note).

    This is an example message.

    — example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=

A key is the pair (name, key ID). Lines of unknown keys are ignored, a line of a known key that does not verify rejects
the whole note, and so does a note without any line that verified. Key names never hold a space or a plus sign. What a
key of each type signs stands in keytypes.py.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from ...schemas.errors import EvidenceError, UsageError
from .keytypes import COSIGNATURE_ED25519, COSIGNATURE_ML_DSA_44, ED25519, SEED_SIZE, generic_key_id, key_type
from .wire import FORBIDDEN, decode_base64, encode_base64

__all__ = [
    "COSIGNATURE_ED25519",
    "COSIGNATURE_ML_DSA_44",
    "ED25519",
    "MAX_NOTE_BYTES",
    "MAX_SIGNATURES",
    "Note",
    "NoteSignature",
    "SignerKey",
    "VerifiedSignature",
    "VerifierKey",
    "parse_signature_line",
    "split_note",
]

MAX_SIGNATURES = 100
"""Signature lines in a note: the specification asks for at least 16; one ML-DSA line has about 3.3 kB."""
MAX_NOTE_BYTES = 1 << 20

_DASH = "\u2014 "
_MAX_NAME_CHARS = 1024
_MAX_VKEY_CHARS = 8192


def check_key_name(name: str) -> str:
    """`name` if it may name a key: not empty, no space of any kind, plus sign or control character."""
    if not name or len(name) > _MAX_NAME_CHARS:
        raise EvidenceError("a key name is empty or too long")
    if FORBIDDEN.search(name) or any(c == "+" or c.isspace() for c in name):
        raise EvidenceError(f"key name {name!r} holds a space, a plus sign or a control character")
    return name


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A public key with its name: `name+8 hex+base64(type byte || key)`."""

    name: str
    kind: int
    public: bytes
    key_id: bytes = field(init=False)

    def __post_init__(self) -> None:
        check_key_name(self.name)
        if not 0 <= self.kind <= 0xFF or not self.public:
            raise EvidenceError(f"the key of {self.name} has no key material")
        found = key_type(self.kind)
        if found is not None:
            found.check_public(self.public)
            key_id = found.key_id(self.name, self.public)
        else:
            key_id = generic_key_id(self.name, self.kind, self.public)
        object.__setattr__(self, "key_id", key_id)

    @classmethod
    def parse(cls, text: str, *, allow_unknown: bool = False) -> VerifierKey:
        """Read a verifier key; the key ID is recomputed and must match.

        Keys of unregistered types are refused, since nothing could be verified with them; with `allow_unknown` they
        are read, and `Note.verify` ignores their lines.
        """
        if len(text) > _MAX_VKEY_CHARS:
            raise EvidenceError("a verifier key is too long")
        # base64 may hold plus signs: only the first two separate
        parts = text.split("+", 2)
        if len(parts) != 3:
            raise EvidenceError("a verifier key has the form name+hex+base64")
        name, claimed, encoded = parts
        data = decode_base64(encoded, "the key material of a verifier key")
        if len(data) < 2:
            raise EvidenceError("a verifier key without key material")
        if key_type(data[0]) is None and not allow_unknown:
            raise EvidenceError(f"a verifier key of unknown type 0x{data[0]:02x}")
        key = cls(name, data[0], data[1:])
        if claimed != key.key_id.hex():
            raise EvidenceError(f"the key ID of {name} is {key.key_id.hex()}, not {claimed!r}")
        return key

    def encode(self) -> str:
        """`name+8 hex+base64`."""
        return f"{self.name}+{self.key_id.hex()}+{encode_base64(bytes([self.kind]) + self.public)}"

    def __str__(self) -> str:
        return self.encode()

    @property
    def timed(self) -> bool:
        """Whether this key's signatures carry a time (cosignature types)."""
        found = key_type(self.kind)
        return found is not None and found.timed


@dataclass(frozen=True, slots=True)
class SignerKey:
    """A private key with its name; `encode` gives `PRIVATE+KEY+name+8 hex+base64(type byte || 32-byte seed)`."""

    name: str
    kind: int
    seed: bytes = field(repr=False)
    verifier: VerifierKey = field(init=False)

    def __post_init__(self) -> None:
        if len(self.seed) != SEED_SIZE:
            raise EvidenceError(f"a private key's seed has {SEED_SIZE} bytes, not {len(self.seed)}")
        found = key_type(self.kind)
        if found is None:
            raise EvidenceError(f"a private key of unknown type 0x{self.kind:02x}")
        object.__setattr__(self, "verifier", VerifierKey(self.name, self.kind, found.public(self.seed)))

    @classmethod
    def generate(cls, name: str, kind: int = ED25519) -> SignerKey:
        """A fresh key from the operating system's randomness."""
        return cls(name, kind, secrets.token_bytes(SEED_SIZE))

    @classmethod
    def parse(cls, text: str) -> SignerKey:
        """Read a private key; the key ID is recomputed and must match. Messages never hold key material."""
        prefix = "PRIVATE+KEY+"
        parts = text.removeprefix(prefix).split("+", 2)
        if not text.startswith(prefix) or len(parts) != 3 or len(text) > _MAX_VKEY_CHARS:
            raise EvidenceError("a private key has the form PRIVATE+KEY+name+hex+base64")
        name, claimed, encoded = parts
        data = decode_base64(encoded, "the key material of a private key")
        if not data or key_type(data[0]) is None:
            raise EvidenceError("a private key of unknown type")
        try:
            key = cls(name, data[0], data[1:])
        except UsageError as error:
            raise EvidenceError(str(error)) from None
        if claimed != key.verifier.key_id.hex():
            raise EvidenceError(
                f"the key ID of the private key of {name} is {key.verifier.key_id.hex()}, not {claimed!r}"
            )
        return key

    def encode(self) -> str:
        """The secret text form; store it with mode 0600."""
        data = encode_base64(bytes([self.kind]) + self.seed)
        return f"PRIVATE+KEY+{self.name}+{self.verifier.key_id.hex()}+{data}"

    def sign(self, text: str, time: int | None = None) -> NoteSignature:
        """Sign a note's text; cosignature types need `time` in POSIX seconds, the others must not have one."""
        found = key_type(self.kind)
        if found is None:
            raise UsageError(f"key type 0x{self.kind:02x} cannot sign")
        return NoteSignature(self.name, self.verifier.key_id, found.sign(self.name, self.seed, text, time))


@dataclass(frozen=True, slots=True)
class NoteSignature:
    """One signature line, believed by nobody yet: name, 4-byte key ID, what follows."""

    name: str
    key_id: bytes
    signature: bytes

    @property
    def line(self) -> str:
        """The line as it stands in a note, with its newline."""
        return f"{_DASH}{self.name} {encode_base64(self.key_id + self.signature)}\n"


@dataclass(frozen=True, slots=True)
class VerifiedSignature:
    """A signature that verified: by which key, and at which time (POSIX seconds; None for untimed types)."""

    key: VerifierKey
    time: int | None
    signature: NoteSignature


def parse_signature_line(line: str) -> NoteSignature:
    """Read one signature line without its newline."""
    parts = line.removeprefix(_DASH).split(" ")
    if not line.startswith(_DASH) or len(parts) != 2:
        raise EvidenceError("a signature line has the form: em dash, space, name, space, base64")
    data = decode_base64(parts[1], "a signature")
    if len(data) < 5:
        raise EvidenceError("a signature line without a signature after its key ID")
    return NoteSignature(check_key_name(parts[0]), data[:4], data[4:])


def split_note(data: bytes) -> tuple[str, list[str]]:
    """(text, signature lines) of a note, the lines not yet looked into; `EvidenceError` beyond the caps."""
    if len(data) > MAX_NOTE_BYTES:
        raise EvidenceError(f"a note has more than {MAX_NOTE_BYTES} bytes")
    try:
        whole = data.decode()
    except UnicodeDecodeError:
        raise EvidenceError("invalid input: a note is not UTF-8") from None
    if not whole.endswith("\n"):
        raise EvidenceError("invalid input: the last line of a note does not end")
    # the text may hold empty lines of its own: the last one separates
    cut = whole.rfind("\n\n")
    if cut < 0 or cut + 2 == len(whole):
        raise EvidenceError("invalid input: a note without signature lines")
    lines = whole[cut + 2 : -1].split("\n")
    if len(lines) > MAX_SIGNATURES:
        raise EvidenceError(f"a note has more than {MAX_SIGNATURES} signature lines")
    return whole[: cut + 1], lines


@dataclass(frozen=True, slots=True)
class Note:
    """A text and its signatures, parsed but not yet verified."""

    text: str
    signatures: tuple[NoteSignature, ...] = ()

    def __post_init__(self) -> None:
        if not self.text.endswith("\n"):
            raise EvidenceError("a note's text does not end with a newline")
        if any(FORBIDDEN.search(line) for line in self.text.split("\n")):
            raise EvidenceError("a note holds a control character or a lone surrogate")

    @classmethod
    def parse(cls, data: bytes) -> Note:
        """Read a note of at most 1 MiB and 100 signature lines; `encode` gives the same bytes again."""
        text, lines = split_note(data)
        return cls(text, tuple(parse_signature_line(line) for line in lines))

    def encode(self) -> bytes:
        """The note's bytes; `UsageError` without a signature."""
        if not self.signatures:
            raise UsageError("a note without signatures cannot be written")
        return (self.text + "\n" + "".join(s.line for s in self.signatures)).encode()

    def sign(self, *signers: SignerKey, time: int | None = None) -> Note:
        """This note with further signatures; `time` goes to the cosignature types among the signers."""
        made = tuple(s.sign(self.text, time if s.verifier.timed else None) for s in signers)
        return self.add(*made)

    def add(self, *signatures: NoteSignature) -> Note:
        """This note with further signature lines, unverified."""
        return replace(self, signatures=self.signatures + signatures)

    def verify(self, keys: Iterable[VerifierKey]) -> tuple[VerifiedSignature, ...]:
        """The signatures by `keys`, all verified, in the note's order; `EvidenceError` if one fails or none is known.

        Lines by other keys, and by keys of unregistered types, are ignored. Two keys with the same name and key ID
        cannot be told apart and are refused.
        """
        verified = self.known_signatures(keys)
        if not verified:
            raise EvidenceError("no signature by a known key")
        return verified

    def known_signatures(self, keys: Iterable[VerifierKey]) -> tuple[VerifiedSignature, ...]:
        """As `verify`, but empty where no line is by one of `keys`: for callers that count who signed."""
        by_identity: dict[tuple[str, bytes], VerifierKey] = {}
        for key in keys:
            if by_identity.setdefault((key.name, key.key_id), key) != key:
                raise UsageError(f"two keys share the name {key.name} and key ID {key.key_id.hex()}")
        verified: list[VerifiedSignature] = []
        for line in self.signatures:
            key = by_identity.get((line.name, line.key_id))
            found = None if key is None else key_type(key.kind)
            if key is None or found is None:
                continue
            time = found.verify(key.name, key.public, self.text, line.signature)
            verified.append(VerifiedSignature(key, time, line))
        return tuple(verified)
