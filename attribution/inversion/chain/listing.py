"""The closed list of chains that may have led to a probe, given roughly where its window lies; scored by the thousand.

At another size than the generator's only two changes can have ended: a resizing to it, or a crop that was left so.
At the generator's size a crop was brought back, or the picture was resized and brought back. Sizes, windows and filters
are those of calibration/classes.py. Since every chain is a matrix for each axis, and few of those differ, thousands of
chains of one picture are a few batched products.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...calibration.classes import FACTORS, FILTERS, SMALLEST_SHARE
from ..change import SEEN_CUT
from .chain import Chain, Resize

Pictures = NDArray[np.floating]

TOGETHER = 128
"""Chains scored in one product."""
REACH = 3
"""Whole pixels around the cuts found in which windows are listed."""


@dataclass(frozen=True, slots=True)
class Near:
    """Where to look: what a search up to a change found, in pixels of the generator's picture."""

    mirrored: bool = False
    left: float = 0.0
    right: float = 0.0
    top: float = 0.0
    bottom: float = 0.0


def chains(shape: tuple[int, int], height: int, width: int, near: Near) -> list[Chain]:
    """Every chain of the list that makes pictures of `shape` (h, w) out of pictures [height, width]; may be empty."""
    if shape == (height, width):
        return [*_crops_back(height, width, near), *_resampled(height, width, near)]
    found: list[Chain] = []
    if all(FACTORS[0] <= side / native <= FACTORS[1] for side, native in zip(shape, (height, width), strict=True)):
        found += [Chain(height, width, near.mirrored, None, (Resize(*shape, name),)) for name in FILTERS]
    if all(SMALLEST_SHARE * native <= side <= native for side, native in zip(shape, (height, width), strict=True)):
        h, w = shape
        offsets = itertools.product(range(height - h + 1), range(width - w + 1))
        found += [Chain(height, width, near.mirrored, (x, y, w, h)) for y, x in offsets]
    return found


def _spans(side: int, before: float, after: float) -> list[tuple[int, int]]:
    """(offset, length) of the windows along one axis: nine tenths and more kept, cuts near those found."""
    out: list[tuple[int, int]] = []
    for offset in range(side):
        for end in range(side):
            length = side - offset - end
            near = abs(offset - before) <= REACH and abs(end - after) <= REACH
            if near and length >= SMALLEST_SHARE * side:
                out.append((offset, length))
    return out


def _crops_back(height: int, width: int, near: Near) -> list[Chain]:
    down, across = _spans(height, near.top, near.bottom), _spans(width, near.left, near.right)
    return [
        Chain(height, width, near.mirrored, (x, y, w, h), (Resize(height, width, name),))
        for (y, h), (x, w), name in itertools.product(down, across, FILTERS)
        if (h, w) != (height, width)
    ]


def _resampled(height: int, width: int, near: Near) -> list[Chain]:
    if max(near.left, near.right, near.top, near.bottom) > REACH + SEEN_CUT:
        return []  # nothing was cut from a resampled picture
    sizes: dict[tuple[int, int], None] = {}
    longer = max(height, width)
    for long in range(round(FACTORS[0] * longer), round(FACTORS[1] * longer) + 1):
        # the shorter side is rounded by itself: all that some factor gives with this longer side
        for part in (-0.49, 0.0, 0.49):
            factor = (long + part) / longer
            sizes[(round(height * factor), round(width * factor))] = None
    return [
        Chain(height, width, near.mirrored, None, (Resize(h, w, first), Resize(height, width, back)))
        for (h, w), first, back in itertools.product(sizes, FILTERS, FILTERS)
        if (h, w) != (height, width) and min(h, w) > 0
    ]


def squared_errors(
    listed: Sequence[Chain], picture: Pictures, target: Pictures, basis: Pictures | None = None
) -> NDArray[np.float64]:
    """[len(listed)] mean squared errors of a picture [C, H, W], changed by each chain, to `target` [C, h, w].

    What an orthonormal basis [C h w, d] explains of an error is left out: near one chain's fit the latent of any other
    makes up for about the same.
    """
    picture, target = picture.astype(np.float32), target.astype(np.float32)
    out = np.empty(len(listed))
    across: dict[int, tuple[NDArray[np.float64], Pictures]] = {}
    for first in range(0, len(listed), TOGETHER):
        part = listed[first : first + TOGETHER]
        errors = np.empty((len(part), target.size), dtype=np.float32)
        for index, chain in enumerate(part):
            down, wide = chain.operator()
            if id(wide) not in across:  # equal operators are one object (chain.py), which is held here
                across[id(wide)] = wide, picture @ wide.T.astype(np.float32)
            errors[index] = (down.astype(np.float32) @ across[id(wide)][1] - target).ravel()
        squares = np.square(errors).sum(1, dtype=np.float64)
        if basis is not None:
            squares -= np.square(errors @ basis.astype(np.float32)).sum(1, dtype=np.float64)
        out[first : first + len(part)] = squares / target.size
    return out
