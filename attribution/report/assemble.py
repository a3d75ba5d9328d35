"""From what was found to the report: the document field by field, and the figures of its page."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import torch

from ...ledger.entries.authors import Authors
from ...ledger.entries.images import Image
from ...ledger.notes.note import SignerKey
from ...ledger.notes.policy import AcceptedCheckpoint, Policy
from ...schemas import jcs
from ...schemas.report import (
    ReportCandidate,
    ReportCheck,
    ReportCheckpoint,
    ReportConfirmation,
    ReportCopies,
    ReportCoverage,
    ReportDocument,
    ReportEntry,
    ReportImage,
    ReportLimits,
    ReportLog,
    ReportScope,
    ReportScore,
    ReportVerdict,
)
from ...schemas.text import digest_text, format_time, now
from ...schemas.verdict import Verdict
from ..copies.limits import CopyLimits
from ..copies.search import SEARCH_VERSION, Copy
from ..inversion import ENGINE_VERSION, RELAXED_VERSION
from ..logs.sources import LogSource
from ..stages.candidate import Candidate
from ..stages.copies import Original
from ..stages.decide import UNPROCESSED, attribution_limit
from ..stages.entries import Judged
from ..stages.findings import Check, Decision, Findings, Scope
from .document import floors_text, not_shown, render, sign_report
from .pictures import Figure, comparison

# So many candidates get figures of their own, the nearest first; all of them stand in the table.
_SHOWN = 4


@dataclass(frozen=True, slots=True)
class Outcome:
    """Everything a report is made of."""

    name: str
    image: Image | None
    checks: tuple[Check, ...]
    findings: Findings
    decision: Decision
    scope: Scope
    judged: tuple[Judged, ...]
    copy: Copy | None
    original: Original | None
    copy_limits: CopyLimits | None
    candidates: tuple[Candidate, ...]
    scores: tuple[tuple[str, int, float], ...]
    sources: tuple[LogSource, ...]
    policy: Policy | None
    authors: Authors | None
    accused: tuple[str, ...]
    budget: str
    claimed: datetime | None
    auditor: SignerKey | None
    command: str
    seconds: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Report:
    """The answer on one image: the document, the pictures it was based on, and the auditor's key if there is one."""

    document: ReportDocument
    decision: Decision
    figures: tuple[Figure, ...] = field(default=(), repr=False)
    findings: Findings | None = field(default=None, repr=False)
    _auditor: SignerKey | None = field(default=None, repr=False)

    @property
    def verdict(self) -> Verdict:
        """The verdict."""
        return self.decision.verdict

    @property
    def exit_code(self) -> int:
        """The exit code of `pd verify` for this image."""
        return self.decision.verdict.exit_code

    @property
    def line(self) -> str:
        """The line that is printed beside the verdict."""
        return self.decision.line

    @property
    def checks(self) -> tuple[ReportCheck, ...]:
        """Every check made, failed or skipped, in order."""
        return self.document.checks

    def to_jcs(self) -> bytes:
        """The document's bytes."""
        return self.document.to_jcs()

    def signed(self) -> bytes | None:
        """The DSSE envelope under the auditor's key; None without one."""
        return None if self._auditor is None else sign_report(self.document, self._auditor)

    def html(self) -> str:
        """The page: one file, no scripts, nothing fetched."""
        return render(self.document, self.figures)

    def save_html(self, path: Path | str) -> None:
        """Write the page; to a temporary name first, so that no half page is left behind."""
        target = Path(path)
        temporary = target.with_name(target.name + ".new")
        temporary.write_text(self.html(), encoding="utf-8")
        temporary.replace(target)


