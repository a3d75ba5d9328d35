"""Absence by a vouched index: proofs that recomputing signers stand behind, beside what a full scan says (absence.py).

A proof is believed under two choices of the verifier's: his policy accepts the checkpoint, his index policy the root of
the absence index over the very same tree. One that only the log itself vouches for is not used. It comes from the log
(made from the entries, under the index note that it serves) or from a file that was given with the image, and then no
log needs to be reached. Absence alone is no denial: the entries must still be read to know which models to invert.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from ...ledger.absence.note import IndexPolicy
from ...ledger.absence.pages import ABSENCE_FILE
from ...ledger.absence.proof import MAGIC, AbsenceEvidence, AbsenceProof, verify_absence
from ...ledger.absence.prove import prove_absence, published
from ...ledger.absence.store import AbsenceStore
from ...ledger.entries.images import Image
from ...ledger.notes.policy import Policy
from ...schemas.errors import EvidenceError, PlausibleError, PolicyError
from ..stages.findings import Check, Coverage
from .sources import EvidenceFiles, LogSource, split_view

STAGE = "coverage"


def is_absence_proof(files: EvidenceFiles) -> bool:
    """Whether a file given as evidence is a proof about the absence index."""
    return files.proof.startswith(MAGIC)


@dataclass(frozen=True, slots=True)
class IndexAnswer:
    """What a log's index says: verified `evidence`, or why there is none; `contradiction`: a signed root is false."""

    evidence: AbsenceEvidence | None
    reason: str
    contradiction: bool = False


def index_answer(source: LogSource, image: Image, policy: IndexPolicy) -> IndexAnswer:
    """The proof about an image under the index note that a log serves, whose entries were scanned and are the signed
    ones: a note that is accepted and not what they give is then false."""
    accepted = source.accepted
    if accepted is None or source.policy is None:
        return IndexAnswer(None, source.problem or "no checkpoint was accepted")
    try:
        note = published(source.log)
        if note is None:
            return IndexAnswer(None, f"{source.origin} serves no index note")
        head = policy.check(note).head
    except PlausibleError as error:
        return IndexAnswer(None, str(error))
    if (head.origin, head.size) != (accepted.origin, accepted.size):
        return IndexAnswer(
            None, f"its note is of size {head.size} of {head.origin}, the checkpoint of size {accepted.size}"
        )
    if head.root != accepted.root:
        what = f"split view: the signed index of {head.origin} is over another tree of size {head.size}"
        return IndexAnswer(None, what, contradiction=True)
    try:
        proof = prove_absence(
            source.log, note, source.note, pixels=image.pixel_digest, file=image.file_digest, store=_store(source)
        )
        evidence = _verified(proof, image, source.policy, policy)
    except EvidenceError as error:
        return IndexAnswer(None, str(error), contradiction=True)
    except PlausibleError as error:
        return IndexAnswer(None, str(error))
    return IndexAnswer(evidence if evidence.weakness is None else None, evidence.weakness or "")


def _store(source: LogSource) -> AbsenceStore:
    """The log's map: a ledger of one's own keeps it, another log's is made from its entries and kept meanwhile."""
    if source.absence is None:
        source.absence = AbsenceStore(source.ledger.path / ABSENCE_FILE if source.ledger is not None else None)
    return source.absence


def _verified(proof: AbsenceProof, image: Image, policy: Policy, index_policy: IndexPolicy) -> AbsenceEvidence:
    return verify_absence(
        proof, pixels=image.pixel_digest, file=image.file_digest, policy=policy, index_policy=index_policy,
        now=int(time.time()),
    )  # fmt: skip


def in_words(evidence: AbsenceEvidence) -> str:
    """What a vouched proof of absence shows, and by whose word."""
    who = ", ".join(evidence.index.signers)
    return f"Proven absent by the index of {evidence.origin} over {evidence.size} entries, whose root {who} recomputed."


def given_answer(
    files: EvidenceFiles,
    image: Image,
    *,
    policy: Policy | None,
    index_policy: IndexPolicy | None,
    sources: Sequence[LogSource],
    max_age: float | None,
) -> tuple[Check, Coverage | None, str | None]:
    """What a given proof says: its check, the coverage it gives (None: none), and why it could not be read, if so."""

    def skipped(reason: str) -> tuple[Check, Coverage | None, str | None]:
        return Check(files.name, "skipped", reason, STAGE), None, None

    if policy is None or index_policy is None:
        return skipped("no policy and index policy say whom to believe")
    try:
        proof = AbsenceProof.parse(files.proof)
    except EvidenceError as error:
        return Check(files.name, "failed", str(error), STAGE), None, f"{files.name}: {error}"
    try:
        proof.require_about(pixels=image.pixel_digest, file=image.file_digest)
    except EvidenceError as error:  # evidence for another image is a failed check by name, and no more
        return Check(files.name, "failed", str(error), STAGE), None, None
    try:
        evidence = _verified(proof, image, policy, index_policy)
    except PolicyError as error:
        return skipped(str(error))
    except EvidenceError as error:
        return _false(files, str(error))
    split = split_view(evidence.checkpoint, sources)
    if split is not None:
        return _false(files, split)
    if evidence.weakness is not None:
        return skipped(evidence.weakness)
    logs = ((evidence.origin, evidence.size),)
    if not evidence.absent:
        reason = f"entry {evidence.indices[0]} of {evidence.origin} names its digests"
        return Check(files.name, "made", reason, STAGE), Coverage("present", logs, reason), None
    time_seen = evidence.checkpoint.existence_time
    age = None if time_seen is None else time.time() - time_seen
    if max_age is not None and age is not None and age > max_age:
        return skipped(f"its checkpoint of {evidence.origin} is {age:.0f} s old")
    return Check(files.name, "made", in_words(evidence), STAGE), Coverage("absent", logs, in_words(evidence)), None


def _false(files: EvidenceFiles, reason: str) -> tuple[Check, Coverage | None, str | None]:
    return Check(files.name, "failed", reason, STAGE), Coverage("contradiction", (), f"{files.name}: {reason}"), None


def with_given(sources: Sequence[LogSource], found: Sequence[Coverage], given: Sequence[Coverage]) -> list[Coverage]:
    """The logs' coverages with those of given proofs: for a log that could not be scanned, and for one not at hand."""
    answers = list(found)
    for coverage in given:
        origins = {origin for origin, _ in coverage.logs}
        at_hand = [n for n, source in enumerate(sources) if source.origin in origins]
        if coverage.state == "contradiction" or not at_hand:
            answers.append(coverage)
        for number in at_hand:
            if answers[number].state == "unknown" and sources[number].scan_problem is not None:
                answers[number] = coverage
    return answers


def combined(found: Sequence[Coverage]) -> Coverage:
    """The weakest of the logs' answers: absent only if absent from all."""
    if not found:
        return Coverage("unknown", (), "no log was given")
    logs = tuple(log for coverage in found for log in coverage.logs)
    for state in ("contradiction", "unknown", "present"):
        for coverage in found:
            if coverage.state == state:
                return Coverage(coverage.state, logs, coverage.reason)
    return Coverage("absent", logs, " ".join(coverage.reason for coverage in found))
