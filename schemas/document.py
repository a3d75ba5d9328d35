"""The base of every document: strict types, frozen, unknown fields refused, and exactly one byte form.

`parse` takes bytes that equal their own JCS *and* equal what the parsed model writes again, so a field that is left
out although it is null is refused like any other second spelling. All failures are `EvidenceError`.
"""

from __future__ import annotations

from typing import Annotated, Any, Self, cast

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, StringConstraints, ValidationError

from . import jcs, text
from .errors import EvidenceError


class Document(BaseModel):
    """Base of the models of everything that is written down."""

    model_config = ConfigDict(
        strict=True,
        frozen=True,
        extra="forbid",
        populate_by_name=True,
        arbitrary_types_allowed=False,
        protected_namespaces=(),
    )

    @classmethod
    def parse(cls, data: bytes, *, limit: int = jcs.DEFAULT_LIMIT, what: str | None = None) -> Self:
        """The document in `data`; `EvidenceError` unless these are the only bytes it has."""
        name = what or cls.__name__.lower()
        cls._look(jcs.decode(data, limit=limit, what=name))
        try:
            document = cls.model_validate_json(data)
        except ValidationError as error:
            raise EvidenceError(f"{name}: {describe(error)}") from error
        except RecursionError as error:
            raise EvidenceError(f"{name} is nested too deeply") from error
        if document.to_jcs() != data:
            raise EvidenceError(f"{name} leaves out a field that must be written, null included")
        return document

    @classmethod
    def _look(cls, value: jcs.Json) -> None:
        """What a document refuses by name before its types are checked; nothing here."""

    @classmethod
    def of(cls, value: object, what: str | None = None) -> Self:
        """The document of an already parsed JSON value, under the same rules as `parse`."""
        return cls.parse(jcs.encode(value), what=what)

    def to_json(self) -> dict[str, Any]:
        """The JSON value: plain dictionaries and lists."""
        return self.model_dump(mode="json", by_alias=True)

    def to_jcs(self) -> bytes:
        """The document's bytes."""
        return jcs.encode(self.to_json())


def describe(error: ValidationError) -> str:
    """The first mistake of a validation in one sentence, without the value (it may be private)."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    message = str(first["msg"]).removeprefix("Value error, ")
    return f"{place}: {message}" if place else message


def _canonical_base64(value: str) -> str:
    text.unb64(value)
    return value


def _real_time(value: str) -> str:
    text.parse_time(value)
    return value


def _exact(value: JsonValue) -> JsonValue:
    """Refuse plain JSON fractions: recorded numbers are integers or wrapped, so that they come back bit for bit."""
    stack: list[Any] = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, float):
            raise EvidenceError('a recorded fraction is written {"f64": ...}')
        if isinstance(item, dict):
            stack.extend(cast("dict[str, Any]", item).values())
        elif isinstance(item, list):
            stack.extend(cast("list[Any]", item))
    return value


SafeInt = Annotated[int, Field(ge=0, le=jcs.MAX_SAFE_INTEGER)]
"""A JSON integer from 0 to 2^53 - 1."""
DigestText = Annotated[str, StringConstraints(pattern=text.DIGEST_PATTERN)]
"""`sha256:` + 64 lowercase hex."""
Hex32 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
Hex64 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
TimeText = Annotated[str, StringConstraints(pattern=text.TIME_PATTERN), AfterValidator(_real_time)]
Base64Text = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9+/]*={0,2}$"), AfterValidator(_canonical_base64)]
VkeyText = Annotated[
    str, StringConstraints(pattern=r"^[^+\s\x00-\x1f]{1,1024}\+[0-9a-f]{8}\+[A-Za-z0-9+/]{44}$", max_length=1100)
]
"""An Ed25519 verifier key `name+8 hex+base64`; that the key ID belongs to the key is checked where keys are."""
Word = Annotated[str, StringConstraints(min_length=1, max_length=1024)]
Recorded = Annotated[JsonValue, AfterValidator(_exact)]
"""Free JSON whose numbers are integers or wrapped (`jcs.wrap_value`)."""
