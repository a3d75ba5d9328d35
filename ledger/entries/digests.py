"""What identifies an image, a file, a tensor and a model: four SHA-256 digests with fixed preimages.

Source: docs/spec/digests.md. Digests are 32 bytes here; their text form is `schemas.text.digest_text`.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...schemas import jcs
from ...schemas.errors import UsageError
from ...schemas.text import digest_text

ITEM_BYTES = {
    "bool": 1, "uint8": 1, "int8": 1, "uint16": 2, "int16": 2, "uint32": 4, "int32": 4, "uint64": 8, "int64": 8,
    "float16": 2, "bfloat16": 2, "float32": 4, "float64": 8, "complex32": 4, "complex64": 8, "complex128": 16,
    "float8_e4m3fn": 1, "float8_e4m3fnuz": 1, "float8_e5m2": 1, "float8_e5m2fnuz": 1, "float8_e8m0fnu": 1,
}  # fmt: skip
"""Bytes of one element, by torch's word for the type; a type outside this table is refused, never guessed."""

ROUNDINGS = ("mul255_add0.5_floor", "mul127.5_add128_trunc", "round_half_even_255")
SAMPLING_KEYS = ("cutoff", "noise_mode", "output_range", "psi", "rounding")

_WORD = re.compile(r"[A-Za-z0-9_.+-]+", re.ASCII)


def canonical_pixels(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """uint8[H, W, 3 or 4] of a picture: grey becomes RGB, colour under alpha 0 becomes 0, alpha 255 throughout goes.

    Accepts uint8 [H, W], [H, W, 1] (grey), [H, W, 2] (grey and alpha), [H, W, 3] and [H, W, 4]; `UsageError` otherwise.
    """
    array = np.asarray(pixels)
    if array.dtype != np.uint8:
        raise UsageError(f"pixels are uint8 samples, not {array.dtype}: convert them where the output is made")
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in (1, 2, 3, 4) or 0 in array.shape:
        raise UsageError(f"pixels have the shape [height, width, channels], not {list(pixels.shape)}")
    if array.shape[2] in (1, 2):
        array = np.concatenate([np.repeat(array[:, :, :1], 3, axis=2), array[:, :, 1:]], axis=2)
    if array.shape[2] == 4:
        alpha = array[:, :, 3]
        if bool((alpha == 255).all()):
            array = array[:, :, :3]
        elif bool((alpha == 0).any()):
            array = array.copy()
            array[alpha == 0] = 0
    return np.ascontiguousarray(array)


def pixel_digest(pixels: NDArray[Any]) -> bytes:
    """`plausible.pixels/1` of uint8 samples [H, W], [H, W, 1..4]; equal for equal pictures whatever file held them."""
    array = canonical_pixels(pixels)
    height, width, channels = array.shape
    mode = "RGB" if channels == 3 else "RGBA"
    digest = hashlib.sha256(f"plausible.pixels/1\n{width} {height} {mode}\n".encode("ascii"))
    digest.update(array.data)
    return digest.digest()


def file_digest(data: bytes) -> bytes:
    """Plain SHA-256 of a file's bytes."""
    return hashlib.sha256(data).digest()


def tensor_digest(dtype: str, shape: Sequence[int], data: bytes | memoryview) -> bytes:
    """`plausible.tensor/1` of little-endian contiguous bytes; `dtype` in torch's word, `shape` without the batch axis.

    `UsageError` if the length does not follow from type and shape.
    """
    size = ITEM_BYTES.get(dtype)
    if size is None:
        raise UsageError(f"no tensor digest for the type {dtype!r}")
    if any(axis < 0 for axis in shape):
        raise UsageError("a shape has no negative axis")
    view = memoryview(data)
    if view.nbytes != size * math.prod(shape):
        raise UsageError(f"{view.nbytes} bytes are not a {dtype} tensor of shape {list(shape)}")
    digest = hashlib.sha256(f"plausible.tensor/1\n{dtype} {','.join(str(int(axis)) for axis in shape)}\n".encode())
    digest.update(view.cast("B") if view.nbytes else b"")
    return digest.digest()


def array_digest(array: NDArray[Any]) -> bytes:
    """`tensor_digest` of a numpy array, whatever its byte order and layout."""
    ordered = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return tensor_digest(array.dtype.name, array.shape, ordered.tobytes())


def model_manifest(
    architecture: str,
    config: Mapping[str, Any],
    sampling: Mapping[str, Any],
    tensors: Iterable[tuple[str, str, Sequence[int], bytes]],
) -> dict[str, Any]:
    """The JSON manifest whose JCS digest is a model's identity.

    `config` and `sampling` are plain Python data: numbers are wrapped here, so do not wrap them before. `sampling` may
    set `psi`, `cutoff`, `noise_mode`, `output_range`, `rounding` (required, one of `ROUNDINGS`); absent ones are null.
    `tensors` are (name, torch dtype word, shape, tensor digest) of the whole state_dict, tied ones under every name.
    """
    unknown = sorted(set(sampling) - set(SAMPLING_KEYS))
    if unknown:
        raise UsageError(f"unknown sampling constants {unknown}: other constants belong into the config")
    if sampling.get("rounding") not in ROUNDINGS:
        raise UsageError(f"sampling needs a rounding, one of {', '.join(ROUNDINGS)}")
    rows: dict[str, dict[str, Any]] = {}
    for name, dtype, shape, digest in tensors:
        if name in rows:
            raise UsageError(f"the tensor {name!r} is named twice")
        if dtype not in ITEM_BYTES:
            raise UsageError(f"the tensor {name!r} has the type {dtype!r}, which has no digest")
        axes = [int(axis) for axis in shape]
        rows[name] = {"dtype": dtype, "name": name, "sha256": digest_text(digest), "shape": axes}
    if not _WORD.fullmatch(architecture):
        raise UsageError(f"an architecture's name is letters, digits and ._+-, not {architecture!r}")
    return {
        "architecture": architecture,
        "config": jcs.wrap_value(dict(config)),
        "sampling": {key: jcs.wrap_value(sampling.get(key)) for key in SAMPLING_KEYS},
        "tensors": [rows[name] for name in sorted(rows, key=lambda text: text.encode("utf-8"))],
    }


def model_digest(manifest: Mapping[str, Any]) -> bytes:
    """SHA-256 of the manifest's JCS."""
    return hashlib.sha256(jcs.encode(dict(manifest))).digest()
