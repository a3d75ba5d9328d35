"""Is the probe a changed copy of a logged picture? Whole pictures by PDQ, crops and mirrors by sliding windows.

Stage 1 compares perceptual hashes (whole pictures, mirrored ones too). Stage 2 slides the probe over every candidate:
for each admissible crop size the sum of squared luma differences at *all* offsets comes from one FFT correlation,

    |C_window - P|^2 = |C_window|^2 - 2 <C_window, P> + |P|^2,

a size-keeping crop at the probe's own size, a crop that was scaled back at every size from 90 % of the frame to all
of it. Both are screens. The best few are then measured forwards: the transformation is applied to the original and
compared with the probe in all channels, neighbours in position and size included. Only that residual is compared with
a limit, and limits come from a calibration (copy_limits.py); without one nothing is called a copy.

The pictures are the *replayed* pictures of records, so a copy found here is a copy of something that the record
really produces. Colours of an RGBA probe are compared, its alpha is not.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from . import pdq
from .similarity import Pixels, mse, psnr, ssim
from .transformation import FILTERS, JpegSettings, Transformation
from .windows import Lead, PictureGroup

SEARCH_VERSION = "plausible.copies/1"
# Pictures are searched at no more than this many samples a side; larger ones are reduced first, then refined.
WORK_SIDE = 96
# Many pictures are screened at this size first; the best of them go on to WORK_SIDE.
COARSE_SIDE = 32
# How many go on for each crop size and side: this many, or this share of them if that is more. Among 1,000 faces the
# right one came first at this size in every class of the relaxed scope (144 of 144).
COARSE_KEEP = 4
COARSE_SHARE = 0.004
_SETTLED = 0.25
# Pictures measured exactly after the screen, for each way in which the probe may lie in them (see `_finalists`).
FINALISTS = 4


class Limit(Protocol):
    """What `search_copies` needs of a calibration: the largest residual that counts in a family, for a probe of this
    variance (mean over channels, [0, 1] scale); None where the family was not calibrated or does not separate."""

    def limit(self, family: str, variance: float) -> float | None: ...


@dataclass(frozen=True, slots=True)
class Copy:
    """The best explanation of the probe as a changed copy, measured; a finding, not yet a verdict."""

    key: int
    transformation: Transformation
    residual: float  # MSE on [0, 1]
    psnr: float  # dB
    ssim: float
    limit: float | None
    stage: str  # "perceptual hash" or "sliding window"
    pictures: int  # how many logged pictures were searched
    pdq_bits: int  # distance of the whole pictures' perceptual hashes
    reencoded_mismatches: int | None  # samples that differ after re-encoding with the probe file's own JPEG settings
    picture: Pixels = field(repr=False, compare=False)  # the original after the geometry, of the probe's size

    @property
    def within(self) -> bool:
        """The residual is within a calibrated limit, or nothing is left: every sample is explained, as it is or after
        recompression with the file's own JPEG settings (certificates that need no calibration)."""
        if self.residual == 0 or self.reencoded_mismatches == 0:
            return True
        return self.limit is not None and self.residual <= self.limit


class CopyIndex:
    """Replayed pictures of records, prepared for searching: hashes, luma spectra and window energies.

    `pictures` gives (key, uint8[H, W, 3]); a key is the entry's index in its log, or any number of the caller's.
    """

    def __init__(self, pictures: Iterable[tuple[int, Pixels]]) -> None:
        items = [(key, np.ascontiguousarray(p[..., :3])) for key, p in pictures]
        self.keys: list[int] = [key for key, _ in items]
        self.pictures: list[Pixels] = [p for _, p in items]
        self.hashes = pdq.pdq_hashes(self.pictures)
        sizes: dict[tuple[int, int], list[int]] = {}
        for i, picture in enumerate(self.pictures):
            sizes.setdefault(picture.shape[:2], []).append(i)
        self._groups = [PictureGroup(self.pictures, members, COARSE_SIDE) for members in sizes.values()]

    def __len__(self) -> int:
        return len(self.pictures)

    def leads(self, probe: Pixels) -> list[Lead]:
        """The best places over all pictures, best first: the best few pictures of every crop size and side."""
        found: list[Lead] = []
        for group in self._groups:
            members: Sequence[int] = group.members
            if len(members) > 32:  # else there is nothing to gain
                keep = max(COARSE_KEEP, math.ceil(COARSE_SHARE * len(members)))
                members = list(dict.fromkeys(lead.index for lead in group.leads(probe, keep=keep)))
            found += PictureGroup(self.pictures, members, WORK_SIDE).leads(probe, keep=FINALISTS)
        found.sort(key=lambda lead: lead.score)
        return found


