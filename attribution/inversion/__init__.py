"""Inversion: from a picture back to the latent that made it, down to the rounding floor.

engine    invert(): rounds, budgets, what an Inversion says
adam      004's Algorithm 1 over all starts of all candidates
lm        Levenberg-Marquardt: one Jacobian, eight dampings, chord steps
exact     the bit-exact certificate and the guard on what may certify
network   one generator folded and linearised
warp      a crop and a blur after the generator, and their columns in its Jacobian
relaxed   invert_relaxed(): mirrored or not, latent and warp together, for probes that were processed
"""

from .engine import Diagnostics, Inversion, Progress, invert
from .relaxed import Change, RelaxedInversion, invert_relaxed

ENGINE_VERSION = "2"
"""Changes whenever the same budget may give another residual: calibrations are keyed by it."""
RELAXED_VERSION = "2+geometry3"
"""The same of `invert_relaxed`: the key of the processed classes' calibrations."""

__all__ = [
    "ENGINE_VERSION",
    "RELAXED_VERSION",
    "Change",
    "Diagnostics",
    "Inversion",
    "Progress",
    "RelaxedInversion",
    "invert",
    "invert_relaxed",
]
