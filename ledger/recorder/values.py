"""Arguments as they stand in a record: small values whole, arrays and pictures by digest, everything else by its type.

1, "a", [1, 2]            as they are; floats and large integers wrapped (jcs)
tensor, array             {"tensor": {dtype, sha256, shape, values: null}}
PIL image                 {"image": D}                          pixel digest
bytes                     {"bytes": D}
a random generator        {"rng": i}                            source i of the record's `rng`
anything else             {"opaque": "module.Class"}
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

from ...schemas import jcs
from ...schemas.errors import UsageError
from ...schemas.record import Tensor
from ...schemas.text import digest_text
from ..digests import array_digest, pixel_digest
from .outputs import tensor_bytes_digest

_MAX_TEXT = 100_000


def record_arguments(arguments: Mapping[str, Any], generators: Mapping[int, int]) -> dict[str, jcs.Json]:
    """Arguments by name in recorded form; `generators` maps id(generator) to its place in `rng.sources`."""

    def other(value: object) -> jcs.Json:
        return record_value(value, generators)

    recorded: dict[str, jcs.Json] = {}
    for name, value in arguments.items():
        try:
            recorded[name] = jcs.wrap_value(value, other)
            jcs.encode(recorded[name])
        except UsageError:  # nested too deeply, a text that is no text, a number too large
            recorded[name] = _opaque(value)
    return recorded


def record_value(value: Any, generators: Mapping[int, int]) -> jcs.Json:
    """A value JSON has no form for."""
    if id(value) in generators:
        return {"rng": generators[id(value)]}
    if isinstance(value, np.generic):
        return jcs.wrap_value(value.item(), lambda _: _opaque(value))
    tensor = tensor_document(value)
    if tensor is not None:
        return {"tensor": tensor.to_json()}
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {"bytes": digest_text(hashlib.sha256(value).digest())}
    pil = sys.modules.get("PIL.Image")
    if pil is not None and isinstance(value, pil.Image):
        if value.mode in ("L", "LA", "RGB", "RGBA"):
            return {"image": digest_text(pixel_digest(np.asarray(value)))}
        return _opaque(value)
    return _opaque(value)


def tensor_document(value: Any) -> Tensor | None:
    """The digest form of a torch tensor or numpy array; None for anything else or a type without a digest."""
    torch = sys.modules.get("torch")
    try:
        if torch is not None and isinstance(value, torch.Tensor):
            dtype = str(value.dtype).removeprefix("torch.")
            digest, shape = tensor_bytes_digest(value), tuple(value.shape)
        elif isinstance(value, np.ndarray):
            dtype, digest, shape = value.dtype.name, array_digest(value), tuple(value.shape)
        else:
            return None
    except (UsageError, RuntimeError, NotImplementedError, TypeError):
        return None  # sparse, quantised, meta: no bytes to hash
    return Tensor(dtype=dtype, sha256=digest_text(digest), shape=shape)


def _opaque(value: object) -> jcs.Json:
    kind = type(value)
    return {"opaque": f"{kind.__module__}.{kind.__qualname__}"[:1000]}
