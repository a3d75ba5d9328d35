"""From what a generator returned to 8-bit pictures, by the model's own rounding rule.

Understood: a PIL image; a uint8 array or tensor [H, W], [H, W, C], [N, H, W, C] or [N, C, H, W]; a float tensor
[C, H, W] or [N, C, H, W] (or channels last) on the manifest's output range; lists of these; and what carries them as
`.images` or under the key "images". The rounding is done operation by operation as the engine does it at replay, so the
digest is the replay's. Results are only read, never changed.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ...schemas.errors import UsageError
from ..entries.digests import canonical_pixels
from .frozen import COPY_BYTES, FrozenPixels, FrozenTensor, freeze_pixels, freeze_tensor

_CHANNELS = (1, 3, 4)


@dataclass(frozen=True, slots=True)
class Rounding:
    """How raw output becomes 8 bits: the manifest's `rounding` and `output_range` [low, high]."""

    rule: str
    low: float
    high: float

    @property
    def centred(self) -> bool:
        """Whether the range is [-1, 1] already."""
        return (self.low, self.high) == (-1.0, 1.0)


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture and what it was rounded from, where that is known.

    A small raw output is only copied in the caller's thread and rounded in the writer's: then `pixels` is None until
    `developed`.
    """

    pixels: FrozenPixels | None
    tensor: FrozenTensor | None = None
    rounding: Rounding | None = None
    channels_first: bool = False

    def developed(self) -> FrozenPixels:
        """The picture's samples or digest."""
        if self.pixels is not None:
            return self.pixels
        assert self.tensor is not None and self.tensor.data is not None and self.rounding is not None  # noqa: S101
        raw = np.frombuffer(self.tensor.data, dtype=self.tensor.dtype).reshape(self.tensor.shape)
        samples = round_array(raw, self.rounding)
        if samples.ndim == 2:
            samples = samples[..., None]
        elif self.channels_first:
            samples = samples.transpose(1, 2, 0)
        return freeze_pixels(canonical_pixels(samples), owned=True)