def assemble(o: Outcome) -> Report:
    """The report of an outcome."""
    word = o.decision.verdict.value
    document = ReportDocument(
        accused=o.accused,
        auditor=None if o.auditor is None else o.auditor.verifier.encode(),
        authors=None if o.authors is None else _sha256(o.authors.source),
        budget=o.budget,
        candidates=tuple(_candidate(c) for c in o.candidates),
        checkpoints=_checkpoints(o),
        checks=tuple(ReportCheck(name=c.name, reason=c.reason, stage=c.stage, state=c.state) for c in o.checks),
        claimed_date=None if o.claimed is None else format_time(o.claimed),
        command=o.command or _command(o),
        copies=_copies(o),
        coverage=ReportCoverage(
            logs=tuple(ReportLog(origin=origin, size=size) for origin, size in o.findings.coverage.logs),
            reason=o.findings.coverage.reason,
            state=o.findings.coverage.state,
        ),
        created=format_time(now()),
        entries=tuple(_entry(j) for j in o.judged),
        image=_image(o),
        not_shown=not_shown(word, strict=o.scope.name == "strict", whole_only=o.findings.copies.whole_only),
        policy=None if o.policy is None else _sha256(o.policy.source),
        scope=ReportScope(classes=o.scope.classes, name=o.scope.name),
        scores=tuple(
            ReportScore(candidate=model, equation=4 if equation == 4 else 5, score=_number(score))
            for model, equation, score in o.scores
        ),
        seconds={stage: _number(value) for stage, value in o.seconds.items()},
        trust=o.findings.trust,
        verdict=ReportVerdict(
            author=o.decision.author,
            error=_number(o.decision.error),
            exit_code=o.decision.verdict.exit_code,
            line=o.decision.line,
            model=o.decision.model,
            reasons=o.decision.reasons,
            self_attested=o.decision.self_attested,
            stage=o.decision.stage,
            word=word,
        ),
        versions=versions(),
    )
    return Report(document, o.decision, tuple(figures(o)), o.findings, o.auditor)


def versions() -> dict[str, str]:
    """What ran: enough to run it again."""
    try:
        own = metadata.version("plausible-deniability")
    except metadata.PackageNotFoundError:
        own = "unpackaged"
    return {
        "plausible": own,
        "engine": ENGINE_VERSION,
        "engine up to changes": RELAXED_VERSION,
        "copy search": SEARCH_VERSION,
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "Pillow": PIL.__version__,
    }


def _sha256(data: bytes) -> str | None:
    return digest_text(hashlib.sha256(data).digest()) if data else None


def _number(value: float | None) -> Any:
    return None if value is None else jcs.wrap_number(float(value))


def _command(o: Outcome) -> str:
    parts = ["pd", "verify", o.name, "--integrity", o.scope.name]
    for source in o.sources:
        parts += ["--ledger", source.name]
    if o.findings.trust == "policy":
        parts += ["--policy", "POLICY", "--authors", "AUTHORS"]
    return " ".join(parts)


def _image(o: Outcome) -> ReportImage:
    image = o.image
    if image is None:
        return ReportImage(
            file=None, format=None, height=None, mode=None, name=o.name, notes=(), pixels=None, width=None
        )  # fmt: skip
    return ReportImage(
        file=digest_text(image.file_digest), format=image.format, height=image.height, mode=image.mode, name=o.name,
        notes=image.notes, pixels=digest_text(image.pixel_digest), width=image.width,
    )  # fmt: skip


def _checkpoints(o: Outcome) -> tuple[ReportCheckpoint, ...]:
    accepted: dict[tuple[str, int], AcceptedCheckpoint] = {}
    for checkpoint in (*(s.accepted for s in o.sources), *(j.evidence.checkpoint for j in o.judged)):
        if checkpoint is not None:
            accepted[checkpoint.origin, checkpoint.size] = checkpoint
    return tuple(
        ReportCheckpoint(
            cosigners=tuple(c.name for c in a.cosigners),
            existence_time=None
            if a.existence_time is None
            else format_time(datetime.fromtimestamp(a.existence_time, UTC)),
            origin=a.origin,
            root=digest_text(a.root),
            size=a.size,
        )
        for a in accepted.values()
    )


def _entry(j: Judged) -> ReportEntry:
    f = j.finding
    return ReportEntry(
        accused=f.accused, author=f.author, contradiction=f.contradiction, distrust=f.distrust, index=f.index,
        matches=f.matches, model=f.model, model_registered=f.model_registered, opened=f.opened, origin=f.origin,
        replay=f.replay, time=f.time, uncounted=f.uncounted,
    )  # fmt: skip


