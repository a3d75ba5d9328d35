"""What a transform search found, as plain values: how the picture was changed, and what one generator made of it.

A diagnostic, never a verdict: no class of the relaxed scope is measured by it, so no limit belongs to these residuals.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .budget import FLOOR

Stopped = Literal["explained", "settled", "flat", "budget", "time"]

SEEN_TURN = 0.25
"""Degrees below which a turn is not told: a tenth of a pixel at the edge of a picture of 64."""
SEEN_CUT = 0.25
SEEN_BLUR = 0.3
SEEN_NOISE = 1.5
"""Levels; rounding alone is 0.29."""
WHITE = 6.0
"""Whiteness up to which a residual counts as independent noise: |N(0, 1)| for pure noise, tens for structure."""


@dataclass(frozen=True, slots=True)
class Transform:
    """Mirrored first; then a window of the (mirrored) picture, in its pixels, turned, blurred and toned."""

    mirrored: bool
    left: float
    right: float
    top: float
    bottom: float
    degrees: float
    """Counter-clockwise, of what the probe shows."""
    taps: tuple[float, float, float]
    """Weights of the neighbours at one, two and three pixels."""
    cubic: float
    """Share of the cubic kernel against the bilinear."""
    gain: float
    offset: float

    @property
    def sigma(self) -> float:
        """Standard deviation in pixels of the kernel; 0 for one that sharpens."""
        return math.sqrt(max(0.0, 2 * sum(tap * (i + 1) ** 2 for i, tap in enumerate(self.taps))))

    @property
    def cut(self) -> tuple[float, float, float, float]:
        """Pixels cut at left, right, top and bottom."""
        return self.left, self.right, self.top, self.bottom

    def names(self) -> tuple[str, ...]:
        """Which changes it amounts to."""
        found = ["mirror"] if self.mirrored else []
        if abs(self.degrees) >= SEEN_TURN:
            found.append("rotation")
        if max(abs(c) for c in self.cut) >= SEEN_CUT:
            across, down = self.left + self.right, self.top + self.bottom
            found.append("crop" if max(across, down) >= SEEN_CUT else "shift")
        if self.sigma >= SEEN_BLUR:
            found.append("blur")
        if abs(self.gain - 1) >= 0.01 or abs(self.offset) >= 0.01:
            found.append("tone")
        return tuple(found)

    def __str__(self) -> str:
        parts = ["mirrored"] if self.mirrored else []
        names = self.names()
        if "rotation" in names:
            parts.append(f"turned by {self.degrees:.1f} degrees")
        if "crop" in names or "shift" in names:
            parts.append(f"cut {self.left:.1f}+{self.right:.1f} across, {self.top:.1f}+{self.bottom:.1f} down")
        if "blur" in names:
            parts.append(f"blurred by {self.sigma:.2f} pixels")
        if "tone" in names:
            parts.append(f"levels x {self.gain:.2f} {255 * self.offset:+.0f}")
        return ", ".join(parts) or "unchanged"


@dataclass(frozen=True, slots=True)
class TransformedInversion:
    """What one generator could do for one changed probe, over the pixels that show the picture."""

    generator: str
    """Model digest."""
    residual: float
    """Mean squared error on the [0, 1] scale over the pixels that count, the same ones for every candidate."""
    kept: float
    """Share of the pixels that count."""
    transform: Transform
    z: NDArray[np.float64]
    reconstruction: NDArray[np.uint8]
    """[H, W, C]: the owner's picture of z, transformed and rounded."""
    square_norm: float
    noise: float
    """Levels of noise that the probe itself suggests, an upper estimate (noise.py)."""
    whiteness: float
    """sqrt(N) x largest lag-1 autocorrelation of the residual."""
    starts: int
    iterations: int
    rounds: int
    stopped: Stopped
    seconds: dict[str, float]

    @property
    def floors(self) -> float:
        """Residual in units of the 8-bit rounding floor 1/(12 x 255^2)."""
        return self.residual / FLOOR

    @property
    def residual_levels(self) -> float:
        """Root mean square of the residual, in levels."""
        return 255 * math.sqrt(self.residual)

    @property
    def is_noise(self) -> bool:
        """Whether what is left looks like independent noise above rounding."""
        return self.residual_levels >= SEEN_NOISE and self.whiteness <= WHITE

    def __str__(self) -> str:
        left = f"residual {self.residual:.2e} ({self.floors:.1f} floors) over {100 * self.kept:.0f} % of the pixels"
        if self.is_noise:
            left += f", independent noise of {self.residual_levels:.1f} levels"
        return f"reproduced after: {self.transform}; {left}"
