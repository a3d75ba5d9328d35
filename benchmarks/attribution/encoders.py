"""JPEG files of two encoders that share no code: what a sweep over qualities is made with.

    libjpeg-turbo   in Pillow (and in OpenCV, which 000 and 004 used): integer DCT, colours and chroma rounded to eight
                    bits, T.81's tables scaled, grey files for grey pictures
    jpegli          of the JPEG XL project (PyPI `pyjpegli`, BSD): floating-point DCT and colours, tables of its own,
                    adaptive quantisation that writes 0 where rounding would not; always Y, Cb, Cr, chroma 4:2:0

mozjpeg would differ by tables and trellis alone; OpenCV, TurboJPEG and ImageMagick hold libjpeg-turbo themselves.
"""

from __future__ import annotations

import importlib
import io
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from plausible.schemas.errors import SetupError

Pixels = NDArray[np.uint8]
Encoder = Callable[[Pixels, int], bytes]
"""(uint8 [H, W, 1 or 3], quality) -> a file."""


def libjpeg_turbo(pixels: Pixels, quality: int, subsampling: int = 2) -> bytes:
    """Pillow's file: grey as grey, RGB with 4:2:0 chroma unless asked otherwise (0: 4:4:4)."""
    buffer = io.BytesIO()
    if pixels.shape[2] == 1:
        Image.fromarray(pixels[:, :, 0]).save(buffer, "JPEG", quality=quality)
    else:
        Image.fromarray(pixels).save(buffer, "JPEG", quality=quality, subsampling=subsampling)
    return buffer.getvalue()


def jpegli(pixels: Pixels, quality: int) -> bytes:
    """jpegli's file, always of three components; `SetupError` without the package."""
    try:
        encoder: Any = importlib.import_module("pyjpegli")
    except ImportError as error:
        raise SetupError("the second JPEG encoder is not installed: pip install pyjpegli") from error
    height, width = pixels.shape[:2]
    colours = np.ascontiguousarray(np.repeat(pixels, 3, 2) if pixels.shape[2] == 1 else pixels)
    return encoder.encode(colours.tobytes(), width, height, quality=quality)


ENCODERS: dict[str, Encoder] = {"libjpeg-turbo": libjpeg_turbo, "jpegli": jpegli}


def decoded(data: bytes, channels: int) -> Pixels:
    """uint8 [H, W, channels] as Pillow decodes it."""
    with Image.open(io.BytesIO(data)) as picture:
        array = np.asarray(picture.convert("L" if channels == 1 else "RGB"), dtype=np.uint8)
    return np.ascontiguousarray(array[:, :, None] if array.ndim == 2 else array)
