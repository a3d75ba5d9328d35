"""What an inversion says: one `Inversion` per generator, whichever method searched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..scoring.floor import ExpectedFloor
from .budget import FLOOR

Stopped = Literal["exact", "floor", "flat", "budget", "time"]

FLOOR_GOAL = 1.25
"""Floors at which a run ends; the certificate goes on from there."""
FLOOR_REACHED = 2.0
"""Floors up to which a residual counts as a reproduction of an unprocessed picture."""


@dataclass(frozen=True, slots=True)
class Diagnostics:
    """Whether the search converged: what gates every negative statement."""

    reducible: float
    """Share of the squared residual that one more Gauss-Newton step promises to remove: the gradient in units that
    compare. Near 0 at a minimum (d/N at the true latent, by chance alone); NaN where no Jacobian fits."""
    agreeing_starts: int
    """Polished starts that ended at the reported minimum, itself included."""
    polished_starts: int
    whiteness: float
    """sqrt(N) x largest lag-1 autocorrelation of the residual: |N(0, 1)| for rounding noise."""
    expected: ExpectedFloor
    """What rounding leaves of this very probe at the true latent; limits count in the fixed floor all the same."""


@dataclass(frozen=True, slots=True)
class FreeMatch:
    """What the generator can do for the probe once inputs beside its registered latent are free: never evidence."""

    inputs: str
    """"style" or "noise"."""
    residual: float
    square_norm: float
    """|u|^2 of the free numbers: the noise maps, or the whitened style."""
    numbers: int
    plausible: bool
    """Whether the prior of the free inputs, N(0, I), gives numbers no larger than these."""

    @property
    def matches(self) -> bool:
        """Whether the probe may be a picture made with such inputs."""
        return self.plausible and self.residual <= FLOOR_REACHED * FLOOR


@dataclass(frozen=True, slots=True)
class Inversion:
    """What one generator could do for one probe."""

    generator: str
    """Model digest."""
    residual: float
    """Mean squared error between `images(z)` and probe/255, on the [0, 1] scale; by the matrix-free engine, samples
    beyond a saturated one count 0."""
    distance: float
    """The distance that candidates are ranked by: the residual itself for L2."""
    z: NDArray[np.float64]
    reconstruction: NDArray[np.uint8]
    """[H, W, C]: what the owner publishes for float32 z."""
    exact: bool
    """Every sample equal, by a latent that may certify (`exact.guard`)."""
    mismatches: int
    samples: int
    square_norm: float
    guard: str | None
    """Why this latent certifies nothing, or None."""
    starts: int
    iterations: int
    rounds: int
    diagnostics: Diagnostics
    stopped: Stopped
    seconds: dict[str, float]
    free: FreeMatch | None = None
    """The match with inputs beside the latent free, where one was looked for."""

    @property
    def floors(self) -> float:
        """Residual in units of the 8-bit rounding floor 1/(12 x 255^2)."""
        return self.residual / FLOOR

    @property
    def out_of_budget(self) -> bool:
        """Whether the outer time guard ended the search: nothing negative follows from it."""
        return self.stopped == "time"


@dataclass(frozen=True, slots=True)
class Progress:
    """One line of news while a probe is inverted."""

    generator: str
    stage: Literal["adam", "lm", "exact"]
    round: int
    floors: float
