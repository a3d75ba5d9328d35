"""Stage 4 of the cascade: could a registered generator have made the probe? Inversion of every candidate.

Candidates of one picture size are inverted together, under one counted budget. In the relaxed scope a candidate that
did not reach the floor is inverted again, up to a mirror, a crop and a blur. The residuals are then held against the
calibrations of the same model, budget, engine and distance: the plain one's for the unprocessed class, the other's for
the processed classes. Which limit means what is decide.py's business.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ...schemas.errors import PlausibleError
from ..calibration.classes import STRICT, to_native
from ..calibration.document import Calibration, find_calibration, load_calibrations
from ..distances.images import L2Feature
from ..generators.noise import free_noise
from ..generators.protocol import Generator
from ..inversion import (
    ENGINE_VERSION,
    RELAXED_VERSION,
    Inversion,
    Progress,
    RelaxedInversion,
    engine_name,
    invert,
    invert_relaxed,
)
from ..inversion.budget import FLOOR, Budget
from ..inversion.result import FLOOR_REACHED
from ..report.document import floors_text
from ..scoring.scores import pair_score, scores
from .decide import DENIAL_SEARCHES, near_again
from .findings import CandidateFinding, Check, ClassLimits, Scope
from .lossless import exact_mirrored
from .models import Model, Registration

STAGE = "inversion"
SEARCH_STEP = 1_000_000_007
"""Added to the seed for each further search."""
Pixels = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A finding with what the report and the seed look-up need: the inversion and the probe as it was compared."""

    finding: CandidateFinding
    inversion: Inversion | None = field(default=None, repr=False)
    probe: Pixels | None = field(default=None, repr=False)
    calibrations: tuple[str, ...] = ()
    feature_distance: float | None = None
    relaxed: RelaxedInversion | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Settings:
    """How candidates are inverted: the budget's work, the random starts' seed, where, and Inception weights if any.

    `relaxed`: up to the changes of the relaxed scope too.
    """

    budget: Budget
    relaxed: bool = True
    seed: int = 0
    device: str = "cpu"
    threads: int | None = None
    inception: Path | str | None = None
    encoder: bool = False
    """Whether a search begins at the latent that the generator's own encoder gives, where there is one."""


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
            checks += _checks(model, done[model.digest], settings)
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


