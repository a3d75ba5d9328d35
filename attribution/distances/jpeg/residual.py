"""What of a file's coefficients a picture fails to explain: least squares in units of Q, and the dead zone.

An encoder that rounds wrote c exactly where |DCT(picture)/Q - c| <= 1/2. The *dead-zone* residual is what exceeds that
interval, widened by `MARGIN` standard deviations of the rounding before the DCT: all zero, and the picture's latent is
one whose JPEG is this file as far as can be told. At strong compression many latents satisfy that, of other generators
too, so ties are broken by a small share of the least squares.

Encoders that optimise rate against distortion (jpegli, mozjpeg) also write 0 where rounding would not. They
use quantisation tables of their own, so a file whose tables are not multiples of T.81's examples, as libjpeg makes
them, gets a wider interval for zeros (`ZERO_REACH`); what it loses in evidence it cannot be accused wrongly by.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .file import JpegFile
from .forward import Forward

MARGIN = 3.0
TIE = 1e-4
"""Weight of the squared least-squares residual beside the squared dead-zone residual: it pulls a latent out of its
intervals by some 1e-4 units of Q at most."""
VIOLATION = 1e-2
"""Units of Q beyond its interval from which on a coefficient counts as outside."""
ZERO_REACH = 1.5
"""|DCT/Q| up to which an encoder with tables of its own may have written 0."""

LUMINANCE = (
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56,
    14, 17, 22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92,
    49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
)  # fmt: skip
"""T.81 table K.1, row by row."""


def libjpeg_quality(file: JpegFile) -> int | None:
    """The quality, 1 to 100, at which libjpeg scales T.81's table K.1 to the file's first table, or None."""
    table = file.components[0].table.flatten().tolist()
    for quality in range(100, 0, -1):
        scale = 5000 // quality if quality < 50 else 200 - 2 * quality
        if table == [min(max((value * scale + 50) // 100, 1), 255) for value in LUMINANCE]:
            return quality
    return None


class Residual:
    """Distances of pictures, flat [B, C H W] on [0, 1], from one file's coefficients."""

    def __init__(self, forward: Forward, margin: float = MARGIN) -> None:
        self.forward = forward
        self.quality = libjpeg_quality(forward.file)
        reach = torch.where((forward.target == 0) & (self.quality is None), ZERO_REACH, 0.5)
        self.reach = reach + margin * forward.deviation
        """[M]: half the width of each coefficient's interval, in units of Q."""

    def parts(self, coefficients: Tensor) -> tuple[Tensor, Tensor]:
        """(dead-zone residual, least-squares residual), each [B, M] in units of Q, of `forward.coefficients`."""
        error = coefficients - self.forward.target
        return error - error.clamp(-self.reach, self.reach), error

    def losses(self, coefficients: Tensor, tie: float = TIE) -> Tensor:
        """[B]: mean squared dead-zone residual plus `tie` x mean squared least-squares residual."""
        dead, error = self.parts(coefficients)
        return dead.square().mean(1) + tie * error.square().mean(1)
