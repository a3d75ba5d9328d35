"""One chain of the closed list: a mirror, a window in whole pixels, then Pillow resizes; exactly, or as matrices.

Every change of calibration/classes.py short of JPEG is such a chain. `render` runs the very code on the very pixels;
`operator` is the same without any rounding, a matrix for each axis, since all of it is linear and separable;
`roundings` are the operators through which each 8-bit rounding on the way reaches the result.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...calibration.classes import resize
from .resize import Matrix, resize_matrix, vertical_first

Pixels = NDArray[np.uint8]
Window = tuple[int, int, int, int]
"""x, y, width, height, in pixels of the (mirrored) picture."""


@dataclass(frozen=True, slots=True)
class Resize:
    """To so many pixels by one of Pillow's filters (calibration/classes.py `FILTERS`)."""

    height: int
    width: int
    name: str


@dataclass(frozen=True, slots=True)
class Chain:
    """What was done to a picture [height, width], in this order."""

    height: int
    width: int
    mirrored: bool = False
    window: Window | None = None
    resizes: tuple[Resize, ...] = ()

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) of the result."""
        if self.resizes:
            return self.resizes[-1].height, self.resizes[-1].width
        return (self.height, self.width) if self.window is None else (self.window[3], self.window[2])

    @property
    def class_name(self) -> str:
        """The class of calibration/classes.py that it is a member of; with a mirror before, of the rest."""
        if self.window is not None:
            return "crop"
        if self.resizes:
            return "resampled" if self.shape == (self.height, self.width) else "resized"
        return "mirror" if self.mirrored else "unprocessed"

    @property
    def fewest_samples(self) -> int:
        """Pixels of the smallest picture on the way: no more of them are independent in the result."""
        sizes = [self._span(0)[1] * self._span(1)[1], *(step.height * step.width for step in self.resizes)]
        return min(sizes)

    @property
    def is_lossless(self) -> bool:
        """Whether every sample of the result is one of the picture's: nothing was resized."""
        return not self.resizes

    def __str__(self) -> str:
        parts = ["mirrored"] if self.mirrored else []
        if self.window is not None:
            x, y, w, h = self.window
            parts.append(f"cropped to {w}x{h} at {x},{y}")
        if len(self.resizes) == 1:
            last = self.resizes[0]
            native = self.window is not None and self.shape == (self.height, self.width)
            to = "back" if native else f"to {last.width}x{last.height}"
            parts.append(f"resized {to} by {last.name}")
        elif self.resizes:
            first, last = self.resizes
            parts.append(f"resized to {first.width}x{first.height} by {first.name} and back by {last.name}")
        return ", ".join(parts) or "unchanged"

    def render(self, pixels: Pixels) -> Pixels:
        """uint8 [h, w, C]: exactly what the chain makes of uint8 [height, width, C]."""
        if self.mirrored:
            pixels = pixels[:, ::-1]
        if self.window is not None:
            x, y, w, h = self.window
            pixels = pixels[y : y + h, x : x + w]
        pixels = np.ascontiguousarray(pixels)
        for step in self.resizes:
            if pixels.shape[:2] != (step.height, step.width):
                pixels = resize(pixels, step.height, step.width, step.name)
        return pixels

    def operator(self) -> tuple[Matrix, Matrix]:
        """(Y [h, height], X [w, width]): the chain without rounding makes Y P X^T of a picture P."""
        return self._axis(0), self._axis(1)

    def _axis(self, axis: int) -> Matrix:
        side = (self.height, self.width)[axis]
        offset, length = self._span(axis)
        steps = tuple(((step.height, step.width)[axis], step.name) for step in self.resizes)
        return _axis(side, self.mirrored and axis == 1, offset, length, steps)

    def _span(self, axis: int) -> tuple[int, int]:
        """(offset, length) of the window along one axis."""
        if self.window is None:
            return 0, (self.height, self.width)[axis]
        return (self.window[1], self.window[3]) if axis == 0 else (self.window[0], self.window[2])

    def roundings(self) -> list[tuple[Matrix, Matrix]]:
        """(Y [h, m], X [w, n]) from each rounding to the result: of the picture itself, and after every pass."""
        found = [self.operator()]
        sizes = (self._span(0)[1], self._span(1)[1])
        for number, step in enumerate(self.resizes):
            after = Chain(step.height, step.width, resizes=self.resizes[number + 1 :])
            down, across = after.operator()
            first = 0 if vertical_first(sizes, (step.height, step.width)) else 1
            if sizes[first] != (step.height, step.width)[first]:
                # rounded between the passes: the other one is still to come
                if first == 1:
                    found.append((down @ _step(step, 0, sizes[0]), across))
                else:
                    found.append((down, across @ _step(step, 1, sizes[1])))
            if sizes[1 - first] != (step.height, step.width)[1 - first]:
                found.append((down, across))
            sizes = (step.height, step.width)
        return found


@functools.lru_cache(maxsize=8192)
def _axis(side: int, flipped: bool, offset: int, length: int, steps: tuple[tuple[int, str], ...]) -> Matrix:
    """float64 [after, side], read-only: a selection, then resizes."""
    matrix = np.eye(side)[:: -1 if flipped else 1][offset : offset + length]
    for after, name in steps:
        if after != len(matrix):
            matrix = resize_matrix(len(matrix), after, name) @ matrix
    matrix = np.ascontiguousarray(matrix)
    matrix.setflags(write=False)
    return matrix


def _step(step: Resize, axis: int, before: int) -> Matrix:
    after = (step.height, step.width)[axis]
    return np.eye(after) if after == before else resize_matrix(before, after, step.name)
