"""What an inversion of a candidate means: its residuals beside the calibrations of the same model, budget and engine.

The plain calibration's limits serve the unprocessed class, the other's the processed classes; which limit means what is
decide.py's business.
"""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import torch

from ...schemas.errors import PlausibleError
from ..calibration.classes import STRICT
from ..calibration.document import Calibration, find_calibration, load_calibrations
from ..distances.images import L2Feature
from ..generators.noise import free_noise
from ..generators.protocol import Generator
from ..inversion import ENGINE_VERSION, RELAXED_VERSION, Inversion, RelaxedInversion, engine_name
from ..inversion.budget import Budget
from ..inversion.result import FLOOR_REACHED
from ..report.document import floors_text
from ..scoring.floor import most_differences
from .candidate import Candidate, Pixels, Settings
from .findings import CandidateFinding, ClassLimits
from .models import Model


def judge(
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
    processed = (
        None if relaxed is None or problem is not None else calibration_of(model, settings.budget, RELAXED_VERSION)
    )
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
        unlike=_unlike(generator, result),
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


def _unlike(generator: Generator, result: Inversion) -> str:
    """In half a sentence why a residual near the floor is not what an own picture leaves; empty if it is, or far."""
    most = most_differences(generator.latent.dim, result.samples)
    if result.floors > FLOOR_REACHED or result.mismatches <= most:
        return ""
    return (
        f"comes to the rounding floor, but {result.mismatches} of {result.samples} samples differ where a fit of "
        f"{generator.latent.dim} numbers to an own picture leaves at most {most:.0f}: perhaps a near relative's"
    )


def _free_text(result: Inversion) -> str:
    """In half a sentence that only inputs beside the registered latent explain the probe; empty if they do not."""
    if result.free is None or not result.free.matches:
        return ""
    inputs = "noise maps of its own choice" if result.free.inputs == "noise" else "a style that no latent gives"
    return f"comes to {floors_text(result.free.residual)} only with {inputs}, free inputs, on which nothing rests"


def calibration_of(model: Model, budget: Budget, engine: str) -> Calibration | None:
    """The calibration under this key, if there is one; a folder that cannot be read gives none (`judge` says so)."""
    try:
        return None if model.folder is None else find_calibration(model.folder, model.digest, budget, engine)
    except PlausibleError:
        return None


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
