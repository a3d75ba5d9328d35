"""The ten classes do what they say, within their ranges, and say what they did."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plausible.attribution.calibration.classes import (
    NATIVE_FILTER,
    RELAXED,
    STRICT,
    apply,
    describe,
    jpeg,
    resize,
    to_native,
)
from plausible.schemas.errors import UsageError

RAMP = np.stack([np.add.outer(np.arange(64), np.arange(64)) * 2] * 3, axis=2).astype(np.uint8)
RAMP[:, :, 1] //= 2


def test_ten_classes_and_the_strict_one() -> None:
    assert len(RELAXED) == 10
    assert set(STRICT) <= set(RELAXED)
    assert "crop+jpeg" in RELAXED
    with pytest.raises(UsageError, match="unknown"):
        apply("rotated", RAMP, np.random.default_rng(0))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(RELAXED), st.integers(0, 2**32 - 1))
def test_parameters_describe_what_was_done(name: str, seed: int) -> None:
    first, parameters = apply(name, RAMP, np.random.default_rng(seed))
    again, same = apply(name, RAMP, np.random.default_rng(seed))
    assert np.array_equal(first, again)
    assert parameters == same
    assert first.dtype == np.uint8
    expected = RAMP
    if name.startswith("mirror"):
        expected = RAMP[:, ::-1]
    if "crop" in parameters:
        x, y, w, h = parameters["crop"]
        assert min(w, h) >= 58
        assert x + w <= 64
        assert y + h <= 64
        expected = RAMP[y : y + h, x : x + w]
    if "size" in parameters:
        w, h = parameters["size"]
        assert 32 <= w <= 128
        expected = resize(expected, h, w, parameters["filter"])
    if "back" in parameters:
        expected = resize(np.ascontiguousarray(expected), 64, 64, parameters["back"])
    if "quality" in parameters:
        assert 50 <= parameters["quality"] <= 95
        assert "Pillow" in parameters["codec"]
        expected = jpeg(np.ascontiguousarray(expected), parameters["quality"])
    assert np.array_equal(first, expected)
    assert describe(parameters)
    if name.startswith("resampled"):
        assert first.shape == RAMP.shape
    if name.startswith("resized"):
        assert first.shape != RAMP.shape


def test_to_native_uses_the_named_filter() -> None:
    small = resize(RAMP, 40, 50, "lanczos")
    assert np.array_equal(to_native(small, 64, 64), resize(small, 64, 64, NATIVE_FILTER))
    assert to_native(RAMP, 64, 64) is RAMP
    grey = RAMP[:, :, :1]
    assert to_native(grey, 32, 32).shape == (32, 32, 1)
