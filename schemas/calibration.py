"""The calibration of a generator's inversion, `plausible.calibration/1`: what own pictures and others measured.

Kept in a model folder's `calibrations/`. Its key is (model, budget, engine, distance): under another key it says
nothing. Every measurement stands in it with its seed; limits are not written down but derived by whoever reads it, so
that a document cannot state limits that its measurements do not give.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, JsonValue

from . import jcs
from .document import DigestText, Document, Recorded, SafeInt, TimeText, Word
from .errors import EvidenceError

FORMAT = "plausible.calibration/1"
MAX_BYTES = 16 * 1024 * 1024


class OwnRow(Document):
    """A fresh picture of the generator: `seed` draws latent, post-processing and starts; `residual` is wrapped."""

    exact: bool
    mismatches: SafeInt
    parameters: Recorded
    residual: Recorded
    seed: SafeInt


class NegativeRow(Document):
    """A picture the generator did not make; `derivative` marks pictures of a model derived from it (a clone)."""

    derivative: bool
    exact: bool
    kind: Word
    mismatches: SafeInt
    name: Word
    parameters: Recorded
    residual: Recorded
    seed: SafeInt


class ClassRows(Document):
    """Measurements of one post-processing class."""

    negatives: tuple[NegativeRow, ...]
    own: tuple[OwnRow, ...]


class CalibrationDocument(Document):
    """One calibration. `samples` are the 8-bit samples of a picture, `command` what was run, `environment` where."""

    budget: Recorded
    classes: dict[Word, ClassRows]
    command: Annotated[str, Field(max_length=4096)]
    distance: Word
    engine: Word
    environment: dict[Word, Word]
    format: Literal["plausible.calibration/1"] = FORMAT
    kind: Literal["inversion"] = "inversion"
    model: DigestText
    samples: SafeInt
    time: TimeText


def finite(value: JsonValue) -> float:
    """A finite, non-negative number as recorded; `EvidenceError` for anything else."""
    number = float(jcs.unwrap_number(value))
    if not 0 <= number < float("inf"):
        raise EvidenceError("a measurement is a finite number that is not negative")
    return number
