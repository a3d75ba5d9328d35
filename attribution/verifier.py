"""The verifier: one probe through the cascade, cheapest stage first, every check made and every check skipped named.

    evidence given or found -> replay -> coverage -> changed copies -> inversion of every candidate -> verdict

    report = verify("image.png", ledgers=["studio.ledger"], policy=policy, authors=authors)
    report.verdict, report.line, report.exit_code

A `Verifier` keeps what probes share (open ledgers, scans, replayed pictures, loaded generators), so a batch costs them
once. Which stage decided stands in the report; later ones are then listed as skipped. The verdict itself is
decide.py's, a pure function of what was found.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from ..ledger.entries.authors import Authors
from ..ledger.entries.images import Image, read_image
from ..ledger.notes.policy import Policy
from ..schemas.errors import PlausibleError, UsageError
from ..schemas.verdict import Verdict
from .copies.limits import CopyLimits
from .copies.search import variance
from .copies.transformation import jpeg_settings
from .logs.absence import accused_facts, passed_over, source_coverage, succession_gap
from .logs.sources import EvidenceFiles, LogLike, LogSource, open_logs, read_evidence
from .logs.vouched import combined, given_answer, is_absence_proof, with_given
from .report.assemble import Outcome, Report, assemble
from .stages.blank import without_evidence
from .stages.candidate import Candidate, Settings
from .stages.candidates import invert_candidates, relative_scores, search_again
from .stages.coefficients import confirm_coefficients
from .stages.copies import SAME_LATENT, Archive, build_archive, nearest_latent, search_archive
from .stages.decide import decide, denial_pending
from .stages.entries import replay_entry
from .stages.evidence import EvidenceStage
from .stages.findings import Check, Coverage, Decision, Findings, Trust
from .stages.models import Models
from .stages.probe import SCOPES, Options, Run

Progress = Callable[[str, int, int], None]
"""(stage, done, total)."""


class Verifier:
    """Everything probes of one verification share. Use it as a context manager: it closes ledgers it opened."""

    def __init__(
        self,
        *,
        ledgers: Sequence[LogLike] = (),
        policy: Policy | bytes | None = None,
        authors: Authors | bytes | None = None,
        evidence: Sequence[EvidenceFiles | str | Path] = (),
        models: Iterable[str | Path] = (),
        options: Options | None = None,
        progress: Progress | None = None,
    ) -> None:
        """See `verify` for what is given; raises for what is given wrongly, never for what a probe turns out to be."""
        self.options = options or Options()
        if self.options.scope not in SCOPES:
            raise UsageError(f"the scope is strict or relaxed, not {self.options.scope!r}")
        self.scope = SCOPES[self.options.scope]
        self.policy = Policy.parse(policy) if isinstance(policy, bytes) else policy
        self.authors = Authors.parse(authors) if isinstance(authors, bytes) else authors
        self.progress = progress
        self.sources: list[LogSource]
        self.trust: Trust
        self.sources, self.trust = open_logs(ledgers, self.policy, self.authors)
        if self.trust == "own":
            # one ledger: its own files decide; several: each is judged by its own, evidence by the first
            self.policy, self.authors = self.sources[0].policy, self.sources[0].authors
        self.evidence = read_evidence(evidence)
        self.models = Models(self.sources, models)
        self.accused = self._accused()
        self.stage = EvidenceStage(self.policy, self.authors, self.sources)
        self.registered = self.stage.registrations(self.evidence)
        self._archive: Archive | None = None
        self._facts: tuple[int | None, frozenset[str]] | None = None

    def __enter__(self) -> Verifier:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the ledgers that were opened here from a path."""
        for source in self.sources:
            if source.ledger is not None and source.opened:
                source.ledger.close()

    def _accused(self) -> tuple[str, ...]:
        known = {a.name for s in self.sources if s.authors is not None for a in s.authors.authors}
        known |= {a.name for a in self.authors.authors} if self.authors is not None else set()
        unknown = [name for name in self.options.accused if name not in known]
        if unknown:
            raise UsageError(f"accused, but not in authors.txt: {', '.join(unknown)}")
        return tuple(sorted(self.options.accused or known))

    def _tell(self, stage: str, done: int, total: int) -> None:
        if self.progress is not None:
            self.progress(stage, done, total)

    # --- one probe ---------------------------------------------------------------------------------------------

    def verify(self, image: str | Path | bytes | Image, *, name: str | None = None) -> Report:
        """The report on one image; everything wrong with the image or the evidence is in it, not raised."""
        label = name or (str(image) if isinstance(image, (str, Path)) else "image")
        run = Run()
        data = b""
        try:
            if isinstance(image, (str, Path)):
                run.image = read_image(image)
                data = Path(image).read_bytes() if run.image.format == "JPEG" else b""
            else:
                run.image = image if isinstance(image, Image) else read_image(image)
                data = image if isinstance(image, bytes) else b""
        except (PlausibleError, OSError) as error:
            run.checks.append(Check("image read", "failed", str(error), "image"))
            findings = Findings(self.trust, unreadable=f"the image cannot be read: {error}")
            return self._report(label, run, findings, decide(findings, self.scope))
        what = f"{run.image.format}, {run.image.width} x {run.image.height}, {run.image.mode}"
        run.checks.append(Check("image read", "made", what, "image"))
        decision = self._cascade(run, run.image, data)
        return self._report(label, run, self._findings(run), decision)

    def _cascade(self, run: Run, image: Image, data: bytes) -> Decision:
        stages: tuple[tuple[str, Callable[[], None]], ...] = (
            ("evidence", lambda: self._evidence(run, image)),
            ("replay", lambda: self._replays(run, image)),
            ("coverage", lambda: self._coverage(run, image)),
            ("changed copies", lambda: self._copies(run, image, data)),
            ("inversion", lambda: self._inversion(run, image, data)),
        )
        decision: Decision | None = None
        for stage, work in stages:
            if decision is None and run.flat is not None and stage in ("changed copies", "inversion"):
                run.checks.append(Check(stage, "skipped", run.flat, stage))
                continue
            if decision is not None:
                run.checks.append(Check(stage, "skipped", f"decided before: {decision.verdict}", stage))
                continue
            began = time.perf_counter()
            work()
            run.seconds[stage] = time.perf_counter() - began
            decision = self._decided(run, stage)
        return decision or decide(self._findings(run), self.scope)

    def _decided(self, run: Run, stage: str) -> Decision | None:
        """The decision if this stage's findings are enough for one."""
        if stage == "evidence":
            return None  # a replay may still make more of an entry, or less
        decision = decide(self._findings(run), self.scope)
        by_entries = (Verdict.REFUTED, Verdict.LOGGED, Verdict.CLAIMED, Verdict.DERIVED)
        return decision if decision.verdict in by_entries else None

    def _findings(self, run: Run) -> Findings:
        return Findings(
            trust=self.trust,
            entries=tuple(j.finding for j in run.judged),
            coverage=run.coverage,
            flat=run.flat,
            copies=run.copies,
            candidates=tuple(c.finding for c in run.candidates),
            latent_of=run.latent_of,
            incomplete=tuple(run.incomplete),
        )

    def _report(self, label: str, run: Run, findings: Findings, decision: Decision) -> Report:
        outcome = Outcome(
            name=label, image=run.image, checks=tuple(run.checks), findings=findings, decision=decision,
            scope=self.scope, judged=tuple(run.judged), copy=run.copy, original=run.original,
            candidates=tuple(run.candidates), scores=tuple(relative_scores(run.candidates)),
            copy_limits=None if run.original is None or self._archive is None
            else self._archive.limits.get(run.original.model),
            sources=tuple(self.sources), policy=self.policy, authors=self.authors, accused=self.accused,
            budget=self.options.budget.digest, claimed=self.options.claimed, auditor=self.options.auditor,
            command=self.options.command, seconds=dict(run.seconds),
        )  # fmt: skip
        return assemble(outcome)

    # --- the stages --------------------------------------------------------------------------------------------

    def _evidence(self, run: Run, image: Image) -> None:
        run.flat = without_evidence(image.pixels)
        state = "failed" if run.flat else "made"
        run.checks.append(
            Check("not flat or blank", state, run.flat or f"variance {variance(image.pixels):.2e}", "image")
        )
        self.stage.look(run, image, self.evidence, accused=self.accused, registered=self.registered)

    def _replays(self, run: Run, image: Image) -> None:
        if not any(j.finding.matches is not None for j in run.judged):
            run.checks.append(Check("replay", "skipped", "no entry is about this image", "replay"))
        for number, item in enumerate(run.judged):
            if item.finding.matches is None:
                continue
            self._tell("replay", number, len(run.judged))
            before = len(item.checks)
            limits = self._copy_limits(item.finding.model)
            replayed = replay_entry(item, image, self.models, device=self.options.device, limits=limits)
            run.checks += replayed.checks[before:]
            run.judged[number] = replayed

    def _copy_limits(self, digest: str | None) -> CopyLimits | None:
        model = None if digest is None else self.models.get(digest)
        if model is None or model.folder is None:
            return None
        try:
            return CopyLimits.load(model.folder, model=model.digest)
        except PlausibleError:
            return None

    # --- coverage ----------------------------------------------------------------------------------------------

    def _coverage(self, run: Run, image: Image) -> None:
        if run.coverage.state == "contradiction":
            return
        strangers = passed_over([j.finding for j in run.judged])
        found = [
            source_coverage(
                source, image, index_policy=self.options.index_policy, strangers=strangers,
                max_age=self.options.max_age,
                progress=lambda done, total: self._tell("coverage", done, total),
            )
            for source in self.sources
        ]  # fmt: skip
        run.coverage = combined(with_given(self.sources, found, self._given_absence(run, image)))
        gap = succession_gap(self.sources) if run.coverage.state == "absent" else None
        if gap is not None:
            run.coverage = Coverage("unknown", run.coverage.logs, gap)
        states = {"absent": "made", "present": "made", "contradiction": "failed", "unknown": "skipped"}
        for source, coverage in zip(self.sources, found, strict=True):
            state = states[coverage.state]
            run.checks.append(Check(f"full scan of {source.name}", state, coverage.reason, "coverage"))  # type: ignore[arg-type]
        if not self.sources:
            run.checks.append(Check("full scan", "skipped", run.coverage.reason, "coverage"))

    def _given_absence(self, run: Run, image: Image) -> list[Coverage]:
        """What proofs about absence indexes that came with the image say."""
        found: list[Coverage] = []
        for files in filter(is_absence_proof, self.evidence):
            check, coverage, unread = given_answer(
                files, image, policy=self.policy, index_policy=self.options.index_policy, sources=self.sources,
                max_age=self.options.max_age,
            )  # fmt: skip
            run.checks.append(check)
            run.incomplete += [unread] if unread is not None else []
            found += [coverage] if coverage is not None else []
        return found

    def _logged(self) -> tuple[int | None, frozenset[str]]:
        if self._facts is None:
            self._facts = accused_facts(self.sources, self.registered, self.accused)
        return self._facts

    # --- changed copies -------------------------------------------------------------------------------

    def _copies(self, run: Run, image: Image, data: bytes) -> None:
        if self._archive is None:
            self._archive = build_archive(self.sources, run.judged, self.models, self.accused, progress=self.progress)
        jpeg = jpeg_settings(data) if image.format == "JPEG" and data else None
        expected, _ = self._logged()
        run.copies, checks, run.copy, run.original = search_archive(image, self._archive, expected=expected, jpeg=jpeg)
        run.checks += checks

    # --- inversion ------------------------------------------------------------------------------------

    def _inversion(self, run: Run, image: Image, data: bytes) -> None:
        _, required = self._logged()
        for digest in sorted(required):
            self.models.require(digest)
        options = self.options
        claimed = time.time() if options.claimed is None else options.claimed.timestamp()
        settings = Settings(
            options.budget, self.scope.name == "relaxed", options.seed, options.device, options.threads,
            options.inception, options.encoder, geometry=image.format != "JPEG",
        )  # fmt: skip
        run.candidates, checks = invert_candidates(
            image.pixels, list(self.models), required, self.registered, claimed, settings, progress=self.progress
        )
        run.checks += checks
        if image.format == "JPEG" and data and settings.relaxed:
            run.candidates, checks = confirm_coefficients(
                data, run.candidates, list(self.models), settings, progress=self.progress
            )
            run.checks += checks
        for candidate in run.candidates:
            self._look_up_latent(run, candidate)
        if denial_pending(self._findings(run), self.scope):
            run.candidates, checks = search_again(
                image.pixels, run.candidates, list(self.models), self.scope, settings, progress=self.progress
            )
            run.checks += checks

    def _look_up_latent(self, run: Run, candidate: Candidate) -> None:
        if candidate.inversion is None or self._archive is None:
            return
        name = f"recovered latent of {candidate.finding.name} among logged ones"
        # behind a mirror or a crop the relaxed inversion's latent is the picture's, the plain one's is not
        found = candidate.inversion if candidate.relaxed is None else candidate.relaxed
        nearest = nearest_latent(self._archive, candidate.finding.model, found.z)
        if nearest is None:
            run.checks.append(Check(name, "skipped", "no logged latent of this model can be compared", "inversion"))
            return
        original, distance = nearest
        text = f"nearest: entry {original.index} of {original.origin} at relative distance {distance:.3f}"
        same = distance <= SAME_LATENT
        if same:
            run.latent_of = f"entry {original.index} of {original.origin}"
        verdict = "the same latent" if same else "another latent"
        run.checks.append(Check(name, "made", f"{text}: {verdict}", "inversion"))


