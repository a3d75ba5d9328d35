"""Changed copies are found again among many pictures, and a stranger's picture is not explained by any."""

from __future__ import annotations

import math

import numpy as np
import pytest
from plausible.attribution.copies.search import CopyIndex, measure_copies, search_copies, variance
from plausible.attribution.copies.similarity import mse, psnr, ssim
from plausible.attribution.copies.transformation import FILTERS, Transformation, as_jpeg, jpeg_settings, resize
from plausible.schemas.errors import UsageError

from tests.attribution.pictures import Pixels, picture


@pytest.fixture(scope="module")
def logged() -> list[Pixels]:
    rng = np.random.default_rng(5)
    return [picture(rng) for _ in range(120)]


@pytest.fixture(scope="module")
def index(logged: list[Pixels]) -> CopyIndex:
    return CopyIndex((1000 + i, p) for i, p in enumerate(logged))


def whole(**changes: object) -> Transformation:
    return Transformation(**({"source": (64, 64), "crop": (0, 0, 64, 64)} | changes))  # type: ignore[arg-type]


CHANGES = [
    ("mirror", whole(mirror=True), "whole"),
    ("crop", whole(crop=(4, 1, 58, 58)), "crop"),
    ("oblong crop", whole(crop=(0, 5, 61, 58)), "crop"),
    ("small crop", whole(crop=(20, 9, 36, 40)), "crop-small"),
    ("mirrored crop", whole(crop=(6, 6, 58, 58), mirror=True), "crop"),
    ("crop resized back", whole(crop=(2, 3, 59, 59), resized=(64, 64), filter="lanczos"), "crop-resized"),
    ("crop enlarged", whole(crop=(1, 0, 60, 60), mirror=True, resized=(96, 96), filter="bicubic"), "crop-resized"),
    ("halved", whole(resized=(32, 32), filter="bilinear"), "resized"),
    ("doubled", whole(resized=(128, 128), filter="bicubic"), "resized"),
]


@pytest.mark.parametrize(("change", "family"), [row[1:] for row in CHANGES], ids=[row[0] for row in CHANGES])
def test_a_change_of_the_list_is_found_and_named(
    logged: list[Pixels], index: CopyIndex, change: Transformation, family: str
) -> None:
    found = search_copies(change.apply(logged[77]), index, None)
    assert found is not None
    assert found.key == 1077
    assert found.residual == 0
    assert found.transformation == change
    assert found.transformation.family == family
    assert (found.psnr, found.ssim) == (math.inf, 1.0)
    assert found.pictures == 120


@pytest.mark.parametrize("change", [row[1] for row in CHANGES], ids=[row[0] for row in CHANGES])
def test_recompression_hides_none_of_them(logged: list[Pixels], index: CopyIndex, change: Transformation) -> None:
    probe = as_jpeg(change.apply(logged[31]), 50)
    found = search_copies(probe, index, None)
    assert found is not None
    assert found.key == 1031
    assert found.transformation.mirror == change.mirror
    assert found.transformation.recompressed == "unidentified"
    assert found.residual < 0.1 * variance(probe)


def test_a_strangers_picture_leaves_most_of_itself_unexplained(index: CopyIndex) -> None:
    rng = np.random.default_rng(6)
    for _ in range(5):
        stranger = picture(rng)
        for probe in (stranger, stranger[3:61, 3:61], resize(stranger[:58, :58], (64, 64), "bicubic")):
            for found in measure_copies(probe, index).values():
                assert found.residual > 0.3 * variance(probe)


def test_the_files_own_jpeg_settings_give_every_sample(logged: list[Pixels], index: CopyIndex) -> None:
    import io

    from PIL import Image

    out = io.BytesIO()
    Image.fromarray(logged[9]).save(out, "JPEG", quality=73, subsampling=1)
    settings = jpeg_settings(out.getvalue())
    assert settings is not None
    assert settings.subsampling == 1
    probe = np.asarray(Image.open(io.BytesIO(out.getvalue())).convert("RGB"))
    found = search_copies(probe, index, None, jpeg=settings)
    assert found is not None
    assert (found.key, found.reencoded_mismatches, found.within) == (1009, 0, True)
    assert found.stage == "perceptual hash"
    assert str(found.transformation) == "recompressed (JPEG)"
    assert jpeg_settings(b"\xff\xd8\xff not a jpeg") is None


def test_limits_decide_what_counts(logged: list[Pixels], index: CopyIndex) -> None:
    probe = as_jpeg(logged[3], 85)
    near = search_copies(probe, index, None)
    assert near is not None
    half = near.residual / 2

    class Fixed:
        def limit(self, family: str, variance: float) -> float | None:
            assert 0 < variance < 0.25
            return half if family == "whole" else None

    assert near.limit is None
    assert not near.within
    beyond = search_copies(probe, index, Fixed())
    assert beyond is not None
    assert beyond.limit is not None
    assert not beyond.within


def test_larger_pictures_are_refined_at_full_resolution() -> None:
    rng = np.random.default_rng(8)
    big = [picture(rng, 200, 260) for _ in range(4)]
    change = Transformation(source=(260, 200), crop=(13, 7, 240, 185), mirror=True)
    found = search_copies(change.apply(big[2]), list(enumerate(big)), None)
    assert found is not None
    assert (found.key, found.transformation, found.residual) == (2, change, 0)


def test_no_candidates_no_copy() -> None:
    assert search_copies(np.zeros((8, 8, 3), np.uint8), [], None) is None


def test_pictures_of_several_sizes_and_alpha(logged: list[Pixels]) -> None:
    rng = np.random.default_rng(9)
    small = picture(rng, 28, 28)
    rgba = np.dstack([small, np.full((28, 28), 7, np.uint8)])
    found = search_copies(rgba, [(0, logged[0]), (1, small), (2, logged[1])], None)
    assert found is not None
    assert (found.key, found.residual) == (1, 0)


def test_a_transformation_refuses_what_it_does_not_fit(logged: list[Pixels]) -> None:
    with pytest.raises(UsageError):
        whole(source=(32, 32), crop=(0, 0, 32, 32)).apply(logged[0])
    with pytest.raises(UsageError):
        whole(crop=(10, 0, 58, 58)).apply(logged[0])
    assert set(FILTERS) == {"bilinear", "bicubic", "lanczos"}


def test_similarity_known_values() -> None:
    a = np.zeros((16, 16, 3), np.uint8)
    b = np.full((16, 16, 3), 255, np.uint8)
    assert mse(a, b) == 1
    assert psnr(a, b) == 0
    assert psnr(a, a) == math.inf
    assert ssim(a, a) == 1
    # constants: variances vanish and the luminance term alone remains, C1 / (1 + C1) on a [0, 1] scale
    assert ssim(a, b) == pytest.approx(0.01**2 / (1 + 0.01**2), rel=1e-6)
    one = a.copy()
    one[0, 0, 0] = 1
    assert mse(a, one) == pytest.approx(1 / (255**2 * 16 * 16 * 3))
    with pytest.raises(UsageError):
        mse(a, a[:8])
