"""Limits of the changed-copy search, drawn from measurements: own copies on one side, strangers on the other.

For each family of transformations `calibrate_copies` makes logged pictures of a generator, changes some of them
(mirrored or not, as they are or as JPEG 95 to 50), searches, and notes what the right explanation leaves; then it does
the same with pictures of the generator that were not logged and notes the best that any explanation leaves. Two limits
come of it, and both must hold: on the residual (MSE), and on the *unexplained share*, the residual over the probe's own
variance, without which a pale picture would be a copy of any other. Each is the geometric mean of the largest own and
the smallest stranger's value. A family has limits only if at least MIN_ROWS own copies were measured, none was
mistaken for another picture, and the shares lie SEPARATION or more apart.

Among more pictures strangers come nearer, so limits hold for logs of up to LARGEST_RATIO times the calibrated number.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ...schemas import jcs
from ...schemas.copies import CopyCalibration, CopyFamilyRows, floats, real
from ...schemas.errors import EvidenceError, SetupError, UsageError
from .search import SEARCH_VERSION, CopyIndex, measure_copies, variance
from .similarity import Pixels
from .transformation import FAMILIES, FILTERS, SMALLEST_CROP, Transformation, as_jpeg

FILE = "copies.json"
MIN_ROWS = 29
SEPARATION = 2.0
# Among more than this many times the calibrated number of pictures strangers come too near for the limits to hold.
LARGEST_RATIO = 16
QUALITIES = (None, 95, 85, 75, 50)

Draw = Callable[[int, int], Sequence[Pixels]]


@dataclass(frozen=True, slots=True)
class FamilyLimits:
    """The two limits of a family and how many measurements stand behind them."""

    residual: float
    share: float
    positives: int
    negatives: int


@dataclass(frozen=True, slots=True)
class CopyLimits:
    """Limits of one generator's pictures; `limit` is what `search_copies` asks for."""

    model: str
    pictures: int
    digest: bytes = field(repr=False)  # SHA-256 of the artefact
    families: Mapping[str, FamilyLimits] = field(default_factory=dict[str, FamilyLimits])

    def too_few_for(self, pictures: int) -> str | None:
        """Why these limits do not hold for a search among so many pictures; None if they do."""
        if pictures <= LARGEST_RATIO * self.pictures:
            return None
        return f"the copy search was calibrated among {self.pictures} pictures, too few for {pictures}"

    def limit(self, family: str, variance: float) -> float | None:
        """The largest residual that counts for a probe of this variance; None if the family has no limits."""
        limits = self.families.get(family)
        return None if limits is None else min(limits.residual, limits.share * variance)

    @classmethod
    def parse(cls, data: bytes, *, model: str | None = None) -> CopyLimits:
        """Read an artefact; `EvidenceError` if malformed, of another model or search, or if its limits are not those
        that its own measurements give."""
        document = CopyCalibration.parse(data, what="calibration of the copy search")
        if model is not None and document.model != model:
            raise EvidenceError(f"this calibration of the copy search is of {document.model}, not of {model}")
        if document.search != SEARCH_VERSION:
            raise EvidenceError(f"this calibration is of {document.search}, this search is {SEARCH_VERSION}")
        families: dict[str, FamilyLimits] = {}
        for name, rows in document.families.items():
            columns = [floats(c) for c in (
                rows.positive_residuals, rows.positive_shares, rows.negative_residuals, rows.negative_shares
            )]  # fmt: skip
            limits = derive_limits(*columns, missed=rows.missed)
            stated = None if rows.limit is None or rows.share_limit is None else (rows.limit, rows.share_limit)
            if (limits is None) != (stated is None):
                raise EvidenceError(f"the limits of {name} are not those of the calibration's measurements")
            if limits is not None and stated is not None:
                found = (real(stated[0]), real(stated[1]))
                if not np.allclose(found, (limits.residual, limits.share), rtol=1e-9):
                    raise EvidenceError(f"the limits of {name} are not those of the calibration's measurements")
                families[name] = limits
        return cls(document.model, document.pictures, hashlib.sha256(data).digest(), families)

    @classmethod
    def load(cls, folder: Path | str, *, model: str | None = None) -> CopyLimits | None:
        """The limits in a model folder's `calibrations/copies.json`; None if there is no such file."""
        path = Path(folder) / "calibrations" / FILE
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise SetupError(f"cannot read {path}: {error.strerror}") from None
        return cls.parse(data, model=model)


