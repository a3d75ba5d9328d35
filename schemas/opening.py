"""An opening, `plausible.opening/1`: some fields of a record with their salts and paths.

It never brings a position or a size: those follow from a field's name and the ten fields of a record, so one field
cannot be shown in the place of another. Fields stand in the record's order. Source: docs/spec/opening.md.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from . import jcs
from .document import DigestText, Document, Hex64, Recorded
from .errors import EvidenceError
from .record import FIELDS

FORMAT: Final = "plausible.opening/1"
MAX_OPENING_BYTES: Final = 64 * 1024 * 1024
"""A record may hold a latent's and a generator's bytes; what is larger than this is no evidence one can send."""

_POSITIONS = frozenset({"index", "position", "size", "leaf", "n", "count"})


class OpenedField(Document):
    """One disclosed field: `value` as committed, `salt`, and the sibling hashes from its leaf to the root."""

    name: str
    path: Annotated[tuple[DigestText, ...], Field(max_length=4)]
    salt: Hex64
    value: Recorded


class Opening(Document):
    """The disclosed fields in the record's order, `context` always among them."""

    fields: Annotated[tuple[OpenedField, ...], Field(min_length=1, max_length=len(FIELDS))]
    format: Literal["plausible.opening/1"] = FORMAT

    @classmethod
    def _look(cls, value: jcs.Json) -> None:
        parts: list[object] = [value]
        if isinstance(value, dict) and isinstance(fields := value.get("fields"), list):
            parts.extend(fields)
        for part in parts:
            chosen = _POSITIONS.intersection(part) if isinstance(part, dict) else ()
            if chosen:
                raise EvidenceError(f"chosen position: an opening brings no {min(chosen)!r}")

    @model_validator(mode="after")
    def _fields_in_order(self) -> Self:
        names = [field.name for field in self.fields]
        for name in names:
            if name not in FIELDS:
                raise EvidenceError(f"unknown field: a record has no {name[:40]!r}")
            if names.count(name) > 1:
                raise EvidenceError(f"field given twice: the opening brings {name!r} more than once")
        if names != sorted(names, key=FIELDS.index):
            raise EvidenceError("the opening's fields are not in the record's order")
        if names[0] != "context":
            raise EvidenceError("context missing: an opening always discloses it")
        return self
