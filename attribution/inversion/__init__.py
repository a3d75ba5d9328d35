"""Inversion: from a picture back to the latent that made it, down to the rounding floor.

engine    invert(): rounds, budgets, what an Inversion says
adam      004's Algorithm 1 over all starts of all candidates
lm        Levenberg-Marquardt: one Jacobian, eight dampings, chord steps
exact     the bit-exact certificate and the guard on what may certify
network   one generator folded and linearised
warp      a crop and a blur after the generator, and their columns in its Jacobian
relaxed   invert_relaxed(): mirrored or not, latent and warp together, for probes that were processed
affine    a window, a turn, a free kernel and tone after the generator; pixels that show nothing of it weigh nothing
transformed  invert_transformed(): changes beyond the relaxed scope, found untold, candidates ranked; a diagnostic
change    what that search says: the transform in words, the residual, the noise
noise     how much independent noise a picture carries

many         invert_many(): many probes at once, for small latents
batched      Levenberg-Marquardt on a batch of runs, in the box of the prior
perceptron   fully connected generators as matrices    closed_form   their start without a search
general      any other generator in the same interface
boxed        the certificate for latents in a box

jpeg         invert_jpeg(): against the coefficients of a JPEG file
jpeg_rows    its Levenberg-Marquardt on many small problems at once
"""

from .affine import Freedom
from .change import Transform, TransformedInversion
from .engine import Diagnostics, Inversion, Progress, invert
from .jpeg import JPEG_DISTANCE, JpegInversion, invert_jpeg, invert_jpegs
from .many import MANY_VERSION, MLP_BUDGET, Inversions, invert_many
from .relaxed import Change, RelaxedInversion, invert_relaxed
from .transformed import TRANSFORM_VERSION, invert_transformed

ENGINE_VERSION = "2"
"""Changes whenever the same budget may give another residual: calibrations are keyed by it."""
RELAXED_VERSION = "2+geometry3"
"""The same of `invert_relaxed`: the key of the processed classes' calibrations."""

__all__ = [
    "ENGINE_VERSION",
    "JPEG_DISTANCE",
    "MANY_VERSION",
    "MLP_BUDGET",
    "RELAXED_VERSION",
    "TRANSFORM_VERSION",
    "Change",
    "Diagnostics",
    "Freedom",
    "Inversion",
    "Inversions",
    "JpegInversion",
    "Progress",
    "RelaxedInversion",
    "Transform",
    "TransformedInversion",
    "invert",
    "invert_jpeg",
    "invert_jpegs",
    "invert_many",
    "invert_relaxed",
    "invert_transformed",
]
