"""The first stage: evidence that was given, and the entries that the logs at hand hold about the image's digests."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ...ledger.entries.authors import Authors
from ...ledger.entries.evidence import Evidence, verify_evidence
from ...ledger.entries.images import Image
from ...ledger.notes.policy import Policy
from ...ledger.seeds.epochs import EpochIndex
from ...schemas.errors import EvidenceError, PlausibleError
from ...schemas.text import digest_text
from ..logs.sources import EvidenceFiles, LogSource, split_view
from ..logs.vouched import is_absence_proof
from .entries import Judged, judge
from .findings import Check, Coverage, EntryFinding
from .models import Registration, registration_of, registrations
from .probe import Run


@dataclass(frozen=True, slots=True)
class EvidenceStage:
    """Whom the verifier believes and the logs at hand: what evidence is judged by."""

    policy: Policy | None
    authors: Authors | None
    sources: Sequence[LogSource]

    def judged_authors(self) -> Authors | None:
        """The authors, held against what every log at hand says of their keys."""
        authors = self.authors
        for source in self.sources:
            if authors is not None and source.keys is not None:
                authors = source.keys.judge(authors)
        return authors

    def epochs(self, proof: bytes | None) -> EpochIndex | None:
        """The seed epochs of every log at hand, and the one in a file beside the evidence."""
        found = EpochIndex()
        for source in self.sources:
            if source.epochs is not None:
                found.entries.update(source.epochs.entries)
                found.complete.update(source.epochs.complete)
        if proof is not None and self.policy is not None and self.authors is not None:
            with contextlib.suppress(PlausibleError):  # an epoch that does not count is as good as none
                found.add_proof(proof, self.policy, self.judged_authors() or self.authors)
        return found

    def registrations(self, evidence: Sequence[EvidenceFiles]) -> list[Registration]:
        """The models that entries of these logs and files register."""
        found = [r for source in self.sources for r in registrations(source)]
        authors = self.judged_authors()
        for files in evidence:
            if is_absence_proof(files):
                continue
            if self.policy is not None and authors is not None:
                checked = verify_evidence(None, files.proof, None, self.policy, authors)
                registration = registration_of(checked, None)
                found += [registration] if registration is not None else []
        return found

    def look(
        self,
        run: Run,
        image: Image,
        evidence: Sequence[EvidenceFiles],
        *,
        accused: tuple[str, ...],
        registered: Sequence[Registration],
    ) -> None:
        """Judge what was given and what the logs hold about an image; checks and judgements are added to `run`."""
        for source in self.sources:
            if source.problem is not None:
                run.checks.append(Check(f"checkpoint of {source.name}", "failed", source.problem, "evidence"))
        if not evidence:
            run.checks.append(Check("evidence files", "skipped", "none were given", "evidence"))
        for files in evidence:
            if not is_absence_proof(files):  # those say something about coverage
                self._given(run, image, files, accused, registered)
        for source in self.sources:
            self._found(run, image, source, accused, registered)

    def _given(
        self, run: Run, image: Image, files: EvidenceFiles, accused: tuple[str, ...], registered: Sequence[Registration]
    ) -> None:
        if self.policy is None or self.authors is None:
            reason = "no policy and no authors say whom to believe"
            run.checks.append(Check(files.name, "skipped", reason, "evidence"))
            return
        authors = self.judged_authors() or self.authors
        evidence = verify_evidence(
            image, files.proof, files.opening, self.policy, authors, now=int(time.time()),
            epochs=self.epochs(files.epoch),
        )  # fmt: skip
        if evidence.entry is not None and evidence.entry.model is not None:
            passed = registration_of(evidence, None) is not None
            text = f"registers {digest_text(evidence.entry.model.manifest)[:19]}" if passed else "does not pass"
            run.checks.append(Check(f"model entry ({files.name})", "made" if passed else "failed", text, "evidence"))
            return
        item = judge(evidence, files.name, given=True, accused=accused, registered=registered)
        split = split_view(evidence.checkpoint, self.sources)
        if split is not None:
            item = _contradicted(item, split)
        if item.malformed is not None:
            run.incomplete.append(item.malformed)
        run.checks += item.checks
        run.judged.append(item)

    def _found(
        self, run: Run, image: Image, source: LogSource, accused: tuple[str, ...], registered: Sequence[Registration]
    ) -> None:
        name = f"look-up in {source.name}"
        if source.head is None or source.policy is None or source.authors is None:
            run.checks.append(Check(name, "skipped", source.problem or "no policy and no authors", "evidence"))
            return
        try:
            indices = source.find(pixels=image.pixel_digest, file=image.file_digest)
        except EvidenceError as error:
            run.coverage = Coverage("contradiction", ((source.origin, source.head.size),), str(error))
            run.checks.append(Check(name, "failed", str(error), "evidence"))
            return
        except PlausibleError as error:
            run.incomplete.append(f"{source.name} cannot be searched: {error}")
            run.checks.append(Check(name, "failed", str(error), "evidence"))
            return
        found = f"entries {', '.join(map(str, indices))}" if indices else "no entry names its digests"
        run.checks.append(Check(name, "made", found, "evidence"))
        # what was handed in without an opening may still be opened from the vault
        opened = {(j.finding.origin, j.finding.index) for j in run.judged if j.finding.opened or source.ledger is None}
        for index in indices:
            if (source.origin, index) not in opened:
                self._found_entry(run, image, source, index, accused, registered)

    def _found_entry(
        self,
        run: Run,
        image: Image,
        source: LogSource,
        index: int,
        accused: tuple[str, ...],
        registered: Sequence[Registration],
    ) -> None:
        label = f"entry {index} of {source.origin}"
        policy, authors = source.policy, source.authors
        if policy is None or authors is None:
            return
        try:
            proof = source.proof(index, source.leaf(index))
        except PlausibleError as error:
            broken = EntryFinding(
                source.origin, index, None, accused=True, matches="pixels", contradiction=f"inclusion: {error}"
            )
            run.checks.append(Check(f"inclusion ({label})", "failed", str(error), "evidence"))
            run.judged.append(Judged(broken, (), Evidence(())))
            return
        opening = source.opening(index)
        now = int(time.time())
        evidence = verify_evidence(image, proof, opening, policy, authors, now=now, epochs=source.epochs)
        item = judge(evidence, label, given=False, accused=accused, registered=registered)
        run.checks += item.checks
        run.judged.append(item)


def _contradicted(item: Judged, reason: str) -> Judged:
    finding = item.finding if item.finding.contradiction else replace(item.finding, contradiction=reason)
    return replace(item, finding=finding, checks=(*item.checks, Check("one view", "failed", reason, "evidence")))


__all__ = ["EvidenceStage"]