def search_copies(
    image: Pixels,
    candidates: CopyIndex | Sequence[tuple[int, Pixels]],
    limits: Limit | None,
    *,
    jpeg: JpegSettings | None = None,
) -> Copy | None:
    """The best explanation of uint8[H, W, 3 or 4] as a changed copy of a candidate; None only without candidates.

    Whether it counts is `Copy.within`. `jpeg` are the settings of the probe's own file, if it is a JPEG. Explanations
    of different families compete by residual over limit (by residual alone where a family has no limit).
    """
    index = candidates if isinstance(candidates, CopyIndex) else CopyIndex(candidates)
    measured = measure_copies(image, index, limits, jpeg=jpeg)
    return min(measured.values(), key=_rank) if measured else None


def measure_copies(
    image: Pixels, index: CopyIndex, limits: Limit | None = None, *, jpeg: JpegSettings | None = None
) -> Mapping[str, Copy]:
    """The best explanation in each family that came up, by family; used by the search and by its calibration."""
    probe = np.ascontiguousarray(image[..., :3])
    best: dict[str, Copy] = {}
    if not len(index):
        return best
    bits = np.minimum(
        pdq.hamming(pdq.pdq_hash(probe), index.hashes), pdq.hamming(pdq.pdq_hash(probe[:, ::-1]), index.hashes)
    )

    def keep(measured: Iterable[tuple[int, Transformation, float]], stage: str) -> None:
        for i, transformation, residual in measured:
            known = best.get(transformation.family)
            if known is None or residual < known.residual:
                best[transformation.family] = _copy(
                    probe, index, i, transformation, residual, stage, int(bits[i]), limits, jpeg
                )

    near = np.argsort(bits, kind="stable")[:FINALISTS]
    whole = _whole_frame_leads(index, [int(i) for i in near if bits[i] <= pdq.SCREEN_BITS])
    keep(_explain(probe, index, list(whole)), "perceptual hash")
    if any(_settled(c) for c in best.values()):
        return best
    keep(_explain(probe, index, list(_finalists(index.leads(probe), index, probe))), "sliding window")
    return best


def _settled(copy: Copy) -> bool:
    """A whole picture explained so well that no crop needs to be looked for: a slight crop comes near it too."""
    if copy.transformation.family != "whole":
        return False
    certain = copy.residual == 0 or copy.reencoded_mismatches == 0
    return certain or (copy.within and copy.residual <= _SETTLED * (copy.limit or 0.0))


def _rank(copy: Copy) -> tuple[int, float]:
    return (0, copy.residual / copy.limit) if copy.limit else (1, copy.residual)


def variance(pixels: Pixels) -> float:
    """Variance of the samples on a [0, 1] scale, each channel about its own mean, averaged over channels."""
    return float(pixels[..., :3].astype(np.float64).var(axis=(0, 1)).mean()) / 255.0**2


def _finalists(leads: Sequence[Lead], index: CopyIndex, probe: Pixels) -> Iterator[Lead]:
    """The best few pictures of each kind of place: the probe's own size, the whole frame, and what was scaled.

    Smaller windows fit more easily, so the kinds do not compete here: each is measured and has its own limit.
    """
    taken: dict[tuple[str, int], int] = {}
    for lead in leads:
        height, width = index.pictures[lead.index].shape[:2]
        if lead.crop[2:] == (width, height):
            kind = "frame"
        else:
            kind = "kept" if lead.crop[2:] == (probe.shape[1], probe.shape[0]) else "scaled"
        place = (kind, lead.index)
        if place in taken or sum(k == kind for k, _ in taken) < FINALISTS:
            taken[place] = taken.get(place, 0) + 1
            if taken[place] <= 2:
                yield lead


def _whole_frame_leads(index: CopyIndex, members: Sequence[int]) -> Iterator[Lead]:
    for i in members:
        height, width = index.pictures[i].shape[:2]
        for mirror in (False, True):
            yield Lead(i, (0, 0, width, height), mirror, 0.0)


def _copy(
    probe: Pixels,
    index: CopyIndex,
    i: int,
    transformation: Transformation,
    residual: float,
    stage: str,
    bits: int,
    limits: Limit | None,
    jpeg: JpegSettings | None,
) -> Copy:
    picture = transformation.apply(index.pictures[i])
    mismatches = int((jpeg.recompress(picture) != probe).sum()) if jpeg is not None else None
    if jpeg is not None:
        transformation = replace(transformation, recompressed="JPEG")
    elif residual > 0:
        transformation = replace(transformation, recompressed="unidentified")
    return Copy(
        key=index.keys[i],
        transformation=transformation,
        residual=residual,
        psnr=psnr(picture, probe),
        ssim=ssim(picture, probe),
        limit=limits.limit(transformation.family, variance(probe)) if limits is not None else None,
        stage=stage,
        pictures=len(index),
        pdq_bits=bits,
        reencoded_mismatches=mismatches,
        picture=picture,
    )


