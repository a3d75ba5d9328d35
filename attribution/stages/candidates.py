"""Stage 4 of the cascade: could a registered generator have made the probe? Inversion of every candidate.

Candidates of one picture size are inverted together, under one counted budget. In the relaxed scope a candidate that
did not reach the floor is inverted again, up to a mirror, a crop and a blur. judging.py holds the residuals against the
calibrations; which limit means what is decide.py's business.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

import torch

from ...schemas.errors import PlausibleError
from ..generators.protocol import Generator
from ..inversion import (
    Inversion,
    Progress,
    RelaxedInversion,
    invert,
    invert_relaxed,
)
from ..inversion.result import FLOOR_REACHED
from ..report.document import floors_text
from ..scoring.scores import pair_score, scores
from .candidate import STAGE, Candidate, Pixels, Settings, fitted
from .candidate_checks import candidate_checks
from .confirming import confirm_geometry
from .decide import DENIAL_SEARCHES, near_again
from .findings import CandidateFinding, Check, Scope
from .judging import judge
from .lossless import exact_mirrored
from .models import Model, Registration

SEARCH_STEP = 1_000_000_007
"""Added to the seed for each further search."""


def invert_candidates(
    pixels: Pixels,
    models: Sequence[Model],
    required: Collection[str],
    registered: Sequence[Registration],
    claimed: float,
    settings: Settings,
    *,
    progress: Callable[[str, int, int], None] | None = None,
) -> tuple[list[Candidate], list[Check]]:
    """Invert uint8[H, W, 3 or 4] on every model; one candidate each, in the order given, and the report's lines.

    `required` are digests named in entries of accused authors; `claimed` (POSIX seconds) is the probe's date, before
    which an author must have registered a model to be named for it.
    """
    checks: list[Check] = []
    ready: list[tuple[Model, Generator]] = []
    done: dict[str, Candidate] = {}
    for model in models:
        generator = model.generator()
        objection = None if generator is None else model.objection()
        if generator is None or objection is not None:
            reason = objection or model.problem or "no model folder with this digest was given"
            state = "missing" if objection is None and not model.present else "failed"
            finding = CandidateFinding(model.digest, model.name, model.digest in required, state, reason)
            done[model.digest] = Candidate(finding)
            kind = "skipped" if state == "missing" else "failed"
            checks.append(Check(f"inversion of {model.name}", kind, reason, STAGE))
        else:
            ready.append((model, generator))
    for group in _by_shape(ready):
        for model, candidate in _invert_group(pixels, group, settings, progress):
            author = _author(model.digest, registered, claimed)
            finding = replace(candidate.finding, required=model.digest in required, author=author)
            done[model.digest] = replace(candidate, finding=finding)
            checks += candidate_checks(model, done[model.digest], settings)
    if not models:
        checks.append(Check("inversion", "skipped", "no generator is registered", STAGE))
    return [done[model.digest] for model in models], checks


def search_again(
    pixels: Pixels,
    candidates: Sequence[Candidate],
    models: Sequence[Model],
    scope: Scope,
    settings: Settings,
    *,
    progress: Callable[[str, int, int], None] | None = None,
) -> tuple[list[Candidate], list[Check]]:
    """Search for every candidate again from other random starts, before a denial; stops at the first that comes near.

    A further search that reproduces every sample attributes the picture: that needs no limit. One that only comes near
    keeps it from being denied, no more: the limits of attribution were measured with one search.
    """
    by_digest = {model.digest: model for model in models}
    out = list(candidates)
    checks: list[Check] = []
    each = DENIAL_SEARCHES - 1
    for number, candidate in enumerate(candidates):
        model = by_digest.get(candidate.finding.model)
        generator = None if model is None else model.generator()
        if candidate.finding.state != "inverted" or generator is None:
            continue
        found = candidate
        for further in range(each):
            if progress is not None:
                progress("further searches", number * each + further + 1, each * len(candidates))
            other = replace(settings, seed=settings.seed + (further + 1) * SEARCH_STEP)
            found = _further(pixels, generator, found, scope, other)
            if found.finding.state == "budget" or found.finding.exact or near_again(found.finding, scope):
                break
        out[number] = found
        finding = found.finding
        text = f"{finding.searches} searches from different random starts"
        if finding.again is not None:
            text += f"; the nearest further one at {finding.again:.2e} ({floors_text(finding.again)})"
        denied = finding.searches == DENIAL_SEARCHES and not finding.exact and not near_again(finding, scope)
        state = "failed" if finding.state == "budget" else "made"
        checks.append(Check(f"further searches of {finding.name}", state, text, STAGE))
        if not denied:
            break
    return out, checks


def _further(pixels: Pixels, generator: Generator, candidate: Candidate, scope: Scope, settings: Settings) -> Candidate:
    """The candidate after one more search as the scope asks for it.

    Under relaxed that is the one up to a change, which no change at all is a case of; plain inversion, which alone
    gives the certificate, follows where it comes near.
    """
    output, finding = generator.output, candidate.finding
    probe, changed = fitted(pixels, output.height, output.width, output.channels)
    finding = replace(finding, searches=finding.searches + 1)
    if settings.relaxed:
        relaxed = invert_relaxed(
            probe, [generator], settings.budget, seed=settings.seed, device=settings.device, threads=settings.threads
        )[0]
        finding = _came_to(finding, relaxed.residual, relaxed.out_of_budget)
        if finding.state == "budget" or not near_again(finding, scope):
            return replace(candidate, finding=finding)
    plain = invert(
        probe, [generator], settings.budget, seed=settings.seed, device=settings.device, threads=settings.threads
    )[0]
    finding = _came_to(finding, plain.residual, plain.out_of_budget)
    if plain.mismatches == 0 and changed is None and finding.state != "budget":
        finding = replace(finding, exact=True, uncounted=plain.guard, residual=plain.residual)
        return replace(candidate, finding=finding, inversion=plain, probe=probe)
    return replace(candidate, finding=finding)


def _came_to(finding: CandidateFinding, residual: float, expired: bool) -> CandidateFinding:
    """The finding with what one further inversion came to."""
    if expired:
        return replace(finding, state="budget", reason="the time guard ended a further search")
    return replace(finding, again=residual if finding.again is None else min(residual, finding.again))


def _author(digest: str, registered: Sequence[Registration], claimed: float) -> str | None:
    """The author whose registration of the model is the earliest before the probe's claimed date."""
    before = [r for r in registered if r.model == digest and r.time <= claimed]
    return min(before, key=lambda r: r.time).author if before else None


