"""`pd verify` on a machine without torch: the evidence alone. At most `claimed`, since nothing can be replayed."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..schemas.errors import PlausibleError, UsageError
from . import output, sources

if TYPE_CHECKING:
    from ..attribution.findings import Decision, Findings
    from ..ledger.entries.evidence import Evidence
    from ..ledger.entries.images import Image

_ABSENT = "torch is not installed: pip install 'plausible-deniability[attribution]'"


def verify_evidence_only(
    images: list[str],
    evidence: dict[str, list[Path]],
    trust: tuple[bytes | None, bytes | None],
    *,
    as_json: bool,
) -> int:
    """Check each image's evidence under policy and authors; print, and return the batch's exit code.

    Raises `UsageError` without policy, authors or any evidence: there would be nothing to say.
    """
    from ..attribution.decide import decide
    from ..attribution.findings import Scope
    from ..ledger.entries.authors import Authors
    from ..ledger.notes.policy import Policy
    from ..schemas.verdict import worst_exit

    if trust[0] is None or trust[1] is None:
        raise UsageError("without torch only evidence can be checked, and that needs --policy and --authors")
    if not any(evidence.values()):
        raise UsageError(f"no evidence given or found beside the pictures, and nothing else can be done: {_ABSENT}")
    policy, authors = Policy.parse(trust[0]), Authors.parse(trust[1])
    answers: list[tuple[str, Decision, list[Evidence]]] = []
    for image in images:
        found, checked = _findings(image, evidence[image], policy, authors)
        decision = decide(found, Scope("strict", ("unprocessed",)))
        answers.append((image, decision, checked))
        if not as_json:
            output.result(f"{image}: {decision.verdict}: {decision.line}")
    if as_json:
        output.document("plausible.evidence-checks/1", {"images": [_row(*answer) for answer in answers]})
    return worst_exit(decision.verdict.exit_code for _, decision, _ in answers)


def _findings(image: str, files: list[Path], policy: Any, authors: Any) -> tuple[Findings, list[Evidence]]:
    from ..attribution.findings import CopyFinding, Coverage, Findings

    coverage = Coverage("unknown", (), _ABSENT)
    copies = CopyFinding(False, reason=_ABSENT)
    try:
        picture = _read(image)
    except (PlausibleError, OSError) as error:
        return Findings("policy", unreadable=f"the image cannot be read: {error}"), []
    entries: list[Any] = []
    incomplete: list[str] = []
    checked: list[Evidence] = []
    for name, proof, opening, epoch in _pairs(files):
        found = _check(picture, proof, opening, epoch, policy, authors)
        checked.append(found)
        output.note(f"{name}:")
        for check in found.checks:
            word = {"passed": "ok", "failed": "FAIL", "skipped": "skip"}[check.outcome]
            output.note(f"  {word:4}  {check.name}: {check.detail}")
        malformed = found.fault("malformed")
        if malformed is not None:
            incomplete.append(f"{name}: {malformed.name}: {malformed.detail}")
        entries.append(_entry(found))
    return (
        Findings("policy", entries=tuple(entries), coverage=coverage, copies=copies, incomplete=tuple(incomplete)),
        checked,
    )


def _read(image: str) -> Image:
    import sys

    from ..ledger.entries.images import read_image

    return read_image(sys.stdin.buffer.read() if image == "-" else Path(image))


def _check(
    picture: Image, proof: bytes, opening: bytes | None, epoch: bytes | None, policy: Any, authors: Any
) -> Evidence:
    from ..ledger.entries.evidence import verify_evidence
    from ..ledger.seeds.epochs import EpochIndex

    epochs = EpochIndex()
    if epoch is not None:
        try:
            epochs.add_proof(epoch, policy, authors)
        except PlausibleError as error:
            output.note(f"the proof of the seed epoch does not count: {error}")
    return verify_evidence(picture, proof, opening, policy, authors, now=int(time.time()), epochs=epochs)


def _entry(found: Evidence) -> Any:
    """What decide() is told about one piece of evidence."""
    from ..attribution.findings import EntryFinding

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


def _pairs(files: list[Path]) -> list[tuple[str, bytes, bytes | None, bytes | None]]:
    """(name, proof, opening, proof of the epoch) from files that were named; what belongs together has one name."""
    for path in files:
        if path.name.endswith(".absence-proof"):
            output.note(f"{path.name}: skipped: pd prove-absence --check says what it proves")
    files = [path for path in files if not path.name.endswith(".absence-proof")]
    proofs = [path for path in files if not path.name.endswith(".opening.json")]
    openings = {str(path).removesuffix(".opening.json"): path for path in files if path not in proofs}
    found: list[tuple[str, bytes, bytes | None, bytes | None]] = []
    for path in proofs:
        stem = str(path).removesuffix(".tlog-proof")
        opening = openings.pop(stem, Path(stem + ".opening.json"))
        data = sources.read_bytes(opening, "the opening") if opening.is_file() else None
        beside = Path(stem + ".epoch-proof")
        epoch = sources.read_bytes(beside, "the proof of the epoch") if beside.is_file() else None
        found.append((path.name, sources.read_bytes(path, "the proof"), data, epoch))
    if openings:
        raise UsageError(f"{next(iter(openings.values()))} is an opening without its proof")
    return found


def _row(image: str, decision: Decision, checked: list[Evidence]) -> dict[str, Any]:
    return {
        "image": image,
        "verdict": str(decision.verdict),
        "exit_code": decision.verdict.exit_code,
        "line": decision.line,
        "evidence": [
            {"index": e.index, "checks": [{"name": c.name, "outcome": c.outcome, "detail": c.detail} for c in e.checks]}
            for e in checked
        ],
    }
