"""Reading a picture that somebody else made: strict about kinds, silent about nothing, one error for all that is wrong.

Pillow decodes; this module decides what may be decoded. A file whose samples Pillow would clip, scale or make opaque
without a word is refused by name, because its digest would say "not logged" where the truth is "not read".
Formats are a closed list. EXIF orientation and ICC profiles are not applied. Source: docs/spec/digests.md.
"""

from __future__ import annotations

import io
import os
import re
import stat
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import PIL.Image as Pillow
from numpy.typing import NDArray
from PIL import ImageFile

from ...schemas.errors import EvidenceError
from .digests import canonical_pixels, file_digest, pixel_digest

# Pillow learned AVIF late; asking an older one for it would be an error for every other format.
_AVIF = ("AVIF",) if find_spec("PIL.AvifImagePlugin") else ()
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "JPEG2000", "QOI", *_AVIF)
MAX_FILE_BYTES = 128 * 1024 * 1024
MAX_PIXELS = 64 * 1024 * 1024

_RGBA_MODES = ("LA", "RGBA")
_RGB_MODES = ("1", "L", "P", "RGB")

# Pillow's warning filters and its truncation switch are process-wide, so decoding is one at a time.
_DECODING = threading.RLock()


class ImageRefused(EvidenceError):  # noqa: N818  (named by what happened, as users will read it)
    """A picture that cannot be read exactly; `.kind` names why in a word or two."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Image:
    """A picture as read: `pixels` uint8[H, W, 3 or 4], its two digests (32 bytes each), and where it came from.

    `mode` is RGB or RGBA, `source_mode` Pillow's name for the file's own; `notes` are sentences for the reader.
    """

    pixels: NDArray[np.uint8] = field(repr=False)
    pixel_digest: bytes
    file_digest: bytes
    format: str
    mode: str
    source_mode: str
    notes: tuple[str, ...] = ()

    @property
    def width(self) -> int:
        return self.pixels.shape[1]

    @property
    def height(self) -> int:
        return self.pixels.shape[0]


def read_image(
    source: str | os.PathLike[str] | bytes, *, max_file_bytes: int = MAX_FILE_BYTES, max_pixels: int = MAX_PIXELS
) -> Image:
    """The picture in a file or in bytes; `ImageRefused` for everything that is not read exactly."""
    data = source if isinstance(source, bytes) else _read_file(Path(source), max_file_bytes)
    if len(data) > max_file_bytes:
        raise ImageRefused("file size", f"the file has {len(data)} bytes, more than the {max_file_bytes} allowed")
    with _DECODING, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        switch = ImageFile.LOAD_TRUNCATED_IMAGES
        ImageFile.LOAD_TRUNCATED_IMAGES = False
        try:
            return _decode(data, max_pixels)
        finally:
            ImageFile.LOAD_TRUNCATED_IMAGES = switch


def _read_file(path: Path, limit: int) -> bytes:
    try:
        # A named pipe would block for ever at open, so the kind is asked first.
        if not stat.S_ISREG(path.stat().st_mode):
            raise ImageRefused("not a file", f"{path} is not a regular file")
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ImageRefused("unreadable", f"{path} cannot be read: {reason}") from error
    if len(data) > limit:
        raise ImageRefused("file size", f"{path} has more than the {limit} bytes allowed")
    return data


def _decode(data: bytes, max_pixels: int) -> Image:
    _refuse_by_header(data)
    try:
        with Pillow.open(io.BytesIO(data), formats=FORMATS) as image:
            notes = _refuse_by_kind(image, data, max_pixels)
            mode, file_format = image.mode, str(image.format)
            pixels = _samples(image)
    except ImageRefused:
        raise
    except Pillow.UnidentifiedImageError as error:
        raise ImageRefused("not an image", f"not a picture of a format read here ({', '.join(FORMATS)})") from error
    except Pillow.DecompressionBombError as error:
        raise ImageRefused("pixels", f"decompression bomb: {error}") from error
    except MemoryError as error:
        raise ImageRefused("pixels", "the picture does not fit into memory") from error
    except Exception as error:  # a decoder fed foreign bytes may raise anything; all of it means the same
        raise ImageRefused("damaged", f"the picture is damaged or truncated: {_brief(error)}") from error
    pixels = canonical_pixels(pixels)
    return Image(
        pixels=pixels,
        pixel_digest=pixel_digest(pixels),
        file_digest=file_digest(data),
        format=file_format,
        mode="RGB" if pixels.shape[2] == 3 else "RGBA",
        source_mode=mode,
        notes=notes,
    )


def _brief(error: Exception) -> str:
    return " ".join((str(error) or type(error).__name__).split())[:160]


def _samples(image: Pillow.Image) -> NDArray[np.uint8]:
    transparent = image.mode in _RGBA_MODES or bool(getattr(image, "has_transparency_data", False))
    image.load()
    return np.asarray(image.convert("RGBA" if transparent else "RGB"), dtype=np.uint8)


def _refuse_by_kind(image: Pillow.Image, data: bytes, max_pixels: int) -> tuple[str, ...]:
    """Refuse by size, depth, mode and frames, all before decoding; the notes otherwise."""
    notes: tuple[str, ...] = ()
    width, height = image.size
    if width * height > max_pixels:
        raise ImageRefused("pixels", f"{width} x {height} pixels are more than the {max_pixels} allowed")
    bits = max(_sample_bits(image, data), default=8)
    if bits > 8:
        raise ImageRefused(f"{bits}-bit samples", f"{image.format} with {bits} bits a sample: only up to 8 are exact")
    if image.mode.startswith("I;16"):
        raise ImageRefused("16-bit samples", f"{image.format} with 16 bits a sample: only up to 8 are exact")
    if image.format == "TIFF" and getattr(image, "tag_v2", {}).get(274, 1) != 1:
        # Pillow turns such a picture on its own, some versions differently: one file would have several digests.
        raise ImageRefused("TIFF orientation", "TIFF that asks to be turned: save it upright")
    if image.mode not in _RGB_MODES + _RGBA_MODES:
        raise ImageRefused(f"mode {image.mode}", f"colour mode {image.mode} is not read: RGB, grey or palette only")
    if image.format == "MPO":
        notes = ("MPO with several pictures: the first was read",)
    elif (frames := int(getattr(image, "n_frames", 1))) > 1:
        raise ImageRefused("several frames", f"{image.format} with {frames} frames: one picture at a time")
    return notes


def _refuse_by_header(data: bytes) -> None:
    """What must be known before Pillow sees the file: PNG's depth and tRNS, JPEG's precision."""
    if data.startswith(b"\x89PNG\r\n\x1a\n") and len(data) >= 33 and data[12:16] == b"IHDR":
        bits, colour = data[24], data[25]
        if bits > 8:
            raise ImageRefused(f"{bits}-bit samples", f"PNG with {bits} bits a sample: only up to 8 are exact")
        if colour == 0 and bits < 8 and _png_has_transparency(data):
            message = f"PNG of {bits}-bit grey with transparency would be read as opaque"
            raise ImageRefused(f"{bits}-bit grey with tRNS", message)
    elif data.startswith(b"\xff\xd8\xff") and (bits := _jpeg_precision(data)) not in (None, 8):
        raise ImageRefused(f"{bits}-bit samples", f"JPEG with {bits} bits a sample: only 8 are exact")


def _png_has_transparency(data: bytes) -> bool:
    position = 8
    while position + 8 <= len(data):
        length, kind = int.from_bytes(data[position : position + 4], "big"), data[position + 4 : position + 8]
        if kind == b"tRNS":
            return True
        position += 12 + length
    return False


def _jpeg_precision(data: bytes) -> int | None:
    """Bits a sample of the first frame header, or None where there is none before the scan."""
    position = 2
    while position + 5 <= len(data):
        if data[position] != 0xFF:
            return None
        marker = data[position + 1]
        if marker == 0xFF:
            position += 1
        elif 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return data[position + 4]
        elif marker == 0x01 or 0xD0 <= marker <= 0xD8:
            position += 2
        elif marker in (0xD9, 0xDA):
            return None
        else:
            position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return None


def _tiff_bits(image: Pillow.Image, _: bytes) -> list[int]:
    tags = getattr(image, "tag_v2", {})
    value = tags.get(258, (1,))
    return [int(bits) for bits in (value if isinstance(value, tuple) else (value,))]  # pyright: ignore


def _ppm_bits(_: Pillow.Image, data: bytes) -> list[int]:
    """Maxval in bits; a maxval below 255 is scaled by Pillow, which loses nothing."""
    if data[:2] not in (b"P2", b"P3", b"P5", b"P6"):
        return []
    header = re.sub(rb"#[^\r\n]*", b" ", data[2:4096]).split()
    return [int(header[2]).bit_length()] if len(header) > 2 and header[2].isdigit() else []


def _jpeg2000_bits(_: Pillow.Image, data: bytes) -> list[int]:
    """Ssiz of each component in the codestream's SIZ segment."""
    start = data.find(b"\xff\x4f\xff\x51")
    if start < 0 or start + 42 > len(data):
        return []
    count = int.from_bytes(data[start + 40 : start + 42], "big")
    return [(byte & 0x7F) + 1 for byte in data[start + 42 : start + 42 + 3 * count : 3]]


def _avif_bits(_: Pillow.Image, data: bytes) -> list[int]:
    """Bit depth of each AV1 configuration box (av1C: marker and version, profile, then the depth flags)."""
    flags = [data[match.start() + 6] for match in re.finditer(rb"av1C\x81", data) if match.start() + 6 < len(data)]
    return [(12 if flag & 0x20 else 10) if flag & 0x40 else 8 for flag in flags]


_DEPTH_READERS: dict[str, Callable[[Pillow.Image, bytes], list[int]]] = {
    "TIFF": _tiff_bits,
    "PPM": _ppm_bits,
    "JPEG2000": _jpeg2000_bits,
    "AVIF": _avif_bits,
}


def _sample_bits(image: Pillow.Image, data: bytes) -> list[int]:
    """Bits of each kind of sample as the header says, for formats that can have more than 8."""
    reader = _DEPTH_READERS.get(str(image.format))
    return reader(image, data) if reader else []
