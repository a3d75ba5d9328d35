"""The deniability report, `plausible.report/1`: what was asked, every check made or skipped, and what was found.

One canonical document. Signed by an auditor it travels in a DSSE envelope of type REPORT_TYPE; unsigned it says only
what its author claims. It carries the digests of the policy, the authors and the calibrations that were used, so that
whoever holds the same files can run it again. Pictures are not part of it: HTML is a rendering of this document, to
which the renderer may add the pictures it still has. Fractions are wrapped (`{"f64": ...}`), residuals are mean
squared errors on a [0, 1] scale, seconds are seconds. Every field name stands in docs/spec/report.md.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import Field

from .document import DigestText, Document, Recorded, SafeInt, TimeText, VkeyText, Word

FORMAT: Final = "plausible.report/1"
REPORT_TYPE: Final = "application/vnd.plausible.report+json"

Side = Annotated[int, Field(ge=1, le=2**31 - 1)]
Sentence = Annotated[str, Field(max_length=8192)]
VerdictWord = Literal[
    "logged", "claimed", "refuted", "inconclusive", "incomplete", "untrusted", "derived", "attributed", "deniable"
]


class ReportImage(Document):
    """The probe: null beside `name` where it could not be read."""

    file: DigestText | None
    format: str | None
    height: Side | None
    mode: str | None
    name: Sentence
    notes: tuple[Sentence, ...]
    pixels: DigestText | None
    width: Side | None


class ReportScope(Document):
    """What `deniable` would have claimed: the post-processing classes that were covered."""

    classes: tuple[Word, ...]
    name: Literal["strict", "relaxed"]


class ReportCheck(Document):
    """One check by name: made, failed or skipped, why, and in which stage."""

    name: Sentence
    reason: Sentence
    stage: Word
    state: Literal["made", "failed", "skipped"]


class ReportCheckpoint(Document):
    """A checkpoint that was relied upon; `existence_time` is the quorum's, null where the policy asks for none."""

    cosigners: tuple[Word, ...]
    existence_time: TimeText | None
    origin: Word
    root: DigestText
    size: SafeInt


class ReportEntry(Document):
    """An entry that was given or found; `matches` null: it is about another image."""

    accused: bool
    author: str | None
    contradiction: Sentence | None
    distrust: Sentence | None
    index: SafeInt | None
    matches: Literal["pixels", "file"] | None
    model: DigestText | None
    model_registered: bool
    opened: bool
    origin: Word
    replay: Literal["exact", "tolerance", "different", "contradicts"] | None
    time: TimeText | None
    uncounted: Sentence | None


class ReportLog(Document):
    """A log and the size up to which it was searched."""

    origin: Word
    size: SafeInt


class ReportCoverage(Document):
    """Whether the image's digests are absent from the named logs."""

    logs: tuple[ReportLog, ...]
    reason: Sentence
    state: Literal["absent", "present", "unknown", "contradiction"]


class ReportCopies(Document):
    """The changed-copy stage; from `transformation` on it describes the best explanation, whether it counted or not."""

    calibration: DigestText | None
    found: Sentence | None
    key: SafeInt | None
    limit: Recorded
    pictures: SafeInt
    psnr: Recorded
    ran: bool
    reason: Sentence
    residual: Recorded
    ssim: Recorded
    transformation: Sentence | None


class ReportLimits(Document):
    """A calibration's limits for one class; `failure_bound` is the 95 % bound of the rate of failed own inversions."""

    attribution: Recorded
    denial: Recorded
    failure_bound: Recorded
    n: SafeInt


class ReportConfirmation(Document):
    """A candidate's picture after one very chain of changes: `statistic` in units of what such a copy's roundings
    leave, `limit` from the calibration of the same method and class."""

    change: Sentence
    class_name: Word
    differences: SafeInt
    exact: bool
    limit: Recorded
    method: Word
    samples: SafeInt
    statistic: Recorded
    uncounted: Sentence | None


class ReportCandidate(Document):
    """One generator; `author` is named only if its model entry precedes the image's claimed date."""

    author: str | None
    calibrations: tuple[DigestText, ...]
    change: Sentence | None
    changed: Recorded
    confirmations: tuple[ReportConfirmation, ...]
    conformal_p: Recorded
    exact: bool
    feature_distance: Recorded
    limits: dict[Word, ReportLimits]
    log10_lr: Recorded
    log10_lr_cap: Recorded
    mismatches: SafeInt | None
    model: DigestText
    name: Sentence
    reason: Sentence
    required: bool
    residual: Recorded
    resized: bool
    state: Literal["inverted", "missing", "failed", "budget", "skipped"]


class ReportScore(Document):
    """S of Albright and McCloskey, Eq. 4 (two candidates) or Eq. 5 (one against the best other): -1 to 1."""

    candidate: DigestText
    equation: Literal[4, 5]
    score: Recorded


class ReportVerdict(Document):
    """The verdict: its word and exit code, the line printed, the stage that decided and every reason."""

    author: str | None
    error: Recorded
    exit_code: SafeInt
    line: Sentence
    model: DigestText | None
    reasons: tuple[Sentence, ...]
    self_attested: bool
    stage: Word
    word: VerdictWord


class ReportDocument(Document):
    """The whole report."""

    accused: tuple[Word, ...]
    auditor: VkeyText | None
    authors: DigestText | None
    budget: Word | None
    candidates: tuple[ReportCandidate, ...]
    checkpoints: tuple[ReportCheckpoint, ...]
    checks: tuple[ReportCheck, ...]
    claimed_date: TimeText | None
    command: Sentence
    copies: ReportCopies
    coverage: ReportCoverage
    created: TimeText
    entries: tuple[ReportEntry, ...]
    format: Literal["plausible.report/1"] = FORMAT
    image: ReportImage
    not_shown: tuple[Sentence, ...]
    policy: DigestText | None
    scope: ReportScope
    scores: tuple[ReportScore, ...]
    seconds: dict[Word, Recorded]
    trust: Literal["policy", "own", "none"]
    verdict: ReportVerdict
    versions: dict[Word, str]
