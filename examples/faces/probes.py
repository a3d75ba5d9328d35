"""The demo's probes: what an auditor might be handed, and what `pd verify` must say of each.

Every probe is a real file on disk; expectations are those of docs/verdicts.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from plausible.schemas.verdict import Verdict

SIZE = 64


@dataclass(frozen=True, slots=True)
class Probe:
    """One row of the table: a file, how it is verified, what may come out."""

    label: str
    path: Path
    expected: tuple[Verdict, ...]
    scope: str = "relaxed"
    ledger: str = "studio"  # which ledger it is verified against
    clone_registered: bool = False


def save(pixels: NDArray[np.uint8], path: Path, **options: Any) -> Path:
    """Write a picture in the format that the suffix names."""
    Image.fromarray(pixels).save(path, **options)
    return path


def crop(pixels: NDArray[np.uint8], rng: np.random.Generator, side: int = 58) -> NDArray[np.uint8]:
    """A square cut at a random offset: 58 of 64 is 90 % a side."""
    top, left = (int(v) for v in rng.integers(0, SIZE - side + 1, size=2))
    return np.ascontiguousarray(pixels[top : top + side, left : left + side])


def gradient() -> NDArray[np.uint8]:
    """A photo-like sunset: a vivid sky fading upwards, a low sun, its glitter on dark water, grain; no face."""
    rng = np.random.default_rng(7)
    y, x = np.mgrid[0:SIZE, 0:SIZE] / (SIZE - 1)
    fade = y[..., None]
    sky = (1 - fade) * np.array([0.10, 0.05, 0.45]) + fade * np.array([1.35, 0.60, 0.05])
    sun = np.exp(-(((x - 0.3) ** 2 + (y - 0.5) ** 2) / 0.008))[..., None] * np.array([1.0, 0.9, 0.4])
    water = np.stack([0.05 + 0.1 * x, 0.02 + 0.0 * x, 0.15 + 0.2 * y], -1)
    glitter = (np.sin(90 * y + 4 * np.sin(14 * x)) > 0.3) * np.exp(-((x - 0.3) ** 2) / 0.02)
    water = water + glitter[..., None] * np.array([1.0, 0.6, 0.2])
    picture = np.where((y > 0.6)[..., None], water, sky + sun) + rng.normal(0, 0.01, (SIZE, SIZE, 3))
    return (picture.clip(0, 1) * 255).round().astype(np.uint8)


def digit(text: str = "7") -> NDArray[np.uint8]:
    """A white digit on black, drawn large with Pillow's own font."""
    image = Image.new("RGB", (SIZE, SIZE))
    font = ImageFont.load_default(size=72)
    centre = (SIZE // 2, SIZE // 2)
    ImageDraw.Draw(image).text(centre, text, font=font, fill=(255, 255, 255), anchor="mm", stroke_width=2)
    return np.asarray(image)


def flat() -> NDArray[np.uint8]:
    """Flat grey: any generator that can make a flat patch comes close, so it is evidence of nothing."""
    return np.full((SIZE, SIZE, 3), 128, np.uint8)


def write(
    folder: Path,
    logged: NDArray[np.uint8],
    logged_file: Path,
    fresh: NDArray[np.uint8],
    of_clone: NDArray[np.uint8],
) -> list[Probe]:
    """All probes as files in `folder`, in the order of the table."""
    rng = np.random.default_rng(58)
    piece = crop(logged, rng)
    clone = save(of_clone, folder / "of-clone.png")
    jpeg = {"quality": 85}
    webp = {"lossless": True, "exact": True}
    v = Verdict
    return [
        Probe("logged face, PNG", logged_file, (v.LOGGED,)),
        Probe("the same as lossless WebP", save(logged, folder / "logged.webp", **webp), (v.LOGGED,)),
        Probe("the same as JPEG 85", save(logged, folder / "logged.jpg", **jpeg), (v.DERIVED,)),
        Probe("its 90 % crop, PNG", save(piece, folder / "crop.png"), (v.DERIVED,)),
        Probe("its 90 % crop, JPEG 85", save(piece, folder / "crop.jpg", **jpeg), (v.DERIVED,)),
        Probe("fresh face, never logged", save(fresh, folder / "fresh.png"), (v.ATTRIBUTED,)),
        Probe(
            "the same as JPEG 85, never logged",
            save(fresh, folder / "fresh.jpg", **jpeg),
            (v.ATTRIBUTED,),
        ),
        Probe("face of an unregistered clone", clone, (v.DENIABLE,), scope="strict"),
        Probe("the same, relaxed", clone, (v.INCONCLUSIVE,)),
        Probe("the same, clone registered", clone, (v.ATTRIBUTED,), clone_registered=True),
        Probe("no face: a sunset", save(gradient(), folder / "gradient.png"), (v.DENIABLE,)),
        Probe("no face: a digit", save(digit(), folder / "digit.png"), (v.DENIABLE,)),
        Probe("flat grey", save(flat(), folder / "flat.png"), (v.INCONCLUSIVE,)),
        Probe("logged face, log edited since", logged_file, (v.REFUTED,), ledger="edited"),
    ]
