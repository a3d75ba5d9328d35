"""`pd verify` on a machine without torch: the evidence alone, proofs about absence indexes among it.

At most `claimed`, since nothing can be replayed, and never `deniable`, since nothing can be inverted.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..schemas.errors import PlausibleError, UsageError
from . import output

if TYPE_CHECKING:
    from ..attribution.logs.sources import EvidenceFiles
    from ..attribution.stages.findings import Check, Coverage, Decision, EntryFinding, Findings
    from ..ledger.absence.note import IndexPolicy
    from ..ledger.entries.authors import Authors
    from ..ledger.entries.evidence import Evidence
    from ..ledger.entries.images import Image
    from ..ledger.notes.policy import Policy

_ABSENT = "torch is not installed: pip install 'plausible-deniability[attribution]'"
_WORDS = {"passed": "ok", "made": "ok", "failed": "FAIL", "skipped": "skip"}


@dataclass(frozen=True, slots=True)
class _Trust:
    """Whom the verifier believes."""

    policy: Policy
    authors: Authors
    index_policy: IndexPolicy | None
    max_age: float | None


@dataclass(slots=True)
class _Checked:
    """What was checked of one picture."""

    evidence: list[Evidence] = field(default_factory=list["Evidence"])
    absence: list[Check] = field(default_factory=list["Check"])


def verify_evidence_only(
    images: list[str],
    evidence: dict[str, list[Path]],
    trust: tuple[bytes | None, bytes | None],
    *,
    index_policy: IndexPolicy | None = None,
    max_age: float | None = None,
    as_json: bool,
) -> int:
    """Check each image's evidence under policy and authors; print, and return the batch's exit code.

    Proofs about absence indexes are held against `index_policy` too, and are passed over without one. Raises
    `UsageError` without policy, authors or any evidence: there would be nothing to say.
    """
    from ..attribution.stages.decide import decide
    from ..attribution.stages.findings import Scope
    from ..ledger.entries.authors import Authors
    from ..ledger.notes.policy import Policy
    from ..schemas.verdict import worst_exit

    if trust[0] is None or trust[1] is None:
        raise UsageError("without torch only evidence can be checked, and that needs --policy and --authors")
    if not any(evidence.values()):
        raise UsageError(f"no evidence given or found beside the pictures, and nothing else can be done: {_ABSENT}")
    believed = _Trust(Policy.parse(trust[0]), Authors.parse(trust[1]), index_policy, max_age)
    answers: list[tuple[str, Decision, _Checked]] = []
    for image in images:
        checked = _Checked()
        decision = decide(_findings(image, evidence[image], believed, checked), Scope("strict", ("unprocessed",)))
        answers.append((image, decision, checked))
        if not as_json:
            output.result(f"{image}: {decision.verdict}: {decision.line}")
    if as_json:
        output.document("plausible.evidence-checks/1", {"images": [_row(*answer) for answer in answers]})
    return worst_exit(decision.verdict.exit_code for _, decision, _ in answers)


def _findings(image: str, files: list[Path], trust: _Trust, checked: _Checked) -> Findings:
    from ..attribution.logs.sources import read_evidence
    from ..attribution.logs.vouched import combined, is_absence_proof
    from ..attribution.stages.findings import CopyFinding, Coverage, Findings

    try:
        picture = _read(image)
    except (PlausibleError, OSError) as error:
        return Findings("policy", unreadable=f"the image cannot be read: {error}")
    entries: list[EntryFinding] = []
    absent: list[Coverage] = []
    incomplete: list[str] = []
    for given in read_evidence(files):
        output.note(f"{given.name}:")
        if is_absence_proof(given):
            check, coverage, unread = _absence(given, picture, trust)
            checked.absence.append(check)
            absent += [coverage] if coverage is not None else []
            incomplete += [unread] if unread is not None else []
            continue
        found = _check(picture, given, trust)
        checked.evidence.append(found)
        for one in found.checks:
            _tell(one.outcome, f"{one.name}: {one.detail}")
        malformed = found.fault("malformed")
        if malformed is not None:
            incomplete.append(f"{given.name}: {malformed.name}: {malformed.detail}")
        entries.append(_entry(found))
    return Findings(
        "policy",
        entries=tuple(entries),
        coverage=combined(absent) if absent else Coverage("unknown", (), _ABSENT),
        copies=CopyFinding(False, reason=_ABSENT),
        incomplete=tuple(incomplete),
    )


def _read(image: str) -> Image:
    import sys

    from ..ledger.entries.images import read_image

    return read_image(sys.stdin.buffer.read() if image == "-" else Path(image))


def _tell(outcome: str, text: str) -> None:
    output.note(f"  {_WORDS[outcome]:4}  {text}")


def _absence(given: EvidenceFiles, picture: Image, trust: _Trust) -> tuple[Check, Coverage | None, str | None]:
    """A proof about an absence index: its check, what it covers, and why it could not be read, if so."""
    from ..attribution.logs.vouched import given_answer

    answer = given_answer(
        given, picture, policy=trust.policy, index_policy=trust.index_policy, sources=(), max_age=trust.max_age
    )
    _tell(answer[0].state, f"absence index: {answer[0].reason}")
    return answer


def _check(picture: Image, given: EvidenceFiles, trust: _Trust) -> Evidence:
    from ..ledger.entries.evidence import verify_evidence
    from ..ledger.seeds.epochs import EpochIndex

    epochs = EpochIndex()
    if given.epoch is not None:
        try:
            epochs.add_proof(given.epoch, trust.policy, trust.authors)
        except PlausibleError as error:
            output.note(f"the proof of the seed epoch does not count: {error}")
    return verify_evidence(
        picture, given.proof, given.opening, trust.policy, trust.authors, now=int(time.time()), epochs=epochs
    )


def _entry(found: Evidence) -> EntryFinding:
    """What decide() is told about one piece of evidence."""
    from ..attribution.stages.findings import EntryFinding

    false, distrust = found.fault("false"), found.fault("policy")
    origin = "an unreadable log"
    if found.proof is not None:
        origin = found.proof.checkpoint.origin
    return EntryFinding(
        origin,
        found.index,
        None if found.author is None else found.author.name,
        accused=True,
        matches=found.match,
        contradiction=None if false is None else f"{false.name}: {false.detail}",
        distrust=None if distrust is None else f"{distrust.name}: {distrust.detail}",
        opened=found.passed("opening", "context"),
    )


def _row(image: str, decision: Decision, checked: _Checked) -> dict[str, Any]:
    return {
        "image": image,
        "verdict": str(decision.verdict),
        "exit_code": decision.verdict.exit_code,
        "line": decision.line,
        "evidence": [
            {"index": e.index, "checks": [{"name": c.name, "outcome": c.outcome, "detail": c.detail} for c in e.checks]}
            for e in checked.evidence
        ],
        "absence": [{"name": c.name, "outcome": c.state, "detail": c.reason} for c in checked.absence],
    }