def fitted(pixels: Pixels, height: int, width: int, channels: int) -> tuple[Pixels, str | None]:
    """The probe in a generator's size and channels, and what had to be done to it (None: nothing)."""
    done: list[str] = []
    if pixels.shape[2] == 4:
        pixels = np.ascontiguousarray(pixels[..., :3])
        done.append("alpha dropped")
    if channels == 1:
        grey = bool((pixels == pixels[..., :1]).all())
        if not grey:
            weights = np.asarray([0.299, 0.587, 0.114])
            pixels = np.repeat(np.rint(pixels @ weights).astype(np.uint8)[..., None], 3, axis=2)
            done.append("colour dropped")
    if pixels.shape[:2] != (height, width):
        done.append(f"resized from {pixels.shape[1]}x{pixels.shape[0]} to {width}x{height}")
        pixels = to_native(pixels, height, width)
    if channels == 1:
        pixels = np.ascontiguousarray(pixels[..., :1])
    return pixels, ", ".join(done) or None


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
    return [
        (model, _judge(model, generator, result, relaxed, probe, changed, settings, mirrored))
        for (model, generator), result, relaxed, mirrored in zip(group, results, changed_too, lossless, strict=True)
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


def _judge(
    model: Model,
    generator: Generator,
    result: Inversion,
    relaxed: RelaxedInversion | None,
    probe: Pixels,
    changed: str | None,
    settings: Settings,
    mirrored: Inversion | None = None,
) -> Candidate:
    result = mirrored or result
    calibration, problem = _calibration(model, settings)
    processed = None if relaxed is None or problem is not None else _processed_calibration(model, settings.budget)
    limits: dict[str, ClassLimits] = {}
    ratio = p_value = None
    for document in (calibration, processed):
        for name, found in document.classes.items() if document is not None else ():
            # a class counts only under the inversion by which it was measured
            if found.denial is not None and (name in STRICT) is (document is calibration):
                limits[name] = ClassLimits(found.denial, found.attribution, found.failure_bound, found.n)
    if calibration is not None:
        # strength is stated for the unprocessed class: the only one in which clones were among the negatives
        plain = calibration.classes.get("unprocessed")
        if plain is not None and changed is None and mirrored is None:
            ratio, p_value = plain.log10_lr(result.residual), plain.conformal_p(result.residual)
    expired = result.out_of_budget or (relaxed is not None and relaxed.out_of_budget)
    finding = CandidateFinding(
        model=model.digest,
        name=model.name,
        required=False,
        state="budget" if expired else "inverted",
        reason="the time guard ended the search" if expired else (changed or ""),
        residual=result.residual,
        exact=result.mismatches == 0 and changed is None,
        uncounted=result.guard,
        free=_free_text(result),
        mirrored=mirrored is not None,
        resized=changed is not None,
        free_noise=free_noise(generator),
        calibration=problem,
        limits=limits,
        changed=None if relaxed is None else relaxed.residual,
        change="" if relaxed is None else str(relaxed.change),
        log10_lr=None if ratio is None else ratio[0],
        log10_lr_cap=None if ratio is None else ratio[1],
        conformal_p=p_value,
    )
    digests = tuple(document.digest for document in (calibration, processed) if document is not None)
    return Candidate(finding, result, probe, digests, _feature_distance(probe, result, settings), relaxed)


def _free_text(result: Inversion) -> str:
    """In half a sentence that only inputs beside the registered latent explain the probe; empty if they do not."""
    if result.free is None or not result.free.matches:
        return ""
    inputs = "noise maps of its own choice" if result.free.inputs == "noise" else "a style that no latent gives"
    return f"comes to {floors_text(result.free.residual)} only with {inputs}, free inputs, on which nothing rests"


def _processed_calibration(model: Model, budget: Budget) -> Calibration | None:
    """The calibration of the processed classes under this key, if there is one."""
    if model.folder is None:
        return None
    return find_calibration(model.folder, model.digest, budget, RELAXED_VERSION)


def _calibration(model: Model, settings: Settings) -> tuple[Calibration | None, str | None]:
    """The calibration under this key, or why there is none."""
    budget = settings.budget
    if model.folder is None:
        return None, "no model folder, so no calibration"
    try:
        generator = model.generator()
        encoder = model.encoder() if settings.encoder else None
        name = None if encoder is None else encoder.digest
        engine = ENGINE_VERSION if generator is None else engine_name(generator, encoder=name)
        found = find_calibration(model.folder, model.digest, budget, engine)
        if found is not None:
            return found, None
        others = load_calibrations(model.folder)
    except PlausibleError as error:
        return None, str(error)
    if not others:
        return None, "not calibrated (pd models calibrate)"
    return None, others[0].mismatch(model.digest, budget, engine) or "its calibration does not apply"


def _feature_distance(probe: Pixels, result: Inversion, settings: Settings) -> float | None:
    """004's l2-feature distance between probe and reconstruction; None without Inception weights or for grey."""
    if settings.inception is None or probe.shape[2] != 3:
        return None
    distance = _features(settings.inception)
    pair = np.stack([probe, result.reconstruction])
    images = torch.from_numpy(pair).permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        return float(distance.between(images[1:], distance.prepare(images[:1]))[0])


@functools.lru_cache(maxsize=1)
def _features(weights: Path | str) -> L2Feature:
    """The feature distance, its network loaded once."""
    from ..distances.inception import InceptionFeatures

    return L2Feature(InceptionFeatures.load(weights))


def _expected(result: Inversion) -> str:
    """How the residual compares with what 8-bit rounding alone leaves of this picture; tells, decides nothing."""
    expected = result.diagnostics.expected
    if expected.free == 0:
        return "no sample lies well between black and white: rounding leaves nothing to compare with"
    return (
        f"a true match of this picture leaves {expected.residual / FLOOR:.3f} floors, give or take "
        f"{expected.sd / FLOOR:.3f}: the residual lies {expected.deviation(result.residual):+.3g} standard deviations "
        f"from it, whiteness {result.diagnostics.whiteness:.1f}"
    )


def _checks(model: Model, candidate: Candidate, settings: Settings) -> list[Check]:
    finding, result = candidate.finding, candidate.inversion
    name = f"inversion of {model.name}"
    if result is None or finding.residual is None:
        return [Check(name, "failed", finding.reason, STAGE)]
    text = (
        f"residual {finding.residual:.2e} ({floors_text(finding.residual)}), {result.starts} starts, "
        f"{result.iterations} iterations, runs that agree: {result.diagnostics.agreeing_starts}, {result.stopped}"
    )
    checks = [Check(name, "failed" if finding.state == "budget" else "made", text, STAGE)]
    if candidate.relaxed is not None:
        relaxed = candidate.relaxed
        text = (
            f"residual {relaxed.residual:.2e} ({floors_text(relaxed.residual)}) as {relaxed.change}; "
            f"{relaxed.starts} starts, {relaxed.iterations} iterations, {relaxed.stopped}; "
            "held against the limits of the processed classes"
        )
        state = "failed" if relaxed.out_of_budget else "made"
        checks.append(Check(f"inversion of {model.name} up to a change", state, text, STAGE))
    if finding.resized:
        checks.append(Check(f"size of {model.name}", "made", finding.reason, STAGE))
    else:
        checks.append(Check(f"expected floor of {model.name}", "made", _expected(result), STAGE))
    certificate = f"exact certificate of {model.name}"
    of = " of the mirrored picture" if finding.mirrored else ""
    if finding.exact and finding.uncounted is None:
        checks.append(Check(certificate, "made", f"yes: all {result.samples} samples{of} equal", STAGE))
    elif finding.exact:
        checks.append(Check(certificate, "failed", f"all samples equal, but {finding.uncounted}", STAGE))
    else:
        checks.append(Check(certificate, "made", f"no: {result.mismatches} of {result.samples} samples differ", STAGE))
    if finding.free:
        checks.append(Check(f"free inputs of {model.name}", "failed", finding.free, STAGE))
    calibrated = f"calibration of {model.name}"
    if finding.calibration is not None:
        checks.append(Check(calibrated, "skipped", finding.calibration, STAGE))
    else:
        checks.append(
            Check(calibrated, "made", f"same budget and engine; classes: {', '.join(finding.limits) or 'none'}", STAGE)
        )
    feature = f"l2-feature distance of {model.name}"
    if candidate.feature_distance is not None:
        checks.append(Check(feature, "made", f"{candidate.feature_distance:.4g}", STAGE))
    elif settings.inception is None:
        checks.append(Check(feature, "skipped", "no Inception weights", STAGE))
    return checks


def relative_scores(candidates: Sequence[Candidate]) -> list[tuple[str, int, float]]:
    """(model digest, equation, score) between candidates that were inverted: Eq. 4 for two, Eq. 5 for more."""
    ready = [(c.finding.model, c.finding.residual) for c in candidates if c.finding.residual is not None]
    if len(ready) == 2:
        (one, a), (two, b) = ready
        return [(one, 4, pair_score(a, b)), (two, 4, pair_score(b, a))]
    each = scores([residual for _, residual in ready])
    return [(model, 5, score) for (model, _), score in zip(ready, each, strict=True) if score is not None]
