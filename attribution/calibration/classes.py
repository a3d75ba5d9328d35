"""The post-processing classes of the relaxed scope: what may have happened to a picture before it is a probe.

    unprocessed   the very pixels
    mirror        left and right exchanged
    crop          90 % and more of each side kept, random offset; left at that size, or resized back
    resampled     resized by a factor of 0.5 to 2 and back to the native size
    resized       resized by a factor of 0.5 to 2 and left so (`to_native` brings it back for the inversion)

Each alone, or followed by JPEG of a quality from 50 to 95: ten classes. A calibration measures each on own pictures;
`parameters` says exactly what was done, codec and version included, since decoders and resampling filters differ.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image, features

from ...schemas.errors import UsageError

Pixels = NDArray[np.uint8]

GEOMETRIES = ("unprocessed", "mirror", "crop", "resampled", "resized")
RELAXED = tuple(name for g in GEOMETRIES for name in (g, "jpeg" if g == "unprocessed" else f"{g}+jpeg"))
STRICT = ("unprocessed",)
FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
NATIVE_FILTER = "bicubic"
"""The filter by which a probe of another size is brought to a generator's."""
SMALLEST_SHARE = 0.9
FACTORS = (0.5, 2.0)
QUALITIES = (50, 95)


def codec() -> str:
    """The resampling and JPEG code in use: "Pillow 12.0.0, libjpeg-turbo 3.1.0"."""
    library = "libjpeg-turbo" if features.check_feature("libjpeg_turbo") else "libjpeg"
    version = features.version_feature("libjpeg_turbo") or features.version_codec("jpg") or "unknown"
    return f"Pillow {PIL.__version__}, {library} {version}"


def _picture(pixels: Pixels) -> Image.Image:
    return Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)


def _pixels(picture: Image.Image) -> Pixels:
    array = np.asarray(picture, dtype=np.uint8)
    return np.ascontiguousarray(array[:, :, None] if array.ndim == 2 else array)


def resize(pixels: Pixels, height: int, width: int, name: str) -> Pixels:
    """uint8 [height, width, C] by Pillow's antialiased filter `name`."""
    return _pixels(_picture(pixels).resize((width, height), FILTERS[name]))


def to_native(pixels: Pixels, height: int, width: int) -> Pixels:
    """A probe brought to a generator's size with `NATIVE_FILTER`; unchanged if it has that size."""
    return pixels if pixels.shape[:2] == (height, width) else resize(pixels, height, width, NATIVE_FILTER)


def jpeg_file(pixels: Pixels, quality: int) -> bytes:
    """The file that Pillow writes, with its default 4:2:0 chroma."""
    buffer = io.BytesIO()
    _picture(pixels).save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def decoded(data: bytes) -> Pixels:
    """A file's picture as Pillow decodes it."""
    with Image.open(io.BytesIO(data)) as picture:
        return _pixels(picture)


def jpeg(pixels: Pixels, quality: int) -> Pixels:
    """Encoded with Pillow's default 4:2:0 chroma and decoded again."""
    return decoded(jpeg_file(pixels, quality))


def apply(name: str, pixels: Pixels, rng: np.random.Generator) -> tuple[Pixels, dict[str, Any]]:
    """(uint8 [h, w, C], parameters) of one random member of class `name`; `UsageError` for an unknown class.

    Sizes change in `resized` and may in `crop`.
    """
    if name not in RELAXED:
        raise UsageError(f"unknown post-processing class {name!r}: one of {', '.join(RELAXED)}")
    geometry = "unprocessed" if name == "jpeg" else name.removesuffix("+jpeg")
    pixels, parameters = _geometry(geometry, pixels, rng)
    if name.endswith("jpeg"):
        data, parameters = _as_file(pixels, parameters, rng)
        pixels = decoded(data)
    if name not in ("unprocessed", "mirror"):
        parameters["codec"] = codec()
    return pixels, parameters


def apply_file(name: str, pixels: Pixels, rng: np.random.Generator) -> tuple[bytes, dict[str, Any]]:
    """(the JPEG file that `apply` decodes for this class, parameters); `UsageError` for a class without JPEG."""
    if name not in RELAXED or not name.endswith("jpeg"):
        raise UsageError(f"{name!r} is not a class of JPEG files")
    geometry = "unprocessed" if name == "jpeg" else name.removesuffix("+jpeg")
    data, parameters = _as_file(*_geometry(geometry, pixels, rng), rng)
    return data, {**parameters, "codec": codec()}


def _as_file(pixels: Pixels, parameters: dict[str, Any], rng: np.random.Generator) -> tuple[bytes, dict[str, Any]]:
    quality = int(rng.integers(QUALITIES[0], QUALITIES[1] + 1))
    return jpeg_file(pixels, quality), {**parameters, "quality": quality}


def _geometry(geometry: str, pixels: Pixels, rng: np.random.Generator) -> tuple[Pixels, dict[str, Any]]:
    height, width = pixels.shape[:2]
    if geometry == "unprocessed":
        return pixels.copy(), {}
    if geometry == "mirror":
        return np.ascontiguousarray(pixels[:, ::-1]), {}
    filter_name = sorted(FILTERS)[int(rng.integers(len(FILTERS)))]
    if geometry == "crop":
        h, w = (_whole_share(side, float(rng.uniform(SMALLEST_SHARE, 1.0))) for side in (height, width))
        y, x = int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1))
        part = np.ascontiguousarray(pixels[y : y + h, x : x + w])
        if int(rng.integers(2)):
            return part, {"crop": [x, y, w, h]}
        return resize(part, height, width, filter_name), {"crop": [x, y, w, h], "back": filter_name}
    factor = float(np.exp(rng.uniform(np.log(FACTORS[0]), np.log(FACTORS[1]))))
    h, w = max(1, round(height * factor)), max(1, round(width * factor))
    if (h, w) == (height, width):
        h, w = height + 1, width + 1
    parameters: dict[str, Any] = {"size": [w, h], "filter": filter_name}
    changed = resize(pixels, h, w, filter_name)
    if geometry == "resampled":
        back = sorted(FILTERS)[int(rng.integers(len(FILTERS)))]
        return resize(changed, height, width, back), {**parameters, "back": back}
    return changed, parameters


def _whole_share(side: int, share: float) -> int:
    """A kept length below `side`, never under nine tenths of it (rounded up)."""
    return int(min(max(round(side * share), -(-side * 9 // 10)), side - 1)) if side > 1 else side


def describe(parameters: Mapping[str, Any]) -> str:
    """One line of text for tables."""
    parts: list[str] = []
    if "crop" in parameters:
        x, y, w, h = cast("list[int]", parameters["crop"])
        parts.append(f"crop {w}x{h}+{x}+{y}")
    if "size" in parameters:
        w, h = cast("list[int]", parameters["size"])
        parts.append(f"to {w}x{h} {parameters['filter']}")
    if "back" in parameters:
        parts.append(f"back {parameters['back']}")
    if "quality" in parameters:
        parts.append(f"JPEG {parameters['quality']}")
    return ", ".join(parts) or "-"
