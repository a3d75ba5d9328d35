"""Taking tensors out of somebody's checkpoint by name, so that none is missed and none is left over unseen."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ....schemas.errors import SetupError


@dataclass(frozen=True, slots=True)
class Options:
    """What a checkpoint does not say about itself."""

    label: int | None = None
    """The class of a conditional network that is converted."""
    fused: str = "auto"
    """Whether maps are doubled by transposed convolutions: `auto` (the family's way), `always`, `never`."""
    attention: int | None = None
    """After which block self-attention stands, where widths leave it open."""
    tanh: bool = False
    """Whether the network ends in a tanh."""


@dataclass(frozen=True, slots=True)
class Converted:
    """A checkpoint in the project's own names; `sampling` is what the family's own code does by default."""

    architecture: str
    config: dict[str, Any]
    state: dict[str, Tensor]
    sampling: dict[str, Any] = field(default_factory=dict[str, Any])


class Keys:
    """A state_dict that is emptied by name; all errors are `SetupError`."""

    def __init__(self, state: Mapping[str, Tensor], layout: str) -> None:
        self._left = dict(state)
        self.layout = layout

    def __contains__(self, name: str) -> bool:
        return name in self._left

    def take(self, name: str, *shape: int) -> Tensor:
        """The tensor of this name, float32 if it is floating; of this shape if one is given (-1: any length)."""
        try:
            tensor = self._left.pop(name)
        except KeyError:
            raise SetupError(f"this is no {self.layout} checkpoint: the tensor {name!r} is missing") from None
        want = list(shape)
        found = list(tensor.shape)
        fits = len(found) == len(want) and all(w in (-1, n) for w, n in zip(want, found, strict=True))
        if shape and not fits:
            raise SetupError(f"the tensor {name!r} is {found}, in a {self.layout} checkpoint it is {want}")
        return tensor.float() if tensor.is_floating_point() else tensor

    def scalar(self, name: str) -> Tensor:
        """A tensor of one number, without axes."""
        tensor = self.take(name)
        if tensor.numel() != 1:
            raise SetupError(
                f"the tensor {name!r} is {list(tensor.shape)}, in a {self.layout} checkpoint it is one number"
            )
        return tensor.reshape(())

    def count(self, pattern: str) -> int:
        """How many numbers from the first one on name a tensor; `pattern` holds one `{}` for the number."""
        expression = re.compile(re.escape(pattern).replace(r"\{\}", r"(\d+)"))
        numbers = {int(match[1]) for name in self._left if (match := expression.fullmatch(name))}
        if not numbers:
            raise SetupError(f"this is no {self.layout} checkpoint: no tensor is named {pattern.format('N')!r}")
        first = min(numbers)
        if numbers != set(range(first, first + len(numbers))):
            raise SetupError(f"the tensors {pattern.format('N')!r} are not numbered without a gap")
        return len(numbers)

    def drop(self, expression: str) -> None:
        """Leave out the tensors whose names match: known, and of no effect on the pictures."""
        known = re.compile(expression)
        self._left = {name: tensor for name, tensor in self._left.items() if not known.fullmatch(name)}

    def constant(self, name: str, value: Tensor) -> None:
        """Leave out a tensor that must have this value, where it is present: a filter, a counter."""
        found = self._left.pop(name, None)
        if found is None:
            return
        if found.shape != value.shape or not torch.allclose(found.float(), value.float(), atol=1e-6):
            raise SetupError(f"the tensor {name!r} has values that this architecture does not know")

    def finish(self) -> None:
        """Nothing may be left."""
        if self._left:
            names = sorted(self._left)
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            listed = ", ".join(repr(name) for name in names[:3])
            raise SetupError(f"tensors that a {self.layout} checkpoint does not have: {listed}{more}")

    def batch_norm(self, name: str) -> dict[str, Tensor]:
        """weight, bias, running_mean, running_var, num_batches_tracked of a BatchNorm (the last 0 in old files)."""
        state = {part: self.take(f"{name}.{part}", -1) for part in ("weight", "bias", "running_mean", "running_var")}
        tracked = f"{name}.num_batches_tracked"
        state["num_batches_tracked"] = self.take(tracked) if tracked in self else torch.zeros((), dtype=torch.int64)
        return state


def placed(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors with a prefix before every name."""
    return {f"{prefix}.{name}": tensor for name, tensor in state.items()}


def halving(widths: list[int], sizes: list[int]) -> tuple[int, int]:
    """(base, maximum) with widths[i] = min(base / sizes[i], maximum); `SetupError` if there is no such pair."""
    maximum = max(widths)
    base = max(width * size for width, size in zip(widths, sizes, strict=True) if width == widths[-1])
    if any(width != min(base // size, maximum) for width, size in zip(widths, sizes, strict=True)):
        raise SetupError(f"the channels {widths} at sizes {sizes} do not follow min(base / size, maximum)")
    return base, maximum
