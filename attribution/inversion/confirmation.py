"""What confirming a candidate by the very chain of changes found, as plain values.

A search up to a change leaves hundreds of rounding floors, of own pictures and of relatives' alike, since a smooth
warp stands for what an image library really did. Confirmation goes on from there: one chain of the closed list is
repeated exactly, the latent is polished through it, and what is left is counted in what that chain's own roundings
leave. So the statistic of a true match is about 1 whatever the change was, and limits are put on it
(calibration/). Methods: `chain:1`, pixels (inversion/chain/); `coefficients:1`, a JPEG file's coefficients.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Confirmation:
    """The chain that explains a probe best, and how well, for one generator."""

    generator: str
    """Model digest."""
    method: str
    """Name and version: what a calibration of it is keyed by, as by an engine's."""
    change: str
    """For people: "cropped to 60x61 at 2,1 and resized back by bicubic"."""
    class_name: str
    """The class of calibration/classes.py that the chain belongs to."""
    statistic: float
    """What is left in units of what the chain's roundings leave: about 1 for a true match. Limits are put on it."""
    differences: int
    """Samples (or coefficients) in which the re-rendered copy differs from the probe."""
    samples: int
    square_norm: float
    """|z|^2, held against the prior."""
    z: NDArray[np.float64] = field(repr=False)
    exact: bool = False
    """No difference at all, with a latent that counts: at most a quarter of the samples, and near the prior."""
    uncounted: str | None = None
    """Why the latent counts for nothing, whatever the statistic; None if it counts."""

    def __str__(self) -> str:
        return f"{self.change}: {self.statistic:.3f} times what its roundings leave, " + (
            f"all {self.samples} samples equal"
            if self.differences == 0
            else f"{self.differences} of {self.samples} samples differ"
        )