# --- measuring one place -----------------------------------------------------------------------------------------


def _explain(probe: Pixels, index: CopyIndex, leads: Sequence[Lead]) -> Iterator[tuple[int, Transformation, float]]:
    """(picture, transformation, residual) of every lead measured forwards; the best scaled crops are then improved."""
    size = (probe.shape[1], probe.shape[0])
    scaled: list[tuple[float, int, Transformation]] = []
    for lead in leads:
        original = index.pictures[lead.index]
        source = (original.shape[1], original.shape[0])
        for rectangle in _refined(probe, original, lead):
            start = Transformation(source=source, crop=rectangle, mirror=lead.mirror)
            if rectangle[2:] == size:
                yield lead.index, start, mse(start.apply(original), probe)
                continue
            best, residual = min(_filtered(probe, original, replace(start, resized=size)), key=lambda pair: pair[1])
            yield lead.index, best, residual
            if best.cropped:
                scaled.append((residual, lead.index, best))
    scaled.sort(key=lambda item: item[0])
    for residual, i, start in scaled[:FINALISTS]:
        yield i, *_climb(probe, index.pictures[i], start, residual)


def _refined(probe: Pixels, original: Pixels, lead: Lead) -> list[tuple[int, int, int, int]]:
    """The lead's rectangle; for pictures beyond WORK_SIDE, looked up again at full resolution close by."""
    height, width = original.shape[:2]
    if max(height, width) <= WORK_SIDE or lead.crop == (0, 0, width, height):
        return [lead.crop]
    reach = math.ceil(max(height, width) / WORK_SIDE)
    w, h = lead.crop[2:]
    sizes = {(w, h)} | {(w + d, round((w + d) * h / w)) for d in range(-reach, reach + 1)}
    sizes = {(a, b) for a, b in sizes if 1 <= a <= width and 1 <= b <= height}
    group = PictureGroup([original], [0], max(height, width))
    found = group.leads(probe, keep=1, sizes=sorted(sizes), mirrors=(lead.mirror,))
    return [min(found, key=lambda item: item.score).crop] if found else [lead.crop]


def _filtered(probe: Pixels, original: Pixels, start: Transformation) -> list[tuple[Transformation, float]]:
    """`start` with each resampling filter, measured."""
    each = [replace(start, filter=name) for name in FILTERS]
    return [(t, mse(t.apply(original), probe)) for t in each]


def _climb(probe: Pixels, original: Pixels, start: Transformation, residual: float) -> tuple[Transformation, float]:
    """Downhill from `start` over scaled rectangles and filters: one edge by one sample, where that no longer helps
    all edges at once (a picture cut wrongly on opposite sides is a local minimum of single steps)."""
    least = _smallest_scaled(start)
    best = (start, residual)
    for _ in range(32):
        better = _best_step(probe, original, best, _SINGLE, least) or _best_step(probe, original, best, _JOINT, least)
        if better is None:
            break
        best = better
    return best


def _best_step(
    probe: Pixels,
    original: Pixels,
    best: tuple[Transformation, float],
    steps: Sequence[tuple[int, ...]],
    least: tuple[int, int],
) -> tuple[Transformation, float] | None:
    """The best neighbour by moving edges (left, top, right, bottom) or changing the filter; None if none is better."""
    at, residual = best
    width, height = at.source
    x, y, w, h = at.crop
    near = [replace(at, filter=f) for f in FILTERS if f != at.filter] if steps is _SINGLE else []
    for left, top, right, bottom in steps:
        a, b, c, d = x + left, y + top, w + right - left, h + bottom - top
        inside = 0 <= a <= width - c and 0 <= b <= height - d
        if inside and c >= least[0] and d >= least[1] and (c, d) != at.resized:
            near.append(replace(at, crop=(a, b, c, d)))
    measured = ((t, mse(t.apply(original), probe)) for t in near)
    found = min(measured, key=lambda pair: pair[1], default=best)
    return found if found[1] < residual else None


def _smallest_scaled(start: Transformation) -> tuple[int, int]:
    """The least width and height a scaled crop may have: 90 % of the lead's largest fit, less one for rounding."""
    width, height = start.source
    size = start.resized or start.source
    fit = min(width / size[0], height / size[1])
    return math.floor(0.9 * size[0] * fit) - 1, math.floor(0.9 * size[1] * fit) - 1


_JOINT = [step for step in itertools.product((-1, 0, 1), repeat=4) if any(step)]
# one edge, or a shift of the whole rectangle
_SINGLE = [step for step in _JOINT if sum(map(abs, step)) == 1] + [
    (dx, dy, dx, dy) for dx, dy in itertools.product((-1, 0, 1), repeat=2) if dx or dy
]
