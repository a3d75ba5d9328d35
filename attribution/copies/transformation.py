"""The closed list of changes under which a copy is called a copy, applied forwards.

crop(x, y, w, h), then mirror, then resizing, then recompression; each may be absent. `Transformation.apply` redoes the
geometry with Pillow on the original, so that a claim "this is picture 17, cropped and mirrored" is measured by doing
it. Nothing else (rotation, colour, overlays) is on the list, and the report says so.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from ...schemas.errors import UsageError
from .similarity import Pixels

FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
# Each family has limits of its own: the less of the original is left, the easier another picture comes close.
FAMILIES = ("whole", "crop", "crop-small", "resized", "crop-resized")
# A crop that keeps at least this share of each side is `crop`, down to SMALLEST_CROP it is `crop-small`.
LARGE_CROP = 0.9
SMALLEST_CROP = 0.5


@dataclass(frozen=True, slots=True)
class Transformation:
    """One element of the closed list, relative to an original of `source` = (width, height)."""

    source: tuple[int, int]
    crop: tuple[int, int, int, int]  # x, y, w, h in the original's samples; the whole frame if not cropped
    mirror: bool = False
    resized: tuple[int, int] | None = None  # width, height
    filter: str | None = None  # a key of FILTERS; present with `resized`
    recompressed: str | None = None  # "JPEG", "unidentified", or None if nothing beyond the geometry differs

    @property
    def cropped(self) -> bool:
        return self.crop != (0, 0, *self.source)

    @property
    def family(self) -> str:
        """The family whose limit applies."""
        if self.resized is not None:
            return "crop-resized" if self.cropped else "resized"
        if not self.cropped:
            return "whole"
        share = min(self.crop[2] / self.source[0], self.crop[3] / self.source[1])
        # a side rounded to whole samples may fall just short of nine tenths: 58 of 64 is in, so is 57
        return "crop" if share >= LARGE_CROP - 1 / max(self.source) else "crop-small"

    def apply(self, original: Pixels) -> Pixels:
        """The original's samples after the geometry (not the recompression), uint8[h, w, 3]."""
        height, width = original.shape[:2]
        if (width, height) != self.source:
            raise UsageError(f"this transformation is of a {self.source} picture, not {(width, height)}")
        x, y, w, h = self.crop
        if w < 1 or h < 1 or x < 0 or y < 0 or x + w > width or y + h > height:
            raise UsageError(f"crop{self.crop} does not lie inside {self.source}")
        part = original[y : y + h, x : x + w]
        if self.mirror:
            part = part[:, ::-1]
        part = np.ascontiguousarray(part)
        if self.resized is None:
            return part
        return resize(part, self.resized, self.filter or "bicubic")

    def __str__(self) -> str:
        parts: list[str] = []
        if self.cropped:
            parts.append("crop({}, {}, {}, {})".format(*self.crop))
        if self.mirror:
            parts.append("mirror")
        if self.resized is not None:
            parts.append(f"resized to {self.resized[0]}x{self.resized[1]} ({self.filter})")
        if self.recompressed == "JPEG":
            parts.append("recompressed (JPEG)")
        elif self.recompressed is not None:
            parts.append("recompressed (codec not identified)")
        return ", ".join(parts) or "unchanged"


def resize(pixels: Pixels, size: tuple[int, int], filter_name: str) -> Pixels:
    """uint8[H, W, 3] resampled to `size` = (width, height) with one of FILTERS, as Pillow does it."""
    if (pixels.shape[1], pixels.shape[0]) == size:
        return pixels
    return np.asarray(Image.fromarray(pixels).resize(size, FILTERS[filter_name]))


@dataclass(frozen=True, slots=True)
class JpegSettings:
    """What a JPEG file says about how it was made: quantisation tables and chroma subsampling."""

    tables: tuple[tuple[int, ...], ...]
    subsampling: int

    def recompress(self, pixels: Pixels) -> Pixels:
        """Encode with these very settings and decode again, uint8[H, W, 3]."""
        out = io.BytesIO()
        tables = [list(table) for table in self.tables]
        Image.fromarray(pixels).save(out, "JPEG", qtables=tables, subsampling=self.subsampling)
        out.seek(0)
        with Image.open(out) as picture:
            return np.asarray(picture.convert("RGB"))


def jpeg_settings(data: bytes) -> JpegSettings | None:
    """The settings of a baseline colour JPEG file's bytes; None for anything else or if Pillow cannot tell them."""
    from PIL import JpegImagePlugin

    try:
        with Image.open(io.BytesIO(data), formats=["JPEG"]) as picture:
            tables: dict[int, Any] = getattr(picture, "quantization", {})
            subsampling = JpegImagePlugin.get_sampling(picture)
            if picture.mode != "RGB" or not tables or subsampling < 0:
                return None
            return JpegSettings(tuple(tuple(int(v) for v in tables[k]) for k in sorted(tables)), int(subsampling))
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError):
        return None


def as_jpeg(pixels: Pixels, quality: int) -> Pixels:
    """The samples after Pillow's JPEG at `quality` with its default subsampling, uint8[H, W, 3]."""
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=quality)
    out.seek(0)
    with Image.open(out) as picture:
        return np.asarray(picture.convert("RGB"))
