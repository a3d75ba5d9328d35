"""The report of a verification: one signed document, and one page rendered from it.

`sign_report` puts the document into a DSSE envelope under an auditor's key; `open_report` takes it out again. `render`
makes one HTML file without scripts and without anything fetched from elsewhere: every text is escaped, pictures are
data URIs, and the page states what it cannot show.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from ...ledger.notes.dsse import open_envelope, sign_envelope
from ...ledger.notes.note import SignerKey, VerifierKey
from ...schemas import jcs
from ...schemas.errors import EvidenceError
from ...schemas.report import REPORT_TYPE, ReportCandidate, ReportDocument
from ...schemas.text import digest_text
from ..stages.decide import DENIAL_MARGIN, UNPROCESSED, attribution_limit
from ..stages.findings import ROUNDING_FLOOR
from .pictures import ChartRow, Figure, chart

MAX_REPORT_BYTES = 8 * 1024 * 1024

_TONES = {
    "logged": "good", "deniable": "good", "derived": "calm", "attributed": "calm", "claimed": "note",
    "inconclusive": "note", "incomplete": "note", "untrusted": "note", "refuted": "bad",
}  # fmt: skip
_STATE_TONES = {"made": "good", "failed": "bad", "skipped": "note"}
_TRUST = {
    "policy": "the policy and the authors given",
    "own": "no policy or authors given: the ledger's own decide (self-attested)",
    "none": "no policy or authors given, and the ledger is not the verifier's own (self-attested by the accused)",
}

# What no verdict of this program shows, whatever was found (design: "Not covered, and said in every report").
ALWAYS_NOT_SHOWN = (
    "Whether a developer who did not log made the picture with a generator that is not registered here.",
    "Who stands behind an author key in law.",
    "Anything about the picture's content: whether what it shows is true, or whom it shows.",
)
NOT_SHOWN = {
    "logged": "That nobody else could have made the same picture, or that it was not published by somebody else.",
    "claimed": "That the author's claim is true: only that it was made, and when.",
    "refuted": "Who is at fault: a claim fell, not a person.",
    "derived": "Who changed the picture, and whether changes outside the list (rotation, colour, overlays) were made.",
    "attributed": "Who ran the generator: whoever has the weights could have.",
    "deniable": "Innocence. These generators, inverted with this budget, do not reproduce the picture within the "
    "stated scope and error; changes outside the scope and generators that are not registered are not covered.",
    "inconclusive": "Anything either way.",
    "incomplete": "Anything either way: the verification did not run to its end.",
    "untrusted": "That the evidence is false: it is well formed, but it does not meet the policy.",
}  # fmt: skip


def not_shown(word: str, *, strict: bool, whole_only: bool) -> tuple[str, ...]:
    """The sentences on what a report with this verdict does not show."""
    sentences = [NOT_SHOWN[word], *ALWAYS_NOT_SHOWN]
    if word == "deniable" and strict:
        sentences.insert(1, "Anything about changed copies: the strict scope is about these very pixels.")
    if whole_only:
        sentences.insert(1, "Whether it is a crop of a logged picture: only whole pictures could be compared.")
    return tuple(sentences)


def sign_report(document: ReportDocument, signer: SignerKey) -> bytes:
    """The DSSE envelope around the document's JCS; `document.auditor` must be the signer's verifier key."""
    if document.auditor != signer.verifier.encode():
        raise EvidenceError("the report names another auditor than the key that signs it")
    return sign_envelope(document.to_jcs(), REPORT_TYPE, signer)


def open_report(envelope: bytes, auditor: VerifierKey) -> ReportDocument:
    """The document in an envelope signed by `auditor`; `EvidenceError` otherwise."""
    document = ReportDocument.parse(
        open_envelope(envelope, REPORT_TYPE, auditor), limit=MAX_REPORT_BYTES, what="report"
    )
    if document.auditor != auditor.encode():
        raise EvidenceError("the report names another auditor than the key that signed it")
    return document


def render(document: ReportDocument, figures: Sequence[Figure] = ()) -> str:
    """The page, one self-contained HTML text; `figures` are shown below the verdict."""
    from importlib.resources import files

    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    source = files("plausible.attribution.report").joinpath("templates/report.html.j2").read_text("utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    classes = set(document.scope.classes)
    rows = [row for c in document.candidates for row in _chart_rows(c, classes)]
    # chart() escapes the names it is given; nothing else on the page is marked safe
    drawn = Markup(chart(rows)) if rows else None  # noqa: S704
    context: dict[str, Any] = {
        "r": document,
        "tone": _TONES[document.verdict.word],
        "state_tones": _STATE_TONES,
        "more_reasons": [reason for reason in document.verdict.reasons if reason != document.verdict.line],
        "figures": figures,
        "residual_note": _residual_note(figures),
        "time": _time,
        "trust_text": _TRUST[document.trust],
        "stages": _stages(document),
        "coverage_text": _coverage_text(document),
        "copies_text": _copies_text(document),
        "no_candidates": _no_candidates(document),
        "chart": drawn,
        "candidates": [_candidate(c) for c in document.candidates],
        "scores": _scores(document),
        "limits": _limits(document),
        "calibrations": list(dict.fromkeys(d for c in document.candidates for d in c.calibrations)),
        "versions": ", ".join(f"{name} {version}" for name, version in document.versions.items()),
        "seconds": ", ".join(f"{stage} {_number(s, '.2f')} s" for stage, s in document.seconds.items())
        or "not measured",
        "digest": digest_text(hashlib.sha256(document.to_jcs()).digest()),
    }
    return environment.from_string(source).render(context)


def floors_text(residual: float) -> str:
    """A residual in rounding floors, to three digits."""
    floors = residual / ROUNDING_FLOOR
    return f"{floors:.2f} floors" if floors < 100 else f"{floors:,.0f} floors"


def _time(text: str) -> str:
    """A time of the document for people, to the second."""
    return f"{text[:10]} {text[11:19]} UTC"


def _value(recorded: Any) -> float | None:
    return None if recorded is None else float(jcs.unwrap_number(recorded))


def _number(recorded: Any, form: str = ".2e", missing: str = "none") -> str:
    value = _value(recorded)
    return missing if value is None else format(value, form)


def _stages(document: ReportDocument) -> list[tuple[str, list[Any]]]:
    """Checks grouped by stage, in the order in which the stages came."""
    groups: dict[str, list[Any]] = {}
    for check in document.checks:
        groups.setdefault(check.stage, []).append(check)
    return list(groups.items())


def _residual_note(figures: Sequence[Figure]) -> str:
    if not any(figure.title == "Signed residual" for figure in figures):
        return ""
    return (
        "Residual maps are the image minus the picture to their left, in levels of 255. A true match leaves rounding "
        "noise without structure; a wrong one leaves edges and shapes."
    )


def _no_candidates(document: ReportDocument) -> str:
    """Why no generator was asked."""
    reason = next((c.reason for c in document.checks if c.name == "inversion" and c.state == "skipped"), None)
    return f"No generator was inverted: {reason}." if reason else "No generator was inverted."


def _coverage_text(document: ReportDocument) -> str:
    coverage = document.coverage
    logs = "; ".join(f"the first {log.size} entries of {log.origin}" for log in coverage.logs)
    if coverage.state == "absent":
        return f"The image's digests are absent from {logs}. {coverage.reason} One changed bit ends exact absence."
    if coverage.state == "present":
        return f"The image's digests are present: {coverage.reason}"
    if coverage.state == "contradiction":
        return f"The log contradicts itself: {coverage.reason}"
    return f"Coverage unknown: {coverage.reason}."


def _copies_text(document: ReportDocument) -> str:
    copies = document.copies
    if not copies.pictures and not copies.ran:
        return f"Not searched: {copies.reason}."
    text = f"{copies.pictures} replayed pictures were searched"
    text += " for whole pictures, mirrors, crops and resized copies." if copies.ran else f", not all: {copies.reason}."
    if copies.transformation is not None:
        text += f" Best explanation: entry {copies.key} by {copies.transformation}; "
        if _value(copies.residual) == 0:
            text += "every sample equal."
        else:
            text += (
                f"residual {_number(copies.residual)}, PSNR {_number(copies.psnr, '.1f')} dB, "
                f"SSIM {_number(copies.ssim, '.3f')}, limit {_number(copies.limit, '.2e', 'none (not calibrated)')}."
            )
        text += " It counts." if copies.found is not None else " It does not count."
    return text


def _candidate(c: ReportCandidate) -> dict[str, str]:
    residual = _value(c.residual)
    if c.state != "inverted":
        outcome = f"{c.state}: {c.reason}"
    elif c.exact:
        outcome = "every 8-bit sample reproduced"
    else:
        outcome = f"{c.mismatches} samples differ" if c.mismatches is not None else "inverted"
        if c.reason:
            outcome += f"; {c.reason}"
    if c.log10_lr is not None:
        cap = f" (cap {_number(c.log10_lr_cap, '.2f')})" if c.log10_lr_cap is not None else ""
        outcome += f"; log10 likelihood ratio {_number(c.log10_lr, '.2f')}{cap}"
    if c.conformal_p is not None:
        outcome += f"; conformal p {_number(c.conformal_p, '.3f')}"
    if c.feature_distance is not None:
        outcome += f"; l2-feature distance {_number(c.feature_distance, '.3e')}"
    if c.change is not None:
        outcome += f"; up to a change ({c.change}) residual {_number(c.changed)}"
    for told in c.confirmations:
        outcome += (
            f"; its picture, {told.change}, leaves {_number(told.statistic, '.3f')} times what the roundings of such a "
            f"copy do (limit {_number(told.limit, '.3f', 'none, not calibrated')})"
        )
    if c.resized:
        outcome += "; the probe was resized to its size"
    return {
        "name": c.name,
        "model": c.model,
        "registered": f"by {c.author}" if c.author else "by the auditor",
        "residual": _number(c.residual),
        "floors": "none" if residual is None else floors_text(residual).removesuffix(" floors"),
        "outcome": outcome,
    }


def _chart_rows(c: ReportCandidate, classes: set[str]) -> list[ChartRow]:
    """The candidate's residuals and the limits that count for each: those of the scope, as decide.py uses them.

    The residual itself is held against the unprocessed limits, the one up to a change against the processed classes'.
    """
    residual = _value(c.residual)
    if residual is None:
        return []
    wanted = {name: limits for name, limits in c.limits.items() if name in classes or c.resized}
    denial = [(name, value) for name, limits in wanted.items() if (value := _value(limits.denial)) is not None]
    unprocessed = c.limits.get(UNPROCESSED)
    attribution = None
    if unprocessed is not None and not c.resized:
        attribution = attribution_limit(_value(unprocessed.attribution), _value(unprocessed.denial))
    plain = [item for item in denial if item[0] == UNPROCESSED]
    rows = [ChartRow(c.name, residual, attribution, plain, DENIAL_MARGIN)]
    if (changed := _value(c.changed)) is not None:
        processed = [item for item in denial if item[0] != UNPROCESSED]
        rows.append(ChartRow(f"{c.name}, changed", changed, None, processed, DENIAL_MARGIN))
    return rows


def _scores(document: ReportDocument) -> list[dict[str, str]]:
    names = {c.model: c.name for c in document.candidates}
    text = {
        4: "S of two candidates: 1 if this one reproduces the probe, -1 if the other does, 0 if neither is nearer",
        5: "S_i against the best other: positive if this candidate is the nearest",
    }
    return [
        {"name": names.get(s.candidate, s.candidate), "score": _number(s.score, "+.4f"), "text": text[s.equation]}
        for s in document.scores
    ]


def _limits(document: ReportDocument) -> list[dict[str, str]]:
    return [
        {
            "name": c.name,
            "class": name,
            "n": str(limits.n),
            "denial": _number(limits.denial),
            "attribution": _number(limits.attribution),
            "failure": _number(limits.failure_bound, ".1%"),
        }
        for c in document.candidates
        for name, limits in c.limits.items()
    ]
