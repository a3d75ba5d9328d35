"""Checkpoints that others published, under the names their code gave them, read as the project's own architectures.

keys         taking tensors by name: nothing is missed, nothing is left over
dcgan        pytorch-dcgan          mimicry      mimicry-sngan, mimicry-sagan
genforce     genforce-pggan, genforce-stylegan     rosinality   rosinality-stylegan2

A layout is a table of names and shapes, no code of the network's authors. The pictures of a converted network are
those of the original up to rounding: tests rebuild each family's forward pass from its own names and compare.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor

from ....schemas.errors import SetupError, UsageError
from ..spectral import fold_spectral_norm
from . import dcgan, genforce, mimicry, rosinality
from .keys import Converted, Keys, Options

LAYOUTS: dict[str, Callable[[Keys, Options], Converted]] = {
    "pytorch-dcgan": dcgan.convert,
    "mimicry-sngan": mimicry.convert_sngan,
    "mimicry-sagan": mimicry.convert_sagan,
    "genforce-pggan": genforce.convert_pggan,
    "genforce-stylegan": genforce.convert_stylegan,
    "rosinality-stylegan2": rosinality.convert,
}

PARALLEL = "module."
"""What data-parallel training puts before every name."""


def convert_state(state: Mapping[str, Tensor], layout: str, options: Options | None = None) -> Converted:
    """A checkpoint's tensors as an architecture, its config and its state_dict.

    `UsageError` for an unknown layout; `SetupError` names the first tensor that is missing, has another shape, or is
    not part of such a checkpoint.
    """
    convert = LAYOUTS.get(layout)
    if convert is None:
        raise UsageError(f"unknown layout {layout!r}: known are {', '.join(sorted(LAYOUTS))}")
    if state and all(name.startswith(PARALLEL) for name in state):
        state = {name.removeprefix(PARALLEL): tensor for name, tensor in state.items()}
    keys = Keys(fold_spectral_norm(state), layout)
    try:
        converted = convert(keys, options or Options())
    except (RuntimeError, ValueError, IndexError, ZeroDivisionError) as error:
        detail = " ".join(str(error).split())[:200]
        raise SetupError(f"the tensors of this {layout} checkpoint do not fit together: {detail}") from error
    keys.finish()
    return converted


__all__ = ["LAYOUTS", "Converted", "Options", "convert_state"]