def verify(
    image: str | Path | bytes | Image,
    *,
    ledgers: Sequence[LogLike] = (),
    policy: Policy | bytes | None = None,
    authors: Authors | bytes | None = None,
    evidence: Sequence[EvidenceFiles | str | Path] = (),
    models: Iterable[str | Path] = (),
    options: Options | None = None,
    progress: Progress | None = None,
    name: str | None = None,
) -> Report:
    """Verify one image.

    ledgers    ledger directories (the verifier's own), public folders of logs, `Ledger` or `TiledLog` objects
    policy, authors   tlog-policy and authors.txt, together: which logs count and whom to believe; without them an own
               ledger is judged by its own files and the answer reads self-attested
    evidence   `X.tlog-proof` files, each with `X.opening.json` beside it if there is one; `X.absence-proof` files
    models     model folders of generators that are not in an own ledger
    options    scope ("relaxed" or "strict"), budget, accused authors, claimed date, device, auditor key, ...
    progress   called with (stage, done, total)

    Raises `UsageError` and `SetupError` for what is given wrongly; everything about the image is in the report.
    """
    with Verifier(
        ledgers=ledgers, policy=policy, authors=authors, evidence=evidence, models=models, options=options,
        progress=progress,
    ) as verifier:  # fmt: skip
        return verifier.verify(image, name=name)


def verify_batch(images: Iterable[str | Path], verifier: Verifier) -> Iterator[Report]:
    """Reports on many images, one by one as they are finished: stop at any time and go on with those that remain."""
    for image in images:
        yield verifier.verify(image)
