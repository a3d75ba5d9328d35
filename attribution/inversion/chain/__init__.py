"""Confirmation by the very chain, for changes of geometry: Pillow's own code where it is rendered, matrices where not.

resize      an antialiased resize as a matrix for each axis
chain       one chain of the closed list: rendered exactly, as an operator, and where it rounds
listing     the chains that may have led to a probe, scored by the thousand
network     a generator followed by a chain, for Levenberg-Marquardt
roundings   what a chain's roundings leave of a true match
settle      steps through the very roundings; the statistic
search      confirm_chain(): chain and latent, in turns
"""

from .chain import Chain, Resize
from .search import CHAIN_METHOD, confirm_chain

__all__ = ["CHAIN_METHOD", "Chain", "Resize", "confirm_chain"]
