"""Which pictures are evidence of nothing: flat ones and blank ones, by the limits of findings.py."""

from __future__ import annotations

import numpy as np

from ..calibration.classes import Pixels
from ..copies.search import variance
from .findings import BLANK_LEVELS, BLANK_SHARE, FLAT_VARIANCE


def without_evidence(pixels: Pixels) -> str | None:
    """Why a picture is flat or blank (findings.py), so that any generator comes near it; None if it is neither."""
    spread = variance(pixels)
    if spread < FLAT_VARIANCE:
        return f"the picture is flat (variance {spread:.1e} below {FLAT_VARIANCE:.1e}): any generator comes near it"
    colours = pixels[..., :3].reshape(-1, min(3, pixels.shape[2])).astype(np.float64)
    share = float((np.abs(colours - np.median(colours, axis=0)).max(axis=1) <= BLANK_LEVELS).mean())
    if share > BLANK_SHARE:
        return (
            f"the picture is blank ({share:.0%} of it one colour, more than {BLANK_SHARE:.0%}): too little to compare"
        )
    return None
