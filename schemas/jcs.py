"""Canonical JSON (RFC 8785) and the one rule of acceptance: a document's bytes must equal their own JCS.

That rule refuses duplicate keys, spare white space, other spellings of numbers and a byte order mark without a case for
each. Depth is at most 32, integers lie within +-(2^53 - 1), text holds no lone surrogates. Numbers that JSON cannot
carry exactly are wrapped: `{"int": "18446744073709551615"}`, `{"f64": "3ff0000000000000"}` (JCS would write 1.0 as 1).
Only `EvidenceError` (reading) and `UsageError` (writing) escape. Source: docs/spec/json.md.
"""

from __future__ import annotations

import json
import math
import re
import struct
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, cast

import rfc8785

from .errors import EvidenceError, UsageError

Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"

MAX_DEPTH = 32
MAX_SAFE_INTEGER = 2**53 - 1
DEFAULT_LIMIT = 16 * 1024 * 1024
"""Bytes a document may have unless its format says less."""

_MAX_INT_DIGITS = 1234
"""Digits of a wrapped integer: 4,096 bits, far below the interpreter's own limit on int(str)."""

_PLAIN = json.JSONEncoder(ensure_ascii=False, check_circular=False, sort_keys=True, separators=(",", ":"))

_STRUCTURE = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{}]', re.DOTALL)
_WRAPPED_INT = re.compile(r"-?[1-9][0-9]*", re.ASCII)
_WRAPPED_F64 = re.compile(r"[0-9a-f]{16}", re.ASCII)
_RESERVED = frozenset({"int", "f64", "map", "tensor", "image", "bytes", "rng", "input", "model", "opaque"})


def encode(value: object) -> bytes:
    """The JCS bytes of a JSON value; `UsageError` if it has none that `decode` would take back."""
    plain = _check_value(value, 0)
    try:
        if plain:
            # Without fractions and with ASCII keys the standard library's C encoder writes the same bytes, and a
            # recorded call has about fifteen values to encode. Lone surrogates fail in `encode`.
            return _PLAIN.encode(value).encode("utf-8")
        return rfc8785.dumps(cast(Any, value))
    except (ValueError, TypeError, RecursionError) as error:
        raise UsageError(f"value has no canonical JSON: {error}") from error


def decode(data: bytes, *, limit: int = DEFAULT_LIMIT, what: str = "document") -> Json:
    """The value of `data`, which must be at most `limit` bytes and equal its own JCS; `EvidenceError` otherwise."""
    if len(data) > limit:
        raise EvidenceError(f"{what} has {len(data)} bytes, more than the {limit} allowed")
    depth = 0
    for match in _STRUCTURE.finditer(data):
        token = match[0]
        if token in (b"[", b"{"):
            depth += 1
            if depth > MAX_DEPTH:
                raise EvidenceError(f"{what} is nested deeper than {MAX_DEPTH} levels")
        elif token in (b"]", b"}"):
            depth -= 1
    try:
        value = cast(Json, json.loads(data.decode("utf-8")))
        canonical = encode(value)
    except (ValueError, RecursionError) as error:
        raise EvidenceError(f"{what} is not JSON: {_brief(error)}") from error
    except UsageError as error:
        raise EvidenceError(f"{what} has no canonical JSON: {error}") from error
    if canonical != data:
        raise EvidenceError(f"{what} is not canonical: its bytes differ from their own JCS")
    return value


def _brief(error: Exception) -> str:
    return str(error)[:120]


