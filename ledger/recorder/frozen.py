"""Values as they were at the moment of the call, cheap to take in the caller's thread, hashed later in the writer's.

A generator may overwrite its arguments and reuse its output buffers, so arrays are copied or hashed at once: copied if
they are small (hashing 64x64 floats costs the caller more than copying them), hashed if they are large (a thousand
waiting records must not hold a thousand large arrays).
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ...schemas.errors import UsageError
from ..entries.digests import ITEM_BYTES, pixel_digest, tensor_digest

COPY_BYTES = 128 * 1024
"""Arrays up to this size are copied, larger ones hashed at once."""

_NUMPY_WORDS = frozenset(
    {"float32", "float64", "float16", "uint8", "int8", "int16", "int32", "int64", "bool", "complex64", "complex128"}
)


@dataclass(frozen=True, slots=True)
class FrozenTensor:
    """An array's type (torch's word), shape, and either its little-endian bytes or already its digest."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes | None = field(repr=False)
    known: bytes | None = None

    @property
    def digest(self) -> bytes:
        """`plausible.tensor/1`, 32 bytes."""
        if self.known is not None:
            return self.known
        return tensor_digest(self.dtype, self.shape, self.data or b"")

    def rows(self) -> list[FrozenTensor] | None:
        """The items along the first axis; None if there is none or the bytes were not kept."""
        if self.data is None or not self.shape:
            return None
        step = len(self.data) // self.shape[0] if self.shape[0] else 0
        return [
            FrozenTensor(self.dtype, self.shape[1:], self.data[place * step : (place + 1) * step])
            for place in range(self.shape[0])
        ]


@dataclass(frozen=True, slots=True)
class FrozenPixels:
    """A picture's size and either a copy of its canonical samples or already its pixel digest."""

    width: int
    height: int
    mode: str
    samples: NDArray[np.uint8] | None = field(repr=False)
    known: bytes | None = None

    @property
    def digest(self) -> bytes:
        """`plausible.pixels/1`, 32 bytes."""
        if self.known is not None:
            return self.known
        assert self.samples is not None  # noqa: S101  (one of the two is always there)
        return pixel_digest(self.samples)


@dataclass(frozen=True, slots=True)
class Frozen:
    """A value whose recorded form is known already: `kind` is "image", "bytes" or "opaque"."""

    kind: str
    digest: bytes = b""
    text: str = ""


def freeze_pixels(canonical: NDArray[np.uint8], *, owned: bool) -> FrozenPixels:
    """Canonical samples [H, W, 3 or 4]; `owned` if nobody else can write to them."""
    height, width, channels = canonical.shape
    mode = "RGB" if channels == 3 else "RGBA"
    if canonical.nbytes > COPY_BYTES:
        return FrozenPixels(width, height, mode, None, pixel_digest(canonical))
    return FrozenPixels(width, height, mode, canonical if owned else canonical.copy())


def tensor_bytes(value: Any) -> tuple[str, tuple[int, ...], bytes]:
    """(dtype, shape, little-endian contiguous bytes) of a numpy array or torch tensor on any device.

    Raises `UsageError` for types without a digest and tensors without bytes (sparse, quantised, meta).
    """
    if isinstance(value, np.ndarray):
        array = cast("NDArray[Any]", value)
        if array.dtype.name not in ITEM_BYTES:
            raise UsageError(f"an array of {array.dtype} has no digest")
        return array.dtype.name, tuple(array.shape), little_endian(array)
    torch = sys.modules["torch"]
    dtype = str(value.dtype)[6:]
    if dtype not in ITEM_BYTES:
        raise UsageError(f"a tensor of {value.dtype} has no digest")
    try:
        if value.device.type == "cpu" and dtype in _NUMPY_WORDS and sys.byteorder == "little":
            # the common case in few steps: this runs in the caller's thread, with cold caches after a forward pass
            return dtype, tuple(value.shape), value.detach().numpy().tobytes()
        flat = value.detach().cpu().contiguous()
        shape = tuple(flat.shape)
        data = flat.view(-1).view(torch.uint8).numpy().tobytes() if flat.numel() else b""
    except (RuntimeError, NotImplementedError, TypeError) as error:
        raise UsageError(f"a tensor of layout {value.layout} on {value.device} has no bytes to hash") from error
    return dtype, shape, data


def little_endian(array: NDArray[Any]) -> bytes:
    """An array's bytes, contiguous and little-endian."""
    if array.dtype.isnative and sys.byteorder == "little":
        return array.tobytes()
    return array.astype(array.dtype.newbyteorder("<")).tobytes()


def freeze_tensor(value: Any) -> FrozenTensor:
    """An array or tensor as it is now; `UsageError` if it has no digest."""
    dtype, shape, data = tensor_bytes(value)
    if len(data) > COPY_BYTES:
        return FrozenTensor(dtype, shape, None, tensor_digest(dtype, shape, data))
    return FrozenTensor(dtype, shape, data)


def freeze(value: Any) -> Any:
    """A value that later changes to the original cannot reach: arrays, pictures and containers are taken over."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return [freeze(item) for item in cast("list[Any]", value)]
    if isinstance(value, dict):
        return {key: freeze(item) for key, item in cast("Mapping[Any, Any]", value).items()}
    if isinstance(value, np.generic):
        return value.item()
    torch = sys.modules.get("torch")
    if isinstance(value, np.ndarray) or (torch is not None and isinstance(value, torch.Tensor)):
        try:
            return freeze_tensor(value)
        except UsageError:
            return opaque(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return Frozen("bytes", hashlib.sha256(value).digest())
    pil = sys.modules.get("PIL.Image")
    if pil is not None and isinstance(value, pil.Image) and value.mode in ("L", "LA", "RGB", "RGBA"):
        return Frozen("image", pixel_digest(np.asarray(value)))
    return opaque(value)


def opaque(value: Any) -> Frozen:
    """A value of which only the type is recorded."""
    kind = cast("type[Any]", type(value))
    return Frozen("opaque", text=f"{kind.__module__}.{kind.__qualname__}"[:1000])
