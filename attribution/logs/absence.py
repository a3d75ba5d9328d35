"""What full scans say together: absence from all named logs, and what the accused authors' entries name.

Coverage of one log is exact (coverage.py); here it is held against what makes it worth something: a policy that
accepts the checkpoint, witnesses who cosigned it, and a checkpoint that is not too old. Several logs are combined to
the weakest of their answers.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

from ...ledger.absence.note import IndexPolicy
from ...ledger.entries.entry import verify_entry
from ...ledger.entries.images import Image
from ...ledger.merkle.tree import hash_leaf, inclusion_path, verify_inclusion
from ...ledger.writing.succession import Predecessor, check_closed, check_predecessor, read_predecessor
from ...schemas.errors import PlausibleError
from ...schemas.text import digest_text
from ..stages.findings import Coverage, EntryFinding
from ..stages.models import Registration
from .sources import LogSource
from .vouched import in_words, index_answer


def passed_over(entries: Sequence[EntryFinding]) -> bool:
    """Whether entries name the image, and none of them by an accused author: no presence, since anyone may log it."""
    about = [e for e in entries if e.matches is not None]
    return bool(about) and not any(e.accused for e in about)


def source_coverage(
    source: LogSource,
    image: Image,
    *,
    index_policy: IndexPolicy | None = None,
    strangers: bool = False,
    max_age: float | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Coverage:
    """What one log says of an image; `absent` only under a witnessed checkpoint at most `max_age` seconds old.

    With an index policy the absence index that the log serves must agree, and the reason says what it proves.
    `strangers`: the entries that name it are of authors who are not accused (`passed_over`).
    """
    accepted = source.accepted
    if accepted is None:
        return Coverage("unknown", (), source.problem or "no checkpoint was accepted")
    scan = source.scan(progress)
    if scan is None:
        return Coverage("unknown", (), source.scan_problem or "the log could not be scanned")
    coverage = scan.coverage(pixels=image.pixel_digest, file=image.file_digest)
    if coverage.state == "present" and strangers:
        reason = f"All {scan.size} entries were re-hashed; those that name it are of authors who are not accused."
        coverage = Coverage("contradiction", coverage.logs, scan.contradiction) if scan.contradiction else Coverage(
            "absent", coverage.logs, reason
        )  # fmt: skip
    if coverage.state != "absent":
        return coverage
    if not accepted.cosigners:
        reason = f"{source.origin} is not witnessed: others may be shown another tree"
        return Coverage("unknown", coverage.logs, reason)
    age = None if accepted.existence_time is None else time.time() - accepted.existence_time
    if max_age is not None and age is not None and age > max_age:
        return Coverage("unknown", coverage.logs, f"the checkpoint of {source.origin} is {age:.0f} s old")
    return coverage if index_policy is None else _indexed(source, image, index_policy, coverage, strangers)


def _indexed(
    source: LogSource, image: Image, index_policy: IndexPolicy, coverage: Coverage, strangers: bool
) -> Coverage:
    """Absence as the scan found it, beside what the log's index says."""
    answer = index_answer(source, image, index_policy)
    if answer.contradiction:
        return Coverage("contradiction", coverage.logs, answer.reason)
    if answer.evidence is None:
        return replace(coverage, reason=f"{coverage.reason} The absence index was not used: {answer.reason}.")
    if answer.evidence.absent:
        return replace(coverage, reason=f"{in_words(answer.evidence)} {coverage.reason}")
    if strangers:
        return replace(coverage, reason=f"{coverage.reason} The absence index names the same entries.")
    entry = answer.evidence.indices[0]
    return Coverage(
        "unknown", coverage.logs, f"the absence index of {source.origin} names entry {entry}, the scan none"
    )


def _carried(source: LogSource) -> Predecessor | None:
    """The log that a source continues, as its entry 0 says under the accepted checkpoint."""
    at = source.accepted
    if at is None or not at.size:
        return None
    leaf = source.log.entry(0, at.size)
    path = inclusion_path(lambda level, index: source.log.hash(level, index, at.size), 0, at.size)
    verify_inclusion(0, at.size, hash_leaf(leaf), path, at.root)
    return read_predecessor(leaf, at.origin)


def succession_gap(sources: Sequence[LogSource]) -> str | None:
    """Why absence from these logs leaves out a log that one of them continues; None if it leaves out none."""
    for source in sources:
        try:
            carried = _carried(source)
        except PlausibleError as error:
            return f"entry 0 of {source.origin} cannot be read: {error}"
        if carried is None:
            continue
        old = next((s for s in sources if s.accepted is not None and s.origin == carried.origin), None)
        if old is None or old.accepted is None:
            return f"{source.origin} continues {carried.origin}, whose {carried.size} entries were not read"
        try:
            if old.policy is not None:
                check_predecessor(carried, old.policy)
            check_closed(carried, old.accepted.checkpoint)
        except PlausibleError as error:
            return f"{source.origin} continues {carried.origin}, but {error}"
        if old.accepted.size < carried.size:
            return f"{carried.origin} was closed with {carried.size} entries, and only {old.accepted.size} were read"
    return None


def accused_facts(
    sources: Sequence[LogSource], registered: Sequence[Registration], accused: Collection[str]
) -> tuple[int | None, frozenset[str]]:
    """(pictures logged, models named) in entries that accused authors signed, over all scanned logs.

    The number is None where a log was not scanned under an accepted checkpoint. Entries in an accused author's name
    without his signature count for nothing, else anyone could bar a denial by logging them.
    """
    pictures: int | None = 0 if sources else None
    models: set[str] = {r.model for r in registered if r.author in accused}
    for source in sources:
        scan = source.scan() if source.accepted is not None else None
        if scan is None or source.authors is None:
            pictures = None
            continue
        for index, entry in scan.entries():
            if entry.author.name not in accused or (entry.generation is None and entry.model is None):
                continue
            try:
                verify_entry(entry, source.authors, index=index, origin=source.origin)
            except PlausibleError:
                continue
            if entry.generation is not None:
                pictures = None if pictures is None else pictures + 1
                models.add(digest_text(entry.generation.model))
            elif entry.model is not None:
                models.add(digest_text(entry.model.manifest))
    return pictures, frozenset(models)
