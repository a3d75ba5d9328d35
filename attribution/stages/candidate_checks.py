"""The report's lines about one candidate: the search, the certificate, the floor, the calibration, the features."""

from __future__ import annotations

from ..inversion import Inversion
from ..inversion.budget import FLOOR
from ..report.document import floors_text
from .candidate import STAGE, Candidate, Settings
from .findings import Check, ConfirmationFinding
from .models import Model


def _expected(result: Inversion) -> str:
    """How the residual compares with what 8-bit rounding alone leaves of this picture; tells, decides nothing."""
    expected = result.diagnostics.expected
    if expected.free == 0:
        return "no sample lies well between black and white: rounding leaves nothing to compare with"
    return (
        f"a true match of this picture leaves {expected.residual / FLOOR:.3f} floors, give or take "
        f"{expected.sd / FLOOR:.3f}: the residual lies {expected.deviation(result.residual):+.3g} standard deviations "
        f"from it, whiteness {result.diagnostics.whiteness:.1f}"
    )


SEARCHED = {
    "chain": (
        "searched: the mirror, windows of nine tenths of each side and more in whole pixels, left so or resized back, "
        "resampling by 0.5 to 2, by bilinear, bicubic and Lanczos"
    )
}
"""What a method of confirmation looks through, for the report."""


def confirmation_check(told: ConfirmationFinding, name: str) -> Check:
    """What one confirmation found, beside its limit."""
    outcome = (
        f"all {told.samples:,} {told.unit} equal"
        if told.differences == 0
        else f"{told.differences:,} of {told.samples:,} {told.unit} differ"
    )
    limit = "no limit calibrated" if told.limit is None else f"limit {told.limit:.3f}"
    text = f"{told.change}: {outcome}, {told.statistic:.3f} times what the roundings of an own copy leave ({limit})"
    if told.uncounted is not None:
        text += f"; it does not count: {told.uncounted}"
    searched = SEARCHED.get(told.method.split(":")[0])
    return Check(name, "made", text if searched is None else f"{text}; {searched}", STAGE)


def _confirmations(candidate: Candidate) -> list[Check]:
    name = f"confirmation of {candidate.finding.name}"
    checks = [confirmation_check(told, name) for told in candidate.finding.confirmations]
    if candidate.unconfirmed is not None:
        checks.append(Check(name, "skipped", candidate.unconfirmed, STAGE))
    return checks


def candidate_checks(model: Model, candidate: Candidate, settings: Settings) -> list[Check]:
    finding, result = candidate.finding, candidate.inversion
    name = f"inversion of {model.name}"
    if result is None or finding.residual is None:
        return [Check(name, "failed", finding.reason, STAGE)]
    text = (
        f"residual {finding.residual:.2e} ({floors_text(finding.residual)}), {result.starts} starts, "
        f"{result.iterations} iterations, runs that agree: {result.diagnostics.agreeing_starts}, {result.stopped}"
    )
    checks = [Check(name, "failed" if finding.state == "budget" else "made", text, STAGE)]
    if candidate.relaxed is not None:
        relaxed = candidate.relaxed
        text = (
            f"residual {relaxed.residual:.2e} ({floors_text(relaxed.residual)}) as {relaxed.change}; "
            f"{relaxed.starts} starts, {relaxed.iterations} iterations, {relaxed.stopped}; "
            "held against the limits of the processed classes"
        )
        state = "failed" if relaxed.out_of_budget else "made"
        checks.append(Check(f"inversion of {model.name} up to a change", state, text, STAGE))
    checks += _confirmations(candidate)
    if finding.resized:
        checks.append(Check(f"size of {model.name}", "made", finding.reason, STAGE))
    else:
        checks.append(Check(f"expected floor of {model.name}", "made", _expected(result), STAGE))
    certificate = f"exact certificate of {model.name}"
    of = " of the mirrored picture" if finding.mirrored else ""
    if finding.exact and finding.uncounted is None:
        checks.append(Check(certificate, "made", f"yes: all {result.samples} samples{of} equal", STAGE))
    elif finding.exact:
        checks.append(Check(certificate, "failed", f"all samples equal, but {finding.uncounted}", STAGE))
    else:
        checks.append(Check(certificate, "made", f"no: {result.mismatches} of {result.samples} samples differ", STAGE))
    if finding.free:
        checks.append(Check(f"free inputs of {model.name}", "failed", finding.free, STAGE))
    calibrated = f"calibration of {model.name}"
    if finding.calibration is not None:
        checks.append(Check(calibrated, "skipped", finding.calibration, STAGE))
    else:
        checks.append(
            Check(calibrated, "made", f"same budget and engine; classes: {', '.join(finding.limits) or 'none'}", STAGE)
        )
    feature = f"l2-feature distance of {model.name}"
    if candidate.feature_distance is not None:
        checks.append(Check(feature, "made", f"{candidate.feature_distance:.4g}", STAGE))
    elif settings.inception is None:
        checks.append(Check(feature, "skipped", "no Inception weights", STAGE))
    return checks
