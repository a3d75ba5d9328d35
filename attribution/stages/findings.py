"""What was found about one probe, stage by stage: plain values, from which decide.py derives the verdict.

Nothing here looks at a file, a model or a clock, so every combination can be written down in a test. Residuals are MSE
on a [0, 1] scale. A finding says what was measured and why something was not; it never says what follows from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from ...schemas.verdict import Verdict

CheckState = Literal["made", "failed", "skipped"]
ReplayState = Literal["exact", "tolerance", "different", "contradicts"]
Trust = Literal["policy", "own", "none"]

# Half a level's error, uniform: the residual a true generator reaches on its own 8-bit picture.
ROUNDING_FLOOR = 1 / (12 * 255**2)
# A probe whose samples vary less than this (variance on the [0, 1] scale, mean over channels) carries no evidence: a
# fit that explains 98 % of 500 floors leaves 10, so even an unrelated generator comes near the rounding floor. It is a
# standard deviation of 6.5 levels; dim digits of twice less variance were reproduced to 4 floors by strangers.
FLAT_VARIANCE = 500 * ROUNDING_FLOOR
# A probe is blank if more than this share of its pixels lies within this many levels of one colour (which is then the
# median) in every channel: a thin stroke on black, which a generator with a dark corner reproduces once it is blurred.
# Of 100 MNIST digits 36 are blank (most of the ones), as JPEG 75 28; of 100 emoji, 100 faces of the example's generator
# and a bold digit none (at most 0.80, 0.23 and 0.79).
BLANK_SHARE = 0.8
BLANK_LEVELS = 4


@dataclass(frozen=True, slots=True)
class Check:
    """One check by name: made (and held), failed, or skipped, with its reason."""

    name: str
    state: CheckState
    reason: str
    stage: str


@dataclass(frozen=True, slots=True)
class EntryFinding:
    """An entry given as evidence or found for the probe's digests, after the checks of its evidence."""

    origin: str  # of the log
    index: int | None
    author: str | None
    accused: bool
    matches: Literal["pixels", "file"] | None  # which subject is the probe's; None: it is about another image
    model: str | None = None
    time: str | None = None
    contradiction: str | None = None  # the claim that fell
    distrust: str | None = None  # why the policy or authors.txt does not accept it; None if they do
    opened: bool = False
    replay: ReplayState | None = None  # onto the probe's own pixels; None: not replayed
    uncounted: str | None = None  # why its inputs do not count; None if they do
    model_registered: bool = False  # a model:v1 entry of that author at a lower index
    file_copy: bool | None = None  # a file match whose pixels differ from the replay: within the JPEG limit or not


@dataclass(frozen=True, slots=True)
class Coverage:
    """Whether the probe's digests are absent from the first `size` entries of the named logs."""

    state: Literal["absent", "present", "unknown", "contradiction"]
    logs: tuple[tuple[str, int], ...] = ()  # (origin, size)
    reason: str = ""


@dataclass(frozen=True, slots=True)
class CopyFinding:
    """The changed-copy stage: over how many replayed pictures it really ran, and what it found."""

    ran: bool
    pictures: int = 0
    whole_only: bool = False  # with published hashes alone: whole pictures only
    reason: str = ""  # why it did not run, or not over everything
    found: str | None = None  # "entry 17 of ORIGIN by crop(...)": within its limit and the entry accepted
    distrust: str | None = None  # found, but that entry's policy is not met
    residual: float | None = None
    limit: float | None = None


@dataclass(frozen=True, slots=True)
class ClassLimits:
    """What a calibration says of one post-processing class."""

    denial: float
    attribution: float | None
    failure_bound: float  # one-sided 95 % Clopper-Pearson bound of the rate of failed own inversions
    n: int


@dataclass(frozen=True, slots=True)
class ConfirmationFinding:
    """A candidate's picture after one very chain of changes, beside the probe (inversion/confirmation.py)."""

    method: str
    change: str  # for people
    class_name: str
    statistic: float  # what is left in units of what the chain's roundings leave: about 1 for a true match
    differences: int
    samples: int  # or coefficients
    exact: bool = False  # no difference at all, and the latent counts
    uncounted: str | None = None  # why the latent does not count; None if it does
    limit: float | None = None  # of the statistic, from the calibration of this method and class; None without one

    @property
    def unit(self) -> str:
        """What is counted."""
        return "coefficients" if self.method.startswith("coefficients") else "samples"


@dataclass(frozen=True, slots=True)
class CandidateFinding:
    """One registered generator: whether it was inverted on the probe and how close it came."""

    model: str  # digest
    name: str
    required: bool  # its model:v1 entry is by an accused author
    state: Literal["inverted", "missing", "failed", "budget", "skipped"]
    reason: str = ""
    author: str | None = None  # whose model:v1 entry precedes the probe's claimed date
    residual: float | None = None
    exact: bool = False  # a latent gives every 8-bit sample
    uncounted: str | None = None  # why an exact match would not count (latent too large, norm outside the prior)
    free: str = ""  # what explains the probe with free inputs beside the latent alone: evidence neither way
    mirrored: bool = False  # `exact` and `residual` are of the probe's mirror image (relaxed scope)
    resized: bool = False  # the probe is not of the generator's size
    unlike: str = ""  # why a residual at the floor is not an own picture's: more samples differ than a fit leaves
    free_noise: int = 0  # numbers in noise maps beside the latent that change its pictures; they are not searched
    calibration: str | None = None  # why no calibration applies; None if one does
    limits: Mapping[str, ClassLimits] = field(default_factory=dict[str, ClassLimits])  # by class
    changed: float | None = None  # residual up to a mirror, a crop and a blur; None: not looked for
    change: str = ""  # the change behind it
    confirmations: tuple[ConfirmationFinding, ...] = ()  # chains of the relaxed scope, repeated to the bit
    searches: int = 1  # from different random starts; a denial needs more than one
    again: float | None = (
        None  # the nearest residual of the searches after the first, up to a change where one is sought
    )
    log10_lr: float | None = None
    log10_lr_cap: float | None = None
    conformal_p: float | None = None


@dataclass(frozen=True, slots=True)
class Scope:
    """The declared scope: its name and the post-processing classes it covers; `unprocessed` is always one."""

    name: Literal["strict", "relaxed"]
    classes: tuple[str, ...]
    resized: tuple[str, ...] = ("resized", "resized+jpeg")  # of a probe that had to be resized to a generator's size


@dataclass(frozen=True, slots=True)
class Findings:
    """Everything known of one probe when the cascade ended."""

    trust: Trust
    unreadable: str | None = None
    entries: tuple[EntryFinding, ...] = ()
    coverage: Coverage = Coverage("unknown", (), "no log was given")
    flat: str | None = None
    copies: CopyFinding = CopyFinding(False, reason="no logged picture could be replayed")
    candidates: tuple[CandidateFinding, ...] = ()
    latent_of: str | None = None  # a recovered latent is the latent of this logged entry
    incomplete: tuple[str, ...] = ()  # network, damaged or malformed input, no time left: what could not be done


@dataclass(frozen=True, slots=True)
class Decision:
    """The verdict of decide.py, with the line that is printed and why."""

    verdict: Verdict
    line: str
    stage: str
    reasons: tuple[str, ...]
    error: float | None = None  # failure bound behind a denial
    model: str | None = None
    author: str | None = None
    self_attested: bool = False
    model_name: str | None = None  # of the generator that was attributed, as this verification calls it