def derive_limits(
    residuals: Sequence[float],
    shares: Sequence[float],
    strange_residuals: Sequence[float],
    strange_shares: Sequence[float],
    *,
    missed: int,
) -> FamilyLimits | None:
    """The limits that measurements of a family support; None if too few, mistaken or not apart."""
    if len(residuals) < MIN_ROWS or len(strange_residuals) < MIN_ROWS or missed:
        return None
    own, strange = max(shares), min(strange_shares)
    if strange < SEPARATION * own or strange == 0:
        return None
    # exact copies alone would give limits of zero: a level of difference somewhere is still a copy
    share = math.sqrt(max(own, 1e-6) * strange)
    largest = max(*residuals, 1e-9)
    residual = max(largest, math.sqrt(largest * min(strange_residuals)))
    return FamilyLimits(residual, share, len(residuals), len(strange_residuals))


def calibrate_copies(
    draw: Draw,
    model: str,
    *,
    seed: int,
    pictures: int = 256,
    rows: int = 60,
    progress: Callable[[int, int], None] | None = None,
) -> bytes:
    """The artefact's bytes. `draw(count, seed)` gives uint8[H, W, 3] pictures of the generator with digest `model`.

    `pictures` are logged, `rows` own copies and `rows` strangers are measured in every family.
    """
    if pictures < 2 or rows < 1:
        raise UsageError("a calibration needs at least two logged pictures and one row")
    rng = np.random.default_rng(seed)
    logged = list(draw(pictures, seed))
    strangers = list(draw(rows, seed + 1))
    index = CopyIndex(enumerate(logged))
    own: dict[str, list[tuple[float, float]]] = {name: [] for name in FAMILIES}
    strange: dict[str, list[tuple[float, float]]] = {name: [] for name in FAMILIES}
    missed = dict.fromkeys(FAMILIES, 0)
    total, done = 2 * rows * len(FAMILIES), 0
    for name in FAMILIES:
        for row in range(rows):
            chosen = int(rng.integers(pictures))
            probe = _changed(logged[chosen], name, row, rng)
            found = measure_copies(probe, index)
            best = min(found.values(), key=lambda c: c.residual)
            missed[name] += best.key != chosen
            own[name].append((best.residual, best.residual / max(variance(probe), 1e-12)))
            stranger = _changed(strangers[row], name, row, rng)
            spread = max(variance(stranger), 1e-12)
            for family, copy in measure_copies(stranger, index).items():
                strange[family].append((copy.residual, copy.residual / spread))
            done += 2
            if progress is not None:
                progress(done, total)
    families: dict[str, CopyFamilyRows] = {}
    for name in FAMILIES:
        columns = [[r for r, _ in own[name]], [s for _, s in own[name]], [r for r, _ in strange[name]],
                   [s for _, s in strange[name]]]  # fmt: skip
        limits = derive_limits(*columns, missed=missed[name])
        wrapped = [tuple(jcs.wrap_number(float(v)) for v in column) for column in columns]
        families[name] = CopyFamilyRows.of(
            {
                "limit": None if limits is None else jcs.wrap_number(limits.residual),
                "missed": missed[name],
                "negative_residuals": wrapped[2],
                "negative_shares": wrapped[3],
                "positive_residuals": wrapped[0],
                "positive_shares": wrapped[1],
                "share_limit": None if limits is None else jcs.wrap_number(limits.share),
            }
        )
    document = CopyCalibration(families=families, model=model, pictures=pictures, search=SEARCH_VERSION, seed=seed)
    return document.to_jcs()


def _changed(picture: Pixels, family: str, row: int, rng: np.random.Generator) -> Pixels:
    """A copy of the family: geometry drawn at random, mirrored every second time, qualities in turn."""
    height, width = picture.shape[:2]
    w, h = width, height
    if family.startswith("crop"):
        low, high = (SMALLEST_CROP, 0.9) if family == "crop-small" else (0.9, 1.0)
        w, h = (min(side - 1, max(1, round(side * rng.uniform(low, high)))) for side in (width, height))
    x, y = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
    resized = filter_name = None
    if family == "crop-resized":
        resized = (width, height)
    elif family == "resized":
        factor = rng.uniform(0.5, 2.0)
        resized = (max(8, round(width * factor)), max(8, round(height * factor)))
        resized = (width + 1, height + 1) if resized == (width, height) else resized
    if resized is not None:
        filter_name = sorted(FILTERS)[int(rng.integers(len(FILTERS)))]
    change = Transformation((width, height), (x, y, w, h), bool(row % 2), resized, filter_name)
    quality = QUALITIES[(row // 2) % len(QUALITIES)]
    pixels = change.apply(picture)
    return pixels if quality is None else as_jpeg(pixels, quality)
