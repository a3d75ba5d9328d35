"""Stage 3 of the cascade: the replayed pictures of records, searched for an original of which the probe is a copy.

Records come from a ledger's vault and from openings handed in as evidence, about whatever image. The stage has *really
run* only if every generation entry of the accused authors up to the scanned sizes was replayed and searched with
calibrated limits; otherwise it says over how many pictures it ran, and no denial can rest on it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ...ledger.entries.evidence import verify_evidence
from ...ledger.entries.images import Image
from ...ledger.entries.record import OpenedRecord, open_record
from ...schemas.errors import PlausibleError
from ..copies.limits import CopyLimits
from ..copies.search import Copy, CopyIndex, search_copies
from ..copies.transformation import JpegSettings
from ..logs.sources import LogSource
from ..replay.records import recorded_latent, replay_pictures
from .entries import Judged, usable_record
from .findings import Check, CopyFinding
from .models import REGISTERED, Models

STAGE = "changed copies"
# A recovered latent this near a logged one (|z - z'| / |z'|) stands for the same picture: two latents drawn apart from
# each other are that near with a probability below 1e-6 from 8 dimensions on.
SAME_LATENT = 0.25
_FEWEST_DIMENSIONS = 8
# The families that a denial needs limits for: those of the relaxed scope. Smaller crops are searched besides.
NEEDED = ("whole", "crop", "resized", "crop-resized")


@dataclass(frozen=True, slots=True)
class Original:
    """A record that can be replayed: where its entry is, whose it is, and why its entry might not count."""

    source: LogSource | None
    origin: str
    index: int
    author: str
    model: str
    latent: NDArray[np.float32] = field(repr=False, compare=False)
    judged: Judged | None = field(default=None, repr=False, compare=False)


@dataclass(slots=True)
class Archive:
    """The replayed pictures of all originals, indexed by model; made once and used for every probe of a batch."""

    originals: list[Original] = field(default_factory=list[Original])
    indices: dict[str, CopyIndex] = field(default_factory=dict[str, CopyIndex])
    limits: dict[str, CopyLimits | None] = field(default_factory=dict[str, "CopyLimits | None"])
    problems: list[str] = field(default_factory=list[str])

    @property
    def pictures(self) -> int:
        """How many pictures are searched."""
        return sum(len(index) for index in self.indices.values())


def build_archive(
    sources: Sequence[LogSource],
    judged: Sequence[Judged],
    models: Models,
    accused: Collection[str],
    *,
    progress: Callable[[str, int, int], None] | None = None,
) -> Archive:
    """Replay every record at hand of the accused authors; what cannot be replayed is a named problem."""
    archive = Archive()
    for source in sources:
        _from_vault(archive, source, models, accused)
    for item in judged:
        _from_evidence(archive, item, models, accused)
    seen: set[tuple[str, int]] = set()
    originals: list[Original] = []
    for original in archive.originals:
        if (original.origin, original.index) not in seen:
            seen.add((original.origin, original.index))
            originals.append(original)
    archive.originals = originals
    by_model: dict[str, list[int]] = {}
    for number, original in enumerate(archive.originals):
        by_model.setdefault(original.model, []).append(number)
    done = 0
    for digest, numbers in by_model.items():
        generator = models.generator(digest)
        latents = np.stack([archive.originals[i].latent for i in numbers])
        pictures: list[tuple[int, NDArray[np.uint8]]] = []
        for number, picture in zip(numbers, replay_pictures(latents, generator), strict=True):
            pictures.append((number, picture))
            done += 1
            if progress is not None:
                progress(STAGE, done, len(archive.originals))
        archive.indices[digest] = CopyIndex(pictures)
        model = models.get(digest)
        try:
            archive.limits[digest] = None if model is None or model.folder is None else CopyLimits.load(
                model.folder, model=digest
            )  # fmt: skip
        except PlausibleError as error:
            archive.limits[digest] = None
            archive.problems.append(str(error))
        found = archive.limits[digest]
        problem = None if found is None else found.too_few_for(len(pictures))
        if problem is not None:
            archive.limits[digest] = None
            archive.problems.append(problem)
    return archive


def _from_vault(archive: Archive, source: LogSource, models: Models, accused: Collection[str]) -> None:
    if source.ledger is None or source.accepted is None:
        return
    for index, entry, record in source.ledger.records():
        if index >= source.accepted.size or entry.author.name not in accused:
            continue
        try:
            opened = open_record(record)
            _add(archive, models, source, source.origin, index, entry.author.name, opened, None)
        except PlausibleError as error:
            archive.problems.append(f"entry {index} of {source.origin} cannot be replayed: {error}")


def _from_evidence(archive: Archive, item: Judged, models: Models, accused: Collection[str]) -> None:
    opened, finding = usable_record(item), item.finding
    if opened is None or finding.index is None or finding.author is None or finding.author not in accused:
        return
    try:
        _add(archive, models, None, finding.origin, finding.index, finding.author, opened, item)
    except PlausibleError as error:
        archive.problems.append(f"entry {finding.index} of {finding.origin} cannot be replayed: {error}")


def _add(
    archive: Archive,
    models: Models,
    source: LogSource | None,
    origin: str,
    index: int,
    author: str,
    opened: OpenedRecord,
    judged: Judged | None,
) -> None:
    generator = models.generator(opened.context.model)
    latent = recorded_latent(opened, generator)
    archive.originals.append(Original(source, origin, index, author, generator.digest, latent, judged))


def search_archive(
    image: Image,
    archive: Archive,
    *,
    expected: int | None,
    jpeg: JpegSettings | None,
) -> tuple[CopyFinding, list[Check], Copy | None, Original | None]:
    """Search the archive for an original of the probe.

    `expected` is how many generation entries of accused authors the scanned logs hold, None if that is unknown: the
    stage ran fully only if so many pictures were searched, each under calibrated limits.
    """
    best: Copy | None = None
    for digest, index in archive.indices.items():
        found = search_copies(image.pixels, index, archive.limits.get(digest), jpeg=jpeg)
        if found is not None and (best is None or _order(found) < _order(best)):
            best = found
    missing = _incomplete(archive, expected)
    original = None if best is None else archive.originals[best.key]
    checks = [Check("replayed pictures searched", "skipped" if missing else "made", missing or _amount(archive), STAGE)]
    checks += [Check("records and limits", "failed", problem, STAGE) for problem in archive.problems[:20]]
    finding = CopyFinding(ran=missing is None, pictures=archive.pictures, reason=missing or "")
    if best is None or original is None:
        return finding, checks, None, None
    where = f"entry {original.index} of {original.origin}"
    limit = "no limit: not calibrated" if best.limit is None else f"limit {best.limit:.2e}"
    left = "every sample equal" if best.residual == 0 else f"residual {best.residual:.2e}, {limit}"
    described = f"{where} by {best.transformation}: {left}"
    again = "; re-encoded with this file's own JPEG settings every sample is equal" * (best.reencoded_mismatches == 0)
    described += again
    outcome = "a copy" if best.within else "not a copy"
    checks.append(Check(f"nearest logged picture ({best.stage})", "made", f"{outcome}: {described}", STAGE))
    found_text = distrust = None
    if best.within:
        found_text = f"{where} (by {original.author}): {best.transformation}{again}"
        distrust = _distrust(original)
        state = "made" if distrust is None else "failed"
        checks.append(Check(f"the original's own entry ({where})", state, distrust or "accepted by the policy", STAGE))
    finding = CopyFinding(
        ran=missing is None, pictures=archive.pictures, reason=missing or "", found=found_text, distrust=distrust,
        residual=best.residual, limit=best.limit,
    )  # fmt: skip
    return finding, checks, best, original


def _order(copy: Copy) -> tuple[int, float]:
    if copy.within:
        return 0, copy.residual
    return (1, copy.residual / copy.limit) if copy.limit else (2, copy.residual)


def _amount(archive: Archive) -> str:
    return f"{archive.pictures} pictures, every logged one" if archive.pictures else "no picture is logged"


def _incomplete(archive: Archive, expected: int | None) -> str | None:
    """Why the stage did not really run over everything; None if it did."""
    if expected is None:
        return "how many pictures were logged is not known without a full scan"
    if archive.pictures < expected:
        if archive.pictures == 0:
            return f"none of the {expected} logged pictures could be replayed: no records at hand"
        return f"only {archive.pictures} of {expected} logged pictures could be replayed"
    for digest, limits in archive.limits.items():
        if limits is None:
            return f"the copy search is not calibrated for {digest[:19]}"
        lacking = [name for name in NEEDED if name not in limits.families]
        if lacking:
            return f"the copy search has no limits for {', '.join(lacking)} of {digest[:19]}"
    return None


def _distrust(original: Original) -> str | None:
    """Why the original's own entry does not pass the policy; None if it does."""
    if original.judged is not None:
        return original.judged.finding.distrust
    source = original.source
    if source is None or source.ledger is None or source.policy is None or source.authors is None:
        return "its entry was not verified"
    try:
        proof = source.proof(original.index, source.ledger.entry(original.index))
    except PlausibleError as error:
        return str(error)
    evidence = verify_evidence(None, proof, None, source.policy, source.authors)
    failed = [c for c in evidence.failed if c.name in REGISTERED]
    return f"{failed[0].name}: {failed[0].detail}" if failed else None


def nearest_latent(archive: Archive, model: str, z: NDArray[np.floating]) -> tuple[Original, float] | None:
    """The logged latent of `model` nearest to a recovered one, and |z - z'| / |z'|; None if none can be compared."""
    members = [o for o in archive.originals if o.model == model]
    if not members or members[0].latent.size < _FEWEST_DIMENSIONS:
        return None
    stored = np.stack([o.latent for o in members]).astype(np.float64)
    flat = np.asarray(z, np.float64).reshape(1, -1)
    if flat.shape[1] != stored.shape[1]:
        return None
    distance = np.linalg.norm(stored - flat, axis=1) / np.maximum(np.linalg.norm(stored, axis=1), 1e-12)
    nearest = int(distance.argmin())
    return members[nearest], float(distance[nearest])
