"""Reading JPEG files by coefficients: what encoders wrote is what is read, and bad files meet one error."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from plausible.attribution.distances.jpeg.file import JpegFile, jpeg_size, read_jpeg
from plausible.attribution.distances.jpeg.forward import Forward
from plausible.attribution.distances.jpeg.residual import Residual, libjpeg_quality
from plausible.schemas.errors import EvidenceError, UsageError


def picture(height: int = 21, width: int = 35, seed: int = 1) -> np.ndarray:
    """A smooth random picture, uint8 [H, W, 3], without saturated samples."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(30, 226, (5, 6, 3), dtype=np.uint8))
    return np.asarray(small.resize((width, height), Image.Resampling.BICUBIC)).clip(10, 245).astype(np.uint8)


def encoded(pixels: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def flat(pixels: np.ndarray) -> torch.Tensor:
    x = torch.from_numpy(np.array(pixels)).float() / 255
    return (x[None] if x.ndim == 2 else x.permute(2, 0, 1)).reshape(1, -1)


@pytest.mark.parametrize("options", [{"subsampling": 0}, {"subsampling": 1}, {"subsampling": 2},
                                     {"subsampling": 2, "restart_marker_blocks": 2}, {"optimize": True}])  # fmt: skip
def test_coefficients_are_those_of_the_picture(options: dict[str, object]) -> None:
    pixels = picture()
    file = read_jpeg(encoded(pixels, quality=85, **options))
    assert (file.height, file.width, file.ycc, libjpeg_quality(file)) == (21, 35, True, 85)
    assert file.subsampling == {0: "4:4:4", 1: "4:2:2"}.get(options.get("subsampling"), "4:2:0")  # type: ignore[call-overload]
    forward = Forward(file, 3)
    dead, error = Residual(forward).parts(forward.coefficients(flat(pixels)))
    assert int((dead != 0).sum()) <= 2, "an encoder rounds: nothing but integer arithmetic may leave the interval"
    # half a unit of Q at most from what was written, on average a uniform error's 1/12
    assert float(error.square().mean()) < 0.1
    equal = forward.encode(torch.from_numpy(pixels.copy())[None]) == forward.target
    assert float(equal.float().mean()) > 0.97


def test_grey_and_pictures_of_other_channels() -> None:
    grey = picture()[..., 0]
    file = read_jpeg(encoded(grey, quality=60))
    assert file.grey and file.subsampling == "grey" and file.components[0].coefficients.shape == (3, 5, 8, 8)
    forward = Forward(file, 1)
    assert float(Residual(forward).parts(forward.coefficients(flat(grey)))[0].abs().max()) == 0.0
    three = Forward(file, 3)
    again = three.coefficients(flat(np.repeat(grey[..., None], 3, 2)))
    assert torch.allclose(again, forward.coefficients(flat(grey)), atol=1e-3)
    colour = Forward(read_jpeg(encoded(np.repeat(grey[..., None], 3, 2), quality=60)), 1)
    assert int((Residual(colour).parts(colour.coefficients(flat(grey)))[0] != 0).sum()) == 0
    with pytest.raises(UsageError, match="channels"):
        Forward(file, 4)


def test_red_green_blue_components() -> None:
    pixels = picture()
    file = read_jpeg(encoded(pixels, quality=90, keep_rgb=True))
    assert not file.ycc and file.subsampling == "4:4:4"
    forward = Forward(file, 3)
    assert int((Residual(forward).parts(forward.coefficients(flat(pixels)))[0] != 0).sum()) <= 2


def test_decoding_agrees_with_another_decoder() -> None:
    data = encoded(picture(), quality=95, subsampling=0)
    mine = Forward(read_jpeg(data), 3).picture()
    with Image.open(io.BytesIO(data)) as theirs:
        assert float((mine - flat(np.asarray(theirs))).abs().max()) < 3 / 255


def test_forward_is_affine_and_differentiable() -> None:
    forward = Forward(read_jpeg(encoded(picture(), quality=75)), 3)
    x, dx = (torch.rand(2, 3 * 21 * 35, generator=torch.Generator().manual_seed(i)) for i in (1, 2))
    difference = forward.coefficients(x + dx) - forward.coefficients(x)
    assert torch.allclose(difference, forward.linear(dx), atol=1e-3)
    x.requires_grad_(True)
    (gradient,) = torch.autograd.grad(Residual(forward).losses(forward.coefficients(x)).sum(), x)
    assert bool(torch.isfinite(gradient).all()) and float(gradient.abs().max()) > 0


def test_tables_of_others_give_zeros_a_wider_interval() -> None:
    table = [max(1, 3 * i // 2) for i in range(1, 65)]
    file = read_jpeg(encoded(picture(), qtables=[table, table]))
    assert libjpeg_quality(file) is None
    residual = Residual(Forward(file, 3))
    zero = residual.forward.target == 0
    assert float(residual.reach[zero].min()) > 1.5 and float(residual.reach[~zero].min()) < 1.5


def test_what_is_no_baseline_file_is_named() -> None:
    pixels = picture()
    with pytest.raises(EvidenceError, match="progressive"):
        read_jpeg(encoded(pixels, progressive=True))
    with pytest.raises(EvidenceError, match="4 components"):
        buffer = io.BytesIO()
        Image.fromarray(pixels).convert("CMYK").save(buffer, "JPEG")
        read_jpeg(buffer.getvalue())
    with pytest.raises(EvidenceError, match="SOI"):
        read_jpeg(b"\x89PNG\r\n\x1a\n")
    data = encoded(pixels, quality=75)
    assert jpeg_size(data) == (21, 35)
    for end in range(0, len(data) - 1, 7):
        with pytest.raises(EvidenceError):
            read_jpeg(data[:end])
    start = data.index(b"\xff\xda")
    with pytest.raises(EvidenceError, match=r"goes on|restart"):
        read_jpeg(data[:-2] + b"\x12\x34\x56" + data[-2:])
    frame = data.index(b"\xff\xc0")
    large = data[: frame + 5] + b"\xff\xff\xff\xff" + data[frame + 9 :]
    with pytest.raises(EvidenceError, match="samples"):
        read_jpeg(large)
    twice = data[:start] + data[frame : frame + 19] + data[start:]
    with pytest.raises(EvidenceError, match="two frames"):
        read_jpeg(twice)


_FILES = [encoded(picture(), quality=q, subsampling=s) for q, s in ((90, 2), (30, 0))]
_FILES.append(encoded(picture()[..., 0], quality=50, restart_marker_blocks=3))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damaged_files_meet_one_error_or_are_read(data: st.DataObject) -> None:
    file = bytearray(data.draw(st.sampled_from(_FILES)))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(2, len(file) - 1))
        kind = data.draw(st.sampled_from(["flip", "cut", "insert", "set"]))
        if kind == "flip":
            file[place] ^= 1 << data.draw(st.integers(0, 7))
        elif kind == "cut":
            del file[place : place + data.draw(st.integers(1, 9))]
        elif kind == "insert":
            file[place:place] = data.draw(st.binary(min_size=1, max_size=9))
        else:
            file[place] = data.draw(st.sampled_from([0, 0xFF, 0xC4, 0xDA, 0xD9, 0xD0]))
        if len(file) < 4:
            break
    try:
        read = read_jpeg(bytes(file))
    except EvidenceError as error:
        assert str(error)
    else:
        assert isinstance(read, JpegFile) and read.count > 0


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_meet_one_error(data: bytes) -> None:
    with pytest.raises(EvidenceError):
        read_jpeg(b"\xff\xd8\xff" + data)
