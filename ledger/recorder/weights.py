"""Whether a module in memory is the model that was registered, and stays it while it is used.

Every tensor of the state_dict is hashed once against the manifest. Before each call the tensors are compared with what
they were by identity, address and version counter, which costs a fraction of a microsecond each; when one of them has
moved or been written to, all are hashed again, and a module that is no longer the registered one is refused.
"""

from __future__ import annotations

import sys
import threading
from typing import Any, cast

from ...schemas.errors import SetupError
from ...schemas.text import digest_text
from ..entries.digests import tensor_digest
from .core import KnownModel
from .frozen import tensor_bytes


class WeightsGuard:
    """Watches one module; with `model` its weights must be the manifest's, without it they must only not change."""

    def __init__(self, module: Any, model: KnownModel | None) -> None:
        self._module = module
        self._lock = threading.Lock()
        self._name = model.name if model else type(module).__name__
        self._expected = _manifest_rows(model) if model else _rows(module)
        self._seen: list[tuple[dict[str, Any], str, Any, int, int]] = []
        self.device: Any = None
        """Where the weights are; None for a module without any."""
        self.torch_dtype: Any = None
        """The weights' type, as torch has it; None for a module without any."""
        self.dtype = "float32"
        """The weights' type in torch's word."""
        self._check_weights()

    def check(self) -> None:
        """Raise `SetupError` unless the weights are what they were."""
        for holder, name, tensor, address, version in self._seen:
            if holder.get(name) is not tensor or tensor.data_ptr() != address or _version(tensor) != version:
                break
        else:
            return
        with self._lock:
            self._check_weights()

    def _check_weights(self) -> None:
        found = _rows(self._module)
        if found != self._expected:
            names = sorted(set(found) ^ set(self._expected)) or [
                name for name in found if found[name] != self._expected[name]
            ]
            raise SetupError(
                f"the weights of {type(self._module).__name__} are not those registered as {self._name!r} "
                f"({names[0]!r} differs): register the changed model under a name of its own; and call .eval() before "
                "generating, since BatchNorm in train mode rewrites its buffers"
            )
        seen: list[tuple[dict[str, Any], str, Any, int, int]] = []
        for module in self._module.modules():
            for holder in (module._parameters, module._buffers):
                slots = cast("dict[str, Any]", holder)
                for name, tensor in slots.items():
                    if tensor is not None:
                        seen.append((slots, name, tensor, tensor.data_ptr(), _version(tensor)))
        first = next(self._module.parameters(), None)
        if first is not None:
            self.device, self.torch_dtype = first.device, first.dtype
            self.dtype = str(first.dtype).removeprefix("torch.")
        self._seen = seen


def _version(tensor: Any) -> int:
    try:
        return tensor._version
    except RuntimeError:  # inference tensors have no counter, and are written to in inference mode only
        return -1


def _rows(module: Any) -> dict[str, tuple[str, tuple[int, ...], str]]:
    torch = sys.modules["torch"]
    rows: dict[str, tuple[str, tuple[int, ...], str]] = {}
    for name, tensor in module.state_dict().items():
        if isinstance(tensor, torch.Tensor):
            dtype, shape, data = tensor_bytes(tensor)
            rows[name] = (dtype, shape, digest_text(tensor_digest(dtype, shape, data)))
    return rows


def _manifest_rows(model: KnownModel) -> dict[str, tuple[str, tuple[int, ...], str]]:
    tensors = cast("list[dict[str, Any]]", model.manifest["tensors"])
    return {row["name"]: (row["dtype"], tuple(row["shape"]), row["sha256"]) for row in tensors}
