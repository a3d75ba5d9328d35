"""Whether a model folder's weights are those of its manifest, read without torch.

`weights.safetensors` is a u64 little-endian length, a JSON header {name: {dtype, shape, data_offsets}} and raw
little-endian bytes: enough to compute every tensor digest. Nothing is unpickled. Malformed files are `EvidenceError`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from ...schemas.errors import EvidenceError, SetupError, UsageError
from ...schemas.text import digest_text
from .digests import ITEM_BYTES, tensor_digest

MANIFEST_FILE = "manifest.json"
WEIGHTS_FILE = "weights.safetensors"
CALIBRATIONS_FOLDER = "calibrations"

_MAX_HEADER = 100 * 1024 * 1024
_TORCH_WORDS = {
    "BOOL": "bool", "U8": "uint8", "I8": "int8", "U16": "uint16", "I16": "int16", "U32": "uint32", "I32": "int32",
    "U64": "uint64", "I64": "int64", "F16": "float16", "BF16": "bfloat16", "F32": "float32", "F64": "float64",
    "C64": "complex64", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "F8_E8M0": "float8_e8m0fnu",
    "F8_E4M3FNUZ": "float8_e4m3fnuz", "F8_E5M2FNUZ": "float8_e5m2fnuz",
}  # fmt: skip


def tensor_rows(path: Path) -> Iterator[tuple[str, str, tuple[int, ...], bytes]]:
    """(name, dtype in torch's word, shape, tensor digest) of every tensor in a safetensors file."""
    try:
        with path.open("rb") as file:
            start = 8 + int.from_bytes(file.read(8), "little")
            if start > _MAX_HEADER:
                raise EvidenceError(f"{path} is no safetensors file: its header is too long")
            header = _header(file.read(start - 8), path)
            for name, row in header.items():
                yield name, *_tensor(file, start, name, row, path)
    except OSError as error:
        raise SetupError(f"{path} cannot be read: {error.strerror}") from error


def _header(data: bytes, path: Path) -> dict[str, Any]:
    try:
        header = json.loads(data)
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict):
        raise EvidenceError(f"{path} is no safetensors file: its header is not JSON")
    rows = cast("dict[str, Any]", header)
    rows.pop("__metadata__", None)
    return rows


def _tensor(file: Any, start: int, name: str, row: Any, path: Path) -> tuple[str, tuple[int, ...], bytes]:
    try:
        dtype = _TORCH_WORDS[row["dtype"]]
        shape = tuple(int(axis) for axis in row["shape"])
        begin, end = (int(offset) for offset in row["data_offsets"])
    except (KeyError, TypeError, ValueError):
        raise EvidenceError(f"{path}: the tensor {name!r} is described in a form not known here") from None
    size = ITEM_BYTES[dtype]
    for axis in shape:
        size *= axis
    if not 0 <= begin <= end or end - begin != size:
        raise EvidenceError(f"{path}: the tensor {name!r} does not have the bytes its shape needs")
    file.seek(start + begin)
    data = file.read(size)
    if len(data) != size:
        raise EvidenceError(f"{path} ends inside the tensor {name!r}")
    try:
        return dtype, shape, tensor_digest(dtype, shape, data)
    except UsageError as error:
        raise EvidenceError(f"{path}: {error}") from None


def check_weights(path: Path, manifest: dict[str, Any]) -> None:
    """The file holds exactly the manifest's tensors, or an `EvidenceError` that names the first that differs.

    A manifest names tied tensors under every name, a file may hold them once: what is in the file must match, and what
    is missing from it must equal, by digest, a tensor that is there.
    """
    expected = {row["name"]: (row["dtype"], tuple(row["shape"]), row["sha256"]) for row in manifest["tensors"]}
    found: dict[str, tuple[str, tuple[int, ...], str]] = {
        name: (dtype, shape, digest_text(digest)) for name, dtype, shape, digest in tensor_rows(path)
    }
    for name, value in found.items():
        if expected.get(name) != value:
            raise EvidenceError(f"{path}: the tensor {name!r} is not the manifest's")
    present = set(found.values())
    for name, value in expected.items():
        if name not in found and value not in present:
            raise EvidenceError(f"{path}: the manifest's tensor {name!r} is missing")
