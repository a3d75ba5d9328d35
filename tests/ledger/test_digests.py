"""Digests: the specification's vectors, and that no two different things share a preimage."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
from plausible.ledger.entries.digests import (
    array_digest,
    canonical_pixels,
    file_digest,
    model_digest,
    model_manifest,
    pixel_digest,
    tensor_digest,
)
from plausible.schemas import jcs
from plausible.schemas.errors import UsageError

SEED_H = bytes.fromhex("149b33b31b9a5c21165a48509b4e23230f4a649da394f85e7286256dcce9582d")


def test_the_tensor_digest_vector() -> None:
    words = np.frombuffer(SEED_H, dtype=">u4").astype(np.uint32)
    z = np.random.RandomState(words).standard_normal(100).astype(np.float32)
    data = z.astype("<f4").tobytes()
    assert hashlib.sha256(data).hexdigest() == "0a35843a46d79fa43ec8aac458a45088bdb7b002c9ab1f1c54a949c404856518"
    expected = "57dc7f2bb5daa5de9ae9cac920f700fa03ff7a1ecd2ef9cad83a65d11f13eb82"
    assert tensor_digest("float32", [100], data).hex() == expected
    assert array_digest(z).hex() == expected
    assert array_digest(z.astype(">f4")).hex() == expected
    assert array_digest(np.repeat(z, 2)[::2]).hex() == expected


def test_a_tensor_without_axes_has_an_empty_shape() -> None:
    expected = hashlib.sha256(b"plausible.tensor/1\nint64 \n" + (7).to_bytes(8, "little")).digest()
    assert tensor_digest("int64", [], (7).to_bytes(8, "little")) == expected
    assert array_digest(np.array(7, dtype=np.int64)) == expected


def test_shape_and_type_are_part_of_the_tensor_digest() -> None:
    digests = {
        tensor_digest("float32", [2, 3], bytes(24)),
        tensor_digest("float32", [3, 2], bytes(24)),
        tensor_digest("float32", [6], bytes(24)),
        tensor_digest("int32", [6], bytes(24)),
        tensor_digest("float16", [12], bytes(24)),
    }
    assert len(digests) == 5


@pytest.mark.parametrize(
    ("dtype", "shape", "size"),
    [("float32", [2], 4), ("torch.float32", [1], 4), ("quint8", [1], 1), ("int8", [-1, -1], 1), ("float32", [], 3)],
)
def test_a_tensor_that_does_not_fit_its_description_is_refused(dtype: str, shape: list[int], size: int) -> None:
    with pytest.raises(UsageError):
        tensor_digest(dtype, shape, bytes(size))


def test_pixels_of_arrays_follow_the_rules_of_files() -> None:
    grey = np.arange(6, dtype=np.uint8).reshape(2, 3)
    rgb = np.repeat(grey[:, :, None], 3, axis=2)
    assert pixel_digest(grey) == pixel_digest(grey[:, :, None]) == pixel_digest(rgb)
    expected = hashlib.sha256(b"plausible.pixels/1\n3 2 RGB\n" + rgb.tobytes()).digest()
    assert pixel_digest(rgb) == expected
    assert pixel_digest(np.asfortranarray(rgb)) == expected
    opaque = np.dstack([rgb, np.full((2, 3), 255, np.uint8)])
    assert pixel_digest(opaque) == expected
    clear = opaque.copy()
    clear[0, 1, 3] = 0
    cleared = canonical_pixels(clear)
    assert not cleared[0, 1].any()
    assert clear[0, 1, 0] == 1, "the caller's array stays as it was"
    assert pixel_digest(clear) == pixel_digest(cleared)
    assert pixel_digest(np.dstack([grey, np.full((2, 3), 9, np.uint8)])) == pixel_digest(
        np.dstack([rgb, np.full((2, 3), 9, np.uint8)])
    )


def test_width_and_height_are_told_apart() -> None:
    assert pixel_digest(np.zeros((2, 3, 3), np.uint8)) != pixel_digest(np.zeros((3, 2, 3), np.uint8))


@pytest.mark.parametrize("shape", [(4,), (2, 2, 5), (0, 2, 3), (1, 2, 2, 3)])
def test_other_shapes_and_types_are_no_pixels(shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError):
        pixel_digest(np.zeros(shape, np.uint8))
    with pytest.raises(UsageError, match="uint8"):
        pixel_digest(np.zeros((2, 2, 3), np.float32))


def test_the_file_digest_is_plain_sha256() -> None:
    assert file_digest(b"abc").hex() == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


TENSORS = [("z.weight", "float32", [2], bytes(32)), ("a.weight", "int64", [], bytes(range(32)))]


def test_the_model_digest_is_sha256_of_the_sorted_manifest() -> None:
    sampling = {"rounding": "mul255_add0.5_floor", "output_range": [-1.0, 1.0]}
    manifest = model_manifest("dcgan-64", {"z": 100, "gain": 1.0}, sampling, TENSORS)
    expected = (
        b'{"architecture":"dcgan-64","config":{"gain":{"f64":"3ff0000000000000"},"z":100},'
        b'"sampling":{"cutoff":null,"noise_mode":null,"output_range":[{"f64":"bff0000000000000"},'
        b'{"f64":"3ff0000000000000"}],"psi":null,"rounding":"mul255_add0.5_floor"},'
        b'"tensors":[{"dtype":"int64","name":"a.weight","sha256":"sha256:'
        + bytes(range(32)).hex().encode()
        + b'","shape":[]},{"dtype":"float32","name":"z.weight","sha256":"sha256:'
        + b"00" * 32
        + b'","shape":[2]}]}'
    )
    assert jcs.encode(manifest) == expected
    assert model_digest(manifest) == hashlib.sha256(expected).digest()
    assert model_manifest("dcgan-64", {"gain": 1.0, "z": 100}, sampling, reversed(TENSORS)) == manifest


@pytest.mark.parametrize(
    ("sampling", "tensors"),
    [
        ({}, TENSORS),
        ({"rounding": "round"}, TENSORS),
        ({"rounding": "round_half_even_255", "seed": 1}, TENSORS),
        ({"rounding": "round_half_even_255"}, [*TENSORS, TENSORS[0]]),
        ({"rounding": "round_half_even_255"}, [("a", "float", [1], bytes(32))]),
        ({"rounding": "round_half_even_255"}, [("a", "float32", [1], bytes(31))]),
    ],
)
def test_a_manifest_that_says_too_little_or_too_much_is_refused(sampling: dict[str, object], tensors: list) -> None:  # pyright: ignore
    with pytest.raises(UsageError):
        model_manifest("dcgan-64", {}, sampling, tensors)  # pyright: ignore
