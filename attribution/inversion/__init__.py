"""Inversion: from a picture back to the latent that made it, down to the rounding floor.

engine    invert(): rounds, budgets, what an Inversion says
adam      004's Algorithm 1 over all starts of all candidates
lm        Levenberg-Marquardt: one Jacobian, eight dampings, chord steps
exact     the bit-exact certificate and the guard on what may certify
network   one generator folded and linearised
"""

from .engine import Diagnostics, Inversion, Progress, invert

ENGINE_VERSION = "1"
"""Changes whenever the same budget may give another residual: calibrations are keyed by it."""

__all__ = ["ENGINE_VERSION", "Diagnostics", "Inversion", "Progress", "invert"]