def _by_shape(ready: Sequence[tuple[Model, Generator]]) -> list[list[tuple[Model, Generator]]]:
    groups: dict[tuple[int, int, int], list[tuple[Model, Generator]]] = {}
    for model, generator in ready:
        output = generator.output
        groups.setdefault((output.height, output.width, output.channels), []).append((model, generator))
    return list(groups.values())


def _invert_group(
    pixels: Pixels,
    group: Sequence[tuple[Model, Generator]],
    settings: Settings,
    progress: Callable[[str, int, int], None] | None,
) -> list[tuple[Model, Candidate]]:
    output = group[0][1].output
    probe, changed = fitted(pixels, output.height, output.width, output.channels)
    rounds = settings.budget.rounds * len(group)
    seen = 0

    def news(_: Progress) -> None:
        nonlocal seen
        seen += 1
        if progress is not None:
            progress(STAGE, min(seen, rounds), rounds)

    try:
        results = invert(
            probe, [generator for _, generator in group], settings.budget, seed=settings.seed, device=settings.device,
            threads=settings.threads, progress=news, free=True, starts=_starts(probe, group, settings),
        )  # fmt: skip
        changed_too = [
            _up_to_changes(probe, generator, result, settings)
            for (_, generator), result in zip(group, results, strict=True)
        ]
        lossless = [
            exact_mirrored(
                probe, generator, relaxed, settings.budget, seed=settings.seed, threads=settings.threads,
                device=settings.device,
            )
            if changed is None else None
            for (_, generator), relaxed in zip(group, changed_too, strict=True)
        ]  # fmt: skip
    except (PlausibleError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        failed = [CandidateFinding(model.digest, model.name, False, "failed", reason) for model, _ in group]
        return [(model, Candidate(finding)) for (model, _), finding in zip(group, failed, strict=True)]
    judged = [
        (model, generator, judge(model, generator, result, relaxed, probe, changed, settings, mirrored))
        for (model, generator), result, relaxed, mirrored in zip(group, results, changed_too, lossless, strict=True)
    ]
    return [
        (model, confirm_geometry(pixels, model, generator, candidate, settings))
        for model, generator, candidate in judged
    ]


def _starts(probe: Pixels, group: Sequence[tuple[Model, Generator]], settings: Settings) -> list[torch.Tensor] | None:
    """[0 or 1, d] for each generator: what its encoder makes of the probe; None where no encoder is asked for."""
    if not settings.encoder:
        return None
    found = [(model.encoder(), generator) for model, generator in group]
    return [torch.zeros(0, g.latent.dim) if e is None else e.starts(probe, g) for e, g in found]


def _up_to_changes(
    probe: Pixels, generator: Generator, plain: Inversion, settings: Settings
) -> RelaxedInversion | None:
    """The relaxed inversion, unless the scope does not ask for it or the plain one needs none."""
    if not settings.relaxed or plain.out_of_budget or plain.floors <= FLOOR_REACHED:
        return None
    return invert_relaxed(
        probe, [generator], settings.budget, seed=settings.seed, device=settings.device, threads=settings.threads
    )[0]


def relative_scores(candidates: Sequence[Candidate]) -> list[tuple[str, int, float]]:
    """(model digest, equation, score) between candidates that were inverted: Eq. 4 for two, Eq. 5 for more."""
    ready = [(c.finding.model, c.finding.residual) for c in candidates if c.finding.residual is not None]
    if len(ready) == 2:
        (one, a), (two, b) = ready
        return [(one, 4, pair_score(a, b)), (two, 4, pair_score(b, a))]
    each = scores([residual for _, residual in ready])
    return [(model, 5, score) for (model, _), score in zip(ready, each, strict=True) if score is not None]
