"""Rows of a batch attribution, `plausible.attribution/1`: what one generator could do for one picture, a line each.

A *job* is what was measured, by content alone: picture, model, budget, versions, calibrations, seed. A *row* is a job
under the name of a picture, with what needs the other generators of the same picture: scores and the verdict. Rows are
tables for other programs, so numbers are plain JSON (a float64 comes back bit for bit from its shortest form), absent
ones null; nothing here is signed.
"""

from __future__ import annotations

import json
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError

from .document import DigestText, Document, SafeInt, TimeText, Word, describe
from .errors import EvidenceError

Finite = Annotated[float, Field(allow_inf_nan=False)]
Text = Annotated[str, Field(max_length=4096)]
State = Literal["inverted", "missing", "failed", "budget", "skipped"]


class Table(Document):
    """A document whose fractions are plain JSON numbers: one line of JSON, its keys sorted."""

    def to_line(self) -> bytes:
        """The row as one line, its newline included."""
        text = json.dumps(self.to_json(), allow_nan=False, sort_keys=True, separators=(",", ":"))
        return text.encode("ascii") + b"\n"

    @classmethod
    def of_line(cls, line: bytes) -> Self:
        """The row of a line; `EvidenceError` if it is none."""
        try:
            return cls.model_validate_json(line)
        except ValidationError as error:
            raise EvidenceError(f"{cls.__name__.lower()}: {describe(error)}") from error


class RowLimits(Table):
    """What the calibration says of one post-processing class."""

    attribution: Finite | None
    class_name: Word
    denial: Finite
    failure_bound: Finite
    n: SafeInt


class RowConfirmation(Table):
    """A candidate's picture after one very chain of changes, as in a report."""

    change: Text
    class_name: Word
    differences: SafeInt
    exact: bool
    limit: Finite | None
    method: Word
    samples: SafeInt
    statistic: Finite
    uncounted: Text | None


class RowEnvironment(Table):
    """Where a job ran: what may change a residual's last digits."""

    device: Word
    threads: SafeInt
    torch: Word


class Measured(Table):
    """What a job gives; all but `reason` and `state` stay empty where no job ran.

    `state`, `reason`, `mirrored`, `uncounted`, `free`, `free_noise`, `unlike`, `resized`, `calibration` and `limits`
    are those of a report's candidate. Residuals are mean squared errors on [0, 1]; `floors` is the residual in units of
    1/(12 x 255^2); `changed` the residual up to `change`. `attempts` is 2 where a first worker was lost; `guard` is the
    time guard a picture had, in seconds.
    """

    agreeing_starts: SafeInt | None = None
    attempts: SafeInt = 0
    calibration: Text | None = None
    calibrations: tuple[DigestText, ...] = ()
    change: Text = ""
    changed: Finite | None = None
    confirmations: tuple[RowConfirmation, ...] = ()
    conformal_p: Finite | None = None
    exact: bool = False
    floors: Finite | None = None
    free: Text = ""
    free_noise: SafeInt = 0
    guard: Finite | None = None
    iterations: SafeInt | None = None
    limits: tuple[RowLimits, ...] = ()
    log10_lr: Finite | None = None
    log10_lr_cap: Finite | None = None
    mirrored: bool = False
    mismatches: SafeInt | None = None
    polished_starts: SafeInt | None = None
    reason: Text = ""
    reducible: Finite | None = None
    residual: Finite | None = None
    resized: bool = False
    rounds: SafeInt | None = None
    samples: SafeInt | None = None
    seconds: Finite = 0.0
    square_norm: Finite | None = None
    stages: dict[Word, Finite] = Field(default_factory=dict)
    starts: SafeInt | None = None
    state: State
    stopped: Word | None = None
    uncounted: Text | None = None
    unlike: Text = ""
    whiteness: Finite | None = None


class Asked(Table):
    """What was asked of every generator of a run: part of a job's key."""

    budget: DigestText
    distance: Word = "l2"
    engine: Word
    relaxed: bool
    relaxed_engine: Word
    seed: SafeInt


class AttributionJob(Measured, Asked):
    """One generator inverted on one picture: a line of the journal. `job` is the digest of what was asked."""

    environment: RowEnvironment
    format: Literal["plausible.attribution-job/1"] = "plausible.attribution-job/1"
    job: DigestText
    model: DigestText
    pixels: DigestText
    time: TimeText


class AttributionRow(Measured, Asked):
    """One generator and one picture by name: a line of the results.

    A picture that could not be read has one row, whose `generator` and `model` are null. `verdict` and `line` are the
    picture's, over all generators of the run; `named` marks the generator that an `attributed` names. `score` is 000's
    Eq. 4 (two generators) or 5 (more), as `equation` says; it ranks generators and decides nothing.
    """

    environment: RowEnvironment | None = None
    equation: Literal[4, 5] | None = None
    file: DigestText | None = None
    format: Literal["plausible.attribution/1"] = "plausible.attribution/1"
    generator: Word | None = None
    height: SafeInt | None = None
    job: DigestText | None = None
    line: Text
    model: DigestText | None = None
    named: bool = False
    path: Word
    pixels: DigestText | None = None
    score: Finite | None = None
    time: TimeText | None = None
    verdict: Literal["attributed", "inconclusive", "incomplete"]
    width: SafeInt | None = None
