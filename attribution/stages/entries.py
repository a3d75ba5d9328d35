"""Stage 1 and 2 of the cascade: entries about the probe, given as evidence or found by its digests, and their replay.

`ledger.evidence` makes the checks of the format in their order; here each becomes a line of the report, and together
they become one `EntryFinding`. Which failure means what:

| fault of a check | evidence for this image | evidence for another image |
| --- | --- | --- |
| false (signature, inclusion, commitment, context) | contradiction: the claim that fell | listed only |
| policy (quorum, unknown or revoked author) | distrust | listed only |
| malformed | cannot be read: the answer is incomplete | cannot be read: the answer is incomplete |

An entry of an author who is not accused is neither presence nor a stop. An author unknown to authors.txt is distrusted
where the entry was handed in as evidence, and passed over where it merely lies in the log: anyone may log anything. So
is a found entry that an accused author did not sign.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ...ledger.entries.counted import counted_inputs
from ...ledger.entries.evidence import Evidence
from ...ledger.entries.images import Image
from ...ledger.entries.record import OpenedRecord
from ...schemas.errors import EvidenceError, PlausibleError
from ...schemas.text import digest_text
from ..copies.limits import CopyLimits
from ..copies.search import variance
from ..copies.similarity import mse
from ..generators.protocol import Generator
from ..replay.records import Replay, replay
from ..seeds import screen_record
from .findings import Check, EntryFinding
from .models import Models, Registration

STAGE = "evidence"
REPLAY_STAGE = "replay"
_STATES = {"passed": "made", "failed": "failed", "skipped": "skipped"}


@dataclass(frozen=True, slots=True)
class Judged:
    """One piece of evidence after all its checks, and the replay if it came to one."""

    finding: EntryFinding
    checks: tuple[Check, ...]
    evidence: Evidence
    malformed: str | None = None
    replay: Replay | None = None


def judge(
    evidence: Evidence, label: str, *, given: bool, accused: Collection[str], registered: Sequence[Registration]
) -> Judged:
    """The finding and the report lines of evidence that `verify_evidence` has checked against the probe."""
    checks = tuple(
        Check(f"{c.name} ({label})", _STATES[c.outcome], c.detail, STAGE)  # type: ignore[arg-type]
        for c in evidence.checks
        if c.name != "replay"
    )
    entry = evidence.entry
    false, policy, malformed = evidence.fault("false"), evidence.fault("policy"), evidence.fault("malformed")
    # a false signature on an entry that merely lies in the log is no word of the author's: anyone may log anything
    foreign = not given and false is not None and false.name == "author"
    matches = evidence.match if entry is not None else None
    unknown = policy is not None and policy.name == "author"
    name = None if entry is None else entry.author.name
    is_accused = (name in accused and not foreign) or (given and unknown)
    finding = EntryFinding(
        origin=evidence.proof.checkpoint.origin if evidence.proof is not None else label,
        index=evidence.index,
        author=name,
        accused=is_accused,
        matches=matches,
        time=None if entry is None else entry.header.time,
        contradiction=None if false is None else f"{false.name}: {false.detail}",
        distrust=None if policy is None else f"{policy.name}: {policy.detail}",
        opened=evidence.opened is not None,
    )
    generation = None if entry is None else entry.generation
    if generation is not None:
        model = digest_text(generation.model)
        before = any(
            r.model == model and r.author == name and r.origin == finding.origin
            and finding.index is not None and r.index < finding.index
            for r in registered
        )  # fmt: skip
        finding = replace(finding, model=model, model_registered=before)
    broken = None if malformed is None else f"{label}: {malformed.name}: {malformed.detail}"
    return Judged(finding, checks, evidence, broken)


def replay_entry(judged: Judged, image: Image, models: Models, *, device: str, limits: CopyLimits | None) -> Judged:
    """Replay an accepted entry about the probe onto the probe's own pixels; every reason not to is a line."""
    finding, label = judged.finding, f"entry {judged.finding.index} of {judged.finding.origin}"
    opened = judged.evidence.opened
    if finding.matches is None or not finding.accused or finding.contradiction is not None or opened is None:
        reason = "the record was not opened" if opened is None else "the evidence does not count for this image"
        return _with(judged, finding, Check(f"replay ({label})", "skipped", reason, REPLAY_STAGE))
    generator: Generator | None = None
    try:
        generator = models.generator(opened.context.model)
        outcome = replay(opened, generator, image.pixels, device=device)
    except EvidenceError as error:
        failed = replace(finding, contradiction=f"replay: {error}")
        return _with(judged, failed, Check(f"replay ({label})", "failed", str(error), REPLAY_STAGE))
    except PlausibleError as error:
        skipped = Check(f"replay ({label})", "skipped", str(error), REPLAY_STAGE)
        if generator is None:
            return _with(judged, finding, skipped)
        reason, free = _counted(opened, generator, None, label)
        return _with(judged, replace(finding, uncounted=reason), skipped, *free)
    reason, free = _counted(opened, generator, outcome.drawn, label)
    finding = replace(finding, replay=outcome.state, uncounted=reason)
    state = "made" if outcome.state in ("exact", "tolerance") else "failed"
    checks = [Check(f"replay ({label})", state, str(outcome), REPLAY_STAGE), *free]
    if finding.matches == "file" and outcome.state == "different" and outcome.reproduces_entry:
        finding, check = _as_file_copy(finding, outcome, image, limits, label)
        checks.append(check)
    return replace(_with(judged, finding, *checks), replay=outcome)


