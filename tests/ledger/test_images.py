"""Reading pictures: equal pictures share a digest, every refused kind is refused by name, nothing else escapes."""

from __future__ import annotations

import hashlib
import io
import os
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image as Pillow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plausible.ledger.entries.digests import pixel_digest
from plausible.ledger.entries.images import ImageRefused, read_image
from plausible.schemas.errors import PlausibleError

RNG = np.random.default_rng(5)
RGB = RNG.integers(0, 256, (5, 7, 3), dtype=np.uint8)
RGBA = RNG.integers(0, 255, (5, 7, 4), dtype=np.uint8)


def saved(picture: Pillow.Image, file_format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, file_format, **options)
    return buffer.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(width: int, height: int, bits: int, colour: int, rows: bytes, *extra: bytes) -> bytes:
    """A PNG written by hand: the kinds that Pillow does not write."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    body = b"".join(extra) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + header + body


def refused(data: bytes, **limits: int) -> str:
    with pytest.raises(ImageRefused) as caught:
        read_image(data, **limits)
    return caught.value.kind


def test_the_digest_is_the_specified_preimage() -> None:
    preimage = b"plausible.pixels/1\n7 5 RGB\n" + RGB.tobytes()
    image = read_image(saved(Pillow.fromarray(RGB), "PNG"))
    assert image.pixel_digest == hashlib.sha256(preimage).digest()
    assert (image.width, image.height, image.mode, image.format) == (7, 5, "RGB", "PNG")
    assert image.notes == ()


def test_png_bmp_lossless_webp_and_others_of_one_picture_share_a_digest() -> None:
    picture = Pillow.fromarray(RGB)
    files = [
        saved(picture, "PNG"),
        saved(picture, "PNG", optimize=True, compress_level=9),
        saved(picture, "BMP"),
        saved(picture, "WEBP", lossless=True, exact=True),
        saved(picture, "TIFF"),
        saved(picture, "PPM"),
        saved(picture, "QOI"),
    ]
    images = [read_image(data) for data in files]
    assert len({image.pixel_digest for image in images}) == 1
    assert len({image.file_digest for image in images}) == len(files)


def test_rgba_png_and_lossless_webp_share_a_digest_and_colour_under_alpha_0_counts_as_0() -> None:
    pixels = RGBA.copy()
    pixels[1, 2, 3] = 0
    clean = pixels.copy()
    clean[1, 2] = 0
    picture = Pillow.fromarray(pixels)
    digests = {
        read_image(saved(picture, "PNG")).pixel_digest,
        read_image(saved(picture, "WEBP", lossless=True, exact=True)).pixel_digest,
        read_image(saved(Pillow.fromarray(clean), "PNG")).pixel_digest,
        pixel_digest(pixels),
    }
    assert digests == {hashlib.sha256(b"plausible.pixels/1\n7 5 RGBA\n" + clean.tobytes()).digest()}


def test_alpha_255_throughout_is_dropped() -> None:
    opaque = np.dstack([RGB, np.full((5, 7), 255, np.uint8)])
    image = read_image(saved(Pillow.fromarray(opaque), "PNG"))
    assert (image.mode, image.source_mode) == ("RGB", "RGBA")
    assert image.pixel_digest == pixel_digest(RGB)


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA"])
def test_grey_palette_and_bilevel_are_read_as_rgb(mode: str) -> None:
    grey = Pillow.fromarray(RGB).convert("L")
    picture = grey.convert(mode) if mode != "P" else Pillow.fromarray(RGB).quantize(7)
    image = read_image(saved(picture, "PNG"))
    assert image.mode == "RGB"
    assert image.source_mode == mode
    assert np.array_equal(image.pixels, np.asarray(picture.convert("RGB")))


@pytest.mark.parametrize("mode", ["L", "P", "RGB"])
def test_a_transparent_colour_makes_rgba(mode: str) -> None:
    grey = Pillow.fromarray(RGB[:, :, 0])
    picture, transparent = {
        "L": (grey, int(RGB[0, 0, 0])),
        "P": (Pillow.fromarray(RGB).quantize(7), 0),
        "RGB": (Pillow.fromarray(RGB), tuple(int(value) for value in RGB[0, 0])),
    }[mode]
    image = read_image(saved(picture, "PNG", transparency=transparent))
    assert image.mode == "RGBA"
    assert (image.pixels[:, :, 3] == 0).any()
    assert not image.pixels[image.pixels[:, :, 3] == 0].any()


def test_exif_orientation_is_not_applied() -> None:
    exif = Pillow.Exif()
    exif[274] = 6
    for file_format, options in (("PNG", {}), ("WEBP", {"lossless": True, "exact": True})):
        image = read_image(saved(Pillow.fromarray(RGB), file_format, exif=exif, **options))
        assert image.pixel_digest == pixel_digest(RGB)


def test_a_tiff_that_asks_to_be_turned_is_refused() -> None:
    exif = Pillow.Exif()
    exif[274] = 6
    assert refused(saved(Pillow.fromarray(RGB), "TIFF", exif=exif)) == "TIFF orientation"
    exif[274] = 1
    assert read_image(saved(Pillow.fromarray(RGB), "TIFF", exif=exif)).pixel_digest == pixel_digest(RGB)


def test_grey_of_few_bits_is_read_without_and_refused_with_transparency() -> None:
    for bits in (1, 2, 4):
        rows = b"\x00\x5a" * 2
        width = 8 // bits
        image = read_image(png(width, 2, bits, 0, rows))
        top = 2**bits - 1
        samples = [(0x5A >> (8 - bits * (i + 1))) & top for i in range(width)]
        assert [int(value) for value in image.pixels[0, :, 0]] == [sample * 255 // top for sample in samples]
        trns = chunk(b"tRNS", b"\x00\x01")
        assert refused(png(width, 2, bits, 0, rows, trns)) == f"{bits}-bit grey with tRNS"


def test_more_than_8_bits_a_sample_are_refused_in_every_format() -> None:
    for colour, samples in ((0, 1), (2, 3), (4, 2), (6, 4)):
        rows = (b"\x00" + b"\x12\x34" * samples * 2) * 2
        assert refused(png(2, 2, 16, colour, rows)) == "16-bit samples"
    wide = Pillow.fromarray(RNG.integers(0, 65536, (4, 4), dtype=np.uint16))
    assert refused(saved(wide, "TIFF")) == "16-bit samples"
    assert refused(b"P5 2 2 65535\n" + b"\x12\x34" * 4) == "16-bit samples"
    assert refused(b"P6 2 2 1023\n" + b"\x01\x34" * 12) == "10-bit samples"
    assert refused(b"P6 #c\n2 2 # 9\n1023\n" + b"\x01\x34" * 12) == "10-bit samples"
    assert refused(saved(wide, "JPEG2000")) == "16-bit samples"
    jpeg = bytearray(saved(Pillow.fromarray(RGB), "JPEG"))
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 4] = 12
    assert refused(bytes(jpeg)) == "12-bit samples"


def test_a_deep_avif_is_refused() -> None:
    try:
        data = bytearray(saved(Pillow.fromarray(RGB), "AVIF"))
    except (KeyError, OSError):
        pytest.skip("this Pillow writes no AVIF")
    assert read_image(bytes(data)).mode == "RGB"
    data[data.index(b"av1C") + 6] |= 0x40
    channels = data.index(b"pixi") + 8
    for position in range(channels + 1, channels + 1 + data[channels]):
        data[position] = 10
    assert refused(bytes(data)) == "10-bit samples"


def tiff(mode: str) -> bytes:
    return saved(Pillow.fromarray(RGB).convert(mode), "TIFF")


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "LAB", "I", "F"])
def test_other_colour_modes_are_refused_by_name(mode: str) -> None:
    if mode == "LAB":
        data = saved(Pillow.new("LAB", (4, 4)), "TIFF")
    elif mode == "F":
        data = b"Pf\n2 2\n-1.0\n" + struct.pack("<4f", 0, 1, 2, 3)
    else:
        data = tiff(mode)
    assert refused(data) in (f"mode {mode}", "32-bit samples")


def test_every_pillow_mode_is_either_read_or_refused_by_name() -> None:
    """Modes no file format brings (HSV, La, RGBa, RGBX, PA) would be refused too if one ever did."""
    from plausible.ledger.entries import images

    for mode in ("HSV", "La", "RGBa", "RGBX", "PA", "I;16", "I;16B", "CMYK", "F", "I", "LAB", "YCbCr"):
        picture = Pillow.new(mode, (2, 2))
        with pytest.raises(ImageRefused, match=r"mode|16 bits"):
            images._refuse_by_kind(picture, b"", 100)


def test_cmyk_jpeg_is_refused() -> None:
    assert refused(saved(Pillow.fromarray(RGB).convert("CMYK"), "JPEG")) == "mode CMYK"


@pytest.mark.parametrize("file_format", ["GIF", "PNG", "TIFF", "WEBP"])
def test_several_frames_are_refused(file_format: str) -> None:
    first, second = Pillow.fromarray(RGB), Pillow.fromarray(255 - RGB)
    assert refused(saved(first, file_format, save_all=True, append_images=[second])) == "several frames"


def test_of_an_mpo_the_first_frame_is_read_and_said() -> None:
    first, second = Pillow.fromarray(RGB), Pillow.fromarray(255 - RGB)
    image = read_image(saved(first, "MPO", save_all=True, append_images=[second]))
    assert image.format == "MPO"
    assert "first" in image.notes[0]
    assert image.pixel_digest == read_image(saved(first, "JPEG")).pixel_digest


def test_huge_pictures_and_files_are_refused_before_decoding() -> None:
    bomb = png(50_000, 50_000, 8, 2, b"\x00")
    assert refused(bomb) == "pixels"
    assert refused(png(12_000, 12_000, 8, 2, b"\x00"), max_pixels=10**9) in ("pixels", "damaged")
    data = saved(Pillow.fromarray(RGB), "PNG")
    assert refused(data, max_pixels=34) == "pixels"
    assert read_image(data, max_pixels=35).width == 7
    assert refused(data, max_file_bytes=len(data) - 1) == "file size"
    assert read_image(data, max_file_bytes=len(data)).width == 7


def test_non_images_and_missing_files_are_refused(tmp_path: Path) -> None:
    for data in (b"", b"hello", b"%PDF-1.7\n", b"\x89PNG\r\n\x1a\n", b"<svg xmlns='http://www.w3.org/2000/svg'/>"):
        assert refused(data) in ("not an image", "damaged")
    with pytest.raises(ImageRefused, match="cannot be read"):
        read_image(tmp_path / "absent.png")
    with pytest.raises(ImageRefused, match="regular file"):
        read_image(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ImageRefused, match="regular file"):
        read_image(tmp_path / "pipe")
    big = tmp_path / "big.png"
    big.write_bytes(saved(Pillow.fromarray(RGB), "PNG"))
    with pytest.raises(ImageRefused, match="allowed"):
        read_image(big, max_file_bytes=20)
    assert read_image(str(big)).pixel_digest == pixel_digest(RGB)


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "BMP", "WEBP", "TIFF", "PPM", "GIF", "QOI", "JPEG2000"])
def test_truncated_files_are_refused_even_where_the_application_lets_pillow_fill_up(
    file_format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import ImageFile

    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    picture = Pillow.fromarray(RNG.integers(0, 256, (40, 40, 3), dtype=np.uint8))
    data = saved(picture, file_format)
    for cut in (len(data) // 4, len(data) // 2, len(data) * 3 // 4):
        assert refused(data[:cut]) in ("damaged", "not an image")
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True


SEEDS = [
    saved(Pillow.fromarray(RGB), name, **options)
    for name, options in (
        ("PNG", {}),
        ("JPEG", {}),
        ("BMP", {}),
        ("WEBP", {"lossless": True}),
        ("TIFF", {}),
        ("PPM", {}),
        ("GIF", {}),
        ("QOI", {}),
        ("JPEG2000", {}),
    )
]


@given(st.sampled_from(SEEDS), st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 255)), max_size=6))
def test_damaged_files_raise_nothing_but_our_errors(data: bytes, edits: list[tuple[int, int]]) -> None:
    changed = bytearray(data)
    for position, value in edits:
        changed[position % len(changed)] = value
    try:
        image = read_image(bytes(changed), max_pixels=10**6)
    except PlausibleError:
        return
    assert image.pixels.dtype == np.uint8
