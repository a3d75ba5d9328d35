"""The calibration of the changed-copy search, `plausible.copies/1`: what own copies and strangers measured.

Kept in a model folder's `calibrations/` beside those of the inversion, and keyed like them: by the model's digest and
the version of the search. Raw measurements stand in it, so that limits can be recomputed and checked.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, JsonValue

from . import jcs
from .document import DigestText, Document, Recorded, SafeInt, Word
from .errors import EvidenceError

FORMAT = "plausible.copies/1"


class CopyFamilyRows(Document):
    """Measurements of one family of transformations: `residuals` are MSE on [0, 1], `shares` residual over variance.

    Numbers are wrapped (`{"f64": ...}`); `missed` counts own copies for which another picture came up.
    """

    limit: Recorded = None
    missed: SafeInt
    negative_residuals: tuple[Recorded, ...]
    negative_shares: tuple[Recorded, ...]
    positive_residuals: tuple[Recorded, ...]
    positive_shares: tuple[Recorded, ...]
    share_limit: Recorded = None


class CopyCalibration(Document):
    """One calibration; `pictures` logged pictures were searched, all drawn from `seed`."""

    families: dict[Word, CopyFamilyRows]
    format: Literal["plausible.copies/1"] = FORMAT
    kind: Literal["copies"] = "copies"
    model: DigestText
    pictures: Annotated[int, Field(ge=1, le=2**53 - 1)]
    search: Word
    seed: SafeInt


def floats(values: tuple[JsonValue, ...]) -> list[float]:
    """The finite, non-negative numbers of a column; `EvidenceError` for anything else."""
    return [real(value) for value in values]


def real(value: JsonValue) -> float:
    """A finite, non-negative number as recorded; `EvidenceError` for anything else."""
    number = float(jcs.unwrap_number(value))
    if not 0 <= number < float("inf"):
        raise EvidenceError("a measurement is a finite number that is not negative")
    return number
