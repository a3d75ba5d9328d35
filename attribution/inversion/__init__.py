"""Inversion: from a picture back to the latent that made it, down to the rounding floor.

engine    invert(): each generator by the engine that suits it; the dense one's rounds
result    what an Inversion says
method    which engine searches a generator, and the name by which its calibrations are keyed
large     invert_large(): the big families, without a Jacobian
adam      004's Algorithm 1 over all starts of all candidates
lm        Levenberg-Marquardt: one Jacobian, eight dampings, chord steps
exact     the bit-exact certificate and the guard on what may certify
network   one generator folded and linearised
unknowns  what a matrix-free search moves: latent, sphere, noise maps, styles; saturated samples
matrixfree   Gauss-Newton with conjugate gradients      lbfgs   the alternative to it
certificate  the bit-exact certificate of the big families
memory    out of memory: the batch is halved
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

confirmation  what confirming by the very chain found    chain/  confirm_chain(): changes of geometry, Pillow's own

jpeg         invert_jpeg(): against the coefficients of a JPEG file
coefficients  confirm_file(): could a JPEG file have been written from a picture of the generator?
jpeg_rows    its Levenberg-Marquardt on many small problems at once
"""

from .affine import Freedom
from .change import Transform, TransformedInversion
from .coefficients import COEFFICIENTS_METHOD, confirm_file
from .confirmation import Confirmation
from .engine import invert
from .jpeg import JPEG_DISTANCE, JpegInversion, invert_jpeg, invert_jpegs
from .many import MANY_VERSION, MLP_BUDGET, Inversions, invert_many
from .method import ENGINE_VERSION, LARGE_VERSION, Method, engine_name, method_of
from .relaxed import Change, RelaxedInversion, invert_relaxed
from .result import Diagnostics, FreeMatch, Inversion, Progress
from .transformed import TRANSFORM_VERSION, invert_transformed
from .unknowns import seed_distance

RELAXED_VERSION = "2+geometry3"
"""The same of `invert_relaxed`: the key of the processed classes' calibrations."""

__all__ = [
    "COEFFICIENTS_METHOD",
    "ENGINE_VERSION",
    "JPEG_DISTANCE",
    "LARGE_VERSION",
    "MANY_VERSION",
    "MLP_BUDGET",
    "RELAXED_VERSION",
    "TRANSFORM_VERSION",
    "Change",
    "Confirmation",
    "Diagnostics",
    "FreeMatch",
    "Freedom",
    "Inversion",
    "Inversions",
    "JpegInversion",
    "Method",
    "Progress",
    "RelaxedInversion",
    "Transform",
    "TransformedInversion",
    "confirm_file",
    "engine_name",
    "invert",
    "invert_jpeg",
    "invert_jpegs",
    "invert_many",
    "invert_relaxed",
    "invert_transformed",
    "method_of",
    "seed_distance",
]
