"""Arguments as they stand in a record: small values whole, arrays and pictures by digest, everything else by its type.

    1, "a", [1, 2]            as they are; floats and large integers wrapped (jcs)
    tensor, array             {"tensor": {dtype, sha256, shape, values: null}}
    PIL image                 {"image": D}                          pixel digest
    bytes                     {"bytes": D}
    a random generator        {"rng": i}                            source i of the record's `rng`
    anything else             {"opaque": "module.Class"}

What is written here was frozen (frozen.py) when the call was made.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...schemas import jcs
from ...schemas.errors import UsageError
from ...schemas.record import Grade, Input, Tensor
from ...schemas.text import b64, digest_text
from .frozen import Frozen, FrozenTensor, freeze, opaque, tensor_bytes


def record_arguments(frozen: Mapping[str, Any]) -> dict[str, Any]:
    """Frozen arguments by name in recorded form."""
    recorded: dict[str, Any] = {}
    for name, value in frozen.items():
        try:
            recorded[name] = jcs.wrap_value(value, record_value)
            jcs.encode(recorded[name])
        except UsageError:  # nested too deeply, a text that is no text, a number too large
            recorded[name] = record_value(opaque(value))
    return recorded


def record_value(value: Any) -> jcs.Json:
    """A frozen value JSON has no form for."""
    if isinstance(value, FrozenTensor):
        return {
            "tensor": {
                "dtype": value.dtype,
                "sha256": digest_text(value.digest),
                "shape": list(value.shape),
                "values": None,
            }
        }
    if not isinstance(value, Frozen):
        value = freeze(value)
        if not isinstance(value, Frozen):
            return jcs.wrap_value(value, record_value)
    if value.kind == "opaque":
        return {"opaque": value.text}
    return {value.kind: digest_text(value.digest)}


def freeze_input(value: Any) -> Any:
    """A style or noise input as it is now; arrays keep all their bytes, since a replay needs them."""
    frozen = freeze(value)
    if isinstance(frozen, FrozenTensor) and frozen.data is None:
        dtype, shape, data = tensor_bytes(value)
        return FrozenTensor(dtype, shape, data, frozen.known)
    return frozen


def freeze_named(name: str, value: Any, grade: Grade) -> dict[str, tuple[Any, Grade]]:
    """A named input as it is now; of a mapping that holds arrays each item for itself, as "name.key"."""
    if not isinstance(value, Mapping) or not any(isinstance(freeze(item), FrozenTensor) for item in value.values()):
        return {name: (freeze_input(value), grade)}
    named: dict[str, tuple[Any, Grade]] = {}
    for key, item in value.items():
        named |= freeze_named(f"{name}.{key}", item, grade)
    return named


def record_inputs(frozen: Mapping[str, tuple[Any, Grade]] | None) -> dict[str, Input] | None:
    """Frozen style or noise inputs with their grades: arrays with their bytes, everything else in recorded form."""
    if not frozen:
        return None
    recorded: dict[str, Input] = {}
    for name, (value, grade) in frozen.items():
        if isinstance(value, FrozenTensor):
            tensor = Tensor(
                dtype=value.dtype,
                sha256=digest_text(value.digest),
                shape=value.shape,
                values=None if value.data is None else b64(value.data),
            )
            recorded[name] = Input(grade=grade, tensor=tensor)
        elif isinstance(value, Frozen) and value.kind == "image":
            recorded[name] = Input(grade=grade, image=digest_text(value.digest))
        else:
            form: Any = jcs.wrap_value(value, record_value)
            recorded[name] = Input(grade=grade, value=form)
    return recorded
