"""004's manipulations (Table I) and JPEG (section V-B1), with the operations that albumentations documents for them.

004 used albumentations, which rests on OpenCV; neither is needed here: each operation follows its description.

    blur     GaussianBlur, kernel 3, 5 or 7, sigma by OpenCV's rule 0.3 ((k - 1) / 2 - 1) + 0.8, edges reflected (101)
    noise    GaussNoise, N(0, 0.01) on the scale [0, 1]: 0.01 is taken as the variance, 25.5 levels of deviation
    mirror   HorizontalFlip
    crop     each side cut to 90 to 100 %, at a random place, resized back bilinearly without antialiasing
    rotate   by -5 to 5 degrees about the centre, bilinear with OpenCV's places in steps of 1/32 pixel, edges reflected
    zoom     the central 90 % of each side, resized back as above

Departures: OpenCV resizes 8-bit pictures in 11-bit fixed point, here floats are rounded once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from plausible.attribution.calibration.classes import jpeg
from scipy.ndimage import correlate1d, map_coordinates

Pixels = NDArray[np.uint8]
Parameters = dict[str, Any]
Manipulation = Callable[[Pixels, np.random.Generator], tuple[Pixels, Parameters]]

KERNELS = (3, 5, 7)
NOISE_VARIANCE = 0.01
SMALLEST_CROP = 0.9
ZOOM = 0.9
LARGEST_TURN = 5.0
FIXED_POINT = 32


def _rounded(picture: NDArray[np.float64]) -> Pixels:
    return np.rint(np.clip(picture, 0, 255)).astype(np.uint8)


def kernel(size: int) -> NDArray[np.float64]:
    """OpenCV's Gaussian of `size` taps whose sigma is left to it."""
    sigma = 0.3 * ((size - 1) * 0.5 - 1) + 0.8
    taps = np.exp(-0.5 * ((np.arange(size) - size // 2) / sigma) ** 2)
    return taps / taps.sum()


def blur(pixels: Pixels, rng: np.random.Generator) -> tuple[Pixels, Parameters]:
    """GaussianBlur(blur_limit=(3, 7))."""
    size = int(rng.choice(KERNELS))
    taps = kernel(size)
    picture = correlate1d(pixels.astype(np.float64), taps, axis=0, mode="mirror")
    return _rounded(correlate1d(picture, taps, axis=1, mode="mirror")), {"kernel": size}


def noise(pixels: Pixels, rng: np.random.Generator) -> tuple[Pixels, Parameters]:
    """GaussNoise: independent in every sample, clipped."""
    deviation = 255 * float(np.sqrt(NOISE_VARIANCE))
    return _rounded(pixels + rng.normal(0, deviation, pixels.shape)), {"levels": deviation}


def mirror(pixels: Pixels, _: np.random.Generator) -> tuple[Pixels, Parameters]:
    """HorizontalFlip."""
    return np.ascontiguousarray(pixels[:, ::-1]), {}


def window(pixels: Pixels, box: tuple[int, int, int, int]) -> Pixels:
    """(x, y, w, h) of the picture resized to its size, bilinear, half-pixel centres, edges repeated (cv2.resize)."""
    height, width = pixels.shape[:2]
    x, y, w, h = box
    part = pixels[y : y + h, x : x + w].astype(np.float64)
    rows = np.clip((np.arange(height) + 0.5) * h / height - 0.5, 0, h - 1)
    columns = np.clip((np.arange(width) + 0.5) * w / width - 0.5, 0, w - 1)
    at = np.meshgrid(rows, columns, indexing="ij")
    return _rounded(np.stack([map_coordinates(part[..., c], at, order=1) for c in range(part.shape[2])], axis=-1))


def crop(pixels: Pixels, rng: np.random.Generator) -> tuple[Pixels, Parameters]:
    """RandomSizedCrop between 90 and 100 % of each side, each drawn for itself."""
    height, width = pixels.shape[:2]
    h, w = (max(1, round(side * float(rng.uniform(SMALLEST_CROP, 1.0)))) for side in (height, width))
    box = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1)), w, h
    return window(pixels, box), {"window": list(box)}


def zoom(pixels: Pixels, _: np.random.Generator) -> tuple[Pixels, Parameters]:
    """CenterCrop of 90 % and Resize."""
    height, width = pixels.shape[:2]
    h, w = round(height * ZOOM), round(width * ZOOM)
    box = (width - w) // 2, (height - h) // 2, w, h
    return window(pixels, box), {"window": list(box)}


def turn(pixels: Pixels, degrees: float) -> Pixels:
    """Rotate by `degrees` counter-clockwise about the middle of the pixels, cv2.warpAffine, BORDER_REFLECT_101."""
    height, width = pixels.shape[:2]
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    x, y = x - (width - 1) / 2, y - (height - 1) / 2
    at = np.stack([s * x + c * y + (height - 1) / 2, c * x - s * y + (width - 1) / 2])
    at = np.rint(at * FIXED_POINT) / FIXED_POINT
    picture = pixels.astype(np.float64)
    channels = [map_coordinates(picture[..., i], at, order=1, mode="mirror") for i in range(picture.shape[2])]
    return _rounded(np.stack(channels, axis=-1))


def rotate(pixels: Pixels, rng: np.random.Generator) -> tuple[Pixels, Parameters]:
    """Rotate(limit=5, border_mode=BORDER_REFLECT_101)."""
    degrees = float(rng.uniform(-LARGEST_TURN, LARGEST_TURN))
    return turn(pixels, degrees), {"degrees": degrees}


def compressed(quality: int) -> Manipulation:
    """JPEG of one quality, 4:2:0, decoded again."""

    def apply(pixels: Pixels, _: np.random.Generator) -> tuple[Pixels, Parameters]:
        return jpeg(pixels, quality), {"quality": quality}

    return apply


TABLE_I: Mapping[str, Manipulation] = {
    "blur": blur, "noise": noise, "mirror": mirror, "crop": crop, "rotate": rotate, "zoom": zoom,
}  # fmt: skip
JPEG: Mapping[str, Manipulation] = {f"jpeg{q}": compressed(q) for q in (50, 70, 90, 100)}
ALL: Mapping[str, Manipulation] = {**TABLE_I, **JPEG}


def manipulated(name: str, pixels: Pixels, seed: int) -> tuple[Pixels, Parameters]:
    """The picture of one probe after manipulation `name`; the same for the same seed."""
    return ALL[name](pixels, np.random.default_rng([seed, sorted(ALL).index(name)]))
