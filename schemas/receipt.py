"""The receipt of an append, `plausible.receipt/1`: unsigned, so it tells its holder something and nobody else.

From `sequenced` on there is a tlog-proof; only `witnessed` is evidence for third parties. Source: docs/spec/receipt.md.
"""

from __future__ import annotations

from typing import Final, Literal, Self, TypeAlias

from pydantic import model_validator

from .document import DigestText, Document, SafeInt
from .errors import EvidenceError

FORMAT: Final = "plausible.receipt/1"
ReceiptState: TypeAlias = Literal["accepted", "sequenced", "witnessed"]
RECEIPT_STATES: Final[tuple[ReceiptState, ...]] = ("accepted", "sequenced", "witnessed")


class Receipt(Document):
    """`leaf`: the entry's leaf hash; `index` and the `size` of a tree that holds it, both known once sequenced."""

    format: Literal["plausible.receipt/1"] = FORMAT
    index: SafeInt | None
    leaf: DigestText
    size: SafeInt | None
    state: ReceiptState

    @model_validator(mode="after")
    def _known_once_sequenced(self) -> Self:
        known = self.index is not None and self.size is not None
        if known != (self.state != "accepted") or (self.index is None) != (self.size is None):
            raise EvidenceError("receipt: index and size are known from sequenced on, and not before")
        if self.index is not None and self.size is not None and self.index >= self.size:
            raise EvidenceError("receipt: index is not below size")
        return self
