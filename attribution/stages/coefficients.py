"""A probe that is a JPEG file of a candidate's own size: which of its coefficients the recovered latent explains.

Evidence beside the verdict: it has no calibrated limit, so nothing is decided by it, and the report shows it under its
own name. It goes on from the latent that the inversion of the pixels found and looks for no other, so a large number
means only that this latent does not make the file. Sizes must agree: what was cut or resized has other coefficients.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from ...schemas.errors import EvidenceError, PlausibleError
from ..distances.jpeg.file import JpegFile, read_jpeg
from ..inversion.jpeg import invert_jpeg
from .candidate import STAGE, Candidate, Settings
from .findings import Check
from .models import Model


def coefficient_checks(
    data: bytes,
    candidates: Sequence[Candidate],
    models: Sequence[Model],
    settings: Settings,
    *,
    progress: Callable[[str, int, int], None] | None = None,
) -> list[Check]:
    """One line for each candidate that was inverted; `data` is the JPEG file that the probe was read from."""
    inverted = [c for c in candidates if c.inversion is not None]
    try:
        file = read_jpeg(data)
    except EvidenceError as error:
        return [Check(_name(c), "skipped", str(error), STAGE) for c in inverted]
    by_digest = {model.digest: model for model in models}
    checks: list[Check] = []
    for number, candidate in enumerate(inverted):
        if progress is not None:
            progress("JPEG coefficients", number, len(inverted))
        model = by_digest.get(candidate.finding.model)
        checks.append(_check(file, candidate, model, settings))
    return checks


def _name(candidate: Candidate) -> str:
    return f"JPEG coefficients of {candidate.finding.name}"


def _check(file: JpegFile, candidate: Candidate, model: Model | None, settings: Settings) -> Check:
    generator = None if model is None else model.generator()
    plain, relaxed = candidate.inversion, candidate.relaxed
    if generator is None or plain is None:
        return Check(_name(candidate), "skipped", "no generator", STAGE)
    # the file's own grid is compared: behind a mirror or a crop the latent's picture lies elsewhere on it
    nearer = relaxed is not None and relaxed.residual < plain.residual and not relaxed.change.mirrored
    start = torch.from_numpy(relaxed.z if nearer and relaxed is not None else plain.z).float()[None]
    budget = replace(settings.budget, seconds=None)
    try:
        found = invert_jpeg(
            file, generator, budget, seed=settings.seed, starts=start, search=False, device=settings.device,
            threads=settings.threads,
        )  # fmt: skip
    except (PlausibleError, RuntimeError) as error:
        return Check(_name(candidate), "skipped", str(error).splitlines()[0], STAGE)
    kind = f"{found.subsampling}, " + (
        "tables of its own" if found.quality is None else f"libjpeg's tables of quality {found.quality}"
    )
    return Check(_name(candidate), "made", f"{found} ({kind}; {found.distance}, no limit calibrated)", STAGE)
