"""Which engine searches a generator, and the name by which calibrations are keyed to it.

`dense`        modules that offer their layers as a `chain()` and whose Jacobian fits: Levenberg-Marquardt (engine.py)
`matrix-free`  every other one: Gauss-Newton by products (large.py)
`lbfgs`        the same with L-BFGS, where asked for

The choice is the generator's alone, never the probe's. An encoder's start (encoder.py) may lead a search elsewhere, so
it is part of the name too: limits measured without it say nothing about a search with it.
"""

from __future__ import annotations

from typing import Literal

from ..generators.protocol import Generator
from .network import Network
from .perceptron import is_fully_connected

Method = Literal["dense", "matrix-free", "lbfgs"]

ENGINE_VERSION = "2"
"""Changes whenever the same budget may give another residual: calibrations are keyed by it. The dense engine's."""
CLOSED_VERSION = "+closed1"
"""Added for fully connected generators: the dense engine starts them from the closed form."""
LARGE_VERSION = "cg1"
"""The same of the matrix-free engine."""
LBFGS_VERSION = "lbfgs1"

_folded: dict[str, bool] = {}


def method_of(generator: Generator) -> Method:
    """The engine that `invert` chooses for a generator by itself."""
    if generator.digest not in _folded:
        offers = callable(getattr(generator.module, "chain", None))
        network = Network(generator) if offers else None
        _folded[generator.digest] = network is not None and network.folded and network.linearisable
    return "dense" if _folded[generator.digest] else "matrix-free"


def engine_name(generator: Generator, *, method: Method | None = None, encoder: str | None = None) -> str:
    """The engine part of a calibration's key; `encoder` is the digest of the encoder whose starts are used."""
    dense = ENGINE_VERSION + (CLOSED_VERSION if is_fully_connected(generator) else "")
    names = {"dense": dense, "matrix-free": LARGE_VERSION, "lbfgs": LBFGS_VERSION}
    name = names[method or method_of(generator)]
    return name if encoder is None else f"{name}+encoder:{encoder.removeprefix('sha256:')[:16]}"