def _copies(o: Outcome) -> ReportCopies:
    finding, copy = o.findings.copies, o.copy
    return ReportCopies(
        calibration=None if o.copy_limits is None else digest_text(o.copy_limits.digest),
        found=finding.found,
        key=None if o.original is None else o.original.index,
        limit=None if copy is None else _number(copy.limit),
        pictures=finding.pictures,
        # equal pictures have no finite ratio; null beside a residual of 0 says so
        psnr=None if copy is None or copy.residual == 0 else _number(copy.psnr),
        ran=finding.ran,
        reason=finding.reason,
        residual=None if copy is None else _number(copy.residual),
        ssim=None if copy is None else _number(copy.ssim),
        transformation=None if copy is None else str(copy.transformation),
    )


def _candidate(c: Candidate) -> ReportCandidate:
    f = c.finding
    return ReportCandidate(
        author=f.author,
        calibrations=c.calibrations,
        change=f.change or None,
        changed=_number(f.changed),
        confirmations=tuple(
            ReportConfirmation(
                change=told.change,
                class_name=told.class_name,
                differences=told.differences,
                exact=told.exact,
                limit=_number(told.limit),
                method=told.method,
                samples=told.samples,
                statistic=_number(told.statistic),
                uncounted=told.uncounted,
            )
            for told in f.confirmations
        ),
        conformal_p=_number(f.conformal_p),
        exact=f.exact and f.uncounted is None,
        feature_distance=_number(c.feature_distance),
        limits={
            name: ReportLimits(
                attribution=_number(limits.attribution),
                denial=_number(limits.denial),
                failure_bound=_number(limits.failure_bound),
                n=limits.n,
            )
            for name, limits in f.limits.items()
        },
        log10_lr=_number(f.log10_lr),
        log10_lr_cap=_number(f.log10_lr_cap),
        mismatches=None if c.inversion is None else c.inversion.mismatches,
        model=f.model,
        name=f.name,
        reason="; ".join(part for part in (f.reason, f.uncounted or "", f.calibration or "") if part),
        required=f.required,
        residual=_number(f.residual),
        resized=f.resized,
        state=f.state,
    )


# --- figures -----------------------------------------------------------------------------------------------------


def figures(o: Outcome) -> list[Figure]:
    """The probe alone, or beside whatever it was compared with: one row of four a comparison, nearest first."""
    if o.image is None:
        return []
    probe = o.image.pixels
    size = f"{o.image.width} × {o.image.height}, {o.image.format}"
    found: list[Figure] = []
    for item in o.judged:
        if item.replay is not None and item.replay.pixels.shape[:2] == probe.shape[:2]:
            text = f"entry {item.finding.index}: {item.finding.replay}"
            found += comparison(probe, item.replay.pixels, size, "Replayed from the record", text)
    order: Callable[[Candidate], float] = lambda c: np.inf if c.finding.residual is None else c.finding.residual  # noqa: E731
    for candidate in sorted(o.candidates, key=order)[:_SHOWN]:
        found += _reconstruction(candidate, size)
    if o.copy is not None and o.original is not None:
        counts = "" if o.findings.copies.found is not None else "not a copy: "
        left = "every sample equal" if o.copy.residual == 0 else f"residual {o.copy.residual:.2e}"
        text = f"{counts}entry {o.original.index} by {o.copy.transformation}, {left}"
        found += comparison(probe, o.copy.picture, size, "Nearest logged picture", text)
    return found or [Figure("The image", size, probe)]


def _reconstruction(candidate: Candidate, size: str) -> Sequence[Figure]:
    result, probe, residual = candidate.inversion, candidate.probe, candidate.finding.residual
    if result is None or probe is None or residual is None:
        return ()
    text = f"residual {residual:.2e}, {floors_text(residual)}"
    if candidate.finding.resized:
        size += f"; compared as {probe.shape[1]} × {probe.shape[0]}"
    limits = candidate.finding.limits.get(UNPROCESSED)
    limit = None if limits is None else attribution_limit(limits.attribution, limits.denial)
    if limit is not None and not candidate.finding.resized:
        text += f"; attribution limit {limit:.2e}"
    rgb = [np.repeat(p, 3, axis=2) if p.shape[2] == 1 else p for p in (probe, result.reconstruction)]
    return comparison(rgb[0], rgb[1], size, f"Best of {candidate.finding.name}", text)
