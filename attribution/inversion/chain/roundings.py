"""What a chain's own roundings leave of a true match: each 8-bit rounding on the way, carried to the result.

A sample well between black and white rounds freely (scoring/floor.py): an error of variance 1/12 levels, independent of
its neighbours', which the operators behind it mix. A least-squares fit of d numbers takes its share of that away again.
Samples near an end of the range count neither in what is left nor in what is expected.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...scoring.floor import ENDS, LEVELS, VARIANCE
from .chain import Chain, Pixels


def free_samples(probe: Pixels) -> NDArray[np.bool_]:
    """[C, h, w]: which samples of uint8 [h, w, C] lie well between black and white."""
    return ((probe >= ENDS) & (probe <= LEVELS - ENDS)).transpose(2, 0, 1)


def expected(chain: Chain, free: NDArray[np.bool_]) -> float:
    """Sum of squares, in levels, that the roundings leave over the samples `free` [C, h, w]."""
    total = 0.0
    for down, across in chain.roundings():
        spread = np.outer(np.square(down).sum(1), np.square(across).sum(1))
        total += VARIANCE * float((spread * free).sum())
    return total


def absorbed(chain: Chain, basis: Tensor, free: NDArray[np.bool_]) -> float:
    """How much of `expected` a fit takes away whose pictures' changes are `basis`, float64 orthonormal [C h w, d]."""
    rows = (basis.T * torch.from_numpy(free.reshape(-1))).reshape(-1, *free.shape)
    total = 0.0
    for down, across in chain.roundings():
        back = torch.tensor(down.T.copy()) @ rows @ torch.tensor(across.copy())
        total += VARIANCE * float(back.square().sum())
    return total