def _check_value(value: object, depth: int) -> bool:
    """Refuse what rfc8785 would let through although `decode` could not take it back, and depth (cycles end here too).

    Returns whether the value is plain: no float, no integer beyond 2^53 - 1, no key that is not ASCII (other keys are
    sorted by UTF-16 code units in JCS, by code points in Python).
    """
    if value is None or isinstance(value, (str, bool)):
        return True
    if isinstance(value, int):
        return -MAX_SAFE_INTEGER <= value <= MAX_SAFE_INTEGER
    if isinstance(value, float):
        if math.isfinite(value) and value.is_integer() and abs(value) > MAX_SAFE_INTEGER:
            raise UsageError(f"{value!r} would be written as an integer beyond 2^53 - 1: wrap it")
        return False
    plain = isinstance(value, (list, tuple, dict))
    if plain and depth >= MAX_DEPTH:
        raise UsageError(f"value is nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, (list, tuple)):
        for item in cast("Sequence[object]", value):
            plain = _check_value(item, depth + 1) and plain
    elif isinstance(value, dict):
        for key, item in cast("dict[object, object]", value).items():
            plain = _check_value(item, depth + 1) and plain and isinstance(key, str) and key.isascii()
    return plain


def wrap_number(value: int | float) -> Json:
    """An exact JSON form of a number: itself if an integer within 2^53 - 1, else `{"int": ...}` or `{"f64": ...}`."""
    if isinstance(value, float):
        return {"f64": struct.pack(">d", value).hex()}
    value = int(value)
    if abs(value) <= MAX_SAFE_INTEGER:
        return value
    if abs(value) >= 10**_MAX_INT_DIGITS:
        raise UsageError(f"integer of more than {_MAX_INT_DIGITS} digits cannot be recorded")
    return {"int": str(value)}


def unwrap_number(value: object) -> int | float:
    """The number that `wrap_number` wrote; `EvidenceError` for anything else, other spellings included."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) <= MAX_SAFE_INTEGER:
        return value
    if isinstance(value, dict) and len(cast("dict[str, object]", value)) == 1:
        [(kind, text)] = cast("dict[str, object]", value).items()
        if kind == "f64" and isinstance(text, str) and _WRAPPED_F64.fullmatch(text):
            return struct.unpack(">d", bytes.fromhex(text))[0]
        if kind == "int" and isinstance(text, str) and len(text) <= _MAX_INT_DIGITS and _WRAPPED_INT.fullmatch(text):
            number = int(text)
            if abs(number) > MAX_SAFE_INTEGER:
                return number
    raise EvidenceError('not a number as recorded: an integer up to 2^53 - 1, {"int": ...} or {"f64": ...}')


def wrap_value(value: object, other: Callable[[object], Json] | None = None) -> Json:
    """Python data as recorded JSON: numbers wrapped, tuples as lists; `other` writes what JSON has no form for.

    A dictionary that could be taken for one of the recorded forms (a single key such as "int"), or whose keys are not
    all text, becomes `{"map": [[key, value], ...]}`. Without `other` an unknown type raises `UsageError`.
    """
    return _wrap(value, other, 0)


def _wrap(value: object, other: Callable[[object], Json] | None, depth: int) -> Json:
    if depth > MAX_DEPTH:
        raise UsageError(f"value is nested deeper than {MAX_DEPTH} levels")
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, (int, float)):
        return wrap_number(value)
    if isinstance(value, (list, tuple)):
        return [_wrap(item, other, depth + 1) for item in cast("Sequence[object]", value)]
    if isinstance(value, dict):
        items = cast("dict[object, object]", value)
        if all(isinstance(key, str) for key in items) and not (len(items) == 1 and _RESERVED.issuperset(items)):
            return {str(key): _wrap(item, other, depth + 1) for key, item in items.items()}
        pairs = [[_wrap(key, other, depth + 2), _wrap(item, other, depth + 2)] for key, item in items.items()]
        return {"map": pairs}
    if other is None:
        raise UsageError(f"a value of type {type(value).__name__} cannot be recorded")
    return other(value)


def unwrap_value(value: object) -> Any:
    """The inverse of `wrap_value` for what it writes without `other`; other recorded forms stay as they are."""
    if isinstance(value, (list, tuple)):
        return [unwrap_value(item) for item in cast("Sequence[object]", value)]
    if isinstance(value, dict):
        items = cast("dict[str, object]", value)
        if len(items) == 1:
            if "int" in items or "f64" in items:
                return unwrap_number(items)
            pairs = items.get("map")
            if isinstance(pairs, list):
                return _unwrap_map(cast("list[object]", pairs))
        return {key: unwrap_value(item) for key, item in items.items()}
    return value


def _unwrap_map(pairs: list[object]) -> dict[Any, Any]:
    result: dict[Any, Any] = {}
    for pair in pairs:
        if not isinstance(pair, list) or len(cast("list[object]", pair)) != 2:
            raise EvidenceError('a recorded {"map": ...} holds [key, value] pairs')
        key = unwrap_value(cast("list[object]", pair)[0])
        if isinstance(key, list):
            key = tuple(cast("list[object]", key))
        try:
            known = key in result
        except TypeError as error:
            raise EvidenceError('a recorded {"map": ...} has a key that cannot be one') from error
        if known:
            raise EvidenceError('a recorded {"map": ...} names a key twice')
        result[key] = unwrap_value(cast("list[object]", pair)[1])
    return result
