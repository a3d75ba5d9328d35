"""Sliding one picture over many: the mean squared difference at every offset of every picture, by FFT.

A screen: luma only, pictures reduced to a working size. What it finds is measured exactly in copies.py.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from .similarity import Pixels
from .transformation import SMALLEST_CROP, resize

# Spectra are kept for at most this many pictures (64x64: 17 kB each); beyond, they are recomputed for each probe.
KEEP_SPECTRA = 8192
_CHUNK = 1024
# Size-keeping crops with a shorter side are not looked for: too little is left to tell pictures apart.
SMALLEST_SIDE = 16

_STEPS = 5

Float = NDArray[np.float32]
Spectra = NDArray[np.complex64]


@dataclass(frozen=True, slots=True)
class Lead:
    """A place worth measuring: picture `index`, crop rectangle in its samples, mirrored or not, screened MSE."""

    index: int
    crop: tuple[int, int, int, int]
    mirror: bool
    score: float


class PictureGroup:
    """Pictures of one size, reduced so that no side exceeds `side`, with what a correlation needs of them."""

    def __init__(self, pictures: Sequence[Pixels], members: Sequence[int], side: int) -> None:
        self.members = list(members)
        self.height, self.width = pictures[members[0]].shape[:2]
        self.scale = min(1.0, side / max(self.height, self.width))
        self.h, self.w = max(1, round(self.height * self.scale)), max(1, round(self.width * self.scale))
        self.luma = np.stack([_luma(pictures[i], (self.w, self.h)) for i in members])
        self._spectra: list[Spectra] | None = None
        self._energies: dict[tuple[int, int], NDArray[np.float32]] = {}

    def leads(
        self,
        probe: Pixels,
        *,
        keep: int,
        sizes: Sequence[tuple[int, int]] | None = None,
        mirrors: Sequence[bool] = (False, True),
    ) -> list[Lead]:
        """For every crop size and side the best `keep` pictures at their best offset, with the screened MSE."""
        found: list[Lead] = []
        seen: set[tuple[int, int]] = set()
        for w, h in sizes if sizes is not None else self._sizes(probe):
            reduced = (max(1, round(w * self.scale)), max(1, round(h * self.scale)))
            if reduced[0] > self.w or reduced[1] > self.h:
                continue
            if reduced in seen:
                continue
            seen.add(reduced)
            for mirror in mirrors:
                template = _luma(probe[:, ::-1] if mirror else probe, reduced)
                scores, xs, ys = self._slide(template)
                for k in np.argsort(scores, kind="stable")[:keep]:
                    x = min(self.width - w, round(int(xs[k]) / self.scale))
                    y = min(self.height - h, round(int(ys[k]) / self.scale))
                    found.append(Lead(self.members[int(k)], (x, y, w, h), mirror, float(scores[k])))
        return found

    def _sizes(self, probe: Pixels) -> list[tuple[int, int]]:
        """Crop sizes (w, h) the probe may come from: its own, and those that fill 90-100 % of the frame."""
        height, width = probe.shape[:2]
        sizes: list[tuple[int, int]] = []
        if width <= self.width and height <= self.height:
            share = min(width / self.width, height / self.height)
            if share >= SMALLEST_CROP and min(width, height) >= SMALLEST_SIDE:
                sizes.append((width, height))
        fit = min(self.width / width, self.height / height)  # the largest rectangle of the probe's aspect
        full_w, full_h = width * fit, height * fit
        # width and height were perhaps cut by different amounts before the picture was scaled back
        widths = {max(1, min(self.width, round(full_w * share))) for share in self._shares(full_w)}
        heights = {max(1, min(self.height, round(full_h * share))) for share in self._shares(full_h)}
        sizes += [(w, h) for w in sorted(widths) for h in sorted(heights)]
        sizes.append((self.width, self.height))  # the whole frame, whatever the aspect
        return list(dict.fromkeys(sizes))

    def _shares(self, side: float) -> list[float]:
        """Kept shares from 90 % to all of a side, apart by about one sample of the reduced picture, at most STEPS."""
        steps = min(_STEPS, math.floor(0.1 * side * self.scale) + 1)
        return [1 - 0.1 * k / max(1, steps - 1) for k in range(steps)] if steps > 1 else [1.0, 0.95]

    def _slide(self, template: Float) -> tuple[Float, NDArray[np.int64], NDArray[np.int64]]:
        """Lowest mean squared difference of [h, w] over all offsets inside each picture: scores, x, y, each [N]."""
        h, w = template.shape
        rows, columns = self.h - h + 1, self.w - w + 1
        energy = float((template.astype(np.float64) ** 2).sum())
        conjugate = np.conj(_spectra(template, (self.h, self.w)))
        scores = np.empty(len(self.members), np.float32)
        place = np.empty(len(self.members), np.int64)
        energies = self._window_energies(h, w)
        for start, spectra in self._chunks():
            correlation = _samples(spectra * conjugate, (self.h, self.w))[:, :rows, :columns]
            error = (energies[start : start + len(spectra)] - 2 * correlation + energy) / (h * w)
            error = error.reshape(len(spectra), -1)
            place[start : start + len(spectra)] = error.argmin(axis=1)
            scores[start : start + len(spectra)] = error.min(axis=1)
        return scores, place % columns, place // columns

    def _window_energies(self, h: int, w: int) -> Float:
        """Energies of all windows; the last size is kept, since the mirrored probe asks for it again."""
        if (h, w) not in self._energies:
            self._energies = {(h, w): _window_energy(self.luma, h, w).astype(np.float32)}
        return self._energies[h, w]

    def _chunks(self) -> Iterator[tuple[int, Spectra]]:
        if self._spectra is not None:
            starts = range(0, len(self.members), _CHUNK)
            yield from zip(starts, self._spectra, strict=True)
            return
        kept: list[Spectra] = []
        for start in range(0, len(self.members), _CHUNK):
            spectra = _spectra(self.luma[start : start + _CHUNK], (self.h, self.w))
            if len(self.members) <= KEEP_SPECTRA:
                kept.append(spectra)
            yield start, spectra
        if kept:
            self._spectra = kept


def _luma(pixels: Pixels, size: tuple[int, int]) -> Float:
    """Rec. 601 luma, centred on zero (keeps the correlation's cancellation small), float32[h, w]."""
    reduced = resize(np.ascontiguousarray(pixels), size, "bicubic").astype(np.float32)
    weights = np.asarray([0.299, 0.587, 0.114], np.float32) / 255
    return (reduced @ weights - np.float32(0.5)).astype(np.float32)


def _window_energy(luma: Float, h: int, w: int) -> NDArray[np.float64]:
    """Sum of squares of every h x w window of [N, H, W], float64[N, H - h + 1, W - w + 1], by integral images."""
    total = np.zeros((luma.shape[0], luma.shape[1] + 1, luma.shape[2] + 1), np.float64)
    np.cumsum(luma.astype(np.float64) ** 2, axis=1, out=total[:, 1:, 1:])
    np.cumsum(total[:, 1:, 1:], axis=2, out=total[:, 1:, 1:])
    return total[:, h:, w:] - total[:, :-h, w:] - total[:, h:, :-w] + total[:, :-h, :-w]


def _spectra(values: Float, size: tuple[int, int]) -> Spectra:
    from scipy import fft

    return np.asarray(cast(object, fft.rfft2(values, s=size, workers=-1)), np.complex64)


def _samples(spectra: Spectra, size: tuple[int, int]) -> Float:
    from scipy import fft

    return np.asarray(cast(object, fft.irfft2(spectra, s=size, workers=-1)), np.float32)