def pictures(result: Any, rounding: Rounding | None) -> list[Picture]:
    """All pictures of a result, in order; `UsageError` if it holds something that is no picture."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(result, torch.Tensor):
        return _from_tensor(torch, result.detach(), rounding)
    if isinstance(result, np.ndarray):
        return _from_array(cast("NDArray[Any]", result), rounding)
    pil = sys.modules.get("PIL.Image")
    if pil is not None and isinstance(result, pil.Image):
        return [Picture(freeze_pixels(_pil_samples(result), owned=True))]
    if isinstance(result, (list, tuple)):
        found = [picture for item in cast("Sequence[Any]", result) for picture in pictures(item, rounding)]
        if found:
            return found
    images = getattr(result, "images", None)
    if images is None and isinstance(result, Mapping):
        images = cast("Mapping[str, Any]", result).get("images")
    if images is not None and not callable(images):
        return pictures(images, rounding)
    raise UsageError(
        f"the call returned {type(result).__name__}, which is no picture known here: return PIL images, uint8 arrays "
        "[H, W, C] or [N, H, W, C], or float tensors [N, C, H, W]"
    )


def _pil_samples(image: Any) -> NDArray[np.uint8]:
    mode: str = image.mode
    if mode in ("1", "P"):
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    elif mode in ("L", "RGB") and image.has_transparency_data:
        image = image.convert("RGBA")
    elif mode not in ("L", "LA", "RGB", "RGBA"):
        raise UsageError(f"a picture of mode {mode} has no pixel digest: convert it to RGB or RGBA before returning it")
    return canonical_pixels(np.asarray(image))


def _split(shape: Sequence[int], what: str) -> tuple[bool, bool]:
    """(has a batch axis, channels first) of an image shape; `UsageError` if it cannot be told."""
    if len(shape) == 2:
        return False, False
    if len(shape) not in (3, 4):
        raise UsageError(f"{what} of shape {list(shape)} is no picture and no batch of pictures")
    tail = list(shape[-3:])
    first, last = tail[0] in _CHANNELS, tail[2] in _CHANNELS
    if first == last:
        raise UsageError(f"{what} of shape {list(shape)}: cannot tell which axis holds the channels")
    return len(shape) == 4, first


def _from_array(array: NDArray[Any], rounding: Rounding | None) -> list[Picture]:
    batched, first = _split(array.shape, "an array")
    rows = array if batched else array[None]
    if array.dtype == np.uint8:
        return [
            Picture(freeze_pixels(canonical_pixels(row.transpose(1, 2, 0) if first else row), owned=False))
            for row in rows
        ]
    if array.dtype.kind != "f":
        raise UsageError(f"an array of {array.dtype} is no picture: return uint8 samples or floats")
    rule = _need(rounding)
    return [_latent_picture(freeze_tensor(row), row, rule, first) for row in rows]


def _latent_picture(frozen: FrozenTensor, row: NDArray[Any], rule: Rounding, first: bool) -> Picture:
    """A picture that is rounded later if its raw output was copied, else now."""
    if frozen.data is not None and frozen.dtype in ("float16", "float32", "float64"):
        return Picture(None, frozen, rule, first)
    samples = round_array(row, rule)
    if samples.ndim == 2:
        samples = samples[..., None]
    elif first:
        samples = samples.transpose(1, 2, 0)
    return Picture(freeze_pixels(canonical_pixels(samples), owned=True), frozen)


def round_array(array: NDArray[Any], rule: Rounding) -> NDArray[np.uint8]:
    """8-bit samples of raw outputs, in float32 and operation by operation, bit-equal to the same in torch on a CPU."""
    raw = array.astype(np.float32, copy=False)

    def unit() -> NDArray[np.float32]:
        return (raw - np.float32(rule.low)) / np.float32(rule.high - rule.low)

    if rule.rule == "mul127.5_add128_trunc":
        centred = raw if rule.centred else unit() * np.float32(2) - np.float32(1)
        levels = np.clip(centred * np.float32(127.5) + np.float32(128), 0, 255)
    elif rule.rule == "mul255_add0.5_floor":
        levels = np.clip(unit() * np.float32(255) + np.float32(0.5), 0, 255)
    else:
        levels = np.round(np.clip(unit(), 0, 1) * np.float32(255))
    return levels.astype(np.uint8)


def _row_bytes(rows: Any) -> int:
    """Bytes of one picture of a batch."""
    return rows.nbytes // max(1, rows.shape[0])


def _from_tensor(torch: Any, tensor: Any, rounding: Rounding | None) -> list[Picture]:
    batched, first = _split(tuple(tensor.shape), "a tensor")
    if tensor.dtype == torch.uint8:
        return _from_array(tensor.cpu().numpy(), None)
    if not tensor.is_floating_point():
        raise UsageError(f"a tensor of {tensor.dtype} is no picture: return uint8 samples or floats")
    rule = _need(rounding)
    rows = tensor if batched else tensor[None]
    if tensor.device.type == "cpu" and tensor.dtype is torch.float32 and _row_bytes(rows) <= COPY_BYTES:
        # the usual case in few steps: this runs in the caller's thread, right after a forward pass emptied the caches
        shape = tuple(rows.shape[1:])
        return [Picture(None, FrozenTensor("float32", shape, row.tobytes()), rule, first) for row in rows.numpy()]
    if tensor.device.type == "cpu" and tensor.dtype in (torch.float16, torch.float32, torch.float64):
        return _from_array(tensor.numpy(), rule)
    with torch.no_grad():
        raw = rows.to(torch.float32)
        if rule.rule == "mul127.5_add128_trunc":
            centred = raw if rule.centred else (raw - rule.low) / (rule.high - rule.low) * 2 - 1
            levels = (centred * 127.5 + 128).clamp(0, 255)
        elif rule.rule == "mul255_add0.5_floor":
            levels = ((raw - rule.low) / (rule.high - rule.low) * 255 + 0.5).clamp(0, 255)
        else:
            levels = (((raw - rule.low) / (rule.high - rule.low)).clamp(0, 1) * 255).round()
        samples = levels.to(torch.uint8).cpu().numpy()
        return _rounded(samples, rows, first)


def _rounded(samples: NDArray[np.uint8], rows: Any, first: bool) -> list[Picture]:
    if samples.ndim == 3:
        samples = samples[..., None]
    if first:
        samples = samples.transpose(0, 2, 3, 1)
    return [
        Picture(freeze_pixels(canonical_pixels(sample), owned=True), freeze_tensor(row))
        for sample, row in zip(samples, rows, strict=True)
    ]


def _need(rounding: Rounding | None) -> Rounding:
    if rounding is None:
        raise UsageError(
            "the call returned floats, and the model's manifest does not say on which range they are: set "
            "sampling.output_range and sampling.rounding, or return uint8 samples"
        )
    return rounding
