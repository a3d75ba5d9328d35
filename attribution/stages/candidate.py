"""One generator as a candidate for one picture: how it is inverted, and what the report needs of the outcome."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..calibration.classes import to_native
from ..inversion import Inversion, RelaxedInversion
from ..inversion.budget import Budget
from ..inversion.confirmation import Confirmation
from .findings import CandidateFinding

STAGE = "inversion"
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
    confirmations: tuple[Confirmation, ...] = ()
    unconfirmed: str | None = None
    """Why no chain of changes of geometry was looked for, where one might have been."""


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
    geometry: bool = True
    """Whether a relaxed search goes on to confirm a change of geometry; in vain for a lossy file."""


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


def own_size(pixels: Pixels, channels: int) -> Pixels:
    """The probe in a generator's channels, at its own size: what a chain of changes ended with."""
    return fitted(pixels, pixels.shape[0], pixels.shape[1], channels)[0]
