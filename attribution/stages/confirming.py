"""A candidate that lies as near as its own changed copies do is confirmed by the very chain, and only so attributed.

The inversion up to a change cannot tell an own copy from a relative's, since a smooth warp stands for what an image
library did. A near candidate is therefore held against the chains of the closed list themselves (inversion/chain/);
what that says counts if it is exact, or within the limit that a calibration of the same method gives for its class.
A confirmation never makes anything deniable.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from ...schemas.errors import PlausibleError
from ..calibration.classes import STRICT
from ..generators.protocol import Generator
from ..inversion import RELAXED_VERSION, RelaxedInversion
from ..inversion.chain import confirm_chain
from ..inversion.confirmation import Confirmation
from ..inversion.exact import guard
from ..inversion.relaxed import MISS
from ..report.document import floors_text
from .candidate import Candidate, Pixels, Settings, own_size
from .decide import attribution_limit
from .findings import ConfirmationFinding
from .judging import calibration_of
from .models import Model


def confirm_geometry(
    pixels: Pixels, model: Model, generator: Generator, candidate: Candidate, settings: Settings
) -> Candidate:
    """The candidate with the chain of changes of geometry that explains uint8 [H, W, 3 or 4] best, if one may."""
    finding, relaxed = candidate.finding, candidate.relaxed
    if relaxed is None or finding.state != "inverted" or (finding.exact and finding.uncounted is None):
        return candidate
    reason = _needless(model, relaxed, settings)
    if reason is not None:
        return replace(candidate, unconfirmed=reason)
    try:
        found = confirm_chain(
            own_size(pixels, generator.output.channels), generator, relaxed, settings.budget, seed=settings.seed,
            threads=settings.threads, device=settings.device,
        )  # fmt: skip
    except (PlausibleError, RuntimeError) as error:
        return replace(candidate, unconfirmed=str(error).splitlines()[0])
    if found is None:
        return replace(candidate, unconfirmed="no chain of the list makes a picture of this size")
    return confirmed(model, generator, candidate, found, settings)


def confirmed(
    model: Model, generator: Generator, candidate: Candidate, found: Confirmation, settings: Settings
) -> Candidate:
    """The candidate with one more confirmation, whatever its method, beside the limit that its calibration gives."""
    calibration = calibration_of(model, settings.budget, found.method)
    limits = None if calibration is None else calibration.classes.get(found.class_name)
    told = ConfirmationFinding(
        method=found.method,
        change=found.change,
        class_name=found.class_name,
        statistic=found.statistic,
        differences=found.differences,
        samples=found.samples,
        exact=found.exact,
        uncounted=found.uncounted or guard(torch.from_numpy(found.z), generator.latent, found.samples),
        limit=None if limits is None else attribution_limit(limits.attribution, limits.denial),
    )
    digests = candidate.calibrations
    if calibration is not None and calibration.digest not in digests:
        digests = (*digests, calibration.digest)
    finding = replace(candidate.finding, confirmations=(*candidate.finding.confirmations, told))
    return replace(candidate, finding=finding, confirmations=(*candidate.confirmations, found), calibrations=digests)


def _needless(model: Model, relaxed: RelaxedInversion, settings: Settings) -> str | None:
    """Why nothing would come of it, or None: own copies lie within the widest denial limit of the processed classes."""
    if not settings.geometry:
        return "a lossy file keeps no geometry to the bit"
    calibration = calibration_of(model, settings.budget, RELAXED_VERSION)
    known = [] if calibration is None else [c.denial for n, c in calibration.classes.items() if n not in STRICT]
    widest = max((denial for denial in known if denial is not None), default=MISS)
    if relaxed.residual <= widest:
        return None
    return f"{floors_text(relaxed.residual)} up to a change is farther than own copies lie ({floors_text(widest)})"
