"""A contradiction, `plausible.contradiction/1`: a file that shows to anyone, offline, that what was signed is false.

The kind says which of a closed list, and which fields there are; nothing in it is believed because it is written down:
`ledger.contradiction.verify` derives it all anew from signatures and hashes. Source: docs/spec/contradiction.md.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self, TypeAlias

from pydantic import Field, StringConstraints, model_validator

from . import jcs
from .document import Base64Text, DigestText, Document, SafeInt, VkeyText
from .errors import EvidenceError

FORMAT: Final = "plausible.contradiction/1"
MAX_CONTRADICTION_BYTES: Final = 64 * 1024 * 1024
"""A file somebody can send and check; a log whose entries are more leaves them out (`Run.leaves` null)."""
MAX_KEYS: Final = 4
"""Keys of one log in a file: more than one while one follows another."""

_Format: TypeAlias = Literal["plausible.contradiction/1"]
_Text: TypeAlias = Annotated[str, StringConstraints(min_length=1, max_length=2 * 1024 * 1024)]
_Keys: TypeAlias = Annotated[tuple[VkeyText, ...], Field(min_length=1, max_length=MAX_KEYS)]
_Path: TypeAlias = Annotated[tuple[DigestText, ...], Field(max_length=64)]


class Run(Document):
    """Entries `start` to `end` - 1 and how they hash into a head: the right edge before them, the proof behind them.

    `leaves` is null where they are too many for a file: then they are read from a copy of the log.
    """

    edge: _Path
    end: SafeInt
    leaves: tuple[Base64Text, ...] | None
    path: _Path
    start: SafeInt

    @model_validator(mode="after")
    def _as_many_as_said(self) -> Self:
        if self.start >= self.end or (self.leaves is not None and len(self.leaves) != self.end - self.start):
            raise EvidenceError("a run of entries has as many leaves as lie between its start and its end")
        return self


class TwoHeads(Document):
    """Two heads of one size with different roots."""

    format: _Format = FORMAT
    heads: tuple[_Text, _Text]
    keys: _Keys
    kind: Literal["two-heads"] = "two-heads"


class InconsistentHeads(Document):
    """A head and a larger one whose first entries are others: `path` leads from `root`, not from the first head's."""

    format: _Format = FORMAT
    heads: tuple[_Text, _Text]
    keys: _Keys
    kind: Literal["inconsistent-heads"] = "inconsistent-heads"
    path: _Path
    root: DigestText


class FalseEntry(Document):
    """One entry in the log, by its tlog-proof, that breaks a rule by itself."""

    format: _Format = FORMAT
    keys: _Keys
    kind: Literal["false-entry"] = "false-entry"
    proof: _Text


class EntryPair(Document):
    """Two entries in the log, by their tlog-proofs, that cannot both stand in one chain."""

    format: _Format = FORMAT
    keys: _Keys
    kind: Literal["entry-pair"] = "entry-pair"
    proofs: tuple[_Text, _Text]


class ChainGap(Document):
    """A run of entries at whose end a chain goes on with a number that does not follow."""

    format: _Format = FORMAT
    head: _Text
    keys: _Keys
    kind: Literal["chain-gap"] = "chain-gap"
    run: Run


class IndexTree(Document):
    """An index note about a tree that is not the log's: as `InconsistentHeads`, with the note as the first head."""

    format: _Format = FORMAT
    head: _Text
    index_key: VkeyText
    keys: _Keys
    kind: Literal["index-tree"] = "index-tree"
    note: _Text
    path: _Path
    root: DigestText


class IndexRoot(Document):
    """An index note whose index root is not what the entries under its own tree root give."""

    format: _Format = FORMAT
    index_key: VkeyText
    kind: Literal["index-root"] = "index-root"
    note: _Text
    run: Run


Contradiction: TypeAlias = TwoHeads | InconsistentHeads | FalseEntry | EntryPair | ChainGap | IndexTree | IndexRoot

KINDS: Final[dict[str, type[Contradiction]]] = {
    "two-heads": TwoHeads,
    "inconsistent-heads": InconsistentHeads,
    "false-entry": FalseEntry,
    "entry-pair": EntryPair,
    "chain-gap": ChainGap,
    "index-tree": IndexTree,
    "index-root": IndexRoot,
}


def parse_contradiction(data: bytes) -> Contradiction:
    """The document in `data`; `EvidenceError` for other bytes than its own JCS, unknown kinds and unknown fields."""
    value = jcs.decode(data, limit=MAX_CONTRADICTION_BYTES, what="contradiction")
    kind = value.get("kind") if isinstance(value, dict) else None
    model = KINDS.get(kind) if isinstance(kind, str) else None
    if model is None:
        raise EvidenceError(f"contradiction: the kind is none of {', '.join(KINDS)}")
    return model.parse(data, limit=MAX_CONTRADICTION_BYTES, what="contradiction")
