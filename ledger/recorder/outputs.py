"""From what a generator returned to 8-bit pictures, by the model's own rounding rule.

Understood: a PIL image; a uint8 array or tensor [H, W], [H, W, C], [N, H, W, C] or [N, C, H, W]; a float tensor
[C, H, W] or [N, C, H, W] (or channels last) on the manifest's output range; lists of these; and what carries them as
`.images` or under the key "images". The rounding is done operation by operation as the engine does it at replay, so the
digest is the replay's. Results are only read, never changed.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ...schemas.errors import UsageError
from ..digests import array_digest, canonical_pixels, tensor_digest

_CHANNELS = (1, 3, 4)


@dataclass(frozen=True, slots=True)
class Rounding:
    """How raw output becomes 8 bits: the manifest's `rounding` and `output_range` [low, high]."""

    rule: str
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture: canonical uint8 [H, W, 3 or 4], and the tensor digest of what it was rounded from."""

    pixels: NDArray[np.uint8] = field(repr=False)
    tensor: bytes | None = None


def pictures(result: Any, rounding: Rounding | None) -> list[Picture]:
    """All pictures of a result, in order; `UsageError` if it holds something that is no picture."""
    images = getattr(result, "images", None)
    if images is None and isinstance(result, Mapping):
        images = cast("Mapping[str, Any]", result).get("images")
    if images is not None and not callable(images):
        return pictures(images, rounding)
    if isinstance(result, (list, tuple)):
        found = [picture for item in cast("Sequence[Any]", result) for picture in pictures(item, rounding)]
        if found:
            return found
    pil = sys.modules.get("PIL.Image")
    if pil is not None and isinstance(result, pil.Image):
        return [Picture(_pil_samples(result))]
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(result, torch.Tensor):
        return _from_tensor(torch, cast("Any", result).detach(), rounding)
    if isinstance(result, np.ndarray):
        return _from_array(result, rounding)
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
        return [Picture(canonical_pixels(row.transpose(1, 2, 0) if first else row)) for row in rows]
    if array.dtype.kind != "f":
        raise UsageError(f"an array of {array.dtype} is no picture: return uint8 samples or floats")
    rule = _need(rounding)
    if rows.ndim == 3:
        rows = rows[..., None]
    raw = rows.astype(np.float32, copy=False)
    unit = (raw - np.float32(rule.low)) / np.float32(rule.high - rule.low)
    if rule.rule == "mul127.5_add128_trunc":
        centred = raw if (rule.low, rule.high) == (-1.0, 1.0) else unit * np.float32(2) - np.float32(1)
        levels = np.clip(centred * np.float32(127.5) + np.float32(128), 0, 255)
    elif rule.rule == "mul255_add0.5_floor":
        levels = np.clip(unit * np.float32(255) + np.float32(0.5), 0, 255)
    else:
        levels = np.round(np.clip(unit, 0, 1) * np.float32(255))
    samples = levels.astype(np.uint8)
    if first:
        samples = samples.transpose(0, 2, 3, 1)
    return [Picture(canonical_pixels(sample), array_digest(row)) for sample, row in zip(samples, rows, strict=True)]


def _from_tensor(torch: Any, tensor: Any, rounding: Rounding | None) -> list[Picture]:
    batched, first = _split(tuple(tensor.shape), "a tensor")
    rows = tensor if batched else tensor[None]
    if tensor.dtype == torch.uint8:
        return _from_array(rows.cpu().numpy() if rows.ndim > 3 else rows.cpu().numpy()[..., None], None)
    if not tensor.is_floating_point():
        raise UsageError(f"a tensor of {tensor.dtype} is no picture: return uint8 samples or floats")
    rule = _need(rounding)
    if rows.ndim == 3:
        rows = rows[..., None]
    with torch.no_grad():
        raw = rows.to(torch.float32)
        unit = (raw - rule.low) / (rule.high - rule.low)
        if rule.rule == "mul127.5_add128_trunc":
            centred = raw if (rule.low, rule.high) == (-1.0, 1.0) else unit * 2 - 1
            levels = (centred * 127.5 + 128).clamp(0, 255)
        elif rule.rule == "mul255_add0.5_floor":
            levels = (unit * 255 + 0.5).clamp(0, 255)
        else:
            levels = (unit.clamp(0, 1) * 255).round()
        samples = levels.to(torch.uint8)
        if first:
            samples = samples.permute(0, 2, 3, 1)
        pixels = samples.cpu().contiguous().numpy()
        digests = [tensor_bytes_digest(row) for row in rows]
    return [Picture(canonical_pixels(sample), digest) for sample, digest in zip(pixels, digests, strict=True)]


def tensor_bytes_digest(tensor: Any) -> bytes:
    """`plausible.tensor/1` of a torch tensor, shape as it is."""
    torch = sys.modules["torch"]
    flat = tensor.detach().cpu().contiguous()
    dtype = str(flat.dtype).removeprefix("torch.")
    data = flat.reshape(-1).view(torch.uint8).numpy().tobytes() if flat.numel() else b""
    return tensor_digest(dtype, tuple(flat.shape), data)


def _need(rounding: Rounding | None) -> Rounding:
    if rounding is None:
        raise UsageError(
            "the call returned floats, and the model's manifest does not say on which range they are: set "
            "sampling.output_range and sampling.rounding, or return uint8 samples"
        )
    return rounding