def _counted(
    opened: OpenedRecord, generator: Generator, drawn: NDArray[np.float32] | None, label: str
) -> tuple[str | None, list[Check]]:
    """Why the record's inputs do not count, if so, and the lines about them: counted, and looking drawn or not."""
    counted = counted_inputs(opened, manifest=generator.manifest, drawn=drawn, prior=generator.latent.prior)
    reason = "; ".join(counted.reasons) or None
    text = reason or f"{counted.free} free numbers, at most {counted.limit} count"
    line = Check(f"counted inputs ({label})", "failed" if reason else "made", text, REPLAY_STAGE)
    return reason, [line, _plausibility(opened, generator, drawn, label)]


def _plausibility(opened: OpenedRecord, generator: Generator, drawn: NDArray[np.float32] | None, label: str) -> Check:
    """Whether the inputs look drawn: a line of the report, from which no verdict follows."""
    name = f"seed plausibility ({label})"
    try:
        found = screen_record(opened, generator, drawn=drawn)
    except PlausibleError as error:
        return Check(name, "skipped", str(error), REPLAY_STAGE)
    if found is None:
        reason = "its latent follows from a committed seed and no other input is free"
        return Check(name, "skipped", reason, REPLAY_STAGE)
    state = "skipped" if found.plausible is None else "made" if found.plausible else "failed"
    return Check(name, state, str(found), REPLAY_STAGE)


def _as_file_copy(
    finding: EntryFinding, outcome: Replay, image: Image, limits: CopyLimits | None, label: str
) -> tuple[EntryFinding, Check]:
    """The very file was logged, its samples are not the replay's: a JPEG of it within the class's limit, or not."""
    name = f"file and replay ({label})"
    pixels, replayed = image.pixels[..., :3], outcome.pixels[..., :3]
    limit = None if limits is None else limits.limit("whole", variance(pixels))
    if pixels.shape != replayed.shape:
        return replace(finding, file_copy=False), Check(name, "failed", "another size than the replay", REPLAY_STAGE)
    residual = mse(np.ascontiguousarray(pixels), np.ascontiguousarray(replayed))
    if limit is None:
        reason = f"residual {residual:.2e}, but the copy search of this model is not calibrated"
        return replace(finding, file_copy=False), Check(name, "skipped", reason, REPLAY_STAGE)
    within = residual <= limit
    reason = f"residual {residual:.2e}, limit {limit:.2e}"
    return replace(finding, file_copy=within), Check(name, "made" if within else "failed", reason, REPLAY_STAGE)


def _with(judged: Judged, finding: EntryFinding, *checks: Check) -> Judged:
    return replace(judged, finding=finding, checks=(*judged.checks, *checks))


def usable_record(judged: Judged) -> OpenedRecord | None:
    """The opened record of evidence whose entry stands in the log, whatever image it is about: a candidate original."""
    evidence = judged.evidence
    if judged.finding.contradiction is not None or judged.malformed is not None:
        return None
    return evidence.opened if evidence.passed("proof", "inclusion", "canonical", "profile") else None
